//! Why a plugin is refused before the start.

use super::component::World;
use std::path::PathBuf;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::plugin::Fault;

/// A plugin that cannot be used, or a runtime that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine could not be made on this machine.
    #[error("cannot start the WebAssembly engine")]
    Engine(#[source] wasmtime::Error),
    /// The deadline ticker's thread could not be started.
    #[error("cannot start the deadline ticker")]
    Ticker(#[source] std::io::Error),
    /// The file cannot be read.
    #[error("cannot read plugin file={}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is something else altogether.
    #[error("is not WebAssembly (its first bytes are {start:02x?}); wanted a component; file={}", .path.display())]
    NotWebAssembly {
        /// The file.
        path: PathBuf,
        /// Its first bytes, at most eight.
        start: Vec<u8>,
    },
    /// The file is a core module.
    #[error(
        "is a core WebAssembly module; wanted a component (build it with --target wasm32-wasip2); file={}",
        .path.display()
    )]
    CoreModule {
        /// The file.
        path: PathBuf,
    },
    /// The file starts like a component, but is not a valid one.
    #[error("is not a valid component; file={}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What the compiler said.
        source: wasmtime::Error,
    },
    /// The component holds more of something than a plugin may have.
    #[error("is not compiled: {what}; file={}", .path.display())]
    Excess {
        /// The file.
        path: PathBuf,
        /// Of what, and how much may be.
        what: String,
    },
    /// The component cannot be compiled within its limits, or made the compiler fail.
    #[error("cannot be compiled: {why}; file={}", .path.display())]
    NotCompiled {
        /// The file.
        path: PathBuf,
        /// What it exceeded, or how the compiler ended.
        why: String,
    },
    /// The component made the WebAssembly library panic.
    #[error("makes the WebAssembly library panic: {message}; it is refused; file={}", .path.display())]
    Panicked {
        /// The file.
        path: PathBuf,
        /// What the panic said.
        message: String,
    },
    /// The component exports another world's interface, or none of this contract.
    #[error("exports {has}; wanted {} ({wanted}); file={}", .wanted.interface(), .path.display())]
    World {
        /// The file.
        path: PathBuf,
        /// What it exports.
        has: String,
        /// The world it was to be.
        wanted: World,
    },
    /// The component is of another version of the contract.
    #[error("is of another contract version: exports {has}; wanted {}; file={}", .wanted.interface(), .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The interface it exports.
        has: String,
        /// The world it was to be.
        wanted: World,
    },
    /// The component imports what no plugin gets.
    #[error(
        "imports {}; allowed are {} (and wasi:*, which is denied when called); file={}",
        .imports.join(", "), super::component::ALLOWED_IMPORTS.join(", "), .path.display()
    )]
    Imports {
        /// The file.
        path: PathBuf,
        /// The imports that are not allowed.
        imports: Vec<String>,
    },
    /// The names are right, but a function's or type's shape is not.
    #[error("does not have the contract's types; wanted {}; file={}", .wanted.interface(), .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The world it was to be.
        wanted: World,
        /// Which item, and how it differs.
        source: wasmtime::Error,
    },
    /// The plugin's `init` said no to its configuration.
    #[error("plugin refuses its configuration: {message}; plugin={plugin}")]
    Refused {
        /// The plugin's name in the pipeline file.
        plugin: String,
        /// What it said.
        message: String,
    },
    /// What the plugin says of itself breaks the contract.
    #[error("plugin's description breaks the contract: {message}; plugin={plugin}")]
    Description {
        /// The plugin's name in the pipeline file.
        plugin: String,
        /// What is wrong.
        message: String,
    },
    /// A parser is asked for columns it does not make.
    #[error("plugin does not make column(s) {}; it makes {}; plugin={plugin}", .unknown.join(", "), .has.join(", "))]
    Projection {
        /// The plugin's name in the pipeline file.
        plugin: String,
        /// The columns it does not make.
        unknown: Vec<String>,
        /// The columns it makes.
        has: Vec<String>,
    },
    /// The plugin failed while it was being set up.
    #[error("plugin failed while starting")]
    Start(#[source] Fault),
}

impl Error {
    /// What the driver does about it: all but the machine's own failures are mistakes in what was configured.
    pub fn class(&self) -> Class {
        match self {
            Self::Engine(_) | Self::Ticker(_) => Class::Bug,
            _ => Class::Config,
        }
    }
}
