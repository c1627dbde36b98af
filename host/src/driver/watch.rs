//! What a worker's partitions keep back: which are idle, which wait behind open transactions, which are gone.
//!
//! All of it follows from looks at the partitions' ends, beside how far the source has read.

use super::Driver;
use crate::clock;
use crate::failure::Failure;
use crate::kafka::{Look, Sight};
use crate::shared::{Held, Place, Report, Unread, lock};
use anyhow::anyhow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::record::RawBatch;
use wasmill_pipeline::time::silence::Silence;

/// So many looks in a row must find unread records where the reader has all that is committed: one may be ahead of the
/// reader's next fetch.
const SURE_LOOKS: u32 = 2;

/// How long looks must say that a partition is gone before that is believed: brokers that start may not know it yet.
pub const GONE_AFTER: Duration = Duration::from_secs(10);

/// How long a transaction may be open before people are told, where there is no idle timeout that says what is long.
const LONG: Duration = Duration::from_secs(30);

/// What is known of one partition.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    silence: Silence,
    /// The number of the last look that was taken in.
    look: u64,
    /// How many looks in a row found records behind an open transaction, and since when they do.
    behind: Option<(u32, Held)>,
    /// Whether people were told of that.
    told: bool,
    /// When the first look was asked that found the partition gone, of those that do now.
    gone_us: Option<i64>,
}

impl Watch {
    /// Records came.
    pub(super) fn hear(&mut self) {
        self.silence.end();
    }

    /// What keeps its records back, if that is known.
    fn held(&self) -> Option<Held> {
        self.behind.filter(|(looks, _)| *looks >= SURE_LOOKS).map(|(_, held)| held)
    }

    /// Takes in a look: the partition is read to `read_to`, `stable` = which is all that is committed.
    fn take_in(&mut self, partition: i32, look: &Look, read_to: Option<i64>, stable: bool) {
        self.look = look.number;
        let Some(sight) = look.found.get(&partition) else { return };
        let high = look.high(partition);
        self.silence.look(look.asked_us, high, read_to);
        let unread = high.zip(read_to).map_or(0, |(high, read_to)| high - read_to);
        self.behind = (stable && unread > 0).then(|| match self.behind {
            Some((looks, held)) => (looks.saturating_add(1), Held { unread, ..held }),
            None => (1, Held { since_us: clock::now_us(), unread, long: false }),
        });
        self.gone_us = (*sight == Sight::Gone).then(|| self.gone_us.unwrap_or(look.asked_us));
    }
}

impl Driver {
    /// Takes in what the last look found, and sets partitions idle that have been silent for long, or wakes them.
    pub(super) fn look_around(&mut self) -> Result<(), Failure> {
        let (look, now_us) = (self.shared.lookout.last(), self.shared.lookout.now_us());
        let mut gone = Vec::new();
        for partition in self.source.partitions() {
            let Some(watch) = self.watches.get_mut(&partition) else { continue };
            if look.number > watch.look {
                let apart = first_apart(&self.apart, partition);
                let read_to = apart.or(self.source.read_to(partition));
                let stable = apart.is_none() && self.source.is_stable(partition);
                watch.take_in(partition, &look, read_to, stable);
                if watch.gone_us.is_some_and(|since| (look.asked_us - since) as u128 >= GONE_AFTER.as_micros()) {
                    gone.push(partition);
                }
            }
            let lasts_us = watch.silence.lasts_us(now_us);
            let idle = self.reading.idle_timeout.is_some_and(|timeout| lasts_us as u128 >= timeout.as_micros());
            let is_idle = lock(&self.shared.watermarks).partition(partition).is_some_and(|mark| mark.idle);
            match (is_idle, idle) {
                (false, true) => {
                    self.settle(partition);
                    lock(&self.shared.watermarks).set_idle(partition);
                }
                (true, false) => self.wake(partition),
                _ => {}
            }
        }
        self.tell_of_transactions();
        // Of a topic that is gone as a whole there may be another soon; a run that is to end does not wait for that.
        let topic_is_there = look.found.values().any(|sight| *sight != Sight::Gone);
        if topic_is_there || self.reading.until.is_some() || self.reading.fail_on_data_loss {
            gone.into_iter().try_for_each(|partition| self.give_up(partition))?;
        }
        Ok(())
    }

    /// Takes a partition back into the minimum of watermarks, if it was left out.
    pub(super) fn wake(&mut self, partition: i32) {
        let mut watermarks = lock(&self.shared.watermarks);
        if watermarks.partition(partition).is_some_and(|mark| mark.idle) {
            let floor = watermarks.wake(partition);
            drop(watermarks);
            if let Some(lane) = self.worker.lane_mut(partition) {
                lane.raise(floor);
            }
        }
    }

    /// Tells people of transactions that are open for long, once each, and when they are over.
    fn tell_of_transactions(&mut self) {
        let long =
            if self.reading.until.is_some() { Duration::ZERO } else { self.reading.idle_timeout.unwrap_or(LONG) };
        let now_us = clock::now_us();
        for (partition, watch) in &mut self.watches {
            let held = watch.held();
            if let Some(Held { since_us, unread, long: false }) = held
                && u128::try_from(now_us - since_us).is_ok_and(|lasts| lasts >= long.as_micros())
            {
                watch.behind = watch.behind.map(|(looks, held)| (looks, Held { long: true, ..held }));
                watch.told = true;
                let since = clock::text(since_us);
                tracing::warn!(
                    unread_offsets = unread,
                    "partition {partition} waits behind an open transaction since {since}, and the watermark for it"
                );
            } else if held.is_none() && std::mem::take(&mut watch.told) {
                tracing::info!("partition {partition} does not wait for a transaction any more");
            }
        }
    }

