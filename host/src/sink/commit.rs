//! From staged to committed: what a checkpoint does with files, and what recovery does again.

use super::error::{Error, Result};
use super::parquet_file::{self, ParquetFile};
use super::row_log::{self, ROWS, log_name};
use super::staged::{Format, OpenFile, STAGED_SUFFIX, STAGING, SinkCut, StagedFile, Waiting};
use super::works::files_below;
use super::{parts_of_run, run_of_file};
use crate::disk::{Disk, DiskFile, make_durable_folder};
use crate::failpoint;
use crate::mutation::{self, Mutation};
use arrow_array::RecordBatch;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Before the suffix of a staged file that recovery is making of an open one.
const WHOLE: &str = ".whole";
/// What a staged file's copy has in place of the suffix.
const COPY: &str = "copy.tmp";

/// Makes the output root, with a name that survives a power loss.
///
/// # Errors
/// What the file system says.
pub fn make_root(disk: &dyn Disk, root: &Path) -> Result<()> {
    make_durable_folder(disk, root).map_err(Error::io("create folder", root))
}

/// Makes the files of a cut survive a power loss, with all folders on the way to them.
///
/// To be called before the manifest that holds the cut is published; may run beside further writing.
///
/// # Errors
/// When a file cannot be synced: the cut must not be published.
pub fn sync(disk: &dyn Disk, root: &Path, cut: &SinkCut) -> Result<()> {
    let mut folders = BTreeSet::new();
    let files = cut.finished.iter().chain(cut.open.iter().map(|open| &open.file));
    for file in files {
        file.check()?;
        let path = root.join(&file.staged);
        if !mutation::on(Mutation::FilesNotSynced) {
            sync_path(disk, &path)?;
        }
        note_folders(root, &path, &mut folders);
    }
    let logs = cut.open.iter().filter(|open| open.waiting.is_some()).map(|open| log_name(&open.file.staged));
    for log in logs.filter(|_| !mutation::on(Mutation::WaitingRowsNotSynced)) {
        sync_path(disk, &root.join(log))?;
    }
    failpoint::reach("staged-files-synced");
    if mutation::on(Mutation::FoldersNotSynced) {
        return Ok(());
    }
    folders.iter().try_for_each(|folder| sync_path(disk, folder))
}

/// Gives staged files their final names, for good: a name that is taken is never written over.
///
/// To be called after the manifest was published, and as often as one likes: what is done already is left alone. A
/// crash at any point leaves each file under its staged name, its final name, or both, and never neither.
///
/// # Errors
/// `Corrupt` when a file is neither staged nor committed, or not as long as the checkpoint says.
pub fn commit(disk: &dyn Disk, root: &Path, files: &[StagedFile]) -> Result<()> {
    Commit { disk, root, step: &mut || Ok(()) }.run(files, &[])
}

/// Makes whole files of the open ones that a checkpoint knows of, beside them, and tells what they are.
///
/// To be called before new `Writers` of this run are made, and after those of an earlier attempt in this process are
/// dropped; then `recover` or `hold`. As idempotent as `commit`: the same rows make the same file. Open files are copied,
/// not cut off in place, so that a writer which does not know yet that it lost its place cannot reach a committed file.
///
/// # Errors
/// `Corrupt` when a file is not as the checkpoint says; `Gone` when it is not there; else what the file system says.
pub fn complete(disk: &dyn Disk, root: &Path, open: &[OpenFile]) -> Result<Vec<StagedFile>> {
    let mut commit = Commit { disk, root, step: &mut || Ok(()) };
    open.iter().map(|open| commit.complete(open)).collect()
}

/// Commits all that a checkpoint knows of: the finished files, and the open ones that `complete` made whole.
///
/// To be followed by `sweep`. As idempotent as `commit`.
///
/// # Errors
/// As `commit`.
pub fn recover(disk: &dyn Disk, root: &Path, finished: &[StagedFile], completed: &[StagedFile]) -> Result<()> {
    Commit { disk, root, step: &mut || Ok(()) }.run(finished, completed)
}

/// Leaves the files that `complete` made whole in the place of the open ones, staged, as their turn has not come. Their
/// logs stay until then: only with them is once more no harm.
///
/// # Errors
/// What the file system says.
pub fn hold(disk: &dyn Disk, root: &Path, completed: &[StagedFile]) -> Result<()> {
    for file in completed {
        let (staged, whole) = (root.join(&file.staged), root.join(whole_name(&file.staged)));
        disk.rename(&whole, &staged).map_err(Error::io("rename file", &whole))?;
        if let Some(folder) = staged.parent() {
            sync_path(disk, folder)?;
        }
        failpoint::reach("open-file-held");
    }
    Ok(())
}

/// One commit or recovery. `step` is asked before every change on disk; tests end the world there.
struct Commit<'a> {
    disk: &'a dyn Disk,
    root: &'a Path,
    step: &'a mut dyn FnMut() -> Result<()>,
}

