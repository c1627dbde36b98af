//! One thing at a time: what waits, what is refused, and what a person takes back.

use crate::job::until;
use crate::lab::{LONG, Lab, at_once, base, by_plugin, digest_of, refused, swap};
use wasmill::admin::control::{Ask, Candidate, Outcome, Policy, RefusalKind};
use wasmill::store::history;

#[test]
fn of_two_who_ask_at_once_one_is_told_to_wait() {
    let lab = Lab::new(&LONG);
    let live = lab.after(60, &[]);
    let (one, other) = (live.another_client(), live.another_client());
    let replies = std::thread::scope(|scope| {
        let asks = [(&one, "counts"), (&other, "visits")];
        let threads =
            asks.map(|(client, plugin)| scope.spawn(move || client.ask(&swap(plugin, "tag:b", None)).unwrap()));
        threads.map(|thread| thread.join().unwrap())
    });
    let [one, other] = replies;
    let (done, told) = if one.is_ok() { (one, other) } else { (other, one) };
    let done = done.unwrap();
    assert_eq!(done.outcome, Outcome::OnProbation);
    let told = told.unwrap_err();
    assert_eq!(told.kind, RefusalKind::Conflict, "{}", told.message);
    let other = if done.plugin == "counts" { "visits" } else { "counts" };
    assert_eq!((lab.in_force(&done.plugin), lab.in_force(other)), (digest_of("tag:b"), base(other)));
    lab.as_if_never_swapped(live);
}

/// A version whose trial ends with its deadline only, and a deadline that nobody waits for.
const ENDLESS: &str = "loop:1";
const LATE: [&str; 2] = ["--set", "limits.deadline=5m"];

#[test]
fn a_version_whose_trial_lasts_keeps_nobody_waiting_and_can_be_cancelled() {
    let lab = Lab::new(&[&LONG[..], &LATE].concat());
    let live = lab.after(60, &[]);
    let another = live.another_client();
    std::thread::scope(|scope| {
        let trying = scope.spawn(|| another.ask(&swap("counts", ENDLESS, None)).unwrap());
        until("it is being tried", || {
            live.client.status().unwrap().trials.iter().any(|trial| trial.plugin == "counts")
        });
        let trial = live.client.status().unwrap().trials.remove(0);
        assert_eq!((trial.digest, trial.who.as_str()), (digest_of(ENDLESS), "token:test"));
        // What needs no trial, and versions of other plugins.
        refused(live.rollback("visits"), RefusalKind::Conflict, &["visits is not on probation"]);
        refused(live.promote("counts"), RefusalKind::NotFound, &["counts has no shadow"]);
        live.on_probation("visits", "tag:b", None);
        assert_eq!(live.rollback("visits").unwrap().outcome, Outcome::RolledBack);
        live.settle(lab.written());
        // One of a plugin at a time.
        refused(live.swap("counts", "tag:c", None), RefusalKind::Conflict, &["being tried", "wasmill cancel counts"]);
        let cancel = Ask::Cancel { plugin: "counts".into() };
        let answer = live.ask(&cancel).unwrap();
        assert_eq!((answer.outcome, answer.from, answer.to), (Outcome::Cancelled, base("counts"), digest_of(ENDLESS)));
        refused(trying.join().unwrap(), RefusalKind::Unacceptable, &["its trial was cancelled by token:test"]);
        assert_eq!(live.client.status().unwrap().trials, []);
        refused(live.ask(&cancel), RefusalKind::NotFound, &["no version of counts is being tried"]);
    });
    lab.as_if_never_swapped(live);
}

#[test]
fn a_trial_has_a_limit_as_a_whole_and_its_file_is_not_tried_again() {
    let lab = Lab::new(&[&["--set", "swap.trial_limit=1s", "--set", "swap.watch=true"][..], &LATE].concat());
    let live = lab.after(60, &[]);
    refused(live.swap("counts", ENDLESS, None), RefusalKind::Unacceptable, &["takes longer than swap.trial_limit=1s"]);
    lab.put_file("visits", ENDLESS);
    until("the file is refused", || lab.history().iter().any(|entry| entry.who == "file"));
    let refusal = lab.history().pop().unwrap();
    assert_eq!((refusal.outcome, refusal.plugin.as_str()), (history::Outcome::Refused, "visits"));
    live.settle(lab.written());
    lab.as_if_never_swapped(live);
}

#[test]
fn nothing_else_is_changed_while_a_version_is_on_probation() {
    let lab = Lab::new(&LONG);
    let live = lab.after(60, &[]);
    live.on_probation("counts", "tag:b", None);
    let until = live.plugin("counts").probation_until.unwrap();
    let words = ["counts is on probation", &format!("until checkpoint {until}"), "wasmill rollback"];
    refused(live.swap("counts", "tag:c", None), RefusalKind::Conflict, &words);
    refused(live.swap("parser", "tag:c", None), RefusalKind::Conflict, &words);
    refused(live.shadow("visits", "tag:c", false), RefusalKind::Conflict, &words);
    refused(live.rollback("visits"), RefusalKind::Conflict, &["visits is not on probation"]);
    refused(live.rollback("pages"), RefusalKind::NotFound, &["pages"]);
    lab.as_if_never_swapped(live);
}

