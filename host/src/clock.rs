//! The only clock: wall time, for file names and people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, µs since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// A time as people read it, to the second; µs since the Unix epoch.
pub fn text(us: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(us);
    time.map_or_else(|| format!("{us}us"), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