impl Commit<'_> {
    /// All links, then the folders to disk, and only then the staged names away: so a power loss finds one or the other.
    fn run(&mut self, finished: &[StagedFile], completed: &[StagedFile]) -> Result<()> {
        let mut folders = BTreeSet::new();
        let mut done = Vec::with_capacity(finished.len() + completed.len());
        for file in finished {
            file.check()?;
            let staged = self.root.join(&file.staged);
            self.place(&staged, file, &mut folders)?;
            failpoint::reach("finished-file-linked");
            done.push(staged);
            done.extend(self.log_of(file));
        }
        for file in completed {
            let whole = self.root.join(whole_name(&file.staged));
            // Whoever else recovers takes the open file away once it is committed: then it may be a reader's by now.
            let open = self.length(&self.root.join(&file.staged))?;
            if open.is_none() && self.length(&self.root.join(&file.path))?.is_none() {
                return Err(Error::gone(&file.staged, file.rows));
            }
            self.place(&whole, file, &mut folders)?;
            failpoint::reach("open-file-linked");
            done.extend([whole, self.root.join(&file.staged)]);
            done.extend(self.log_of(file));
        }
        if mutation::on(Mutation::FinalNamesNotSynced) {
            folders.clear();
        }
        for folder in &folders {
            (self.step)()?;
            sync_path(self.disk, folder)?;
            failpoint::reach("folder-synced");
        }
        for staged in &done {
            (self.step)()?;
            remove_if_there(self.disk, staged)?;
            failpoint::reach("staged-name-removed");
        }
        Ok(())
    }

    /// Where the file's log is, if it has one; rows of CSV do not wait.
    fn log_of(&self, file: &StagedFile) -> Option<PathBuf> {
        (file.format == Format::Parquet).then(|| self.root.join(log_name(&file.staged)))
    }

    /// Makes `to` another name of the whole, synced file `from`, or sees that it is one already.
    fn place(&mut self, from: &Path, file: &StagedFile, folders: &mut BTreeSet<PathBuf>) -> Result<()> {
        let to = self.root.join(&file.path);
        note_folders(self.root, &to, folders);
        // In this order: whoever else commits the same file links it before taking the staged name away.
        let staged = self.length(from)?;
        match (staged, self.length(&to)?) {
            (_, Some(bytes)) if bytes == file.bytes => return Ok(()),
            (_, Some(_)) => return Err(Error::corrupt(&file.path, "file is there, but of another length")),
            (None, None) => return Err(Error::gone(&file.staged, file.rows)),
            (Some(bytes), None) if bytes != file.bytes => {
                return Err(Error::corrupt(&file.staged, "staged file is not as long as the checkpoint says"));
            }
            (Some(_), None) => {}
        }
        let parent = to.parent().unwrap_or(self.root);
        (self.step)()?;
        self.disk.make_folders(parent).map_err(Error::io("create folder", parent))?;
        (self.step)()?;
        match self.disk.link(from, &to) {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                // Another process was faster.
                match self.length(&to)? {
                    Some(bytes) if bytes == file.bytes => Ok(()),
                    None if error.kind() == io::ErrorKind::NotFound => Err(Error::gone(&file.staged, file.rows)),
                    _ => Err(Error::io("commit file", &to)(error)),
                }
            }
            // A file system without hard links; nobody but the owner of this checkpoint makes files of this name. A power
            // loss amid a rename may take both names there, so it is a copy that gets the final one.
            Err(_) => {
                let copy = from.with_extension(COPY);
                self.copy(from, file.bytes, &copy)?.sync().map_err(Error::io("sync file", &copy))?;
                (self.step)()?;
                self.disk.rename(&copy, &to).map_err(Error::io("commit file", &to))
            }
        }
    }

    /// Copies the first `bytes` of a file to a new one.
    fn copy(&mut self, from: &Path, bytes: u64, to: &Path) -> Result<Box<dyn DiskFile>> {
        (self.step)()?;
        remove_if_there(self.disk, to)?;
        (self.step)()?;
        let staged = self.disk.open(from).map_err(Error::io("open file", from))?;
        let mut copy = self.disk.create_new(to).map_err(Error::io("create file", to))?;
        let copied = io::copy(&mut staged.take(bytes), &mut copy).map_err(Error::io("copy rows", to))?;
        if copied == bytes {
            Ok(copy)
        } else {
            Err(Error::corrupt(&from.display().to_string(), "file became shorter while being read"))
        }
    }

    /// Makes a whole file of what the checkpoint knows of an open one, synced, unless it has its final name already.
    fn complete(&mut self, open: &OpenFile) -> Result<StagedFile> {
        open.check()?;
        let (path, staged) = (self.root.join(&open.file.path), self.root.join(&open.file.staged));
        let whole = self.root.join(whole_name(&open.file.staged));
        let bytes = match (self.length(&path)?, &open.waiting) {
            (Some(_), None) => open.file.bytes,
            (Some(bytes), Some(_)) => {
                let file = self.disk.read(&path).map_err(Error::io("read file", &path))?;
                if parquet_file::rows_of(&file, &path)? != open.file.rows {
                    return Err(Error::corrupt(&open.file.path, "file is there, but with other rows"));
                }
                bytes
            }
            (None, waiting) => {
                if self.length(&staged)?.is_none_or(|bytes| bytes < open.len) {
                    return Err(Error::gone(&open.file.staged, open.file.rows));
                }
                match waiting {
                    None => self.copy_open(open, &staged, &whole)?,
                    Some(waiting) => self.take_in(waiting, open, &staged, &whole)?,
                }
            }
        };
        Ok(StagedFile { bytes, ..open.file.clone() })
    }

    /// Copies what counts of an open file to `whole`, with the footer after it. Answers its length.
    fn copy_open(&mut self, open: &OpenFile, staged: &Path, whole: &Path) -> Result<u64> {
        let mut copy = self.copy(staged, open.len, whole)?;
        failpoint::reach("open-file-copied");
        (self.step)()?;
        if let Some(footer) = &open.footer {
            copy.write_all(footer).map_err(Error::io("write footer", whole))?;
        }
        failpoint::reach("open-file-completed");
        (self.step)()?;
        copy.sync().map_err(Error::io("sync file", whole))?;
        Ok(open.file.bytes)
    }

    /// Makes `whole` of an open file's row groups and a row group of the waiting rows. Answers its length.
    fn take_in(&mut self, waiting: &Waiting, open: &OpenFile, staged: &Path, whole: &Path) -> Result<u64> {
        let log = self.root.join(log_name(&open.file.staged));
        let rows = row_log::read(self.disk, &log, &open.file.staged, waiting)?;
        let schema = rows.first().map(RecordBatch::schema);
        let schema = schema.ok_or_else(|| Error::corrupt(&open.file.staged, "waiting rows are none"))?;
        (self.step)()?;
        remove_if_there(self.disk, whole)?;
        (self.step)()?;
        let handle = self.disk.create_new(whole).map_err(Error::io("create file", whole))?;
        let properties = parquet_file::properties(&schema, &open.file.origin);
        let mut file = ParquetFile::new(handle, whole, schema, properties)?;
        if let Some(footer) = &open.footer {
            let staged = self.disk.open(staged).map_err(Error::io("open file", staged))?;
            file.begin_with(staged, open.len, footer)?;
        }
        failpoint::reach("row-groups-copied");
        (self.step)()?;
        if !mutation::on(Mutation::WaitingRowsForgotten) {
            rows.iter().try_for_each(|batch| file.write(batch))?;
        }
        let bytes = file.finish()?;
        failpoint::reach("waiting-rows-taken-in");
        (self.step)()?;
        sync_path(self.disk, whole)?;
        Ok(bytes)
    }

    /// The file's length; `None` when there is no file.
    fn length(&self, path: &Path) -> Result<Option<u64>> {
        self.disk.length(path).map_err(Error::io("look at file", path))
    }
}

