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
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::job::{Job, poll_until, read_topic, wasmill};
use support::oracle::{Expected, Rules};
use wasmill::clock::now_us;
use wasmill::kafka::{EmbeddedBroker, Producer, ProducerSettings};

const TOPIC: &str = "events";
const PARTITIONS: i32 = 4;

const SECOND: i64 = 1_000_000;

const RULES: Rules = Rules {
    watermark_delay: 10 * SECOND,
    max_ahead: 3600 * SECOND,
    page_window: 60 * SECOND,
    geo_window: 20 * SECOND,
    geo_lateness: 15 * SECOND,
    session_gap: 30 * SECOND,
    session_lateness: 5 * SECOND,
};

/// The same for the pipeline, and files small enough for many.
const SETTINGS: [&str; 10] = [
    "time.watermark_delay=10s",
    "time.max_ahead=1h",
    "time.idle_timeout=off",
    "aggregate.page_metrics.window.tumbling=60s",
    "aggregate.geo_metrics.window.tumbling=20s",
    "aggregate.geo_metrics.allowed_lateness=15s",
    "aggregate.sessions.window.session=30s",
    "aggregate.sessions.allowed_lateness=5s",
    "output.roll.rows=20000",
    "output.roll.age=2s",
];

/// Generates events: 1 % later than the watermark, 0.1 % malformed, 0.1 % without time.
fn generate(bootstrap: &str, first: u64, count: u64, span: &str, more: &[&str]) {
    let numbers = [first, count].map(|number| number.to_string());
    // As many visitors as give each an event every 20 s: sessions of a few events.
    let users = format!("generator.config.users={}", (count / 330).max(10));
    let mut generator = wasmill(&["generate", "--rate", "0", "--acks", "all"]);
    generator.args(["--bootstrap-servers", bootstrap, "--topic", TOPIC, "--seed", "7", "--span", span]);
    generator.args(["--first", &numbers[0], "--count", &numbers[1], "--set", &users]);
    for share in ["late_share=0.01", "malformed_share=0.001", "no_time_share=0.001"] {
        generator.args(["--set", &format!("generator.config.{share}")]);
    }
    let output = generator.args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Writes records, all with this broker time, to their partitions.
fn write(bootstrap: &str, broker_time_us: i64, records: &[(i32, Option<String>)]) {
    let settings = ProducerSettings {
        bootstrap: bootstrap.to_owned(),
        topic: TOPIC.to_owned(),
        client_id: "test".to_owned(),
        acks: "all".to_owned(),
        compression: "none".to_owned(),
        passthrough: BTreeMap::new(),
    };
    let producer = Producer::new(&settings, 0, |_| {}).unwrap();
    for (partition, value) in records {
        let value = value.as_ref().map(String::as_bytes);
        assert!(producer.send(Some(*partition), None, value, broker_time_us / 1000, Duration::from_secs(30)).unwrap());
    }
    assert!(producer.flush(Duration::from_secs(30)));
    assert_eq!(producer.delivered().failed, 0);
}

/// An event at this time with these other fields.
fn timed(time_us: i64, rest: &str) -> String {
    let time = chrono::DateTime::from_timestamp_micros(time_us).unwrap().to_rfc3339();
    format!("{{\"event_time\":\"{time}\",{rest}}}")
}

/// Records that the generator does not make: text that needs quotes, sessions that just touch, times far ahead,
/// nothing at all.
fn write_odd_records(bootstrap: &str) {
    let now = now_us();
    let timed = |after_us: i64, rest: &str| timed(now + after_us, rest);
    let touching = r#""user_id":"touching","event_type":"purchase","page":"/a","revenue":0.1"#;
    let gap = RULES.session_gap;
    let records: Vec<(i32, Option<String>)> = vec![
        (0, Some(timed(0, touching))),
        (0, Some(timed(gap, touching))),
        (0, Some(timed(2 * gap + 1, touching))),
        (1, Some(timed(0, r#""user_id":"bridge","event_type":"click","page":"/1""#))),
        (0, Some(timed(2 * gap, r#""user_id":"bridge","event_type":"click","page":"/2""#))),
        (0, Some(timed(gap, r#""user_id":"late","event_type":"click","page":"/2""#))),
        (3, Some(timed(gap, r#""user_id":"bridge","event_type":"click","page":"/3""#))),
        (1, Some(timed(0, r#""user_id":"u,\"1\"","event_type":"click","page":"a,\"b\"\nc","country":"Österreich""#))),
        (1, Some(timed(0, r#""user_id":"\ud83d\ude00\u0062","event_type":"click","page":"\\","unknown":[{"a":1}]"#))),
        (1, Some(timed(0, r#""user_id":"no country","event_type":"click","page":"/","country":null,"revenue":-3"#))),
        (2, Some(timed(2 * RULES.max_ahead, r#""user_id":"ahead","event_type":"click","page":"/""#))),
        (2, Some(timed(0, r#""user_id":"u","event_type":"click","page":"/","page":"/""#))),
        (2, Some("[]".to_owned())),
        (2, Some("{}".to_owned())),
        (3, Some(r#"{"event_time":17,"user_id":"no time","event_type":"click","page":"/","revenue":3}"#.to_owned())),
        (3, None),
    ];
    write(bootstrap, now, &records);
}

fn expected(bootstrap: &str) -> Expected {
    Expected::of_records(TOPIC, read_topic(bootstrap, TOPIC, PARTITIONS), &RULES)
}

fn job(bootstrap: &str, more: &[&str]) -> Job {
    Job::new(bootstrap, TOPIC, &[&SETTINGS[..], more].concat())
}

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

/// Xorshift: random enough for moments.
struct Random(u64);

impl Random {
    /// Of `WASMILL_SEED`, or of the clock; the seed is printed.
    fn new() -> Self {
        let of_clock = || now_us().unsigned_abs();
        let seed = std::env::var("WASMILL_SEED").map_or_else(|_| of_clock(), |seed| seed.parse().unwrap());
        println!("random moments: WASMILL_SEED={seed}");
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Slow enough for dozens of checkpoints: no kill comes after the end.
fn in_small_steps(records: usize) -> [String; 2] {
    [format!("source.max_offsets_per_trigger={}", records / 80 + 1), "checkpoint.interval=100ms".to_owned()]
}

/// Runs the job to its end, with kill -9 at five random moments before.
fn run_with_five_kills(job: &Job, expected: &Expected) {
    let mut random = Random::new();
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
