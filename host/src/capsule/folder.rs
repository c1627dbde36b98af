//! Where capsules are kept: how many, how large, how often; and that none of it can hold the pipeline up.

use super::format::{Capsule, Input, LeftOut, Limits, Origin, Plugin, Secret, Told};
use super::{Call, format};
use crate::clock;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use wasmill_pipeline::fault::{FaultReport, FaultyCall};

/// Of one plugin's faults in a minute, so many are kept: enough to see what they have in common, and a topic full of
/// poison does not make the pipeline wait for the disk.
const PER_MINUTE: u32 = 30;

/// What files of capsules end with.
const SUFFIX: &str = ".capsule";

/// What they end with until they are whole.
const STAGED_SUFFIX: &str = ".capsule.tmp";

/// Who may read a capsule: the user alone, as it holds records and the plugin's configuration.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// How capsules are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether they are.
    pub enabled: bool,
    /// Their folder; made with the first one.
    pub folder: PathBuf,
    /// The largest file. The call of a larger one is left out.
    pub capsule_bytes: u64,
    /// All files together; the oldest make room for the newest.
    pub capsules_bytes: u64,
    /// Whether nothing that came from records or configuration is kept.
    pub redact: bool,
}

/// A plugin of the pipeline, as its capsules have it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The plugin.
    pub plugin: Plugin,
    /// The names of an aggregate's inputs.
    pub inputs: Vec<String>,
    /// The names of what an aggregate is told of a window.
    pub context: Vec<String>,
}

/// Keeps the faults of a pipeline, for all of its workers.
pub struct Capsules {
    settings: Settings,
    pipeline: String,
    topic: String,
    limits: Limits,
    /// The parser, then the aggregates.
    guests: Vec<Guest>,
    /// Per guest. Held while a file is written, so that one is written at a time.
    kept: Mutex<Vec<Minute>>,
    outcomes: Arc<Outcomes>,
}

/// What became of faults so far, by how many.
#[derive(Default)]
struct Outcomes {
    kept: AtomicU64,
    left_out: AtomicU64,
    failed: AtomicU64,
}

/// What was kept in the minute that began then.
#[derive(Clone, Copy)]
struct Minute {
    began: Instant,
    kept: u32,
}

impl Capsules {
    /// Nothing is written yet. `guests` are the parser and then the aggregates, in their order.
    pub fn new(settings: Settings, pipeline: &str, topic: &str, limits: Limits, guests: Vec<Guest>) -> Self {
        let minute = Minute { began: Instant::now(), kept: 0 };
        let kept = Mutex::new(vec![minute; guests.len()]);
        let (pipeline, topic) = (pipeline.to_owned(), topic.to_owned());
        Self { settings, pipeline, topic, limits, guests, kept, outcomes: Arc::default() }
    }

    /// Goes on with other plugins, and the same counts.
    #[must_use]
    pub fn with(&self, guests: Vec<Guest>) -> Self {
        let new = Self::new(self.settings.clone(), &self.pipeline, &self.topic, self.limits, guests);
        Self { outcomes: self.outcomes.clone(), ..new }
    }

