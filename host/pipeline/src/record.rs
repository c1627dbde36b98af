//! Records: Kafka's bytes as they came, and where each came from.

use arrow_array::BinaryArray;

/// Up to a few thousand consecutive records of one partition. All parts have one entry per record.
#[derive(Clone, Debug)]
pub struct RawBatch {
    /// The partition they all come from.
    pub partition: i32,
    /// Kafka offsets, ascending; gaps are allowed (compaction, transactions).
    pub offsets: Vec<i64>,
    /// The broker's timestamps, µs since the Unix epoch.
    pub broker_times_us: Vec<i64>,
    /// The payloads; null is a tombstone.
    pub values: BinaryArray,
    /// The record keys; null where a record has none.
    pub keys: BinaryArray,
}

impl RawBatch {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The offset after the last record: what a checkpoint stores. `None` for an empty batch.
    pub fn next_offset(&self) -> Option<i64> {
        self.offsets.last().map(|last| last + 1)
    }

    /// The records `from..to` as a batch of their own.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        Self {
            partition: self.partition,
            offsets: self.offsets[from..to].to_vec(),
            broker_times_us: self.broker_times_us[from..to].to_vec(),
            values: self.values.slice(from, to - from),
            keys: self.keys.slice(from, to - from),
        }
    }
}
