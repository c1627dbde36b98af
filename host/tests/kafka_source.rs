//! What a source gives: on the embedded broker, and on a real one what only a broker does.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "support/kafka.rs"]
#[allow(dead_code, reason = "not every test does everything to its broker")]
mod kafka_support;

use arrow_array::{Array, BinaryArray};
use kafka_support::RealKafka;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use wasmill::kafka::{Admin, EmbeddedBroker, Poll, Producer, ProducerSettings, Settings, Source, Start};
use wasmill_pipeline::record::RawBatch;

const PATIENCE: Duration = Duration::from_mins(1);

fn settings(bootstrap: &str, topic: &str) -> Settings {
    Settings {
        bootstrap: bootstrap.into(),
        topic: topic.into(),
        group_id: "test".into(),
        client_id: "test".into(),
        passthrough: BTreeMap::new(),
    }
}

fn producer(settings: &Settings) -> Producer {
    let settings = ProducerSettings {
        bootstrap: settings.bootstrap.clone(),
        topic: settings.topic.clone(),
        client_id: "test".into(),
        acks: "all".into(),
        compression: "none".into(),
        passthrough: BTreeMap::new(),
    };
    Producer::new(&settings, 0, |_| {}).unwrap()
}

/// Writes the numbers `from..to` to a partition, number n at time 1000 (n + 1) ms.
fn write(producer: &Producer, partition: i32, from: i64, to: i64) {
    for n in from..to {
        let value = n.to_string();
        assert!(producer.send(Some(partition), None, Some(value.as_bytes()), 1000 * (n + 1), PATIENCE).unwrap());
    }
    assert!(producer.flush(PATIENCE));
    assert_eq!(producer.delivered().failed, 0);
}

/// Reads these partitions, each from its next offset.
fn source(settings: &Settings, assignment: &[(i32, i64)]) -> wasmill::kafka::Result<Source> {
    Source::new(settings, assignment, &BTreeMap::new())
}

/// Polls until `wanted` finds what it waits for.
fn poll_until<T>(source: &mut Source, mut wanted: impl FnMut(&Source, Poll) -> Option<T>) -> T {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let found = source.poll(1000, 1 << 20, Duration::from_millis(200)).unwrap();
        if let Some(found) = wanted(source, found) {
            return found;
        }
    }
    panic!("nothing came within {PATIENCE:?}");
}

/// The next `count` records, of whatever partitions, by partition.
fn read(source: &mut Source, count: usize) -> BTreeMap<i32, Vec<RawBatch>> {
    let mut batches = BTreeMap::<i32, Vec<RawBatch>>::new();
    let mut left = count;
    poll_until(source, |_, found| {
        match found {
            Poll::Batch(batch) => {
                left -= batch.len();
                batches.entry(batch.partition).or_default().push(batch);
            }
            Poll::DataLoss { .. } => panic!("{found:?}"),
            Poll::Nothing | Poll::Unavailable(_) => {}
        }
        (left == 0).then_some(())
    });
    batches
}

fn offsets(batches: &[RawBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.offsets.iter().copied()).collect()
}

fn until_read_to(source: &mut Source, partition: i32, end: i64) {
    poll_until(source, |source, _| (source.read_to(partition) == Some(end)).then_some(()));
}

#[test]
fn records_come_as_they_were_written() {
    let broker = EmbeddedBroker::start("t", 1).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    let producer = producer(&settings);
    let large = vec![b'x'; 5_000_000];
    let send = |key: Option<&[u8]>, value: Option<&[u8]>, time_ms| {
        assert!(producer.send(Some(0), key, value, time_ms, PATIENCE).unwrap());
    };
    send(Some(b"k"), Some(b"v"), 1000);
    send(None, None, 2000);
    send(None, Some(b""), 3000);
    send(Some(b""), Some(&large), 4000);
    assert!(producer.flush(PATIENCE));
    let batches = read(&mut source(&settings, &[(0, 0)]).unwrap(), 4).remove(&0).unwrap();
    assert_eq!(offsets(&batches), [0, 1, 2, 3]);
    let times: Vec<i64> = batches.iter().flat_map(|batch| batch.broker_times_us.clone()).collect();
    assert_eq!(times, [1_000_000, 2_000_000, 3_000_000, 4_000_000]);
    let column = |of: fn(&RawBatch) -> &BinaryArray| -> Vec<Option<Vec<u8>>> {
        batches.iter().flat_map(|batch| of(batch).iter().map(|v| v.map(<[u8]>::to_vec)).collect::<Vec<_>>()).collect()
    };
    assert_eq!(column(|batch| &batch.values), [Some(b"v".to_vec()), None, Some(Vec::new()), Some(large)]);
    assert_eq!(column(|batch| &batch.keys)[..2], [Some(b"k".to_vec()), None]);
}

