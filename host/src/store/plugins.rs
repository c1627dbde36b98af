//! The plugin store: every component that ever ran here, under its digest, so that it can run again.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::durable::{self, Created};
use super::error::Error;
use crate::disk::{Disk, make_durable_folder};

/// Its folder in the checkpoint folder.
const FOLDER: &str = "plugins";
/// What follows a digest in the name of a component's file.
const SUFFIX: &str = ".wasm";
/// The digits of a digest: a SHA-256 in hexadecimal.
const DIGITS: usize = 64;
/// The fewest digits by which a component may be asked for: with 4 billion beginnings two of some thousand components
/// that ever ran are hardly alike, and a typing mistake hardly names one.
const FEWEST_DIGITS: usize = 8;

/// Numbers the temporary files of this process.
static UNIQUE: AtomicU64 = AtomicU64::new(0);

/// The components in a checkpoint folder, `plugins/<digest>.wasm`, until nothing names them any more.
///
/// Made by name only: nothing is read or written until it is asked for something, so that it may be opened on a folder
/// of a running pipeline. Only the owner of the checkpoint [keeps](Self::keep).
#[derive(Clone, Debug)]
pub struct PluginStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    digest: fn(&[u8]) -> String,
}

impl PluginStore {
    /// The store in this checkpoint folder. `digest` is the SHA-256 in 64 lowercase hexadecimal digits.
    pub fn open(disk: Arc<dyn Disk>, checkpoint_dir: &Path, digest: fn(&[u8]) -> String) -> Self {
        Self { disk, dir: Self::folder_in(checkpoint_dir), digest }
    }

    /// Where components are kept in a checkpoint folder.
    pub fn folder_in(checkpoint_dir: &Path) -> PathBuf {
        checkpoint_dir.join(FOLDER)
    }

    /// Its folder, whether or not there is one yet.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// Where the component of this digest is when it is kept.
    pub fn place(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}{SUFFIX}"))
    }

    /// Keeps a component, so that it survives a power loss, and gives where. What is kept already is left as it is.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when other bytes lie under this digest, [`Error::Bug`] when it is not the digest of these bytes,
    /// [`Error::Io`].
    pub fn keep(&self, digest: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
        let found = (self.digest)(bytes);
        if found != digest {
            return Err(Error::Bug(format!("a component with the digest {found} is to be kept as {digest}")));
        }
        let (disk, name) = (self.disk.as_ref(), format!("{digest}{SUFFIX}"));
        let path = self.dir.join(&name);
        make_durable_folder(disk, &self.dir).map_err(Error::io("make the folder of", &path))?;
        // Looked at first: a component is written once and kept at every start.
        let there = disk.length(&path).map_err(Error::io("look for", &path))?.is_some();
        let write = |out: &mut dyn Write| out.write_all(bytes);
        // Threads of this process may keep the same one: each writes a file of its own.
        let unique = UNIQUE.fetch_add(1, Ordering::Relaxed);
        if there || durable::create(disk, &self.dir, &name, unique, write)? == Created::AlreadyThere {
            self.read(digest)?;
        }
        durable::sync_folder(disk, &self.dir)?;
        Ok(path)
    }

    /// Where a component is; `None` when it is not kept.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn path(&self, digest: &str) -> Result<Option<PathBuf>, Error> {
        if !is_digest(digest) {
            return Ok(None);
        }
        let path = self.place(digest);
        Ok(self.disk.length(&path).map_err(Error::io("look for", &path))?.map(|_| path))
    }

    /// The bytes of a component, which are those of its digest.
    ///
    /// # Errors
    /// [`Error::NoPlugin`] when it is not kept, [`Error::Corrupt`] when its file holds something else, [`Error::Io`].
    pub fn read(&self, digest: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(digest)?.ok_or_else(|| self.none(digest, "there is none with this digest"))?;
        let bytes = self.disk.read(&path).map_err(Error::io("read", &path))?;
        let found = (self.digest)(&bytes);
        if found == digest {
            return Ok(bytes);
        }
        Err(Error::corrupt(&path, format!("its contents have the digest {found}")))
    }

    /// The digest that begins so, of at least 8 digits.
    ///
    /// # Errors
    /// [`Error::NoPlugin`] when there is none, or more than one, which are named; [`Error::Io`].
    pub fn find(&self, beginning: &str) -> Result<String, Error> {
        let beginning = beginning.to_ascii_lowercase();
        if beginning.len() < FEWEST_DIGITS || !beginning.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let problem = format!("write at least {FEWEST_DIGITS} hexadecimal digits of its sha256");
            return Err(self.none(&beginning, problem));
        }
        let all = self.list()?;
        let mut found: Vec<String> = all.iter().filter(|digest| digest.starts_with(&beginning)).cloned().collect();
        match (found.pop(), found.is_empty(), all.is_empty()) {
            (Some(digest), true, _) => Ok(digest),
            (Some(digest), false, _) => {
                found.push(digest);
                Err(self.none(&beginning, format!("more than one begins so: {}", found.join(", "))))
            }
            (None, _, true) => Err(self.none(&beginning, "there are none yet")),
            (None, _, false) => Err(self.none(&beginning, format!("none begins so; there are {}", all.join(", ")))),
        }
    }

    /// The digests of all that are kept, sorted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let mut digests: Vec<String> = self.names()?.iter().filter_map(|name| digest_in(name)).collect();
        digests.sort_unstable();
        Ok(digests)
    }

    /// Removes all but the components with these digests, and what a crash left of others, and says which went. To be
    /// called by the owner of the checkpoint while nobody keeps any.
    ///
    /// # Errors
    /// [`Error::Io`]. What was not removed is by the next call.
    pub fn sweep(&self, named: &BTreeSet<String>) -> Result<Vec<String>, Error> {
        let mut gone = Vec::new();
        for name in self.names()? {
            match digest_in(&name) {
                Some(digest) if named.contains(&digest) => continue,
                Some(digest) => gone.push(digest),
                None if durable::is_temporary(&name) => {}
                None => continue,
            }
            let path = self.dir.join(&name);
            match self.disk.remove(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
                _ => {}
            }
        }
        Ok(gone)
    }

    /// What is in the folder.
    fn names(&self) -> Result<Vec<String>, Error> {
        let entries = match self.disk.list(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            entries => entries.map_err(Error::io("list", &self.dir))?,
        };
        Ok(entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
    }

    fn none(&self, digest: &str, problem: impl Into<String>) -> Error {
        Error::NoPlugin { path: self.dir.clone(), digest: digest.to_owned(), problem: problem.into() }
    }
}

