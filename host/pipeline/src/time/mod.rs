//! Event time: how far each partition has come, and what that makes too late.
//!
//! All instants are µs since the Unix epoch in `i64`. `i64::MIN` as a watermark means "nothing seen yet".

pub mod ending;
pub mod lateness;
pub mod reach;
pub mod row;
pub mod silence;
pub mod text;
pub mod trust;
pub mod watermark;

/// A watermark before anything was seen: nothing is late, nothing closes.
pub const NOTHING_SEEN: i64 = i64::MIN;
