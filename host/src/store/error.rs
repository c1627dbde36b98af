//! What can go wrong with a checkpoint, each with the file and what a person can do.

use std::io;
use std::path::{Path, PathBuf};

use wasmill_pipeline::error::Class;

/// An error of the checkpoint store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process owns the checkpoint now; nothing was published.
    #[error("another process took over the checkpoint: {reason}, path={}", .path.display())]
    Fenced {
        /// The file that shows it.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// The lock is held by another process and the caller stopped waiting.
    #[error("the checkpoint is in use by {holder}, path={}", .path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who holds it, as that process wrote it.
        holder: String,
    },
    /// A file is not what was written.
    #[error(
        "a checkpoint file is damaged: {reason}; restore it from a backup, or start an isolated run with another \
         RUN_ID, path={}", .path.display()
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A later release of wasmill wrote the checkpoint.
    #[error(
        "the checkpoint has format {found} and this release reads up to {supported}; use the release that wrote it, \
         path={}", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format this release reads.
        supported: u32,
    },
    /// The checkpoint was made by a pipeline whose state does not fit this one.
    #[error(
        "the checkpoint holds the state of another pipeline: {}; change it back to go on from there, or set RUN_ID for a \
         checkpoint of its own, which begins at source.start; all but the topic and the aggregates' names, windows, keys and \
         allowed_lateness may be changed at any time; path={}", .changes.join("; "), .path.display()
    )]
    Foreign {
        /// The checkpoint folder.
        path: PathBuf,
        /// What differs, a sentence each.
        changes: Vec<String>,
    },
    /// A component that was asked for is not kept, or it is not clear which is meant.
    #[error("no such plugin: {problem}, digest={digest}, path={}", .path.display())]
    NoPlugin {
        /// The plugin store.
        path: PathBuf,
        /// The digest, or its beginning, as it was asked for.
        digest: String,
        /// What is wrong with it, and what there is.
        problem: String,
    },
    /// The file system refused.
    #[error("cannot {action} a checkpoint file, path={}", .path.display())]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The caller broke the store's contract.
    #[error("internal error: {0}")]
    Bug(String),
}

impl Error {
    /// What the driver does about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Fenced { .. } | Self::Held { .. } => Class::Fenced,
            Self::Corrupt { .. } => Class::Corrupt,
            Self::Newer { .. } | Self::Foreign { .. } | Self::NoPlugin { .. } => Class::Config,
            // A full, read-only, forbidden or failing disk: a person can make room, and the run goes on.
            Self::Io { .. } => Class::Unavailable,
            Self::Bug(_) => Class::Bug,
        }
    }

    /// Whether the disk is full, as opposed to away or forbidden.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Wraps an I/O error of `action` on `path`; for `map_err`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// A damaged file.
    pub(super) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.into() }
    }
}
