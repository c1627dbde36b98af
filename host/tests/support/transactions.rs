//! A transactional producer, and what brokers keep of groups: only a real Kafka has either.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long brokers may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A producer of transactions, one after the other.
pub(crate) struct Transactions {
    producer: BaseProducer,
    topic: String,
}

impl Transactions {
    /// To this topic, whose name is the producer's with `id` behind it.
    pub(crate) fn new(bootstrap: &str, topic: &str, id: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("transactional.id", format!("{topic}-{id}"));
        config.set("transaction.timeout.ms", "600000");
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        Self { producer, topic: topic.to_owned() }
    }

    /// Begins a transaction.
    pub(crate) fn begin(&self) {
        self.producer.begin_transaction().unwrap();
    }

    /// Writes payloads to a partition, all with this broker time, ms since the Unix epoch.
    pub(crate) fn write(&self, partition: i32, payloads: &[Option<Vec<u8>>], time_ms: i64) {
        for payload in payloads.iter().flatten() {
            let record = BaseRecord::<(), [u8]>::to(&self.topic).partition(partition).payload(payload);
            self.producer.send(record.timestamp(time_ms)).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    /// Commits it.
    pub(crate) fn commit(&self) {
        self.producer.commit_transaction(PATIENCE).unwrap();
    }

    /// Aborts it.
    pub(crate) fn abort(&self) {
        self.producer.abort_transaction(PATIENCE).unwrap();
    }
}

/// The offsets that a group has committed, and the high watermarks, by partition.
pub(crate) fn committed_and_high(
    bootstrap: &str,
    group: &str,
    topic: &str,
    partitions: i32,
) -> BTreeMap<i32, (Option<i64>, i64)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", group).set("isolation.level", "read_uncommitted");
    let client: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let committed = client.committed_offsets(list, PATIENCE).unwrap();
    let of = |partition: i32| match committed.find_partition(topic, partition).unwrap().offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    let high = |partition: i32| client.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
    (0..partitions).map(|partition| (partition, (of(partition), high(partition)))).collect()
}
