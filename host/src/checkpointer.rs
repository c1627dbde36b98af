//! The checkpoint protocol: what makes the cuts of all workers one checkpoint, in the order that a crash cannot break.
//!
//! ```text
//! sync staged files ─▶ write state ─▶ publish the manifest ─▶ note files ─▶ give them their names ─▶ note that ─▶ prune
//!                                            └ from here on the checkpoint exists: recovery does the rest
//! ```
//! No threads, no clock and no Kafka: the coordinator runs these steps beside the workers, the simulation runs them
//! with the world ending at any of them.

use crate::accounting::Totals;
use crate::disk::Disk;
use crate::failpoint;
use crate::failure::Failure;
use crate::mutation::{self, Mutation};
use crate::sink::{self, SinkCut, StagedFile};
use crate::store::history::Entry;
use crate::store::{Beside, BesideRole, FORMAT, LocalStore, Manifest, PartitionState, Probation, SegmentRef};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use wasmill_pipeline::checkpoint::{Boundary, Cut, PartitionCut};
use wasmill_pipeline::error::Class;
use wasmill_pipeline::record::Anchor;
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::time::NOTHING_SEEN;

/// How many checkpoints are kept: the newest, and the one before for a person who wants to look.
const KEPT_CHECKPOINTS: usize = 2;

/// Whose checkpoints these are: what every manifest of an attempt says.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The pipeline's name.
    pub pipeline: String,
    /// The isolated run, if it is one.
    pub run: Option<String>,
    /// What makes state incompatible.
    pub fingerprint: String,
    /// The topic read.
    pub topic: String,
    /// The aggregates' names, in their order.
    pub aggregates: Vec<String>,
    /// Digest of each plugin in force, by its name.
    pub plugins: BTreeMap<String, String>,
    /// Versions that run beside these.
    pub beside: Vec<Beside>,
    /// Digest of the file at each plugin's path when it was last dealt with.
    pub seen: BTreeMap<String, String>,
}

/// A consistent cut through all workers, before it is a checkpoint.
#[derive(Debug)]
pub struct WholeCut {
    /// The workers' parts.
    pub cuts: Vec<Cut>,
    /// Their files.
    pub files: SinkCut,
    /// The partitions that are idle.
    pub idle: BTreeSet<i32>,
    /// The last record read of each partition.
    pub anchors: BTreeMap<i32, Anchor>,
    /// Records that the broker had removed before they were read, since the attempt began.
    pub lost_records: u64,
    /// When it is made, µs since the Unix epoch.
    pub made_at_us: i64,
}

/// A checkpoint that is complete.
#[derive(Debug)]
pub struct Made {
    /// Its number.
    pub number: u64,
    /// What was counted up to it.
    pub totals: Totals,
    /// State bytes it wrote.
    pub bytes: u64,
    /// The next offset of each partition.
    pub offsets: Vec<(i32, i64)>,
    /// What happened to plugins with it.
    pub events: Vec<Entry>,
    /// The swap that is for good with it.
    pub confirmed: Option<Probation>,
    /// The outputs of the files that it committed, one each.
    pub committed: Vec<String>,
    /// What was found of each shadow, by its aggregate.
    pub shadows: BTreeMap<String, Comparison>,
    /// The pipeline's watermark, µs since the Unix epoch.
    pub watermark_us: Option<i64>,
}

impl Made {
    /// Where it is in the stream.
    pub fn boundary(&self) -> Boundary {
        let offsets = self.offsets.iter().copied().collect();
        Boundary { checkpoint: self.number, offsets, watermark_us: self.watermark_us }
    }
}

