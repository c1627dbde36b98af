//! A real Kafka that goes away, comes back, loses records, is made anew, grows and is slow: what wasmill does then.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;
#[path = "support/kafka.rs"]
#[allow(dead_code, reason = "not every test does everything to its broker")]
mod kafka_support;
#[path = "support/slow_proxy.rs"]
mod slow_proxy;

use job::{Job, PATIENCE, Running, clicks, events, exactly_once, reads_to, these_once, until, write};
use kafka_support::RealKafka;
use slow_proxy::SlowProxy;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use wasmill::kafka::Admin;

/// What is said of a topic that was made anew.
const ANEW: &str = "the topic was made anew or cut off: ";

/// What is said of records that are gone.
const GONE: &str = "records are gone from the broker before they were read";

/// Clicks of more than an hour after their broker time are not too far ahead.
const LONG: [&str; 2] = ["--set", "time.max_ahead=100h"];

/// Made anew, and there.
fn topic(broker: &RealKafka, topic: &str, partitions: i32) -> Admin {
    let admin = broker.admin(topic);
    make(&admin, partitions);
    admin
}

fn make(admin: &Admin, partitions: i32) {
    // A topic of this name may be on its way out.
    until("the topic can be made", || admin.create_topic(partitions, 1).is_ok_and(|made| made));
    admin.wait_for_topic(None, &mut |_| {}, &AtomicBool::new(false)).unwrap();
}

/// Deletes a topic and makes it anew with the clicks `from..to`.
fn make_anew(broker: &RealKafka, admin: &Admin, name: &str, from: usize, to: usize) {
    admin.delete_topic().unwrap();
    make(admin, 1);
    write(&broker.bootstrap(), name, 0, &clicks(from, to));
}

/// What `wasmill status` says of a run.
fn status(running: &Running) -> String {
    job::run(&["status", "--url", &running.url()]).stdout
}

/// A counter of the newest checkpoint.
fn counter(job: &Job, name: &str) -> u64 {
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(job.manifest()).unwrap()).unwrap();
    manifest["manifest"]["counters"][name].as_u64().unwrap()
}

/// One broker for all of these: starting one takes seconds.
#[test]
fn on_a_real_broker() {
    let Some(broker) = RealKafka::start_with(two_disks) else { return };
    // Side by side, for most of it is waiting; those that take the broker away come after.
    std::thread::scope(|scope| {
        scope.spawn(|| a_partition_added_while_running(&broker));
        scope.spawn(|| a_second_process_waits_and_takes_over_after_a_kill(&broker));
        scope.spawn(|| {
            records_removed_before_they_were_read_are_counted_or_fatal(&broker);
            records_removed_after_they_were_read_are_no_loss(&broker);
        });
        scope.spawn(|| a_topic_made_anew_with_fewer_partitions_is_data_loss(&broker));
        scope.spawn(|| a_topic_that_goes_away_under_a_run_that_ends_is_not_waited_for(&broker));
        for (to, name) in [(1020, "shorter"), (1050, "as-long"), (1080, "longer")] {
            let broker = &broker;
            scope.spawn(move || {
                a_topic_made_anew_is_data_loss_at_the_start(broker, name, to);
                a_topic_made_anew_is_data_loss_while_running(broker, &format!("{name}-running"), to);
            });
        }
    });
    a_broker_stopped_and_killed_in_the_middle_of_catching_up_loses_nothing(&broker);
    a_partition_without_a_leader_is_waited_for(&broker);
}

fn a_partition_added_while_running(broker: &RealKafka) {
    let admin = topic(broker, "grows", 1);
    write(&broker.bootstrap(), "grows", 0, &clicks(0, 20));
    let job = Job::clicks(&broker.bootstrap(), "grows");
    let running = job.start(&[]);
    until("the first partition is read", || reads_to(&job.checkpoints(), &[20]));
    admin.add_partitions(2).unwrap();
    until("the partition is there", || admin.partitions().is_ok_and(|found| found == [0, 1]));
    write(&broker.bootstrap(), "grows", 1, &clicks(20, 50));
    until("the new partition is read", || reads_to(&job.checkpoints(), &[20, 30]));
    running.stop().expect(0).says(&["the topic has a new partition partition=1 next_offset=0"]);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 50);
}

