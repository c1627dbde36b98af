//! Errors of the sinks, each of a class the driver acts on.

use parquet::errors::ParquetError;
use std::io;
use std::path::{Path, PathBuf};
use wasmill_pipeline::error::Class;

/// What a sink function answers.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the sinks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An output's description cannot be carried out.
    #[error("{problem} output={output}")]
    Config {
        /// The output's name.
        output: String,
        /// What is wrong.
        problem: String,
    },
    /// The file system said no.
    #[error("cannot {doing} path={}", .path.display())]
    Io {
        /// What was being done, as a verb and its object.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// Rows could not be encoded, a file's end not be written, or not be read.
    #[error("cannot encode or decode parquet path={}", .path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The encoder's or decoder's answer.
        source: ParquetError,
    },
    /// Rows are not of the output's schema.
    #[error("rows do not fit: {problem} output={output}")]
    Rows {
        /// The output's name.
        output: String,
        /// What is wrong.
        problem: String,
    },
    /// Files are not as the checkpoint says, or the checkpoint says what cannot be.
    #[error("{problem} file={file}")]
    Corrupt {
        /// The file, relative to the output root, as the checkpoint names it.
        file: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A file in the staging area that the checkpoint needs is not there.
    #[error(
        "a staged file is gone or cut short, and {rows} rows of the checkpoint with it: somebody changed `_staging`, \
         which is part of the checkpoint; put the file back, or begin anew with another RUN_ID and OUTPUT_PATH: that reads \
         all that the topic still has, and what is committed here stays as it is, file={file}"
    )]
    Gone {
        /// The file, relative to the output root, as the checkpoint names it.
        file: String,
        /// How many rows of the checkpoint are in no other file.
        rows: u64,
    },
    /// An earlier error, of this class, ended the life of these writers.
    #[error("writers are stopped by an earlier error")]
    Stopped(Class),
}

impl Error {
    /// What the driver does about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Config { .. } => Class::Config,
            Self::Io { source, .. } => io_class(source),
            Self::Parquet { source: ParquetError::External(inner), .. } => {
                inner.downcast_ref::<io::Error>().map_or(Class::Bug, io_class)
            }
            Self::Parquet { .. } | Self::Rows { .. } => Class::Bug,
            Self::Corrupt { .. } | Self::Gone { .. } => Class::Corrupt,
            Self::Stopped(class) => *class,
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_path_buf(), source }
    }

    pub(super) fn parquet(path: &Path) -> impl FnOnce(ParquetError) -> Self {
        move |source| Self::Parquet { path: path.to_path_buf(), source }
    }

    pub(super) fn gone(file: &str, rows: u64) -> Self {
        Self::Gone { file: file.to_owned(), rows }
    }

    pub(super) fn corrupt(file: &str, problem: &'static str) -> Self {
        Self::Corrupt { file: file.to_owned(), problem }
    }
}

/// `EIO`, which `std` has no `ErrorKind` for.
const EIO: i32 = 5;

/// No room, no permission, a read-only or failing disk: a person can mend these while the process waits.
fn io_class(error: &io::Error) -> Class {
    use io::ErrorKind::{
        FileTooLarge, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StaleNetworkFileHandle,
        StorageFull, TimedOut,
    };
    match error.kind() {
        StorageFull
        | QuotaExceeded
        | FileTooLarge
        | PermissionDenied
        | ReadOnlyFilesystem
        | NotADirectory
        | StaleNetworkFileHandle
        | TimedOut => Class::Unavailable,
        _ if error.raw_os_error() == Some(EIO) => Class::Unavailable,
        _ => Class::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_io(error: io::Error) -> Class {
        Error::io("write", Path::new("x"))(error).class()
    }

    #[test]
    fn a_full_or_failing_disk_is_waited_for() {
        // ENOSPC, EDQUOT, EFBIG, EACCES, EROFS, EIO as Linux numbers them.
        for number in [28, 122, 27, 13, 30, 5] {
            assert_eq!(of_io(io::Error::from_raw_os_error(number)), Class::Unavailable, "errno {number}");
        }
        assert_eq!(of_io(io::Error::from(io::ErrorKind::InvalidData)), Class::Bug);
    }

    #[test]
    fn a_full_disk_is_seen_through_the_encoder() {
        let full = ParquetError::from(io::Error::from_raw_os_error(28));
        assert_eq!(Error::parquet(Path::new("x"))(full).class(), Class::Unavailable);
    }
}
