//! The sink door: the only room that knows Parquet and CSV, and how a file becomes part of the output exactly once.
//!
//! ```text
//! Writers::write ─▶ _staging/….tmp ── cut ─▶ SinkCut ── sync ─▶ manifest published ── commit ─▶ final name
//!                                               │                      │
//!                                               └─ open files go on    └─ crash: recover commits what the cut holds
//! ```
//! Files roll by rows, bytes and age, never because of a checkpoint: a file may span many. Each checkpoint lists the
//! files finished since the last one, and for every file still open how many of its bytes count and what makes those
//! bytes a whole file: a footer, and the rows that wait in a log beside it for the end of their row group. Recovery makes
//! that file, so no row is lost; rows after the checkpoint are not in it and are read again, so no row is there twice.
//!
//! Every file has an [`Origin`]: what made its rows. Parquet files carry it themselves, and before a file gets its final
//! name, the ledger below the output root has a line of it.

mod commit;
mod csv_file;
mod dead_letters;
#[cfg(feature = "testing")]
pub mod decoders;
mod dictionary_column;
mod error;
mod ledger;
mod origin;
mod parquet_file;
mod partition;
mod row_log;
mod staged;
mod works;
mod writers;

#[cfg(test)]
mod tests;

pub use commit::{commit, complete, hold, make_root, recover, sweep, sync};
pub use dead_letters::{dead_letter_batch, dead_letter_schema};
pub use error::{Error, Result};
pub use ledger::{Committed, LEDGER, clean_ledger, find_committed, note_files, plugins_of_files};
pub use origin::Origin;
pub use parquet_file::origin_of;
pub use staged::{Format, OpenFile, SinkCut, StagedFile, Waiting};
pub use works::{REPLACED, Work, move_aside, names_of, newest_staged, works};
pub use writers::Writers;

use arrow_schema::SchemaRef;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use wasmill_pipeline::window::Zone;

/// One output: rows of one schema, in a folder of their own.
#[derive(Clone, Debug)]
pub struct OutputSpec {
    /// Its name: `page_metrics`, `events_raw`, `_late/page_metrics`, `_dead_letters`.
    pub name: String,
    /// Where its files go, inside the output root: in `parquet/` and `csv/` below it, or, when the name begins with
    /// `_`, straight in it.
    pub folder: PathBuf,
    /// Its columns: booleans, 32 and 64 bit integers, floats, times in µs, text, bytes, and dictionaries of the last two.
    pub schema: SchemaRef,
    /// What it is written in; each at most once, at least one.
    pub formats: Vec<Format>,
    /// What makes folders `dt=YYYY-MM-DD`.
    pub partition_by: Option<ByDate>,
    /// When a file is finished and the next begun.
    pub roll: Roll,
    /// The digests of the plugins that make its rows, by their names in the pipeline file.
    pub plugins: BTreeMap<String, String>,
}

/// What makes folders `dt=YYYY-MM-DD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByDate {
    /// The time column.
    pub column: String,
    /// The zone whose date it is.
    pub zone: Zone,
}

/// When a file is finished and the next begun; whichever is reached first.
///
/// Besides, a Parquet file of 64 row groups is finished at the next checkpoint, and an output keeps at most 32 dates open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roll {
    /// No file has more rows than this; above 0.
    pub max_rows: u64,
    /// A file is finished after the batch with which it reaches this length; above 0.
    pub max_bytes: u64,
    /// A file is finished at the first checkpoint at which it is this old.
    pub max_age: Duration,
}

/// What makes the names of one worker's files unlike all others: `part-<run>-<generation>-w<worker>-<seq>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNaming {
    /// The run: 1 to 64 letters, digits, `.`, `_` or `-`.
    pub run: String,
    /// The checkpoint's generation.
    pub generation: u64,
    /// The worker's number.
    pub worker: usize,
}

impl FileNaming {
    fn check(&self) -> Result<()> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=64).contains(&self.run.len()) && self.run.bytes().all(plain) {
            return Ok(());
        }
        let problem = format!("run `{}` is not 1 to 64 letters, digits, dots, underscores or dashes", self.run);
        Err(Error::Config { output: "*".to_owned(), problem })
    }

    fn file_stem(&self, seq: u64) -> String {
        format!("part-{}-{}-w{}-{seq}", self.run, self.generation, self.worker)
    }
}

/// What the names of files of a pipeline or an isolated run begin with: its name, as far as there is room, and the identity
/// of its checkpoint folder.
pub fn run_of(name: &str, id: &str) -> String {
    let name: String = name.chars().take(NAME_CHARS).collect();
    format!("{name}-{id}")
}

/// How much of a pipeline's name is in the names of its files: with an identity and what else there is, a name is short
/// enough for every file system.
const NAME_CHARS: usize = 40;

/// Run and generation in `part-<run>-<generation>-w<worker>-<seq>`; a run may itself contain dashes.
fn run_of_stem(stem: &str) -> Option<(&str, u64)> {
    let mut parts = stem.strip_prefix("part-")?.rsplitn(4, '-');
    parts.next()?.parse::<u64>().ok()?;
    parts.next()?.strip_prefix('w')?.parse::<u64>().ok()?;
    let generation = parts.next()?.parse().ok()?;
    Some((parts.next()?, generation))
}

/// Run and generation in the name of a file, committed or staged.
fn run_of_file(name: &str) -> Option<(&str, u64)> {
    [".parquet", ".csv"].into_iter().find_map(|format| run_of_stem(name.rsplit_once(format)?.0))
}

/// The name and the identity that a run's name is made of.
fn parts_of_run(run: &str) -> Option<(&str, &str)> {
    run.rsplit_once('-')
}