fn a_second_process_waits_and_takes_over_after_a_kill(broker: &RealKafka) {
    topic(broker, "two", 2);
    write(&broker.bootstrap(), "two", 0, &clicks(0, 40));
    let job = Job::clicks(&broker.bootstrap(), "two");
    let first = job.start(&["--set", "output.roll.age=100ms"]);
    until("the first has committed", || events(&job).len() == 40);
    let second = job.start(&[]);
    let holder = second.wait_for("waiting for the checkpoint folder: ");
    assert!(holder.starts_with(&format!("pid {} on ", first.id())), "{holder}");
    write(&broker.bootstrap(), "two", 1, &clicks(40, 70));
    first.signal("KILL");
    assert_eq!(first.finish().status.code(), None);
    write(&broker.bootstrap(), "two", 0, &clicks(70, 90));
    until("the second has read everything", || reads_to(&job.checkpoints(), &[60, 30]));
    second.stop().expect(0);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 90);
}

fn records_removed_before_they_were_read_are_counted_or_fatal(broker: &RealKafka) {
    let admin = topic(broker, "removed", 1);
    write(&broker.bootstrap(), "removed", 0, &clicks(0, 50));
    let job = Job::clicks(&broker.bootstrap(), "removed");
    job.run(&["--until-caught-up"]).expect(0);
    write(&broker.bootstrap(), "removed", 0, &clicks(50, 100));
    admin.delete_records_before(0, 70).unwrap();
    job.run(&["--drain", "--set", "source.on_data_loss=fail"]).expect(1).says(&[GONE]);
    job.run(&["--drain"]).expect(0).says(&[GONE, "expected_offset=50 first_offset=70", "the accounting closes"]);
    these_once(&job, (0..50).chain(70..100));
    assert_eq!(counter(&job, "lost_records"), 20);
}

fn records_removed_after_they_were_read_are_no_loss(broker: &RealKafka) {
    let admin = topic(broker, "expired", 1);
    write(&broker.bootstrap(), "expired", 0, &clicks(0, 50));
    let job = Job::clicks(&broker.bootstrap(), "expired");
    job.run(&["--until-caught-up"]).expect(0);
    admin.delete_records_before(0, 50).unwrap();
    job.run(&["--until-caught-up", "--set", "source.on_data_loss=fail"]).expect(0);
    write(&broker.bootstrap(), "expired", 0, &clicks(50, 80));
    job.run(&["--drain", "--set", "source.on_data_loss=fail"]).expect(0);
    exactly_once(&job, 80);
}

fn a_topic_made_anew_is_data_loss_at_the_start(broker: &RealKafka, name: &str, to: usize) {
    let admin = topic(broker, name, 1);
    write(&broker.bootstrap(), name, 0, &clicks(0, 50));
    let job = Job::clicks(&broker.bootstrap(), name);
    job.run(&["--until-caught-up"]).expect(0);
    make_anew(broker, &admin, name, 1000, to);
    job.run(&["--drain", "--set", "source.on_data_loss=fail"]).expect(1).says(&[ANEW, "expected_offset=50"]);
    these_once_raw(&job, 0..50);
    job.run(&["--drain"]).expect(0).says(&[ANEW, "going on at the first record there is", "the accounting closes"]);
    these_once(&job, (0..50).chain(1000..to));
}

fn a_topic_made_anew_is_data_loss_while_running(broker: &RealKafka, name: &str, to: usize) {
    let admin = topic(broker, name, 1);
    write(&broker.bootstrap(), name, 0, &clicks(0, 50));
    let job = Job::clicks(&broker.bootstrap(), name);
    let running = job.start(&[]);
    let strict = Job::clicks(&broker.bootstrap(), name);
    let stopped = strict.start(&["--set", "source.on_data_loss=fail"]);
    for job in [&job, &strict] {
        until("the old topic is read", || reads_to(&job.checkpoints(), &[50]));
    }
    make_anew(broker, &admin, name, 1000, to);
    stopped.finish().expect(1).says(&[ANEW]);
    these_once_raw(&strict, 0..50);
    running.wait_for(ANEW);
    until("the new topic is read", || reads_to(&job.checkpoints(), &[to as i64 - 1000]));
    running.stop().expect(0).says(&["the accounting closes"]);
    job.run(&["--drain"]).expect(0);
    these_once(&job, (0..50).chain(1000..to));
}

