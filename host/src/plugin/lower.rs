//! Arrow arrays as the contract's columns: borrowed where their memory already is what a guest expects.

use super::bindings::wit;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::types::{TimestampMicrosecondType, UInt32Type};
use arrow_array::{Array, ArrayRef, BinaryArray, DictionaryArray, GenericByteArray, StringArray};
use arrow_array::{cast::AsArray, types::ByteArrayType};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use std::borrow::Cow;
use wasmill_pipeline::plugin::{DataType, Encoding, Field};

/// One column on its way to a guest: all parts as long as the rows it was made of.
pub(super) struct Lowered<'a> {
    values: Values<'a>,
    validity: Option<Vec<u8>>,
}

enum Values<'a> {
    Boolean(Vec<u8>),
    Int64(Cow<'a, [i64]>),
    Float64(&'a [f64]),
    Timestamp(&'a [i64]),
    Utf8(Varlen<'a>),
    Binary(Varlen<'a>),
    Dictionary { indices: Cow<'a, [u32]>, values: Varlen<'a> },
    Hash(&'a [u64]),
}

/// Byte strings whose first offset is 0.
pub(super) struct Varlen<'a> {
    offsets: Cow<'a, [u32]>,
    bytes: &'a [u8],
}

impl<'a> Lowered<'a> {
    /// A column of `rows` rows as `field` says it travels.
    ///
    /// # Errors
    /// A sentence, if the array is not of that type or length, or holds a null that the guest must never see. The
    /// pipeline's plan rules that out; a guest must not be the one to find it out.
    pub(super) fn new(field: &Field, array: &'a ArrayRef, rows: usize) -> Result<Self, String> {
        let name = &field.name;
        if array.len() != rows {
            return Err(format!("input `{name}` has {} rows; the call has {rows}", array.len()));
        }
        let mismatch = || format!("input `{name}` is {}; wanted {}", array.data_type(), field.arrow_type());
        if array.data_type() != &field.arrow_type() {
            return Err(mismatch());
        }
        // The logical nulls: those of a dictionary's values count, too.
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        if !field.nullable && nulls.is_some() {
            return Err(format!("input `{name}` holds a null, and was promised to hold none"));
        }
        let values = values(field, array, nulls.as_ref()).ok_or_else(mismatch)?;
        let validity = nulls.map(|nulls| bitmap(nulls.inner()));
        Ok(Self { values, validity })
    }

    /// Payloads or keys of records.
    pub(super) fn binary(array: &'a BinaryArray) -> Self {
        let validity = array.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| bitmap(nulls.inner()));
        Self { values: Values::Binary(Varlen::new(array)), validity }
    }

    /// Instants, none null.
    pub(super) fn timestamps(times_us: &'a [i64]) -> Self {
        Self { values: Values::Timestamp(times_us), validity: None }
    }

    /// Numbers, none null.
    pub(super) fn int64(values: impl Into<Cow<'a, [i64]>>) -> Self {
        Self { values: Values::Int64(values.into()), validity: None }
    }

    /// The same text in every row.
    pub(super) fn constant(text: &'a str, rows: usize) -> Self {
        let values = Varlen { offsets: Cow::Owned(vec![0, text.len() as u32]), bytes: text.as_bytes() };
        Self { values: Values::Dictionary { indices: Cow::Owned(vec![0; rows]), values }, validity: None }
    }

    /// As bindgen wants it.
    pub(super) fn as_param(&self) -> wit::ColumnParam<'_> {
        let values = match &self.values {
            Values::Boolean(bits) => wit::ValuesParam::Boolean(bits),
            Values::Int64(values) => wit::ValuesParam::Int64(values),
            Values::Float64(values) => wit::ValuesParam::Float64(values),
            Values::Timestamp(values) => wit::ValuesParam::Timestamp(values),
            Values::Utf8(values) => wit::ValuesParam::Utf8(values.as_param()),
            Values::Binary(values) => wit::ValuesParam::Binary(values.as_param()),
            Values::Dictionary { indices, values } => {
                wit::ValuesParam::Dictionary(wit::DictionaryParam { indices, values: values.as_param() })
            }
            Values::Hash(hashes) => wit::ValuesParam::Hash(hashes),
        };
        wit::ColumnParam { values, validity: self.validity.as_deref() }
    }
}

impl<'a> Varlen<'a> {
    /// The array's values. Of a slice, the bytes are cut to it and the offsets counted from there.
    pub(super) fn new<T: ByteArrayType<Offset = i32>>(array: &'a GenericByteArray<T>) -> Self {
        // Arrow's offsets are never negative, so they read the same without a sign.
        let offsets: &[u32] = array.offsets().inner().inner().typed_data();
        let first = offsets.first().copied().unwrap_or(0);
        let last = offsets.last().copied().unwrap_or(0);
        let bytes = &array.value_data()[first as usize..last as usize];
        let offsets = match first {
            0 => Cow::Borrowed(offsets),
            _ => offsets.iter().map(|offset| offset - first).collect(),
        };
        Self { offsets, bytes }
    }

    /// As bindgen wants it.
    pub(super) fn as_param(&self) -> wit::VarlenParam<'_> {
        wit::VarlenParam { offsets: &self.offsets, bytes: self.bytes }
    }
}

fn values<'a>(field: &Field, array: &'a ArrayRef, nulls: Option<&NullBuffer>) -> Option<Values<'a>> {
    Some(match (field.encoding, field.data_type) {
        (Encoding::Hash, _) => Values::Hash(array.as_primitive_opt::<UInt64Type>()?.values()),
        (Encoding::Dictionary, _) => dictionary(array.as_dictionary_opt::<UInt32Type>()?, nulls)?,
        (Encoding::Plain, DataType::Boolean) => Values::Boolean(bitmap(array.as_boolean_opt()?.values())),
        (Encoding::Plain, DataType::Int64) => {
            Values::Int64(Cow::Borrowed(array.as_primitive_opt::<Int64Type>()?.values()))
        }
        (Encoding::Plain, DataType::Float64) => Values::Float64(array.as_primitive_opt::<Float64Type>()?.values()),
        (Encoding::Plain, DataType::Timestamp) => {
            Values::Timestamp(array.as_primitive_opt::<TimestampMicrosecondType>()?.values())
        }
        (Encoding::Plain, DataType::Utf8) => Values::Utf8(Varlen::new(array.as_string_opt::<i32>()?)),
        (Encoding::Plain, DataType::Binary) => Values::Binary(Varlen::new(array.as_binary_opt::<i32>()?)),
    })
}

/// Null rows get index 0, which the contract promises; what Arrow has there may be anything.
fn dictionary<'a>(array: &'a DictionaryArray<UInt32Type>, nulls: Option<&NullBuffer>) -> Option<Values<'a>> {
    let keys: &[u32] = array.keys().values();
    let indices = match nulls {
        None => Cow::Borrowed(keys),
        Some(nulls) => keys.iter().zip(nulls.iter()).map(|(key, valid)| if valid { *key } else { 0 }).collect(),
    };
    let values = array.values().as_any();
    let values = match values.downcast_ref::<StringArray>() {
        Some(texts) => Varlen::new(texts),
        None => Varlen::new(values.downcast_ref::<BinaryArray>()?),
    };
    Some(Values::Dictionary { indices, values })
}

/// The bits from the first of a byte on. Those after the last row are 0: a guest must not learn, from the rows beside
/// a slice, how its batch was cut.
fn bitmap(bits: &BooleanBuffer) -> Vec<u8> {
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

#[cfg(test)]
mod tests;
