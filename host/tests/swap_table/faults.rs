//! Versions that fail on probation: taken back, as if they had never been.

use crate::job::until;
use crate::lab::{AGGREGATES, LONG, Lab, Live, POLICIES, at_once, base, by_plugin, digest_of, refused};
use std::path::PathBuf;
use wasmill::admin::control::{Outcome, Policy, RefusalKind};
use wasmill::store::history;

/// Settings under which what never ends is found out soon.
const SOON: [&str; 4] = ["--set", "limits.deadline=700ms", LONG[0], LONG[1]];

/// Everything that is swapped.
const ALL: [&str; 3] = ["parser", "counts", "visits"];

/// The version before is in force again, and the history and the log say why.
fn was_taken_back(lab: &Lab, live: &Live, plugin: &str, behaviour: &str, why: &str) {
    let (bad, good) = (digest_of(behaviour), base(plugin));
    assert_eq!((live.plugin(plugin).digest, lab.in_force(plugin)), (good.clone(), good.clone()));
    let manifest = lab.manifest();
    assert!(manifest.probation.is_none() && manifest.beside.is_empty(), "{manifest:#?}");
    let history = lab.history();
    let entry = history.iter().rfind(|entry| entry.plugin == plugin).unwrap();
    assert_eq!((entry.action, entry.outcome), (history::Action::Rollback, history::Outcome::RolledBack));
    assert_eq!((&entry.from, &entry.to, entry.who.as_str()), (&bad, &good, "host"));
    assert!(entry.detail.contains(why), "{}", entry.detail);
    live.says(&[plugin, &bad, why, "in force again"]);
}

/// Asks for a version that is good on all records so far, and fails later: for each role and policy. `behaviour` gets the
/// next event.
fn fails_later(plugins: &[&str], behaviour: fn(usize) -> String, why: &str) {
    let some = by_plugin().into_iter().filter(|(plugin, _)| plugins.contains(plugin));
    at_once(some.collect(), |(plugin, policies)| {
        let lab = Lab::new(&SOON);
        let live = lab.after(60, &[]);
        let mut bad = Vec::new();
        for (times, policy) in (1..).zip(policies) {
            let behaviour = behaviour(lab.written());
            live.on_probation(plugin, &behaviour, policy);
            // Some batches that it takes, until the one that it fails on.
            until("it fails", || {
                lab.write(15);
                live.wait("the batch is read, or read again", |status| status.records == lab.written() as u64);
                live.status().swaps[plugin].get("rolled_back") == Some(&times)
            });
            live.settle(lab.written());
            was_taken_back(&lab, &live, plugin, &behaviour, why);
            bad.push(behaviour);
        }
        lab.as_if_never_swapped(live);
        for behaviour in bad {
            assert_eq!(lab.made_by(&digest_of(&behaviour)), Vec::<PathBuf>::new(), "{behaviour}");
        }
    });
}

#[test]
fn a_version_that_traps_after_some_batches_is_taken_back() {
    fails_later(&ALL, |next| format!("trap-on:e{}", next + 20), "unreachable");
}

#[test]
fn a_version_that_exceeds_its_deadline_is_taken_back() {
    fails_later(&ALL, |next| format!("loop-on:e{}", next + 20), "deadline");
}

#[test]
fn a_version_that_traps_at_once_is_taken_back() {
    at_once(by_plugin(), |(plugin, policies)| {
        let lab = Lab::new(&LONG);
        let mut live = lab.after(60, &[]);
        for policy in policies {
            // Just after a start there are no records yet to try it on, but there is state.
            live.running.stop().expect(0);
            live = lab.start(&[]);
            live.checkpoints(1);
            let answer = live.on_probation(plugin, "trap-at-once", policy);
            assert!(answer.difference.iter().any(|line| line.contains("tried without any record")), "{answer:?}");
            lab.write(30);
            live.taken_back(plugin, 1);
            live.settle(lab.written());
            was_taken_back(&lab, &live, plugin, "trap-at-once", "unreachable");
        }
        lab.as_if_never_swapped(live);
        assert_eq!(lab.made_by(&digest_of("trap-at-once")), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_version_that_answers_otherwise_than_it_said_is_taken_back() {
    // Later than any instance is asked for results while it is tried.
    fails_later(&AGGREGATES, |next| format!("wrong-schema:5,tag:{next}"), "columns");
}

#[test]
fn a_version_that_cannot_take_up_states_is_refused_before_anything_was_read() {
    let cases = ["counts", "visits"].into_iter().flat_map(|plugin| {
        [("refuse-restore", "it was told to refuse"), ("trap-in-restore", "unreachable")].map(|case| (plugin, case))
    });
    at_once(cases.collect(), |(plugin, (behaviour, why))| {
        let lab = Lab::new(&LONG);
        lab.after(65, &[]).running.stop().expect(0);
        let live = lab.start(&[]);
        live.checkpoints(1);
        for policy in POLICIES {
            refused(live.swap(plugin, behaviour, Some(policy)), RefusalKind::Unacceptable, &[why]);
        }
        assert_eq!(lab.in_force(plugin), base(plugin));
        live.says(&[plugin, &digest_of(behaviour), why]);
        lab.write(20);
        live.settle(lab.written());
        lab.as_if_never_swapped(live);
    });
}

#[test]
fn without_probation_a_fault_is_one_like_any_other() {
    let cases = ["counts", "visits", "parser"].to_vec();
    at_once(cases, |plugin| {
        let lab = Lab::new(&["--set", "swap.probation=0", "--set", "faults.breaker=100%"]);
        let live = lab.after(60, &[]);
        let behaviour = "trap-on:e70";
        let answer = live.swapped(plugin, behaviour, (plugin != "parser").then_some(Policy::Migrate));
        assert_eq!(answer.outcome, Outcome::InForce);
        lab.write(30);
        live.settle(lab.written());
        assert_eq!((live.plugin(plugin).digest, lab.in_force(plugin)), (digest_of(behaviour), digest_of(behaviour)));
        refused(live.rollback(plugin), RefusalKind::Conflict, &["not on probation", "by its digest"]);
        live.running.stop().expect(0);
        lab.drain().says(&["the accounting closes"]);
        let letters = lab.rows("_dead_letters", &["partition", "offset", "reason", "plugin_digest"]);
        assert_eq!(letters, [format!("0 35 plugin_fault {}", digest_of(behaviour))]);
        assert!(lab.history().iter().all(|entry| entry.action == history::Action::Swap));
    });
}

#[test]
fn a_version_that_takes_far_more_time_or_memory_is_taken_back() {
    let cases = [
        ("counts", "slow:30", "a row takes it", "swap.most_time=3"),
        ("parser", "slow:60", "a row takes it", "swap.most_time=3"),
        ("visits", "memory:4", "of memory", "swap.most_memory=2"),
    ];
    at_once(cases.to_vec(), |(plugin, behaviour, why, most)| {
        let lab = Lab::new(&[LONG[0], LONG[1], "--set", most, "--set", "limits.memory=1GB"]);
        let live = lab.after(2000, &[]);
        live.on_probation(plugin, behaviour, None);
        for _ in 0..20 {
            lab.write(100);
            live.wait("the batch is read, or read again", |status| status.records == lab.written() as u64);
        }
        live.taken_back(plugin, 1);
        live.settle(lab.written());
        was_taken_back(&lab, &live, plugin, behaviour, why);
        lab.as_if_never_swapped(live);
        assert_eq!(lab.made_by(&digest_of(behaviour)), Vec::<PathBuf>::new());
    });
}
