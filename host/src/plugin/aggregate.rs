//! The pipeline's aggregate port on a component; after a fault every call answers that same fault, until it
//! is renewed.

use super::bindings::aggregate_world::AggregatePlugin;
use super::bindings::wit_aggregate::Guest;
use super::component::{Component, Exports, World};
use super::instance::{Context, Instance};
use super::lower::{Lowered, Varlen};
use super::spent::thread_time;
use super::{Description, Error, description, lift, log};
use arrow_array::{Array, ArrayRef, BinaryArray};
use std::time::Duration;
use wasmill_pipeline::plugin::{Aggregate, AggregateDescription, Fault, FaultKind, Field, Finished};
use wasmtime::Store;

/// An aggregate whose accumulators a component holds.
pub(super) struct WasmAggregate {
    component: Component,
    config_json: String,
    description: AggregateDescription,
    /// The instance, or the fault that ended it.
    instance: Result<Box<Instance<AggregatePlugin>>, Fault>,
    /// What `update` took so far.
    spent: Duration,
}

impl WasmAggregate {
    pub(super) fn new(component: &Component, config_json: &str) -> Result<Self, Error> {
        let (instance, description, _) = start(component, config_json)?;
        let (component, config_json) = (component.clone(), config_json.to_owned());
        Ok(Self { component, config_json, description, instance: Ok(Box::new(instance)), spent: Duration::ZERO })
    }

    pub(super) fn describe(component: &Component, config_json: &str) -> Result<Description, Error> {
        let (_, description, typical_state_bytes) = start(component, config_json)?;
        Ok(Description::Aggregate { description, typical_state_bytes })
    }

    /// Calls the guest; a fault ends the instance and frees its memory.
    fn call<T>(&mut self, export: impl FnOnce(&Guest, &mut Store<Context>) -> wasmtime::Result<T>) -> Result<T, Fault> {
        let instance = self.instance.as_mut().map_err(|fault| fault.clone())?;
        let answer = instance.call(|world, store| export(world.wasmill_plugin_aggregate(), store));
        answer.inspect_err(|fault| self.instance = Err(fault.clone()))
    }

    /// Ends the instance because of what it answered, or of what was asked of it.
    fn broken(&mut self, message: String) -> Fault {
        let fault = self.fault(FaultKind::Contract, message);
        self.instance = Err(fault.clone());
        fault
    }

    fn fault(&self, kind: FaultKind, message: String) -> Fault {
        Fault { plugin: self.component.shared_name(), kind, message, backtrace: Vec::new() }
    }

    fn check_lengths(&mut self, slots: usize, others: usize) -> Result<(), Fault> {
        if slots == others { Ok(()) } else { Err(self.broken(format!("is given {slots} slots, but {others} others"))) }
    }
}

impl Aggregate for WasmAggregate {
    fn description(&self) -> &AggregateDescription {
        &self.description
    }

    fn memory_bytes(&self) -> u64 {
        self.instance.as_ref().map_or(0, |instance| instance.memory_bytes())
    }

    fn spent_ns(&self) -> u64 {
        self.spent.as_nanos() as u64
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        let began = thread_time();
        let lowered = lower(&self.description.inputs, inputs, slots.len());
        let lowered = lowered.map_err(|wrong| self.broken(wrong))?;
        let params: Vec<_> = lowered.iter().map(Lowered::as_param).collect();
        self.call(|guest, store| guest.call_update(store, slots, &params))?;
        self.spent += thread_time().saturating_sub(began);
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        self.check_lengths(slots.len(), others.len())?;
        self.call(|guest, store| guest.call_merge(store, slots, others))
    }

    fn finish(&mut self, slots: &[u32], context: &[ArrayRef]) -> Result<Finished, Fault> {
        let lowered = lower(&self.description.context, context, slots.len());
        let lowered = lowered.map_err(|wrong| self.broken(wrong))?;
        let params: Vec<_> = lowered.iter().map(Lowered::as_param).collect();
        let answer = self.call(|guest, store| guest.call_finish(store, slots, &params))?;
        let rows = answer.count as usize;
        let columns = lift::origins(answer.origins.as_deref(), rows, slots.len())
            .and_then(|()| lift::columns(&self.description.outputs, answer.columns, rows))
            .map_err(|wrong| self.broken(wrong))?;
        Ok(Finished { columns, origins: answer.origins })
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        let answer = self.call(|guest, store| guest.call_snapshot(store, slots))?;
        lift::binary(answer, slots.len()).map_err(|wrong| self.broken(format!("snapshot {wrong}")))
    }

    fn restore(&mut self, slots: &[u32], state_version: u32, states: &BinaryArray) -> Result<(), Fault> {
        self.check_lengths(slots.len(), states.len())?;
        let AggregateDescription { state_version: own, restores, .. } = &self.description;
        if state_version != *own && !restores.contains(&state_version) {
            let message = format!("reads states of version {own} and of {restores:?}, not of {state_version}");
            return Err(self.fault(FaultKind::Refused, message));
        }
        let lowered = Varlen::new(states);
        let said = self.call(|guest, store| guest.call_restore(store, slots, state_version, lowered.as_param()))?;
        said.map_err(|message| self.fault(FaultKind::Refused, log::printable(&message)))
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        self.call(|guest, store| guest.call_release(store, slots))
    }

    fn renew(&mut self) -> Result<(), Fault> {
        let (instance, description, _) = start(&self.component, &self.config_json).map_err(|error| match error {
            Error::Start(fault) => fault,
            other => self.fault(FaultKind::Contract, format!("cannot start again: {other}")),
        })?;
        if description != self.description {
            return Err(self.fault(FaultKind::Contract, "describes itself otherwise than before".to_owned()));
        }
        self.instance = Ok(Box::new(instance));
        Ok(())
    }
}

fn start(
    component: &Component,
    config_json: &str,
) -> Result<(Instance<AggregatePlugin>, AggregateDescription, u32), Error> {
    let Exports::Aggregate(pre) = component.exports() else {
        return Err(component.world_error(World::Aggregate));
    };
    let mut instance = Instance::new(component, |store| pre.instantiate(store))?;
    let said = instance
        .call(|world, store| world.wasmill_plugin_aggregate().call_init(store, config_json))
        .map_err(Error::Start)?
        .map_err(|message| component.refused(&message))?;
    let typical_state_bytes = said.typical_state_bytes;
    let description = description::aggregate(said).map_err(|wrong| component.description_error(wrong))?;
    Ok((instance, description, typical_state_bytes))
}

fn lower<'a>(fields: &[Field], arrays: &'a [ArrayRef], rows: usize) -> Result<Vec<Lowered<'a>>, String> {
    if fields.len() != arrays.len() {
        return Err(format!("is given {} columns; wants {}", arrays.len(), fields.len()));
    }
    fields.iter().zip(arrays).map(|(field, array)| Lowered::new(field, array, rows)).collect()
}
