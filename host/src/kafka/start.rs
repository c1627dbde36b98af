//! Where to start reading a topic for the first time.

use std::collections::BTreeMap;

/// Where to start reading a topic for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// At the records yet to come.
    Latest,
    /// At the first record whose broker time is at or after this instant, µs since the Unix epoch; at the end where
    /// there is none.
    Timestamp(i64),
    /// At these offsets; partitions not named at the first record there is. -2 = earliest, -1 = latest.
    Offsets(BTreeMap<i32, i64>),
}
