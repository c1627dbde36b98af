//! Reads records of the partitions of one worker, a batch of one partition at a time.

use super::batch::Limits;
use super::bell::{Bell, Waker};
use super::context::Context;
use super::feed::{Feed, State};
use super::{Error, Result, Settings};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use wasmill_pipeline::record::{Anchor, RawBatch};
use wasmill_pipeline::time::reach::Reach;

/// How long the broker may take to answer a question that is asked while reading.
const ASK: Duration = Duration::from_secs(2);

/// How long the end of a client may take: offsets are committed for lag tools only.
const CLOSE: Duration = Duration::from_secs(2);

/// How often the client's own queue (outages, statistics, commits) is served.
const SERVE_EVERY: Duration = Duration::from_millis(50);

/// The most events of the client's own queue that are served at once: more than any look at a topic of 1000
/// partitions logs.
const SERVE_MOST: usize = 4096;

/// The longest sleep without a look at the queues: bounds what a lost ring could cost.
const NAP: Duration = Duration::from_millis(100);

/// Bytes that one worker's client may hold ready, over all its partitions.
const PREFETCH_BYTES: usize = 64 << 20;

/// Records that one worker's client may hold ready, over all its partitions: each costs about half a kilobyte besides
/// its bytes, and more of them than a fetch brings only make the processor's caches useless.
const PREFETCH_RECORDS: usize = 20_000;

/// What a call to [`Source::poll`] found.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Poll {
    /// Records of one partition, at least one.
    Batch(RawBatch),
    /// Nothing within the given time.
    Nothing,
    /// The partition no longer has the offset that comes next. Told once; the partition rests until
    /// [`Source::skip_to`].
    DataLoss {
        /// The partition.
        partition: i32,
        /// The offset that comes next.
        expected: i64,
        /// The first offset there is. Not above `expected` where the topic was made anew or its log was cut off.
        found: i64,
        /// The offset after the last record there is.
        end: i64,
    },
    /// Brokers do not answer, or not for some partition; reading goes on by itself when they do. Told at once and then
    /// every few seconds.
    Unavailable(String),
}

/// Reads the partitions assigned to one worker, each from an explicit offset.
///
/// Records of a partition come in the order of their offsets, each once; which partition comes next is fair (round
/// robin), or as [`prefer`](Self::prefer) says. Records of aborted transactions never come.
pub struct Source {
    // Queues go before the consumer they belong to.
    feeds: Vec<Feed>,
    /// The index of the feed whose turn it is.
    turn: usize,
    preferred: Vec<i32>,
    bell: Arc<Bell>,
    consumer: Client,
    topic: String,
    commits: bool,
    served: Option<Instant>,
    /// How many times the topic was made anew, as far as all feeds know.
    made_anew: u64,
    /// How many statistics of the client all feeds know.
    reports: u64,
}

impl Source {
    /// Starts to read. `assignment` gives each partition with its next offset; it may be empty. A partition with an
    /// anchor, the last record that was read of it, is read on only where it still has that record.
    ///
    /// # Errors
    /// `Config` where librdkafka refuses the settings; `Fatal` where it cannot start. A broker that is away is not an
    /// error: `poll` tells.
    pub fn new(settings: &Settings, assignment: &[(i32, i64)], anchors: &BTreeMap<i32, Anchor>) -> Result<Self> {
        let mut config = settings.reader();
        let share = assignment.len().max(1);
        // librdkafka's limits hold for each partition queue. What the user passed through wins.
        let limits = [
            ("queued.max.messages.kbytes", (PREFETCH_BYTES / 1024 / share).max(4096)),
            ("queued.min.messages", (PREFETCH_RECORDS / share).max(5000)),
        ];
        for (key, value) in limits {
            if !settings.passthrough.contains_key(key) {
                config.set(key, value.to_string());
            }
        }
        let consumer = BaseConsumer::from_config_and_context(&config, Context::new(settings))
            .map_err(|error| Error::Config(vec![super::settings::client_message(&error)]))?;
        let mut source = Self {
            feeds: Vec::with_capacity(assignment.len()),
            turn: 0,
            preferred: Vec::new(),
            bell: Arc::default(),
            consumer: Client(Some(Arc::new(consumer))),
            topic: settings.topic.clone(),
            commits: !settings.group_id.is_empty(),
            served: None,
            made_anew: 0,
            reports: 0,
        };
        source.assign(assignment, anchors)?;
        Ok(source)
    }

