//! Recovery: from the last checkpoint's manifest to files as it promised them, and to where everything begins again.
//!
//! Like the checkpoint protocol this knows no threads, no clock and no Kafka.

mod output;

pub use self::output::{Job, Repetition, begin_anew, compare, others};

use crate::accounting::Totals;
use crate::checkpointer::{Checkpointer, Identity};
use crate::disk::Disk;
use crate::failpoint;
use crate::failure::Failure;
use crate::mutation::{self, Mutation};
use crate::sink::{self, OpenFile, StagedFile};
use crate::store::history::Entry;
use crate::store::{self, Beside, BesideRole, LocalStore, Manifest, PartitionState, Swapped};
use anyhow::anyhow;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmill_pipeline::checkpoint::Boundary;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::record::Anchor;
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::state::delta::StateDelta;
use wasmill_pipeline::time::NOTHING_SEEN;
use wasmill_pipeline::time::ending::Newest;
use wasmill_pipeline::time::trust::{Doubt, Trusted};
use wasmill_pipeline::time::watermark::Watermarks;

/// Takes the last checkpoint over from whichever process made it. `new_process` = it is the first time that this one does.
///
/// # Errors
/// See [`LocalStore::check_owner`] and [`LocalStore::take_over`].
pub fn take_over(
    store: &LocalStore,
    pipeline: &str,
    fingerprint: &str,
    new_process: bool,
) -> Result<Option<Manifest>, store::Error> {
    if let Some(manifest) = store.latest()? {
        store.check_owner(&manifest, pipeline, fingerprint)?;
    }
    store.take_over(new_process)
}

/// How often processes may begin again on probation without a checkpoint in between: then the new version is to blame,
/// which may be what ends them.
const MOST_RECOVERIES: u32 = 3;

/// Why the checkpoint that was taken over is not to be gone on from, but the one before its swap.
pub fn must_go_back(manifest: &Manifest) -> Option<String> {
    let recoveries = manifest.probation.as_ref()?.recoveries;
    let why = || format!("{recoveries} processes in a row ended on probation before they had made a checkpoint");
    (recoveries > MOST_RECOVERIES).then(why)
}

/// Takes back the swap that is on probation: the checkpoint before it is the next one, which says so with `event`. What
/// was written since then belongs to no checkpoint any more.
///
/// # Errors
/// `Corrupt` where the checkpoint is not there; see [`LocalStore::publish`].
pub fn go_back(
    store: &LocalStore,
    manifest: &Manifest,
    event: impl Fn(&Swapped, Boundary) -> Entry,
) -> Result<Manifest, store::Error> {
    let Some(probation) = &manifest.probation else { return Ok(manifest.clone()) };
    let boundary = store.checkpoint(probation.boundary)?;
    let none = || serde_json::Value::Array(Vec::new());
    let at = Boundary { checkpoint: manifest.checkpoint + 1, ..boundary.boundary() };
    let (files, segments) = (
        if mutation::on(Mutation::HeldKeptOnGoingBack) { manifest.held.clone() } else { none() },
        if mutation::on(Mutation::StateKeptOnGoingBack) { &manifest.segments } else { &boundary.segments }.clone(),
    );
    let back = Manifest {
        checkpoint: manifest.checkpoint + 1,
        generation: store.generation(),
        format: store::FORMAT,
        // Those of the boundary were committed before any checkpoint of the swap was made.
        files_of: manifest.checkpoint + 1,
        files,
        segments,
        open_files: none(),
        held: none(),
        probation: None,
        seen: manifest.seen.clone(),
        events: probation.swaps.iter().map(|swap| event(swap, at.clone())).collect(),
        ..boundary
    };
    failpoint::reach("going-back");
    store.publish(&back)?;
    failpoint::reach("went-back");
    Ok(back)
}