fn a_topic_made_anew_with_fewer_partitions_is_data_loss(broker: &RealKafka) {
    const FEWER: &str = "the topic does not have a partition any more: ";
    let admin = topic(broker, "fewer", 3);
    for (partition, from, to) in [(0, 0, 20), (1, 20, 41), (2, 41, 63)] {
        write(&broker.bootstrap(), "fewer", partition, &clicks(from, to));
    }
    let job = Job::clicks(&broker.bootstrap(), "fewer");
    job.run(&["--until-caught-up"]).expect(0);
    let live = Job::clicks(&broker.bootstrap(), "fewer");
    let running = live.start(&[]);
    until("all partitions are read", || reads_to(&live.checkpoints(), &[20, 21, 22]));
    make_anew(broker, &admin, "fewer", 1000, 1030);
    for end in ["--until-caught-up", "--drain"] {
        job.run(&[end, "--set", "source.on_data_loss=fail"]).expect(1).says(&[FEWER, "expected_offset=21"]);
    }
    job.run(&["--drain"]).expect(0).says(&[FEWER, "partition=1", "partition=2", "going on without it", ANEW]);
    these_once(&job, (0..63).chain(1000..1030));
    running.wait_for_many(FEWER, 2);
    until("the new topic is read", || reads_to(&live.checkpoints(), &[30]));
    running.stop().expect(0).says(&["the accounting closes"]);
    live.run(&["--drain"]).expect(0);
    these_once(&live, (0..63).chain(1000..1030));
}

fn a_topic_that_goes_away_under_a_run_that_ends_is_not_waited_for(broker: &RealKafka) {
    let admin = topic(broker, "away", 2);
    for (n, first) in (0..4000).step_by(200).enumerate() {
        write(&broker.bootstrap(), "away", n as i32 % 2, &clicks(first, first + 200));
    }
    let early = Job::clicks(&broker.bootstrap(), "away");
    early.run(&[&["--until-caught-up"], &LONG[..]].concat()).expect(0);
    let job = Job::clicks(&broker.bootstrap(), "away");
    let slow = ["--drain", "--set", "source.max_offsets_per_trigger=10", "--set", "checkpoint.interval=1s"];
    let little = ["--set", "source.kafka={\"fetch.message.max.bytes\" = \"10000\", \"queued.min.messages\" = \"1\"}"];
    let running = job.start(&[&slow[..], &little, &LONG].concat());
    let manifests =
        || job::files(&job.checkpoints()).into_iter().filter(|path| path.extension().is_some_and(|e| e == "json"));
    until("it is catching up", || manifests().count() > 1);
    admin.delete_topic().unwrap();
    running.finish().expect(0).says(&["the topic does not have a partition any more: ", "going on without it"]);
    // Nor by one that finds it gone.
    early.run(&["--drain", "--set", "source.on_data_loss=fail"]).expect(1).says(&["a partition any more: "]);
    early.run(&["--drain"]).expect(0).says(&["going on without it", "the accounting closes"]);
    exactly_once(&early, 4000);
}

/// No raw file has more than these clicks, nor one twice; the windows may be open.
fn these_once_raw(job: &Job, clicks: std::ops::Range<usize>) {
    let mut wanted: Vec<String> = clicks.map(|n| format!("e{n}")).collect();
    wanted.sort();
    let found = events(job);
    assert!(found.iter().all(|id| wanted.binary_search(id).is_ok()), "{found:?}");
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{found:?}");
}

fn a_broker_stopped_and_killed_in_the_middle_of_catching_up_loses_nothing(broker: &RealKafka) {
    topic(broker, "outages", 2);
    // In batches of 200, which come whole: what is fetched ahead is no more than that.
    for (n, first) in (0..8000).step_by(200).enumerate() {
        write(&broker.bootstrap(), "outages", n as i32 % 2, &clicks(first, first + 200));
    }
    let job = Job::clicks(&broker.bootstrap(), "outages");
    // Some checkpoint is under way nearly always.
    let slow = ["--drain", "--set", "source.max_offsets_per_trigger=50", "--set", "checkpoint.interval=20ms"];
    let little = ["--set", "source.kafka={\"fetch.message.max.bytes\" = \"10000\", \"queued.min.messages\" = \"1\"}"];
    let running = job.start(&[&slow[..], &little, &LONG].concat());
    let impatient = Job::clicks(&broker.bootstrap(), "outages");
    let mut giving_up = Some(impatient.start(&[&slow[..], &little, &LONG, &["--wait-for-broker", "1s"]].concat()));
    let read = |job: &Job| job.checkpoints().is_dir() && job::files(&job.checkpoints()).len() > 3;
    until("both are catching up", || read(&job) && read(&impatient));
    for (times, outage) in [RealKafka::stop as fn(&RealKafka), RealKafka::kill].into_iter().enumerate() {
        outage(broker);
        running.wait_for_many("waiting for kafka: ", times + 1);
        let shown = status(&running);
        assert!(shown.contains("for kafka: "), "{shown}");
        if let Some(giving_up) = giving_up.take() {
            giving_up.finish().expect(4).says(&[" of 4000, ", "source.wait_for_broker", "the accounting closes"]);
        }
        broker.start_again();
    }
    running.finish().expect(0).says(&["8000 records, 8000 rows", "the accounting closes"]);
    exactly_once(&job, 8000);
    impatient.run(&[&["--drain"], &LONG[..]].concat()).expect(0);
    exactly_once(&impatient, 8000);
}

