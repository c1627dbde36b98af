//! Versions with nothing wrong: what each policy promises of the rows before, at and after the boundary.

use crate::job::BROKER_TIME_MS;
use crate::lab::{COLUMNS, DELAY, GAP, Lab, WINDOW, base, component, digest_of, page, refused, swap};
use crate::patch::sum_of_ids;
use wasmill::admin::control::{Ask, Candidate, Outcome, Policy, RefusalKind};
use wasmill::store::history;

/// Events that are read before a swap: windows and a session are open after them.
const BEFORE: usize = 65;
/// All events.
const ALL: usize = 125;

/// The second after the first event that a time in a row means.
fn second(time_us: &str) -> usize {
    usize::try_from(time_us.parse::<i64>().unwrap() / 1_000_000 - BROKER_TIME_MS / 1000).unwrap()
}

/// Rows of an aggregate: where each starts, its `events`, and its `newer`, which version 2 has; `-` in files of version 1.
fn newer(lab: &Lab, aggregate: &str) -> Vec<(usize, i64, String)> {
    let start = if aggregate == "visits" { "session_start" } else { "window_start" };
    let rows = lab.rows(aggregate, &[start, "events", "newer"]);
    let parts = rows.iter().map(|row| row.split(' ').collect::<Vec<_>>());
    parts.map(|row| (second(row[0]), row[1].parse().unwrap(), row[2].to_owned())).collect()
}

/// A pipeline that has read `BEFORE` events, swapped these aggregates, and read the others.
fn swapped(behaviour: &str, policy: Policy) -> Lab {
    let lab = Lab::new(&[]);
    let live = lab.after(BEFORE, &[]);
    for aggregate in ["counts", "visits"] {
        let answer = live.on_probation(aggregate, behaviour, Some(policy));
        assert_eq!((answer.policy, &answer.from), (Some(policy), &base(aggregate)));
        let boundary = answer.boundary.unwrap();
        assert_eq!(boundary.offsets.values().sum::<i64>() as usize, BEFORE, "the boundary is where reading was");
        live.confirmed();
    }
    lab.write(ALL - BEFORE);
    live.settle(ALL);
    live.running.stop().expect(0);
    lab.drain().says(&["the accounting closes"]);
    lab
}

#[test]
fn equal_versions_leave_every_row_as_it_was() {
    let lab = Lab::new(&[]);
    let live = lab.after(BEFORE, &[]);
    for (plugin, policy) in [("parser", None), ("counts", Some(Policy::Migrate)), ("visits", Some(Policy::Migrate))] {
        let next = format!("tag:{plugin}-2");
        live.on_probation(plugin, &next, policy);
        assert_eq!(lab.in_force(plugin), digest_of(&next));
        lab.write(30);
        live.confirmed();
        live.settle(lab.written());
        assert_eq!((live.plugin(plugin).digest, lab.in_force(plugin)), (digest_of(&next), digest_of(&next)));
    }
    lab.as_if_never_swapped(live);
    for plugin in ["parser", "counts", "visits"] {
        let next = digest_of(&format!("tag:{plugin}-2"));
        assert!(!lab.made_by(&next).is_empty(), "files say what made them");
        let told: Vec<_> = lab.history().into_iter().filter(|entry| entry.plugin == plugin).collect();
        let outcomes: Vec<_> = told.iter().map(|entry| (entry.outcome, entry.to.clone(), entry.from.clone())).collect();
        let entry = |outcome| (outcome, next.clone(), base(plugin));
        assert_eq!(outcomes, [entry(history::Outcome::OnProbation), entry(history::Outcome::Confirmed)]);
    }
}

#[test]
fn a_new_parser_makes_the_records_from_the_boundary_on() {
    let lab = Lab::new(&[]);
    let live = lab.after(BEFORE, &[]);
    live.on_probation("parser", "version:2", None);
    lab.write(30);
    live.confirmed();
    lab.as_if_never_swapped(live);
    let versions = lab.rows("events_raw", &["event_id", "parser_version"]);
    let wanted = |n: usize| format!("e{n} {}", if n < BEFORE { "-" } else { "2" });
    let mut all: Vec<String> = (0..lab.written()).map(wanted).collect();
    all.sort();
    assert_eq!(versions, all);
}

#[test]
fn migrated_windows_go_on_with_what_they_had_counted() {
    let lab = swapped("version:2", Policy::Migrate);
    lab.equals_a_run_without_swaps(&COLUMNS.map(|(output, _)| output));
    // Closed before: by version 1. Open at the boundary: version 2 has seen what came since then. Later: all.
    let closed = BEFORE - 2 - DELAY;
    for (start, events, newer) in newer(&lab, "counts") {
        match start {
            start if start + WINDOW <= closed => assert_eq!(newer, "-", "{start}"),
            start if start >= BEFORE => assert_eq!(newer, events.to_string(), "{start}"),
            50 => assert_eq!(newer, "0"),
            _ => assert!((0..=5).contains(&newer.parse::<i64>().unwrap()), "{start}: {newer} of {events}"),
        }
    }
    let visits: Vec<_> = newer(&lab, "visits").into_iter().map(|(start, _, newer)| (start, newer)).collect();
    let text = |start: usize, newer: &str| (start, newer.to_owned());
    let wanted = [text(0, "-"), text(24, "-"), text(48, "7"), text(72, "24"), text(96, "24"), text(120, "5")];
    assert_eq!(visits, wanted);
}

