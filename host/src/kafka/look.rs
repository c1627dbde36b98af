//! Looks at the ends of partitions, beside the reader: what the brokers have, whatever of it the reader is given.
//!
//! A reader of committed records learns nothing of those behind an open transaction, and nothing at all while brokers are
//! away. Whoever wants to know whether there is nothing, or only nothing to be had, asks here.

use super::context::Context;
use super::settings::client_message;
use super::{Error, Result, Settings};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How long brokers may take to answer: what takes longer is no base for what is true now.
const ASK: Duration = Duration::from_secs(2);

/// The time between two looks: short beside any idle timeout, and one small request to each broker.
const EVERY: Duration = Duration::from_secs(1);

/// The most events of the client that are served after a look.
const SERVE_MOST: usize = 64;

/// What a look finds of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The high watermark: the offset after the last record, whether that is committed or not.
    End(i64),
    /// Nobody can say, as the partition has no leader.
    NoLeader,
    /// The topic does not have it, or there is no such topic.
    Gone,
}

/// A look that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Its number, ascending; 0 = none was answered yet.
    pub number: u64,
    /// When it was asked, µs by [`Lookout::now_us`]: what it found was so then or later.
    pub asked_us: i64,
    /// What it found; partitions of which nothing is known are missing.
    pub found: BTreeMap<i32, Sight>,
}

impl Look {
    /// The partition's high watermark.
    pub fn high(&self, partition: i32) -> Option<i64> {
        match self.found.get(&partition)? {
            Sight::End(high) => Some(*high),
            Sight::NoLeader | Sight::Gone => None,
        }
    }
}

/// Looks once.
pub struct Looker {
    client: BaseConsumer<Context>,
    topic: String,
    /// Partitions that were gone or without a leader at the last look: to ask for their ends would take all the time.
    away: BTreeSet<i32>,
}

impl Looker {
    /// At the topic of these settings; connects in the background.
    ///
    /// # Errors
    /// `Config` where librdkafka refuses the settings.
    pub fn new(settings: &Settings) -> Result<Self> {
        let mut config = settings.consumer();
        config.remove("group.id").remove("statistics.interval.ms").set("isolation.level", "read_uncommitted");
        let client = BaseConsumer::from_config_and_context(&config, Context::new(settings))
            .map_err(|error| Error::Config(vec![client_message(&error)]))?;
        Ok(Self { client, topic: settings.topic.clone(), away: BTreeSet::new() })
    }

    /// What brokers say of these partitions. Takes two seconds at most, or four where some are away.
    ///
    /// # Errors
    /// `Unavailable` without an answer.
    pub fn look(&mut self, partitions: &BTreeSet<i32>) -> Result<BTreeMap<i32, Sight>> {
        let mut found = self.ends(partitions);
        if found.len() < partitions.len() {
            self.explain(partitions, &mut found)?;
        }
        if found.is_empty() && !partitions.is_empty() {
            return Err(Error::Refused("brokers do not say where partitions end".to_owned()));
        }
        // Serves librdkafka's logs and errors.
        for _ in 0..SERVE_MOST {
            let before = self.client.context().events();
            if self.client.poll(Duration::ZERO).is_none() && self.client.context().events() == before {
                break;
            }
        }
        Ok(found)
    }

    fn ends(&self, partitions: &BTreeSet<i32>) -> BTreeMap<i32, Sight> {
        let mut questions = TopicPartitionList::new();
        for &partition in partitions.difference(&self.away) {
            let added = questions.add_partition_offset(&self.topic, partition, Offset::End);
            added.expect("the end is an offset that can be asked for");
        }
        if questions.count() == 0 {
            return BTreeMap::new();
        }
        match self.client.offsets_for_times(questions, ASK) {
            Ok(answers) => {
                let end = |answer: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match answer.offset() {
                    Offset::Offset(end) if answer.error().is_ok() => Some((answer.partition(), Sight::End(end))),
                    _ => None,
                };
                answers.elements().iter().filter_map(end).collect()
            }
            Err(error) => {
                tracing::debug!(%error, "the ends of partitions are not known just now");
                BTreeMap::new()
            }
        }
    }

    /// Finds out why the ends of some partitions are not known.
    fn explain(&mut self, partitions: &BTreeSet<i32>, found: &mut BTreeMap<i32, Sight>) -> Result<()> {
        let metadata = self
            .client
            .fetch_metadata(Some(&self.topic), ASK)
            .map_err(Error::unavailable("asking for the ends of partitions"))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.topic);
        let error = topic.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from);
        if error.is_some_and(|code| code != RDKafkaErrorCode::UnknownTopicOrPartition) {
            return Ok(());
        }
        self.away.clear();
        for &partition in partitions {
            let known = topic.and_then(|topic| topic.partitions().iter().find(|known| known.id() == partition));
            let sight = match known {
                None => Sight::Gone,
                Some(known) if known.leader() < 0 => Sight::NoLeader,
                Some(_) => continue,
            };
            self.away.insert(partition);
            found.insert(partition, sight);
        }
        Ok(())
    }
}

/// Looks again and again, in a thread of its own, until it is dropped.
pub struct Lookout {
    began: Instant,
    last: Arc<Mutex<Arc<Look>>>,
    partitions: Arc<Mutex<BTreeSet<i32>>>,
    _stop: mpsc::Sender<()>,
}

impl Lookout {
    /// Begins to look at these partitions.
    ///
    /// # Errors
    /// `Fatal` where there is no thread to be had.
    pub fn start(mut looker: Looker, partitions: impl IntoIterator<Item = i32>) -> Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let last = Arc::new(Mutex::new(Arc::default()));
        let partitions = Arc::new(Mutex::new(partitions.into_iter().collect()));
        let began = Instant::now();
        let lookout = Self { began, last: last.clone(), partitions: partitions.clone(), _stop: stop };
        let work = move || {
            for number in 1.. {
                let asked = began.elapsed();
                let wanted = lock(&partitions).clone();
                match looker.look(&wanted) {
                    Ok(found) => *lock(&last) = Arc::new(Look { number, asked_us: micros(asked), found }),
                    Err(error) => tracing::debug!(%error, "a look at the ends of partitions was not answered"),
                }
                if stopped.recv_timeout(EVERY) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("lookout".into()).spawn(work);
        thread.map_err(|error| Error::Fatal(format!("a thread cannot be started: {error}")))?;
        Ok(lookout)
    }

    /// Looks at a partition, too, from now on.
    pub fn add(&self, partition: i32) {
        lock(&self.partitions).insert(partition);
    }

    /// Looks at a partition no longer.
    pub fn remove(&self, partition: i32) {
        lock(&self.partitions).remove(&partition);
    }

    /// The last look that was answered.
    pub fn last(&self) -> Arc<Look> {
        lock(&self.last).clone()
    }

    /// The time since it began, µs.
    pub fn now_us(&self) -> i64 {
        micros(self.began.elapsed())
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