#[test]
fn a_batch_is_of_one_partition_and_keeps_its_limits() {
    let broker = EmbeddedBroker::start("t", 2).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    let producer = producer(&settings);
    write(&producer, 0, 0, 100);
    write(&producer, 1, 0, 100);
    let mut source = source(&settings, &[(0, 10), (1, 0)]).unwrap();
    let mut seen = BTreeMap::<i32, Vec<i64>>::new();
    let started = Instant::now();
    while seen.values().map(Vec::len).sum::<usize>() < 190 && started.elapsed() < PATIENCE {
        if let Poll::Batch(batch) = source.poll(7, 1 << 20, Duration::from_secs(1)).unwrap() {
            assert!((1..=7).contains(&batch.len()));
            assert_eq!(batch.values.null_count(), 0);
            seen.entry(batch.partition).or_default().extend(batch.offsets);
        }
    }
    assert_eq!(seen, BTreeMap::from([(0, (10..100).collect()), (1, (0..100).collect())]));
}

#[test]
fn the_preferred_partition_comes_first() {
    let broker = EmbeddedBroker::start("t", 2).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    let producer = producer(&settings);
    write(&producer, 0, 0, 50);
    write(&producer, 1, 0, 50);
    let mut source = source(&settings, &[(0, 0), (1, 0)]).unwrap();
    // Both are fetched when both were seen once.
    let mut seen = [0, 0];
    poll_until(&mut source, |_, found| {
        if let Poll::Batch(batch) = found {
            seen[batch.partition as usize] += batch.len();
        }
        (seen[0] > 0 && seen[1] > 0).then_some(())
    });
    write(&producer, 0, 50, 60);
    write(&producer, 1, 50, 60);
    source.prefer(&[1, 0]);
    let batches = read(&mut source, 120 - seen[0] - seen[1]);
    assert_eq!(batches[&1].last().unwrap().next_offset(), Some(60));
}

#[test]
fn a_reader_knows_how_far_it_has_read() {
    let broker = EmbeddedBroker::start("t", 1).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    let producer = producer(&settings);
    let mut source = source(&settings, &[(0, 0)]).unwrap();
    assert_eq!(source.read_to(0), None, "the broker has not confirmed it yet");
    until_read_to(&mut source, 0, 0);
    write(&producer, 0, 0, 10);
    read(&mut source, 10);
    assert!(source.reached(0, 10) && !source.reached(0, 11));
    assert_eq!((source.position(0), source.read_to(0)), (Some(10), Some(10)));
    poll_until(&mut source, |source, _| source.is_stable(0).then_some(()));
}

#[test]
fn a_partition_added_while_running_is_read() {
    let broker = EmbeddedBroker::start("t", 2).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    let producer = producer(&settings);
    write(&producer, 1, 0, 10);
    let mut source = source(&settings, &[(0, 0)]).unwrap();
    source.add(1, 4).unwrap();
    assert_eq!(source.partitions(), [0, 1]);
    assert_eq!(offsets(&read(&mut source, 6)[&1]), (4..10).collect::<Vec<_>>());
}

#[test]
fn a_partition_read_again_from_an_earlier_offset_gives_the_same_records() {
    let broker = EmbeddedBroker::start("t", 1).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    write(&producer(&settings), 0, 0, 2000);
    let mut source = source(&settings, &[(0, 0)]).unwrap();
    read(&mut source, 1000);
    source.skip_to(0, 300).unwrap();
    assert_eq!(offsets(&read(&mut source, 1700)[&0]), (300..2000).collect::<Vec<_>>());
}

