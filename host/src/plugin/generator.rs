//! Generators: records made out of a seed by a component, for demonstrations and load.

use super::Error;
use super::bindings::generator_world::GeneratorPlugin;
use super::component::{Component, Exports, World};
use super::instance::Instance;
use super::lift;
use arrow_array::BinaryArray;
use wasmill_pipeline::plugin::{Fault, FaultKind};

/// Consecutive records.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Their payloads, none null: one for each instant asked for.
    pub values: BinaryArray,
    /// Their keys, as many, none null. `None` = no record has one.
    pub keys: Option<BinaryArray>,
}

/// Makes records: a pure function of configuration, seed, a record's number and its time.
pub trait Generator: Send {
    /// Records `first`, `first + 1`, ...: one for each of `times_us` (µs since the Unix epoch, never decreasing).
    ///
    /// # Errors
    /// A fault; the same call may be repeated (a new instance stands ready).
    fn generate(&mut self, first: u64, times_us: &[i64]) -> Result<Generated, Fault>;
}

/// A generator whose records a component makes.
pub(super) struct WasmGenerator {
    component: Component,
    config_json: String,
    seed: u64,
    instance: Option<Instance<GeneratorPlugin>>,
}

impl WasmGenerator {
    pub(super) fn new(component: &Component, config_json: &str, seed: u64) -> Result<Self, Error> {
        let instance = start(component, config_json, seed)?;
        Ok(Self { component: component.clone(), config_json: config_json.to_owned(), seed, instance: Some(instance) })
    }

    fn take_instance(&mut self) -> Result<Instance<GeneratorPlugin>, Fault> {
        if let Some(instance) = self.instance.take() {
            return Ok(instance);
        }
        start(&self.component, &self.config_json, self.seed).map_err(|error| match error {
            Error::Start(fault) => fault,
            other => self.contract_fault(format!("cannot start again: {other}")),
        })
    }

    fn contract_fault(&self, message: String) -> Fault {
        Fault { plugin: self.component.shared_name(), kind: FaultKind::Contract, message, backtrace: Vec::new() }
    }
}

impl Generator for WasmGenerator {
    fn generate(&mut self, first: u64, times_us: &[i64]) -> Result<Generated, Fault> {
        let mut instance = self.take_instance()?;
        let answer =
            instance.call(|world, store| world.wasmill_plugin_generator().call_generate(store, first, times_us))?;
        let values = lift::binary(answer.values, times_us.len())
            .map_err(|wrong| self.contract_fault(format!("column of values {wrong}")))?;
        let keys = answer.keys.map(|keys| lift::binary(keys, times_us.len())).transpose();
        let keys = keys.map_err(|wrong| self.contract_fault(format!("column of keys {wrong}")))?;
        self.instance = Some(instance);
        Ok(Generated { values, keys })
    }
}

fn start(component: &Component, config_json: &str, seed: u64) -> Result<Instance<GeneratorPlugin>, Error> {
    let Exports::Generator(pre) = component.exports() else {
        return Err(component.world_error(World::Generator));
    };
    let mut instance = Instance::new(component, |store| pre.instantiate(store))?;
    instance
        .call(|world, store| world.wasmill_plugin_generator().call_init(store, config_json, seed))
        .map_err(Error::Start)?
        .map_err(|message| component.refused(&message))?;
    Ok(instance)
}
