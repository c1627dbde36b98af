//! Arrow arrays as the SDK's columns and back: copied on the way in, as into a guest's memory; on the way out the same memory,
//! with what the host checks of a guest's answer checked here, too.

use arrow_array::cast::AsArray;
use arrow_array::types::{ByteArrayType, Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float64Array, GenericByteArray, Int64Array,
    StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use std::sync::Arc;
use wasmill_pipeline::plugin::{DataType, Encoding, Field};
use wasmill_sdk::bindings::types::{Column, Dictionary, Rows, Values, Varlen};

/// These arrays, of `rows` rows each, as `fields` say they travel.
///
/// # Errors
/// A sentence where an array is not of its field.
pub(crate) fn lower(fields: &[Field], arrays: &[ArrayRef], rows: usize) -> Result<Vec<Column>, String> {
    if fields.len() != arrays.len() {
        return Err(format!("is given {} columns; wants {}", arrays.len(), fields.len()));
    }
    fields.iter().zip(arrays).map(|(field, array)| lower_one(field, array, rows)).collect()
}

fn lower_one(field: &Field, array: &ArrayRef, rows: usize) -> Result<Column, String> {
    if array.len() != rows || array.data_type() != &field.arrow_type() {
        return Err(format!("input `{}` is {} rows of {}", field.name, array.len(), array.data_type()));
    }
    let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
    if !field.nullable && nulls.is_some() {
        return Err(format!("input `{}` holds a null, and was promised to hold none", field.name));
    }
    let values = match (field.encoding, field.data_type) {
        (Encoding::Hash, _) => Values::Hash(array.as_primitive::<UInt64Type>().values().to_vec()),
        (Encoding::Dictionary, _) => Values::Dictionary(lower_dictionary(array.as_dictionary(), nulls.as_ref())),
        (Encoding::Plain, DataType::Boolean) => Values::Boolean(bits(array.as_boolean().values())),
        (Encoding::Plain, DataType::Int64) => Values::Int64(array.as_primitive::<Int64Type>().values().to_vec()),
        (Encoding::Plain, DataType::Float64) => Values::Float64(array.as_primitive::<Float64Type>().values().to_vec()),
        (Encoding::Plain, DataType::Timestamp) => {
            Values::Timestamp(array.as_primitive::<TimestampMicrosecondType>().values().to_vec())
        }
        (Encoding::Plain, DataType::Utf8) => Values::Utf8(varlen(array.as_string::<i32>())),
        (Encoding::Plain, DataType::Binary) => Values::Binary(varlen(array.as_binary::<i32>())),
    };
    Ok(Column { values, validity: nulls.map(|nulls| bits(nulls.inner())) })
}

/// Null rows get index 0, which the contract promises.
fn lower_dictionary(array: &DictionaryArray<UInt32Type>, nulls: Option<&NullBuffer>) -> Dictionary {
    let keys = array.keys().values();
    let indices = match nulls {
        None => keys.to_vec(),
        Some(nulls) => keys.iter().zip(nulls).map(|(key, valid)| if valid { *key } else { 0 }).collect(),
    };
    let values = match array.values().as_string_opt::<i32>() {
        Some(texts) => varlen(texts),
        None => varlen(array.values().as_binary::<i32>()),
    };
    Dictionary { indices, values }
}

/// The values of an array one after another.
pub(crate) fn varlen<T: ByteArrayType<Offset = i32>>(array: &GenericByteArray<T>) -> Varlen {
    let mut values = Varlen { offsets: Vec::new(), bytes: Vec::new() };
    refill(&mut values, array);
    values
}

/// The same into memory that is there already.
pub(crate) fn refill<T: ByteArrayType<Offset = i32>>(values: &mut Varlen, array: &GenericByteArray<T>) {
    let offsets = array.value_offsets();
    let first = offsets.first().copied().unwrap_or(0);
    let last = offsets.last().copied().unwrap_or(0);
    values.offsets.clear();
    // Arrow's offsets are never negative.
    values.offsets.extend(offsets.iter().map(|offset| (offset - first) as u32));
    values.bytes.clear();
    values.bytes.extend_from_slice(&array.value_data()[first as usize..last as usize]);
}

/// Bits from the first of a byte on; those after the last row are 0.
pub(crate) fn bits(bits: &BooleanBuffer) -> Vec<u8> {
    let mut bytes = bits.sliced().as_slice().to_vec();
    bytes.truncate(bits.len().div_ceil(8));
    let used = bits.len() % 8;
    if let Some(last) = bytes.last_mut()
        && used > 0
    {
        *last &= (1 << used) - 1;
    }
    bytes
}

/// An answer to `inputs` inputs, with the columns that `fields` promise.
///
/// # Errors
/// A sentence where it breaks the contract.
pub(crate) fn lift(fields: &[Field], answer: Rows, inputs: usize) -> Result<(Vec<ArrayRef>, Option<Vec<u32>>), String> {
    let Rows { count, origins, columns } = answer;
    let rows = count as usize;
    let fits = match &origins {
        None => rows == inputs,
        Some(origins) => {
            origins.len() == rows && origins.is_sorted() && origins.last().is_none_or(|&last| (last as usize) < inputs)
        }
    };
    if !fits || columns.len() != fields.len() {
        return Err(format!("answers {rows} rows in {} columns to {inputs} inputs", columns.len()));
    }
    let column = |(field, column): (&Field, Column)| {
        lift_one(field, column, rows).map_err(|wrong| format!("column `{}` {wrong}", field.name))
    };
    let columns: Vec<ArrayRef> = fields.iter().zip(columns).map(column).collect::<Result<_, _>>()?;
    Ok((columns, origins))
}

fn lift_one(field: &Field, column: Column, rows: usize) -> Result<ArrayRef, String> {
    let nulls = column.validity.map(|bits| bitmap(bits, rows).map(NullBuffer::new)).transpose()?;
    let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
    if nulls.is_some() && !field.nullable {
        return Err("has nulls; it is declared never to".to_owned());
    }
    let array: ArrayRef = match (field.data_type, column.values) {
        (DataType::Boolean, Values::Boolean(bits)) => Arc::new(BooleanArray::new(bitmap(bits, rows)?, nulls)),
        (DataType::Int64, Values::Int64(values)) => Arc::new(Int64Array::new(values.into(), nulls)),
        (DataType::Float64, Values::Float64(values)) => Arc::new(Float64Array::new(values.into(), nulls)),
        (DataType::Timestamp, Values::Timestamp(values)) => {
            Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC"))
        }
        (DataType::Utf8, Values::Utf8(values)) => Arc::new(texts(values, nulls)?),
        (DataType::Binary, Values::Binary(values)) => Arc::new(binary(values, nulls)?),
        (data_type, Values::Dictionary(dictionary)) => lift_dictionary(data_type, dictionary, nulls)?,
        _ => return Err(format!("is not the {:?} that it is declared", field.data_type)),
    };
    if array.len() != rows || array.data_type() != &field.arrow_type() {
        return Err(format!("has {} rows of {}; the answer has {rows}", array.len(), array.data_type()));
    }
    Ok(array)
}

fn lift_dictionary(data_type: DataType, dictionary: Dictionary, nulls: Option<NullBuffer>) -> Result<ArrayRef, String> {
    let Dictionary { indices, values } = dictionary;
    let values: ArrayRef = match data_type {
        DataType::Utf8 => Arc::new(texts(values, None)?),
        _ => Arc::new(binary(values, None)?),
    };
    if indices.iter().max().is_some_and(|&largest| largest as usize >= values.len().max(1)) {
        return Err(format!("has an index past its {} values", values.len()));
    }
    let array = DictionaryArray::<UInt32Type>::try_new(UInt32Array::new(indices.into(), nulls), values);
    array.map(|array| Arc::new(array) as ArrayRef).map_err(|error| error.to_string())
}

/// Byte strings of an answer.
///
/// # Errors
/// A sentence where offsets and bytes do not fit.
pub(crate) fn binary(values: Varlen, nulls: Option<NullBuffer>) -> Result<BinaryArray, String> {
    let (offsets, bytes) = buffers(values)?;
    BinaryArray::try_new(offsets, bytes, nulls).map_err(|error| error.to_string())
}

fn texts(values: Varlen, nulls: Option<NullBuffer>) -> Result<StringArray, String> {
    let (offsets, bytes) = buffers(values)?;
    StringArray::try_new(offsets, bytes, nulls).map_err(|error| error.to_string())
}

/// The same memory as Arrow's buffers.
fn buffers(values: Varlen) -> Result<(OffsetBuffer<i32>, Buffer), String> {
    let Varlen { offsets, bytes } = values;
    let whole = offsets.first() == Some(&0) && offsets.last().is_some_and(|&last| last as usize == bytes.len());
    if !whole || i32::try_from(bytes.len()).is_err() || !offsets.is_sorted() {
        return Err("has offsets that do not fit its bytes".to_owned());
    }
    let count = offsets.len();
    let offsets = ScalarBuffer::<i32>::new(Buffer::from_vec(offsets), 0, count);
    Ok((OffsetBuffer::new(offsets), Buffer::from_vec(bytes)))
}

fn bitmap(bits: Vec<u8>, rows: usize) -> Result<BooleanBuffer, String> {
    if bits.len() == rows.div_ceil(8) {
        Ok(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows))
    } else {
        Err(format!("has {} bytes of bits for {rows} rows", bits.len()))
    }
}

#[cfg(test)]
mod tests;