#[test]
fn a_paused_partition_rests_until_it_is_resumed() {
    let broker = EmbeddedBroker::start("t", 2).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    let producer = producer(&settings);
    let mut source = source(&settings, &[(0, 0), (1, 0)]).unwrap();
    source.pause(&[0]).unwrap();
    write(&producer, 0, 0, 10);
    write(&producer, 1, 0, 10);
    assert_eq!(read(&mut source, 10).into_keys().collect::<Vec<_>>(), [1]);
    source.resume(&[0]).unwrap();
    assert_eq!(offsets(&read(&mut source, 10)[&0]), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_pause_amid_records_loses_and_repeats_none() {
    let broker = EmbeddedBroker::start("t", 1).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    write(&producer(&settings), 0, 0, 3000);
    let mut source = source(&settings, &[(0, 0)]).unwrap();
    let mut seen = offsets(&read(&mut source, 1000)[&0]);
    source.pause(&[0]).unwrap();
    assert!(matches!(source.poll(10, 1 << 20, Duration::ZERO).unwrap(), Poll::Nothing));
    source.resume(&[0]).unwrap();
    seen.extend(offsets(&read(&mut source, 2000)[&0]));
    assert_eq!(seen, (0..3000).collect::<Vec<_>>());
}

#[test]
fn evicted_records_are_told_as_data_loss_and_can_be_skipped() {
    let broker = EmbeddedBroker::start("t", 1).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    let producer = producer(&settings);
    let megabyte = vec![b'x'; 1_000_000];
    for _ in 0..10 {
        assert!(producer.send(Some(0), None, Some(&megabyte), 0, PATIENCE).unwrap());
        assert!(producer.flush(PATIENCE));
    }
    let mut source = source(&settings, &[(0, 0)]).unwrap();
    let found = poll_until(&mut source, |_, found| match found {
        Poll::DataLoss { partition: 0, expected: 0, found, end: 10 } => Some(found),
        Poll::Batch(_) | Poll::DataLoss { .. } => panic!("{found:?}"),
        _ => None,
    });
    source.skip_to(0, found).unwrap();
    assert_eq!(offsets(&read(&mut source, (10 - found) as usize)[&0]), (found..10).collect::<Vec<_>>());
}

#[test]
fn an_embedded_broker_out_of_reach_is_told_and_reading_goes_on_when_it_is_back() {
    let broker = EmbeddedBroker::start("t", 1).unwrap();
    let settings = settings(broker.bootstrap(), "t");
    let producer = producer(&settings);
    write(&producer, 0, 0, 10);
    let mut source = source(&settings, &[(0, 0)]).unwrap();
    read(&mut source, 10);
    {
        let _alone = kafka_support::STARTING.lock().unwrap();
        broker.set_reachable(false);
    }
    poll_until(&mut source, |_, found| matches!(found, Poll::Unavailable(_)).then_some(()));
    broker.set_reachable(true);
    write(&producer, 0, 10, 20);
    assert_eq!(offsets(&read(&mut source, 10)[&0]), (10..20).collect::<Vec<_>>());
}

#[test]
fn a_missing_topic_is_waited_for_until_cancelled() {
    let broker = EmbeddedBroker::start("t", 1).unwrap();
    let admin = Admin::new(&settings(broker.bootstrap(), "other")).unwrap();
    let cancel = AtomicBool::new(false);
    let mut told = Vec::new();
    let mut on_wait = |why: &str| {
        told.push(why.to_owned());
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    assert!(admin.wait_for_topic(None, &mut on_wait, &cancel).is_err());
    assert!(told.len() == 1 && told[0].starts_with("there is no such topic: topic=other; "), "{told:?}");
}

/// One broker for all of these: starting one takes seconds.
#[test]
fn on_a_real_broker() {
    let Some(broker) = RealKafka::start() else { return };
    starts_by_time_and_offsets(&broker);
    removed_records_are_data_loss(&broker);
    a_topic_made_anew_is_data_loss(&broker);
    a_new_partition_is_read(&broker);
    an_outage_is_survived(&broker);
}

fn topic(broker: &RealKafka, topic: &str, partitions: i32) -> (Settings, Admin, Producer) {
    let settings = settings(&broker.bootstrap(), topic);
    let admin = Admin::new(&settings).unwrap();
    assert!(admin.create_topic(partitions, 1).unwrap());
    assert!(!admin.create_topic(partitions, 1).unwrap());
    let found = admin.wait_for_topic(None, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    assert_eq!(found, (0..partitions).collect::<Vec<_>>());
    let producer = producer(&settings);
    (settings, admin, producer)
}

fn starts_by_time_and_offsets(broker: &RealKafka) {
    let (_, admin, producer) = topic(broker, "starts", 2);
    write(&producer, 0, 0, 100);
    write(&producer, 1, 0, 50);
    let next = |start: Start| admin.start_offsets(&start, &[0, 1]).unwrap();
    assert_eq!(next(Start::Earliest), BTreeMap::from([(0, 0), (1, 0)]));
    assert_eq!(next(Start::Latest), BTreeMap::from([(0, 100), (1, 50)]));
    assert_eq!(next(Start::Timestamp(60_000_000)), BTreeMap::from([(0, 59), (1, 50)]));
    assert_eq!(next(Start::Timestamp(29_999_500)), BTreeMap::from([(0, 29), (1, 29)]));
    assert_eq!(next(Start::Offsets(BTreeMap::from([(0, 7), (1, -1)]))), BTreeMap::from([(0, 7), (1, 50)]));
}

fn removed_records_are_data_loss(broker: &RealKafka) {
    let (settings, admin, producer) = topic(broker, "removed", 1);
    write(&producer, 0, 0, 100);
    admin.delete_records_before(0, 40).unwrap();
    let mut source = source(&settings, &[(0, 10)]).unwrap();
    let loss = poll_until(&mut source, |_, found| match found {
        Poll::DataLoss { partition, expected, found, end } => Some((partition, expected, found, end)),
        _ => None,
    });
    assert_eq!(loss, (0, 10, 40, 100));
    source.skip_to(0, 40).unwrap();
    assert_eq!(offsets(&read(&mut source, 60)[&0]), (40..100).collect::<Vec<_>>());
    source.commit_offsets(&[(0, 100)]);
}

fn a_topic_made_anew_is_data_loss(broker: &RealKafka) {
    let (settings, admin, producer) = topic(broker, "anew", 1);
    write(&producer, 0, 0, 100);
    admin.delete_topic().unwrap();
    let started = Instant::now();
    while !admin.create_topic(1, 1).is_ok_and(|made| made) {
        assert!(started.elapsed() < PATIENCE);
    }
    admin.wait_for_topic(None, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    let mut source = source(&settings, &[(0, 100)]).unwrap();
    let loss = poll_until(&mut source, |_, found| match found {
        Poll::DataLoss { expected, found, end, .. } => Some((expected, found, end)),
        _ => None,
    });
    assert_eq!(loss, (100, 0, 0));
}

fn a_new_partition_is_read(broker: &RealKafka) {
    let (settings, admin, first) = topic(broker, "grows", 1);
    write(&first, 0, 0, 10);
    let mut source = source(&settings, &[(0, 0)]).unwrap();
    read(&mut source, 10);
    admin.add_partitions(2).unwrap();
    poll_until(&mut source, |_, _| (admin.partitions().is_ok_and(|found| found == [0, 1])).then_some(()));
    write(&producer(&settings), 1, 0, 5);
    source.add(1, 0).unwrap();
    assert_eq!(offsets(&read(&mut source, 5)[&1]), (0..5).collect::<Vec<_>>());
}

fn an_outage_is_survived(broker: &RealKafka) {
    let (settings, admin, producer) = topic(broker, "outage", 1);
    write(&producer, 0, 0, 10);
    let mut source = source(&settings, &[(0, 0)]).unwrap();
    read(&mut source, 10);
    broker.stop();
    poll_until(&mut source, |_, found| matches!(found, Poll::Unavailable(_)).then_some(()));
    let mut told = 0;
    let cancel = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| admin.wait_for_topic(None, &mut |_| told += 1, &cancel));
        broker.start_again();
        assert_eq!(waiting.join().unwrap().unwrap(), [0]);
    });
    assert!(told >= 1);
    write(&producer, 0, 10, 20);
    assert_eq!(offsets(&read(&mut source, 10)[&0]), (10..20).collect::<Vec<_>>());
}