/// What recovery made of files.
#[derive(Debug, Default)]
pub struct RecoveredFiles {
    /// Those that stay staged until a probation is over.
    pub held: Vec<StagedFile>,
    /// How many were removed, as no checkpoint knows them.
    pub swept: u64,
}

/// Completes what the checkpoint that was taken over promised, and removes the staged files of this checkpoint folder that
/// no checkpoint knows.
///
/// # Errors
/// What the outputs say; `Corrupt` where the manifest's lists of files cannot be read.
pub fn recover_files(
    disk: &dyn Disk,
    root: &Path,
    store: &LocalStore,
    manifest: Option<&Manifest>,
) -> Result<RecoveredFiles, Failure> {
    sink::make_root(disk, root)?;
    let mut manifest = manifest.cloned();
    let held = loop {
        let Some(manifest) = &mut manifest else { break Vec::new() };
        match complete_files(disk, root, store, manifest) {
            // A process that was overtaken has done it meanwhile, and a reader may have moved what it left to readers.
            Err(_) if store.leave_out_committed(manifest)? => {}
            done => break done?,
        }
    };
    let kept = held.iter().filter(|_| !mutation::on(Mutation::HeldSwept));
    let keep: HashSet<String> = kept.map(|file| file.staged.clone()).collect();
    let swept = sink::sweep(disk, root, store.id(), store.generation(), &keep)?;
    Ok(RecoveredFiles { held, swept })
}

/// Gives the files that stay staged.
fn complete_files(
    disk: &dyn Disk,
    root: &Path,
    store: &LocalStore,
    manifest: &Manifest,
) -> Result<Vec<StagedFile>, Failure> {
    let mut held = Vec::new();
    let finished: Vec<StagedFile> = files(manifest, "files", &manifest.files)?;
    let mut open: Vec<OpenFile> = files(manifest, "open files", &manifest.open_files)?;
    if mutation::on(Mutation::OpenFilesForgotten) {
        open.clear();
    }
    if manifest.probation.is_some() {
        held = files(manifest, "held files", &manifest.held)?;
    }
    let mut completed = sink::complete(disk, root, &open)?;
    if manifest.probation.is_some() && !mutation::on(Mutation::OpenCommittedOnProbation) {
        let completed = std::mem::take(&mut completed);
        if !mutation::on(Mutation::OpenForgottenOnProbation) {
            sink::hold(disk, root, &completed)?;
            held.extend(completed);
        }
    }
    let files = finished.iter().chain(&completed);
    sink::note_files(disk, root, files, &manifest.boundary(), manifest.created_at_us)?;
    sink::recover(disk, root, &finished, &completed)?;
    failpoint::reach("files-recovered");
    if manifest.probation.is_none() {
        store.note_recovered(manifest.checkpoint)?;
    }
    Ok(held)
}

fn files<T: serde::de::DeserializeOwned>(
    manifest: &Manifest,
    what: &str,
    list: &serde_json::Value,
) -> Result<Vec<T>, Failure> {
    if list.is_null() {
        return Ok(Vec::new());
    }
    serde_json::from_value(list.clone()).map_err(|error| {
        let checkpoint = manifest.checkpoint;
        let error = anyhow!("{what} of the checkpoint cannot be read checkpoint={checkpoint}: {error}");
        Failure::new(Class::Corrupt, error)
    })
}

/// Where an attempt begins.
#[derive(Debug)]
pub struct Beginning {
    /// Per partition: the next offset, and how far it is trusted to have come.
    pub partitions: BTreeMap<i32, (i64, Trusted)>,
    /// The watermark up to which windows were closed.
    pub closed_up_to_us: i64,
    /// The last checkpoint, unless there is none.
    pub manifest: Option<Manifest>,
    /// Files that stay staged until a probation is over.
    pub held: Vec<StagedFile>,
}

impl Beginning {
    /// The last record taken in of each partition that had any.
    pub fn anchors(&self) -> BTreeMap<i32, Anchor> {
        let read = self.manifest.iter().flat_map(|manifest| &manifest.partitions);
        read.filter_map(|partition| Some((partition.partition, partition.anchor?))).collect()
    }

