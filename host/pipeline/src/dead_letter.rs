//! Dead letters: records that were set aside, and why.

use serde::{Deserialize, Serialize};

/// Why a record was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The parser: the bytes are not the format at all.
    Malformed,
    /// The parser: a field that must be there is not.
    Missing,
    /// The parser: a field has a value that cannot be.
    Invalid,
    /// The parser: well formed, but of a version or kind it does not know.
    Unsupported,
    /// The event time lies more than `max_ahead` after the broker's timestamp.
    TooFarAhead,
    /// The parser trapped, ran out of time or memory, or broke its contract on this record alone.
    PluginFault,
}

impl Reason {
    /// Every reason, in the order of its code.
    pub const ALL: [Self; 6] =
        [Self::Malformed, Self::Missing, Self::Invalid, Self::Unsupported, Self::TooFarAhead, Self::PluginFault];

    /// The word used in files, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::TooFarAhead => "too_far_ahead",
            Self::PluginFault => "plugin_fault",
        }
    }
}

/// One record that was set aside, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record's partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// The broker's timestamp, µs since the Unix epoch.
    pub broker_time_us: i64,
    /// Why.
    pub reason: Reason,
    /// For people: what was wrong, at most 256 bytes.
    pub message: String,
    /// The record's key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The record's payload, whole.
    pub value: Option<Vec<u8>>,
}
