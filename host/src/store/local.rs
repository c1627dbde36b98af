//! The checkpoint store in a folder on a local disk.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::durable::{self, Created};
use super::error::Error;
use super::identity::{self, is_identity};
use super::lock;
use super::manifest::{FORMAT, Manifest, SegmentRef};
use super::merge::{self, Deletes, plan_merge};
use super::owner;
use super::segment;
use crate::disk::{Disk, Lock, make_durable_folder};
use crate::failpoint;
use crate::mutation::{self, Mutation};
use arrow_array::Array;
use wasmill_pipeline::state::delta::StateDelta;

/// The name of what notes that everything is being put aside.
const BEGINNING_ANEW: &str = "beginning-anew";

/// A checkpoint folder that this process alone may write to, as long as the value lives.
///
/// An attempt begins with [`take_over`](Self::take_over). The order of a checkpoint:
/// [`write_segment`](Self::write_segment) with what changed, [`compact`](Self::compact), [`publish`](Self::publish), then
/// the sinks' commit, then [`prune`](Self::prune). A crash anywhere leaves the newest manifest and all it names.
#[derive(Debug)]
pub struct LocalStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: String,
    generation: u64,
    /// Numbers this process's segments.
    next_segment: AtomicU64,
    /// That of the folder, and of the outputs that were claimed. Held, not read: dropping them lets the next process in.
    locks: Vec<Lock>,
}

impl LocalStore {
    /// Makes the folder where there is none, waits for its lock and takes the next generation. A folder that has no
    /// identity yet gets one, made of `random_bits`.
    ///
    /// While another process has the lock, `on_wait` gets who that is (pid, host, since when) at once and then every two
    /// seconds; `Break` ends the waiting.
    ///
    /// # Errors
    /// [`Error::Held`] when `on_wait` broke off, [`Error::Io`]; [`Error::Corrupt`] where the identity cannot be read.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        random_bits: u64,
        on_wait: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Self, Error> {
        make_durable_folder(disk.as_ref(), dir).map_err(Error::io("make the folder of", dir))?;
        let lock = lock::acquire(disk.as_ref(), &dir.join(lock::NAME), on_wait)?;
        let mut generation = newest_generation(disk.as_ref(), dir)?;
        loop {
            generation = generation.checked_add(1).ok_or_else(|| Error::corrupt(dir, "it has the last generation"))?;
            let name = Name::Generation(generation).to_string();
            let who = lock::who();
            // Taken already only where the file system's locks do not work.
            let write = |out: &mut dyn Write| out.write_all(who.as_bytes());
            if durable::create(disk.as_ref(), dir, &name, generation, write)? == Created::New {
                break;
            }
        }
        failpoint::reach("generation-named");
        durable::sync_folder(disk.as_ref(), dir)?;
        let id = if let Some(id) = identity::read(disk.as_ref(), dir)? {
            id
        } else {
            // Where somebody removed it, the checkpoints know it.
            let known = latest_in(disk.as_ref(), dir)?.map(|newest| newest.id).filter(|id| is_identity(id));
            let id = known.unwrap_or_else(|| identity::of_bits(random_bits));
            identity::make(disk.as_ref(), dir, &id, generation)?
        };
        let next_segment = AtomicU64::new(0);
        Ok(Self { disk, dir: dir.to_owned(), id, generation, next_segment, locks: vec![lock] })
    }

    /// Waits for the lock of this identity in an output's folder `dir`: a process with a copy of this checkpoint folder may
    /// be at work there. `on_wait` as for [`open`](Self::open).
    ///
    /// # Errors
    /// [`Error::Held`] when `on_wait` broke off, [`Error::Io`].
    pub fn claim(&mut self, dir: &Path, on_wait: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), Error> {
        make_durable_folder(self.disk.as_ref(), dir).map_err(Error::io("make the folder of", dir))?;
        let path = dir.join(format!("{}-{}", lock::NAME, self.id));
        self.locks.push(lock::acquire(self.disk.as_ref(), &path, on_wait)?);
        Ok(())
    }

