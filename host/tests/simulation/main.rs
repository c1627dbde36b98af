//! The simulation: seeded histories of processes, crashes and faulty disks, held against the batch oracle.
//!
//! `SEED=n` repeats one history and prints its steps; `RUNS=n` sets how many there are; `BUG=name` tries one deliberate
//! bug only.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod facts;
mod judge;
mod meddling;
mod platter;
mod plugins;
mod process;
mod random;
#[path = "../../pipeline/tests/changes/setup.rs"]
mod setup;
mod turns;
mod versions;
mod world;

use process::Process;
use random::Random;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;
use turns::Turns;
use wasmill::mutation::{self, Mutation};
use world::{Rules, World};

/// Histories in `make test`.
const RUNS: u64 = 200;

/// Among so many seeds each deliberate bug must be found.
const ENOUGH: u64 = 10_000;

/// Whether a history by these rules can show a bug: an overtaken process matters where locks do not keep it out, and
/// what swaps could do where there are any.
fn can_show(bug: Option<Mutation>, rules: &Rules) -> bool {
    match bug {
        Some(Mutation::TakeOverForgotten | Mutation::PublishOverExisting) => !rules.locks,
        Some(Mutation::NotesOfOthersIgnored) => !rules.locks && rules.taken,
        Some(Mutation::DayOf24Hours) => rules.calendar,
        Some(
            Mutation::PinTooEarly
            | Mutation::FarewellForgotten
            | Mutation::RenamedForgotten
            | Mutation::CountsForgotten
            | Mutation::SessionsDivided
            | Mutation::HeldCommitted
            | Mutation::BoundaryPruned
            | Mutation::OpenCommittedOnProbation
            | Mutation::OpenForgottenOnProbation
            | Mutation::HeldSwept
            | Mutation::HeldKeptOnGoingBack
            | Mutation::StateKeptOnGoingBack,
        ) => rules.changing > 0,
        Some(
            Mutation::UnreadIsSilence
            | Mutation::OutageIsSilence
            | Mutation::EndingByRowsAlone
            | Mutation::EmptyHolds
            | Mutation::NewestForgotten,
        ) => rules.timed,
        Some(Mutation::OthersSwept) => rules.shared,
        Some(Mutation::OlderCheckpointTaken | Mutation::LostCheckpointIgnored) => rules.meddled,
        Some(Mutation::OpenTransactionIsTheEnd | Mutation::AbortedHoldTheEnd) => rules.timed && rules.transactions > 0,
        _ => true,
    }
}

/// One history. Gives what it did, as one number.
///
/// # Errors
/// The promise that was broken.
fn history(seed: u64, bug: Option<Mutation>, told: bool) -> Result<(u64, u64), String> {
    let world = World::new(seed, told);
    without_noise();
    PLAYING.set(true);
    mutation::switch(bug);
    let played = catch_unwind(AssertUnwindSafe(|| play(&world, seed, bug)));
    PLAYING.set(false);
    mutation::switch(None);
    let panicked = |cause: Box<dyn std::any::Any + Send>| {
        let text =
            cause.downcast_ref::<String>().cloned().or_else(|| cause.downcast_ref::<&str>().map(|t| (*t).into()));
        format!("panicked: {}", text.unwrap_or_default())
    };
    played.map_err(panicked)??;
    Ok(world.log().digest())
}

fn play(world: &World, seed: u64, bug: Option<Mutation>) -> Result<(), String> {
    let turns = Arc::new(Turns::new(world.rules.processes));
    let seat = |seat: usize| -> Result<(), String> {
        mutation::switch(bug);
        PLAYING.set(true);
        let _turn = turns.begin(seat);
        let mut random = Random::new(seed ^ ((seat as u64 + 1) << 32));
        while world.now().steps > 0 {
            world.meddle(&mut random);
            Process::new(world, &turns, seat, &mut random).live()?;
        }
        Ok(())
    };
    if world.rules.processes == 1 {
        seat(0)?;
    } else {
        std::thread::scope(|scope| {
            let seats: Vec<_> = (0..world.rules.processes).map(|number| scope.spawn(move || seat(number))).collect();
            seats
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)))
        })?;
    }
    world.platter.mend();
    if world.now().meddling.can_be_undone() {
        world.put_back();
    }
    let mut random = Random::new(!seed);
    world.now().complete(&world.topic);
    let last = Process::lucky(world, &mut random);
    let disk = last.disk();
    last.finish()?;
    let violations = world.log().violations();
    if !violations.is_empty() {
        return Err(violations.join("; "));
    }
    if !world.strangers_file_is_there() {
        return Err("the staged file of another pipeline is gone".into());
    }
    judge::judge(world, &disk)
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| value.parse().unwrap())
}

/// The first seed of `0..runs` whose history breaks a promise, and how.
fn first_failure(runs: u64, bug: Option<Mutation>) -> Option<(u64, String)> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut found = None;
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= runs {
                return found;
            }
            if !can_show(bug, &World::new(seed, false).rules) {
                continue;
            }
            if let Err(what) = history(seed, bug, false) {
                // The seeds before it are under way or done.
                next.store(runs, Ordering::SeqCst);
                found = Some((seed, what));
            }
        }
    };
    let threads = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).min()
    })
}

thread_local! {
    static PLAYING: Cell<bool> = const { Cell::new(false) };
}

/// Panics inside a history are its result: they are told once, by the test.
fn without_noise() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !PLAYING.get() {
                usual(panic);
            }
        }));
    });
}

#[test]
fn histories_give_what_the_oracle_computes_from_the_topic() {
    if let Some(seed) = setting("SEED") {
        let digest = history(seed, None, true).unwrap_or_else(|what| panic!("SEED={seed}: {what}"));
        println!("SEED={seed}: nothing lost, nothing twice; {digest:?}");
        return;
    }
    let (began, runs) = (Instant::now(), setting("RUNS").unwrap_or(RUNS));
    if let Some((seed, what)) = first_failure(runs, None) {
        panic!("seed {seed}: {what}\nrepeat it with: SEED={seed} make sim");
    }
    println!("{runs} histories in {:?}: nothing lost, nothing twice", began.elapsed());
}

#[test]
fn a_seed_repeats_its_history() {
    for seed in 0..20 {
        assert_eq!(history(seed, None, false).unwrap(), history(seed, None, false).unwrap(), "SEED={seed}");
    }
}

#[test]
fn each_deliberate_bug_is_found() {
    let mut missed = Vec::new();
    let one = std::env::var("BUG").ok();
    for bug in Mutation::ALL.into_iter().filter(|bug| one.as_ref().is_none_or(|one| *one == format!("{bug:?}"))) {
        let began = Instant::now();
        match first_failure(ENOUGH, Some(bug)) {
            Some((seed, what)) => {
                assert!(history(seed, None, false).is_ok(), "SEED={seed} breaks a promise without {bug:?}");
                let what: String = what.chars().take(150).collect();
                println!("{bug:?} is found by seed {seed} after {:?}: {what}", began.elapsed());
            }
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "bugs that none of {ENOUGH} seeds shows");
}
