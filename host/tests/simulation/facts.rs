//! What the simulation found once, each as a fact of its own.

use crate::disk::{Death, SimDisk};
use crate::platter::{Kind, Platter, Trouble};
use crate::random::Random;
use crate::turns::Turns;
use crate::world::{CHECKPOINTS, OUTPUT};
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmill::checkpointer::{Checkpointer, Identity, WholeCut};
use wasmill::disk::{Disk, make_durable_folder};
use wasmill::plugin::digest;
use wasmill::recovery::{Beginning, recover_files};
use wasmill::sink::{self, FileNaming, Format, OutputSpec, Roll, Writers};
use wasmill::store::history::{Action, Entry, History, Outcome};
use wasmill::store::{LocalStore, Manifest, PluginStore};

/// How many of a disk's ways to forget are looked at.
const WAYS: u64 = 40;

fn platter(seed: u64) -> Arc<Platter> {
    platter_of(Kind { links: true, locks: true }, seed)
}

fn platter_of(kind: Kind, seed: u64) -> Arc<Platter> {
    Platter::new(kind, Random::new(seed), Box::new(|_| {}))
}

fn process(platter: &Arc<Platter>) -> SimDisk {
    SimDisk::new(platter, &Arc::new(Turns::new(1)), 0, Random::new(0), None)
}

fn store(disk: &SimDisk) -> LocalStore {
    LocalStore::open(Arc::new(disk.clone()), Path::new(CHECKPOINTS), 7, &mut |_| ControlFlow::Break(())).unwrap()
}

/// An attempt's checkpoints and files, from the last checkpoint on.
fn attempt(disk: &SimDisk) -> (Checkpointer, Writers) {
    let store = store(disk);
    let manifest = store.take_over(true).unwrap();
    recover_files(disk, Path::new(OUTPUT), &store, manifest.as_ref()).unwrap();
    let numbers = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let spec = OutputSpec {
        name: "numbers".into(),
        folder: Path::new(OUTPUT).join("numbers"),
        schema: numbers.schema(),
        formats: vec![Format::Csv],
        partition_by: None,
        roll: Roll { max_rows: 10, max_bytes: 1 << 20, max_age: Duration::from_hours(1) },
        plugins: BTreeMap::new(),
    };
    let naming = FileNaming { run: sink::run_of("run", store.id()), generation: store.generation(), worker: 0 };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut writers = Writers::new(shared.clone(), &[spec].into(), OUTPUT, naming, &[]).unwrap();
    writers.write(0, &numbers, Instant::now()).unwrap();
    let identity = Identity {
        pipeline: "facts".into(),
        run: None,
        fingerprint: "facts".into(),
        topic: "events".into(),
        aggregates: Vec::new(),
        plugins: BTreeMap::new(),
        beside: Vec::new(),
        seen: BTreeMap::new(),
    };
    (Beginning::of(manifest, Vec::new()).checkpointer(shared, store, OUTPUT.into(), identity), writers)
}

/// Makes a checkpoint of what was written; `last` finishes the files.
fn checkpoint((checkpointer, writers): &mut (Checkpointer, Writers), last: bool) {
    let files = writers.cut(Instant::now(), last).unwrap();
    let whole = WholeCut {
        cuts: Vec::new(),
        files,
        idle: BTreeSet::new(),
        anchors: BTreeMap::new(),
        lost_records: 0,
        made_at_us: 0,
    };
    checkpointer.publish(whole).unwrap();
}

