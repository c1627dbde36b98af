//! An aggregate that does no work: what is left of a shard's time is the host's own.

use arrow_array::{ArrayRef, BinaryArray, new_empty_array};
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use wasmill_pipeline::plugin::{Aggregate, AggregateDescription, Fault, Finished};

/// One call to an aggregate.
#[derive(Clone)]
pub(crate) enum Call {
    /// `update`: the slots and the columns.
    Update(Vec<u32>, Vec<ArrayRef>),
    /// `merge`: into these slots, those.
    Merge(Vec<u32>, Vec<u32>),
    /// `release`: the slots.
    Release(Vec<u32>),
}

/// The calls to an aggregate, in order.
pub(crate) type Calls = Arc<Mutex<Vec<Call>>>;

/// An aggregate that does nothing, gives no rows, and notes the calls to it where somebody wants to know them.
pub(crate) struct Hollow {
    description: AggregateDescription,
    calls: Option<Calls>,
}

impl Hollow {
    /// In place of one with this description.
    pub(crate) fn new(description: &AggregateDescription) -> Self {
        Self { description: description.clone(), calls: None }
    }

    /// One that notes its calls.
    pub(crate) fn noting(description: &AggregateDescription) -> (Self, Calls) {
        let calls = Calls::default();
        (Self { description: description.clone(), calls: Some(Arc::clone(&calls)) }, calls)
    }

    fn note(&self, call: impl FnOnce() -> Call) {
        if let Some(calls) = &self.calls {
            calls.lock().unwrap().push(call());
        }
    }
}

impl Aggregate for Hollow {
    fn description(&self) -> &AggregateDescription {
        &self.description
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        black_box((slots, inputs));
        self.note(|| Call::Update(slots.to_vec(), inputs.to_vec()));
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        black_box((slots, others));
        self.note(|| Call::Merge(slots.to_vec(), others.to_vec()));
        Ok(())
    }

    fn finish(&mut self, _: &[u32], _: &[ArrayRef]) -> Result<Finished, Fault> {
        let columns = self.description.outputs.iter().map(|field| new_empty_array(&field.arrow_type())).collect();
        Ok(Finished { columns, origins: Some(Vec::new()) })
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        Ok(BinaryArray::from_iter_values(slots.iter().map(|_| [])))
    }

    fn restore(&mut self, _: &[u32], _: u32, _: &BinaryArray) -> Result<(), Fault> {
        Ok(())
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        black_box(slots);
        self.note(|| Call::Release(slots.to_vec()));
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}
