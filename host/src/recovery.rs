//! Recovery: from the last checkpoint's manifest to files as it promised them, and to where everything begins again.
//!
//! Like the checkpoint protocol this knows no threads, no clock and no Kafka.

use crate::accounting::Totals;
use crate::checkpointer::{Checkpointer, Identity};
use crate::disk::Disk;
use crate::failpoint;
use crate::failure::Failure;
use crate::mutation::{self, Mutation};
use crate::sink::{self, OpenFile, StagedFile};
use crate::store::{self, LocalStore, Manifest};
use anyhow::anyhow;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmill_pipeline::checkpoint::Boundary;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::state::delta::StateDelta;
use wasmill_pipeline::time::NOTHING_SEEN;
use wasmill_pipeline::time::watermark::Watermarks;

/// Takes the last checkpoint over from whichever process made it.
///
/// # Errors
/// See [`LocalStore::check_owner`] and [`LocalStore::take_over`].
pub fn take_over(store: &LocalStore, identity: &Identity) -> Result<Option<Manifest>, store::Error> {
    if let Some(manifest) = store.latest()? {
        store.check_owner(&manifest, &identity.pipeline, &identity.fingerprint)?;
    }
    store.take_over()
}

/// Completes what the checkpoint that was taken over promised, and removes the staged files of `run` that no checkpoint
/// knows; gives how many these were.
///
/// # Errors
/// What the outputs say; `Corrupt` where the manifest's lists of files cannot be read.
pub fn recover_files(
    disk: &dyn Disk,
    root: &Path,
    run: &str,
    store: &LocalStore,
    manifest: Option<&Manifest>,
) -> Result<u64, Failure> {
    sink::make_root(disk, root)?;
    if let Some(manifest) = manifest {
        let finished: Vec<StagedFile> = files(manifest, "files", &manifest.files)?;
        let mut open: Vec<OpenFile> = files(manifest, "open files", &manifest.open_files)?;
        if mutation::on(Mutation::OpenFilesForgotten) {
            open.clear();
        }
        let files = finished.iter().chain(open.iter().map(|open| &open.file));
        sink::note_files(disk, root, files, &manifest.boundary(), manifest.created_at_us)?;
        sink::recover(disk, root, &finished, &open)?;
        failpoint::reach("files-recovered");
        store.note_recovered(manifest.checkpoint)?;
    }
    Ok(sink::sweep(disk, root, run, store.generation(), &HashSet::new())?)
}

fn files<T: serde::de::DeserializeOwned>(
    manifest: &Manifest,
    what: &str,
    list: &serde_json::Value,
) -> Result<Vec<T>, Failure> {
    serde_json::from_value(list.clone()).map_err(|error| {
        let checkpoint = manifest.checkpoint;
        let error = anyhow!("{what} of the checkpoint cannot be read checkpoint={checkpoint}: {error}");
        Failure::new(Class::Corrupt, error)
    })
}

/// Where an attempt begins.
#[derive(Debug)]
pub struct Beginning {
    /// Per partition: the next offset and the watermark.
    pub partitions: BTreeMap<i32, (i64, i64)>,
    /// The watermark up to which windows were closed.
    pub closed_up_to_us: i64,
    /// The last checkpoint, unless there is none.
    pub manifest: Option<Manifest>,
}

impl Beginning {
    /// At this checkpoint.
    pub fn of(manifest: Option<Manifest>) -> Self {
        let mut closed_up_to_us = manifest.as_ref().and_then(|m| m.watermark_us).unwrap_or(NOTHING_SEEN);
        let states = || manifest.iter().flat_map(|m| &m.partitions);
        if mutation::on(Mutation::WatermarkTooHigh) {
            closed_up_to_us = states().filter_map(|p| p.watermark_us).fold(closed_up_to_us, i64::max);
        }
        if mutation::on(Mutation::ClosedForgotten) {
            closed_up_to_us = NOTHING_SEEN;
        }
        // What an idle partition missed is closed: its next rows are judged by that.
        let watermark = |own: Option<i64>| own.unwrap_or(NOTHING_SEEN).max(closed_up_to_us);
        let partitions = states().map(|p| (p.partition, (p.next_offset, watermark(p.watermark_us)))).collect();
        Self { partitions, closed_up_to_us, manifest }
    }

    /// Takes in a partition that the checkpoint does not know.
    pub fn add(&mut self, partition: i32, next_offset: i64) {
        self.partitions.insert(partition, (next_offset, self.closed_up_to_us));
    }

    /// The checkpoint, and partitions that it does not know.
    pub fn boundary(&self) -> Boundary {
        let checkpoint = self.manifest.as_ref().map_or(0, |manifest| manifest.checkpoint);
        let watermark_us = (self.closed_up_to_us != NOTHING_SEEN).then_some(self.closed_up_to_us);
        let offsets = self.partitions.iter().map(|(&partition, &(next, _))| (partition, next)).collect();
        Boundary { checkpoint, offsets, watermark_us }
    }

    /// The watermarks of all partitions, none of them idle.
    pub fn watermarks(&self) -> Watermarks {
        let mut watermarks = Watermarks::starting_at(self.closed_up_to_us);
        for (&partition, &(_, watermark)) in &self.partitions {
            watermarks.assign(partition, watermark, false);
        }
        watermarks
    }

    /// The open state.
    ///
    /// # Errors
    /// See [`LocalStore::load`].
    pub fn states(&self, store: &LocalStore) -> Result<Vec<StateDelta>, store::Error> {
        self.manifest.as_ref().map_or(Ok(Vec::new()), |manifest| store.load(&manifest.segments))
    }

    /// What was counted before.
    pub fn totals(&self) -> Totals {
        self.manifest.as_ref().map(|manifest| Totals::from_counters(&manifest.counters)).unwrap_or_default()
    }

    /// What makes the checkpoints from here on.
    pub fn checkpointer(
        self,
        disk: Arc<dyn Disk>,
        store: LocalStore,
        output_root: PathBuf,
        identity: Identity,
    ) -> Checkpointer {
        let base = self.totals();
        let (checkpoint, segments) = self.manifest.map_or((0, Vec::new()), |m| (m.checkpoint, m.segments));
        let closed_up_to_us = self.closed_up_to_us;
        Checkpointer { disk, store, output_root, identity, base, segments, checkpoint, closed_up_to_us }
    }
}
