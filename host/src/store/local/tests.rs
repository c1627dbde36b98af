use super::super::manifest::tests::manifest;
use super::super::merge::tests::{arbitrary_deltas, replay};
use super::*;
use crate::disk::RealDisk;
use crate::store::Probation;
use arrow_array::BinaryArray;
use proptest::prelude::*;
use std::fs;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::state::delta::{GroupEntry, GroupId};

fn open(dir: &Path) -> LocalStore {
    LocalStore::open(Arc::new(RealDisk), dir, 7, &mut |_| ControlFlow::Break(())).unwrap()
}

/// The identity of the folders here.
const ID: &str = "0000000000000007";

fn id(start_us: i64, key: &str) -> GroupId {
    GroupId { start_us, key: key.into() }
}

fn put(start_us: i64, key: &str, state: &str) -> StateDelta {
    let puts = vec![GroupEntry { id: id(start_us, key), last_us: start_us + 1 }];
    StateDelta { puts, states: BinaryArray::from_iter_values([state]), ..StateDelta::new("sessions", 1) }
}

fn delete(start_us: i64, key: &str) -> StateDelta {
    StateDelta { deletes: vec![id(start_us, key)], ..StateDelta::new("sessions", 1) }
}

/// Publishes a checkpoint with these segments.
fn publish(store: &LocalStore, checkpoint: u64, segments: &[SegmentRef]) {
    let mut manifest = manifest(checkpoint, store.generation());
    manifest.segments = segments.to_vec();
    store.publish(&manifest).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_new_folder_has_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs/7");
    let store = open(&path);
    assert_eq!((store.generation(), store.latest().unwrap()), (1, None));
    assert_eq!(names(&path), ["LOCK", "generation-1", "identity"]);
}

/// A checkpoint with a finished and an open file.
fn with_files(checkpoint: u64, generation: u64) -> Manifest {
    let (files, open_files) = (serde_json::json!(["finished"]), serde_json::json!(["open"]));
    Manifest { files, open_files, ..manifest(checkpoint, generation) }
}

#[test]
fn a_checkpoint_that_was_taken_over_is_the_next_without_the_files_that_have_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let none = serde_json::json!([]);
    let store = open(dir.path());
    assert_eq!(store.take_over(true).unwrap(), None);
    store.publish(&with_files(1, 1)).unwrap();
    let after = |checkpoint| Manifest { files_of: 1, id: ID.into(), ..with_files(checkpoint, 1) };
    assert_eq!(store.take_over(true).unwrap().unwrap(), after(2));
    store.note_committed(2).unwrap();
    assert_eq!(store.take_over(true).unwrap().unwrap(), Manifest { files: none.clone(), ..after(3) });
    store.note_recovered(3).unwrap();
    store.note_recovered(3).unwrap();
    let nothing_left = Manifest { files: none.clone(), open_files: none, ..after(4) };
    assert_eq!(store.take_over(true).unwrap().unwrap(), nothing_left);
    assert_eq!(store.latest().unwrap().unwrap(), nothing_left);
}

#[test]
fn a_note_of_a_checkpoint_that_was_taken_over_holds_for_the_next_and_is_kept_as_long() {
    let (finished, open_files) = (|m: &Manifest| m.files.clone(), |m: &Manifest| m.open_files.clone());
    let none = serde_json::json!([]);
    for recovered in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.publish(&with_files(1, 1)).unwrap();
        let mut taken_over = store.take_over(true).unwrap().unwrap();
        assert!(!store.leave_out_committed(&mut taken_over).unwrap(), "nothing was noted");
        // By the process before, which does not know yet that it was overtaken.
        if recovered {
            store.note_recovered(1).unwrap();
        } else {
            store.note_committed(1).unwrap();
        }
        store.prune(1).unwrap();
        assert!(store.leave_out_committed(&mut taken_over).unwrap());
        assert!(!store.leave_out_committed(&mut taken_over).unwrap(), "there is nothing left to leave out");
        let left = if recovered { none.clone() } else { open_files(&with_files(1, 1)) };
        assert_eq!((finished(&taken_over), open_files(&taken_over)), (none.clone(), left.clone()));
        let next = store.take_over(true).unwrap().unwrap();
        assert_eq!((finished(&next), open_files(&next)), (none.clone(), left));
        store.publish(&with_files(4, 1)).unwrap();
        assert_eq!(finished(&store.take_over(true).unwrap().unwrap()), finished(&with_files(4, 1)), "they are others");
    }
}