    /// The identity of this folder: of its copies, too.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the folder is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Notes that all checkpoints here, and the output's files of these identities, are to be put aside. It holds until
    /// [`begin_anew`](Self::begin_anew) is done, whoever does it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn note_beginning_anew(&self, ids: &[String]) -> Result<(), Error> {
        let text = ids.join("\n");
        durable::create(self.disk.as_ref(), &self.dir, BEGINNING_ANEW, self.generation, |out| {
            out.write_all(text.as_bytes())
        })?;
        durable::sync_folder(self.disk.as_ref(), &self.dir)
    }

    /// Whose files in the output are to be put aside, if that was noted and is not done.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`].
    pub fn is_beginning_anew(&self) -> Result<Option<Vec<String>>, Error> {
        let path = self.dir.join(BEGINNING_ANEW);
        let bytes = match self.disk.read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(Error::io("read", &path))?,
        };
        let text = String::from_utf8(bytes).map_err(|_| Error::corrupt(&path, "it is not text"))?;
        Ok(Some(text.lines().map(str::to_owned).collect()))
    }

    /// Puts all checkpoints aside, below the folder, and takes a new identity, made of `random_bits`: as if the folder were
    /// new. Kept plugins and the history stay.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_anew(&mut self, random_bits: u64) -> Result<(), Error> {
        let disk = self.disk.clone();
        let aside = self.dir.join(format!("replaced-{}", self.id));
        make_durable_folder(disk.as_ref(), &aside).map_err(Error::io("make the folder", &aside))?;
        let files = list(disk.as_ref(), &self.dir)?;
        let is_old = |name: &Name| !matches!(name, Name::Generation(_) | Name::Temporary(_));
        let old = files.into_iter().filter(|(_, name)| is_old(name)).map(|(file, _)| file);
        for file in old.chain([identity::NAME.to_owned()]) {
            let path = self.dir.join(&file);
            match disk.rename(&path, &aside.join(&file)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("put aside", &path)(error)),
                _ => {}
            }
        }
        durable::sync_folder(disk.as_ref(), &aside)?;
        durable::sync_folder(disk.as_ref(), &self.dir)?;
        self.id = identity::make(disk.as_ref(), &self.dir, &identity::of_bits(random_bits), self.generation)?;
        let noted = self.dir.join(BEGINNING_ANEW);
        disk.remove(&noted).map_err(Error::io("remove", &noted))?;
        durable::sync_folder(disk.as_ref(), &self.dir)
    }

    /// This process's generation: above that of every process before.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The newest checkpoint; `None` before the first.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Newer`] name its file, also where it is missing, and whatever older ones there
    /// are: their output was committed long ago and must not be made again.
    pub fn latest(&self) -> Result<Option<Manifest>, Error> {
        let latest = latest_in(self.disk.as_ref(), &self.dir)?;
        if let Some(other) = latest.as_ref().filter(|manifest| !manifest.id.is_empty() && manifest.id != self.id) {
            let path = self.dir.join(Name::Manifest(other.checkpoint).to_string());
            let reason =
                format!("it is of the checkpoint folder with identity {}, and this one is {}", other.id, self.id);
            return Err(Error::corrupt(&path, reason));
        }
        let newest = latest.as_ref().map_or(0, |manifest| manifest.checkpoint);
        let committed = |name: &Name| if let Name::Committed(checkpoint) = name { Some(*checkpoint) } else { None };
        match list(self.disk.as_ref(), &self.dir)?.iter().filter_map(|(_, name)| committed(name)).max() {
            Some(lost) if lost > newest => {
                Err(Error::corrupt(&self.dir.join(Name::Manifest(lost).to_string()), "it is missing"))
            }
            _ => Ok(latest),
        }
    }

    /// Publishes the newest checkpoint once more, as the next one and this process's: from then on no process before it
    /// can publish any, not even one that looked at the generations before this one came, and not where locks do not
    /// work. Gives the checkpoint to recover from, without the files that were recovered already; `None` before the first.
    /// `new_process` = it is the first time that this process does so.
    ///
    /// # Errors
    /// As [`latest`](Self::latest) and [`publish`](Self::publish); [`Error::Corrupt`] also where a segment is missing or
    /// cut short. Nothing is published then.
    pub fn take_over(&self, new_process: bool) -> Result<Option<Manifest>, Error> {
        loop {
            let Some(mut manifest) = self.latest()? else { return Ok(None) };
            for segment in &manifest.segments {
                look_at(self.disk.as_ref(), &self.segment_path(segment)?, segment.bytes)?;
            }
            self.leave_out_committed(&mut manifest)?;
            if mutation::on(Mutation::TakeOverForgotten) {
                return Ok(Some(manifest));
            }
            manifest.files_of = *manifest.with_these_files().start();
            manifest.checkpoint += 1;
            manifest.generation = self.generation;
            manifest.id.clone_from(&self.id);
            manifest.format = FORMAT;
            if let Some(probation) = &mut manifest.probation {
                // This one took nothing in.
                probation.until += 1;
                probation.recoveries += u32::from(new_process);
            }
            match self.publish(&manifest) {
                Ok(()) => return Ok(Some(manifest)),
                // The process before was faster once more: then that is the newest.
                Err(Error::Fenced { .. }) if newest_generation(self.disk.as_ref(), &self.dir)? == self.generation => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A checkpoint that is kept.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::Newer`] name its file.
    pub fn checkpoint(&self, number: u64) -> Result<Manifest, Error> {
        let path = self.dir.join(Name::Manifest(number).to_string());
        match self.disk.length(&path).map_err(Error::io("look for", &path))? {
            Some(_) => read_manifest(self.disk.as_ref(), &path),
            None => Err(Error::corrupt(&path, "it is missing")),
        }
    }

    /// The digests of all plugins that the checkpoints name that are kept.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Newer`] and [`Error::Io`], naming the manifest.
    pub fn plugins(&self) -> Result<BTreeSet<String>, Error> {
        let mut digests = BTreeSet::new();
        for (file, name) in list(self.disk.as_ref(), &self.dir)? {
            if let Name::Manifest(_) = name {
                let manifest = read_manifest(self.disk.as_ref(), &self.dir.join(file))?;
                digests.extend(manifest.plugins.into_values());
                digests.extend(manifest.beside.into_iter().map(|version| version.digest));
                let swaps = manifest.probation.into_iter().flat_map(|probation| probation.swaps);
                digests.extend(swaps.flat_map(|swap| [swap.from, swap.to]));
            }
        }
        Ok(digests)
    }

    /// Refuses a checkpoint whose state does not fit this pipeline.
    ///
    /// # Errors
    /// [`Error::Foreign`], when the fingerprints differ.
    pub fn check_owner(&self, manifest: &Manifest, pipeline: &str, fingerprint: &str) -> Result<(), Error> {
        let sides = ["in the checkpoint", "in the file"];
        let mut changes = owner::changes(&manifest.fingerprint, fingerprint, sides);
        if changes.is_empty() {
            return Ok(());
        }
        if manifest.pipeline != pipeline {
            let name = format!("pipeline.name: {:?} {}, {pipeline:?} {}", manifest.pipeline, sides[0], sides[1]);
            changes.insert(0, name);
        }
        Err(Error::Foreign { path: self.dir.clone(), changes })
    }

    /// Writes what changed since the last checkpoint; it counts once a manifest names it.
    ///
    /// Of several deltas of one group the last counts.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Bug`] when a delta's states are not one per put.
    pub fn write_segment(&self, checkpoint: u64, deltas: &[StateDelta]) -> Result<SegmentRef, Error> {
        if let Some(delta) = deltas.iter().find(|delta| !has_a_state_per_put(delta)) {
            return Err(Error::Bug(format!("a delta of {:?} has not one state per put", delta.aggregate)));
        }
        let number = self.next_segment.fetch_add(1, Ordering::Relaxed);
        let file = Name::Segment { checkpoint, generation: self.generation, number }.to_string();
        let mut written = None;
        let created = durable::create(self.disk.as_ref(), &self.dir, &file, self.generation, |out| {
            written = Some(segment::encode(deltas, out)?);
            Ok(())
        })?;
        if created == Created::AlreadyThere {
            let reason = format!("generation {} was given twice", self.generation);
            return Err(Error::Fenced { path: self.dir.join(file), reason });
        }
        let written = written.expect("a file that was created was written");
        let entries = deltas.iter().map(StateDelta::entries).sum();
        Ok(SegmentRef { file, bytes: written.bytes, checksum: written.checksum, entries })
    }

    /// Refuses to go on where a process with a later generation is here.
    ///
    /// # Errors
    /// [`Error::Fenced`].
    pub fn check_newest(&self) -> Result<(), Error> {
        let newest = newest_generation(self.disk.as_ref(), &self.dir)?;
        if newest > self.generation {
            let path = self.dir.join(Name::Generation(newest).to_string());
            let reason = format!("generation {newest} is newer than {}", self.generation);
            return Err(Error::Fenced { path, reason });
        }
        Ok(())
    }

    /// Makes the checkpoint exist.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the checkpoint exists or a newer generation is there: nothing was published.
    /// [`Error::Bug`] when the manifest is of another format or generation. After [`Error::Io`] it may or may not
    /// exist: call again with the same manifest, or stop and recover.
    pub fn publish(&self, manifest: &Manifest) -> Result<(), Error> {
        if manifest.format != FORMAT || manifest.generation != self.generation {
            let (format, generation) = (manifest.format, manifest.generation);
            return Err(Error::Bug(format!("manifest of format {format} and generation {generation}")));
        }
        self.check_newest()?;
        // The segments' names must be durable before a name that needs them.
        durable::sync_folder(self.disk.as_ref(), &self.dir)?;
        let bytes = manifest.encode()?;
        let name = Name::Manifest(manifest.checkpoint).to_string();
        let created =
            durable::create(self.disk.as_ref(), &self.dir, &name, self.generation, |out| out.write_all(&bytes))?;
        if created == Created::AlreadyThere {
            let path = self.dir.join(name);
            // Ours from a call whose last fsync failed: then there is only that left to do.
            if self.disk.read(&path).map_err(Error::io("read", &path))? != bytes {
                return Err(Error::Fenced { path, reason: format!("checkpoint {} exists", manifest.checkpoint) });
            }
        }
        failpoint::reach("manifest-named");
        durable::sync_folder(self.disk.as_ref(), &self.dir)
    }

    /// Notes that the output files of a checkpoint have their final names: from now on they are the readers', who may
    /// move or delete them.
    ///
    /// # Errors
    /// [`Error::Io`]. Without the note, the next start looks for the files once more.
    pub fn note_committed(&self, checkpoint: u64) -> Result<(), Error> {
        self.note(&Name::Committed(checkpoint))
    }

    /// Notes that recovery from a checkpoint gave final names to the files that were open then as well: all of its
    /// files are the readers' from now on.
    ///
    /// # Errors
    /// [`Error::Io`]. Without the note, the next start looks for the files once more.
    pub fn note_recovered(&self, checkpoint: u64) -> Result<(), Error> {
        self.note(&Name::Recovered(checkpoint))
    }

    /// Durable, for a power loss that took the note and brought a staged name back would commit again what a reader
    /// moved away.
    fn note(&self, name: &Name) -> Result<(), Error> {
        let name = name.to_string();
        durable::create(self.disk.as_ref(), &self.dir, &name, self.generation, |_| Ok(()))?;
        durable::sync_folder(self.disk.as_ref(), &self.dir)
    }

    /// Leaves the files out of a checkpoint's lists that have their final names, as was noted with this checkpoint or with
    /// one that it took over: they are the readers' since, who may have moved them. Whether there were any.
    ///
    /// Where locks do not work, a process that was overtaken may note that any time after it was.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn leave_out_committed(&self, manifest: &mut Manifest) -> Result<bool, Error> {
        let mut checkpoints = manifest.with_these_files();
        if mutation::on(Mutation::NotesOfOthersIgnored) {
            checkpoints = manifest.checkpoint..=manifest.checkpoint;
        }
        let (mut finished, mut open) = (false, false);
        for (_, name) in list(self.disk.as_ref(), &self.dir)? {
            match name {
                Name::Committed(checkpoint) => finished |= checkpoints.contains(&checkpoint),
                Name::Recovered(checkpoint) => open |= checkpoints.contains(&checkpoint),
                _ => {}
            }
        }
        let mut left_out = false;
        let lists = [(finished || open, &mut manifest.files), (open, &mut manifest.open_files)];
        for (_, files) in lists.into_iter().filter(|(noted, _)| *noted) {
            left_out |= files.as_array().is_some_and(|files| !files.is_empty());
            *files = serde_json::Value::Array(Vec::new());
        }
        Ok(left_out)
    }

    /// The state that segments hold, oldest first: the newest entry of each group, sorted by aggregate, state version,
    /// window start and key. One delta per aggregate and state version, or more where the states exceed 256 MiB.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Newer`], [`Error::Io`], naming the file.
    pub fn load(&self, segments: &[SegmentRef]) -> Result<Vec<StateDelta>, Error> {
        self.read(segments, Deletes::Drop)
    }

    /// Writes the segments `range` of a checkpoint's (oldest first) as one new segment, for the checkpoint `checkpoint`.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`write_segment`](Self::write_segment).
    pub fn merge(&self, checkpoint: u64, segments: &[SegmentRef], range: Range<usize>) -> Result<SegmentRef, Error> {
        let deletes = if range.start == 0 { Deletes::Drop } else { Deletes::Keep };
        let merged = self.read(&segments[range], deletes)?;
        self.write_segment(checkpoint, &merged)
    }

    /// Merges the segments of the checkpoint in the making as [`plan_merge`] says; `live_entries` is how many groups
    /// are open. Says whether it did. After an error `segments` is as it was and may be published so.
    ///
    /// # Errors
    /// As [`merge`](Self::merge).
    pub fn compact(&self, checkpoint: u64, segments: &mut Vec<SegmentRef>, live_entries: u64) -> Result<bool, Error> {
        let Some(range) = plan_merge(segments, live_entries) else { return Ok(false) };
        let merged = self.merge(checkpoint, segments, range.clone())?;
        failpoint::reach("segments-merged");
        segments.splice(range, [merged]);
        Ok(true)
    }

    /// Removes all but the newest `keep_manifests` (at least one) manifests, the ones before the swaps that these have on
    /// probation, and the segments that all these name, as well as what dead processes left. A checkpoint in the making is
    /// not touched. Says how many files went.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] and [`Error::Newer`] when a kept manifest cannot be read: nothing is removed.
    pub fn prune(&self, keep_manifests: usize) -> Result<usize, Error> {
        let mut files = list(self.disk.as_ref(), &self.dir)?;
        let mut checkpoints: Vec<u64> = files.iter().filter_map(|(_, name)| name.checkpoint()).collect();
        checkpoints.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&newest) = checkpoints.first() else { return Ok(0) };
        let mut kept: Vec<u64> = checkpoints.iter().copied().take(keep_manifests.max(1)).collect();
        let (mut needed, mut noted) = (Vec::new(), Vec::new());
        let mut read = 0;
        while let Some(checkpoint) = kept.get(read) {
            let manifest = read_manifest(self.disk.as_ref(), &self.dir.join(Name::Manifest(*checkpoint).to_string()))?;
            noted.push(manifest.with_these_files());
            needed.extend(manifest.segments.into_iter().map(|segment| segment.file));
            // By the manifest's word: a process that was overtaken knows nothing of the swaps of the next.
            let boundary = manifest.probation.map(|probation| probation.boundary);
            let boundary = boundary.filter(|boundary| checkpoints.contains(boundary) && !kept.contains(boundary));
            kept.extend(boundary.filter(|_| !mutation::on(Mutation::BoundaryPruned)));
            read += 1;
        }
        if mutation::on(Mutation::NewestPruned) {
            needed.clear();
        }
        let is_garbage = |file: &str, name: &Name| match *name {
            Name::Manifest(checkpoint) => !kept.contains(&checkpoint),
            Name::Committed(checkpoint) | Name::Recovered(checkpoint) => {
                !noted.iter().any(|checkpoints| checkpoints.contains(&checkpoint))
            }
            // One of a later checkpoint may be about to be published. One of an earlier checkpoint that no manifest
            // names never will be: a checkpoint names segments of its predecessor and its own.
            Name::Segment { checkpoint, .. } => checkpoint <= newest && !needed.iter().any(|needed| needed == file),
            Name::Generation(generation) | Name::Temporary(generation) => generation < self.generation,
        };
        files.retain(|(file, name)| is_garbage(file, name));
        // Manifests first, so that a crash leaves none without its segments.
        files.sort_unstable_by_key(|(_, name)| !matches!(name, Name::Manifest(_)));
        for (file, _) in &files {
            failpoint::reach("checkpoint-file-to-remove");
            let path = self.dir.join(file);
            match self.disk.remove(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
                _ => {}
            }
        }
        Ok(files.len())
    }

    fn read(&self, segments: &[SegmentRef], deletes: Deletes) -> Result<Vec<StateDelta>, Error> {
        let mut files = Vec::with_capacity(segments.len());
        for segment in segments {
            let path = self.segment_path(segment)?;
            let bytes = read_whole(self.disk.as_ref(), &path, segment.bytes)?;
            files.push((path, bytes));
        }
        let mut blocks = Vec::new();
        for (segment, (path, bytes)) in segments.iter().zip(&files) {
            blocks.extend(segment::decode(path, bytes, &segment.checksum)?);
        }
        Ok(merge::fold(&blocks, deletes))
    }

    /// Where a segment is. A manifest's word is checked: its name must be one that this store gives.
    fn segment_path(&self, segment: &SegmentRef) -> Result<PathBuf, Error> {
        match Name::parse(&segment.file) {
            Some(Name::Segment { .. }) => Ok(self.dir.join(&segment.file)),
            _ => Err(Error::corrupt(&self.dir, format!("a manifest names the segment {:?}", segment.file))),
        }
    }
}

