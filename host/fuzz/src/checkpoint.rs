//! A checkpoint's files: the manifest, the segments, and what a manifest says of output files.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use wasmill::sink::{SinkCut, decoders as sink};
use wasmill::store::decoders as store;
use wasmill_pipeline::state::delta::{GroupId, StateDelta};

/// A manifest file, with the checksum that it has and with one that is right. One that is read is written and read
/// back as the same.
pub fn manifest(bytes: &[u8]) {
    let framed = std::str::from_utf8(bytes).map(store::manifest_of).unwrap_or_default();
    for file in [bytes, &framed] {
        if let Ok(manifest) = store::manifest(file) {
            let body = serde_json::to_string(&manifest).expect("a manifest is JSON");
            assert_eq!(store::manifest(&store::manifest_of(&body)).expect("it is a manifest"), manifest);
        }
    }
}

/// The blocks of a segment file. Those that are read fold to the state that applying them one by one leaves, and
/// what is folded is written and read back as the same.
pub fn segment(blocks: &[u8]) {
    let _ = store::segment(blocks, "");
    let (file, checksum) = store::segment_around(blocks);
    let Ok(deltas) = store::segment(&file, &checksum) else { return };
    let state = applied(&deltas);
    for oldest in [true, false] {
        let folded = store::folded(&file, &checksum, oldest).expect("it was read before");
        assert!(applied(&folded) == state, "a fold is the state that its deltas leave");
        assert!(!oldest || folded.iter().all(|delta| delta.deletes.is_empty()), "nothing older is left to delete");
        let (file, checksum) = store::segment_of(&folded).expect("it fits into memory");
        assert!(store::segment(&file, &checksum).expect("it was just written") == folded);
    }
}

/// The state that deltas leave, the plain way.
fn applied(deltas: &[StateDelta]) -> BTreeMap<(&str, &GroupId), (u32, i64, &[u8])> {
    let mut state = BTreeMap::new();
    for delta in deltas {
        for id in &delta.deletes {
            state.remove(&(&*delta.aggregate, id));
        }
        for (index, put) in delta.puts.iter().enumerate() {
            let value = (delta.state_version, put.last_us, delta.states.value(index));
            state.insert((&*delta.aggregate, &put.id), value);
        }
    }
    state
}

/// What a manifest says of output files, as JSON. What passes the check stays inside the output folder.
pub fn files(bytes: &[u8]) {
    let Ok(cut) = serde_json::from_slice::<SinkCut>(bytes) else { return };
    let json = serde_json::to_vec(&cut).expect("a cut is JSON");
    assert_eq!(serde_json::from_slice::<SinkCut>(&json).expect("it was just written"), cut);
    if sink::check(&cut).is_err() {
        return;
    }
    for file in cut.finished.iter().chain(cut.open.iter().map(|open| &open.file)) {
        for path in [&file.path, &file.staged] {
            let below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
            assert!(below && !path.is_empty() && !path.contains('\0'), "{path:?} leads elsewhere");
        }
        assert!(file.staged.starts_with("_staging/") && !file.path.starts_with("_staging/"), "{file:?}");
    }
}
