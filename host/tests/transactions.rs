//! Open, committed and aborted transactions on a real Kafka, and a process that was frozen: what is unread is not silence.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;
#[path = "support/kafka.rs"]
#[allow(dead_code, reason = "not every test does everything to its broker")]
mod kafka_support;
#[path = "support/transactions.rs"]
mod transactions;

use job::{BROKER_TIME_MS, Job, Running, clicks, events, exactly_once, reads_to, until, write};
use kafka_support::RealKafka;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use transactions::{Transactions, committed_and_high};

/// What is said of a partition that waits.
const WAITS: &str = "waits behind an open transaction since ";

/// Partitions are idle soon, so that what is wrongly idle shows.
const SOON: [&str; 2] = ["--set", "time.idle_timeout=2s"];

fn topic(broker: &RealKafka, topic: &str, partitions: i32) {
    let admin = broker.admin(topic);
    assert!(admin.create_topic(partitions, 1).unwrap());
    admin.wait_for_topic(None, &mut |_| {}, &AtomicBool::new(false)).unwrap();
}

/// What `wasmill status` says of a run, and the lags in its metrics.
fn status(running: &Running) -> serde_json::Value {
    serde_json::from_str(&job::run(&["status", "--json", "--url", &running.url()]).stdout).unwrap()
}

/// One broker for all of these: starting one takes seconds.
#[test]
fn on_a_real_broker() {
    let Some(broker) = RealKafka::start() else { return };
    std::thread::scope(|scope| {
        scope.spawn(|| records_behind_an_open_transaction_hold_the_watermark(&broker));
        scope.spawn(|| a_transaction_that_begins_when_its_partition_is_idle_holds_the_watermark(&broker));
        scope.spawn(|| a_run_that_ends_waits_for_open_transactions_or_says_what_is_unread(&broker));
        scope.spawn(|| the_groups_lag_is_0_behind_marks_and_aborted_records(&broker));
        scope.spawn(|| a_frozen_process_does_not_find_its_partitions_idle(&broker));
    });
    partitions_are_not_idle_because_their_broker_was_away(&broker);
}

fn records_behind_an_open_transaction_hold_the_watermark(broker: &RealKafka) {
    topic(broker, "open", 2);
    let job = Job::clicks(&broker.bootstrap(), "open");
    for partition in [0, 1] {
        write(&broker.bootstrap(), "open", partition, &clicks(10 * partition as usize, 10 * partition as usize + 10));
    }
    let transactions = Transactions::new(&broker.bootstrap(), "open", "a");
    transactions.begin();
    transactions.write(1, &clicks(20, 100), BROKER_TIME_MS);
    let running = job.start(&SOON);
    write(&broker.bootstrap(), "open", 0, &clicks(100, 300));
    let warning = running.wait_for(&format!("partition 1 {WAITS}"));
    assert!(warning.contains("unread_offsets=80"), "{warning}");
    let status = status(&running);
    assert_eq!(status["partitions"][1]["lag"], 80, "{status}");
    assert!(status["holding"][0].as_str().unwrap().starts_with(&format!("partition 1 {WAITS}")), "{status}");
    transactions.commit();
    until("the transaction is read", || reads_to(&job.checkpoints(), &[210, 90]));
    running.wait_for("partition 1 does not wait for a transaction any more");
    running.stop().expect(0);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 300);
}

fn a_transaction_that_begins_when_its_partition_is_idle_holds_the_watermark(broker: &RealKafka) {
    topic(broker, "later", 2);
    write(&broker.bootstrap(), "later", 0, &clicks(0, 10));
    let job = Job::clicks(&broker.bootstrap(), "later");
    let running = job.start(&SOON);
    let idle = |partition: usize| status(&running)["partitions"][partition]["idle"] == true;
    until("the empty partition is idle", || idle(1));
    let transactions = Transactions::new(&broker.bootstrap(), "later", "a");
    transactions.begin();
    transactions.write(1, &clicks(10, 40), BROKER_TIME_MS);
    until("it is not idle any more", || !idle(1));
    write(&broker.bootstrap(), "later", 0, &clicks(40, 200));
    running.wait_for(&format!("partition 1 {WAITS}"));
    transactions.commit();
    until("the transaction is read", || reads_to(&job.checkpoints(), &[170, 30]));
    running.stop().expect(0);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 200);
}

