//! Builds a batch of records: bytes side by side in Arrow's layout, without an allocation per record.

use arrow_array::BinaryArray;
use arrow_buffer::{Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use rdkafka::Timestamp;
use wasmill_pipeline::record::{NO_TIMESTAMP, RawBatch};

/// Batches end before their bytes could pass what Arrow's 32-bit offsets hold: 1 GiB, plus one record of at most
/// 1,000,000,000 bytes (librdkafka's limit of `message.max.bytes`).
const MOST_BYTES: usize = 1 << 30;

/// What a batch may grow to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// A record's timestamp.
#[derive(Clone, Copy, Debug)]
pub(super) struct BrokerTime {
    /// µs since the Unix epoch; `NO_TIMESTAMP` = the record has none.
    pub(super) us: i64,
    /// Whether it is of the broker's own clock.
    pub(super) appended: bool,
}

impl BrokerTime {
    /// As librdkafka tells it.
    pub(super) fn of(timestamp: Timestamp) -> Self {
        let us = timestamp.to_millis().map_or(NO_TIMESTAMP, |ms| ms.saturating_mul(1000));
        Self { us, appended: matches!(timestamp, Timestamp::LogAppendTime(_)) }
    }
}

/// A batch under construction.
#[derive(Debug)]
pub(super) struct BatchBuilder {
    limits: Limits,
    offsets: Vec<i64>,
    times_us: Vec<i64>,
    appended: Vec<bool>,
    values: Column,
    keys: Column,
}

impl BatchBuilder {
    /// `expected_bytes` is how many bytes of payload to make room for.
    pub(super) fn new(limits: Limits, expected_bytes: usize) -> Self {
        let limits = Limits { records: limits.records.max(1), bytes: limits.bytes.min(MOST_BYTES) };
        let rows = limits.records.min(8192);
        Self {
            limits,
            offsets: Vec::with_capacity(rows),
            times_us: Vec::with_capacity(rows),
            appended: Vec::with_capacity(rows),
            values: Column::new(rows, expected_bytes.min(limits.bytes)),
            keys: Column::new(rows, 0),
        }
    }

    /// Adds one record. Whether the batch is full now.
    pub(super) fn push(&mut self, offset: i64, time: BrokerTime, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
        self.offsets.push(offset);
        self.times_us.push(time.us);
        self.appended.push(time.appended);
        self.values.push(value);
        self.keys.push(key);
        self.offsets.len() >= self.limits.records || self.bytes() >= self.limits.bytes
    }

    /// The bytes of payloads and keys so far.
    pub(super) fn bytes(&self) -> usize {
        self.values.bytes.len() + self.keys.bytes.len()
    }

    pub(super) fn finish(self, partition: i32) -> RawBatch {
        RawBatch {
            partition,
            offsets: fitted(self.offsets),
            broker_times_us: fitted(self.times_us),
            appended: fitted(self.appended),
            values: self.values.finish(),
            keys: self.keys.finish(),
        }
    }
}

#[derive(Debug)]
struct Column {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Column {
    fn new(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(bytes), ends, nulls: NullBufferBuilder::new(rows) }
    }

    fn push(&mut self, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.bytes.extend_from_slice(value);
            self.nulls.append_non_null();
        } else {
            self.nulls.append_null();
        }
        self.ends.push(self.bytes.len() as i32);
    }

    fn finish(mut self) -> BinaryArray {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(fitted(self.ends)));
        BinaryArray::new(offsets, Buffer::from_vec(fitted(self.bytes)), self.nulls.finish())
    }
}

/// Without the room that was made for much more. The last few thousand records are kept for trials, and of a slow stream
/// these are as many batches.
fn fitted<T>(mut values: Vec<T>) -> Vec<T> {
    if values.len() < values.capacity() / 2 {
        values.shrink_to_fit();
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;

    const SMALL: Limits = Limits { records: 3, bytes: 100 };

    fn at(us: i64) -> BrokerTime {
        BrokerTime { us, appended: false }
    }

    #[test]
    fn a_timestamp_that_is_missing_is_not_one_of_1970() {
        let told = [
            (Timestamp::NotAvailable, (NO_TIMESTAMP, false)),
            (Timestamp::CreateTime(-1), (NO_TIMESTAMP, false)),
            (Timestamp::CreateTime(0), (0, false)),
            (Timestamp::LogAppendTime(5), (5_000, true)),
        ];
        for (timestamp, wanted) in told {
            let time = BrokerTime::of(timestamp);
            assert_eq!((time.us, time.appended), wanted, "{timestamp:?}");
        }
    }

    #[test]
    fn a_batch_holds_what_was_pushed() {
        let mut batch = BatchBuilder::new(SMALL, 10);
        assert!(!batch.push(5, at(50), Some(b"k"), Some(b"value")));
        assert!(!batch.push(7, at(70), None, None));
        assert!(batch.push(8, at(80), None, Some(b"")));
        let batch = batch.finish(2);
        assert_eq!((batch.partition, batch.len(), batch.next_offset()), (2, 3, Some(9)));
        assert_eq!(batch.values, BinaryArray::from_opt_vec(vec![Some(b"value".as_slice()), None, Some(b"")]));
        assert_eq!(batch.keys, BinaryArray::from_opt_vec(vec![Some(b"k".as_slice()), None, None]));
    }

    #[test]
    fn a_batch_without_nulls_has_no_null_buffer() {
        let mut batch = BatchBuilder::new(SMALL, 0);
        batch.push(1, at(1), Some(b"a"), Some(b"b"));
        assert!(batch.finish(0).values.nulls().is_none());
    }

    #[test]
    fn a_batch_of_few_records_takes_little_memory() {
        let mut batch = BatchBuilder::new(Limits { records: 4_096, bytes: 1 << 20 }, 1 << 20);
        batch.push(1, at(1), Some(b"key"), Some(b"value"));
        let batch = batch.finish(0);
        assert_eq!((batch.offsets.capacity(), batch.broker_times_us.capacity()), (1, 1));
        assert!(batch.values.get_buffer_memory_size() + batch.keys.get_buffer_memory_size() < 1_000);
    }

    #[test]
    fn bytes_fill_a_batch_too() {
        let mut batch = BatchBuilder::new(SMALL, 0);
        assert!(batch.push(0, at(0), None, Some(&[0; 100])));
    }
}
