//! The lock of a checkpoint folder: one process at a time, the others wait and can say for whom.

use crate::shown::shown;
use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::Error;
use crate::disk::{Disk, Lock};

/// The lock's file name.
pub(super) const NAME: &str = "LOCK";

/// How often a waiting process tries again: short beside a restart, and nothing for the disk.
const RETRY: Duration = Duration::from_millis(100);

/// How often a waiting process says so.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// How much of a lock file is read: an honest one is far shorter.
const HOLDER_BYTES: u64 = 200;

/// Takes the lock of the file `path`, waiting as long as another process has it. Dropping it gives it back.
///
/// `on_wait` gets the holder at once and then every two seconds; `Break` ends the waiting.
///
/// # Errors
/// [`Error::Held`] when `on_wait` broke off, [`Error::Io`].
pub(super) fn acquire(
    disk: &dyn Disk,
    path: &Path,
    on_wait: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Lock, Error> {
    let mut told: Option<Instant> = None;
    loop {
        if let Some(lock) = disk.lock(path, &who()).map_err(Error::io("lock", path))? {
            return Ok(lock);
        }
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            let holder = read_holder(disk, path);
            if on_wait(&holder).is_break() {
                return Err(Error::Held { path: path.to_owned(), holder });
            }
        } else {
            std::thread::sleep(RETRY);
        }
    }
}

/// Who holds the lock, made safe to print.
fn read_holder(disk: &dyn Disk, path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = disk.open(path) {
        let _ = file.take(HOLDER_BYTES).read_to_end(&mut bytes);
    }
    let text = shown(&String::from_utf8_lossy(&bytes));
    if text.is_empty() { "an unknown process".into() } else { text }
}

/// This process, for people: pid, host and since when.
pub(super) fn who() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "an unnamed host" } else { host.trim() };
    let now = chrono::DateTime::from_timestamp_micros(crate::clock::now_us()).unwrap_or_default();
    let now = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    format!("pid {} on {host} since {now}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_waiting_process_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let first = acquire(&RealDisk, &dir.path().join(NAME), &mut |_| ControlFlow::Break(())).unwrap();
        let error = acquire(&RealDisk, &dir.path().join(NAME), &mut |_| ControlFlow::Break(())).unwrap_err();
        let me = format!("pid {} on ", std::process::id());
        assert!(matches!(error, Error::Held { holder, .. } if holder.starts_with(&me)));
        drop(first);
    }

    #[test]
    fn the_second_gets_the_lock_when_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Some(acquire(&RealDisk, &dir.path().join(NAME), &mut |_| ControlFlow::Break(())).unwrap());
        let mut waited = 0;
        let second = acquire(&RealDisk, &dir.path().join(NAME), &mut |_| {
            waited += 1;
            first = None;
            ControlFlow::Continue(())
        });
        assert!(second.is_ok());
        assert_eq!(waited, 1);
    }

    #[test]
    fn a_holder_cannot_write_to_the_terminal_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        fs::write(&path, "\x1b[31mpid\n7").unwrap();
        assert_eq!(read_holder(&RealDisk, &path), "\\u{1b}[31mpid\\n7");
    }
}
