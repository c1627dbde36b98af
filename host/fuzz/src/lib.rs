//! What is fuzzed: every decoder of bytes from outside, and what must be true of its answer, whatever the bytes.
//!
//! Each target is a function of bytes that panics when its law does not hold. `make fuzz` searches for such bytes;
//! `host/tests/fuzz_targets.rs` calls the same functions on the seeds in `corpus/` and on mutations of them.

mod answer;
mod checkpoint;
mod click;
mod key;
mod settings;
mod state;

pub use answer::answer;
pub use checkpoint::{files, manifest, segment};
pub use click::click;
pub use key::key;
pub use settings::{pipeline_file, settings};
pub use state::state;

/// A target: its name, which is also its corpus's, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 9] = [
    ("manifest", manifest),
    ("segment", segment),
    ("files", files),
    ("key", key),
    ("answer", answer),
    ("pipeline_file", pipeline_file),
    ("settings", settings),
    ("click", click),
    ("state", state),
];
