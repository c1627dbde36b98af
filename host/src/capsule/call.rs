//! The call of a capsule: from the pipeline's arrays to plain values, and back.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    UInt64Array,
};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use wasmill_pipeline::fault::FaultyCall;
use wasmill_pipeline::plugin::Field;
use wasmill_pipeline::record::RawBatch;

/// What was asked of the plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// `parse` of one record.
    Parse(Record),
    /// `update` of one slot.
    Update {
        /// Its state before; `None` = a new slot.
        state: Option<State>,
        /// The plugin's inputs, all of the same length.
        inputs: Vec<Column>,
    },
    /// `finish` of one slot.
    Finish {
        /// Its state before.
        state: State,
        /// What the plugin is told of the window, one row each.
        context: Vec<Column>,
    },
}

/// A record, but for its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The broker's timestamp, µs since the Unix epoch.
    pub broker_time_us: i64,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The payload; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// One slot's state, as the plugin's `snapshot` gave it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of the encoding.
    pub version: u32,
    /// The encoded state.
    pub bytes: Bytes,
}

/// One column of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// What the plugin calls it.
    pub name: String,
    /// One value per row.
    pub values: Values,
}

/// The values of a column, by what they are; dictionaries are written out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// Arrow `Boolean`.
    Boolean(Vec<Option<bool>>),
    /// Arrow `Int64`.
    Int64(Vec<Option<i64>>),
    /// Arrow `Float64`, in the shortest text that gives the same number: JSON has neither NaN nor infinities.
    Float64(Vec<Option<String>>),
    /// µs since the Unix epoch.
    Timestamp(Vec<Option<i64>>),
    /// XXH3-64 of the values.
    Hash(Vec<Option<u64>>),
    /// Arrow `Utf8`.
    Utf8(Vec<Option<String>>),
    /// Arrow `Binary`.
    Binary(Vec<Option<Bytes>>),
}

/// Bytes, written as text where they are UTF-8, which payloads mostly are, else as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Bytes(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Text(String),
    Hex(String),
}

impl From<Bytes> for Written {
    fn from(bytes: Bytes) -> Self {
        String::from_utf8(bytes.0).map_or_else(|error| Self::Hex(hex(error.as_bytes())), Self::Text)
    }
}

impl TryFrom<Written> for Bytes {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Text(text) => Ok(Self(text.into_bytes())),
            Written::Hex(digits) => unhex(&digits).map(Self).ok_or("bytes that are not pairs of hexadecimal digits"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: &u8| char::from(*digit).to_digit(16).map(|nibble| nibble as u8);
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

impl Call {
    /// The call that the pipeline reports. `columns` are the names of the inputs, or of the context.
    ///
    /// # Errors
    /// For columns of types that no plugin's input has.
    pub fn new(call: &FaultyCall, names: &[String]) -> Result<Self, ArrowError> {
        let state = |&(version, ref bytes): &(u32, Vec<u8>)| State { version, bytes: Bytes(bytes.clone()) };
        let columns = |arrays: &[ArrayRef]| {
            names.iter().zip(arrays).map(|(name, array)| column(name, array)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match call {
            FaultyCall::Parse { record } => Self::Parse(Record {
                broker_time_us: record.broker_times_us.first().copied().unwrap_or_default(),
                key: first(&record.keys),
                value: first(&record.values),
            }),
            FaultyCall::Update { state: before, inputs } => {
                Self::Update { state: before.as_ref().map(state), inputs: columns(inputs)? }
            }
            FaultyCall::Finish { state: before, context } => {
                Self::Finish { state: state(before), context: columns(context)? }
            }
        })
    }

    /// What it is called in the contract.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Parse(_) => "parse",
            Self::Update { .. } => "update",
            Self::Finish { .. } => "finish",
        }
    }

    /// Its parts, by name, as bytes.
    pub(super) fn parts(&self) -> Vec<(String, Vec<u8>)> {
        let state = |state: &State| ("state".to_owned(), state.bytes.0.clone());
        let column = |column: &Column| (column.name.clone(), json(&column.values));
        match self {
            Self::Parse(record) => {
                let parts = [("key", &record.key), ("value", &record.value)];
                let part = |(name, bytes): (&str, &Option<Bytes>)| Some((name.to_owned(), bytes.clone()?.0));
                parts.into_iter().filter_map(part).collect()
            }
            Self::Update { state: before, inputs } => {
                before.iter().map(state).chain(inputs.iter().map(column)).collect()
            }
            Self::Finish { state: before, context } => {
                std::iter::once(state(before)).chain(context.iter().map(column)).collect()
            }
        }
    }
}

/// A value of a capsule as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("a capsule has text keys and finite numbers only")
}

fn first(array: &BinaryArray) -> Option<Bytes> {
    array.iter().next().flatten().map(|bytes| Bytes(bytes.to_vec()))
}