/// Whether there is exactly one state per put.
fn has_a_state_per_put(delta: &StateDelta) -> bool {
    delta.puts.len() == delta.states.len() && delta.states.null_count() == 0
}

/// The newest checkpoint in a folder, looked at without the lock: for commands that only show it.
///
/// # Errors
/// As [`LocalStore::latest`].
pub fn latest_in(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, Error> {
    let Some(newest) = list(disk, dir)?.iter().filter_map(|(_, name)| name.checkpoint()).max() else { return Ok(None) };
    let path = dir.join(Name::Manifest(newest).to_string());
    let manifest = read_manifest(disk, &path)?;
    if manifest.checkpoint == newest {
        Ok(Some(manifest))
    } else {
        Err(Error::corrupt(&path, format!("it is of checkpoint {}", manifest.checkpoint)))
    }
}

fn read_manifest(disk: &dyn Disk, path: &Path) -> Result<Manifest, Error> {
    let bytes = disk.read(path).map_err(Error::io("read", path))?;
    Manifest::decode(path, &bytes)
}

/// Refuses a file that is missing or not of this size.
fn look_at(disk: &dyn Disk, path: &Path, bytes: u64) -> Result<(), Error> {
    match disk.length(path).map_err(Error::io("look at", path))? {
        None => Err(Error::corrupt(path, "it is missing")),
        Some(length) if length != bytes => Err(Error::corrupt(path, format!("it has {length} bytes, not {bytes}"))),
        Some(_) => Ok(()),
    }
}

/// Reads a file that must have a certain size.
fn read_whole(disk: &dyn Disk, path: &Path, bytes: u64) -> Result<Vec<u8>, Error> {
    look_at(disk, path, bytes)?;
    disk.read(path).map_err(Error::io("read", path))
}

/// The highest generation that a folder knows of; 0 for none.
fn newest_generation(disk: &dyn Disk, dir: &Path) -> Result<u64, Error> {
    let generation = |name: &Name| if let Name::Generation(generation) = name { Some(*generation) } else { None };
    Ok(list(disk, dir)?.iter().filter_map(|(_, name)| generation(name)).max().unwrap_or(0))
}

/// The store's files in a folder; others are none of its business.
fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<(String, Name)>, Error> {
    let mut files = Vec::new();
    let entries = match disk.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(files),
        entries => entries.map_err(Error::io("list", dir))?,
    };
    for entry in entries {
        let Ok(file) = entry.name.into_string() else { continue };
        if let Some(name) = Name::parse(&file) {
            files.push((file, name));
        }
    }
    Ok(files)
}

