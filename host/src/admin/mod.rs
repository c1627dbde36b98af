//! The HTTP door: health, metrics, status as JSON and one page to look at; and, for those who have a token, changes.
//!
//! `/healthz` says whether the process works, `/readyz` whether the job does, `/metrics` is for Prometheus,
//! `/api/v1/status` is a [`Status`], and `/` shows it. What changes the pipeline is below `/api/v1/plugins`, and is a
//! [`control::Request`] to whoever runs it.

mod api;
pub mod client;
mod connections;
pub mod control;
mod guard;
pub mod local_token;
mod metrics;
mod query;
mod server;
mod status;
#[cfg(test)]
pub(crate) use status::tests;

mod tokens;

pub use server::{Server, Site, StatusSource, serve};
pub use status::{Accounting, Aggregate, Alarm, Checkpoint, Partition, Plugin, State, Status, Trial};
