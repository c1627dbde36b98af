//! Plugins: WebAssembly components behind the pipeline's ports. The only room that knows wasmtime.
//!
//! [`Runtime::load`] reads, compiles and checks a file; [`Component`] makes parsers, aggregates and generators of it,
//! each with a store of its own, a deadline on every call and a limit on memory. A guest is hostile until its answer
//! has been checked: whatever it does becomes an [`Error`] before the start, or a
//! [`Fault`](wasmill_pipeline::plugin::Fault) afterwards.

mod aggregate;
mod backtrace;
mod bindings;
mod cache;
mod compile;
mod component;
mod cost;
#[cfg(feature = "testing")]
pub mod decoders;
mod description;
mod difference;
mod error;
mod framing;
mod generator;
mod inspect;
mod instance;
mod laws;
mod lift;
mod limits;
mod log;
mod lower;
mod parser;
mod permit;
mod runtime;
mod spent;
#[cfg(test)]
mod tests;
mod ticker;

pub use compile::{Allowed, COMPILE_COMMAND, compile_here, compile_in_children};
pub use component::{Component, World, digest, file_digest};
pub use cost::{parse_ns_per_record, update_ns_per_row};
pub use description::{Description, PARSER_INPUTS};
pub use difference::{Side, difference};
pub use error::Error;
pub use framing::is_whole;
pub use generator::{Generated, Generator};
pub use laws::{aggregate_laws, generator_laws, parser_laws};
pub use limits::Limits;
pub use permit::Permit;
pub use runtime::Runtime;
