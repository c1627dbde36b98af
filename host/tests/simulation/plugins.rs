//! Versions of an aggregate that trap now and then.

use arrow_array::{ArrayRef, BinaryArray};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wasmill_pipeline::plugin::{Aggregate, AggregateDescription, Fault, FaultKind, Finished};
use wasmill_pipeline::testing::{Tagged, Version};

/// One version, until so many calls were made.
pub(crate) struct Trapping {
    inner: Tagged,
    /// Calls left before the trap.
    left: Arc<AtomicUsize>,
}

impl Trapping {
    pub(crate) fn new(version: Version, left: Arc<AtomicUsize>) -> Self {
        Self { inner: Tagged::new(version), left }
    }

    fn call(&self) -> Result<(), Fault> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(Fault {
                plugin: "simulated".into(),
                kind: FaultKind::Trap,
                message: "simulated".into(),
                backtrace: Vec::new(),
            });
        }
        Ok(())
    }
}

impl Aggregate for Trapping {
    fn description(&self) -> &AggregateDescription {
        self.inner.description()
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        self.call()?;
        self.inner.update(slots, inputs)
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        self.call()?;
        self.inner.merge(slots, others)
    }

    fn finish(&mut self, slots: &[u32], context: &[ArrayRef]) -> Result<Finished, Fault> {
        self.call()?;
        self.inner.finish(slots, context)
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        self.call()?;
        self.inner.snapshot(slots)
    }

    fn restore(&mut self, slots: &[u32], state_version: u32, states: &BinaryArray) -> Result<(), Fault> {
        self.call()?;
        self.inner.restore(slots, state_version, states)
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        self.call()?;
        self.inner.release(slots)
    }

    fn renew(&mut self) -> Result<(), Fault> {
        self.inner.renew()
    }
}
