//! A parser and an aggregate in one component, honest until bytes of its file are patched. For the host's tests only.
//!
//! A test that swaps plugins wants many versions of one, each with a digest of its own. Here they are one build: what
//! the component does is written in [`behaviour`], where a test writes something else (`host/tests/support/patch.rs`).
//! [`parser`] makes the columns of `clickstream-parser`, [`aggregate`] counts and sums its rows.
#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

pub mod aggregate;
pub mod behaviour;
pub mod parser;

#[cfg(target_arch = "wasm32")]
mod component {
    use super::aggregate::Tallies;
    use super::parser::Clicks;
    use alloc::string::String;
    use alloc::vec::Vec;
    use wasmill_sdk::bindings::aggregate::exports::wasmill::plugin::aggregate;
    use wasmill_sdk::bindings::parser::exports::wasmill::plugin::parser;
    use wasmill_sdk::bindings::types::{Column, Rows, Varlen};
    use wasmill_sdk::guest::Instance;

    static PARSER: Instance<Clicks> = Instance::new();
    static AGGREGATE: Instance<Tallies> = Instance::new();

    struct Component;

    impl parser::Guest for Component {
        fn init(_: String) -> Result<parser::Description, String> {
            let clicks = Clicks::new()?;
            let description = clicks.description();
            PARSER.set(clicks);
            Ok(description)
        }

        fn project(outputs: Vec<u32>) {
            PARSER.with(|clicks| clicks.project(&outputs));
        }

        fn parse(count: u32, inputs: Vec<Column>) -> parser::Parsed {
            PARSER.with(|clicks| clicks.parse(count, &inputs))
        }
    }

    impl aggregate::Guest for Component {
        fn init(_: String) -> Result<aggregate::Description, String> {
            let tallies = Tallies::new()?;
            let description = tallies.description();
            AGGREGATE.set(tallies);
            Ok(description)
        }

        fn update(slots: Vec<u32>, inputs: Vec<Column>) {
            AGGREGATE.with(|tallies| tallies.update(&slots, &inputs));
        }

        fn merge(slots: Vec<u32>, others: Vec<u32>) {
            AGGREGATE.with(|tallies| tallies.merge(&slots, &others));
        }

        fn finish(slots: Vec<u32>, _: Vec<Column>) -> Rows {
            AGGREGATE.with(|tallies| tallies.finish(&slots))
        }

        fn snapshot(slots: Vec<u32>) -> Varlen {
            AGGREGATE.with(|tallies| tallies.snapshot(&slots))
        }

        fn restore(slots: Vec<u32>, version: u32, states: Varlen) -> Result<(), String> {
            AGGREGATE.with(|tallies| tallies.restore(&slots, version, &states))
        }

        fn release(slots: Vec<u32>) {
            AGGREGATE.with(|tallies| tallies.release(&slots));
        }
    }

    wasmill_sdk::bindings::parser::export_parser_world!(Component with_types_in wasmill_sdk::bindings::parser);
    wasmill_sdk::bindings::aggregate::export_aggregate_world!(Component with_types_in wasmill_sdk::bindings::aggregate);
}
