//! What an output root knows of the checkpoint folders that files were committed from: by the names of the ledger's files
//! and of the others, whatever became of the folders.

use super::error::{Error, Result};
use super::ledger::{Committed, LEDGER, SUFFIX, days, files_of, first_line};
use super::staged::STAGING;
use super::{parts_of_run, run_of_file};
use crate::disk::{Disk, make_durable_folder};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder below the output root where files are put aside.
pub const REPLACED: &str = "_replaced";

/// What ends the names of files that were put aside, so that no reader's `**/*.parquet` or `**/*.csv` finds them.
const REPLACED_SUFFIX: &str = ".replaced";

/// What is committed of one checkpoint folder, by the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// The name of the pipeline or run, as far as it is in the names of files.
    pub name: String,
    /// The identity of the folder; of releases before there was one, a hash of its path.
    pub id: String,
    /// The newest checkpoint that files were committed with.
    pub checkpoint: u64,
    /// The ledger's file of that.
    pub noted: PathBuf,
}

impl Work {
    /// A file that was committed with its newest checkpoint; `None` where a crash kept its line from being written.
    ///
    /// # Errors
    /// What the file system says; `Corrupt` where the line cannot be read.
    pub fn a_file(&self, disk: &dyn Disk) -> Result<Option<Committed>> {
        first_line(disk, &self.noted)
    }
}

/// All that the ledger knows, by identity.
///
/// # Errors
/// What the file system says.
pub fn works(disk: &dyn Disk, root: &Path) -> Result<Vec<Work>> {
    let mut works: BTreeMap<String, Work> = BTreeMap::new();
    for day in days(disk, root)? {
        for noted in files_of(disk, &day)? {
            let name = noted.file_name().and_then(OsStr::to_str);
            let Some((name, id, checkpoint)) = name.and_then(|name| noted_by(name.strip_suffix(SUFFIX)?)) else {
                continue;
            };
            if works.get(id).is_none_or(|known| known.checkpoint < checkpoint) {
                let (name, id) = (name.to_owned(), id.to_owned());
                works.insert(id.clone(), Work { name, id, checkpoint, noted });
            }
        }
    }
    Ok(works.into_values().collect())
}

/// Name, identity and checkpoint in `<name>-<identity>-<checkpoint>[-<n>]`.
fn noted_by(stem: &str) -> Option<(&str, &str, u64)> {
    let of = |stem: &'_ str| {
        let (run, checkpoint) = stem.rsplit_once('-')?;
        let (name, id) = parts_of_run(run)?;
        let is_id = matches!(id.len(), 8 | 16) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some((name.len(), id.len(), checkpoint.parse::<u64>().ok().filter(|_| is_id)?))
    };
    // With a number behind the checkpoint's first: an identity of digits alone is less likely than a checkpoint of as many.
    let numbered = stem.rsplit_once('-').filter(|(_, n)| n.parse::<u64>().is_ok()).and_then(|(stem, _)| of(stem));
    let (name, id, checkpoint) = numbered.or_else(|| of(stem))?;
    Some((stem.get(..name)?, stem.get(name + 1..name + 1 + id)?, checkpoint))
}

/// The greatest generation of the staged files of this identity.
///
/// # Errors
/// What the file system says.
pub fn newest_staged(disk: &dyn Disk, root: &Path, id: &str) -> Result<Option<u64>> {
    let files = files_below(disk, &root.join(STAGING))?;
    let generations = files.iter().filter_map(|path| {
        let (run, generation) = run_of_file(path.file_name()?.to_str()?)?;
        (parts_of_run(run)?.1 == id).then_some(generation)
    });
    Ok(generations.max())
}

/// Name, identity and greatest generation of the committed files below these folders, by identity, and one of the files
/// each: for where somebody removed the ledger.
///
/// # Errors
/// What the file system says.
pub fn names_of(disk: &dyn Disk, folders: &[PathBuf]) -> Result<BTreeMap<String, (String, u64, PathBuf)>> {
    let mut found: BTreeMap<String, (String, u64, PathBuf)> = BTreeMap::new();
    for folder in folders {
        for path in files_below(disk, folder)? {
            let Some((run, generation)) = path.file_name().and_then(OsStr::to_str).and_then(run_of_file) else {
                continue;
            };
            let Some((name, id)) = parts_of_run(run) else { continue };
            if found.get(id).is_none_or(|(_, known, _)| *known < generation) {
                found.insert(id.to_owned(), (name.to_owned(), generation, path.clone()));
            }
        }
    }
    Ok(found)
}

