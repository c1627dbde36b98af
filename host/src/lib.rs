//! wasmill: a stream processor whose logic is WebAssembly components.
//!
//! This crate holds the doors to the world, a folder each; the way of the data is the `wasmill-pipeline` crate.

pub mod admin;
pub mod cli;
pub mod config;
pub mod generate;
pub mod kafka;
pub mod plugin;
pub mod sink;
pub mod store;
pub mod telemetry;