    /// Goes on without a partition that the topic does not have any more.
    fn give_up(&mut self, partition: i32) -> Result<(), Failure> {
        let next_offset = self.source.position(partition).unwrap_or_default();
        lose_partition(partition, next_offset, self.reading.fail_on_data_loss)?;
        lock(&self.shared.watermarks).unassign(partition);
        self.worker.unassign(partition);
        self.watches.remove(&partition);
        self.apart.remove(&partition);
        self.anchors.remove(&partition);
        self.shared.lookout.remove(partition);
        let _ = self.wires.reports.send(Report::Gone(partition));
        Ok(self.source.remove(partition)?)
    }

    /// Whether everything before the ends of this run was read.
    pub(super) fn has_caught_up(&self) -> bool {
        self.reading.until.is_some() && self.behind_the_end().next().is_none()
    }

    /// Whether something is left to read, and all of it lies behind open transactions.
    pub(super) fn only_transactions_left(&self, left: &[Unread]) -> bool {
        let held = |of: &Unread| self.watches.get(&of.partition).is_some_and(|watch| watch.held().is_some());
        !left.is_empty() && left.iter().all(held)
    }

    /// Partitions that were not read to the ends of this run.
    pub(super) fn behind_the_end(&self) -> impl Iterator<Item = Unread> {
        self.reading.until.iter().flatten().filter_map(move |(&partition, &end)| {
            let apart = first_apart(&self.apart, partition);
            let reached = apart.is_none() && self.source.reached(partition, end);
            let read_to = || apart.or(self.source.read_to(partition)).or(self.source.position(partition));
            let mine = self.watches.contains_key(&partition) && !reached;
            mine.then(|| Unread { partition, from: read_to().unwrap_or_default(), end })
        })
    }

    /// Where a partition stands, for people.
    pub(super) fn place(&self, partition: i32, next_offset: i64, look: &Look) -> Place {
        let high = look.high(partition);
        let apart = self.apart.get(&partition);
        let read_to = self.source.read_to(partition).filter(|_| apart.is_none()).unwrap_or(next_offset);
        Place {
            slow_since_us: apart.map(|&(_, since_us)| since_us),
            next_offset,
            high,
            lag: high.map(|high| high.saturating_sub(read_to).max(0).unsigned_abs()),
            held: self.watches.get(&partition).and_then(Watch::held),
        }
    }
}

/// The first record of a partition that is parsed beside.
fn first_apart(apart: &BTreeMap<i32, (Arc<RawBatch>, i64)>, partition: i32) -> Option<i64> {
    apart.get(&partition).and_then(|(raw, _)| raw.offsets.first().copied())
}

/// Tells people that the topic does not have a partition any more.
///
/// # Errors
/// `Corrupt` where data loss is to end the run.
pub fn lose_partition(partition: i32, next_offset: i64, fail: bool) -> Result<(), Failure> {
    let what = format!(
        "the topic does not have a partition any more: it was made anew with fewer, or deleted, and nobody knows what was \
         not read partition={partition} expected_offset={next_offset}"
    );
    if fail {
        let hint = "set source.on_data_loss = \"skip\" to go on without it";
        return Err(Failure::new(Class::Corrupt, anyhow!("{what}; {hint}")));
    }
    tracing::error!("{what}; going on without it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of partition 0, of which all committed records before offset 7 are read, after looks a second apart.
    fn after(sights: &[Option<Sight>]) -> Watch {
        let mut watch = Watch::default();
        for (number, sight) in (1..).zip(sights) {
            let found = sight.iter().map(|sight| (0, *sight)).collect();
            watch.take_in(0, &Look { number, asked_us: number as i64 * 1_000_000, found }, Some(7), true);
        }
        watch
    }

    #[test]
    fn an_open_transaction_is_believed_when_two_looks_say_so() {
        let open = Some(Sight::End(9));
        assert_eq!(after(&[open]).held(), None);
        assert_eq!(after(&[open, open]).held().map(|held| held.unread), Some(2));
        assert_eq!(after(&[open, open, Some(Sight::End(7))]).held(), None);
    }

    #[test]
    fn a_partition_without_a_leader_is_neither_silent_nor_behind_a_transaction() {
        let mut watch = after(&[Some(Sight::End(7)), Some(Sight::End(7)), Some(Sight::NoLeader)]);
        assert_eq!((watch.silence.lasts_us(3_000_000), watch.held(), watch.gone_us), (0, None, None));
    }

    #[test]
    fn a_look_that_knows_nothing_of_a_partition_changes_nothing() {
        let end = Some(Sight::End(7));
        let mut watch = after(&[end, end, None, end]);
        assert_eq!(watch.silence.lasts_us(4_000_000), 3_000_000);
    }

    #[test]
    fn a_partition_is_gone_since_the_first_look_that_says_so_without_a_break() {
        let (end, gone) = (Some(Sight::End(7)), Some(Sight::Gone));
        assert_eq!(after(&[gone, end, gone, gone]).gone_us, Some(3_000_000));
    }
}