#[test]
fn on_probation_nothing_is_committed_and_a_rollback_takes_all_of_it_back() {
    at_once(by_plugin(), |(plugin, policies)| {
        let lab = Lab::new(&LONG);
        let live = lab.after(65, &[]);
        let next = format!("version:2,tag:{plugin}");
        for policy in policies {
            let boundary = live.on_probation(plugin, &next, policy).boundary.unwrap();
            let before = lab.committed();
            lab.write(20);
            live.settle(lab.written());
            assert_eq!(lab.committed(), before, "nothing of any output is committed");
            let answer = live.rollback(plugin).unwrap();
            let (from, to) = (digest_of(&next), base(plugin));
            assert_eq!((answer.outcome, &answer.from, &answer.to), (Outcome::RolledBack, &from, &to));
            assert_eq!(answer.boundary.unwrap().offsets, boundary.offsets, "it goes on where the swap was");
            live.settle(lab.written());
            assert_eq!((live.plugin(plugin).digest, lab.in_force(plugin)), (to.clone(), to));
            let last = lab.history().pop().unwrap();
            assert_eq!((last.outcome, last.who.as_str()), (history::Outcome::RolledBack, "token:test"));
        }
        refused(live.rollback(plugin), RefusalKind::Conflict, &["not on probation", "by its digest"]);
        lab.as_if_never_swapped(live);
        assert_eq!(lab.made_by(&digest_of(&next)), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
fn after_probation_the_version_before_is_swapped_in_by_its_digest() {
    let lab = Lab::new(&[]);
    let live = lab.after(60, &[]);
    live.on_probation("counts", "tag:b", Some(Policy::Migrate));
    live.confirmed();
    refused(
        live.rollback("counts"),
        RefusalKind::Conflict,
        &["counts is not on probation", "by its digest", "history"],
    );
    let component = Candidate::Digest(base("counts")[..12].to_owned());
    let back = Ask::Swap { plugin: "counts".into(), component, policy: None, dry_run: false };
    let answer = live.ask(&back).unwrap();
    assert_eq!((answer.outcome, answer.to), (Outcome::OnProbation, base("counts")));
    lab.write(20);
    live.confirmed();
    lab.as_if_never_swapped(live);
}

#[test]
fn a_promoted_shadow_is_on_probation_like_any_other() {
    at_once(vec![("counts", false), ("visits", true)], |(plugin, next_windows)| {
        let lab = Lab::new(&LONG);
        let live = lab.after(65, &[]);
        assert_eq!(live.shadow(plugin, "tag:b", next_windows).unwrap().outcome, Outcome::Shadowing);
        refused(live.swap(plugin, "tag:c", None), RefusalKind::Conflict, &["has a shadow", "promote or discard"]);
        lab.write(60);
        live.settle(lab.written());
        let report = live.client.shadow(plugin).unwrap().unwrap();
        assert!(report.compared > 0 && report.equal == report.compared, "{report:?}");
        assert_eq!(live.promote(plugin).unwrap().outcome, Outcome::OnProbation);
        assert_eq!(lab.in_force(plugin), digest_of("tag:b"));
        assert_eq!(live.rollback(plugin).unwrap().outcome, Outcome::RolledBack);
        live.settle(lab.written());
        assert_eq!(lab.in_force(plugin), base(plugin));
        assert!(live.plugin(plugin).shadow.is_some(), "the shadow runs again, as before it was promoted");
        assert_eq!(live.promote(plugin).unwrap().outcome, Outcome::OnProbation);
        lab.write(20);
        live.settle(lab.written());
        lab.as_if_never_swapped(live);
        assert_eq!(lab.in_force(plugin), digest_of("tag:b"));
    });
}

#[test]
fn a_shadow_that_fails_harms_nobody_and_cannot_be_promoted() {
    let lab = Lab::new(&[]);
    let live = lab.after(60, &[]);
    live.shadow("counts", "trap-on:e80", false).unwrap();
    lab.write(60);
    live.settle(lab.written());
    let failed = live.client.shadow("counts").unwrap().unwrap().failed.unwrap_or_default();
    assert!(failed.contains("unreachable"), "{failed}");
    refused(live.promote("counts"), RefusalKind::Conflict, &["does not run any more", "unreachable", "discard"]);
    assert_eq!(live.ask(&Ask::Discard { plugin: "counts".into() }).unwrap().outcome, Outcome::Discarded);
    lab.as_if_never_swapped(live);
}
