//! The reference job's topic and settings: what is written there, how the job is cut, and what must come of it.

use super::job::{Job, wasmill};
use super::oracle::{Expected, Rules};
use super::reader::read_topic;
use std::collections::BTreeMap;
use std::time::Duration;
use wasmill::clock::now_us;
use wasmill::kafka::{Producer, ProducerSettings};

/// The topic.
pub(crate) const TOPIC: &str = "events";
/// Its partitions.
pub(crate) const PARTITIONS: i32 = 4;

/// In µs.
pub(crate) const SECOND: i64 = 1_000_000;

/// What the numbers depend on.
pub(crate) const RULES: Rules = Rules {
    watermark_delay: 10 * SECOND,
    max_ahead: 3600 * SECOND,
    page_window: 60 * SECOND,
    page_slide: 60 * SECOND,
    geo_window: 20 * SECOND,
    geo_lateness: 15 * SECOND,
    session_gap: 30 * SECOND,
    session_lateness: 5 * SECOND,
};

/// The same for the pipeline, and files small enough for many.
pub(crate) const SETTINGS: [&str; 10] = [
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
pub(crate) fn generate(bootstrap: &str, first: u64, count: u64, span: &str, more: &[&str]) {
    generate_to(bootstrap, TOPIC, first, count, span, more);
}

/// The same to another topic.
pub(crate) fn generate_to(bootstrap: &str, topic: &str, first: u64, count: u64, span: &str, more: &[&str]) {
    let numbers = [first, count].map(|number| number.to_string());
    // As many visitors as give each an event every 20 s: sessions of a few events.
    let users = format!("generator.config.users={}", (count / 330).max(10));
    let mut generator = wasmill(&["generate", "--rate", "0", "--acks", "all"]);
    generator.args(["--bootstrap-servers", bootstrap, "--topic", topic, "--seed", "7", "--span", span]);
    generator.args(["--first", &numbers[0], "--count", &numbers[1], "--set", &users]);
    for share in ["late_share=0.01", "malformed_share=0.001", "no_time_share=0.001"] {
        generator.args(["--set", &format!("generator.config.{share}")]);
    }
    let output = generator.args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Writes records, all with this broker time, to their partitions.
pub(crate) fn write(bootstrap: &str, broker_time_us: i64, records: &[(i32, Option<String>)]) {
    write_to(bootstrap, TOPIC, broker_time_us, records);
}

/// The same to another topic.
pub(crate) fn write_to(bootstrap: &str, topic: &str, broker_time_us: i64, records: &[(i32, Option<String>)]) {
    let settings = ProducerSettings {
        bootstrap: bootstrap.to_owned(),
        topic: topic.to_owned(),
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
pub(crate) fn timed(time_us: i64, rest: &str) -> String {
    let time = chrono::DateTime::from_timestamp_micros(time_us).unwrap().to_rfc3339();
    format!("{{\"event_time\":\"{time}\",{rest}}}")
}

/// Records that the generator does not make: text that needs quotes, sessions that just touch, times far ahead,
/// nothing at all.
pub(crate) fn write_odd_records(bootstrap: &str) {
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

/// What the topic, read to its end, must give.
pub(crate) fn expected(bootstrap: &str) -> Expected {
    expected_of(bootstrap, TOPIC)
}

/// The same of another topic.
pub(crate) fn expected_of(bootstrap: &str, topic: &str) -> Expected {
    Expected::of_records(topic, read_topic(bootstrap, topic, PARTITIONS), &RULES)
}

/// The job on the topic, with more settings.
pub(crate) fn job(bootstrap: &str, more: &[&str]) -> Job {
    Job::new(bootstrap, TOPIC, &[&SETTINGS[..], more].concat())
}

/// Xorshift: random enough for moments.
pub(crate) struct Random(u64);

impl Random {
    /// Of this environment variable, or of the clock; the seed is printed.
    pub(crate) fn new(variable: &str) -> Self {
        let of_clock = || now_us().unsigned_abs();
        let seed = std::env::var(variable).map_or_else(|_| of_clock(), |seed| seed.parse().unwrap());
        println!("random moments: {variable}={seed}");
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