/// The broker's data on two disks, the second of which can be taken away: its partitions have no leader then.
fn two_disks(_: u16, folder: &std::path::Path) -> String {
    format!("log.dirs={0}/data,{0}/second\n", folder.display())
}

fn a_partition_without_a_leader_is_waited_for(broker: &RealKafka) {
    topic(broker, "leaders", 2);
    let (disk, away) = (broker.folder().join("second"), broker.folder().join("second.away"));
    let on_it = |partition: &i32| disk.join(format!("leaders-{partition}")).is_dir();
    let partition = (0..2).find(on_it).expect("the broker spreads partitions over its disks");
    write(&broker.bootstrap(), "leaders", partition, &clicks(0, 30));
    let job = Job::clicks(&broker.bootstrap(), "leaders");
    let running = job.start(&[]);
    until("the records are read", || reads_to(&job.checkpoints(), &[30]));
    broker.stop();
    std::fs::rename(&disk, &away).unwrap();
    std::fs::write(&disk, "no folder").unwrap();
    broker.start_again();
    let leaderless = format!("a partition has no leader: topic=leaders partition={partition}");
    until("it says so", || status(&running).contains(&format!("for kafka: {leaderless}")));
    // The partition that has a leader is read meanwhile.
    write(&broker.bootstrap(), "leaders", 1 - partition, &clicks(30, 50));
    until("the other partition is read", || {
        reads_to(&job.checkpoints(), &[30, 20]) || reads_to(&job.checkpoints(), &[20, 30])
    });
    let late = Job::clicks(&broker.bootstrap(), "leaders");
    let starting = late.start(&["--drain"]);
    starting.wait_for(&format!("waiting for kafka: {leaderless}"));
    broker.stop();
    std::fs::remove_file(&disk).unwrap();
    std::fs::rename(&away, &disk).unwrap();
    broker.start_again();
    starting.finish().expect(0);
    exactly_once(&late, 50);
    write(&broker.bootstrap(), "leaders", partition, &clicks(50, 60));
    until("the records are read", || reads_to(&job.checkpoints(), &[40]));
    running.stop().expect(0);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 60);
}

#[test]
fn a_slow_broker_is_waited_for_in_little_memory() {
    let proxy = SlowProxy::bind();
    let Some(broker) = RealKafka::start_with(|port, _| proxy.listener(port)) else { return };
    topic(&broker, "slow", 2);
    for (n, first) in (0..19_500).step_by(500).enumerate() {
        write(&broker.bootstrap(), "slow", n as i32 % 2, &clicks(first, first + 500));
    }
    proxy.start();
    let job = Job::clicks(&proxy.bootstrap(), "slow");
    // How far it is behind is known with the first answer, which is small here.
    let small = ["--set", "source.kafka={\"fetch.message.max.bytes\" = \"50000\"}"];
    let running = job.start(&[&small[..], &LONG].concat());
    until("it says that it is behind", || status(&running).contains("catching up"));
    until("all is read", || reads_to(&job.checkpoints(), &[10_000, 9500]));
    let peak = peak_memory(&running);
    running.stop().expect(0).says(&["19500 records, 19500 rows", "the accounting closes"]);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 19_500);
    println!("peak memory while slow: {} MB", peak >> 20);
    assert!(peak < 512 << 20, "{peak}");
    let _ = (PATIENCE, PathBuf::new());
}

/// The most memory a process has had, bytes.
fn peak_memory(running: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
