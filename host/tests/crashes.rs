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
#[path = "support/swap_failpoints.rs"]
mod swap_failpoints;

use kafka_support::RealKafka;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::job::{Job, poll_until};
use support::topic::{PARTITIONS, Random, SETTINGS, expected, generate, job, timed, write_odd_records, write_to};
use swap_failpoints::OF_SWAPS;
use wasmill::clock::now_us;
use wasmill::kafka::{Admin, Settings};

/// Kills at random times, where `KILLS` does not say how many there are in all.
const RANDOM_KILLS: usize = 4;

/// All events of the topic.
const EVENTS: u64 = 20_000;

/// When a process is killed.
#[derive(Clone, Debug)]
enum Moment {
    /// The n-th time it comes to a failpoint.
    At(String, u64),
    /// When it comes to a failpoint before its first checkpoint: doing again what the process before was killed at.
    Recovering(String),
    /// So long after its start.
    After(Duration),
}

/// The failpoints in the product's source, in order, but for those of swaps.
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
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "two places have one name: {found:?}");
    assert!(OF_SWAPS.iter().all(|name| found.iter().any(|found| found == name)), "a failpoint of swaps is gone");
    found.retain(|name| !OF_SWAPS.contains(&name.as_str()));
    found
}

/// Failpoints of commits, which a recovery comes to as well.
const COMMITTING: [&str; 3] = ["finished-file-linked", "folder-synced", "staged-name-removed"];

/// Failpoints that a process comes to only before its first checkpoint.
const STARTING: [&str; 9] = [
    "generation-named",
    "files-recovered",
    "open-file-linked",
    "open-file-copied",
    "open-file-completed",
    "row-groups-copied",
    "waiting-rows-taken-in",
    "staged-file-swept",
    "state-loaded",
];

/// A kill that leaves something to do for the recovery of the next process, there.
fn before_recovering(name: &str, random: &mut Random) -> Moment {
    if name == "staged-file-swept" {
        // All staged files are new then, and no checkpoint names them.
        Moment::At("files-synced".to_owned(), 1)
    } else {
        // Files are finished and named by a checkpoint but not committed, and others open.
        Moment::At("manifest-published".to_owned(), 12 + random.below(4))
    }
}

