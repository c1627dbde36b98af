//! What wasmtime makes of `wit/`: one module per world, sharing the types of the hot path.

/// The aggregate world, and the types and the log interface shared by all.
pub(super) mod aggregate_world {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "aggregate-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The parser world.
pub(super) mod parser_world {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "parser-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "wasmill:plugin/types": super::aggregate_world::wasmill::plugin::types,
            "wasmill:plugin/log": super::aggregate_world::wasmill::plugin::log,
        },
    });
}

/// The generator world. Its types are its own: bindgen's borrowing mode does not take this world.
pub(super) mod generator_world {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "generator-plugin",
        with: { "wasmill:plugin/log": super::aggregate_world::wasmill::plugin::log },
    });
}

pub(super) use aggregate_world::exports::wasmill::plugin::aggregate as wit_aggregate;
pub(super) use aggregate_world::wasmill::plugin::{log as wit_log, types as wit};
pub(super) use generator_world::wasmill::plugin::types as wit_generator_types;
pub(super) use parser_world::exports::wasmill::plugin::parser as wit_parser;