#[test]
fn a_process_that_was_taken_over_cannot_publish() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    publish(&first, 1, &[]);
    // As where locks do not work.
    fs::remove_file(dir.path().join("LOCK")).unwrap();
    let second = open(dir.path());
    assert_eq!(second.take_over(true).unwrap().unwrap().checkpoint, 2);
    fs::remove_file(dir.path().join("generation-2")).unwrap();
    assert_eq!(first.publish(&manifest(2, 1)).unwrap_err().class(), Class::Fenced, "it looked before the second came");
}

#[test]
fn a_second_process_waits_and_gets_the_next_generation() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Some(open(dir.path()));
    let second = LocalStore::open(Arc::new(RealDisk), dir.path(), 8, &mut |holder| {
        assert!(holder.contains("pid "), "{holder}");
        first = None;
        ControlFlow::Continue(())
    });
    assert_eq!(second.unwrap().generation(), 2);
}

#[test]
fn the_newest_checkpoint_is_the_latest() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for checkpoint in [9, 10, 11] {
        publish(&store, checkpoint, &[]);
    }
    assert_eq!(store.latest().unwrap().unwrap().checkpoint, 11);
    assert_eq!(latest_in(&RealDisk, dir.path()).unwrap().unwrap(), manifest(11, 1));
}

#[test]
fn a_stale_generation_cannot_publish() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fs::write(dir.path().join("generation-2"), "").unwrap();
    let error = store.publish(&manifest(1, 1)).unwrap_err();
    assert_eq!(error.class(), Class::Fenced);
    assert_eq!(store.latest().unwrap(), None);
}

#[test]
fn a_checkpoint_that_exists_is_not_published_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    publish(&store, 1, &[]);
    let mut other = manifest(1, 1);
    other.counters.clear();
    assert_eq!(store.publish(&other).unwrap_err().class(), Class::Fenced);
    assert_eq!(store.latest().unwrap().unwrap(), manifest(1, 1));
}

#[test]
fn publishing_the_same_again_is_no_fence() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    publish(&store, 1, &[]);
    publish(&store, 1, &[]);
}

#[test]
fn a_missing_manifest_whose_output_is_committed_stops_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for checkpoint in [1, 2] {
        publish(&store, checkpoint, &[]);
        store.note_committed(checkpoint).unwrap();
    }
    for lost in [2, 1] {
        fs::remove_file(dir.path().join(Name::Manifest(lost).to_string())).unwrap();
        let error = store.latest().unwrap_err();
        assert_eq!(error.class(), Class::Corrupt);
        assert!(error.to_string().contains(&Name::Manifest(2).to_string()), "{error}");
    }
}

#[test]
fn a_torn_latest_manifest_stops_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    publish(&store, 1, &[]);
    publish(&store, 2, &[]);
    let path = dir.path().join("manifest-00000000000000000002.json");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = store.latest().unwrap_err();
    assert_eq!(error.class(), Class::Corrupt);
    assert!(error.to_string().contains("manifest-00000000000000000002.json"), "{error}");
}

#[test]
fn a_manifest_under_another_number_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    publish(&store, 1, &[]);
    fs::copy(dir.path().join(Name::Manifest(1).to_string()), dir.path().join(Name::Manifest(5).to_string())).unwrap();
    assert_eq!(store.latest().unwrap_err().class(), Class::Corrupt);
}

#[test]
fn a_newer_format_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let path = dir.path().join(Name::Manifest(1).to_string());
    let newer = format!(r#"{{"manifest":{{"format":{}}}}}"#, FORMAT + 1);
    fs::write(&path, &newer).unwrap();
    let error = store.latest().unwrap_err();
    assert_eq!(error.class(), Class::Config);
    let both = [format!("format {}", FORMAT + 1), format!("up to {FORMAT}")];
    assert!(both.iter().all(|part| error.to_string().contains(part)), "{error}");
    assert!(store.prune(1).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn a_checkpoint_of_another_pipeline_is_refused_with_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let manifest = manifest(1, 1);
    assert!(store.check_owner(&manifest, "renamed", "window: 30s\nkeys: page").is_ok());
    let error = store.check_owner(&manifest, "clickstream", "window: 60s\nkeys: page").unwrap_err();
    assert_eq!(error.class(), Class::Config);
    let said = "another pipeline: window: 30s in the checkpoint, 60s in the file; change it back";
    assert!(error.to_string().contains(said), "{error}");
}

#[test]
fn the_newest_state_of_a_group_wins_and_deletes_apply() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = store.write_segment(1, &[put(0, "a", "old"), put(0, "b", "gone"), put(5, "c", "kept")]).unwrap();
    let second = store.write_segment(2, &[put(0, "a", "new"), delete(0, "b")]).unwrap();
    assert_eq!((first.entries, second.entries), (3, 2));
    let state = store.load(&[first, second]).unwrap();
    assert_eq!(replay(&state), replay(&[put(0, "a", "new"), put(5, "c", "kept")]));
    assert_eq!(state.len(), 1, "one delta per aggregate and state version");
}

