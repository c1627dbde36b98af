//! Processes that begin: with a version on probation, with other files at the paths, with versions that are gone.

use crate::job::{files, until};
use crate::lab::{COLUMNS, LONG, Lab, Live, at_once, base, digest_of, has_line, refused, roles};
use std::os::unix::process::ExitStatusExt;
use wasmill::admin::control::{Policy, RefusalKind};
use wasmill::store::{Probation, history};

#[test]
fn a_probation_goes_on_after_a_restart_and_ends_as_it_would_have() {
    at_once(roles(), |(plugin, policy)| {
        if policy == Some(Policy::Fresh) {
            return;
        }
        let lab = Lab::new(&["--set", "swap.probation=150"]);
        let live = lab.after(65, &[]);
        live.on_probation(plugin, "tag:b", policy);
        lab.write(20);
        live.settle(lab.written());
        let probation = lab.manifest().probation.unwrap();
        let before = lab.committed();
        live.running.stop().expect(0);
        assert_eq!(lab.committed(), before, "a stop commits nothing of a probation");
        // It goes on where it was, whatever the setting is now; to take over makes a checkpoint that does not count.
        let live = lab.start(&["--set", "swap.probation=2", "--set", "checkpoint.interval=20ms"]);
        live.checkpoints(1);
        assert_eq!(live.plugin(plugin).digest, digest_of("tag:b"));
        assert_eq!(lab.manifest().probation, Some(Probation { until: probation.until + 1, ..probation.clone() }));
        lab.write(20);
        live.confirmed();
        assert!(lab.manifest().checkpoint > probation.until);
        live.settle(lab.written());
        lab.as_if_never_swapped(live);
        assert!(!lab.made_by(&digest_of("tag:b")).is_empty());
    });
}

#[test]
fn a_run_that_ends_by_itself_on_probation_confirms() {
    let lab = Lab::new(&LONG);
    let live = lab.after(65, &[]);
    live.on_probation("visits", "tag:b", Some(Policy::Migrate));
    live.running.stop().expect(0);
    lab.write(30);
    lab.running(&["--until-caught-up"], None).finish().expect(0);
    let manifest = lab.manifest();
    assert!(manifest.probation.is_none() && manifest.plugins["visits"] == digest_of("tag:b"));
    assert_eq!(lab.history().pop().unwrap().outcome, history::Outcome::Confirmed);
    lab.drain();
    lab.equals_a_run_without_swaps(&COLUMNS.map(|(output, _)| output));
}

#[test]
fn a_version_that_processes_die_of_again_and_again_is_taken_back() {
    let lab = Lab::new(&LONG);
    let live = lab.after(65, &[]);
    live.on_probation("counts", "tag:b", None);
    lab.write(20);
    live.settle(lab.written());
    live.running.signal("KILL");
    live.running.finish();
    let mut deaths = 0;
    // Each dies before it has made a checkpoint.
    let live = loop {
        let dying = lab.running(&[], Some("state-loaded:1"));
        if deaths == 4 {
            break dying.finish();
        }
        assert_eq!(dying.finish().status.signal(), Some(9));
        assert_eq!(lab.in_force("counts"), if deaths < 3 { digest_of("tag:b") } else { base("counts") }, "{deaths}");
        deaths += 1;
    };
    assert_eq!(live.status.signal(), Some(9));
    let live = lab.start(&[]);
    live.settle(lab.written());
    let entry = lab.history().pop().unwrap();
    assert_eq!((entry.outcome, entry.who.as_str()), (history::Outcome::RolledBack, "host"));
    assert!(entry.detail.contains("processes in a row"), "{}", entry.detail);
    lab.as_if_never_swapped(live);
    assert_eq!(lab.made_by(&digest_of("tag:b")).len(), 0);
}

#[test]
fn a_file_that_changed_while_the_pipeline_was_stopped_is_swapped_in_at_the_start() {
    at_once(roles(), |(plugin, policy)| {
        let state = policy.map_or_else(String::new, |policy| format!("swap.state={policy}"));
        let lab = Lab::new(&[]);
        lab.after(65, &[]).running.stop().expect(0);
        let next = lab.put_file(plugin, "version:2");
        let live = lab.start(if policy.is_some() { vec!["--set", &state] } else { Vec::new() }.as_slice());
        live.checkpoints(1);
        let entry = lab.history().into_iter().find(|entry| entry.plugin == plugin).unwrap();
        assert_eq!((entry.outcome, entry.who.as_str()), (history::Outcome::OnProbation, "file"));
        assert_eq!((&entry.from, &entry.to), (&base(plugin), &next));
        assert_eq!(entry.policy, policy.map(|policy| policy.to_string()));
        assert_eq!(live.plugin(plugin).digest, next);
        live.confirmed();
        lab.write(60);
        live.settle(lab.written());
        live.running.stop().expect(0);
        lab.drain().says(&["the accounting closes"]);
        assert_eq!(lab.in_force(plugin), next);
        assert!(!lab.made_by(&next).is_empty());
        let mut outputs: Vec<&str> = COLUMNS.iter().map(|(output, _)| *output).collect();
        if policy == Some(Policy::Fresh) {
            outputs.retain(|output| *output != plugin);
            let events = |rows: Vec<String>| rows.iter().map(|row| row.parse::<usize>().unwrap()).sum::<usize>();
            let counted = events(lab.rows(plugin, &["events"]));
            assert!(counted < lab.written() && counted >= lab.written() - 20, "{counted}");
        }
        lab.equals_a_run_without_swaps(&outputs);
    });
}

