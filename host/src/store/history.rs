//! The history: what was done to the plugins, by whom and between which records, one JSON object a line.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::disk::Disk;
use wasmill_pipeline::checkpoint::Boundary;

/// Its file in the checkpoint folder.
const FILE: &str = "history.jsonl";
/// What it is rewritten as; the store takes that for a leftover.
const TEMPORARY: &str = ".temporary-0-history.jsonl";

/// Something that was done, or was to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is known by: recovery appends again what may be there already.
    pub id: String,
    /// When, µs since the Unix epoch.
    pub time_us: i64,
    /// Who: `token:<name>`, `user:<name>`, `file` for a changed file, `host` for the program itself.
    pub who: String,
    /// What.
    pub action: Action,
    /// To which plugin, by its name in the pipeline file.
    pub plugin: String,
    /// The digest of the version in force before.
    pub from: String,
    /// The digest of the version that was put in, or was to be.
    pub to: String,
    /// What became of the state: `migrate`, `pin` or `fresh`.
    pub policy: Option<String>,
    /// Between which records.
    pub boundary: Option<Boundary>,
    /// What came of it.
    pub outcome: Outcome,
    /// More, for a person.
    pub detail: String,
}

impl Entry {
    /// The name of an action that can happen once at a checkpoint: for [`Entry::id`].
    pub fn id_of(action: Action, outcome: Outcome, plugin: &str, checkpoint: u64, to: &str) -> String {
        format!("{action} {plugin} to {to} at {checkpoint}: {outcome}")
    }
}

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A plugin is replaced.
    Swap,
    /// A swap is taken back.
    Rollback,
    /// A next version runs beside the one in force.
    Shadow,
    /// A shadow becomes the version in force.
    Promote,
    /// A shadow ends.
    Discard,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Swap => "swap",
            Self::Rollback => "rollback",
            Self::Shadow => "shadow",
            Self::Promote => "promote",
            Self::Discard => "discard",
        })
    }
}

/// What can come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The version is in force, for good.
    InForce,
    /// The version is in force, and is taken back at the first fault.
    OnProbation,
    /// The probation is over: the version is in force for good.
    Confirmed,
    /// The version before is in force again, as if there had been no other.
    RolledBack,
    /// The shadow runs.
    Shadowing,
    /// The shadow is over.
    Discarded,
    /// Nothing changed: it was not acceptable.
    Refused,
    /// Nothing changed: it failed when it was put in.
    Failed,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::InForce => "in force",
            Self::OnProbation => "on probation",
            Self::Confirmed => "confirmed",
            Self::RolledBack => "rolled back",
            Self::Shadowing => "shadowing",
            Self::Discarded => "discarded",
            Self::Refused => "refused",
            Self::Failed => "failed",
        })
    }
}

/// The history in a checkpoint folder. Lines are only ever added, by the owner of the checkpoint; anybody may read.
#[derive(Clone, Debug)]
pub struct History {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
}

impl History {
    /// The history in this checkpoint folder, whether or not there is one yet.
    pub fn open(disk: Arc<dyn Disk>, checkpoint_dir: &Path) -> Self {
        Self { disk, dir: checkpoint_dir.to_owned(), path: checkpoint_dir.join(FILE) }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an entry, so that it survives a power loss.
    ///
    /// A line that a crash cut short is removed first, and told in the log.
    ///
    /// # Errors
    /// [`Error::Io`]: the entry may be there or not.
    pub fn append(&self, entry: &Entry) -> Result<(), Error> {
        let bytes = self.bytes()?;
        self.append_to(&bytes, entry)
    }

    /// Adds an entry unless one of its id is there; says whether it was added.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_once(&self, entry: &Entry) -> Result<bool, Error> {
        /// All that is asked of a line: a later release may write more, and other words.
        #[derive(Deserialize)]
        struct Known {
            id: String,
        }
        let bytes = self.bytes()?;
        let id = |line| serde_json::from_slice::<Known>(line).ok().map(|known| known.id);
        if lines(&bytes).filter_map(id).any(|id| id == entry.id) {
            // Whoever wrote it may not have come to its sync.
            self.disk.sync(&self.path).map_err(Error::io("fsync", &self.path))?;
            self.disk.sync(&self.dir).map_err(Error::io("fsync", &self.dir))?;
            return Ok(false);
        }
        self.append_to(&bytes, entry)?;
        Ok(true)
    }

    /// All entries, oldest first. A line that a crash cut short, or that is being written, is passed over.
    ///
    /// # Errors
    /// [`Error::Corrupt`] names the line that cannot be read; [`Error::Io`].
    pub fn read(&self) -> Result<Vec<Entry>, Error> {
        let bytes = self.bytes()?;
        let read = |(line, number): (&[u8], usize)| {
            let wrong = |error| Error::corrupt(&self.path, format!("line {number} is no entry: {error}"));
            serde_json::from_slice(line).map_err(wrong)
        };
        lines(&bytes).zip(1..).map(read).collect()
    }

