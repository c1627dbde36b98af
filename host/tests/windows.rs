//! The real binary's windows: days of a zone, and rows that come too late for sessions.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use job::{BROKER_TIME_MS, Job, click, clicks, files, write};
use wasmill::kafka::EmbeddedBroker;
use wasmill_pipeline::window::DATA_VERSION;

/// An event at this time.
fn click_at(n: usize, time: &str) -> Vec<u8> {
    let seconds = chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp() - BROKER_TIME_MS / 1000;
    click(n, "/a", seconds)
}

/// The windows of a job: their starts, hours and events, sorted.
fn days(job: &Job) -> Vec<(String, i64, i64)> {
    let mut days = Vec::new();
    for batch in job.rows("counts") {
        let instants = |name: &str| batch[name].as_primitive::<TimestampMicrosecondType>().values().to_vec();
        let events = batch["events"].as_primitive::<Int64Type>().values().to_vec();
        for ((start, end), events) in instants("window_start").into_iter().zip(instants("window_end")).zip(events) {
            let shown = chrono::DateTime::from_timestamp_micros(start).unwrap().to_rfc3339();
            days.push((shown, (end - start) / 3_600_000_000, events));
        }
    }
    days.sort();
    days
}

#[test]
fn a_day_of_a_zone_has_25_hours_when_its_clock_is_set_back_and_a_folder_of_its_date() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let times = ["2023-10-28T21:59:59Z", "2023-10-28T22:00:00Z", "2023-10-29T22:59:59Z", "2023-10-29T23:00:00Z"];
    let events: Vec<_> = times.iter().enumerate().map(|(n, time)| Some(click_at(n, time))).collect();
    write(broker.bootstrap(), "events", 0, &events);
    let job = Job::clicks(broker.bootstrap(), "events");
    let berlin = ["aggregate.counts.window.zone=Europe/Berlin", "aggregate.counts.window.tumbling=1d"];
    let run = ["--drain", "--set", berlin[0], "--set", berlin[1], "--set", "output.partition_by=dt"];
    job.run(&run).expect(0);
    assert_eq!(
        days(&job),
        [
            ("2023-10-27T22:00:00+00:00".to_owned(), 24, 1),
            ("2023-10-28T22:00:00+00:00".to_owned(), 25, 2),
            ("2023-10-29T23:00:00+00:00".to_owned(), 24, 1)
        ]
    );
    let folders = |output: &str| {
        let dated = files(&job.output().join(output)).into_iter().filter_map(|path| {
            let folder = path.parent()?.file_name()?.to_str()?;
            Some(folder.strip_prefix("dt=")?.to_owned())
        });
        dated.collect::<Vec<_>>()
    };
    assert_eq!(folders("counts"), ["2023-10-28", "2023-10-29", "2023-10-30"]);
    assert_eq!(folders("events_raw"), ["2023-10-28", "2023-10-29"]);
    let file = &files(&job.output().join("counts"))[0];
    let explained = job::run(&["explain", file.to_str().unwrap()]).expect(0);
    let data = format!("time zones     IANA data {DATA_VERSION}");
    assert!(explained.stdout.contains(&data), "{}", explained.stdout);
}

#[test]
fn rows_too_late_for_a_session_by_less_than_the_gap_are_told_once_with_the_setting() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let mut events = clicks(0, 60);
    events.extend([Some(click(60, "/a", 5)), Some(click(61, "/b", 6))]);
    write(broker.bootstrap(), "events", 0, &events);
    let job = Job::clicks(broker.bootstrap(), "events");
    let file = std::fs::read_to_string(job.file()).unwrap();
    std::fs::write(job.file(), file.replace("tumbling = \"10s\"", "session = \"10m\"")).unwrap();
    let ended = job.run(&["--drain"]).expect(0);
    ended.says(&["rows came too late for sessions by less than the gap", "aggregate.counts.allowed_lateness"]);
    assert_eq!(ended.stderr.matches("rows came too late for sessions").count(), 1, "{}", ended.stderr);
    assert_eq!(job.count("_late/counts"), 2);

    let generous = Job::clicks(broker.bootstrap(), "events");
    std::fs::write(generous.file(), std::fs::read_to_string(job.file()).unwrap()).unwrap();
    let out = format!("output.path={}", generous.output().display());
    let checkpoints = format!("checkpoint.path={}", generous.checkpoints().display());
    let late = "aggregate.counts.allowed_lateness=10m";
    let ended = generous.run(&["--drain", "--set", late, "--set", &out, "--set", &checkpoints]).expect(0);
    assert!(!ended.stderr.contains("too late for sessions"), "{}", ended.stderr);
    assert_eq!(generous.counted(), 62);
}
