//! Questions about a topic, and its making.

use super::context::Context;
use super::look::{Looker, Sight};
use super::settings::client_message;
use super::words;
use super::{Error, Result, Settings, Start};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long the broker may take to answer.
const ASK: Duration = Duration::from_secs(10);

/// How long one look for a topic may take: short, so that a cancelled wait ends soon.
const LOOK: Duration = Duration::from_secs(2);

/// Pause between two looks for a topic: doubles from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The most events that are served before a complaint is read: each failed look leaves a few.
const SERVE_MOST: usize = 16;

/// How often a wait that goes on is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The partitions of a topic, each with the broker that leads it.
struct Leaders(BTreeMap<i32, i32>);

impl Leaders {
    /// The partitions, in order.
    fn partitions(&self) -> Vec<i32> {
        self.0.keys().copied().collect()
    }
}

/// Asks about one topic, and makes it. Calls block, up to ten seconds each.
pub struct Admin {
    settings: Settings,
    asking: BaseConsumer<Context>,
}

impl Admin {
    /// A client for the topic of these settings; connects in the background.
    ///
    /// # Errors
    /// `Config` where librdkafka refuses the settings.
    pub fn new(settings: &Settings) -> Result<Self> {
        let mut config = settings.consumer();
        // Without a group the consumer asks questions without joining anything.
        config.remove("group.id").remove("statistics.interval.ms");
        let asking = BaseConsumer::from_config_and_context(&config, Context::new(settings))
            .map_err(|error| Error::Config(vec![client_message(&error)]))?;
        Ok(Self { settings: settings.clone(), asking })
    }

