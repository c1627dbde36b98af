//! Runs that end by themselves, again and again: what they give follows from the topic, whatever the clock says. And where a
//! first run may start.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{BROKER_TIME_MS, Job, click};
use std::collections::BTreeMap;
use std::time::Duration;
use wasmill::kafka::{EmbeddedBroker, Producer, ProducerSettings};

/// Clicks `from..to`, one each second, each with a broker time of its own second.
fn write(broker: &EmbeddedBroker, partition: i32, from: usize, to: usize) {
    let settings = ProducerSettings {
        bootstrap: broker.bootstrap().to_owned(),
        topic: "t".into(),
        client_id: "test".into(),
        acks: "all".into(),
        compression: "none".into(),
        passthrough: BTreeMap::new(),
    };
    let producer = Producer::new(&settings, 0, |_| {}).unwrap();
    let patience = Duration::from_secs(30);
    for n in from..to {
        let time_ms = BROKER_TIME_MS + 1000 * n as i64;
        let value = click(n, "/a", n as i64);
        assert!(producer.send(Some(partition), None, Some(&value), time_ms, patience).unwrap());
    }
    assert!(producer.flush(patience));
}

/// The rows of a run are its windows of ten seconds, as all clicks are on one page.
const UNTIL: [&str; 3] = ["--until-caught-up", "--set", "time.idle_timeout=30s"];

#[test]
fn an_empty_partition_does_not_hold_the_windows_of_a_run_that_ends() {
    let broker = EmbeddedBroker::start("t", 3).unwrap();
    let job = Job::clicks(broker.bootstrap(), "t");
    for run in 1..4 {
        write(&broker, 0, 100 * (run - 1), 100 * run);
        job.run(&UNTIL).expect(0).says(&["groups stay open for the next run: counts ", "partition 0 stands at "]);
        // All but what lies within the watermark's delay of ten seconds.
        assert_eq!(job.count("counts"), 10 * run - 2, "run {run}");
    }
    job.run(&["--drain"]).expect(0);
    job::exactly_once(&job, 300);
}

#[test]
fn a_partition_that_fell_silent_holds_until_others_went_on_for_longer_than_the_timeout() {
    let broker = EmbeddedBroker::start("t", 2).unwrap();
    let job = Job::clicks(broker.bootstrap(), "t");
    write(&broker, 1, 0, 20);
    write(&broker, 0, 20, 49);
    job.run(&UNTIL).expect(0).says(&["partition 1 stands at 2023-11-14T22:13:29Z"]);
    assert_eq!(job.count("counts"), 0, "partition 1 may still be only late by 29 seconds");
    // In a run of its own, in which partition 1 has nothing new: the checkpoint knows when it fell silent.
    write(&broker, 0, 49, 51);
    job.run(&UNTIL).expect(0).says(&["partition 0 stands at 2023-11-14T22:14:00Z"]);
    assert_eq!(job.count("counts"), 4);
    job.run(&["--drain"]).expect(0);
    job::exactly_once(&job, 51);
}

#[test]
fn without_an_idle_timeout_every_partition_holds() {
    let broker = EmbeddedBroker::start("t", 2).unwrap();
    let job = Job::clicks(broker.bootstrap(), "t");
    write(&broker, 0, 0, 100);
    let run = job.run(&["--until-caught-up", "--set", "time.idle_timeout=off"]).expect(0);
    run.says(&["partition 1 has no event yet whose time counts"]);
    assert_eq!(job.count("counts"), 0);
}

#[test]
fn a_run_that_ends_waits_for_no_broker_or_topic_that_never_comes() {
    let broker = EmbeddedBroker::start("t", 1).unwrap();
    for (bootstrap, topic, missing) in [
        ("127.0.0.1:1", "t", "127.0.0.1:1 refuses connections"),
        (broker.bootstrap(), "other", "there is no such topic: topic=other; "),
    ] {
        let job = Job::clicks(bootstrap, topic);
        for end in ["--until-caught-up", "--drain"] {
            let run = job.run(&[end, "--wait-for-broker", "1s"]).expect(4);
            run.says(&["kafka did not give all that is to be read: ", missing, "source.wait_for_broker"]);
        }
    }
}

#[test]
fn start_offsets_that_the_topic_cannot_have_are_mistakes_told_at_once() {
    let broker = EmbeddedBroker::start("t", 2).unwrap();
    let job = Job::clicks(broker.bootstrap(), "t");
    write(&broker, 0, 0, 10);
    let run = job.run(&["--drain", "--set", "source.start={\"0\": 5000, \"7\": 0}"]).expect(2);
    run.says(&[
        "beyond the end: partition=0 offset=5000 first_offset=0 end_offset=10",
        "no such partition: partition=7 offset=0 partitions_there=0, 1",
    ]);
    assert!(job::events(&job).is_empty());
}

#[test]
fn a_partition_without_a_start_offset_begins_at_its_first_record() {
    let broker = EmbeddedBroker::start("t", 2).unwrap();
    let job = Job::clicks(broker.bootstrap(), "t");
    write(&broker, 0, 0, 10);
    write(&broker, 1, 10, 20);
    let run = job.run(&["--drain", "--set", "source.start={\"0\": 10}"]).expect(0);
    run.says(&["no start offset is given: from the first record on partition=1 first_offset=0"]);
    job::these_once(&job, 10..20);
}
