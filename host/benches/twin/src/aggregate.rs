//! The pipeline's aggregate port on an aggregate that is part of this program.

use crate::columns::{binary, lift, lower, varlen};
use crate::describe;
use arrow_array::{Array, ArrayRef, BinaryArray};
use wasmill::plugin::Error;
use wasmill_pipeline::plugin::{Aggregate, AggregateDescription, Fault, FaultKind, Finished};
use wasmill_sdk::aggregate::Groups;

/// An aggregate with its accumulators.
pub(crate) struct NativeAggregate<A: wasmill_sdk::aggregate::Aggregate> {
    name: String,
    config_json: String,
    groups: Groups<A>,
    description: AggregateDescription,
}

impl<A: wasmill_sdk::aggregate::Aggregate> NativeAggregate<A> {
    /// As [`wasmill::plugin::Component::aggregate`] has it.
    pub(crate) fn new(name: &str, config_json: &str) -> Result<Self, Error> {
        let refused = |message| Error::Refused { plugin: name.to_owned(), message };
        let (groups, said) = Groups::<A>::init(config_json).map_err(refused)?;
        let description = describe::aggregate(said);
        Ok(Self { name: name.to_owned(), config_json: config_json.to_owned(), groups, description })
    }

    fn fault(&self, kind: FaultKind, message: String) -> Fault {
        Fault { plugin: self.name.as_str().into(), kind, message, backtrace: Vec::new() }
    }

    fn broken(&self, message: String) -> Fault {
        self.fault(FaultKind::Contract, message)
    }
}

impl<A: wasmill_sdk::aggregate::Aggregate> Aggregate for NativeAggregate<A> {
    fn description(&self) -> &AggregateDescription {
        &self.description
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        let columns = lower(&self.description.inputs, inputs, slots.len()).map_err(|wrong| self.broken(wrong))?;
        self.groups.update(slots, &columns);
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        if slots.len() != others.len() {
            return Err(self.broken(format!("is given {} slots, but {} others", slots.len(), others.len())));
        }
        self.groups.merge(slots, others);
        Ok(())
    }

    fn finish(&mut self, slots: &[u32], context: &[ArrayRef]) -> Result<Finished, Fault> {
        let context = lower(&self.description.context, context, slots.len()).map_err(|wrong| self.broken(wrong))?;
        let answer = self.groups.finish(slots, &context);
        let lifted = lift(&self.description.outputs, answer, slots.len());
        let (columns, origins) = lifted.map_err(|wrong| self.broken(wrong))?;
        Ok(Finished { columns, origins })
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        binary(self.groups.snapshot(slots), None).map_err(|wrong| self.broken(format!("snapshot {wrong}")))
    }

    fn restore(&mut self, slots: &[u32], state_version: u32, states: &BinaryArray) -> Result<(), Fault> {
        if slots.len() != states.len() {
            return Err(self.broken(format!("is given {} slots, but {} states", slots.len(), states.len())));
        }
        let restored = self.groups.restore(slots, state_version, &varlen(states));
        restored.map_err(|message| self.fault(FaultKind::Refused, message))
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        self.groups.release(slots);
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Fault> {
        let started = Groups::init(&self.config_json);
        (self.groups, _) = started.map_err(|message| self.fault(FaultKind::Refused, message))?;
        Ok(())
    }
}
