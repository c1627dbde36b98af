//! How a file comes to be: whole, fsynced, and only where there was none.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use super::error::Error;
use crate::disk::Disk;
use crate::failpoint;
use crate::mutation::{self, Mutation};

/// What temporary names begin with; the generation that writes the file comes next.
const TEMPORARY: &str = ".temporary-";

/// Bytes gathered before a write to the file system.
const BUFFER_BYTES: usize = 256 * 1024;

/// Whether a new file got its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// It has the name now.
    New,
    /// Something had the name before and is untouched.
    AlreadyThere,
}

/// Writes a file with `write`, fsyncs it and gives it the name `dir/name` if nothing has it.
///
/// The name is durable after the next [`sync_folder`]. On failure nothing is left behind, as far as the disk lets us.
///
/// # Errors
/// [`Error::Io`], naming the file.
pub(super) fn create(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    generation: u64,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Created, Error> {
    let target = dir.join(name);
    let temporary = dir.join(format!("{TEMPORARY}{generation}-{name}"));
    let written = disk.create(&temporary).and_then(|file| {
        let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, file);
        write(&mut buffered)?;
        let mut file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        if mutation::on(Mutation::ContentsNotSynced) {
            return Ok(());
        }
        file.sync()
    });
    failpoint::reach("checkpoint-file-written");
    let created = written.map_err(Error::io("write", &target)).and_then(|()| publish(disk, &temporary, &target));
    failpoint::reach("checkpoint-file-named");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound && created.is_ok() => {
            Err(Error::io("remove", &temporary)(error))
        }
        _ => created,
    }
}

/// Whether a file of this name was not written to its end, by whatever process.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Gives the file `temporary` the name `target` if nothing has it.
fn publish(disk: &dyn Disk, temporary: &Path, target: &Path) -> Result<Created, Error> {
    if mutation::on(Mutation::PublishOverExisting) {
        disk.rename(temporary, target).map_err(Error::io("rename", target))?;
        return Ok(Created::New);
    }
    match disk.link(temporary, target) {
        Ok(()) => Ok(Created::New),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::AlreadyThere),
        // Some file systems (FAT, some network and container mounts) know no hard links and answer EPERM or
        // ENOTSUP. There the folder's lock alone keeps a second writer out between the look and the rename.
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {
            if disk.length(target).map_err(Error::io("look for", target))?.is_some() {
                return Ok(Created::AlreadyThere);
            }
            disk.rename(temporary, target).map_err(Error::io("rename", target))?;
            Ok(Created::New)
        }
        Err(error) => Err(Error::io("publish", target)(error)),
    }
}

/// Makes the names in a folder durable.
///
/// # Errors
/// [`Error::Io`], naming the folder.
pub(super) fn sync_folder(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    if mutation::on(Mutation::ManifestNotSynced) {
        return Ok(());
    }
    disk.sync(dir).map_err(Error::io("fsync", dir))
}

/// The generation that was writing this temporary file; `None` when it is no such file.
pub(super) fn temporary_of(name: &str) -> Option<u64> {
    name.strip_prefix(TEMPORARY)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use std::fs;

    #[test]
    fn an_existing_file_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        let created = create(&RealDisk, dir.path(), "a", 1, |file| file.write_all(b"new")).unwrap();
        assert_eq!(created, Created::AlreadyThere);
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let full = |_: &mut dyn Write| Err(io::Error::from(ErrorKind::StorageFull));
        let error = create(&RealDisk, dir.path(), "a", 1, full).unwrap_err();
        assert!(error.is_disk_full());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn temporary_names_tell_their_generation() {
        assert_eq!(temporary_of(".temporary-12-manifest-3.json"), Some(12));
        assert_eq!(temporary_of("manifest-3.json"), None);
        assert_eq!(temporary_of(".temporary-x"), None);
    }
}
