//! Writes records to a topic as fast as the broker takes them: the generator's side.

use super::context;
use super::settings::{client_message, legal_topic, passthrough_mistakes};
use super::words::plain;
use super::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Settings that are wasmill's to make, and why, beyond those refused to a source.
const REFUSED: &[(&str, &str)] = &[
    ("acks", "set `acks` instead"),
    ("request.required.acks", "set `acks` instead"),
    ("compression.type", "set `compression` instead"),
    ("compression.codec", "set `compression` instead"),
    ("delivery.report.only.error", "acknowledgements are counted"),
    ("transactional.id", "the generator does not use transactions"),
];

/// How to write to a topic.
#[derive(Clone, PartialEq, Eq)]
pub struct ProducerSettings {
    /// `host:port`, several with commas between.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// The name the broker knows this client by.
    pub client_id: String,
    /// `0`, `1` or `all`. With `all` the producer is idempotent: a repeated request writes no record twice.
    pub acks: String,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`.
    pub compression: String,
    /// librdkafka's own settings, by its names.
    pub passthrough: BTreeMap<String, String>,
}

/// A record that the broker has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition it went to.
    pub partition: i32,
    /// Its offset; with `acks=0` the broker does not tell it, and it is -1.
    pub offset: i64,
}

/// How many records have been delivered, and how many never will be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Acknowledged.
    pub acked: u64,
    /// Given up by the client.
    pub failed: u64,
    /// What the client said of the last that failed.
    pub last_failure: Option<String>,
}

type OnAck = Box<dyn Fn(Ack<'_>) + Send + Sync>;

/// Writes records. A thread of its own takes the acknowledgements.
pub struct Producer {
    client: ThreadedProducer<Deliveries, NoCustomPartitioner>,
    topic: String,
}

struct Deliveries {
    /// The addresses of the settings.
    bootstrap: String,
    acked: AtomicU64,
    failed: AtomicU64,
    last_failure: Mutex<Option<String>>,
    complaint: Mutex<Option<String>>,
    ack_every: u64,
    on_ack: OnAck,
}

impl ProducerSettings {
    /// Checks everything that can be checked without a broker.
    ///
    /// # Errors
    /// `Config` with every mistake, one sentence each; no sentence repeats a secret.
    pub fn check(&self) -> Result<()> {
        let mut mistakes = Vec::new();
        if self.bootstrap.trim().is_empty() {
            mistakes.push("`bootstrap` is empty: give `host:port` of a broker".to_owned());
        }
        if !legal_topic(&self.topic) {
            mistakes.push(format!("topic is not a name that kafka takes: topic={:?}", self.topic));
        }
        if !["0", "1", "all", "-1"].contains(&self.acks.as_str()) {
            mistakes.push(format!("`acks` is `0`, `1` or `all`: acks={:?}", self.acks));
        }
        if !["none", "gzip", "snappy", "lz4", "zstd"].contains(&self.compression.as_str()) {
            mistakes.push(format!(
                "`compression` is `none`, `gzip`, `snappy`, `lz4` or `zstd`: compression={:?}",
                self.compression
            ));
        }
        for (key, why) in REFUSED.iter().filter(|(key, _)| self.passthrough.contains_key(*key)) {
            mistakes.push(format!("`{key}` cannot be set: {why}"));
        }
        mistakes.extend(passthrough_mistakes(&self.passthrough));
        if mistakes.is_empty() { Ok(()) } else { Err(Error::Config(mistakes)) }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", &self.client_id)
            // Large requests: measured, these are what makes the broker the limit and not the client.
            .set("linger.ms", "10")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", "262144")
            // Waits as long as an outage takes: a generator loses nothing.
            .set("message.timeout.ms", "0")
            .set("message.max.bytes", "16777216")
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.nagle.disable", "true")
            // The partitions that Java's producer would choose, for keys; records without one are spread evenly.
            .set("partitioner", "murmur2_random");
        for (key, value) in &self.passthrough {
            config.set(key, value);
        }
        let all = matches!(self.acks.as_str(), "all" | "-1");
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("acks", &self.acks)
            .set("enable.idempotence", if all { "true" } else { "false" })
            .set("compression.type", &self.compression);
        config
    }
}

impl Producer {
    /// Starts a producer; it connects in the background. Every `ack_every`th acknowledgement is told to `on_ack`, on
    /// the producer's own thread (0 = none is).
    ///
    /// # Errors
    /// `Config` with what is wrong in the settings.
    pub fn new(
        settings: &ProducerSettings,
        ack_every: u64,
        on_ack: impl Fn(Ack<'_>) + Send + Sync + 'static,
    ) -> Result<Self> {
        settings.check()?;
        let deliveries = Deliveries {
            bootstrap: settings.bootstrap.clone(),
            acked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_failure: Mutex::default(),
            complaint: Mutex::default(),
            ack_every,
            on_ack: Box::new(on_ack),
        };
        let client = ThreadedProducer::from_config_and_context(&settings.config(), deliveries)
            .map_err(|error| Error::Config(vec![client_message(&error)]))?;
        Ok(Self { client, topic: settings.topic.clone() })
    }

    /// Hands one record over for delivery; waits where the client's queue is full, up to `patience`. Whether it was
    /// taken: on `false` the same record may be offered again, as after a look at a cancel flag.
    ///
    /// `partition` = `None`: by the key's hash, as Java's producer does, or any where there is no key. `time_ms`:
    /// the record's timestamp, ms since the Unix epoch; 0 = now, as librdkafka has it.
    ///
    /// # Errors
    /// `Refused` where the record as such cannot be sent (too large); `Fatal` where the client gave up.
    pub fn send(
        &self,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        time_ms: i64,
        patience: Duration,
    ) -> Result<bool> {
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic).timestamp(time_ms);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        let mut since: Option<Instant> = None;
        loop {
            let (error, back) = match self.client.send(record) {
                Ok(()) => return Ok(true),
                Err(refused) => refused,
            };
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => {}
                Some(RDKafkaErrorCode::Fatal) => return Err(Error::Fatal(error.to_string())),
                _ => return Err(Error::Refused(error.to_string())),
            }
            if since.get_or_insert_with(Instant::now).elapsed() >= patience {
                return Ok(false);
            }
            // The polling thread makes room.
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
    }

    /// Waits until every record handed over is acknowledged or given up, at most `timeout`. Whether that is so.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.client.flush(timeout).is_ok() && self.client.in_flight_count() == 0
    }

    /// How many records were delivered so far.
    pub fn delivered(&self) -> Delivered {
        let deliveries = self.client.context();
        Delivered {
            acked: deliveries.acked.load(Ordering::Relaxed),
            failed: deliveries.failed.load(Ordering::Relaxed),
            last_failure: deliveries.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// How many records are handed over but neither acknowledged nor given up.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.client.in_flight_count()).unwrap_or(0)
    }

    /// The client's last complaint (broker away, ...) since the last call, for people.
    pub fn take_complaint(&self) -> Option<String> {
        self.client.context().complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka producer");
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(plain(reason, &self.bootstrap));
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(record) => {
                let count = self.acked.fetch_add(1, Ordering::Relaxed) + 1;
                if self.ack_every > 0 && count.is_multiple_of(self.ack_every) {
                    let ack = Ack { topic: record.topic(), partition: record.partition(), offset: record.offset() };
                    (self.on_ack)(ack);
                }
            }
            Err((error, _)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_of_a_producer_are_told_at_once() {
        let settings = ProducerSettings {
            bootstrap: String::new(),
            topic: "..".into(),
            client_id: "test".into(),
            acks: "most".into(),
            compression: "zip".into(),
            passthrough: BTreeMap::from([("acks".into(), "1".into()), ("no.such".into(), "1".into())]),
        };
        match settings.check() {
            Err(Error::Config(mistakes)) => assert_eq!(mistakes.len(), 6, "{mistakes:?}"),
            other => panic!("expected six mistakes: {other:?}"),
        }
    }
}
