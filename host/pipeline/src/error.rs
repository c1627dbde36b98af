//! Errors of the pipeline, coarse and each of a class the driver acts on.

use crate::fault::PluginFailure;

/// What the driver does about an error; it looks at nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Refuse to start; exit code 2.
    Config,
    /// Drop the instance, then the fault policy.
    Plugin,
    /// Pause, back off, go on.
    Unavailable,
    /// Another process owns the checkpoint: stop, commit nothing; exit code 3.
    Fenced,
    /// Stop, never guess.
    Corrupt,
    /// Stop, restart from the last checkpoint.
    Bug,
}

/// An error of the pipeline.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline's parts do not fit together; one sentence per mistake.
    #[error("the pipeline does not fit together: {}", .0.join("; "))]
    Config(Vec<String>),
    /// A plugin failed.
    #[error("plugin failed")]
    Plugin(#[from] PluginFailure),
    /// State from a checkpoint cannot be read.
    #[error("checkpoint state cannot be used: {0}")]
    Corrupt(String),
    /// An invariant does not hold.
    #[error("internal error: {0}")]
    Bug(String),
}

/// Columns that the plan has fitted together do fit.
impl From<arrow_schema::ArrowError> for Error {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::Bug(error.to_string())
    }
}

impl Error {
    /// What the driver does about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Config(_) => Class::Config,
            Self::Plugin(_) => Class::Plugin,
            Self::Corrupt(_) => Class::Corrupt,
            Self::Bug(_) => Class::Bug,
        }
    }
}