    /// Takes a partition on while running: a new one of the topic, or one of another worker.
    ///
    /// # Errors
    /// `Fatal` where librdkafka cannot take it. A partition that is assigned already is moved, as by `skip_to`.
    pub fn add(&mut self, partition: i32, next_offset: i64) -> Result<()> {
        if self.feed(partition).is_some() {
            return self.skip_to(partition, next_offset);
        }
        // The client knows partitions as of its last look at the topic; without this a new one waits for the next.
        let _ = self.consumer.fetch_metadata(Some(&self.topic), ASK);
        self.assign(&[(partition, next_offset)], &BTreeMap::new())
    }

    /// Gives a partition up. Records of it that are held ready are thrown away.
    ///
    /// # Errors
    /// `Fatal` where librdkafka refuses.
    pub fn remove(&mut self, partition: i32) -> Result<()> {
        if let Some(index) = self.index(partition) {
            self.feeds.remove(index);
            self.turn = 0;
            let list = self.list([partition]);
            self.consumer.incremental_unassign(&list).map_err(fatal)?;
        }
        Ok(())
    }

    /// Goes on at another offset of an assigned partition, forward or back: after data loss, or for a replay.
    ///
    /// # Errors
    /// `Fatal` where librdkafka refuses. Partitions that are not assigned are ignored.
    pub fn skip_to(&mut self, partition: i32, offset: i64) -> Result<()> {
        let Some(index) = self.index(partition) else { return Ok(()) };
        let feed = &mut self.feeds[index];
        (feed.next, feed.anchor) = (offset, None);
        self.fetch_again(index)
    }

    /// Fetches a partition from the next offset on, or from its anchor to see that this is still there.
    fn fetch_again(&mut self, index: usize) -> Result<()> {
        let feed = &mut self.feeds[index];
        feed.move_on();
        let (partition, place, paused) = (feed.partition, feed.place(), feed.paused);
        // A seek is refused for a partition that fell out of range; taking it off and on again always works, and what
        // was fetched before is outdated and never comes.
        let list = self.list([partition]);
        self.consumer.incremental_unassign(&list).map_err(fatal)?;
        // A partition that the client does not know (yet, or any more) has another queue from now on.
        self.feeds[index].queue = self.queue(partition)?;
        self.consumer.incremental_assign(&self.list_at(&[(partition, place)])).map_err(fatal)?;
        if paused { self.consumer.pause(&self.list([partition])).map_err(fatal) } else { Ok(()) }
    }

    /// The next batch, of one partition: comes at once with the records that are there, at most `max_records` (at
    /// least one) and no more than one record beyond `max_bytes` of payloads and keys; otherwise waits up to `wait`.
    ///
    /// A record without a timestamp (a topic written by clients older than Kafka 0.10) gets `NO_TIMESTAMP`.
    ///
    /// # Errors
    /// `Fatal`: the source is of no use any more. What may pass by itself is no error but [`Poll::Unavailable`].
    pub fn poll(&mut self, max_records: usize, max_bytes: usize, wait: Duration) -> Result<Poll> {
        let limits = Limits { records: max_records, bytes: max_bytes };
        let deadline = Instant::now() + wait;
        loop {
            let now = Instant::now();
            self.serve(now)?;
            if let Some(found) = self.look(limits, now)? {
                return Ok(found);
            }
            if let Some(text) = self.consumer.context().outage(self.trouble().as_deref()) {
                return Ok(Poll::Unavailable(text));
            }
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() || self.bell.wait(left.min(NAP)) {
                return Ok(Poll::Nothing);
            }
        }
    }

    /// From now on, the first of these partitions that has records is read: the least advanced first keeps the
    /// fewest windows open. Partitions not named come after them, in turn; an empty list means fair turns for all.
    pub fn prefer(&mut self, partitions: &[i32]) {
        self.preferred.clear();
        self.preferred.extend_from_slice(partitions);
    }

    /// Stops reading and fetching these partitions. What was held ready of them is fetched again on `resume`, so this
    /// is for long rests; a worker that is merely busy just does not poll, for what is held ready is bounded.
    ///
    /// # Errors
    /// `Fatal` where librdkafka refuses.
    pub fn pause(&mut self, partitions: &[i32]) -> Result<()> {
        self.set_paused(partitions, true)
    }

    /// Fetches these partitions again.
    ///
    /// # Errors
    /// `Fatal` where librdkafka refuses.
    pub fn resume(&mut self, partitions: &[i32]) -> Result<()> {
        self.set_paused(partitions, false)
    }

    /// The assigned partitions, in the order they were assigned.
    pub fn partitions(&self) -> Vec<i32> {
        self.feeds.iter().map(|feed| feed.partition).collect()
    }

