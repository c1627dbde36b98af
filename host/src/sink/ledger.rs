//! The ledger: a line for every committed file, below the output root, where a file's path alone leads to it.
//!
//! ```text
//! _files/<UTC date of the checkpoint>/<run>-<checkpoint>[-<n>].jsonl
//! ```
//! One file per checkpoint that commits any, written once, before the files get their final names: so whatever a reader
//! finds has its line, and what crashed before its commit is noted again by recovery, under a checkpoint of its own. The
//! folder begins with `_` and the files end in `.jsonl`, so that readers of outputs do not take them for data. A start
//! removes those that are old, and none of whose files is where it was put.

use super::error::{Error, Result};
use super::origin::Origin;
use super::run_of_stem;
use super::staged::{Format, StagedFile};
use crate::disk::Disk;
use crate::failpoint;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use wasmill_pipeline::checkpoint::Boundary;

/// The ledger's folder below the output root.
pub const LEDGER: &str = "_files";

/// What ends the names of its files.
pub(super) const SUFFIX: &str = ".jsonl";

/// What the name of one ends with in place of that until all its lines are on the disk.
const UNFINISHED: &str = "tmp";

/// A committed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Where it was put, below the output root, with `/` between folders.
    pub path: String,
    /// The output it belongs to.
    pub output: String,
    /// What it is written in.
    pub format: Format,
    /// How many rows it holds.
    pub rows: u64,
    /// How long it is.
    pub bytes: u64,
    /// What made it.
    pub origin: Origin,
    /// The checkpoint it was committed with: none of its rows came later.
    pub until: Boundary,
    /// When that checkpoint was made, µs since the Unix epoch.
    pub committed_us: i64,
}

/// Notes files that a checkpoint is about to commit, unless they have their final names, and so their lines, already.
///
/// To be called after the manifest was published and before `commit` or `recover`.
///
/// # Errors
/// What the file system says: the files must not be committed then.
pub fn note_files<'a>(
    disk: &dyn Disk,
    root: &Path,
    files: impl IntoIterator<Item = &'a StagedFile>,
    until: &Boundary,
    made_at_us: i64,
) -> Result<()> {
    let mut lines = Vec::new();
    let mut run = None;
    for file in files {
        file.check()?;
        let path = root.join(&file.path);
        if disk.length(&path).map_err(Error::io("look at file", &path))?.is_some() {
            continue;
        }
        let line = Committed {
            path: file.path.clone(),
            output: file.output.clone(),
            format: file.format,
            rows: file.rows,
            bytes: file.bytes,
            origin: file.origin.clone(),
            until: until.clone(),
            committed_us: made_at_us,
        };
        serde_json::to_writer(&mut lines, &line).expect("a line has a form in JSON and memory takes it");
        lines.push(b'\n');
        run = run.or_else(|| run_of(&file.path));
    }
    if lines.is_empty() {
        return Ok(());
    }
    let name = format!("{}-{}", run.unwrap_or_default(), until.checkpoint);
    write(disk, root, &date(made_at_us), &name, &lines)
}

/// Writes a new file of the ledger, so that it survives a power loss. It has its lines when it has them all: what a power
/// loss leaves of bytes that were not synced may be anything.
fn write(disk: &dyn Disk, root: &Path, date: &str, name: &str, lines: &[u8]) -> Result<()> {
    let ledger = root.join(LEDGER);
    let folder = ledger.join(date);
    disk.make_folders(&folder).map_err(Error::io("create folder", &folder))?;
    let path = reserve(disk, &folder, name)?;
    let unfinished = path.with_extension(UNFINISHED);
    let write = || {
        let mut file = disk.create(&unfinished)?;
        file.write_all(lines)?;
        file.sync()?;
        disk.rename(&unfinished, &path)
    };
    write().map_err(|error| {
        // As far as the disk lets us: what stays is empty, or has no name of the ledger.
        let _ = disk.remove(&unfinished);
        let _ = disk.remove(&path);
        Error::io("write the ledger", &path)(error)
    })?;
    for folder in [folder.as_path(), &ledger, root] {
        disk.sync(folder).map_err(Error::io("sync", folder))?;
    }
    failpoint::reach("files-noted");
    Ok(())
}

