//! Events: parsed rows with their times and origins, one batch of one partition at a time.

use crate::plan::{AggregatePlan, Plan, Source};
use crate::plugin::{Encoding, timestamp_type};
use arrow_array::builder::{BinaryDictionaryBuilder, StringDictionaryBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{
    Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use arrow_buffer::ScalarBuffer;
use arrow_schema::{ArrowError, DataType as Arrow};
use std::collections::HashMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// When each row of a batch happened, and how far its partition had come before it.
#[derive(Debug)]
pub struct Times {
    /// Event times, µs.
    pub events: ScalarBuffer<i64>,
    /// The partition's watermark just before each row.
    pub watermarks: Vec<i64>,
}

/// Where the rows of a batch come from.
#[derive(Debug)]
pub struct Origins {
    /// Their partition.
    pub partition: i32,
    /// The offset of each row's record, never decreasing.
    pub offsets: Vec<i64>,
}

/// Parsed rows of one partition.
#[derive(Debug)]
pub struct EventBatch {
    /// The parser's columns.
    pub columns: Vec<ArrayRef>,
    /// When they happened.
    pub times: Arc<Times>,
    /// Where they come from.
    pub origins: Arc<Origins>,
}

impl EventBatch {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.origins.offsets.len()
    }

    /// The effective event times as a column.
    pub fn event_time(&self) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::new(self.times.events.clone(), None).with_data_type(timestamp_type()))
    }

    /// The rows as the raw output has them.
    ///
    /// # Errors
    /// Where the columns are not those of the plan.
    pub fn to_raw(&self, plan: &Plan) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(plan.raw_schema.clone(), self.raw_columns(plan))
    }

    fn raw_columns(&self, plan: &Plan) -> Vec<ArrayRef> {
        let rows = self.rows();
        let mut columns = self.columns.clone();
        columns.push(self.event_time());
        columns.push(constant_text(&plan.topic, rows));
        columns.push(Arc::new(Int32Array::from_value(self.origins.partition, rows)));
        columns.push(Arc::new(Int64Array::from(self.origins.offsets.clone())));
        columns
    }

    /// The given rows as an aggregate's late output has them: `missed[i]` is the window row `rows[i]` came too late for.
    ///
    /// # Errors
    /// Where the columns are not those of the plan.
    pub fn to_late(&self, plan: &Plan, late: &LateRows) -> Result<RecordBatch, ArrowError> {
        let rows = UInt32Array::from(late.rows.clone());
        let mut columns = Vec::with_capacity(plan.late_schema.fields().len());
        for column in self.raw_columns(plan) {
            columns.push(arrow_select::take::take(&column, &rows, None)?);
        }
        for instants in [&late.window_starts, &late.window_ends] {
            columns.push(Arc::new(TimestampMicrosecondArray::from(instants.clone()).with_data_type(timestamp_type())));
        }
        columns.push(Arc::new(Int64Array::from(late.late_by_us.clone())));
        RecordBatch::try_new(plan.late_schema.clone(), columns)
    }
}

/// Rows of a batch that were too late for an aggregate. All parts have one entry per such row.
#[derive(Debug, Default)]
pub struct LateRows {
    /// Their numbers in the batch.
    pub rows: Vec<u32>,
    /// The start of the newest window missed.
    pub window_starts: Vec<i64>,
    /// Its exclusive end.
    pub window_ends: Vec<i64>,
    /// By how much the partition's watermark had passed the last moment it was taken.
    pub late_by_us: Vec<i64>,
}

fn constant_text(text: &str, rows: usize) -> ArrayRef {
    let values = Arc::new(StringArray::from(vec![text]));
    let keys = UInt32Array::from_value(0, rows);
    Arc::new(arrow_array::DictionaryArray::new(keys, values))
}

/// The columns of a batch in the encodings that aggregates ask for, each made once.
pub struct Encoded<'a> {
    batch: &'a EventBatch,
    made: HashMap<(usize, Encoding), ArrayRef>,
    event_time: Option<ArrayRef>,
}

impl<'a> Encoded<'a> {
    /// Of this batch.
    pub fn new(batch: &'a EventBatch) -> Self {
        Self { batch, made: HashMap::new(), event_time: None }
    }

    /// An aggregate's inputs.
    ///
    /// # Errors
    /// Where a column cannot be encoded so, which the plan rules out.
    pub fn inputs(&mut self, of: &AggregatePlan) -> Result<Vec<ArrayRef>, ArrowError> {
        of.inputs
            .iter()
            .map(|&(source, encoding)| match source {
                Source::EventTime => Ok(self.event_time.get_or_insert_with(|| self.batch.event_time()).clone()),
                Source::Column(index) => self.column(index, encoding),
            })
            .collect()
    }

    fn column(&mut self, index: usize, encoding: Encoding) -> Result<ArrayRef, ArrowError> {
        if let Some(made) = self.made.get(&(index, encoding)) {
            return Ok(made.clone());
        }
        let made = encode(&self.batch.columns[index], encoding)?;
        self.made.insert((index, encoding), made.clone());
        Ok(made)
    }
}

fn encode(column: &ArrayRef, encoding: Encoding) -> Result<ArrayRef, ArrowError> {
    match (encoding, column.data_type()) {
        (Encoding::Hash, _) => Ok(hashes(column)),
        (Encoding::Plain, Arrow::Dictionary(..)) => {
            let dictionary = column.as_dictionary::<UInt32Type>();
            arrow_select::take::take(dictionary.values(), dictionary.keys(), None)
        }
        (Encoding::Dictionary, Arrow::Utf8) => {
            let mut builder = StringDictionaryBuilder::<UInt32Type>::new();
            for value in column.as_string::<i32>() {
                builder.append_option(value);
            }
            Ok(Arc::new(builder.finish()))
        }
        (Encoding::Dictionary, Arrow::Binary) => {
            let mut builder = BinaryDictionaryBuilder::<UInt32Type>::new();
            for value in column.as_binary::<i32>() {
                builder.append_option(value);
            }
            Ok(Arc::new(builder.finish()))
        }
        _ => Ok(column.clone()),
    }
}

/// XXH3-64 of each value's bytes; a null stays null.
fn hashes(column: &ArrayRef) -> ArrayRef {
    let values: ScalarBuffer<u64> = match column.data_type() {
        Arrow::Dictionary(..) => {
            let dictionary = column.as_dictionary::<UInt32Type>();
            let of_values = hashes(dictionary.values());
            let of_values = of_values.as_primitive::<arrow_array::types::UInt64Type>().values().clone();
            dictionary.keys().values().iter().map(|&k| of_values.get(k as usize).copied().unwrap_or(0)).collect()
        }
        Arrow::Utf8 => {
            let texts = column.as_string::<i32>();
            (0..texts.len()).map(|i| xxh3_64(texts.value(i).as_bytes())).collect()
        }
        _ => {
            let bytes = column.as_binary::<i32>();
            (0..bytes.len()).map(|i| xxh3_64(bytes.value(i))).collect()
        }
    };
    Arc::new(UInt64Array::new(values, column.nulls().cloned()))
}
