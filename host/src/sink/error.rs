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
            Self::Corrupt { .. } => Class::Corrupt,
            Self::Stopped(class) => *class,
        }
    }

    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_path_buf(), source }
    }

    pub(super) fn parquet(path: &Path) -> impl FnOnce(ParquetError) -> Self {
        move |source| Self::Parquet { path: path.to_path_buf(), source }
    }

    pub(super) fn csv(path: &Path) -> impl FnOnce(csv::Error) -> Self {
        move |error| {
            let source = match error.into_kind() {
                csv::ErrorKind::Io(source) => source,
                other => io::Error::other(format!("{other:?}")),
            };
            Self::Io { doing: "write rows", path: path.to_path_buf(), source }
        }
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
    fn a_full_disk_is_seen_through_the_encoders() {
        let full = || io::Error::from_raw_os_error(28);
        assert_eq!(Error::parquet(Path::new("x"))(ParquetError::from(full())).class(), Class::Unavailable);
        assert_eq!(Error::csv(Path::new("x"))(csv::Error::from(full())).class(), Class::Unavailable);
    }
}
