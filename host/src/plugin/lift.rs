//! A guest's answers as Arrow arrays: every length, offset, index and byte of text checked, no row copied.

use super::bindings::{wit, wit_generator_types};
use arrow_array::types::UInt32Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use std::sync::Arc;
use wasmill_pipeline::plugin::{DataType, Encoding, Field};

/// Columns of an answer that has `rows` rows, as `fields` promised them.
///
/// # Errors
/// A sentence that says which column breaks the contract, and how.
pub(super) fn columns(fields: &[Field], columns: Vec<wit::ColumnResult>, rows: usize) -> Result<Vec<ArrayRef>, String> {
    if columns.len() != fields.len() {
        return Err(format!("the answer has {} columns; the description says {}", columns.len(), fields.len()));
    }
    fields
        .iter()
        .zip(columns)
        .map(|(field, answer)| column(field, answer, rows).map_err(|wrong| format!("column `{}` {wrong}", field.name)))
        .collect()
}

/// The inputs (of which there are `inputs`) that the `rows` rows of an answer came from.
///
/// # Errors
/// A sentence that says how they break the contract.
pub(super) fn origins(origins: Option<&[u32]>, rows: usize, inputs: usize) -> Result<(), String> {
    let Some(origins) = origins else {
        return if rows == inputs {
            Ok(())
        } else {
            Err(format!(
                "the answer has {rows} rows and no origins; without them there is one row for each of {inputs}"
            ))
        };
    };
    if origins.len() != rows {
        return Err(format!("the answer has {rows} rows, but {} origins", origins.len()));
    }
    if !origins.is_sorted() {
        return Err("the origins decrease".to_owned());
    }
    match origins.last() {
        Some(&last) if last as usize >= inputs => Err(format!("a row comes from {last}; there are {inputs}")),
        _ => Ok(()),
    }
}

/// Byte strings, `wanted` of them, none null.
///
/// # Errors
/// A sentence that says how they break the contract.
pub(super) fn binary(answer: impl Into<Varlen>, wanted: usize) -> Result<BinaryArray, String> {
    let (offsets, bytes) = answer.into().checked()?;
    if offsets.len() - 1 != wanted {
        return Err(format!("has {} values; wanted {wanted}", offsets.len() - 1));
    }
    BinaryArray::try_new(offsets, bytes, None).map_err(|error| error.to_string())
}

/// Byte strings as a guest gave them.
pub(super) struct Varlen {
    offsets: Vec<u32>,
    bytes: Vec<u8>,
}

impl From<wit::VarlenResult> for Varlen {
    fn from(answer: wit::VarlenResult) -> Self {
        Self { offsets: answer.offsets, bytes: answer.bytes }
    }
}

impl From<wit_generator_types::Varlen> for Varlen {
    fn from(answer: wit_generator_types::Varlen) -> Self {
        Self { offsets: answer.offsets, bytes: answer.bytes }
    }
}

impl Varlen {
    /// The same memory as Arrow's buffers.
    fn checked(self) -> Result<(OffsetBuffer<i32>, Buffer), String> {
        let Self { offsets, bytes } = self;
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
            return Err("has no offsets; even without values there is one".to_owned());
        };
        if first != 0 {
            return Err(format!("has a first offset of {first}; wanted 0"));
        }
        if last as usize != bytes.len() {
            return Err(format!("has a last offset of {last}, and {} bytes", bytes.len()));
        }
        if i32::try_from(last).is_err() {
            return Err(format!("has {last} bytes; at most {}", i32::MAX));
        }
        if !offsets.is_sorted() {
            return Err("has offsets that decrease".to_owned());
        }
        // All are at most `last`, which an i32 holds, so they read the same with a sign.
        let count = offsets.len();
        let offsets = ScalarBuffer::<i32>::new(Buffer::from_vec(offsets), 0, count);
        Ok((OffsetBuffer::new(offsets), Buffer::from_vec(bytes)))
    }

    /// As an array of texts or bytes; `None` where the type is neither.
    fn array(self, data_type: DataType, nulls: Option<NullBuffer>, rows: usize) -> Result<ArrayRef, String> {
        let (offsets, bytes) = self.checked()?;
        check_rows(offsets.len() - 1, rows)?;
        let array: Result<ArrayRef, _> = if data_type == DataType::Utf8 {
            StringArray::try_new(offsets, bytes, nulls).map(|array| Arc::new(array) as ArrayRef)
        } else {
            BinaryArray::try_new(offsets, bytes, nulls).map(|array| Arc::new(array) as ArrayRef)
        };
        array.map_err(|error| format!("is not valid: {error}"))
    }
}

