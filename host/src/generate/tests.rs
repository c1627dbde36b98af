//! Facts about the pacing loop, with a generator that says its record's index and time.

use super::*;
use crate::kafka::{Admin, EmbeddedBroker, Poll, ProducerSettings, Settings, Source};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

struct Numbers {
    width: usize,
}

impl RecordSource for Numbers {
    fn generate(&mut self, first: u64, times_us: &[i64]) -> Result<(BinaryArray, Option<BinaryArray>), String> {
        let lines: Vec<String> =
            times_us.iter().enumerate().map(|(i, t)| format!("{:>1$}@{t}", first + i as u64, self.width)).collect();
        let keys: Vec<String> = (0..times_us.len() as u64).map(|i| format!("user-{}", (first + i) % 97)).collect();
        Ok((BinaryArray::from_iter_values(&lines), Some(BinaryArray::from_iter_values(&keys))))
    }
}

fn options() -> Options {
    Options { rate: 0.0, count: Some(10), first: 0, start_time_us: Some(1000), span: None }
}

fn lines(options: &Options) -> Vec<String> {
    let mut out = Vec::new();
    let stop = AtomicBool::new(false);
    run(&mut Numbers { width: 1 }, &mut Destination::Lines(&mut out), options, None, &|| 5_000_000, &stop, &mut |_| {})
        .unwrap();
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_span_is_spread_over_the_count_and_ends_now() {
    let options = Options { start_time_us: None, span: Some(Duration::from_secs(1)), count: Some(4), ..options() };
    assert_eq!(lines(&options), ["0@4000000", "1@4250000", "2@4500000", "3@4750000"]);
}

#[test]
fn a_run_in_two_parts_makes_the_records_of_one() {
    let whole = Options { count: Some(9000), span: Some(Duration::from_hours(1)), ..options() };
    let mut parts = lines(&Options { count: Some(5000), span: Some(Duration::from_secs(2000)), ..whole.clone() });
    parts.extend(lines(&Options { first: 5000, count: Some(4000), ..whole.clone() }));
    assert_eq!(lines(&whole), parts);
}

#[test]
fn a_rate_gives_times_from_the_start_time_on() {
    let options = Options { rate: 1000.0, count: Some(3), start_time_us: Some(0), ..options() };
    assert_eq!(lines(&options), ["0@0", "1@1000", "2@2000"]);
}

#[test]
fn a_span_without_a_count_is_refused() {
    let options = Options { count: None, span: Some(Duration::from_secs(1)), ..options() };
    assert!(Times::new(&options, 0).is_err());
}

#[test]
fn a_stop_ends_an_endless_run() {
    let stop = AtomicBool::new(false);
    let mut out = io::sink();
    let clock = || {
        stop.store(true, Ordering::Relaxed);
        0
    };
    let options = Options { count: None, ..options() };
    let report =
        run(&mut Numbers { width: 1 }, &mut Destination::Lines(&mut out), &options, None, &clock, &stop, &mut |_| {});
    assert_eq!(report.unwrap().records, 0);
}

#[test]
fn unread_bytes_count_only_batches_not_read_whole() {
    let mut batches = VecDeque::from([(10, 100), (20, 200), (30, 300)]);
    assert_eq!(bytes_unread(&mut batches, 19), 500);
    assert_eq!(bytes_unread(&mut batches, 30), 0);
}

/// 50,000 records of about 300 bytes are 15 MB: three times what the embedded broker keeps of its one partition.
#[test]
fn nothing_is_lost_on_the_embedded_broker_when_paced_by_the_reader() {
    const COUNT: u64 = 50_000;
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let settings = Settings {
        bootstrap: broker.bootstrap().to_owned(),
        topic: "events".into(),
        client_id: "test".into(),
        ..Settings::default()
    };
    let stop = AtomicBool::new(false);
    let partitions = Admin::new(&settings).unwrap().wait_for_topic(None, &mut |_| {}, &stop).unwrap();
    assert_eq!(partitions, [0]);
    let producer = Producer::new(
        &ProducerSettings {
            bootstrap: settings.bootstrap.clone(),
            topic: "events".into(),
            client_id: "test".into(),
            acks: "all".into(),
            compression: "none".into(),
            passthrough: BTreeMap::new(),
        },
        0,
        |_| {},
    )
    .unwrap();
    let read = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pacing = Pacing { consumed: &|| read.load(Ordering::Relaxed), most_bytes: 2 << 20 };
            let options = Options { count: Some(COUNT), ..options() };
            let mut destination = Destination::Topic(&producer);
            let made = &mut Numbers { width: 300 };
            let report = run(made, &mut destination, &options, Some(&pacing), &|| 0, &stop, &mut |_| {}).unwrap();
            assert_eq!((report.records, report.failed), (COUNT, 0));
        });
        let mut source = Source::new(&settings, &[(0, 0)], &std::collections::BTreeMap::new()).unwrap();
        while read.load(Ordering::Relaxed) < COUNT {
            match source.poll(4096, 1 << 20, Duration::from_secs(1)).unwrap() {
                Poll::Batch(batch) => {
                    assert_eq!(batch.offsets[0] as u64, read.load(Ordering::Relaxed));
                    read.fetch_add(batch.len() as u64, Ordering::Relaxed);
                }
                Poll::DataLoss { .. } => {
                    stop.store(true, Ordering::Relaxed);
                    panic!("records were evicted unread");
                }
                Poll::Nothing | Poll::Unavailable(_) => {}
            }
        }
    });
}
