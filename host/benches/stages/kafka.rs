//! What comes from outside of a worker: records from a broker, and rows from another worker.

use super::cpu::{CpuTime, measure, stage, thread_time, time_of_all_but};
use super::job::{self, BATCH, Job};
use criterion::Criterion;
use crossbeam_channel::{Receiver, bounded};
use std::collections::BTreeMap;
use std::time::Duration;
use wasmill::kafka::{Admin, EmbeddedBroker, Poll, Producer, ProducerSettings, Settings, Source};
use wasmill::shared::INBOX;
use wasmill_pipeline::exchange::Message;

/// Partitions of the topic. The stream fits into what the embedded broker keeps of so many.
const PARTITIONS: i32 = 4;

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// What librdkafka calls the thread that the embedded broker works on.
const BROKER_THREAD: &str = "rdk:mock";

/// Payload bytes of a batch, as the driver reads them.
const BATCH_BYTES: usize = 4 << 20;

/// A broker with the stream: the one of `KAFKA_BOOTSTRAP_SERVERS`, or an embedded one.
struct Broker {
    settings: Settings,
    admin: Admin,
    embedded: Option<EmbeddedBroker>,
}

impl Broker {
    fn start(job: &Job) -> Self {
        let topic = format!("wasmill-bench-{}", std::process::id());
        let servers = std::env::var("KAFKA_BOOTSTRAP_SERVERS").ok().filter(|servers| !servers.is_empty());
        let embedded = servers.is_none().then(|| EmbeddedBroker::start(&topic, PARTITIONS).unwrap());
        let bootstrap = servers.unwrap_or_else(|| embedded.as_ref().unwrap().bootstrap().to_owned());
        let settings = Settings { bootstrap, topic, client_id: "wasmill-bench".into(), ..Settings::default() };
        let admin = Admin::new(&settings).unwrap();
        if embedded.is_none() {
            admin.create_topic(PARTITIONS, 1).unwrap();
        }
        let broker = Self { settings, admin, embedded };
        broker.fill(job);
        broker
    }

    fn fill(&self, job: &Job) {
        let settings = ProducerSettings {
            bootstrap: self.settings.bootstrap.clone(),
            topic: self.settings.topic.clone(),
            client_id: "wasmill-bench".into(),
            acks: "1".into(),
            compression: "lz4".into(),
            passthrough: BTreeMap::new(),
        };
        let producer = Producer::new(&settings, 0, |_| {}).unwrap();
        let payloads = job.stream.iter().flat_map(|batch| &batch.values);
        for (number, payload) in payloads.enumerate() {
            let partition = number as i32 % PARTITIONS;
            assert!(producer.send(Some(partition), None, payload, 0, PATIENCE).unwrap());
        }
        assert!(producer.flush(PATIENCE), "the broker takes everything");
    }

    /// A client that is to read so many partitions.
    fn source(&self, partitions: i32) -> Source {
        let all: Vec<(i32, i64)> = (0..partitions).map(|partition| (partition, 0)).collect();
        Source::new(&self.settings, &all, &BTreeMap::new()).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.embedded.is_none() {
            self.admin.delete_topic().unwrap();
        }
    }
}

pub(crate) fn benches(job: &Job, c: &mut Criterion<CpuTime>) {
    let broker = Broker::start(job);
    let mut group = stage(c, "fetch", job.events());
    let from = if broker.embedded.is_some() { "embedded broker" } else { "real broker" };
    group.bench_function(from, |b| b.iter_custom(|times| (0..times).map(|_| fetch(&broker, job.events())).sum()));
    group.finish();

    let mut group = stage(c, "exchange", job.events());
    let outputs = job::process(&job.shared, &job.stream);
    let for_the_other: Vec<_> = outputs.into_iter().flat_map(|out| out.rows).filter(|(to, _)| *to == 1).collect();
    assert!(!for_the_other.is_empty(), "two workers divide the keys");
    group.bench_function("to another worker", |b| {
        let messages = || for_the_other.iter().map(|(_, rows)| Message::Rows(rows.clone())).collect();
        measure(b, messages, |messages| exchange(broker.source(0), messages));
    });
    group.finish();
}

/// What it takes to read the whole topic, on all threads of the client, from its start to the last record.
fn fetch(broker: &Broker, events: u64) -> Duration {
    let began = time_of_all_but(&[BROKER_THREAD]);
    let mut source = broker.source(PARTITIONS);
    let mut read = 0;
    while read < events {
        match source.poll(BATCH, BATCH_BYTES, PATIENCE).unwrap() {
            Poll::Batch(batch) => read += std::hint::black_box(batch).len() as u64,
            Poll::Nothing => {}
            other => unreachable!("the broker is there with all records: {other:?}"),
        }
    }
    // Before the client ends, and its threads with it.
    time_of_all_but(&[BROKER_THREAD]).saturating_sub(began)
}

/// What it takes one worker to send messages and another to receive them: on both threads, and with waking up.
fn exchange(source: Source, messages: Vec<Message>) -> Duration {
    let (peer, inbox) = bounded(INBOX);
    let waker = source.waker();
    let count = messages.len();
    let receiving = std::thread::spawn(move || receive(source, &inbox, count));
    let began = thread_time();
    for message in messages {
        peer.send((0, message)).unwrap();
        waker.wake();
    }
    let sent = thread_time().saturating_sub(began);
    sent + receiving.join().unwrap()
}

/// As a worker receives: all that has come; then it looks for records, and sleeps there.
fn receive(mut source: Source, inbox: &Receiver<(usize, Message)>, count: usize) -> Duration {
    let began = thread_time();
    let mut received = 0;
    while received < count {
        while let Ok(message) = inbox.try_recv() {
            received += 1;
            drop(std::hint::black_box(message));
        }
        if received < count {
            assert!(matches!(source.poll(BATCH, BATCH_BYTES, PATIENCE).unwrap(), Poll::Nothing));
        }
    }
    thread_time().saturating_sub(began)
}
