//! wasmill: a stream processor whose logic is WebAssembly components.
//!
//! This crate holds the doors to the world, a folder each; the way of the data is the `wasmill-pipeline` crate.

pub mod accounting;
pub mod admin;
pub mod alarms;
pub mod assembly;
pub mod budget;
pub mod capsule;
pub mod catalog;
pub mod checkpointer;
pub mod chronicle;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod coordinator;
pub mod disk;
pub mod driver;
pub mod failpoint;
pub mod failure;
pub mod faults;
pub mod files;
pub mod generate;
pub mod generator;
pub mod instances;
pub mod kafka;
pub mod observer;
pub mod parts;
pub mod plugin;
pub mod provenance;
pub mod random;
pub mod recovery;
pub mod run;
pub mod shared;
pub mod shown;
pub mod sink;
pub mod store;
pub mod swapper;
pub mod switch;
pub mod tap;
pub mod telemetry;
pub mod watch;

pub use wasmill_pipeline::mutation;