    /// At this checkpoint.
    pub fn of(manifest: Option<Manifest>, held: Vec<StagedFile>) -> Self {
        let mut closed_up_to_us = manifest.as_ref().and_then(|m| m.watermark_us).unwrap_or(NOTHING_SEEN);
        let states = || manifest.iter().flat_map(|m| &m.partitions);
        if mutation::on(Mutation::WatermarkTooHigh) {
            closed_up_to_us = states().filter_map(|p| p.watermark_us).fold(closed_up_to_us, i64::max);
        }
        if mutation::on(Mutation::ClosedForgotten) {
            closed_up_to_us = NOTHING_SEEN;
        }
        // What an idle partition missed is closed: its next rows are judged by that.
        let trusted = |state: &PartitionState| {
            let mut trusted = state.trusted();
            trusted.raise(closed_up_to_us);
            if mutation::on(Mutation::DoubtForgotten) {
                trusted.doubt = Doubt::default();
            }
            trusted
        };
        let partitions = states().map(|p| (p.partition, (p.next_offset, trusted(p)))).collect();
        Self { partitions, closed_up_to_us, manifest, held }
    }

    /// Sets the watermark back to `to_us`: that of the pipeline, and of each partition that is further. Whether any was.
    ///
    /// What had been closed by then stays written; rows that come to it now are closed once more.
    pub fn lower(&mut self, to_us: i64) -> bool {
        let mut lowered = self.closed_up_to_us > to_us;
        self.closed_up_to_us = self.closed_up_to_us.min(to_us);
        for (_, trusted) in self.partitions.values_mut().filter(|(_, trusted)| trusted.watermark_us > to_us) {
            *trusted = Trusted { watermark_us: to_us, doubt: Doubt::default(), ..*trusted };
            lowered = true;
        }
        lowered
    }

    /// The newest broker timestamp of the partition's records that the checkpoint knows.
    pub fn newest(&self, partition: i32) -> Newest {
        let mut known = self.manifest.iter().flat_map(|manifest| &manifest.partitions);
        let known = known.find(|known| known.partition == partition && !mutation::on(Mutation::NewestForgotten));
        known.map(|known| known.newest).unwrap_or_default()
    }

    /// Leaves out the partitions that the topic does not have any more, and gives each with its next offset.
    pub fn leave_out_but(&mut self, there: &[i32]) -> Vec<(i32, i64)> {
        let gone = self.partitions.extract_if(.., |partition, _| !there.contains(partition));
        gone.map(|(partition, (next_offset, _))| (partition, next_offset)).collect()
    }

    /// Takes in a partition that the checkpoint does not know.
    pub fn add(&mut self, partition: i32, next_offset: i64) {
        self.partitions.insert(partition, (next_offset, Trusted::at(self.closed_up_to_us)));
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
        for (&partition, &(_, trusted)) in &self.partitions {
            watermarks.assign(partition, trusted.watermark_us, false);
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

    /// What was found of the shadows that run, by aggregate.
    pub fn found(&self) -> BTreeMap<String, Comparison> {
        let found = |version: &Beside| match &version.role {
            BesideRole::Shadow { found, .. } => Some((version.aggregate.clone(), found.clone())),
            BesideRole::Retiring { .. } => None,
        };
        self.manifest.iter().flat_map(|manifest| &manifest.beside).filter_map(found).collect()
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
        let found = self.found();
        let (closed_up_to_us, held) = (self.closed_up_to_us, self.held);
        let (checkpoint, segments, probation) =
            self.manifest.map_or((0, Vec::new(), None), |m| (m.checkpoint, m.segments, m.probation));
        Checkpointer {
            disk,
            store,
            output_root,
            identity,
            base,
            segments,
            checkpoint,
            closed_up_to_us,
            probation,
            held,
            events: Vec::new(),
            found,
        }
    }
}
