//! The generator of a running pipeline, which can be replaced between two batches.

use crate::generate::RecordSource;
use crate::plugin::{Component, Generator};
use arrow_array::BinaryArray;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many batches a new generator can be taken back: the first ones show whether it works at all.
const TRIAL_BATCHES: u32 = 100;

/// Where the generator at work is.
pub struct GeneratorSlot(Mutex<Inner>);

struct Inner {
    at_work: Version,
    before: Option<Before>,
    /// The record that comes next, and the time of the one before it.
    next: (u64, i64),
}

/// A generator and the component that it is an instance of.
struct Version {
    component: Component,
    instance: Box<dyn Generator>,
}

/// The version before, until the new one has shown that it works.
struct Before {
    version: Version,
    batches_left: u32,
    taken_back: TakenBack,
}

/// Told why, when a new generator is taken back.
pub type TakenBack = Box<dyn FnOnce(&str) + Send>;

impl GeneratorSlot {
    /// With this generator at work.
    pub fn new(component: Component, instance: Box<dyn Generator>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner { at_work: Version { component, instance }, before: None, next: (0, 0) })))
    }

    /// The component at work.
    pub fn component(&self) -> Component {
        self.inner().at_work.component.clone()
    }

    /// The record that comes next, and the time of the one before it, µs since the Unix epoch.
    pub fn next(&self) -> (u64, i64) {
        self.inner().next
    }

    /// Puts another generator in, from the next batch on. Where it fails in its first batches the one before goes on.
    pub fn replace(&self, component: Component, instance: Box<dyn Generator>, taken_back: TakenBack) {
        let mut inner = self.inner();
        let version = std::mem::replace(&mut inner.at_work, Version { component, instance });
        inner.before = Some(Before { version, batches_left: TRIAL_BATCHES, taken_back });
    }

    /// Takes the new generator back; `false` where none is on trial.
    pub fn take_back(&self, why: &str) -> bool {
        self.inner().take_back(why)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_back(&mut self, why: &str) -> bool {
        let Some(before) = self.before.take() else { return false };
        let digest = self.at_work.component.digest();
        tracing::error!(plugin = "generator", digest, "{why}; the version before goes on");
        (before.taken_back)(why);
        self.at_work = before.version;
        true
    }
}

impl RecordSource for Arc<GeneratorSlot> {
    fn generate(&mut self, first: u64, times_us: &[i64]) -> Result<(BinaryArray, Option<BinaryArray>), String> {
        let mut inner = self.inner();
        let made = match inner.at_work.instance.generate(first, times_us) {
            Err(fault) if inner.take_back(&fault.to_string()) => inner.at_work.instance.generate(first, times_us),
            made => made,
        };
        let made = made.map_err(|fault| fault.to_string())?;
        inner.next = (first + times_us.len() as u64, times_us.last().copied().unwrap_or_default());
        if let Some(before) = &mut inner.before {
            before.batches_left -= 1;
            if before.batches_left == 0 {
                inner.before = None;
            }
        }
        Ok((made.values, made.keys))
    }
}
