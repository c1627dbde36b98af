//! Write a wasmill plugin in plain Rust: a trait, a macro or two, no `unsafe`, nothing about WebAssembly.
//!
//! See `README.md` for a plugin author's first day. The modules: [`parser`], [`aggregate`] and [`generator`] have the
//! traits; [`input`] and [`output`] the rows; [`codec`] the states; [`testing`] the contract suite, natively.
#![cfg_attr(all(target_arch = "wasm32", not(feature = "std")), no_std)]

extern crate alloc;

pub mod aggregate;
pub mod bindings;
pub mod codec;
pub mod config;
pub mod distinct;
pub mod generator;
pub mod guest;
pub mod hashes;
pub mod input;
pub mod json;
pub mod output;
pub mod parser;
mod slots;
pub mod sum;
pub mod symbols;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod time;

/// All that a plugin needs, also of `alloc`.
pub mod prelude {
    pub use crate::aggregate::{Aggregate, Window};
    pub use crate::codec::{Broken, Codec, Reader};
    pub use crate::config::Config;
    pub use crate::distinct::Distinct;
    pub use crate::generator::{Generator, Rng};
    pub use crate::guest;
    pub use crate::hashes::Hashes;
    pub use crate::input::{Hash64, Symbol};
    pub use crate::json::Text;
    pub use crate::parser::{Parser, Record, Reject};
    pub use crate::sum::ExactSum;
    pub use crate::time::{TimeReader, Timestamp};
    pub use crate::{export_aggregate, export_generator, export_parser, json_row, row_in, row_out, state};
    pub use alloc::borrow::{Cow, ToOwned};
    pub use alloc::boxed::Box;
    pub use alloc::string::{String, ToString};
    pub use alloc::vec::Vec;
    pub use alloc::{format, vec};
}