/// An empty file of a name that nothing had: the numbers of checkpoints begin again where somebody removed them.
fn reserve(disk: &dyn Disk, folder: &Path, name: &str) -> Result<PathBuf> {
    let mut path = folder.join(format!("{name}{SUFFIX}"));
    for n in 2_u64.. {
        match disk.create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                path = folder.join(format!("{name}-{n}{SUFFIX}"));
            }
            created => {
                created.map_err(Error::io("create file", &path))?;
                return Ok(path);
            }
        }
    }
    unreachable!("there are more numbers than files")
}

/// The line of a file of this name, `path` being where it is below the root: of the file that was put there, or else of
/// the one that had this name elsewhere and was moved since.
///
/// # Errors
/// What the file system says; `Corrupt` where a line cannot be read.
pub fn find_committed(disk: &dyn Disk, root: &Path, path: &str) -> Result<Option<Committed>> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let run = run_of(path);
    let mut moved = None;
    for day in days(disk, root)?.iter().rev() {
        for at in files_of(disk, day)?.iter().rev() {
            // A name says whose lines it has, for a quicker search.
            let file = at.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if run.is_some_and(|run| !file.starts_with(run)) {
                continue;
            }
            for line in lines(disk, at)? {
                if line.path == path {
                    return Ok(Some(line));
                }
                if line.path.rsplit('/').next() == Some(name) {
                    moved = Some(line);
                }
            }
        }
    }
    Ok(moved)
}

/// Which of the plugins with these digests the files name that are still where they were put. Looks at the `most` newest
/// files of the ledger: where there are more, the plugins that were not found are among the answers, too.
///
/// # Errors
/// What the file system says; `Corrupt` where a line cannot be read.
pub fn plugins_of_files(
    disk: &dyn Disk,
    root: &Path,
    digests: &BTreeSet<String>,
    most: usize,
) -> Result<BTreeSet<String>> {
    let mut missing = digests.clone();
    let mut looked = 0;
    for day in days(disk, root)?.iter().rev() {
        for at in files_of(disk, day)?.iter().rev() {
            if missing.is_empty() || looked == most {
                return Ok(digests.clone());
            }
            looked += 1;
            for line in lines(disk, at)? {
                let found: Vec<String> =
                    line.origin.plugins().into_values().filter(|digest| missing.contains(digest)).collect();
                if !found.is_empty() && is_there(disk, root, &line)? {
                    missing.retain(|digest| !found.contains(digest));
                }
            }
        }
    }
    Ok(digests.difference(&missing).cloned().collect())
}

/// Removes what the ledger has of days before that of `before_us` where none of the files is where it was put, and says
/// how many of its files went. Looks at the `most` oldest ones.
///
/// # Errors
/// What the file system says; `Corrupt` where a line cannot be read.
pub fn clean_ledger(disk: &dyn Disk, root: &Path, before_us: i64, most: usize) -> Result<usize> {
    let before = root.join(LEDGER).join(date(before_us));
    let (mut looked, mut gone) = (0, 0);
    for day in days(disk, root)?.iter().filter(|day| **day < before) {
        for name in names(disk, day)? {
            let at = day.join(&name);
            let removed = |at: &Path| disk.remove(at).map_err(Error::io("remove from the ledger", at));
            if name.ends_with(UNFINISHED) {
                removed(&at)?;
            }
            if !name.ends_with(SUFFIX) {
                continue;
            }
            if looked == most {
                return Ok(gone);
            }
            looked += 1;
            let mut any = false;
            for line in lines(disk, &at)? {
                any = any || is_there(disk, root, &line)?;
            }
            if !any {
                removed(&at)?;
                gone += 1;
            }
        }
    }
    Ok(gone)
}

/// Whether a committed file is where it was put.
fn is_there(disk: &dyn Disk, root: &Path, line: &Committed) -> Result<bool> {
    let path = root.join(&line.path);
    Ok(disk.length(&path).map_err(Error::io("look at file", &path))?.is_some())
}

