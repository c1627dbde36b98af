//! The way of the data through wasmill, as state machines that are stepped with inputs and answer with effects.
//!
//! This crate has no clock, no network, no disk, no WebAssembly runtime and no threads: what it answers depends on
//! what it is given alone. The `wasmill` crate puts the doors around it.

pub mod dead_letter;
pub mod error;
pub mod plugin;
pub mod record;
pub mod spec;
