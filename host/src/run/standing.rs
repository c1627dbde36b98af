//! The checkpoint folder at the start of an attempt: opened for this process alone, and held against the output.

use super::Attempt;
use crate::failure::Failure;
use crate::random;
use crate::recovery::{Job, begin_anew, compare, others};
use crate::shared::lock;
use crate::sink;
use crate::store::LocalStore;
use anyhow::{Context, anyhow};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use wasmill_pipeline::error::Class;

impl Attempt<'_> {
    /// The checkpoint folder, with its output, as soon as no other process has them.
    pub(super) fn open_store(&self) -> Result<LocalStore, Failure> {
        let wait = |what: &str, who: &str| {
            self.view.wait(&format!("waiting for {what}: {who}"));
            if self.stop.load(Ordering::SeqCst) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let folder = &self.options.checkpoint_path;
        let mut on_wait = |who: &str| wait("the checkpoint folder", who);
        let mut store = LocalStore::open(self.disk.clone(), folder, random_bits()?, &mut on_wait)?;
        let mut on_wait = |who: &str| wait("a process with a copy of the checkpoint folder, in the same output", who);
        sink::make_root(self.disk.as_ref(), &self.options.output_root)?;
        store.claim(&self.options.output_root.join(sink::LEDGER), &mut on_wait)?;
        Ok(store)
    }

    /// What this run is to the others that write to the same output.
    fn job(&self) -> Job {
        Job {
            pipeline: self.options.pipeline.clone(),
            run: self.options.run.clone(),
            topic: self.files.outputs.topic.clone(),
            folders: self.files.output_specs.iter().map(|output| output.folder.clone()).collect(),
        }
    }

    /// Makes sure that to go on from the checkpoint writes no row a second time, or begins anew where that was asked for.
    pub(super) fn hold_against_output(&self, store: &mut LocalStore) -> Result<(), Failure> {
        let (disk, root, job) = (self.disk.as_ref(), &self.options.output_root, self.job());
        let ids = if let Some(ids) = store.is_beginning_anew()? {
            ids
        } else if let Some(repetition) = compare(disk, root, &job, store)? {
            if !self.options.begin_anew {
                return Err(Failure::new(Class::Corrupt, anyhow!("{repetition}")));
            }
            repetition.ids
        } else {
            if lock(&self.view.in_force).is_none() {
                self.tell_of_output(&job, store)?;
            }
            return Ok(());
        };
        let moved = begin_anew(disk, root, &job, store, &ids, random_bits()?)?;
        let aside = root.join(sink::REPLACED);
        tracing::warn!(
            files = moved,
            "beginning anew, as was asked: the files that this pipeline had committed are in {}, its checkpoints in {}",
            aside.display(),
            self.options.checkpoint_path.display()
        );
        Ok(())
    }

    /// Tells people what is there of others, once.
    fn tell_of_output(&self, job: &Job, store: &LocalStore) -> Result<(), Failure> {
        if self.options.begin_anew {
            tracing::info!("the checkpoint and the output fit together: --begin-anew has nothing to do");
        }
        let newest = store.latest()?;
        for other in others(self.disk.as_ref(), &self.options.output_root, job, newest.as_ref())? {
            tracing::warn!("{other}");
        }
        Ok(())
    }
}

/// Bits for an identity.
fn random_bits() -> Result<u64, Failure> {
    let bytes = random::bytes().with_context(|| format!("cannot read {}", random::RANDOM));
    Ok(u64::from_le_bytes(bytes.map_err(|error| Failure::new(Class::Unavailable, error))?))
}
