//! The only clock: wall time, for idle partitions, file names and people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, µs since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}