/// The names of the store's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Generation(u64),
    Manifest(u64),
    /// The output files of that checkpoint have their final names.
    Committed(u64),
    /// Those that were open then have theirs too.
    Recovered(u64),
    Segment {
        checkpoint: u64,
        generation: u64,
        number: u64,
    },
    /// Being written, by that generation.
    Temporary(u64),
}

impl Name {
    /// `None` for any other file, and for another spelling of a name.
    fn parse(file: &str) -> Option<Self> {
        if let Some(generation) = durable::temporary_of(file) {
            return Some(Self::Temporary(generation));
        }
        let name = if let Some(generation) = file.strip_prefix("generation-") {
            Self::Generation(generation.parse().ok()?)
        } else if let Some(checkpoint) = file.strip_prefix("committed-") {
            Self::Committed(checkpoint.parse().ok()?)
        } else if let Some(checkpoint) = file.strip_prefix("recovered-") {
            Self::Recovered(checkpoint.parse().ok()?)
        } else if let Some(rest) = file.strip_prefix("manifest-") {
            Self::Manifest(rest.strip_suffix(".json")?.parse().ok()?)
        } else {
            let mut numbers = file.strip_prefix("segment-")?.strip_suffix(".bin")?.splitn(3, '-').map(str::parse);
            let mut next = || numbers.next()?.ok();
            Self::Segment { checkpoint: next()?, generation: next()?, number: next()? }
        };
        (name.to_string() == file).then_some(name)
    }

    fn checkpoint(&self) -> Option<u64> {
        if let Self::Manifest(checkpoint) = self { Some(*checkpoint) } else { None }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Generation(generation) => write!(f, "generation-{generation}"),
            Self::Manifest(checkpoint) => write!(f, "manifest-{checkpoint:020}.json"),
            Self::Committed(checkpoint) => write!(f, "committed-{checkpoint}"),
            Self::Recovered(checkpoint) => write!(f, "recovered-{checkpoint}"),
            Self::Segment { checkpoint, generation, number } => {
                write!(f, "segment-{checkpoint}-{generation}-{number}.bin")
            }
            Self::Temporary(generation) => write!(f, "temporary of {generation}"),
        }
    }
}

#[cfg(test)]
mod tests;
