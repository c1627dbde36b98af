//! Exactly once: whatever happens to the process, the committed rows are those of a batch recomputation of the topic.
//!
//! `WASMILL_EVENTS` sets how many events the real broker gets (200,000 unless set), `WASMILL_SEED` repeats a run's
//! random moments.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "support/kafka.rs"]
#[allow(dead_code, reason = "not every test stops its broker")]
mod kafka_support;
#[allow(dead_code, reason = "other tests use more of it")]
mod support;

use kafka_support::RealKafka;
use std::time::{Duration, Instant};
use support::job::{Job, poll_until};
use support::oracle::Expected;
use support::topic::{PARTITIONS, Random, SECOND, TOPIC, expected, generate, job, timed, write, write_odd_records};
use wasmill::clock::now_us;
use wasmill::kafka::EmbeddedBroker;

/// A topic of an embedded broker in this process, which outlives the processes that use it. It keeps 5 MB a partition.
///
/// Partition 0 begins with an event of 20 minutes later than the others: a restart that forgets the partition's
/// watermark, and so what is too late there, is found out.
fn small_topic(events: u64) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start(TOPIC, PARTITIONS).unwrap();
    let leap = timed(now_us() - 600 * SECOND, r#""user_id":"leap","event_type":"click","page":"/""#);
    write(broker.bootstrap(), now_us() - 1800 * SECOND, &[(0, Some(leap))]);
    generate(broker.bootstrap(), 0, events, "30m", &[]);
    broker
}

/// Slow enough for dozens of checkpoints: no kill comes after the end.
fn in_small_steps(records: usize) -> [String; 2] {
    [format!("source.max_offsets_per_trigger={}", records / 80 + 1), "checkpoint.interval=100ms".to_owned()]
}

/// Runs the job to its end, with kill -9 at five random moments before.
fn run_with_five_kills(job: &Job, expected: &Expected) {
    let mut random = Random::new("WASMILL_SEED");
    for workers in ["2", "1", "3", "2", "1"] {
        let mut process = job.start(&["--drain", "--workers", workers]);
        let checkpoint = job.checkpoint() + random.below(5);
        poll_until("the checkpoint is there", || (job.checkpoint() >= checkpoint).then_some(()));
        // Anywhere in between: while reading, cutting, writing, publishing, renaming.
        std::thread::sleep(Duration::from_millis(random.below(300)));
        assert!(process.is_running(), "it ended before it could be killed");
        process.signal("KILL");
        let (status, _) = process.wait();
        println!("killed at checkpoint {} with {workers} workers: {status}", job.checkpoint());
        job.assert_no_more_than(expected);
    }
    job.run(&["--drain", "--workers", "2"]);
}

#[test]
fn one_worker_two_workers_and_five_kills_commit_what_a_batch_job_computes() {
    let Some(broker) = RealKafka::start() else { return };
    let events = std::env::var("WASMILL_EVENTS").map_or(200_000, |events| events.parse().unwrap());
    let bootstrap = broker.bootstrap();
    let mut started = Instant::now();
    let mut lap = |what: &str| {
        println!("{:6.1} s {what}", started.elapsed().as_secs_f64());
        started = Instant::now();
    };
    generate(&bootstrap, 0, events, "2h", &["--create", "--partitions", "4"]);
    write_odd_records(&bootstrap);
    lap("generated");
    let expected = expected(&bootstrap);
    lap("recomputed");
    println!(
        "{} records: {} rows ({} with the broker's time), {} dead letters, {} filtered; {} + {} + {} rows out; late {:?}",
        expected.records,
        expected.events_raw.len(),
        expected.broker_time,
        expected.dead_letters.len(),
        expected.filtered,
        expected.page_metrics.len(),
        expected.geo_metrics.len(),
        expected.sessions.len(),
        expected.late.iter().map(|(name, rows)| (*name, rows.len())).collect::<Vec<_>>(),
    );
    assert!(expected.late.values().all(|rows| rows.len() as u64 > events / 200), "late rows are part of the test");
    assert!(expected.dead_letters.len() as u64 > events / 2000, "dead letters are part of the test");
    for workers in ["1", "2"] {
        let job = job(&bootstrap, &["checkpoint.interval=1s"]);
        job.run(&["--drain", "--workers", workers]);
        lap(&format!("run with {workers} workers"));
        job.assert_equals(&expected);
        lap("compared");
    }
    let slow = in_small_steps(expected.records);
    let job = job(&bootstrap, &[&slow[0], &slow[1]]);
    run_with_five_kills(&job, &expected);
    lap("run with five kills");
    job.assert_equals(&expected);
    lap("compared");
}