    /// How many faults have a capsule, have none as there were too many or none are wanted, and have none as it could
    /// not be written.
    pub fn outcomes(&self) -> [(&'static str, u64); 3] {
        let Outcomes { kept, left_out, failed } = self.outcomes.as_ref();
        [("kept", kept), ("left_out", left_out), ("failed", failed)].map(|(name, n)| (name, n.load(Ordering::Relaxed)))
    }

    /// Keeps a fault, as far as the settings allow it. What goes wrong with that is told, and harms nothing else.
    pub fn keep(&self, report: &FaultReport) {
        let (partition, offset) = report.origin;
        let fault = &report.fault;
        let plugin = &*fault.plugin;
        let index = report.aggregate.map_or(0, |aggregate| aggregate + 1);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(guest), Some(minute)) = (self.guests.get(index), kept.get_mut(index)) else { return };
        let digest = &*guest.plugin.digest;
        let outcome = if !minute.take() {
            &self.outcomes.left_out
        } else if !self.settings.enabled {
            tracing::warn!(plugin, digest, partition, offset, "a record makes a plugin fail: {fault}");
            &self.outcomes.left_out
        } else {
            match self.write(guest, report) {
                Ok(path) => {
                    let replay = format!("wasmill replay {}", path.display());
                    tracing::warn!(
                        plugin,
                        digest,
                        partition,
                        offset,
                        "a record makes a plugin fail: {fault}; to see it again: {replay}"
                    );
                    &self.outcomes.kept
                }
                Err(error) => {
                    tracing::warn!(plugin, digest, partition, offset, %error, "a record makes a plugin fail: {fault}; its capsule cannot be written");
                    &self.outcomes.failed
                }
            }
        };
        outcome.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes the capsule and gives its file. The same fault has the same name, so that it is there once.
    fn write(&self, guest: &Guest, report: &FaultReport) -> io::Result<PathBuf> {
        let capsule = self.capsule(guest, report)?;
        let file = self.encode(capsule)?;
        let folder = &self.settings.folder;
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        let name = name(guest, report);
        make_room(folder, &name, self.settings.capsules_bytes.saturating_sub(file.len() as u64))?;
        let staged = folder.join(format!(".{}{STAGED_SUFFIX}", name.strip_suffix(SUFFIX).unwrap_or(&name)));
        let path = folder.join(name);
        let written = create(&staged, &file).and_then(|()| fs::rename(&staged, &path));
        if written.is_err() {
            // The first failure is the one to report.
            let _ = fs::remove_file(&staged);
        }
        written?;
        File::open(folder)?.sync_all()?;
        Ok(path)
    }

    fn capsule(&self, guest: &Guest, report: &FaultReport) -> io::Result<Capsule> {
        let (partition, offset) = report.origin;
        let names = if let FaultyCall::Finish { .. } = report.call { &guest.context } else { &guest.inputs };
        let call = Call::new(&report.call, names).map_err(io::Error::other)?;
        Ok(Capsule {
            wasmill: env!("CARGO_PKG_VERSION").to_owned(),
            written_us: clock::now_us(),
            pipeline: self.pipeline.clone(),
            plugin: guest.plugin.clone(),
            origin: Origin { topic: self.topic.clone(), partition, offset },
            fault: Told {
                kind: report.fault.kind,
                message: Secret::Open(report.fault.message.clone()),
                backtrace: report.fault.backtrace.clone(),
            },
            limits: self.limits,
            input: Input::Whole(call),
        })
    }

    /// The file, without the call where it would be too large or is not to be kept.
    fn encode(&self, mut capsule: Capsule) -> io::Result<Vec<u8>> {
        if self.settings.redact {
            capsule.redact();
        }
        let most = self.settings.capsule_bytes.min(self.settings.capsules_bytes).min(format::MAX_FILE_BYTES);
        let mut file = capsule.encode();
        if file.len() as u64 > most {
            capsule.leave_out(LeftOut::TooLarge);
            file = capsule.encode();
        }
        if file.len() as u64 > most {
            let message =
                format!("it is larger than it may be even without its input bytes={} most={most}", file.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        Ok(file)
    }
}

impl Minute {
    /// Whether another fault may be kept now.
    fn take(&mut self) -> bool {
        if self.began.elapsed() >= Duration::from_mins(1) {
            *self = Self { began: Instant::now(), kept: 0 };
        }
        if self.kept == PER_MINUTE {
            return false;
        }
        self.kept += 1;
        if self.kept == PER_MINUTE {
            tracing::warn!(
                "{PER_MINUTE} faults of one plugin within a minute: until it is over, more are only counted"
            );
        }
        true
    }
}

/// What tells one fault from another, and stays the same when a crash makes it happen again.
fn name(guest: &Guest, report: &FaultReport) -> String {
    let (partition, offset) = report.origin;
    let call = match report.call {
        FaultyCall::Parse { .. } => "parse",
        FaultyCall::Update { .. } => "update",
        FaultyCall::Finish { .. } => "finish",
    };
    let Plugin { name, digest, .. } = &guest.plugin;
    let digest: String = digest.chars().take(12).collect();
    format!("{name}-{digest}-{call}-{partition}-{offset}{SUFFIX}")
}

/// Removes the oldest files until the others, but for the one of this name, have at most `most_bytes`.
fn make_room(folder: &Path, name: &str, most_bytes: u64) -> io::Result<()> {
    let mut files = Vec::new();
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name();
        let file = file.to_string_lossy();
        if file == name || !(file.ends_with(SUFFIX) || file.ends_with(STAGED_SUFFIX)) {
            continue;
        }
        let known = entry.metadata()?;
        bytes += known.len();
        files.push((known.modified()?, entry.path(), known.len()));
    }
    files.sort();
    for (_, path, len) in files {
        if bytes <= most_bytes {
            break;
        }
        fs::remove_file(path)?;
        bytes -= len;
    }
    Ok(())
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
