//! The HTTP door: health, metrics, status as JSON and one page to look at, all read-only.
//!
//! `/healthz` says whether the process works, `/readyz` whether the job does, `/metrics` is for Prometheus,
//! `/api/v1/status` is a [`Status`], and `/` shows it.

pub mod client;
pub mod control;
mod guard;
mod metrics;
mod server;
mod status;
#[cfg(test)]
pub(crate) use status::tests;

pub use server::{Server, StatusSource, serve};
pub use status::{Accounting, Aggregate, Checkpoint, Partition, Plugin, State, Status};
