//! The laws of the contract, tried on components before they are let in.

mod generator;

use super::{Component, Error};
use wasmill_pipeline::laws::{self, Broken, Sample, Tried};
use wasmill_pipeline::plugin::{Fault, FaultKind};
use wasmill_pipeline::record::RawBatch;

/// Tries an aggregate with this configuration on rows of the stream, and on states of the version in force (each with
/// its version) that it is to go on from. See [`laws::aggregate()`].
///
/// # Errors
/// The first law that does not hold.
pub fn aggregate_laws(
    component: &Component,
    config_json: &str,
    samples: &[Sample],
    states: &[(u32, Vec<u8>)],
) -> Result<Tried, Broken> {
    let mut make = || component.aggregate(config_json).map_err(|error| fault(component, error));
    laws::aggregate(&mut make, samples, states)
}

/// Tries a parser with this configuration on records of `topic`, making the `wanted` columns. See [`laws::parser()`].
///
/// # Errors
/// The first law that does not hold.
pub fn parser_laws(
    component: &Component,
    config_json: &str,
    topic: &str,
    wanted: Option<&[&str]>,
    samples: &[RawBatch],
) -> Result<Tried, Broken> {
    let mut make = || component.parser(config_json, topic, wanted).map_err(|error| fault(component, error));
    laws::parser(&mut make, samples)
}

/// Tries a generator with this configuration and seed on the records from `first` on, one for each of `times_us`.
///
/// They are to be the same whenever they are asked for, and in whatever batch.
///
/// # Errors
/// The first law that does not hold.
pub fn generator_laws(
    component: &Component,
    config_json: &str,
    seed: u64,
    first: u64,
    times_us: &[i64],
) -> Result<Tried, Broken> {
    let mut make = || component.generator(config_json, seed).map_err(|error| fault(component, error));
    generator::laws(&mut make, first, times_us)
}

/// Why there is no instance, as a fault of the plugin.
pub(super) fn fault(component: &Component, error: Error) -> Fault {
    match error {
        Error::Start(fault) => fault,
        other => Fault {
            plugin: component.shared_name(),
            kind: FaultKind::Contract,
            message: format!("cannot start: {other}"),
            backtrace: Vec::new(),
        },
    }
}