/// Puts all files of these identities aside: those of the outputs, staged ones, and the ledger's. Answers how many.
///
/// They keep their ways below [`REPLACED`], with names that no reader looks for. As often as one likes: what is done
/// already is left alone.
///
/// # Errors
/// What the file system says.
pub fn move_aside(disk: &dyn Disk, root: &Path, folders: &[PathBuf], ids: &[String]) -> Result<u64> {
    let own = [STAGING, LEDGER].map(|folder| root.join(folder));
    let folders: Vec<&PathBuf> = folders.iter().chain(&own).collect();
    let mut moved = 0;
    for &folder in &folders {
        for path in files_below(disk, folder)? {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let noted = name.strip_suffix(SUFFIX).and_then(noted_by).map(|(_, id, _)| id);
            let id = noted.or_else(|| Some(parts_of_run(run_of_file(name)?.0)?.1));
            let Ok(below) = path.strip_prefix(root) else { continue };
            if !id.is_some_and(|id| ids.iter().any(|of| of == id)) {
                continue;
            }
            let mut to = root.join(REPLACED).join(below).into_os_string();
            to.push(REPLACED_SUFFIX);
            let to = PathBuf::from(to);
            let aside = to.parent().unwrap_or(root);
            make_durable_folder(disk, aside).map_err(Error::io("create folder", aside))?;
            disk.rename(&path, &to).map_err(Error::io("put aside", &path))?;
            moved += 1;
        }
    }
    // Those of a process before, too, which may not have come to that.
    for folder in folders.into_iter().chain([&root.join(REPLACED)]) {
        for folder in everything_below(disk, folder)?.0 {
            disk.sync(&folder).map_err(Error::io("sync", &folder))?;
        }
    }
    Ok(moved)
}

/// All files below a folder; nothing where there is none.
pub(super) fn files_below(disk: &dyn Disk, folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(everything_below(disk, folder)?.1)
}

/// A folder and those below, and all files; nothing where there is none.
fn everything_below(disk: &dyn Disk, folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut left, mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new(), Vec::new());
    while let Some(folder) = left.pop() {
        let entries = match disk.list(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(Error::io("list folder", &folder))?,
        };
        for entry in entries {
            let path = folder.join(&entry.name);
            if entry.is_folder { left.push(path) } else { files.push(path) }
        }
        folders.push(folder);
    }
    Ok((folders, files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::fs;

    const ID: &str = "00000000deadbeef";

    fn put(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn a_name_in_the_ledger_tells_pipeline_identity_and_checkpoint() {
        for (stem, wanted) in [
            ("clicks-00000000deadbeef-7", Some(("clicks", ID, 7))),
            ("a-b-1-00000000deadbeef-12-3", Some(("a-b-1", ID, 12))),
            ("old-0badcafe-9", Some(("old", "0badcafe", 9))),
            ("old-0badcafe-9-2", Some(("old", "0badcafe", 9))),
            ("clicks-7", None),
            ("00000000deadbeef-7", None),
            ("clicks-00000000deadbeef-x", None),
            ("", None),
        ] {
            assert_eq!(noted_by(stem), wanted, "{stem}");
        }
    }

    #[test]
    fn the_ledger_tells_the_newest_checkpoint_of_each_identity() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(works(&RealDisk, dir.path()).unwrap(), []);
        for name in
            ["2026-01-02/a-00000000deadbeef-9", "2026-01-01/a-00000000deadbeef-10", "2026-01-01/b-0000000000000001-2"]
        {
            put(dir.path(), &format!("_files/{name}.jsonl"));
        }
        put(dir.path(), "_files/LOCK-00000000deadbeef");
        let works = works(&RealDisk, dir.path()).unwrap();
        let found: Vec<_> = works.iter().map(|work| (work.name.as_str(), work.checkpoint)).collect();
        assert_eq!(found, [("b", 2), ("a", 10)]);
    }

    #[test]
    fn only_files_of_the_identities_named_are_put_aside_and_no_reader_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let others = [
            "pages/part-a-0000000000000001-1-w0-0.csv",
            "pages/notes.csv",
            "_files/2026-01-01/a-0000000000000001-2.jsonl",
        ];
        let own = [
            "pages/dt=2026-01-01/part-a-00000000deadbeef-1-w0-0.csv",
            "_staging/pages/part-renamed-00000000deadbeef-1-w0-1.parquet.tmp",
            "_files/2026-01-01/a-00000000deadbeef-2.jsonl",
        ];
        others.iter().chain(&own).for_each(|path| put(dir.path(), path));
        let folders = [dir.path().join("pages")];
        for moved in [3, 0] {
            assert_eq!(move_aside(&RealDisk, dir.path(), &folders, &[ID.to_owned()]).unwrap(), moved);
        }
        assert!(others.iter().all(|path| dir.path().join(path).exists()));
        assert!(own.iter().all(|path| dir.path().join(format!("_replaced/{path}.replaced")).exists()));
    }

    #[test]
    fn the_names_of_committed_files_tell_of_whom_they_are() {
        let dir = tempfile::tempdir().unwrap();
        for generation in [2, 3] {
            put(dir.path(), &format!("pages/csv/part-a-{ID}-{generation}-w0-0.csv"));
            put(dir.path(), &format!("_staging/pages/csv/part-a-{ID}-{generation}-w0-1.csv.tmp"));
        }
        let found = names_of(&RealDisk, &[dir.path().join("pages"), dir.path().join("none")]).unwrap();
        assert_eq!((found.len(), &found[ID].0, found[ID].1), (1, &"a".to_owned(), 3));
        assert_eq!(newest_staged(&RealDisk, dir.path(), ID).unwrap(), Some(3));
        assert_eq!(newest_staged(&RealDisk, dir.path(), "other").unwrap(), None);
    }
}