fn a_run_that_ends_waits_for_open_transactions_or_says_what_is_unread(broker: &RealKafka) {
    topic(broker, "ends", 3);
    write(&broker.bootstrap(), "ends", 0, &clicks(0, 10));
    let [first, second] = ["a", "b"].map(|id| Transactions::new(&broker.bootstrap(), "ends", id));
    for (partition, transactions) in [(1, &first), (2, &second)] {
        transactions.begin();
        let from = 10 * partition as usize;
        transactions.write(partition, &clicks(from, from + 10), BROKER_TIME_MS);
    }
    // Readable, but behind records that are not.
    write(&broker.bootstrap(), "ends", 2, &clicks(30, 35));
    let job = Job::clicks(&broker.bootstrap(), "ends");
    let given_up = job.run(&["--drain", "--wait-for-transactions", "1s"]).expect(4);
    given_up.says(&["partition 1 stands at 0 of 10", "partition 2 stands at 0 of 15", "the accounting closes"]);
    assert_eq!(events(&job).len(), 10, "what could be read is committed");
    for end in ["--until-caught-up", "--drain"] {
        let waiting = job.start(&[end]);
        waiting.wait_for(&format!("partition 2 {WAITS}"));
        if end == "--drain" {
            second.commit();
        } else {
            first.abort();
        }
        if end == "--until-caught-up" {
            waiting.wait_for("partition 1 does not wait for a transaction any more");
            waiting.stop().expect(0);
        } else {
            waiting.finish().expect(0);
        }
    }
    job::these_once(&job, (0..10).chain(20..35));
}

fn the_groups_lag_is_0_behind_marks_and_aborted_records(broker: &RealKafka) {
    topic(broker, "marks", 2);
    let transactions = Transactions::new(&broker.bootstrap(), "marks", "a");
    for (from, commit) in [(0, true), (20, false), (40, true), (60, false)] {
        transactions.begin();
        transactions.write(0, &clicks(from, from + 10), BROKER_TIME_MS);
        transactions.write(1, &clicks(from + 10, from + 20), BROKER_TIME_MS);
        if commit { transactions.commit() } else { transactions.abort() }
    }
    let lag = || {
        let known = committed_and_high(&broker.bootstrap(), "marks", "marks", 2);
        known.into_values().map(|(committed, high)| high - committed.unwrap_or(0)).sum::<i64>()
    };
    let job = Job::clicks(&broker.bootstrap(), "marks");
    let group = ["--set", "source.group_id=marks"];
    assert_eq!(lag(), 2 * 44);
    job.run(&[&["--until-caught-up"], &group[..]].concat()).expect(0);
    assert_eq!(lag(), 0);
    // More marks come while nothing new can be read: a running job, and one that is stopped.
    let running = job.start(&group);
    transactions.begin();
    transactions.write(0, &clicks(80, 90), BROKER_TIME_MS);
    transactions.abort();
    until("its lag is 0", || lag() == 0);
    running.stop().expect(0);
    job.run(&[&["--drain"], &group[..]].concat()).expect(0);
    assert_eq!(lag(), 0);
    job::these_once(&job, (0..20).chain(40..60));
}

/// A job whose two partitions are read and silent, and then something happens for longer than the idle timeout; one
/// partition's producer is back at once, the other's a little later. None of its rows is late.
fn neither_is_idle_after(broker: &RealKafka, name: &str, happens: impl FnOnce(&Running)) {
    topic(broker, name, 2);
    let job = Job::clicks(&broker.bootstrap(), name);
    write(&broker.bootstrap(), name, 0, &clicks(0, 10));
    write(&broker.bootstrap(), name, 1, &clicks(10, 22));
    let running = job.start(&["--set", "time.idle_timeout=10s"]);
    until("both are read", || reads_to(&job.checkpoints(), &[10, 12]));
    happens(&running);
    write(&broker.bootstrap(), name, 0, &clicks(100, 400));
    until("the first partition is read", || reads_to(&job.checkpoints(), &[310]));
    write(&broker.bootstrap(), name, 1, &clicks(22, 100));
    until("the second is read", || reads_to(&job.checkpoints(), &[310, 90]));
    running.stop().expect(0);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 400);
}

/// Longer than the idle timeout.
fn wait_long() {
    let began = Instant::now();
    until("it is longer than the timeout", || began.elapsed() > Duration::from_secs(12));
}

fn a_frozen_process_does_not_find_its_partitions_idle(broker: &RealKafka) {
    neither_is_idle_after(broker, "frozen", |running| {
        running.signal("STOP");
        wait_long();
        running.signal("CONT");
    });
}

fn partitions_are_not_idle_because_their_broker_was_away(broker: &RealKafka) {
    neither_is_idle_after(broker, "away", |_| {
        broker.kill();
        wait_long();
        broker.start_again();
    });
}