/// The ledger's folders, oldest day first.
pub(super) fn days(disk: &dyn Disk, root: &Path) -> Result<Vec<PathBuf>> {
    let ledger = root.join(LEDGER);
    Ok(names(disk, &ledger)?.iter().map(|date| ledger.join(date)).collect())
}

/// The ledger's files of a day, sorted.
pub(super) fn files_of(disk: &dyn Disk, day: &Path) -> Result<Vec<PathBuf>> {
    let names = names(disk, day)?;
    Ok(names.iter().filter(|name| name.ends_with(SUFFIX)).map(|name| day.join(name)).collect())
}

/// The lines of a file of the ledger.
fn lines(disk: &dyn Disk, at: &Path) -> Result<Vec<Committed>> {
    whole_lines(&read(disk, at)?).map(|line| parse(at, line)).collect()
}

/// The first line of a file of the ledger; `None` where none was written to its end.
pub(super) fn first_line(disk: &dyn Disk, at: &Path) -> Result<Option<Committed>> {
    whole_lines(&read(disk, at)?).next().map(|line| parse(at, line)).transpose()
}

fn read(disk: &dyn Disk, at: &Path) -> Result<Vec<u8>> {
    disk.read(at).map_err(Error::io("read the ledger", at))
}

fn parse(at: &Path, line: &[u8]) -> Result<Committed> {
    serde_json::from_slice(line)
        .map_err(|_| Error::corrupt(&at.display().to_string(), "a line of the ledger is damaged"))
}

/// The lines that were written to their ends; a crash can leave one that was not, and what it is of is noted again.
fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
    bytes[..end].split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