/// The files that readers find.
fn visible(platter: &Platter) -> Vec<PathBuf> {
    let numbers = Path::new(OUTPUT).join("numbers");
    platter.files(&numbers).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn a_committed_file_survives_a_power_loss_with_all_folders_on_the_way_to_it() {
    for seed in 0..WAYS {
        let platter = platter(seed);
        let disk = process(&platter);
        checkpoint(&mut attempt(&disk), true);
        disk.die(Death::PowerLoss);
        assert_eq!(visible(&platter).len(), 1, "way {seed}");
    }
}

#[test]
fn a_file_survives_a_power_loss_amid_its_commit_where_there_are_no_hard_links() {
    for seed in 0..10 * WAYS {
        let platter = platter_of(Kind { links: false, locks: true }, seed);
        let first = process(&platter);
        let (_, mut writers) = attempt(&first);
        let files = writers.cut(Instant::now(), true).unwrap();
        sink::sync(&first, Path::new(OUTPUT), &files).unwrap();
        let end = Some((seed as usize % 12, Death::PowerLoss));
        let doomed = SimDisk::new(&platter, &Arc::new(Turns::new(1)), 0, Random::new(0), end);
        // It ends somewhere on the way, or does not.
        let _ = sink::commit(&doomed, Path::new(OUTPUT), &files.finished);
        sink::commit(&process(&platter), Path::new(OUTPUT), &files.finished).unwrap();
        assert_eq!(visible(&platter).len(), 1, "way {seed}");
    }
}

#[test]
fn a_folder_made_by_a_process_that_was_killed_is_made_durable_by_the_next() {
    for seed in 0..WAYS {
        let platter = platter(seed);
        let first = process(&platter);
        first.make_folders(Path::new(OUTPUT)).unwrap();
        first.die(Death::Kill);
        let second = process(&platter);
        make_durable_folder(&second, Path::new(OUTPUT)).unwrap();
        second.die(Death::PowerLoss);
        assert_eq!(process(&platter).length(Path::new(OUTPUT)).unwrap(), Some(0), "way {seed}");
    }
}

#[test]
fn a_file_that_a_recovery_completed_may_be_moved_away() {
    let platter = platter(0);
    let first = process(&platter);
    checkpoint(&mut attempt(&first), false);
    first.die(Death::Kill);
    let second = process(&platter);
    drop(attempt(&second));
    let files = visible(&platter);
    assert_eq!(files.len(), 1);
    platter.take(&files[0]).unwrap();
    second.die(Death::Kill);
    drop(attempt(&process(&platter)));
    assert!(visible(&platter).is_empty(), "it came back");
}

#[test]
fn a_file_that_a_process_committed_after_it_was_overtaken_is_its_readers_all_the_same() {
    for open in [false, true] {
        let platter = platter_of(Kind { links: true, locks: false }, 0);
        let first = process(&platter);
        checkpoint(&mut attempt(&first), !open);
        platter.take(&Path::new(CHECKPOINTS).join("committed-1"));
        first.die(Death::Kill);
        let [slow, fast] = [process(&platter), process(&platter)];
        let recover = |disk: &SimDisk, store: &LocalStore, manifest: Option<Manifest>| {
            recover_files(disk, Path::new(OUTPUT), store, manifest.as_ref()).unwrap();
        };
        let overtaken = store(&slow);
        let older = overtaken.take_over(true).unwrap();
        let overtaking = store(&fast);
        let newer = overtaking.take_over(true).unwrap();
        recover(&slow, &overtaken, older);
        let files = visible(&platter);
        assert_eq!(files.len(), 1);
        platter.take(&files[0]).unwrap();
        recover(&fast, &overtaking, newer);
        assert!(visible(&platter).is_empty(), "it came back");
    }
}

#[test]
fn a_file_that_was_moved_away_does_not_come_back_after_a_power_loss() {
    for seed in 0..WAYS {
        let platter = platter(seed);
        let first = process(&platter);
        checkpoint(&mut attempt(&first), true);
        platter.take(&visible(&platter)[0]).unwrap();
        first.die(Death::PowerLoss);
        drop(attempt(&process(&platter)));
        assert!(visible(&platter).is_empty(), "way {seed}: it came back");
    }
}

#[test]
fn a_checkpoint_that_a_full_disk_kept_back_is_made_when_there_is_room() {
    let platter = platter(0);
    let disk = process(&platter);
    let mut first = attempt(&disk);
    platter.trouble(Trouble::Full, 1);
    let files = first.1.cut(Instant::now(), true);
    assert_eq!(files.unwrap_err().class(), wasmill_pipeline::error::Class::Unavailable);
    drop(first);
    checkpoint(&mut attempt(&disk), true);
    assert_eq!(visible(&platter).len(), 1);
}

fn entry(id: &str) -> Entry {
    Entry {
        id: id.into(),
        time_us: 0,
        who: "file".into(),
        action: Action::Swap,
        plugin: "numbers".into(),
        from: String::new(),
        to: id.into(),
        policy: None,
        boundary: None,
        outcome: Outcome::InForce,
        detail: String::new(),
    }
}

/// The history and the plugin store of a process.
fn memory(disk: &SimDisk) -> (History, PluginStore) {
    let (disk, folder): (Arc<dyn Disk>, _) = (Arc::new(disk.clone()), Path::new(CHECKPOINTS));
    (History::open(disk.clone(), folder), PluginStore::open(disk, folder, digest))
}

#[test]
fn an_entry_of_the_history_and_a_kept_plugin_survive_a_power_loss() {
    for seed in 0..WAYS {
        let platter = platter(seed);
        let disk = process(&platter);
        drop(store(&disk));
        let (history, plugins) = memory(&disk);
        history.append(&entry("1")).unwrap();
        plugins.keep(&digest(b"one"), b"one").unwrap();
        disk.die(Death::PowerLoss);
        let (history, plugins) = memory(&process(&platter));
        assert_eq!(history.read().unwrap(), [entry("1")], "way {seed}");
        assert_eq!(plugins.read(&digest(b"one")).unwrap(), b"one", "way {seed}");
    }
}

#[test]
fn a_crash_anywhere_in_an_append_or_a_keep_harms_neither_what_was_there_nor_what_comes() {
    for (seed, steps) in (0..WAYS).flat_map(|seed| (0..12).map(move |steps| (seed, steps))) {
        let platter = platter(seed);
        drop(store(&process(&platter)));
        let (history, plugins) = memory(&process(&platter));
        history.append(&entry("1")).unwrap();
        plugins.keep(&digest(b"one"), b"one").unwrap();
        let death = if seed % 2 == 0 { Death::Kill } else { Death::PowerLoss };
        let end = Some((steps, death));
        let dying = SimDisk::new(&platter, &Arc::new(Turns::new(1)), 0, Random::new(seed), end);
        let (history, plugins) = memory(&dying);
        // It may die in the first, in the second, or in neither.
        let _ = history.append(&entry("2")).map(|()| plugins.keep(&digest(b"two"), b"two"));
        let (history, plugins) = memory(&process(&platter));
        let read = history.read().unwrap();
        assert!(read == [entry("1")] || read == [entry("1"), entry("2")], "way {seed}, step {steps}: {read:?}");
        history.append_once(&entry("2")).unwrap();
        plugins.keep(&digest(b"two"), b"two").unwrap();
        assert_eq!(history.read().unwrap(), [entry("1"), entry("2")], "way {seed}, step {steps}");
        for bytes in [b"one", b"two"] {
            assert_eq!(plugins.read(&digest(bytes)).unwrap(), bytes, "way {seed}, step {steps}");
        }
        drop(store(&process(&platter)));
    }
}