/// Kills of one soak: each failpoint, those that commit and recovery share in both, and random times.
fn moments(kills: Option<usize>, random: &mut Random) -> VecDeque<Moment> {
    let mut groups: Vec<Vec<Moment>> = Vec::new();
    for name in failpoints() {
        let (starting, committing) = (STARTING.contains(&name.as_str()), COMMITTING.contains(&name.as_str()));
        if starting || committing {
            groups.push(vec![before_recovering(&name, random), Moment::Recovering(name.clone())]);
        }
        if committing {
            groups.push(vec![Moment::At(name, 80 + random.below(20))]);
        } else if !starting {
            groups.push(vec![Moment::At(name, 1 + random.below(3))]);
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
    let mut moments = VecDeque::from(groups.concat());
    moments.truncate(kills);
    moments
}

/// A job that makes some hundred checkpoints of the topic, with many files in each.
fn in_small_steps(bootstrap: &str) -> Job {
    let budget = format!("source.max_offsets_per_trigger={}", EVENTS / 400);
    job(bootstrap, &[&budget, "checkpoint.interval=30ms", "output.roll.age=300ms"])
}

/// What became of a process that was to be killed.
#[derive(PartialEq, Eq)]
enum Outcome {
    /// It was.
    Killed,
    /// It was, but not at that moment: there was nothing to do there.
    Missed,
    /// It had read everything before.
    Ended,
}

/// Lets the job run until it is killed at that moment.
fn kill(job: &Job, moment: &Moment, random: &mut Random) -> Outcome {
    let workers = ["2", "3"][random.below(2) as usize];
    let arguments = ["--drain", "--workers", workers];
    let at = |name: &str, times: u64| job.start_in(&[("WASMILL_FAILPOINT", &format!("{name}:{times}"))], &arguments);
    // A start publishes the last checkpoint once more: only what comes after that is the run's own.
    let taken_over = match job.checkpoint() {
        0 => 0,
        last => last + 1,
    };
    let process = match moment {
        Moment::At(name, times) => at(name, *times),
        Moment::Recovering(name) => {
            let mut process = at(name, 1);
            poll_until("it is killed or runs", || {
                (!process.is_running() || job.checkpoint() > taken_over).then_some(())
            });
            process.signal_if_running("KILL");
            process
        }
        Moment::After(time) => {
            let mut process = job.start(&arguments);
            std::thread::sleep(*time);
            process.signal_if_running("KILL");
            process
        }
    };
    let (status, log) = process.wait();
    assert!(status.success() || status.signal() == Some(9), "{moment:?}: {status}: {log}");
    match moment {
        _ if status.success() => Outcome::Ended,
        Moment::Recovering(_) if job.checkpoint() > taken_over => Outcome::Missed,
        _ => Outcome::Killed,
    }
}

fn kills_between_any_two_effects_and_at_random_times_lose_nothing_and_repeat_nothing(broker: &RealKafka) {
    let mut random = Random::new("SEED");
    generate(&broker.bootstrap(), 0, EVENTS, "1h", &["--create", "--partitions", "4"]);
    write_odd_records(&broker.bootstrap());
    let expected = expected(&broker.bootstrap());
    let kills = std::env::var("KILLS").ok().map(|kills| kills.parse().unwrap());
    let mut moments = moments(kills, &mut random);
    let all: BTreeSet<String> = moments.iter().map(named).collect();
    let (mut survived, mut in_vain) = (BTreeSet::new(), BTreeMap::<String, u32>::new());
    let (mut count, mut jobs) = (0, 1);
    let mut job = in_small_steps(&broker.bootstrap());
    while let Some(moment) = moments.pop_front() {
        let (before, started) = (job.checkpoint(), Instant::now());
        let outcome = kill(&job, &moment, &mut random);
        let (after, seconds) = (job.checkpoint(), started.elapsed().as_secs_f64());
        if outcome == Outcome::Killed {
            count += 1;
            println!("{seconds:6.2} s, kill {count}, checkpoint {before} to {after}: {moment:?}");
            survived.insert(named(&moment));
        } else {
            println!("{seconds:6.2} s, in vain, checkpoint {before} to {after}: {moment:?}");
            let tries = in_vain.entry(named(&moment)).or_default();
            *tries += 1;
            assert!(*tries < 25, "no process comes to {moment:?}");
            let again = match &moment {
                Moment::Recovering(name) if outcome == Outcome::Missed => Some(before_recovering(name, &mut random)),
                _ => None,
            };
            moments.push_front(moment);
            if let Some(first) = again {
                moments.push_front(first);
            }
        }
        match outcome {
            Outcome::Ended => {
                job.assert_equals(&expected);
                job = in_small_steps(&broker.bootstrap());
                jobs += 1;
            }
            Outcome::Killed if count % 10 == 0 => job.assert_no_more_than(&expected),
            Outcome::Killed | Outcome::Missed => {}
        }
    }
    job.run(&["--drain", "--workers", "2", "--set", "source.max_offsets_per_trigger=1000000"]);
    job.assert_equals(&expected);
    assert_eq!(survived, all);
    if kills.is_none() {
        let points: BTreeSet<String> = all.iter().map(|name| name.trim_start_matches("recovering ").into()).collect();
        let random = BTreeSet::from([named(&Moment::After(Duration::ZERO))]);
        assert_eq!(&points - &random, failpoints().into_iter().collect(), "a failpoint was forgotten");
    }
    println!("{count} kills of {jobs} jobs of {} records: nothing lost, nothing twice", expected.records);
}

/// The failpoint of a moment, and whether in recovery.
fn named(moment: &Moment) -> String {
    match moment {
        Moment::At(name, _) => name.clone(),
        Moment::Recovering(name) => format!("recovering {name}"),
        Moment::After(_) => "a random time".to_owned(),
    }
}

/// One broker for all of these: starting one takes seconds.
#[test]
fn on_a_real_broker() {
    let Some(broker) = RealKafka::start() else { return };
    kills_between_any_two_effects_and_at_random_times_lose_nothing_and_repeat_nothing(&broker);
    a_restart_with_many_open_sessions_soon_processes_new_events(&broker);
}

/// How long a restart may take until the first new event is processed: two seconds as users build it.
const RESTART: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 2 });

/// `SESSIONS` sets how many sessions are open (100,000 unless set).
fn a_restart_with_many_open_sessions_soon_processes_new_events(broker: &RealKafka) {
    let sessions: usize = std::env::var("SESSIONS").map_or(100_000, |sessions| sessions.parse().unwrap());
    let topic = "sessions";
    let settings = Settings { bootstrap: broker.bootstrap(), topic: topic.into(), ..Settings::default() };
    Admin::new(&settings).unwrap().create_topic(PARTITIONS, 1).unwrap();
    let now = now_us();
    let visit = |user: usize| timed(now, &format!(r#""user_id":"u{user}","event_type":"click","page":"/""#));
    let write = |users: std::ops::Range<usize>| {
        let records: Vec<_> = users.map(|user| (user as i32 % PARTITIONS, Some(visit(user)))).collect();
        write_to(&broker.bootstrap(), topic, now, &records);
    };
    write(0..sessions);
    let job = Job::new(&broker.bootstrap(), topic, &SETTINGS);
    job.run(&["--until-caught-up", "--workers", "2"]);
    write(sessions..sessions + 1000);
    // A crash before its first checkpoint.
    let (status, _) = job.start_in(&[("WASMILL_FAILPOINT", "batch-taken-in:1")], &["--workers", "2"]).wait();
    assert_eq!(status.signal(), Some(9));
    let said = job.log().len();
    let started = Instant::now();
    let process = job.start(&["--workers", "2", "--tap", "raw"]);
    poll_until("the first new event is read", || job.log()[said..].contains("\nraw ").then_some(()));
    let took = started.elapsed();
    println!("{:.2} s from restart to the first new event with {sessions} open sessions", took.as_secs_f64());
    drop(process);
    assert!(took < RESTART, "{took:?}");
    job.run(&["--drain", "--workers", "2"]);
    assert_eq!(job.rows("sessions").len(), sessions + 1000);
}