#[test]
fn a_flipped_bit_in_a_segment_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let segment = store.write_segment(1, &[put(0, "a", "state")]).unwrap();
    let path = dir.path().join(&segment.file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 4;
    fs::write(&path, bytes).unwrap();
    let error = store.load(&[segment]).unwrap_err();
    assert_eq!(error.class(), Class::Corrupt);
    assert!(error.to_string().contains("segment-1-1-0.bin"), "{error}");
}

#[test]
fn a_missing_segment_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let segment = store.write_segment(1, &[]).unwrap();
    fs::remove_file(dir.path().join(&segment.file)).unwrap();
    assert_eq!(store.load(&[segment]).unwrap_err().class(), Class::Corrupt);
}

#[test]
fn a_manifest_cannot_name_files_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut segment = store.write_segment(1, &[]).unwrap();
    segment.file = "../secret".into();
    assert_eq!(store.load(&[segment]).unwrap_err().class(), Class::Corrupt);
}

#[test]
fn states_that_are_not_one_per_put_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut delta = put(0, "a", "state");
    delta.states = BinaryArray::from_iter_values(["one", "two"]);
    assert_eq!(open(dir.path()).write_segment(1, &[delta]).unwrap_err().class(), Class::Bug);
}

#[test]
fn prune_keeps_what_kept_manifests_name_and_what_is_in_the_making() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let segments: Vec<_> = (1..=4).map(|n| store.write_segment(n, &[put(0, "a", "s")]).unwrap()).collect();
    publish(&store, 1, &segments[..1]);
    publish(&store, 2, &segments[..2]);
    publish(&store, 3, &segments[1..3]);
    assert_eq!(store.prune(1).unwrap(), 3);
    let manifest = Name::Manifest(3).to_string();
    let kept =
        ["LOCK", "generation-1", "identity", &manifest, "segment-2-1-1.bin", "segment-3-1-2.bin", "segment-4-1-3.bin"];
    assert_eq!(names(dir.path()), kept);
}

#[test]
fn prune_leaves_plugins_and_the_history_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let plugins = dir.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let kept = [plugins.join("ab.wasm"), dir.path().join("history.jsonl")];
    for path in &kept {
        std::fs::write(path, "kept").unwrap();
    }
    for checkpoint in 1..4 {
        publish(&store, checkpoint, &[]);
    }
    assert!(store.prune(1).unwrap() > 0);
    assert!(kept.iter().all(|path| path.exists()));
}

#[test]
fn leftovers_of_a_dead_process_are_harmless_and_pruned() {
    let dir = tempfile::tempdir().unwrap();
    publish(&open(dir.path()), 1, &[]);
    fs::write(dir.path().join(".temporary-1-manifest-00000000000000000002.json"), "{").unwrap();
    fs::write(dir.path().join("segment-2-1-7.bin"), "half").unwrap();
    fs::write(dir.path().join("notes.txt"), "a person's").unwrap();
    let store = open(dir.path());
    assert_eq!(store.latest().unwrap().unwrap().checkpoint, 1);
    publish(&store, 2, &[]);
    store.prune(1).unwrap();
    assert_eq!(names(dir.path()), ["LOCK", "generation-2", "identity", &Name::Manifest(2).to_string(), "notes.txt"]);
}

#[test]
fn a_folder_with_the_last_possible_generation_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(format!("generation-{}", u64::MAX)), "").unwrap();
    let error = LocalStore::open(Arc::new(RealDisk), dir.path(), 8, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert_eq!(error.class(), Class::Corrupt);
}

