//! kill -9 at each step of a swap: afterwards the version is in force that the newest checkpoint names, and no other;
//! the rows are those of a run without kills.

use crate::job::Finished;
use crate::lab::{COLUMNS, LONG, Lab, Live, at_once, base, digest_of, swap};
use crate::swap_failpoints::OF_SWAPS;
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use wasmill::admin::control::Policy;

/// A kill.
struct Kill {
    /// The failpoint, and how often the process comes there.
    at: &'static str,
    plugin: &'static str,
    policy: Option<Policy>,
    /// Whether the newest checkpoint names the new version.
    new: bool,
    /// What leads there.
    way: Way,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// The swap itself.
    Swap,
    /// Its confirmation.
    Confirm,
    /// A fault of the new version.
    Fault,
    /// Somebody asks for a rollback.
    Rollback,
    /// A shadow is promoted.
    Promote,
    /// The version before retires.
    Retire,
}

const fn kill(at: &'static str, plugin: &'static str, policy: Option<Policy>, new: bool, way: Way) -> Kill {
    Kill { at, plugin, policy, new, way }
}

const MIGRATE: Option<Policy> = Some(Policy::Migrate);
const PIN: Option<Policy> = Some(Policy::Pin);

const SWAPS: [Kill; 10] = [
    kill("all-stand-still:1", "parser", None, false, Way::Swap),
    kill("upgrades-sent:1", "counts", MIGRATE, false, Way::Swap),
    kill("gone-on:1", "visits", PIN, false, Way::Swap),
    kill("boundary-published:1", "visits", MIGRATE, false, Way::Swap),
    kill("boundary-published:1", "parser", None, false, Way::Swap),
    kill("versions-changed:1", "counts", PIN, false, Way::Swap),
    kill("versions-in-force:1", "parser", None, true, Way::Swap),
    kill("versions-in-force:1", "counts", MIGRATE, true, Way::Swap),
    kill("versions-in-force:1", "visits", PIN, true, Way::Swap),
    kill("versions-in-force:1", "visits", MIGRATE, true, Way::Swap),
];

const AFTERWARDS: [Kill; 10] = [
    kill("confirmation-published:1", "counts", MIGRATE, true, Way::Confirm),
    kill("confirmation-published:1", "parser", None, true, Way::Confirm),
    kill("swap-confirmed:1", "visits", PIN, true, Way::Confirm),
    kill("going-back:1", "counts", MIGRATE, true, Way::Fault),
    kill("went-back:1", "visits", PIN, false, Way::Fault),
    kill("went-back:1", "parser", None, false, Way::Fault),
    kill("going-back:1", "visits", MIGRATE, true, Way::Rollback),
    kill("went-back:1", "counts", PIN, false, Way::Rollback),
    kill("versions-changed:2", "counts", PIN, true, Way::Retire),
    kill("versions-in-force:2", "visits", PIN, true, Way::Retire),
];

const PROMOTIONS: [Kill; 3] = [
    kill("boundary-published:2", "counts", None, false, Way::Promote),
    kill("versions-changed:2", "visits", None, false, Way::Promote),
    kill("versions-in-force:2", "counts", None, true, Way::Promote),
];

/// Where processes of this test were killed.
static DIED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn died(lab: &Lab, end: &Finished, at: &str) {
    assert_eq!(end.status.signal(), Some(9), "{at}: {}", end.stderr);
    assert!(lab.manifest().checkpoint > 0);
    DIED.lock().unwrap().insert(at.split(':').next().unwrap().to_owned());
}

/// The behaviour of the new version.
fn behaviour(way: Way) -> &'static str {
    if way == Way::Fault { "trap-on:e75" } else { "tag:next" }
}