#[test]
fn a_file_that_cannot_take_up_the_state_at_the_start_is_taken_back() {
    at_once(vec!["counts", "visits"], |plugin| {
        let lab = Lab::new(&LONG);
        lab.after(65, &[]).running.stop().expect(0);
        let bad = lab.put_file(plugin, "refuse-restore");
        let live = lab.start(&[]);
        live.checkpoints(1);
        assert_eq!((live.plugin(plugin).digest, lab.in_force(plugin)), (base(plugin), base(plugin)));
        let entry = lab.history().pop().unwrap();
        assert_eq!((entry.outcome, &entry.from), (history::Outcome::RolledBack, &bad));
        assert!(entry.detail.contains("it was told to refuse"), "{}", entry.detail);
        lab.write(20);
        live.settle(lab.written());
        // Nor is it tried once more at the next start.
        live.running.stop().expect(0);
        let live = lab.start(&[]);
        live.checkpoints(1);
        assert_eq!(lab.history().pop().unwrap(), entry);
        lab.as_if_never_swapped(live);
    });
}

/// Waits until the history has an entry of this outcome about a version.
fn told(lab: &Lab, live: &Live, outcome: history::Outcome, digest: &str) {
    live.wait("the history tells of it", |_| {
        lab.history().iter().any(|entry| entry.outcome == outcome && entry.to == digest)
    });
}

#[test]
fn a_file_that_was_refused_is_not_taken_at_the_next_start() {
    let watched = ["--set", "swap.watch=true"];
    let lab = Lab::new(&watched);
    let live = lab.after(60, &[]);
    let bad = lab.put_file("counts", "merge-not-commutative");
    told(&lab, &live, history::Outcome::Refused, &bad);
    live.checkpoints(2);
    assert_eq!(lab.manifest().seen["counts"], bad);
    live.running.stop().expect(0);
    let live = lab.start(&[]);
    live.checkpoints(2);
    assert_eq!((live.plugin("counts").digest, lab.history().len()), (base("counts"), 1));
    let good = lab.put_file("counts", "tag:mended");
    told(&lab, &live, history::Outcome::Confirmed, &good);
    assert_eq!(lab.in_force("counts"), good);
    lab.write(20);
    lab.as_if_never_swapped(live);
}

#[test]
fn an_old_file_does_not_replace_what_was_swapped_in_by_other_ways() {
    let lab = Lab::new(&["--set", "swap.watch=true"]);
    let live = lab.after(60, &[]);
    live.on_probation("visits", "tag:b", None);
    live.confirmed();
    live.running.stop().expect(0);
    let live = lab.start(&[]);
    live.checkpoints(2);
    assert_eq!((live.plugin("visits").digest, lab.in_force("visits")), (digest_of("tag:b"), digest_of("tag:b")));
    lab.as_if_never_swapped(live);
}

#[test]
fn a_version_in_force_that_is_kept_nowhere_is_asked_for_by_its_digest() {
    let lab = Lab::new(&[]);
    let live = lab.after(60, &[]);
    live.on_probation("counts", "tag:b", None);
    live.confirmed();
    live.running.stop().expect(0);
    let digest = digest_of("tag:b");
    let kept = files(&lab.job.checkpoints()).into_iter().find(|path| path.ends_with(format!("{digest}.wasm"))).unwrap();
    let aside = kept.with_extension("aside");
    std::fs::rename(&kept, &aside).unwrap();
    let end = lab.running(&["--drain"], None).finish().expect(1);
    let texts = ["counts", &digest, "the version in force is not there", "put the component there as"];
    assert!(has_line(&end.stderr, &texts), "{}", end.stderr);
    std::fs::rename(&aside, &kept).unwrap();
    lab.drain();
    lab.equals_a_run_without_swaps(&COLUMNS.map(|(output, _)| output));
}

/// A run whose aggregate `counts` has failed too often.
fn out_of_service(lab: &Lab) -> Live {
    let live = lab.after(60, &[]);
    live.swapped("counts", "trap-in-finish:8", Some(Policy::Migrate));
    until("the aggregate is out of service", || {
        lab.write(10);
        live.wait("they are read", |status| status.records == lab.written() as u64);
        live.status().aggregates[0].out_of_service.is_some()
    });
    live
}

/// It counts again, nothing is lost from the books, and nobody else has noticed.
fn is_mended(lab: &Lab, live: Live, digest: &str) {
    live.checkpoints(1);
    assert_eq!((&*live.plugin("counts").digest, live.status().aggregates[0].out_of_service.clone()), (digest, None));
    lab.write(40);
    live.settle(lab.written());
    live.running.stop().expect(0);
    lab.drain().says(&["the accounting closes"]);
    lab.equals_a_run_without_swaps(&["events_raw", "visits", "geo"]);
}

#[test]
fn an_aggregate_out_of_service_is_mended_by_a_swap() {
    let lab = Lab::new(&["--set", "swap.probation=0"]);
    let live = out_of_service(&lab);
    let pinned = live.swap("counts", "tag:mended", Some(Policy::Pin));
    refused(pinned, RefusalKind::Unacceptable, &["out of service", "--policy fresh"]);
    live.swapped("counts", "tag:mended", None);
    is_mended(&lab, live, &digest_of("tag:mended"));
}

#[test]
fn an_aggregate_out_of_service_is_mended_by_its_file_at_a_start() {
    let lab = Lab::new(&["--set", "swap.probation=0"]);
    out_of_service(&lab).running.stop().expect(0);
    let mended = lab.put_file("counts", "tag:mended");
    is_mended(&lab, lab.start(&[]), &mended);
}
