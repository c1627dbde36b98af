//! All that a topic holds, read by a plain consumer: nothing of the product is in between.

use super::oracle::Record;
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// How long reading may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// All records of a topic, read by a plain consumer.
pub(crate) fn read_topic(bootstrap: &str, topic: &str, partitions: i32) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "oracle")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    let mut left = 0;
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        let (low, high) = consumer.fetch_watermarks(topic, partition, Duration::from_secs(30)).unwrap();
        assert_eq!(low, 0, "the broker has forgotten records of partition {partition}");
        left += high;
    }
    consumer.assign(&assignment).unwrap();
    let mut records = Vec::new();
    let started = Instant::now();
    while left > 0 {
        assert!(started.elapsed() < PATIENCE, "{left} records never came");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        records.push(Record {
            partition: message.partition(),
            offset: message.offset(),
            broker_time_us: message.timestamp().to_millis().unwrap() * 1000,
            value: message.payload().map(<[u8]>::to_vec),
        });
        left -= 1;
    }
    records
}
