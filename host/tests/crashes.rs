//! kill -9 of the real process on a real Kafka: between any two effects of a checkpoint and of recovery, and at random
//! times. What is committed in the end is what a batch job computes.
//!
//! `KILLS` sets how many kills there are (at every failpoint and a few at random times unless set), `SEED` repeats
//! their moments as far as a machine can.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "support/kafka.rs"]
#[allow(dead_code, reason = "not every test stops its broker")]
mod kafka_support;
#[allow(dead_code, reason = "other tests use more of it")]
mod support;

use kafka_support::RealKafka;
use std::collections::{BTreeSet, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::job::{Job, poll_until};
use support::oracle::Expected;
use support::topic::{Random, SETTINGS, TOPIC, expected, generate, job, write_odd_records};
use wasmill::clock::now_us;
use wasmill::kafka::{Admin, Producer, ProducerSettings, Settings};

/// Kills at random times, where `KILLS` does not say how many there are in all.
const RANDOM_KILLS: usize = 4;

/// All events of the topic.
const EVENTS: u64 = 20_000;

/// When a process is killed.
#[derive(Clone, Debug)]
enum Moment {
    /// The n-th time it comes to a failpoint.
    At(String, u64),
    /// So long after its start.
    After(Duration),
}

/// The failpoints in the product's source, in order.
fn failpoints() -> Vec<String> {
    let (mut folders, mut found) = (vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(path).unwrap();
                let calls = text.split("failpoint::reach(\"").skip(1);
                found.extend(calls.map(|call| call.split('"').next().unwrap().to_owned()));
            }
        }
    }
    found.sort();
    found
}

/// Failpoints that a commit has, and a recovery that does it again.
const COMMITTING: [&str; 3] = ["finished-file-linked", "folder-synced", "staged-name-removed"];

/// Kills of one soak: each failpoint, those that commit and recovery share in both, and random times.
fn moments(kills: Option<usize>, random: &mut Random) -> Vec<Moment> {
    let at = |name: &str, times| Moment::At(name.to_owned(), times);
    let mut groups: Vec<Vec<Moment>> = Vec::new();
    for name in failpoints() {
        if COMMITTING.contains(&name.as_str()) {
            // Recovery begins with files that the last checkpoint promised, and the first time is there.
            groups.push(vec![at("manifest-published", 6 + random.below(3)), at(&name, 1)]);
            groups.push(vec![at("offsets-told", 1), at(&name, 30 + random.below(10))]);
        } else {
            groups.push(vec![at(&name, 1 + random.below(3))]);
        }
    }
    let points: usize = groups.iter().map(Vec::len).sum();
    let kills = kills.unwrap_or(points + RANDOM_KILLS);
    while groups.iter().map(Vec::len).sum::<usize>() < kills {
        groups.push(vec![Moment::After(Duration::from_millis(random.below(2500)))]);
    }
    for last in (1..groups.len()).rev() {
        groups.swap(last, random.below(last as u64 + 1) as usize);
    }
    let mut moments = groups.concat();
    moments.truncate(kills);
    moments
}

/// A job that makes some hundred checkpoints of the topic, with many files in each.
fn in_small_steps(bootstrap: &str) -> Job {
    let budget = format!("source.max_offsets_per_trigger={}", EVENTS / 400);
    job(bootstrap, &[&budget, "checkpoint.interval=30ms", "output.roll.age=100ms"])
}

/// Lets the job run until it is killed at that moment. `false` = it ended before.
fn killed(job: &Job, moment: &Moment, random: &mut Random) -> bool {
    let workers = ["2", "3"][random.below(2) as usize];
    let arguments = ["--drain", "--workers", workers];
    let status = match moment {
        Moment::At(name, times) => {
            job.start_in(&[("WASMILL_FAILPOINT", &format!("{name}:{times}"))], &arguments).wait().0
        }
        Moment::After(time) => {
            let process = job.start(&arguments);
            std::thread::sleep(*time);
            process.signal("KILL");
            process.wait().0
        }
    };
    assert!(status.success() || status.signal() == Some(9), "{moment:?}: {status}");
    !status.success()
}

#[test]
fn kills_between_any_two_effects_and_at_random_times_lose_nothing_and_repeat_nothing() {
    let Some(broker) = broker() else { return };
    let mut random = Random::new("SEED");
    generate(&broker.bootstrap(), 0, EVENTS, "1h", &["--create", "--partitions", "4"]);
    write_odd_records(&broker.bootstrap());
    let expected = expected(&broker.bootstrap());
    let kills = std::env::var("KILLS").ok().map(|kills| kills.parse().unwrap());
    let mut moments = VecDeque::from(moments(kills, &mut random));
    let wanted = moments.len();
    let mut job = in_small_steps(&broker.bootstrap());
    let (mut survived, mut count, mut jobs) = (BTreeSet::new(), 0, 1);
    while let Some(moment) = moments.pop_front() {
        let before = job.checkpoint();
        let started = Instant::now();
        if !killed(&job, &moment, &mut random) {
            // It has read everything: the next job takes over.
            job.assert_equals(&expected);
            job = in_small_steps(&broker.bootstrap());
            jobs += 1;
            moments.push_front(moment);
            continue;
        }
        count += 1;
        let (after, seconds) = (job.checkpoint(), started.elapsed().as_secs_f64());
        println!("{seconds:6.2} s, kill {count} of {wanted}, checkpoint {before} to {after}: {moment:?}");
        if let Moment::At(name, times) = moment {
            let recovering = COMMITTING.contains(&name.as_str()) && after == before;
            if recovering || !COMMITTING.contains(&name.as_str()) || times > 1 {
                survived.insert((name, recovering));
            } else {
                // The checkpoint had nothing to finish: once more, after another.
                let again = [Moment::At("manifest-published".to_owned(), 9), Moment::At(name, 1)];
                again.into_iter().rev().for_each(|moment| moments.push_front(moment));
            }
        }
        if count % 10 == 0 {
            job.assert_no_more_than(&expected);
        }
    }
    finish(&job, &expected);
    println!("{count} kills of {jobs} jobs, {} records each: nothing lost, nothing twice", expected.records);
    if kills.is_none_or(|kills| kills >= wanted) {
        let mut all: BTreeSet<_> = failpoints().into_iter().map(|name| (name, false)).collect();
        all.extend(COMMITTING.map(|name| (name.to_owned(), true)));
        assert_eq!(survived, all, "a failpoint was not come to");
    }
}

/// Lets the job run to its end, and compares.
fn finish(job: &Job, expected: &Expected) {
    job.run(&["--drain", "--workers", "2", "--set", "source.max_offsets_per_trigger=1000000"]);
    job.assert_equals(expected);
}

/// One broker for all of this file: starting one takes seconds. It goes with the process, by its folder's drop.
fn broker() -> Option<RealKafka> {
    RealKafka::start()
}