/// What is in a folder, sorted; nothing where there is none.
fn names(disk: &dyn Disk, folder: &Path) -> Result<Vec<String>> {
    let entries = match disk.list(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Vec::new(),
        entries => entries.map_err(Error::io("list folder", folder))?,
    };
    let mut names: Vec<String> = entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// The run in a file's name.
fn run_of(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    Some(run_of_stem(name.rsplit_once('.')?.0)?.0)
}

fn date(time_us: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(time_us).unwrap_or_default();
    time.format("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::collections::BTreeMap;
    use std::fs;

    const DAY_US: i64 = 86_400_000_000;

    fn file(path: &str) -> StagedFile {
        StagedFile { rows: 3, bytes: 5, ..StagedFile::new("pages", Format::Csv, path.to_owned()) }
    }

    fn until(checkpoint: u64) -> Boundary {
        Boundary { checkpoint, offsets: BTreeMap::from([(0, 9)]), watermark_us: Some(-1) }
    }

    fn note(root: &Path, path: &str, checkpoint: u64, made_at_us: i64) {
        note_files(&RealDisk, root, [&file(path)], &until(checkpoint), made_at_us).unwrap();
    }

    fn find(root: &Path, path: &str) -> Option<Committed> {
        find_committed(&RealDisk, root, path).unwrap()
    }

    #[test]
    fn a_noted_file_is_found_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        note(dir.path(), "pages/csv/part-a-1-w0-0.csv", 7, DAY_US);
        note(dir.path(), "pages/csv/part-a-1-w0-1.csv", 8, 2 * DAY_US);
        let found = find(dir.path(), "pages/csv/part-a-1-w0-0.csv").unwrap();
        assert_eq!((found.until, found.rows, found.bytes, found.committed_us), (until(7), 3, 5, DAY_US));
        assert!(dir.path().join("_files/1970-01-02/a-7.jsonl").exists());
        assert_eq!(find(dir.path(), "pages/csv/part-a-1-w0-2.csv"), None);
        assert_eq!(find(&dir.path().join("pages"), "csv/part-a-1-w0-0.csv"), None, "there is no ledger");
    }

    #[test]
    fn a_file_that_was_moved_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        note(dir.path(), "pages/csv/dt=2023-01-01/part-a-1-w0-0.csv", 7, 0);
        let found = find(dir.path(), "archive/part-a-1-w0-0.csv").unwrap();
        assert_eq!(found.path, "pages/csv/dt=2023-01-01/part-a-1-w0-0.csv");
    }

    #[test]
    fn a_file_that_has_its_final_name_is_not_noted_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("pages")).unwrap();
        fs::write(dir.path().join("pages/part-a-1-w0-0.csv"), "rows").unwrap();
        note(dir.path(), "pages/part-a-1-w0-0.csv", 7, 0);
        assert!(!dir.path().join(LEDGER).exists());
    }

    #[test]
    fn a_file_of_the_ledger_gets_its_lines_all_at_once_and_what_a_crash_left_goes_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        note(dir.path(), "pages/part-a-1-w0-0.csv", 7, DAY_US);
        let folder = dir.path().join("_files/1970-01-02");
        assert_eq!(names(&RealDisk, &folder).unwrap(), ["a-7.jsonl"]);
        fs::write(folder.join("a-8.tmp"), [0; 9]).unwrap();
        assert_eq!(find(dir.path(), "pages/part-a-1-w0-0.csv").unwrap().until, until(7));
        clean_ledger(&RealDisk, dir.path(), 2 * DAY_US, 10).unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_checkpoint_number_that_comes_again_has_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..3 {
            note(dir.path(), &format!("pages/part-a-1-w0-{n}.csv"), 7, 0);
        }
        for n in 0..3 {
            assert!(find(dir.path(), &format!("pages/part-a-1-w0-{n}.csv")).is_some(), "{n}");
        }
    }

    #[test]
    fn a_torn_line_is_passed_over_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        note(dir.path(), "pages/part-a-1-w0-0.csv", 7, 0);
        let path = dir.path().join("_files/1970-01-01/a-7.jsonl");
        let line = fs::read(&path).unwrap();
        for length in 0..line.len() {
            fs::write(&path, &line[..length]).unwrap();
            assert_eq!(find(dir.path(), "pages/part-a-1-w0-0.csv"), None, "{length}");
        }
        fs::write(&path, "{}\n").unwrap();
        let error = find_committed(&RealDisk, dir.path(), "pages/part-a-1-w0-0.csv").unwrap_err();
        assert!(error.to_string().contains("a-7.jsonl"), "{error}");
    }

    /// Notes a file of this plugin's, and puts it there.
    fn put(root: &Path, name: &str, plugin: &str, checkpoint: u64, made_at_us: i64) -> std::path::PathBuf {
        let plugins = BTreeMap::from([("pages".to_owned(), plugin.to_owned())]);
        let origin = Origin::new(&[], &plugins, Some(&until(1)), "pages");
        let file = StagedFile { origin, ..file(&format!("pages/part-a-1-w0-{name}.csv")) };
        note_files(&RealDisk, root, [&file], &until(checkpoint), made_at_us).unwrap();
        fs::create_dir_all(root.join("pages")).unwrap();
        fs::write(root.join(&file.path), "rows").unwrap();
        root.join(&file.path)
    }

    #[test]
    fn the_plugins_of_files_are_those_that_files_name_which_are_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let all = ["one", "two", "three"].map(str::to_owned).into();
        put(dir.path(), "0", "one", 1, 0);
        let gone = put(dir.path(), "1", "two", 2, DAY_US);
        fs::remove_file(gone).unwrap();
        let named = |most| plugins_of_files(&RealDisk, dir.path(), &all, most).unwrap();
        assert_eq!(named(10), ["one".to_owned()].into());
        assert_eq!(named(1), all, "what was not looked at may name any");
    }

    #[test]
    fn old_lines_of_files_that_are_gone_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..4).map(|n| put(dir.path(), &n.to_string(), "one", n, n as i64 * DAY_US)).collect();
        for gone in [0, 2, 3] {
            fs::remove_file(&paths[gone]).unwrap();
        }
        let clean = |most| clean_ledger(&RealDisk, dir.path(), 3 * DAY_US, most).unwrap();
        assert_eq!((clean(10), clean(10)), (2, 0), "the third day is not old");
        let found = |n: u64| find(dir.path(), &format!("pages/part-a-1-w0-{n}.csv")).is_some();
        assert_eq!([0, 1, 2, 3].map(found), [false, true, false, true]);
    }

    #[test]
    fn a_file_outside_of_the_root_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(note_files(&RealDisk, dir.path(), [&file("../x.csv")], &until(1), 0).is_err());
    }
}
