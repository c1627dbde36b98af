//! The checkpoint store: manifests and state segments in one folder, and who may write there.
//!
//! ```text
//! LOCK                                      held while a process works here; says who
//! identity                                  whose files in the output are its own: made with the folder, and kept in copies
//! generation-<n>                            one per process that ever opened the folder; the highest may publish
//! manifest-<checkpoint>.json                a checkpoint exists from the moment its manifest does
//! committed-<checkpoint>                    its output files have their final names
//! recovered-<checkpoint>                    those that were open then have theirs too, since a recovery
//! segment-<checkpoint>-<generation>-<n>.bin what changed in the state; named by manifests
//! beginning-anew                            all this and its output files are being put aside
//! plugins/<sha256>.wasm                     the components that checkpoints and output files name
//! history.jsonl                             what was done to the plugins, a line each
//! ```
//! Whatever has a final name is whole: files are written under a temporary name, fsynced, and published by a hard
//! link, which fails where the name exists. A manifest names every file it needs, so a crash leaves at most files
//! that no manifest names; [`LocalStore::prune`] removes them.

#[cfg(feature = "testing")]
pub mod decoders;
mod durable;
mod error;
pub mod history;
mod identity;
mod local;
mod lock;
mod manifest;
mod merge;
mod owner;
mod plugins;
mod segment;

pub use error::Error;
pub use identity::is_identity;
pub use local::{LocalStore, latest_in};
pub use manifest::{Beside, BesideRole, FORMAT, Manifest, PartitionState, Probation, SegmentRef, Swapped};
pub use merge::plan_merge;
pub use owner::{changes, fingerprint};
pub use plugins::PluginStore;

/// A manifest for tests, made at an instant.
#[cfg(test)]
pub(crate) fn a_manifest(checkpoint: u64, created_at_us: i64) -> Manifest {
    Manifest { created_at_us, ..manifest::tests::manifest(checkpoint, 1) }
}