    /// What is in the file: nothing where there is none.
    fn bytes(&self) -> Result<Vec<u8>, Error> {
        match self.disk.read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            bytes => bytes.map_err(Error::io("read", &self.path)),
        }
    }

    fn append_to(&self, bytes: &[u8], entry: &Entry) -> Result<(), Error> {
        let whole = whole_length(bytes);
        if whole < bytes.len() {
            self.cut_off(bytes, whole)?;
        }
        let mut line = serde_json::to_vec(entry).map_err(|error| Error::Bug(format!("history: {error}")))?;
        line.push(b'\n');
        let appended = self.disk.append(&self.path).and_then(|mut file| {
            file.write_all(&line)?;
            file.sync()
        });
        appended.map_err(Error::io("append to", &self.path))?;
        self.disk.sync(&self.dir).map_err(Error::io("fsync", &self.dir))
    }

    /// Leaves the first bytes and nothing else.
    fn cut_off(&self, bytes: &[u8], whole: usize) -> Result<(), Error> {
        let (kept, torn) = bytes.split_at(whole);
        tracing::warn!(
            path = %self.path.display(),
            torn_bytes = torn.len(),
            "the last line of the history was cut short by a crash, and is removed"
        );
        let temporary = self.dir.join(TEMPORARY);
        let written = self.disk.create(&temporary).and_then(|mut file| {
            file.write_all(kept)?;
            file.sync()
        });
        written.map_err(Error::io("write", &temporary))?;
        self.disk.rename(&temporary, &self.path).map_err(Error::io("rename", &self.path))
    }
}

/// The lines that were written to their ends.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes[..whole_length(bytes)].split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

/// How many bytes whole lines have.
fn whole_length(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::fs;

    fn entry(id: &str) -> Entry {
        Entry {
            id: id.into(),
            time_us: 1_700_000_000_000_000,
            who: "user:ana".into(),
            action: Action::Swap,
            plugin: "pages".into(),
            from: "aa".into(),
            to: "bb".into(),
            policy: Some("migrate".into()),
            boundary: Some(Boundary { checkpoint: 7, ..Boundary::default() }),
            outcome: Outcome::OnProbation,
            detail: "a line\nand \"another\"".into(),
        }
    }

    fn history(dir: &Path) -> History {
        History::open(Arc::new(RealDisk), dir)
    }

    fn ids(history: &History) -> Vec<String> {
        history.read().unwrap().into_iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn entries_read_back_in_their_order_and_lines_stay_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let history = history(dir.path());
        assert_eq!(history.read().unwrap(), []);
        history.append(&entry("1")).unwrap();
        let first = fs::read(history.path()).unwrap();
        history.append(&entry("2")).unwrap();
        assert_eq!(history.read().unwrap(), [entry("1"), entry("2")]);
        assert!(fs::read(history.path()).unwrap().starts_with(&first));
    }

    #[test]
    fn an_entry_that_is_there_is_not_added_again() {
        let dir = tempfile::tempdir().unwrap();
        let history = history(dir.path());
        assert!(history.append_once(&entry("1")).unwrap());
        assert!(!history.append_once(&Entry { time_us: 5, ..entry("1") }).unwrap());
        assert!(history.append_once(&entry("2")).unwrap());
        assert_eq!(ids(&history), ["1", "2"]);
    }

    #[test]
    fn a_torn_line_is_passed_over_and_cut_off_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let history = history(dir.path());
        history.append(&entry("1")).unwrap();
        let one = fs::read(history.path()).unwrap();
        history.append(&entry("2")).unwrap();
        let two = fs::read(history.path()).unwrap();
        for length in one.len()..two.len() {
            fs::write(history.path(), &two[..length]).unwrap();
            assert_eq!(ids(&history), ["1"], "{length}");
            assert!(history.append_once(&entry("2")).unwrap(), "{length}");
            assert_eq!(fs::read(history.path()).unwrap(), two, "{length}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_line_is_named_and_does_not_keep_others_from_being_added() {
        let dir = tempfile::tempdir().unwrap();
        let history = history(dir.path());
        history.append(&entry("1")).unwrap();
        let mut bytes = fs::read(history.path()).unwrap();
        bytes.extend(b"{\"id\":\"2\",\"action\":\"of a later release\"}\n");
        fs::write(history.path(), bytes).unwrap();
        let error = history.read().unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("history.jsonl"), "{error}");
        assert!(!history.append_once(&entry("2")).unwrap(), "its id is known all the same");
        assert!(history.append_once(&entry("3")).unwrap());
    }

    #[test]
    fn words_are_those_of_the_api() {
        let json = serde_json::to_string(&entry("1")).unwrap();
        assert!(json.contains(r#""action":"swap""#) && json.contains(r#""outcome":"on_probation""#), "{json}");
        assert_eq!(
            Entry::id_of(Action::Promote, Outcome::Confirmed, "pages", 7, "bb"),
            "promote pages to bb at 7: confirmed"
        );
    }
}
