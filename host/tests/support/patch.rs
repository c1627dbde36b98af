//! Many versions of a plugin from one build: `plugins/patchable`, told what to do by the bytes of its file.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

/// What the bytes to patch begin with, in a component of `plugins/patchable`.
const HEAD: &[u8] = b"wasmill-behaviour:";
/// How many there are.
const MARK_BYTES: usize = 128;

/// The component with another behaviour, such as `trap-after:3,tag:b`: `plugins/patchable/src/behaviour.rs` has them
/// all. A word that is none makes its `init` refuse.
pub(crate) fn patched(component: &[u8], behaviour: &str) -> Vec<u8> {
    let places: Vec<usize> = (0..component.len()).filter(|at| component[*at..].starts_with(HEAD)).collect();
    let [place] = places[..] else {
        panic!("one place to patch is wanted, not {places:?}: it is of no patchable plugin")
    };
    let room = MARK_BYTES - HEAD.len();
    assert!(behaviour.len() <= room, "{behaviour:?} has more than {room} bytes");
    let mut bytes = component.to_vec();
    let text = format!("{behaviour:room$}");
    bytes[place + HEAD.len()..][..room].copy_from_slice(text.as_bytes());
    bytes
}

/// The patchable component that `make plugins` builds.
pub(crate) fn patchable() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/wasm32-wasip2/plugin/patchable.wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("run make plugins first; {}: {error}", path.display()))
}

/// Writes the patchable component with this behaviour to `folder/name.wasm`, and gives the path.
pub(crate) fn write_patched(folder: &Path, name: &str, behaviour: &str) -> PathBuf {
    let path = folder.join(format!("{name}.wasm"));
    std::fs::write(&path, patched(&patchable(), behaviour)).unwrap();
    path
}

/// Whether `off-by-one:ONE_IN` is wrong about the event with this id.
pub(crate) fn is_chosen(event_id: &str, one_in: u64) -> bool {
    xxhash_rust::xxh3::xxh3_64(event_id.as_bytes()).is_multiple_of(one_in)
}

/// What the honest aggregate has as `ids` of a group of events with these ids.
pub(crate) fn sum_of_ids<'a>(event_ids: impl IntoIterator<Item = &'a str>) -> i64 {
    let hashes = event_ids.into_iter().map(|id| xxhash_rust::xxh3::xxh3_64(id.as_bytes()).cast_signed());
    hashes.fold(0, i64::wrapping_add)
}