    /// The topic's partitions in order, as soon as the topic is there and each of them has a leader that can be reached
    /// from here. Waits for so long, `None` = as long as it takes: `on_wait` is told why at once and then every few seconds.
    ///
    /// # Errors
    /// `Cancelled` within two seconds after `cancel` became true; what was waited for, where that took too long.
    pub fn wait_for_topic(
        &self,
        longest: Option<Duration>,
        on_wait: &mut dyn FnMut(&str),
        cancel: &AtomicBool,
    ) -> Result<Vec<i32>> {
        let began = Instant::now();
        let mut told: Option<Instant> = None;
        let mut pause = BACKOFF.0;
        while !cancel.load(Ordering::Relaxed) {
            let why = match self.look(LOOK).and_then(|topic| self.reach(&topic).map(|()| topic.partitions())) {
                Ok(partitions) => return Ok(partitions),
                Err(why) if longest.is_some_and(|longest| began.elapsed() >= longest) => return Err(why),
                Err(Error::Refused(why) | Error::Unavailable { why, .. }) => why,
                Err(why) => why.to_string(),
            };
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                on_wait(&why);
            }
            let left = longest.map_or(pause, |longest| longest.saturating_sub(began.elapsed()));
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(BACKOFF.1);
        }
        Err(Error::Cancelled)
    }

    /// The topic's partitions, in order.
    ///
    /// # Errors
    /// `Unavailable` without an answer; `Refused` where there is no such topic, or a partition has no leader.
    pub fn partitions(&self) -> Result<Vec<i32>> {
        self.look(ASK).map(|topic| topic.partitions())
    }

    /// Makes the topic. Whether it is new: one that is there already is left alone, whatever its partitions.
    ///
    /// # Errors
    /// `Unavailable` without an answer; `Refused` with the broker's reason.
    pub fn create_topic(&self, partitions: i32, replication: i32) -> Result<bool> {
        let admin = self.admin()?;
        let topic = NewTopic::new(&self.settings.topic, partitions, TopicReplication::Fixed(replication));
        let answer = block_on(admin.create_topics([&topic], &options()));
        match topic_result(answer, "making the topic")? {
            Ok(()) => Ok(true),
            Err(RDKafkaErrorCode::TopicAlreadyExists) => Ok(false),
            Err(code) => Err(self.refused("the topic cannot be made", code)),
        }
    }

    /// Adds partitions to the topic, up to `total`.
    ///
    /// # Errors
    /// `Unavailable` without an answer; `Refused` with the broker's reason.
    pub fn add_partitions(&self, total: usize) -> Result<()> {
        let admin = self.admin()?;
        let answer = block_on(admin.create_partitions([&NewPartitions::new(&self.settings.topic, total)], &options()));
        topic_result(answer, "adding partitions")?.map_err(|code| self.refused("partitions cannot be added", code))
    }

    /// Removes the topic with its records.
    ///
    /// # Errors
    /// `Unavailable` without an answer; `Refused` with the broker's reason.
    pub fn delete_topic(&self) -> Result<()> {
        let admin = self.admin()?;
        let answer = block_on(admin.delete_topics(&[&self.settings.topic], &options()));
        topic_result(answer, "removing the topic")?.map_err(|code| self.refused("the topic cannot be removed", code))
    }

    /// Removes the records before `offset` of a partition: its low watermark moves there.
    ///
    /// # Errors
    /// `Unavailable` without an answer; `Refused` with the broker's reason.
    pub fn delete_records_before(&self, partition: i32, offset: i64) -> Result<()> {
        let list = self.list([(partition, Offset::Offset(offset))]);
        let answer = block_on(self.admin()?.delete_records(&list, &options()))
            .map_err(Error::unavailable("removing records"))?;
        for element in answer.elements() {
            element.error().map_err(|error| Error::Refused(format!("records cannot be removed: {error}")))?;
        }
        Ok(())
    }

    /// The first offset there is in a partition, and the one after the last record.
    ///
    /// # Errors
    /// `Unavailable` without an answer.
    pub fn offsets(&self, partition: i32) -> Result<(i64, i64)> {
        self.asking
            .fetch_watermarks(&self.settings.topic, partition, ASK)
            .map_err(|error| self.unavailable(&format!("asking for offsets: partition={partition}"), &error))
    }

    /// The offset after the last record of each of these partitions.
    ///
    /// # Errors
    /// `Unavailable` without an answer.
    pub fn end_offsets(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>> {
        partitions.iter().map(|&partition| Ok((partition, self.offsets(partition)?.1))).collect()
    }

    /// For each of these partitions the offset of the first record whose broker time is at or after `time_ms`, ms
    /// since the Unix epoch; the end where there is none.
    ///
    /// # Errors
    /// `Unavailable` without an answer. The embedded broker knows no times: every answer is the end.
    pub fn offsets_for_time(&self, partitions: &[i32], time_ms: i64) -> Result<BTreeMap<i32, i64>> {
        // Ends first: a record that comes between the two questions is then not jumped over.
        let mut offsets = self.end_offsets(partitions)?;
        let questions = self.list(partitions.iter().map(|&partition| (partition, Offset::Offset(time_ms.max(0)))));
        let answers =
            self.asking.offsets_for_times(questions, ASK).map_err(Error::unavailable("asking for offsets by time"))?;
        for answer in answers.elements() {
            answer.error().map_err(Error::unavailable("asking for offsets by time"))?;
            if let Offset::Offset(offset) = answer.offset() {
                offsets.insert(answer.partition(), offset);
            }
        }
        Ok(offsets)
    }

    /// The next offset of each of these partitions for a first start. An explicit one before the first record there is
    /// stays as it is, and shows as data loss; partitions without one begin at their first record, and that is said.
    ///
    /// # Errors
    /// `Unavailable` without an answer; `Start` with every offset that the topic cannot have.
    pub fn start_offsets(&self, start: &Start, partitions: &[i32]) -> Result<BTreeMap<i32, i64>> {
        let given = match start {
            Start::Earliest => &BTreeMap::new(),
            Start::Latest => return self.end_offsets(partitions),
            Start::Timestamp(time_us) => {
                // Kafka's times are whole ms: the first that is not before this instant.
                let first_ms = time_us.div_euclid(1000) + i64::from(time_us.rem_euclid(1000) != 0);
                return self.offsets_for_time(partitions, first_ms);
            }
            Start::Offsets(given) => given,
        };
        let mut mistakes = Vec::new();
        for (partition, offset) in given.iter().filter(|(partition, _)| !partitions.contains(partition)) {
            let there: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            let there = there.join(", ");
            mistakes.push(format!("no such partition: partition={partition} offset={offset} partitions_there={there}"));
        }
        // Records behind an open transaction are there, too.
        let found = if given.is_empty() {
            BTreeMap::new()
        } else {
            Looker::new(&self.settings)?.look(&partitions.iter().copied().collect())?
        };
        let mut offsets = BTreeMap::new();
        for &partition in partitions {
            let (first, mut end) = self.offsets(partition)?;
            if let Some(Sight::End(high)) = found.get(&partition) {
                end = end.max(*high);
            }
            let next = match given.get(&partition) {
                Some(&offset) if offset > end => {
                    mistakes.push(format!(
                        "beyond the end: partition={partition} offset={offset} first_offset={first} end_offset={end}"
                    ));
                    continue;
                }
                Some(&offset) if offset >= 0 => offset,
                Some(-1) => end,
                Some(_) => first,
                None if given.is_empty() => first,
                None => {
                    tracing::info!(
                        partition,
                        first_offset = first,
                        "no start offset is given: from the first record on"
                    );
                    first
                }
            };
            offsets.insert(partition, next);
        }
        if mistakes.is_empty() { Ok(offsets) } else { Err(Error::Start(mistakes)) }
    }

    fn look(&self, timeout: Duration) -> Result<Leaders> {
        let name = &self.settings.topic;
        let metadata = self
            .asking
            .fetch_metadata(Some(name), timeout)
            .map_err(|error| self.unavailable("looking for the topic", &error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        if let Some(code) = topic.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from)
            && matches!(code, RDKafkaErrorCode::TopicAuthorizationFailed)
        {
            return Err(Error::Refused(format!("{}: topic={name}", words::plain_code(code))));
        }
        let topic = topic.filter(|topic| topic.error().is_none() && !topic.partitions().is_empty());
        let Some(topic) = topic else {
            let hint = "it is taken as soon as somebody makes it, as `wasmill generate --create` does";
            return Err(Error::Refused(format!("there is no such topic: topic={name}; {hint}")));
        };
        let mut leaders = BTreeMap::new();
        for partition in topic.partitions() {
            if partition.leader() < 0 {
                let message = format!("a partition has no leader: topic={name} partition={}", partition.id());
                return Err(Error::Refused(message));
            }
            leaders.insert(partition.id(), partition.leader());
        }
        Ok(Leaders(leaders))
    }

    /// Whether the brokers that lead the partitions answer where they say they are: a client that can reach the
    /// addresses of its settings may be told others that it cannot.
    fn reach(&self, leaders: &Leaders) -> Result<()> {
        let one_of_each: BTreeMap<i32, i32> =
            leaders.0.iter().map(|(&partition, &leader)| (leader, partition)).collect();
        for partition in one_of_each.into_values() {
            self.asking
                .fetch_watermarks(&self.settings.topic, partition, LOOK)
                .map_err(|error| self.unavailable("reaching a partition's leader", &error))?;
        }
        Ok(())
    }

    /// Why the broker did not do what was asked of it: what the client has complained of, or else the error.
    fn unavailable(&self, doing: &str, error: &KafkaError) -> Error {
        tracing::debug!(%error, "{doing}");
        // Serves librdkafka's logs and errors, so that the complaint is the current one.
        for _ in 0..SERVE_MOST {
            let _ = self.asking.poll(Duration::ZERO);
        }
        let nothing_yet = || match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::OperationTimedOut) => {
                format!("nothing at {} has answered yet as a broker does", self.settings.bootstrap)
            }
            _ => words::plain_error(error),
        };
        Error::Unavailable {
            doing: doing.to_owned(),
            why: self.asking.context().complaint().unwrap_or_else(nothing_yet),
        }
    }

    fn admin(&self) -> Result<AdminClient<Context>> {
        AdminClient::from_config_and_context(&self.settings.base(), Context::new(&self.settings))
            .map_err(|error| Error::Config(vec![client_message(&error)]))
    }

    fn refused(&self, what: &str, code: RDKafkaErrorCode) -> Error {
        Error::Refused(format!("{what}: {code}: topic={}", self.settings.topic))
    }

    fn list(&self, offsets: impl IntoIterator<Item = (i32, Offset)>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.settings.topic, partition, offset)
                .expect("an offset that is not negative is representable");
        }
        list
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK))
}

/// The broker's verdict on the one topic it was asked about.
fn topic_result(
    answer: KafkaResult<Vec<rdkafka::admin::TopicResult>>,
    doing: &str,
) -> Result<std::result::Result<(), RDKafkaErrorCode>> {
    let results = answer.map_err(Error::unavailable(doing))?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(Ok(())),
        Some(Err((_, RDKafkaErrorCode::RequestTimedOut))) | None => {
            Err(Error::unavailable(doing)(KafkaError::AdminOp(RDKafkaErrorCode::RequestTimedOut)))
        }
        Some(Err((_, code))) => Ok(Err(code)),
    }
}

/// Waits for a future on this thread: rdkafka's admin calls are the only ones that are not blocking.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = TaskContext::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
