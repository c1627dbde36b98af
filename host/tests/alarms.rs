//! Alarms: what is said when much of the input is wrong, and that nothing is said when it is not.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{Finished, Job, click, until, write};
use std::io::{Read, Write};
use std::net::TcpStream;
use wasmill::kafka::EmbeddedBroker;

/// So many good and then so many bad records.
fn records(good: usize, bad: usize) -> Vec<Option<Vec<u8>>> {
    let good = (0..good).map(|n| Some(click(n, "/a", 0)));
    good.chain((0..bad).map(|_| Some(b"hello".to_vec()))).collect()
}

/// A run over these records of each partition, to its end.
fn drained(partitions: &[Vec<Option<Vec<u8>>>], args: &[&str]) -> Finished {
    let broker = EmbeddedBroker::start("events", partitions.len() as i32).unwrap();
    for (records, partition) in partitions.iter().zip(0..) {
        write(broker.bootstrap(), "events", partition, records);
    }
    Job::clicks(broker.bootstrap(), "events").run(&[&["--drain"], args].concat()).expect(0)
}

fn last_line(end: &Finished) -> &str {
    end.stderr.lines().next_back().unwrap()
}

/// What the page at this path answers.
fn ask(url: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_run_with_many_dead_letters_says_so_in_its_last_line() {
    let end = drained(&[records(20, 40)], &[]);
    let line = last_line(&end);
    assert!(line.contains(" WARN ") && line.contains("40 of 60 records are dead letters (malformed: "), "{line}");
    assert!(line.contains("topic=events partition=0 offset=59), 66.7 % where 1 % is an alarm"), "{line}");
    end.says(&["60 records, 20 rows", "the accounting closes"]);
}

#[test]
fn a_run_of_one_record_that_is_a_dead_letter_says_so() {
    let end = drained(&[records(0, 1)], &[]);
    assert!(last_line(&end).contains("1 of 1 records are dead letters (malformed: "), "{}", end.stderr);
}

#[test]
fn a_share_below_the_limit_is_no_alarm_and_one_at_the_limit_is() {
    assert!(last_line(&drained(&[records(991, 9)], &[])).contains("the accounting closes"));
    assert!(last_line(&drained(&[records(990, 10)], &[])).contains("10 of 1000 records are dead letters"));
    let off = drained(&[records(0, 60)], &["--set", "alarms.dead_letters=off"]);
    assert!(last_line(&off).contains("the accounting closes"));
}

#[test]
fn the_partition_that_is_broken_is_named() {
    let mut partitions = vec![records(300, 0); 8];
    partitions[5] = records(0, 20);
    let end = drained(&partitions, &["--set", "alarms.dead_letters=10%"]);
    let line = last_line(&end);
    assert!(line.contains("20 of 2120 records are dead letters") && line.contains("20 of 20 in partition 5"), "{line}");
}

#[test]
fn tombstones_alone_are_said() {
    let end = drained(&[vec![None; 20]], &[]);
    assert!(last_line(&end).contains("20 of 20 records are no events: tombstones"), "{}", end.stderr);
    let mut some = records(1, 0);
    some.extend(vec![None; 20]);
    assert!(last_line(&drained(&[some], &[])).contains("the accounting closes"));
}

#[test]
fn late_rows_are_said_of_the_aggregate_that_they_are_late_for() {
    let mut records: Vec<_> = (0..100).map(|n| Some(click(n, "/a", 0))).collect();
    records.extend((100..150).map(|n| Some(click(n, "/a", -1000))));
    let end = drained(&[records], &[]);
    let line = last_line(&end);
    assert!(
        line.contains("50 of 150 rows came too late for counts, 33.3 %") && line.contains("_late/counts"),
        "{line}"
    );
}

#[test]
fn a_run_judges_only_what_it_has_read_itself() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &records(0, 30));
    let job = Job::clicks(broker.bootstrap(), "events");
    assert!(last_line(&job.run(&["--until-caught-up"]).expect(0)).contains("30 of 30 records are dead letters"));
    assert!(last_line(&job.run(&["--until-caught-up"]).expect(0)).contains("the accounting closes"));
    write(broker.bootstrap(), "events", 0, &records(30, 0));
    assert!(last_line(&job.run(&["--until-caught-up"]).expect(0)).contains("the accounting closes"));
}

#[test]
fn an_alarm_shows_everywhere_while_it_lasts_and_is_said_to_be_over() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &records(5, 40));
    let job = Job::clicks(broker.bootstrap(), "events");
    let running = job.start(&["--set", "alarms.interval=1s", "--set", "alarms.unready=true"]);
    let url = running.url();
    running.wait_for("WARN alarm dead_letters: 40 of 45 records in the last ");
    assert!(ask(&url, "/metrics").contains("wasmill_alarm{kind=\"dead_letters\"} 1\n"));
    assert!(ask(&url, "/metrics").contains("wasmill_alarm{kind=\"late\"} 0\n"));
    let ready = ask(&url, "/readyz");
    assert!(ready.starts_with("HTTP/1.0 503") && ready.contains("alarm dead_letters: 40 of 45"), "{ready}");
    let status = job::run(&["status", "--url", &url]).expect(0);
    assert!(status.stdout.contains("ALARM        dead_letters, since "), "{}", status.stdout);
    // More than once: the first may still be of the interval in which the alarm began.
    until("the alarm is over", || {
        write(broker.bootstrap(), "events", 0, &records(20, 0));
        running.said().contains("INFO alarm dead_letters is over: 0 of ")
    });
    until("ready again", || ask(&url, "/readyz").starts_with("HTTP/1.0 200"));
    running.stop().expect(0);
}
