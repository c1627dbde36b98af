//! Fault capsules: a plugin's fault in one file, with all it takes to make it happen again on another machine.
//!
//! ```text
//! wasmill capsule 1 <XXH3-64 of the rest, 16 hexadecimal digits>
//! { …JSON: where and when, the plugin and its settings, the fault, the call with its input and state… }
//! ```
//! Text, so that a person can look before passing it on: `tail -n +2 FILE | jq .`. Read back it is as hostile as any
//! file from elsewhere: [`Capsule::decode`] checks what it can, and what it gives is plain data.

mod call;
mod folder;
mod format;
#[cfg(test)]
mod tests;

pub use call::{Bytes, Call, Column, Record, State, Values};
pub use folder::{Capsules, Guest, Settings};
pub use format::{Capsule, Error, Input, LeftOut, Limits, MAX_FILE_BYTES, Origin, Part, Plugin, Secret, Told};