/// Does what leads to the kill. Whoever asks for what ends so gets no answer.
fn lead(lab: &Lab, live: &Live, kill: &Kill) {
    let asked = |ask| drop(live.client.ask(&ask));
    match kill.way {
        Way::Swap => asked(swap(kill.plugin, behaviour(kill.way), kill.policy)),
        Way::Confirm => {
            asked(swap(kill.plugin, behaviour(kill.way), kill.policy));
            lab.write(20);
        }
        Way::Fault | Way::Rollback => {
            live.on_probation(kill.plugin, behaviour(kill.way), kill.policy);
            lab.write(20);
            if kill.way == Way::Rollback {
                live.settle(lab.written());
                asked(wasmill::admin::control::Ask::Rollback { plugin: kill.plugin.into() });
            }
        }
        Way::Promote => {
            live.shadow(kill.plugin, behaviour(kill.way), false).unwrap();
            lab.write(20);
            live.settle(lab.written());
            asked(wasmill::admin::control::Ask::Promote { plugin: kill.plugin.into() });
        }
        Way::Retire => {
            live.on_probation(kill.plugin, behaviour(kill.way), kill.policy);
            live.confirmed();
            lab.write(60);
        }
    }
}

fn is_survived(kill: &Kill) {
    let long = [Way::Fault, Way::Rollback].contains(&kill.way);
    let lab = Lab::new(if long { &LONG } else { &[] });
    lab.write(65);
    let live = Live::of(lab.running(&[], Some(kill.at)));
    live.settle(65);
    lead(&lab, &live, kill);
    died(&lab, &live.running.finish(), kill.at);
    let (new, old) = (digest_of(behaviour(kill.way)), base(kill.plugin));
    let wanted = if kill.new { &new } else { &old };
    assert_eq!(lab.in_force(kill.plugin), *wanted, "{} {}", kill.at, kill.plugin);
    lab.write(20);
    lab.drain().says(&["the accounting closes"]);
    // Where a version is in force that fails it fails once more, and is taken back for good.
    let wanted = if kill.way == Way::Fault { &old } else { wanted };
    let manifest = lab.manifest();
    assert_eq!(manifest.plugins[kill.plugin], *wanted, "{} {}", kill.at, kill.plugin);
    assert!(manifest.probation.is_none(), "{manifest:#?}");
    lab.equals_a_run_without_swaps(&COLUMNS.map(|(output, _)| output));
    if !kill.new || kill.way == Way::Fault {
        assert_eq!(lab.made_by(&new).len(), 0, "{}", kill.at);
    }
}

/// A kill while a process takes up a probation: files that were open stay staged, and are whole.
fn files_that_were_open_are_held() {
    let lab = Lab::new(&LONG);
    let live = lab.after(65, &[]);
    live.on_probation("counts", "tag:next", MIGRATE);
    let before = lab.committed();
    lab.write(20);
    live.settle(lab.written());
    live.running.signal("KILL");
    live.running.finish();
    died(&lab, &lab.running(&[], Some("open-file-held:1")).finish(), "open-file-held");
    assert_eq!(lab.in_force("counts"), digest_of("tag:next"));
    let live = lab.start(&[]);
    live.settle(lab.written());
    assert_eq!(lab.committed(), before, "nothing is committed on probation");
    lab.as_if_never_swapped(live);
}

/// A kill just after a changed file was swapped in at a start.
fn a_file_is_swapped_in_once() {
    let lab = Lab::new(&[]);
    lab.after(65, &[]).running.stop().expect(0);
    let next = lab.put_file("visits", "tag:next");
    died(&lab, &lab.running(&[], Some("files-swapped-in:1")).finish(), "files-swapped-in");
    assert_eq!(lab.in_force("visits"), next);
    let live = lab.start(&[]);
    live.confirmed();
    lab.write(20);
    live.settle(lab.written());
    assert_eq!(lab.history().iter().filter(|entry| entry.to == next).count(), 2, "on probation, and confirmed");
    lab.as_if_never_swapped(live);
}

#[test]
fn a_kill_at_any_step_of_a_swap_leaves_the_version_in_force_that_the_checkpoint_names() {
    let all = SWAPS.iter().chain(&AFTERWARDS).chain(&PROMOTIONS).collect::<Vec<_>>();
    for some in all.chunks(6) {
        at_once(some.to_vec(), is_survived);
    }
    at_once(vec![files_that_were_open_are_held, a_file_is_swapped_in_once], |each| each());
    let all: BTreeSet<String> = OF_SWAPS.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(*DIED.lock().unwrap(), all, "a failpoint was forgotten");
}