/// One attempt's checkpoints, one after the other.
pub struct Checkpointer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) store: LocalStore,
    pub(crate) output_root: PathBuf,
    pub(crate) identity: Identity,
    /// What earlier attempts and runs counted.
    pub(crate) base: Totals,
    /// Oldest first.
    pub(crate) segments: Vec<SegmentRef>,
    /// The last checkpoint.
    pub(crate) checkpoint: u64,
    /// The watermark up to which windows were closed: rows for them are too late for ever.
    pub(crate) closed_up_to_us: i64,
    /// The swap that can be taken back.
    pub(crate) probation: Option<Probation>,
    /// What was finished since then.
    pub(crate) held: Vec<StagedFile>,
    /// What happened to plugins since the last checkpoint.
    pub(crate) events: Vec<Entry>,
    /// What earlier attempts and runs found of the shadows that run, by aggregate.
    pub(crate) found: BTreeMap<String, Comparison>,
}

impl Checkpointer {
    /// The last checkpoint's number; 0 before the first.
    pub fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// The aggregates' names, in their order.
    pub fn aggregates(&self) -> &[String] {
        &self.identity.aggregates
    }

    /// The swap that can be taken back, if there is one.
    pub fn probation(&self) -> Option<&Probation> {
        self.probation.as_ref()
    }

    /// Other versions are at work from now on. With a probation, what they write stays staged until it is over.
    pub fn change(&mut self, plugins: BTreeMap<String, String>, beside: Vec<Beside>, probation: Option<Probation>) {
        (self.identity.plugins, self.identity.beside) = (plugins, beside);
        let shadows = &self.identity.beside;
        self.found.retain(|name, _| shadows.iter().any(|version| version.aggregate == *name && version.is_shadow()));
        if probation.is_some() {
            self.probation = probation;
        }
    }

    /// Something happened to a plugin, which the next checkpoint is to say.
    pub fn tell(&mut self, entry: Entry) {
        self.events.push(entry);
    }

    /// The file at a plugin's path has been dealt with.
    pub fn see(&mut self, plugin: &str, digest: &str) {
        self.identity.seen.insert(plugin.to_owned(), digest.to_owned());
    }

    /// Whether the next checkpoint makes the swap on probation final.
    pub fn confirms_next(&self) -> bool {
        self.probation.as_ref().is_some_and(|probation| probation.until <= self.checkpoint + 1)
    }

    /// Ends the probation with the next checkpoint, as no other may come.
    pub fn confirm_next(&mut self) {
        if let Some(probation) = &mut self.probation {
            probation.until = self.checkpoint + 1;
        }
    }

