//! Records: Kafka's bytes as they came, and where each came from.

use crate::time::ending::Newest;
use arrow_array::{Array, BinaryArray};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use xxhash_rust::xxh3::Xxh3;

/// The broker's timestamp of a record that has none: Kafka's own -1. Those that are there are whole milliseconds.
pub const NO_TIMESTAMP: i64 = -1;

/// Up to a few thousand consecutive records of one partition. All parts have one entry per record.
#[derive(Clone, Debug)]
pub struct RawBatch {
    /// The partition they all come from.
    pub partition: i32,
    /// Kafka offsets, ascending; gaps are allowed (compaction, transactions).
    pub offsets: Vec<i64>,
    /// The broker's timestamps, µs since the Unix epoch; [`NO_TIMESTAMP`] where a record has none.
    pub broker_times_us: Vec<i64>,
    /// Whether each timestamp is of the broker's own clock (`LogAppendTime`), not of a producer's.
    pub appended: Vec<bool>,
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

    /// The newest broker timestamp, of those that are plausible.
    pub fn newest(&self, plausible_us: &Range<i64>) -> Newest {
        let none = if self.is_empty() { Newest::Nothing } else { Newest::Untimed };
        let plausible = self.broker_times_us.iter().filter(|time| plausible_us.contains(time));
        plausible.max().map_or(none, |&time| Newest::At(time))
    }

    /// The last record as an anchor. `None` for an empty batch.
    pub fn anchor(&self) -> Option<Anchor> {
        self.anchor_of_first(self.len())
    }

    /// The last of the first `records` as an anchor. `None` where these are none.
    pub fn anchor_of_first(&self, records: usize) -> Option<Anchor> {
        let last = records.checked_sub(1)?;
        let bytes = |column: &BinaryArray| column.is_valid(last).then(|| column.value(last).to_vec());
        let (key, value) = (bytes(&self.keys), bytes(&self.values));
        Some(Anchor::new(self.offsets[last], self.broker_times_us[last], key.as_deref(), value.as_deref()))
    }

    /// The records `from..to` as a batch of their own.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> Self {
        Self {
            partition: self.partition,
            offsets: self.offsets[from..to].to_vec(),
            broker_times_us: self.broker_times_us[from..to].to_vec(),
            appended: self.appended[from..to].to_vec(),
            values: self.values.slice(from, to - from),
            keys: self.keys.slice(from, to - from),
        }
    }
}

/// A record by which a partition is known again: one that was made anew under the same name has another there, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Where it is.
    pub offset: i64,
    /// The broker's timestamp, µs since the Unix epoch.
    pub broker_time_us: i64,
    /// XXH3-64 of key and payload.
    pub hash: u64,
}

impl Anchor {
    /// Of a record.
    pub fn new(offset: i64, broker_time_us: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let mut hasher = Xxh3::new();
        for part in [key, value] {
            // With its length, so that no byte can move from the key to the payload; null has one that no bytes have.
            hasher.update(&part.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
            hasher.update(part.unwrap_or_default());
        }
        // A record without a timestamp was once told with the time 0; it is the same record.
        Self { offset, broker_time_us: broker_time_us.max(0), hash: hasher.digest() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_tells_key_payload_and_null_apart() {
        let of = |key: Option<&str>, value: Option<&str>| {
            Anchor::new(7, 0, key.map(str::as_bytes), value.map(str::as_bytes)).hash
        };
        let all = [
            of(None, None),
            of(Some(""), None),
            of(None, Some("")),
            of(Some("a"), Some("b")),
            of(Some("ab"), Some("")),
            of(Some("b"), Some("a")),
        ];
        for (at, hash) in all.iter().enumerate() {
            assert!(!all[..at].contains(hash), "anchor {at}");
        }
    }

    #[test]
    fn a_batch_is_anchored_by_its_last_record() {
        let column = |values: &[Option<&[u8]>]| BinaryArray::from(values.to_vec());
        let batch = RawBatch {
            partition: 0,
            offsets: vec![3, 5],
            broker_times_us: vec![30, 50],
            appended: vec![false; 2],
            values: column(&[Some(b"x"), None]),
            keys: column(&[None, Some(b"k")]),
        };
        assert_eq!(batch.anchor(), Some(Anchor::new(5, 50, Some(b"k"), None)));
        assert_eq!(batch.slice(0, 1).anchor(), Some(Anchor::new(3, 30, None, Some(b"x"))));
        assert_eq!(batch.slice(0, 0).anchor(), None);
    }
}