#[test]
fn five_kills_change_nothing_on_the_embedded_broker_either() {
    let broker = small_topic(20_000);
    write_odd_records(broker.bootstrap());
    let expected = expected(broker.bootstrap());
    let slow = in_small_steps(expected.records);
    let job = job(broker.bootstrap(), &[&slow[0], &slow[1]]);
    run_with_five_kills(&job, &expected);
    job.assert_equals(&expected);
}

#[test]
fn a_job_stopped_in_the_middle_of_a_backlog_goes_on_to_the_same_rows() {
    let broker = small_topic(20_000);
    write_odd_records(broker.bootstrap());
    let expected = expected(broker.bootstrap());
    let slow = in_small_steps(expected.records);
    let job = job(broker.bootstrap(), &[&slow[0], &slow[1]]);
    for _ in 0..2 {
        let checkpoint = job.checkpoint() + 4;
        let process = job.start(&["--workers", "2"]);
        poll_until("it is in the middle", || (job.checkpoint() >= checkpoint).then_some(()));
        process.signal("TERM");
        let (status, log) = process.wait();
        assert!(status.success(), "{status}: {log}");
        assert!(log.contains("stopped after the final checkpoint"), "{log}");
        assert!(job.rows("events_raw").len() < expected.events_raw.len(), "that was not the middle");
        job.assert_no_more_than(&expected);
    }
    job.run(&["--drain", "--workers", "1"]);
    job.assert_equals(&expected);
}

#[test]
fn a_second_signal_exits_at_once_and_loses_nothing() {
    let broker = small_topic(20_000);
    let expected = expected(broker.bootstrap());
    let slow = in_small_steps(expected.records);
    let job = job(broker.bootstrap(), &[&slow[0], &slow[1]]);
    let process = job.start(&["--workers", "2"]);
    poll_until("it is in the middle", || (job.checkpoint() >= 5).then_some(()));
    process.signal("TERM");
    process.signal("INT");
    let (status, log) = process.wait();
    // The final checkpoint may be quicker than the second signal.
    assert!(matches!(status.code(), Some(130 | 0)), "{status}: {log}");
    job.assert_no_more_than(&expected);
    job.run(&["--drain", "--workers", "2"]);
    job.assert_equals(&expected);
}

#[test]
fn windows_left_open_by_a_run_until_caught_up_go_on_in_the_next() {
    let broker = small_topic(10_000);
    let job = job(broker.bootstrap(), &["checkpoint.interval=200ms"]);
    job.run(&["--until-caught-up", "--workers", "2"]);
    let before: Vec<usize> = ["events_raw", "sessions"].map(|output| job.rows(output).len()).to_vec();
    // Nothing new: nothing closes.
    job.run(&["--until-caught-up", "--workers", "1"]);
    assert_eq!(before, ["events_raw", "sessions"].map(|output| job.rows(output).len()));
    generate(broker.bootstrap(), 10_000, 10_000, "20s", &[]);
    let expected = expected(broker.bootstrap());
    assert!(before[0] < expected.events_raw.len() && before[1] < expected.sessions.len());
    job.assert_no_more_than(&expected);
    job.run(&["--drain", "--workers", "2"]);
    job.assert_equals(&expected);
}