    /// Makes a cut the next checkpoint.
    ///
    /// # Errors
    /// What the store or the outputs say. The attempt is over then: whether the checkpoint exists, the next one sees.
    pub fn publish(&mut self, whole: WholeCut) -> Result<Made, Failure> {
        let WholeCut { cuts, files, idle, anchors, lost_records, made_at_us } = whole;
        let number = self.checkpoint + 1;
        sink::sync(self.disk.as_ref(), &self.output_root, &files)?;
        failpoint::reach("files-synced");
        let mut totals = self.base.clone();
        totals.add(&self.identity.aggregates, &cuts, lost_records);
        self.closed_up_to_us = cuts.iter().map(|cut| cut.closed_up_to_us).fold(self.closed_up_to_us, i64::max);
        let partitions = partition_states(&cuts, &idle, &anchors);
        let shadows = self.compare(&cuts);
        let bytes = self.write_state(number, cuts)?;
        if mutation::on(Mutation::CommitBeforePublish) {
            sink::commit(self.disk.as_ref(), &self.output_root, &files.finished)?;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend(files.finished);
        let over = self.probation.as_ref().is_none_or(|probation| probation.until <= number);
        let all_final = over || mutation::on(Mutation::HeldCommitted);
        let (finished, held) = if all_final { (held, Vec::new()) } else { (Vec::new(), held) };
        let probation = self.probation.take();
        let (confirmed, probation) = if over { (probation, None) } else { (None, probation) };
        self.probation = probation.map(|probation| Probation { recoveries: 0, ..probation });
        let events = std::mem::take(&mut self.events);
        let json = |value: Result<serde_json::Value, serde_json::Error>| value.map_err(|e| Failure::new(Class::Bug, e));
        let manifest = Manifest {
            format: FORMAT,
            checkpoint: number,
            generation: self.store.generation(),
            id: self.store.id().to_owned(),
            pipeline: self.identity.pipeline.clone(),
            fingerprint: self.identity.fingerprint.clone(),
            topic: self.identity.topic.clone(),
            run: self.identity.run.clone(),
            created_at_us: made_at_us,
            watermark_us: (self.closed_up_to_us != NOTHING_SEEN).then_some(self.closed_up_to_us),
            partitions,
            plugins: self.identity.plugins.clone(),
            counters: totals.to_counters(),
            segments: self.segments.clone(),
            files_of: number,
            files: json(serde_json::to_value(&finished))?,
            open_files: json(serde_json::to_value(&files.open))?,
            beside: self.identity.beside.clone(),
            probation: self.probation.clone(),
            held: json(serde_json::to_value(&held))?,
            seen: self.identity.seen.clone(),
            events,
        };
        self.store.publish(&manifest)?;
        failpoint::reach("manifest-published");
        if confirmed.is_some() {
            failpoint::reach("confirmation-published");
        }
        (self.checkpoint, self.held) = (number, held);
        let boundary = manifest.boundary();
        sink::note_files(self.disk.as_ref(), &self.output_root, &finished, &boundary, made_at_us)?;
        sink::commit(self.disk.as_ref(), &self.output_root, &finished)?;
        failpoint::reach("files-committed");
        self.store.note_committed(number)?;
        failpoint::reach("commit-noted");
        self.store.prune(KEPT_CHECKPOINTS)?;
        failpoint::reach("pruned");
        let offsets = manifest.partitions.iter().map(|p| (p.partition, p.next_offset)).collect();
        let committed = finished.into_iter().map(|file| file.output).collect();
        let watermark_us = manifest.watermark_us;
        Ok(Made {
            number,
            totals,
            bytes,
            offsets,
            watermark_us,
            events: manifest.events,
            confirmed,
            committed,
            shadows,
        })
    }

    /// Adds what the workers found of the shadows.
    fn compare(&mut self, cuts: &[Cut]) -> BTreeMap<String, Comparison> {
        let mut all = BTreeMap::new();
        for version in &mut self.identity.beside {
            let BesideRole::Shadow { found, .. } = &mut version.role else { continue };
            let of = self.identity.aggregates.iter().position(|name| *name == version.aggregate);
            *found = self.found.get(&version.aggregate).cloned().unwrap_or_default();
            for part in cuts.iter().filter_map(|cut| cut.comparisons.get(&of?)) {
                found.add(part);
            }
            all.insert(version.aggregate.clone(), found.clone());
        }
        all
    }

    /// Writes what changed in the state, and gives how many bytes that took.
    fn write_state(&mut self, number: u64, cuts: Vec<Cut>) -> Result<u64, Failure> {
        let live: u64 = cuts.iter().flat_map(|cut| &cut.open_groups).sum();
        let deltas: Vec<_> = cuts.into_iter().flat_map(|cut| cut.deltas).filter(|d| !d.is_empty()).collect();
        if deltas.is_empty() {
            return Ok(0);
        }
        let segment = self.store.write_segment(number, &deltas)?;
        failpoint::reach("segment-written");
        let bytes = segment.bytes;
        self.segments.push(segment);
        self.store.compact(number, &mut self.segments, live)?;
        Ok(bytes)
    }
}

fn partition_states(cuts: &[Cut], idle: &BTreeSet<i32>, anchors: &BTreeMap<i32, Anchor>) -> Vec<PartitionState> {
    let seen = |instant: i64| (instant != NOTHING_SEEN).then_some(instant);
    let state = |p: &PartitionCut| PartitionState {
        partition: p.partition,
        next_offset: p.next_offset,
        watermark_us: seen(p.trusted.watermark_us),
        latest_us: seen(p.trusted.latest_us),
        doubt: p.trusted.doubt,
        idle: idle.contains(&p.partition),
        anchor: anchors.get(&p.partition).copied(),
        newest: p.newest,
    };
    let mut states: Vec<_> = cuts.iter().flat_map(|cut| &cut.partitions).map(state).collect();
    states.sort_unstable_by_key(|state| state.partition);
    states
}
