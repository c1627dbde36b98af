//! The check of what a manifest says of files, open to fuzzing.

use super::{Result, SinkCut};

/// What recovery checks before it touches any file.
///
/// # Errors
/// As for a manifest on the disk.
pub fn check(cut: &SinkCut) -> Result<()> {
    cut.finished.iter().try_for_each(super::StagedFile::check)?;
    cut.open.iter().try_for_each(super::OpenFile::check)
}
