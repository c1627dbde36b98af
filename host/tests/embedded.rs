//! The reference job as `make run` runs it: broker, generator and pipeline in one process.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

#[allow(dead_code, reason = "other tests use more of it")]
mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use support::job::{AGGREGATES, Job, Process, poll_until};
use support::oracle::{Event, Expected, Rules};
use support::rows::{assert_same, cell, parquet};

const SECOND: i64 = 1_000_000;

const RULES: Rules = Rules {
    watermark_delay: SECOND,
    max_ahead: 3600 * SECOND,
    page_window: 2 * SECOND,
    page_slide: 2 * SECOND,
    geo_window: SECOND,
    geo_lateness: SECOND,
    session_gap: SECOND / 2,
    session_lateness: 0,
};

const SETTINGS: [&str; 15] = [
    "time.watermark_delay=1s",
    "time.idle_timeout=off",
    "aggregate.page_metrics.window.tumbling=2s",
    "aggregate.geo_metrics.window.tumbling=1s",
    "aggregate.geo_metrics.allowed_lateness=1s",
    "aggregate.sessions.window.session=500ms",
    "checkpoint.interval=300ms",
    "output.roll.age=1s",
    "generator.config.users=1000",
    "generator.config.jitter_ms=500",
    "generator.config.late_share=0.01",
    "generator.config.late_by_s=4",
    "generator.config.malformed_share=0.001",
    "generator.config.no_time_share=0.001",
    "generator.seed=3",
];

/// The address in the log line that tells it.
fn address(process: &Process) -> String {
    poll_until("the web page's address is told", || {
        let log = process.log();
        let at = log.find("web page at http://")? + "web page at http://".len();
        let (address, _) = log[at..].split_once('\n')?;
        Some(address.trim().to_owned())
    })
}

/// Status line and body of the answer.
fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// The number before this word in the last line of the log that has it.
fn count(log: &str, word: &str) -> usize {
    let line = log.lines().rfind(|line| line.contains("after the final checkpoint")).unwrap();
    let (before, _) = line.split_once(word).unwrap();
    before.trim_end().rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_run_on_the_embedded_broker_answers_and_commits_what_its_raw_events_make() {
    let job = Job::new("", "events", &SETTINGS);
    let taps = ["--tap", "raw", "--tap", "parsed", "--tap", "page_metrics"];
    // With several workers, each has closed its own keys' windows up to a moment of its own when it stops: then the
    // last row found would not tell which windows are closed. `exactly_once` runs several.
    let more = ["--workers", "1", "--listen", "127.0.0.1:0", "--set", "generator.rate=5000"];
    let process = job.start(&[&taps[..], &more].concat());
    let address = address(&process);
    poll_until("it is ready", || get(&address, "/readyz").0.contains("200").then_some(()));
    assert!(get(&address, "/healthz").0.contains("200"));
    poll_until("three windows are committed", || {
        let rows = job.rows("page_metrics");
        let mut windows: Vec<&str> = rows.iter().map(|row| cell(row, 0)).collect();
        windows.dedup();
        (windows.len() >= 3).then_some(())
    });
    let status: serde_json::Value = serde_json::from_str(&get(&address, "/api/v1/status").1).unwrap();
    assert!(matches!(status["state"].as_str(), Some("running" | "catching_up")), "{status}");
    assert!(status["accounting"]["closed"].as_bool().unwrap() && status["rows"].as_u64().unwrap() > 0, "{status}");
    let (head, metrics) = get(&address, "/metrics");
    assert!(head.contains("200") && metrics.contains("wasmill_"), "{metrics}");
    process.signal("TERM");
    let (status, log) = process.wait();
    assert!(status.success(), "{status}: {log}");
    for tap in ["\nraw ", "\nparsed ", "\npage_metrics "] {
        assert!(log.contains(tap), "no line of tap {tap}: {log}");
    }
    assert!(log.contains("the accounting closes"), "{log}");
    compare(&job, &log);
}

/// The files of a run against its log and against a recomputation of its raw events.
fn compare(job: &Job, log: &str) {
    let raw = job.rows("events_raw");
    let dead = parquet(&job.outputs().join("_dead_letters"), Some(&["partition", "offset"]));
    assert_eq!((count(log, "rows ("), count(log, "dead letters")), (raw.len(), dead.len()));
    assert_eq!(count(log, "records,"), raw.len() + dead.len());
    let mut events: Vec<Event> = raw.iter().map(|row| Event::of_row(row)).collect();
    events.sort_unstable_by_key(|event| (event.partition, event.offset));

    let mut origins: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let dead = dead.iter().map(|row| (cell(row, 0).parse().unwrap(), cell(row, 1).parse().unwrap()));
    let all = events.iter().map(|event| (i64::from(event.partition), event.offset)).chain(dead);
    all.for_each(|(partition, offset)| origins.entry(partition).or_default().push(offset));
    for (partition, offsets) in &mut origins {
        offsets.sort_unstable();
        let all: Vec<i64> = (0..offsets.len() as i64).collect();
        assert_eq!(*offsets, all, "every record of partition {partition}, once");
    }

    let expected = Expected::of_events(&events, &RULES);
    for (name, late) in &expected.late {
        let missed = ["partition", "offset", "window_start", "window_end", "late_by_us"];
        let found = parquet(&job.outputs().join("_late").join(name), Some(&missed));
        assert!(!late.is_empty());
        assert_same(&format!("_late/{name}"), late, &found);
    }
    let all = [&expected.page_metrics, &expected.geo_metrics, &expected.sessions];
    for (name, expected) in AGGREGATES.into_iter().zip(all) {
        let found = job.rows(name);
        let end = |row: &String| cell(row, 1).parse::<i64>().unwrap();
        // What has not closed by then never will: this broker forgets.
        let last = found.iter().map(end).max().unwrap();
        let closed: Vec<String> = expected.iter().filter(|row| end(row) <= last).cloned().collect();
        assert_same(name, &closed, &found);
    }
}
