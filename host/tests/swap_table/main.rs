//! What becomes of swaps: policy by role by event, each as promised. `host/docs/swaps.md` has the table.
//!
//! The plugins are versions of `plugins/patchable`, the broker is embedded in this process, and the pipeline is the
//! real binary: what is read survives it, however it ends.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod clean;
mod faults;
#[path = "../support/small_job.rs"]
mod job;
mod kills;
mod lab;
#[path = "../support/patch.rs"]
mod patch;
mod refused;
mod restarts;
#[path = "../support/swap_failpoints.rs"]
mod swap_failpoints;
mod turns;
