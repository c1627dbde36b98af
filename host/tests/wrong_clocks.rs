//! Wrong clocks on the real binary: whoever has one, everybody else's events count.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{BROKER_TIME_MS, Finished, Job, PATIENCE, click};
use std::collections::BTreeMap;
use wasmill::kafka::{EmbeddedBroker, Producer, ProducerSettings};

const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;
const TRUST: [&str; 4] = ["--set", "time.trust=claims", "--set", "time.max_jump=10m"];

/// Writes clicks of one partition: when each happened, and what its producer wrote as the broker's time, in seconds.
fn write(broker: &EmbeddedBroker, partition: i32, clicks: &[(i64, i64)]) {
    let settings = ProducerSettings {
        bootstrap: broker.bootstrap().to_owned(),
        topic: "events".into(),
        client_id: "test".into(),
        acks: "all".into(),
        compression: "none".into(),
        passthrough: BTreeMap::new(),
    };
    let producer = Producer::new(&settings, 0, |_| {}).unwrap();
    for (n, (happened, seen)) in clicks.iter().enumerate() {
        let (payload, seen_ms) = (click(n, "/a", *happened), BROKER_TIME_MS + 1_000 * seen);
        assert!(producer.send(Some(partition), None, Some(&payload), seen_ms, PATIENCE).unwrap());
    }
    assert!(producer.flush(PATIENCE));
}

/// Clicks each second, seen when they happen.
fn right(seconds: std::ops::Range<i64>) -> Vec<(i64, i64)> {
    seconds.map(|second| (second, second)).collect()
}

/// A minute of right clicks, one, and two more minutes.
fn around(click: (i64, i64)) -> Vec<(i64, i64)> {
    [right(0..60), vec![click], right(61..180)].concat()
}

fn drained(job: &Job, more: &[&str]) -> Finished {
    job.run(&[&["--drain"], &TRUST[..], more].concat()).expect(0)
}

#[test]
fn one_wrong_clock_makes_nobody_else_late() {
    let seconds_for_ms = BROKER_TIME_MS / 1_000_000 - BROKER_TIME_MS / 1_000;
    let partitions: [Vec<(i64, i64)>; 8] = [
        around((60 + HOUR - 60, 60)),
        around((60 + HOUR, 60 + HOUR)),
        around((60 + YEAR, 60 + YEAR)),
        around((60 - YEAR, 60)),
        [vec![(YEAR, YEAR)], right(0..180)].concat(),
        [right(0..60), vec![(HOUR, HOUR); 7], right(60..180)].concat(),
        [right(0..60), right(60..120).into_iter().flat_map(|(s, _)| [(s, s), (s + HOUR, s + HOUR)]).collect()].concat(),
        // The broker's times are of January 1970.
        (0..180).map(|second| (second, seconds_for_ms)).collect(),
    ];
    let broker = EmbeddedBroker::start("events", partitions.len() as i32).unwrap();
    for (partition, clicks) in (0..).zip(&partitions) {
        write(&broker, partition, clicks);
    }
    let job = Job::clicks(broker.bootstrap(), "events");
    let end = drained(&job, &[]);
    let all: usize = partitions.iter().map(Vec::len).sum();
    // The one that is a year behind is late itself.
    assert_eq!(
        (job.count("events_raw"), job.counted(), job.count("_late/counts")),
        (all, all as u64 - 1, 1),
        "{}",
        end.stderr
    );
}

#[test]
fn a_time_beyond_max_ahead_is_a_dead_letter_that_names_both_times_and_the_setting() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(&broker, 0, &around((60 + 24 * HOUR, 60)));
    let job = Job::clicks(broker.bootstrap(), "events");
    let end = drained(&job, &[]);
    assert_eq!((job.counted(), job.count("_late/counts")), (179, 0), "{}", end.stderr);
    let message = "event time 2023-11-15T22:14:20Z is 1d after the broker's timestamp 2023-11-14T22:14:20Z; \
                   time.max_ahead is 1h";
    assert_eq!(job.column("_dead_letters", "message"), [message]);
}

#[test]
fn a_restart_amid_suspects_changes_nothing() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let job = Job::clicks(broker.bootstrap(), "events");
    // Seven wrong before the restart, one after it: eight in a row, of which the smallest is believed then.
    write(&broker, 0, &[right(0..60), vec![(HOUR, HOUR); 7]].concat());
    job.run(&[&["--until-caught-up"], &TRUST[..]].concat()).expect(0);
    write(&broker, 0, &[vec![(HOUR + 30, HOUR + 30)], right(60..90)].concat());
    let end = drained(&job, &[]);
    assert_eq!((job.counted(), job.count("_late/counts")), (68, 30), "{}", end.stderr);
}

#[test]
fn a_watermark_that_a_wrong_clock_moved_ahead_is_told_and_can_be_set_back() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let job = Job::clicks(broker.bootstrap(), "events");
    write(&broker, 0, &around((60 + 20 * YEAR, 60 + 20 * YEAR)));
    job.run(&["--until-caught-up"]).expect(0);
    assert_eq!(job.count("_late/counts"), 119, "any time is believed in this file");

    write(&broker, 0, &right(180..240));
    let end = job.run(&[&["--until-caught-up"], &TRUST[..]].concat()).expect(0);
    assert_eq!(job.count("_late/counts"), 179);
    end.says(&["ahead of this machine's clock: rows before it are too late", "--lower-watermark TIME"]);

    write(&broker, 0, &right(240..300));
    let back = ["--lower-watermark", "2023-11-14T22:17:20Z"];
    let end = drained(&job, &back);
    end.says(&["the watermark is set back from 2043-", "to 2023-11-14T22:17:20Z, as was asked"]);
    assert_eq!((job.count("_late/counts"), job.counted()), (179, 61 + 60), "{}", end.stderr);
}