fn column(name: &str, array: &ArrayRef) -> Result<Column, ArrowError> {
    let plain = match array.data_type() {
        DataType::Dictionary(_, values) => arrow_cast::cast(array, values)?,
        _ => array.clone(),
    };
    let values = match plain.data_type() {
        DataType::Boolean => Values::Boolean(plain.as_boolean().iter().collect()),
        DataType::Int64 => Values::Int64(plain.as_primitive::<Int64Type>().iter().collect()),
        DataType::Float64 => {
            let text = |number: Option<f64>| number.map(|number| format!("{number:?}"));
            Values::Float64(plain.as_primitive::<Float64Type>().iter().map(text).collect())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Values::Timestamp(plain.as_primitive::<TimestampMicrosecondType>().iter().collect())
        }
        DataType::UInt64 => Values::Hash(plain.as_primitive::<UInt64Type>().iter().collect()),
        DataType::Utf8 => Values::Utf8(plain.as_string::<i32>().iter().map(|v| v.map(str::to_owned)).collect()),
        DataType::Binary => {
            Values::Binary(plain.as_binary::<i32>().iter().map(|v| v.map(|bytes| Bytes(bytes.to_vec()))).collect())
        }
        other => return Err(ArrowError::NotYetImplemented(format!("input `{name}` is {other}"))),
    };
    Ok(Column { name: name.to_owned(), values })
}

impl Record {
    /// The record as a batch of its own.
    pub fn batch(&self, origin: (i32, i64)) -> RawBatch {
        let one = |bytes: &Option<Bytes>| BinaryArray::from_iter([bytes.as_ref().map(|bytes| &bytes.0)]);
        RawBatch {
            partition: origin.0,
            offsets: vec![origin.1],
            broker_times_us: vec![self.broker_time_us],
            // A parser is not told.
            appended: vec![false],
            values: one(&self.value),
            keys: one(&self.key),
        }
    }
}

impl Column {
    /// Finds the columns that a plugin wants, and gives how many rows they have: `rows` where it wants none.
    ///
    /// # Errors
    /// A sentence, where one is missing, is of another type, or has another length.
    pub fn arrays(columns: &[Self], wanted: &[Field]) -> Result<(Vec<ArrayRef>, usize), String> {
        let rows = columns.first().map_or(1, |column| column.values.len());
        let find = |field: &Field| {
            let column = columns.iter().find(|column| column.name == field.name);
            let column = column.ok_or_else(|| format!("the capsule has no column `{}`", field.name))?;
            if column.values.len() != rows {
                return Err(format!("column `{}` has {} rows; others have {rows}", field.name, column.values.len()));
            }
            column.values.array(field).map_err(|wrong| format!("column `{}` {wrong}", field.name))
        };
        Ok((wanted.iter().map(find).collect::<Result<_, _>>()?, rows))
    }
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Boolean(values) => values.len(),
            Self::Int64(values) | Self::Timestamp(values) => values.len(),
            Self::Float64(values) | Self::Utf8(values) => values.len(),
            Self::Hash(values) => values.len(),
            Self::Binary(values) => values.len(),
        }
    }

    /// The values as `field` says they travel.
    fn array(&self, field: &Field) -> Result<ArrayRef, String> {
        let plain: ArrayRef = match self {
            Self::Boolean(values) => Arc::new(BooleanArray::from(values.clone())),
            Self::Int64(values) => Arc::new(Int64Array::from(values.clone())),
            Self::Float64(values) => {
                let number = |text: &Option<String>| text.as_deref().map(str::parse::<f64>).transpose();
                let numbers = values.iter().map(number).collect::<Result<Vec<_>, _>>();
                Arc::new(Float64Array::from(numbers.map_err(|error| format!("has a number that is none: {error}"))?))
            }
            Self::Timestamp(values) => Arc::new(TimestampMicrosecondArray::from(values.clone()).with_timezone("UTC")),
            Self::Hash(values) => Arc::new(UInt64Array::from(values.clone())),
            Self::Utf8(values) => Arc::new(values.iter().map(Option::as_deref).collect::<StringArray>()),
            Self::Binary(values) => {
                let bytes = values.iter().map(|value| value.as_ref().map(|bytes| &bytes.0));
                Arc::new(bytes.collect::<BinaryArray>())
            }
        };
        let wanted = field.arrow_type();
        let array = match &wanted {
            DataType::Dictionary(_, values) if **values == *plain.data_type() => {
                arrow_cast::cast(&plain, &wanted).map_err(|error| error.to_string())?
            }
            _ => plain,
        };
        if array.data_type() == &wanted {
            Ok(array)
        } else {
            Err(format!("is {}; the plugin wants {wanted}", array.data_type()))
        }
    }
}