fn column(field: &Field, answer: wit::ColumnResult, rows: usize) -> Result<ArrayRef, String> {
    let nulls = answer.validity.map(|bits| validity(bits, rows)).transpose()?.filter(|nulls| nulls.null_count() > 0);
    if let Some(nulls) = nulls.as_ref().filter(|_| !field.nullable) {
        return Err(format!("has {} nulls; it is declared never to", nulls.null_count()));
    }
    let kind = kind(&answer.values);
    match (field.encoding, field.data_type, answer.values) {
        (Encoding::Plain, DataType::Boolean, wit::ValuesResult::Boolean(bits)) => {
            Ok(Arc::new(BooleanArray::new(bitmap(bits, rows)?, nulls)))
        }
        (Encoding::Plain, DataType::Int64, wit::ValuesResult::Int64(values)) => {
            check_rows(values.len(), rows)?;
            Ok(Arc::new(Int64Array::new(values.into(), nulls)))
        }
        (Encoding::Plain, DataType::Float64, wit::ValuesResult::Float64(values)) => {
            check_rows(values.len(), rows)?;
            Ok(Arc::new(Float64Array::new(values.into(), nulls)))
        }
        (Encoding::Plain, DataType::Timestamp, wit::ValuesResult::Timestamp(values)) => {
            check_rows(values.len(), rows)?;
            Ok(Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC")))
        }
        (Encoding::Plain, data_type @ DataType::Utf8, wit::ValuesResult::Utf8(values))
        | (Encoding::Plain, data_type @ DataType::Binary, wit::ValuesResult::Binary(values)) => {
            Varlen::from(values).array(data_type, nulls, rows)
        }
        (Encoding::Dictionary, data_type, wit::ValuesResult::Dictionary(dictionary)) => {
            lift_dictionary(data_type, dictionary, nulls, rows)
        }
        (encoding, data_type, _) => Err(format!("is {kind}; declared {data_type:?} in encoding {encoding:?}")),
    }
}

fn lift_dictionary(
    data_type: DataType,
    answer: wit::DictionaryResult,
    nulls: Option<NullBuffer>,
    rows: usize,
) -> Result<ArrayRef, String> {
    let wit::DictionaryResult { indices, values } = answer;
    check_rows(indices.len(), rows)?;
    let distinct = values.offsets.len().saturating_sub(1);
    let values = Varlen::from(values).array(data_type, None, distinct)?;
    // Index 0 of a null row needs no value; any other index does, null or not, so that nobody reads past the end.
    if let Some(&largest) = indices.iter().max()
        && largest as usize >= distinct.max(1)
    {
        return Err(format!("has index {largest}; there are {distinct} values"));
    }
    let keys = UInt32Array::new(indices.into(), nulls);
    let array = DictionaryArray::<UInt32Type>::try_new(keys, values);
    array.map(|array| Arc::new(array) as ArrayRef).map_err(|error| format!("is not valid: {error}"))
}

fn validity(bits: Vec<u8>, rows: usize) -> Result<NullBuffer, String> {
    bitmap(bits, rows).map(NullBuffer::new).map_err(|wrong| format!("has a validity that {wrong}"))
}

fn bitmap(bits: Vec<u8>, rows: usize) -> Result<BooleanBuffer, String> {
    if bits.len() == rows.div_ceil(8) {
        Ok(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows))
    } else {
        Err(format!("has {} bytes of bits; {rows} rows take {}", bits.len(), rows.div_ceil(8)))
    }
}

fn check_rows(has: usize, rows: usize) -> Result<(), String> {
    if has == rows { Ok(()) } else { Err(format!("has {has} rows; the answer has {rows}")) }
}

fn kind(values: &wit::ValuesResult) -> &'static str {
    match values {
        wit::ValuesResult::Boolean(_) => "boolean",
        wit::ValuesResult::Int64(_) => "int64",
        wit::ValuesResult::Float64(_) => "float64",
        wit::ValuesResult::Timestamp(_) => "timestamp",
        wit::ValuesResult::Utf8(_) => "utf8",
        wit::ValuesResult::Binary(_) => "binary",
        wit::ValuesResult::Dictionary(_) => "a dictionary",
        wit::ValuesResult::Hash(_) => "a hash",
    }
}

#[cfg(test)]
mod tests;
