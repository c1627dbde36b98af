//! Dead letters: records that were set aside, and why.

use crate::record::RawBatch;
use arrow_array::{Array, BinaryArray};
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
    /// A plugin trapped, ran out of time or memory, or broke its contract on this record alone; or it had done so too
    /// often and was taken out of service.
    PluginFault,
    /// The event has no time of its own, and the broker's timestamp is none that could be meant.
    NoTime,
    /// The event time lies before `time.min`.
    BeforeMin,
    /// The event time cannot be read, and `time.unreadable` asks for no other.
    UnreadableTime,
}

impl Reason {
    /// Every reason, in the order of its code.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Missing,
        Self::Invalid,
        Self::Unsupported,
        Self::TooFarAhead,
        Self::PluginFault,
        Self::NoTime,
        Self::BeforeMin,
        Self::UnreadableTime,
    ];

    /// The word used in files, metrics and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::TooFarAhead => "too_far_ahead",
            Self::PluginFault => "plugin_fault",
            Self::NoTime => "no_time",
            Self::BeforeMin => "before_min",
            Self::UnreadableTime => "unreadable_time",
        }
    }
}

/// A record, or one row of it for an aggregate, that was set aside, with the record's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The aggregate it is kept from, by its place in the plan; `None` = from all, as it became no row.
    pub aggregate: Option<usize>,
    /// The record's partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// The broker's timestamp, µs since the Unix epoch; [`NO_TIMESTAMP`](crate::record::NO_TIMESTAMP) = it has none.
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

impl DeadLetter {
    /// Of record number `record` of a batch, which is kept from all.
    pub fn new(raw: &RawBatch, record: usize, reason: Reason, message: String) -> Self {
        let bytes = |of: &BinaryArray| of.is_valid(record).then(|| of.value(record).to_vec());
        Self {
            aggregate: None,
            partition: raw.partition,
            offset: raw.offsets[record],
            broker_time_us: raw.broker_times_us[record],
            reason,
            message,
            key: bytes(&raw.keys),
            value: bytes(&raw.values),
        }
    }

    /// Of a row whose record has this offset in the batch, which is kept from one aggregate.
    pub fn of_row(raw: &RawBatch, offset: i64, aggregate: usize, message: String) -> Self {
        let record = raw.offsets.binary_search(&offset).expect("a row's record is in the batch it was parsed from");
        Self { aggregate: Some(aggregate), ..Self::new(raw, record, Reason::PluginFault, message) }
    }
}