#[test]
fn a_folder_that_cannot_be_made_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error =
        LocalStore::open(Arc::new(RealDisk), &dir.path().join("file/below"), 7, &mut |_| ControlFlow::Break(()))
            .unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn merges_preserve_the_state_of_random_histories(
        history in prop::collection::vec((arbitrary_deltas(), prop::option::of((0usize..9, 0usize..9))), 1..8)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (mut segments, mut all) = (Vec::new(), Vec::new());
        for (index, (deltas, merge)) in history.iter().enumerate() {
            let checkpoint = index as u64 + 1;
            segments.push(store.write_segment(checkpoint, deltas).unwrap());
            all.extend_from_slice(deltas);
            if let Some((a, b)) = merge {
                let range = (*a.min(b)).min(segments.len())..(*a.max(b)).min(segments.len());
                let merged = store.merge(checkpoint, &segments, range.clone()).unwrap();
                segments.splice(range, [merged]);
            }
            publish(&store, checkpoint, &segments);
            store.prune(1).unwrap();
        }
        let manifest = store.latest().unwrap().unwrap();
        prop_assert_eq!(replay(&store.load(&manifest.segments).unwrap()), replay(&all));
    }

    #[test]
    fn compacting_at_every_checkpoint_preserves_the_state(history in prop::collection::vec(arbitrary_deltas(), 17..60)) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let mut segments = Vec::new();
        for (checkpoint, deltas) in history.iter().enumerate() {
            segments.push(store.write_segment(checkpoint as u64, deltas).unwrap());
            store.compact(checkpoint as u64, &mut segments, u64::MAX).unwrap();
        }
        prop_assert!(segments.len() < 20);
        prop_assert_eq!(replay(&store.load(&segments).unwrap()), replay(&history.concat()));
    }
}

#[test]
fn the_checkpoint_before_a_swap_on_probation_is_kept_whoever_prunes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 1..=4 {
        let mut manifest = manifest(number, store.generation());
        manifest.probation =
            (number > 1).then(|| Probation { swaps: Vec::new(), boundary: 1, until: 5, recoveries: 0 });
        store.publish(&manifest).unwrap();
    }
    store.prune(1).unwrap();
    assert_eq!(store.checkpoint(1).unwrap().checkpoint, 1);
    assert!(matches!(store.checkpoint(2), Err(Error::Corrupt { .. })), "the others went");
}

#[test]
fn the_identity_stays_with_a_folder_and_its_copies_whatever_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let [first, moved] = ["first", "moved"].map(|name| dir.path().join(name));
    let store = open(&first);
    assert_eq!(store.id(), ID);
    store.publish(&Manifest { id: ID.into(), ..manifest(1, 1) }).unwrap();
    drop(store);
    fs::rename(&first, &moved).unwrap();
    let reopen = |dir: &Path| LocalStore::open(Arc::new(RealDisk), dir, 8, &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!(reopen(&moved).id(), ID);
    // Its checkpoints know it, too.
    fs::remove_file(moved.join("identity")).unwrap();
    assert_eq!(reopen(&moved).id(), ID);
    assert_eq!(reopen(&first).id(), "0000000000000008", "it is another folder");
}

#[test]
fn a_checkpoint_of_another_folder_is_refused_by_its_identity() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.publish(&Manifest { id: "000000000000000a".into(), ..manifest(1, 1) }).unwrap();
    let error = store.latest().unwrap_err();
    assert_eq!(error.class(), Class::Corrupt);
    assert!(error.to_string().contains("000000000000000a"), "{error}");
}

#[test]
fn a_folder_that_is_begun_anew_is_as_new_and_keeps_what_it_had_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let segment = store.write_segment(1, &[put(0, "a", "s")]).unwrap();
    publish(&store, 1, std::slice::from_ref(&segment));
    store.note_committed(1).unwrap();
    store.note_beginning_anew(&[ID.to_owned()]).unwrap();
    store.begin_anew(9).unwrap();
    assert_eq!((store.id(), store.latest().unwrap()), ("0000000000000009", None));
    assert_eq!(store.is_beginning_anew().unwrap(), None);
    let aside = format!("replaced-{ID}");
    assert_eq!(names(dir.path()), ["LOCK", "generation-1", "identity", &aside]);
    let kept = ["committed-1", "identity", &Name::Manifest(1).to_string(), &segment.file];
    assert_eq!(names(&dir.path().join(aside)), kept);
}