/// The digest in a file's name, if it is one of a component.
fn digest_in(name: &str) -> Option<String> {
    Some(name.strip_suffix(SUFFIX).filter(|name| is_digest(name))?.to_owned())
}

/// Whether it is a digest as this program writes it, and so no way out of the folder.
fn is_digest(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::fs;

    /// No hash, but as long, and another for another text.
    fn digest(bytes: &[u8]) -> String {
        let hex = |half| char::from_digit(u32::from(half), 16).unwrap();
        let digits = bytes.iter().flat_map(|byte| [hex(byte >> 4), hex(byte & 15)]);
        digits.chain(std::iter::repeat('0')).take(DIGITS).collect()
    }

    fn store(dir: &Path) -> PluginStore {
        PluginStore::open(Arc::new(RealDisk), dir, digest)
    }

    #[test]
    fn what_is_kept_is_found_again_and_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(store.list().unwrap(), Vec::<String>::new());
        let path = store.keep(&digest(b"one"), b"one").unwrap();
        assert_eq!(store.keep(&digest(b"one"), b"one").unwrap(), path);
        assert_eq!(store.path(&digest(b"one")).unwrap(), Some(path));
        assert_eq!(store.read(&digest(b"one")).unwrap(), b"one");
        assert_eq!(store.list().unwrap(), [digest(b"one")]);
        assert_eq!(fs::read_dir(store.folder()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_kept_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        for absent in [&digest(b"two"), "../../etc/passwd", ""] {
            assert_eq!(store.path(absent).unwrap(), None);
            assert!(matches!(store.read(absent), Err(Error::NoPlugin { .. })));
        }
    }

    #[test]
    fn a_wrong_digest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(store(dir.path()).keep(&digest(b"two"), b"one"), Err(Error::Bug(_))));
        assert_eq!(store(dir.path()).list().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn other_bytes_under_a_digest_are_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let path = store.keep(&digest(b"one"), b"one").unwrap();
        fs::write(&path, "other").unwrap();
        for error in [store.read(&digest(b"one")).unwrap_err(), store.keep(&digest(b"one"), b"one").unwrap_err()] {
            assert!(matches!(&error, Error::Corrupt { path: named, .. } if *named == path), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"other", "it is left for a person to look at");
    }

    #[test]
    fn a_beginning_finds_the_one_that_it_is_of() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        for bytes in [b"plugin a".as_slice(), b"plugin b", b"another"] {
            store.keep(&digest(bytes), bytes).unwrap();
        }
        assert_eq!(store.find(&digest(b"another")[..8].to_uppercase()).unwrap(), digest(b"another"));
        assert_eq!(store.find(&digest(b"another")).unwrap(), digest(b"another"));
        let ambiguous = store.find(&digest(b"plugin")[..12]).unwrap_err().to_string();
        for named in [digest(b"plugin a"), digest(b"plugin b")] {
            assert!(ambiguous.contains(&named), "{ambiguous}");
        }
        for (wrong, why) in [("abc", "at least 8"), ("../../..", "at least 8"), ("0123456789", "none begins so")] {
            let error = store.find(wrong).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("plugins"), "{error}");
        }
    }

    #[test]
    fn leftovers_of_a_crash_are_no_components() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        fs::create_dir_all(store.folder()).unwrap();
        fs::write(store.folder().join(format!(".temporary-0-{}.wasm", digest(b"one"))), "o").unwrap();
        assert_eq!(store.list().unwrap(), Vec::<String>::new());
        store.keep(&digest(b"one"), b"one").unwrap();
        assert_eq!(store.list().unwrap(), [digest(b"one")]);
    }

    #[test]
    fn what_nothing_names_is_removed_with_what_a_crash_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        assert_eq!(store.sweep(&BTreeSet::new()).unwrap(), Vec::<String>::new(), "there is no folder yet");
        for bytes in [b"named".as_slice(), b"refused"] {
            store.keep(&digest(bytes), bytes).unwrap();
        }
        for other in [".temporary-0-x.wasm", "notes.txt"] {
            fs::write(store.folder().join(other), "x").unwrap();
        }
        assert_eq!(store.sweep(&BTreeSet::from([digest(b"named")])).unwrap(), [digest(b"refused")]);
        let mut left = store.names().unwrap();
        left.sort();
        assert_eq!(left, [format!("{}.wasm", digest(b"named")), "notes.txt".to_owned()]);
    }

    #[test]
    fn threads_may_keep_the_same_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (store, bytes) = (store(dir.path()), vec![7; 100_000]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| store.keep(&digest(&bytes), &bytes).unwrap());
            }
        });
        assert_eq!(store.read(&digest(&bytes)).unwrap(), bytes);
    }
}
