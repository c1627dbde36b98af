//! The disk: all that the sinks and the checkpoint store want of a file system, so that tests can put another in its place.
//!
//! What survives a power loss is what was synced: a file's bytes by [`DiskFile::sync`] or [`Disk::sync`] of its path, a
//! name by [`Disk::sync`] of the folder that it is in.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::any::Any;
use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::Path;

/// How many files and sockets this process may have open at once: as many as the system lets it have, not the 1,024 that
/// programs get which may be older than descriptors above that.
pub fn most_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current.unwrap_or(u64::MAX);
    }
    // Where it is refused, the old limit stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A file system. All errors are those that the operating system's would be.
pub trait Disk: Debug + Send + Sync {
    /// A new, empty file for writing, in place of the one that has the name.
    ///
    /// # Errors
    /// What the file system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// A new, empty file for writing.
    ///
    /// # Errors
    /// `AlreadyExists` where something has the name.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// A file for writing after what it has; a new one where there is none.
    ///
    /// # Errors
    /// What the file system says.
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// A file for reading from its beginning.
    ///
    /// # Errors
    /// What the file system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>>;

    /// All bytes of a file.
    ///
    /// # Errors
    /// What the file system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// How long a file is; some number for a folder; `None` where there is neither.
    ///
    /// # Errors
    /// What the file system says.
    fn length(&self, path: &Path) -> io::Result<Option<u64>>;

    /// Gives a file a second name.
    ///
    /// # Errors
    /// `AlreadyExists` where something has the name `to`.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name, whatever had it before.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a file's name away.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder and those above it, where they are missing.
    ///
    /// # Errors
    /// What the file system says.
    fn make_folders(&self, path: &Path) -> io::Result<()>;

    /// What is in a folder, in no order.
    ///
    /// # Errors
    /// What the file system says.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Makes a file's bytes, or the names in a folder, survive a power loss.
    ///
    /// # Errors
    /// What the file system says: nothing is known then of what survives.
    fn sync(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock of a file, which is made where there is none, and writes `holder` into it. `None` where another
    /// process has it.
    ///
    /// # Errors
    /// What the file system says.
    fn lock(&self, path: &Path, holder: &str) -> io::Result<Option<Lock>>;
}

/// A file being written.
pub trait DiskFile: Write + Send {
    /// Makes its bytes survive a power loss.
    ///
    /// # Errors
    /// What the file system says: nothing is known then of what survives.
    fn sync(&mut self) -> io::Result<()>;
}

/// A lock that is held until it is dropped.
pub type Lock = Box<dyn Any + Send + Sync>;

/// What a folder has under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// Makes a folder and those above it where they are missing, and their names durable, whoever made them: a process that
/// was killed right after may not have come to that.
///
/// # Errors
/// What the file system says.
pub fn make_durable_folder(disk: &dyn Disk, folder: &Path) -> io::Result<()> {
    disk.make_folders(folder)?;
    for above in folder.ancestors().skip(1) {
        let above = if above == Path::new("") { Path::new(".") } else { above };
        match disk.sync(above) {
            // Where nobody may look or write, or what cannot be synced, nobody made a folder that matters.
            Err(error) if is_anothers(&error) => break,
            synced => synced?,
        }
    }
    Ok(())
}

fn is_anothers(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::PermissionDenied | ErrorKind::Unsupported)
}

/// The operating system's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::create(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::create_new(path)?))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().create(true).append(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(File::open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn length(&self, path: &Path) -> io::Result<Option<u64>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn make_folders(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let entry = |entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            Ok(Entry { name: entry.file_name(), is_folder: entry.file_type()?.is_dir() })
        };
        fs::read_dir(path)?.map(entry).collect()
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path, holder: &str) -> io::Result<Option<Lock>> {
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(holder.as_bytes())?;
        file.sync_all()?;
        Ok(Some(Box::new(file)))
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
