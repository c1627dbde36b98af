//! What `wit-bindgen` makes of `wit/`; the rest of the SDK is written on these types, natively too.
#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::pedantic, clippy::all)]

/// The world of aggregates, which owns the shared types.
pub mod aggregate {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "aggregate-plugin",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_aggregate_world",
        default_bindings_module: "wasmill_sdk::bindings::aggregate",
    });
}

/// The world of parsers.
pub mod parser {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "parser-plugin",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_parser_world",
        default_bindings_module: "wasmill_sdk::bindings::parser",
        with: {
            "wasmill:plugin/types@0.1.0": crate::bindings::aggregate::wasmill::plugin::types,
            "wasmill:plugin/log@0.1.0": crate::bindings::aggregate::wasmill::plugin::log,
        },
    });
}

/// The world of generators.
pub mod generator {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "generator-plugin",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_generator_world",
        default_bindings_module: "wasmill_sdk::bindings::generator",
        with: {
            "wasmill:plugin/types@0.1.0": crate::bindings::aggregate::wasmill::plugin::types,
            "wasmill:plugin/log@0.1.0": crate::bindings::aggregate::wasmill::plugin::log,
        },
    });
}

pub use aggregate::wasmill::plugin::{log, types};