    /// The next offset of an assigned partition.
    pub fn position(&self, partition: i32) -> Option<i64> {
        self.feed(partition).map(|feed| feed.next)
    }

    /// The offset of an assigned partition before which everything was read: behind the next one where the last offsets
    /// are no records but the marks of transactions, or aborted. `None` until the broker has confirmed what was read.
    pub fn read_to(&self, partition: i32) -> Option<i64> {
        Some(self.reach(partition)?.read_to())
    }

    /// Whether everything that is committed has been read, as of the last look of the reader itself: what there is beyond
    /// that waits for an open transaction.
    pub fn is_stable(&self, partition: i32) -> bool {
        self.reach(partition).is_some_and(Reach::is_stable)
    }

    /// Whether everything before `end` has been read.
    pub fn reached(&self, partition: i32, end: i64) -> bool {
        self.reach(partition).is_some_and(|reach| reach.has_reached(end))
    }

    fn reach(&self, partition: i32) -> Option<Reach> {
        self.feed(partition)?.reach()
    }

    /// Ends a wait in `poll` from another thread.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.bell))
    }

    /// Tells the group's offsets to the broker, for lag tools; does not wait for an answer. Where nothing was read since,
    /// an offset steps over what is no record. Nothing happens without a group, and a failure is only logged.
    pub fn commit_offsets(&self, next_offsets: &[(i32, i64)]) {
        let behind_marks = |&(partition, next): &(i32, i64)| {
            let feed = self.feed(partition).filter(|feed| feed.next == next);
            (partition, feed.and_then(Feed::reach).map_or(next, Reach::read_to))
        };
        if self.commits && !next_offsets.is_empty() {
            let list = self.list_at(&next_offsets.iter().map(behind_marks).collect::<Vec<_>>());
            if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
                tracing::debug!(%error, "group offsets not committed");
            }
        }
    }

    fn assign(&mut self, assignment: &[(i32, i64)], anchors: &BTreeMap<i32, Anchor>) -> Result<()> {
        let mut places = Vec::with_capacity(assignment.len());
        for &(partition, next) in assignment {
            let feed = Feed::new(partition, self.queue(partition)?, next, anchors.get(&partition).copied());
            places.push((partition, feed.place()));
            self.feeds.push(feed);
        }
        self.consumer.incremental_assign(&self.list_at(&places)).map_err(fatal)
    }

    /// A queue of its own for a partition. To be made before the partition is assigned, so that no record comes by the
    /// common queue.
    fn queue(&self, partition: i32) -> Result<PartitionQueue<Context>> {
        let queue = self.consumer.split_partition_queue(&self.topic, partition);
        let mut queue =
            queue.ok_or_else(|| Error::Fatal(format!("no queue for a partition: partition={partition}")))?;
        let bell = Arc::clone(&self.bell);
        queue.set_nonempty_callback(move || bell.ring());
        Ok(queue)
    }

    /// Serves the client's own queue.
    fn serve(&mut self, now: Instant) -> Result<()> {
        if self.served.is_some_and(|served| now.duration_since(served) < SERVE_EVERY) {
            return Ok(());
        }
        self.served = Some(now);
        self.serve_all()
    }

    /// Serves what is in the client's own queue, up to a bound, since errors may come as fast as they are taken.
    fn serve_all(&mut self) -> Result<()> {
        let mut stray = Vec::new();
        for _ in 0..SERVE_MOST {
            let before = self.consumer.context().events();
            match self.consumer.poll(Duration::ZERO) {
                // Each call serves one event, and tells nothing of it.
                None if self.consumer.context().events() != before => {}
                None => break,
                // Never seen, since queues are split first; but a record is not to be lost.
                Some(Ok(message)) => stray.push(message.partition()),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => return Err(Error::Fatal(code.to_string())),
                // The context has it already.
                Some(Err(_)) => {}
            }
        }
        let made_anew = self.consumer.context().made_anew();
        let anew = std::mem::replace(&mut self.made_anew, made_anew) != made_anew;
        let ends = self.consumer.context().ends(&mut self.reports);
        for feed in &mut self.feeds {
            if let Some(&end) = ends.get(&feed.partition) {
                feed.hear(end);
            }
            if anew && feed.next > 0 {
                feed.state = State::Anew(None);
            } else if stray.contains(&feed.partition) {
                feed.state = State::Stale;
            }
        }
        Ok(())
    }

    /// Looks at each partition once, in order of preference, for something to return.
    fn look(&mut self, limits: Limits, now: Instant) -> Result<Option<Poll>> {
        for place in 0..self.preferred.len() {
            let partition = self.preferred[place];
            if let Some(index) = self.index(partition)
                && let Some(found) = self.look_at(index, limits, now)?
            {
                return Ok(Some(found));
            }
        }
        let feeds = self.feeds.len();
        for step in 0..feeds {
            let index = (self.turn + step) % feeds;
            if self.preferred.contains(&self.feeds[index].partition) {
                continue;
            }
            if let Some(found) = self.look_at(index, limits, now)? {
                self.turn = (index + 1) % feeds;
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn look_at(&mut self, index: usize, limits: Limits, now: Instant) -> Result<Option<Poll>> {
        let feed = &mut self.feeds[index];
        if feed.paused {
            return Ok(None);
        }
        if feed.state == State::Reading
            && let Some(batch) = feed.read(limits)?
        {
            // What the client said before these records came is heard before they are handed on.
            self.serve_all()?;
            let feed = &mut self.feeds[index];
            if let State::Anew(_) = feed.state {
                feed.next = batch.offsets[0];
                return Ok(None);
            }
            feed.anchor = batch.anchor();
            return Ok(Some(Poll::Batch(batch)));
        }
        match feed.state {
            State::Reading | State::Lost => Ok(None),
            State::OutOfRange(Some(again)) | State::Anew(Some(again)) if now < again => Ok(None),
            State::OutOfRange(_) | State::Anew(_) => self.explain(index, now),
            State::Stale => self.fetch_again(index).map(|()| None),
        }
    }

    /// Finds out what the broker has of a partition whose next offset it does not have, or whose log is another.
    fn explain(&mut self, index: usize, now: Instant) -> Result<Option<Poll>> {
        let feed = &mut self.feeds[index];
        let (partition, expected) = (feed.partition, feed.next);
        let anew = matches!(feed.state, State::Anew(_));
        match self.consumer.fetch_watermarks(&self.topic, partition, ASK) {
            Ok((found, end)) if anew || expected < found || expected > end => {
                feed.state = State::Lost;
                Ok(Some(Poll::DataLoss { partition, expected, found, end }))
            }
            Ok(_) => {
                // The next offset is there after all: the range has moved meanwhile, or what is gone is the anchor.
                if !feed.confirmed {
                    feed.anchor = None;
                }
                self.fetch_again(index).map(|()| None)
            }
            Err(error) => {
                feed.trouble = Some(format!("partition={partition}: {error}"));
                let again = Some(now + Duration::from_secs(1));
                feed.state = if anew { State::Anew(again) } else { State::OutOfRange(again) };
                Ok(None)
            }
        }
    }

    fn set_paused(&mut self, partitions: &[i32], paused: bool) -> Result<()> {
        let mut changed = Vec::new();
        for feed in &mut self.feeds {
            if feed.paused != paused && partitions.contains(&feed.partition) {
                feed.paused = paused;
                changed.push(feed.partition);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let list = self.list(changed);
        let done = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        done.map_err(fatal)
    }

    /// What is wrong with one of the partitions.
    fn trouble(&self) -> Option<String> {
        let leaderless = |feed: &&Feed| self.consumer.context().leaderless(feed.partition);
        let told = self.feeds.iter().find_map(|feed| feed.trouble.clone());
        told.or_else(|| {
            let partition = self.feeds.iter().find(leaderless)?.partition;
            Some(format!("a partition has no leader: topic={} partition={partition}", self.topic))
        })
    }

    fn index(&self, partition: i32) -> Option<usize> {
        self.feeds.iter().position(|feed| feed.partition == partition)
    }

    fn feed(&self, partition: i32) -> Option<&Feed> {
        self.index(partition).map(|index| &self.feeds[index])
    }

    fn list(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        list
    }

    fn list_at(&self, offsets: &[(i32, i64)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for &(partition, offset) in offsets {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset.max(0)))
                .expect("an offset that is not negative is representable");
        }
        list
    }
}

/// librdkafka's client. Dropping it waits a moment for commits of offsets that are under way, not for a broker that is
/// away: there librdkafka waits for a minute.
struct Client(Option<Arc<BaseConsumer<Context>>>);

impl Deref for Client {
    type Target = Arc<BaseConsumer<Context>>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("there is a client until it is dropped")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let client = self.0.take();
        let (done, is_done) = mpsc::channel();
        let close = move || {
            drop(client);
            // Nobody may wait any more.
            let _ = done.send(());
        };
        // Without a thread for it, it is closed here.
        if std::thread::Builder::new().name("kafka-close".into()).spawn(close).is_ok() {
            let _ = is_done.recv_timeout(CLOSE);
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn fatal(error: KafkaError) -> Error {
    Error::Fatal(error.to_string())
}
