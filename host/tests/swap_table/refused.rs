//! What is not let in: the reply names the law, and nothing has changed.

use crate::lab::{AGGREGATES, Lab, POLICIES, base, digest_of, refused};
use wasmill::admin::control::{Ask, Candidate, RefusalKind};
use wasmill::store::history::Outcome;

/// Settings under which what never ends is found out soon.
const SOON: [&str; 2] = ["--set", "limits.deadline=700ms"];

/// What is wrong with an aggregate, and the words of the refusal.
const AGGREGATE: [(&str, &[&str]); 15] = [
    ("unfit-input", &["wealth"]),
    ("refuse-init", &["it was told to refuse"]),
    ("trap-in-init", &["unreachable"]),
    ("trap-at-once", &["\"no call fails\"", "unreachable"]),
    ("trap-after:3", &["unreachable"]),
    ("trap-in-finish", &["\"no call fails\"", "unreachable"]),
    ("trap-in-merge", &["\"no call fails\"", "unreachable"]),
    ("loop:1", &["\"no call fails\"", "deadline"]),
    ("wrong-schema:1", &["\"answers are as declared\"", "columns"]),
    ("random", &["\"asking for results changes nothing\"", "amount"]),
    // Which law shows it first depends on the records: that cuts are nothing, or other groups.
    ("cuts-matter", &["breaks the law", "amount"]),
    ("merge-not-commutative", &["\"merging is updating\"", "amount"]),
    ("merge-not-associative", &["\"merging is updating\"", "amount"]),
    ("restore-forgets", &["\"restore gives back what snapshot took\"", "amount"]),
    ("refuse-restore", &["\"restore gives back what snapshot took\"", "it was told to refuse"]),
];

/// The same of a parser.
const PARSER: [(&str, &[&str]); 9] = [
    ("unfit-input", &["wealth"]),
    ("refuse-init", &["it was told to refuse"]),
    ("trap-at-once", &["\"no call fails\"", "unreachable"]),
    ("loop:1", &["\"no call fails\"", "deadline"]),
    ("wrong-schema:1", &["columns"]),
    ("other-schema", &["revenue"]),
    ("without:page", &["page"]),
    ("random", &["\"the same calls give the same answers\""]),
    ("cuts-matter", &["\"cutting a batch changes nothing\"", "revenue"]),
];

/// Asks for each, and asserts that it is refused so and that all is as it was.
fn all_refused(plugin: &str, wrong: &[(&str, &[&str])]) {
    let lab = Lab::new(&SOON);
    let live = lab.after(60, &[]);
    for (number, (behaviour, words)) in wrong.iter().enumerate() {
        let policies = if plugin == "parser" { vec![None] } else { POLICIES.map(Some).to_vec() };
        // Policies differ in what becomes of states: each behaviour that has to do with them is tried with all.
        let all = behaviour.contains("restore");
        let policies = policies.iter().enumerate().filter(|(at, _)| all || *at == number % policies.len());
        for (_, policy) in policies {
            refused(live.swap(plugin, behaviour, *policy), RefusalKind::Unacceptable, words);
        }
        live.says(&["swap refused", plugin, &digest_of(behaviour)]);
    }
    assert_eq!((lab.in_force(plugin), live.plugin(plugin).digest), (base(plugin), base(plugin)));
    let history = lab.history();
    for (behaviour, words) in wrong {
        let digest = digest_of(behaviour);
        let entry = history.iter().find(|entry| entry.to == digest).expect("it is in the history");
        assert_eq!((entry.outcome, entry.plugin.as_str(), &entry.from), (Outcome::Refused, plugin, &base(plugin)));
        assert!(entry.detail.contains(words[0]), "{}", entry.detail);
    }
    lab.write(30);
    live.settle(lab.written());
    lab.as_if_never_swapped(live);
}

#[test]
fn an_aggregate_in_windows_that_breaks_a_law_is_refused_by_its_name() {
    all_refused(AGGREGATES[0], &AGGREGATE);
}

#[test]
fn an_aggregate_in_sessions_that_breaks_a_law_is_refused_by_its_name() {
    all_refused(AGGREGATES[1], &AGGREGATE);
}

#[test]
fn a_parser_that_breaks_a_law_is_refused_by_its_name() {
    all_refused("parser", &PARSER);
}

#[test]
fn what_there_is_not_is_said_with_what_there_is() {
    let lab = Lab::new(&[]);
    let live = lab.after(20, &[]);
    refused(live.swap("pages", "tag:b", None), RefusalKind::NotFound, &["pages", "counts, visits, geo, parser"]);
    refused(live.swap("generator", "tag:b", None), RefusalKind::NotFound, &["no generator"]);
    let of = |component| Ask::Swap { plugin: "counts".into(), component, policy: None, dry_run: false };
    refused(live.ask(&of(Candidate::Digest("0123456789".into()))), RefusalKind::NotFound, &["0123456789"]);
    let no_component = of(Candidate::Bytes(b"no component".to_vec()));
    refused(live.ask(&no_component), RefusalKind::Unacceptable, &["counts"]);
    refused(live.swap("parser", "tag:b", Some(POLICIES[0])), RefusalKind::Unacceptable, &["a parser has no state"]);
    refused(live.shadow("parser", "tag:b", false), RefusalKind::Unacceptable, &["only an aggregate"]);
    refused(live.promote("counts"), RefusalKind::NotFound, &["counts has no shadow"]);
    refused(live.ask(&Ask::Discard { plugin: "counts".into() }), RefusalKind::NotFound, &["counts has no shadow"]);
    lab.as_if_never_swapped(live);
}