#[test]
fn pinned_windows_end_on_the_version_that_began_them() {
    let lab = swapped("version:2", Policy::Pin);
    lab.equals_a_run_without_swaps(&COLUMNS.map(|(output, _)| output));
    for aggregate in ["counts", "visits"] {
        let all = newer(&lab, aggregate);
        assert!(all.iter().any(|(start, ..)| *start >= BEFORE));
        for (start, events, newer) in all {
            let wanted = if start < BEFORE { "-".to_owned() } else { events.to_string() };
            assert_eq!(newer, wanted, "{aggregate} from {start} on");
        }
        let mut entries = lab.history().into_iter().filter(|entry| entry.plugin == aggregate);
        let retired = entries.find(|entry| entry.outcome == history::Outcome::Retired).expect("it retires");
        assert_eq!((retired.from, retired.to), (base(aggregate), digest_of("version:2")));
    }
}

#[test]
fn a_version_that_ends_its_windows_is_shown_and_keeps_the_next_one_out() {
    let lab = Lab::new(&[]);
    let live = lab.after(BEFORE, &[]);
    live.on_probation("counts", "tag:b", Some(Policy::Pin));
    live.confirmed();
    assert_eq!(live.plugin("counts").retiring, Some(base("counts")));
    refused(
        live.swap("counts", "tag:c", None),
        RefusalKind::Conflict,
        &[&base("counts")[..12], "still ends the windows"],
    );
    refused(live.shadow("counts", "tag:c", false), RefusalKind::Conflict, &["still ends the windows"]);
    // Another aggregate is not concerned.
    live.on_probation("visits", "tag:d", Some(Policy::Migrate));
    live.confirmed();
    lab.write(60);
    live.wait("the version before is gone", |_| lab.manifest().beside.is_empty());
    assert_eq!(live.plugin("counts").retiring, None);
    live.on_probation("counts", "tag:c", Some(Policy::Migrate));
    lab.as_if_never_swapped(live);
}

/// What the honest aggregate says of these events.
fn tally(events: impl Iterator<Item = usize> + Clone) -> Option<String> {
    let ids: Vec<String> = events.clone().map(|n| format!("e{n}")).collect();
    let (count, amount) = (ids.len(), events.sum::<usize>());
    (count > 0).then(|| format!("{count} {amount} {}", sum_of_ids(ids.iter().map(String::as_str))))
}

#[test]
fn fresh_drops_what_open_windows_had_counted_and_nothing_else() {
    let lab = swapped("version:2", Policy::Fresh);
    lab.equals_a_run_without_swaps(&["events_raw", "geo", "_dead_letters", "_late/counts", "_late/visits"]);
    // The partition that is behind has read up to the event before the last.
    let closed = BEFORE - 2 - DELAY;
    let counted = |n: &usize, end: usize| *n >= BEFORE || end <= closed;
    let windows = (0..ALL).step_by(WINDOW).flat_map(|start| ["/a", "/b"].map(|of| (start, start + WINDOW, of)));
    let mut counts: Vec<String> = windows
        .filter_map(|(start, end, of)| tally((start..end.min(ALL)).filter(|n| page(*n) == of && counted(n, end))))
        .collect();
    counts.sort();
    assert_eq!(lab.rows("counts", &["events", "amount", "ids"]), counts);
    let mut visits: Vec<String> = (0..ALL)
        .step_by(24)
        .filter_map(|start| {
            let end = (start + 24).min(ALL);
            tally((start..end).filter(|n| *n >= BEFORE || end - 1 + GAP < closed))
        })
        .collect();
    visits.sort();
    assert_eq!(lab.rows("visits", &["events", "amount", "ids"]), visits);
    let newer = [newer(&lab, "counts"), newer(&lab, "visits")].concat();
    assert!(newer.iter().all(|(_, events, newer)| newer == "-" || *newer == events.to_string()), "{newer:?}");
}

#[test]
fn without_a_policy_the_state_is_migrated_where_it_can_be_read_and_pinned_where_not() {
    let lab = Lab::new(&[]);
    let live = lab.after(BEFORE, &[]);
    let dry = |behaviour: &str, policy| {
        let component = Candidate::Bytes(component(behaviour));
        let ask = Ask::Swap { plugin: "counts".into(), component, policy, dry_run: true };
        let answer = live.ask(&ask).unwrap();
        assert_eq!((answer.outcome, answer.boundary), (Outcome::WouldBeAccepted, None));
        answer.policy
    };
    assert_eq!(dry("version:2", None), Some(Policy::Migrate));
    assert_eq!(dry("version:3", None), Some(Policy::Pin));
    assert_eq!(dry("version:3", Some(Policy::Fresh)), Some(Policy::Fresh));
    let unreadable = ["cannot read the state", "version 3", "--policy pin or fresh"];
    refused(live.swap("counts", "version:3", Some(Policy::Migrate)), RefusalKind::Unacceptable, &unreadable);
    // Nothing of that has happened, and what is in force already stays.
    let same = live.ask(&swap("counts", "tag:counts", None)).unwrap();
    assert_eq!((same.outcome, same.to), (Outcome::Unchanged, base("counts")));
    assert!(lab.in_force("counts") == base("counts") && lab.manifest().probation.is_none());
    lab.as_if_never_swapped(live);
}
