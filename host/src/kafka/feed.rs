//! One partition of a source: what is fetched of it, and where it stands.

use super::batch::{BatchBuilder, BrokerTime, Limits};
use super::context::Context;
use super::{Error, Result};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use std::time::{Duration, Instant};
use wasmill_pipeline::record::{Anchor, RawBatch};
use wasmill_pipeline::time::reach::{End, Reach};

/// One partition.
pub(super) struct Feed {
    pub(super) partition: i32,
    pub(super) queue: PartitionQueue<Context>,
    /// The next offset.
    pub(super) next: i64,
    pub(super) at_end: bool,
    /// The end that was met, as soon as all before it was taken out of the queue: marks of transactions and aborted
    /// records lie between the next offset and it.
    end: Option<End>,
    /// The end that librdkafka told of last, while there may be records before it in the queue.
    told: Option<End>,
    /// The last record read, if it is known.
    pub(super) anchor: Option<Anchor>,
    /// Whether the broker has given something at this place: with an anchor, that record once more.
    pub(super) confirmed: bool,
    pub(super) paused: bool,
    pub(super) state: State,
    /// Why the broker gives nothing of this partition.
    pub(super) trouble: Option<String>,
    /// Bytes of a batch to make room for: what the last one had.
    expected_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Reading,
    /// The broker does not have the next offset; asked again at this time.
    OutOfRange(Option<Instant>),
    /// It is another log than the one read so far; asked for its offsets again at this time.
    Anew(Option<Instant>),
    /// Data loss was told: waits for `skip_to`.
    Lost,
    /// To be fetched again from the next offset.
    Stale,
}

impl Feed {
    pub(super) fn new(partition: i32, queue: PartitionQueue<Context>, next: i64, anchor: Option<Anchor>) -> Self {
        Self {
            partition,
            queue,
            next,
            at_end: false,
            end: None,
            told: None,
            anchor,
            confirmed: false,
            paused: false,
            state: State::Reading,
            trouble: None,
            expected_bytes: 0,
        }
    }

    /// The records that are ready, up to the limits. Errors in their midst are kept for the next look.
    pub(super) fn read(&mut self, limits: Limits) -> Result<Option<RawBatch>> {
        let mut batch = None;
        loop {
            match self.queue.poll(Duration::ZERO) {
                None => {
                    // Nothing is left of what came before librdkafka told of the end.
                    if let Some(told) = self.told.take() {
                        self.end = Some(told);
                    }
                    break;
                }
                Some(Ok(message)) if !self.confirmed && self.anchor.is_some_and(|anchor| differs(anchor, &message)) => {
                    self.state = State::Anew(None);
                    break;
                }
                // The anchor, or fetched before the position was moved.
                Some(Ok(message)) if message.offset() < self.next => self.confirmed = true,
                Some(Ok(message)) => {
                    self.confirmed = true;
                    let batch = batch.get_or_insert_with(|| BatchBuilder::new(limits, self.expected_bytes));
                    let (offset, time) = (message.offset(), BrokerTime::of(message.timestamp()));
                    self.next = offset + 1;
                    if batch.push(offset, time, message.key(), message.payload()) {
                        break;
                    }
                }
                Some(Err(error)) => {
                    if self.stopped_by(&error)? {
                        break;
                    }
                    continue;
                }
            }
            self.at_end = false;
        }
        if batch.is_some() {
            self.trouble = None;
        }
        Ok(batch.map(|batch| {
            // A little more than the last time, so that the buffer seldom grows.
            self.expected_bytes = batch.bytes() + batch.bytes() / 8;
            batch.finish(self.partition)
        }))
    }

    /// Takes note of the end that librdkafka has met.
    pub(super) fn hear(&mut self, end: End) {
        self.told = Some(end);
    }

    /// Another place is fetched from.
    pub(super) fn move_on(&mut self) {
        (self.at_end, self.confirmed, self.end, self.told) = (false, false, None, None);
        self.trouble = None;
        self.state = State::Reading;
    }

    /// How far it was read. `None` until the broker has confirmed that it has what was read.
    pub(super) fn reach(&self) -> Option<Reach> {
        let end = self.end.filter(|_| self.at_end);
        self.confirmed.then_some(Reach { next: self.next, end })
    }

    /// The offset to fetch from: the anchor's, to see that it is still there, and else the next.
    pub(super) fn place(&self) -> i64 {
        self.anchor.map_or(self.next, |anchor| anchor.offset)
    }

    /// Takes note of what came in place of a record. Whether reading cannot go on for now.
    fn stopped_by(&mut self, error: &KafkaError) -> Result<bool> {
        match error {
            KafkaError::PartitionEOF(_) if !self.confirmed && self.anchor.is_some() => {
                // The log ends before the record that was read last.
                self.state = State::OutOfRange(None);
                Ok(true)
            }
            KafkaError::PartitionEOF(_) => {
                (self.at_end, self.confirmed) = (true, true);
                self.trouble = None;
                Ok(false)
            }
            KafkaError::MessageConsumptionFatal(code) => Err(Error::Fatal(code.to_string())),
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.at_end = false;
                self.state = State::OutOfRange(None);
                Ok(true)
            }
            KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::InvalidMessage),
            ) => {
                // librdkafka goes on behind a damaged record batch; that would lose it in silence.
                self.trouble = Some(format!("{code}: partition={} offset={}", self.partition, self.next));
                self.state = State::Stale;
                Ok(true)
            }
            other => {
                self.trouble = Some(format!("partition={}: {other}", self.partition));
                Ok(false)
            }
        }
    }
}

/// Whether the anchor's offset has another record now. One behind it is no sign: the anchor may be compacted away.
fn differs(anchor: Anchor, message: &BorrowedMessage<'_>) -> bool {
    message.offset() <= anchor.offset
        && anchor
            != Anchor::new(message.offset(), BrokerTime::of(message.timestamp()).us, message.key(), message.payload())
}
