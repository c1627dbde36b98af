//! The way of the data through wasmill, as state machines that are stepped with inputs and answer with effects.
//!
//! This crate has no clock, no network, no disk, no WebAssembly runtime and no threads: what it answers depends on
//! what it is given alone. The `wasmill` crate puts the doors around it. Start reading at [`pipeline`].

pub mod alarm;
pub mod change;
pub mod checkpoint;
pub mod dead_letter;
pub mod error;
pub mod event;
pub mod exchange;
pub mod fault;
pub mod key;
pub mod lane;
pub mod laws;
pub mod mutation;
pub mod pipeline;
pub mod plan;
pub mod plugin;
pub mod record;
pub mod shadow;
pub mod shard;
pub mod spec;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod version;
pub mod window;
pub mod worker;