/// Removes staged files of the checkpoint folder with identity `id` and generations before `generation` that are not in
/// `keep` (relative staged paths), and their logs: what was written after the checkpoint that was recovered. Answers how
/// many were removed.
///
/// Files of others stay, and those of later generations: a process may have been overtaken and not know it yet.
///
/// # Errors
/// When a folder cannot be listed or a file not be removed.
#[expect(clippy::implicit_hasher, reason = "there is one caller")]
pub fn sweep(disk: &dyn Disk, root: &Path, id: &str, generation: u64, keep: &HashSet<String>) -> Result<u64> {
    let mut removed = 0;
    let is_own = |name: &str| {
        let Some((run, from)) = run_of_file(name).filter(|_| name.ends_with(STAGED_SUFFIX)) else { return false };
        let own = parts_of_run(run).is_some_and(|(_, of)| of == id) || mutation::on(Mutation::OthersSwept);
        own && from < generation
    };
    for path in files_below(disk, &root.join(STAGING))? {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if is_own(name) && !is_kept(root, &path, keep) {
            remove_if_there(disk, &path)?;
            failpoint::reach("staged-file-swept");
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a staged file is to be kept, or the one that it is the log of.
fn is_kept(root: &Path, path: &Path, keep: &HashSet<String>) -> bool {
    let Some(relative) = path.strip_prefix(root).ok().and_then(Path::to_str) else { return false };
    let owner = relative.strip_suffix(STAGED_SUFFIX).and_then(|name| name.strip_suffix(ROWS));
    keep.contains(relative) || owner.is_some_and(|name| keep.contains(&format!("{name}{STAGED_SUFFIX}")))
}

fn whole_name(staged: &str) -> String {
    format!("{}{WHOLE}{STAGED_SUFFIX}", staged.strip_suffix(STAGED_SUFFIX).unwrap_or(staged))
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove file", path)(error)),
        _ => Ok(()),
    }
}

fn sync_path(disk: &dyn Disk, path: &Path) -> Result<()> {
    disk.sync(path).map_err(Error::io("sync", path))
}

/// Adds the folders from that of `file` up to the root: any of them may be new.
fn note_folders(root: &Path, file: &Path, folders: &mut BTreeSet<PathBuf>) {
    let above = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    for folder in above {
        if !folders.insert(folder.to_path_buf()) {
            break;
        }
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
