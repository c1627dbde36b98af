//! Group keys: the values of some columns as bytes that compare as the values do, and hash the same in every run.
//!
//! The encoding is part of the checkpoint format. Per column: `0` for null, which sorts first; else `1`, and then
//! `i64` and timestamps as 8 bytes big endian with the sign bit flipped, booleans as one byte, text and bytes with
//! each `0` written as `0 255` and `0 0` at the end.

use crate::error::Error;
use crate::plugin::{DataType, timestamp_type};
use arrow_array::builder::{BinaryBuilder, BooleanBuilder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The keys of one batch of rows.
#[derive(Debug)]
pub struct Keys {
    /// For each row the number of its key. `None` = row i has key i (which may then repeat).
    codes: Option<Vec<u32>>,
    offsets: Vec<u32>,
    bytes: Vec<u8>,
    hashes: Vec<u64>,
}

impl Keys {
    /// The keys of `rows` rows of these columns: plain or dictionary arrays of the key types.
    pub fn of(columns: &[&ArrayRef], rows: usize) -> Self {
        let views: Vec<View<'_>> = columns.iter().map(|c| View::of(c.as_ref())).collect();
        match small_product(&views, rows) {
            Some(codes) => Self::distinct(&views, codes),
            None => Self::per_row(&views, rows),
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The number of a row's key.
    #[inline]
    pub fn code(&self, row: usize) -> usize {
        self.codes.as_ref().map_or(row, |codes| codes[row] as usize)
    }

    /// A key's bytes.
    #[inline]
    pub fn key(&self, code: usize) -> &[u8] {
        &self.bytes[self.offsets[code] as usize..self.offsets[code + 1] as usize]
    }

    /// The hash of a key's bytes.
    #[inline]
    pub fn hash(&self, code: usize) -> u64 {
        self.hashes[code]
    }

    fn with_capacity(keys: usize) -> Self {
        let mut offsets = Vec::with_capacity(keys + 1);
        offsets.push(0);
        Self { codes: None, offsets, bytes: Vec::with_capacity(keys * 16), hashes: Vec::with_capacity(keys) }
    }

    fn push(&mut self, views: &[View<'_>], row: usize) {
        let from = self.bytes.len();
        for view in views {
            view.encode(row, &mut self.bytes);
        }
        self.hashes.push(hash(&self.bytes[from..]));
        self.offsets.push(self.bytes.len() as u32);
    }

    fn per_row(views: &[View<'_>], rows: usize) -> Self {
        let mut keys = Self::with_capacity(rows);
        for row in 0..rows {
            keys.push(views, row);
        }
        keys
    }

    /// `mixed[row]` is equal exactly for rows of equal keys, and below `product`.
    fn distinct(views: &[View<'_>], (mut mixed, product): (Vec<u32>, usize)) -> Self {
        const UNSEEN: u32 = u32::MAX;
        let mut numbers = vec![UNSEEN; product];
        let mut keys = Self::with_capacity(product.min(mixed.len()));
        for (row, code) in mixed.iter_mut().enumerate() {
            let number = &mut numbers[*code as usize];
            if *number == UNSEEN {
                *number = keys.len() as u32;
                keys.push(views, row);
            }
            *code = *number;
        }
        keys.codes = Some(mixed);
        keys
    }
}

/// The hash that routes a key and finds its group.
pub fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// Which of `workers` owns a key. The bits are others than a hash table's, so that its buckets stay even.
#[inline]
pub fn owner(hash: u64, workers: usize) -> usize {
    ((((hash >> 24) & 0xffff_ffff) * workers as u64) >> 32) as usize
}

/// Where all columns are dictionaries with few combinations: each row's combination, and how many there can be.
fn small_product(views: &[View<'_>], rows: usize) -> Option<(Vec<u32>, usize)> {
    let mut product = 1usize;
    for view in views {
        product = product.checked_mul(view.cardinality()?)?;
    }
    if product > 4 * rows + 256 {
        return None;
    }
    let mut codes = vec![0u32; rows];
    for view in views {
        let (indices, nulls, base) = view.indices()?;
        for (row, code) in codes.iter_mut().enumerate() {
            let index = if nulls.is_some_and(|n| n.is_null(row)) { 0 } else { indices[row] + 1 };
            *code = *code * base + index;
        }
    }
    Some((codes, product))
}

/// A key column of a batch, by its Arrow type.
enum View<'a> {
    Utf8(&'a arrow_array::StringArray),
    Binary(&'a arrow_array::BinaryArray),
    Int64(&'a arrow_array::Int64Array),
    Timestamp(&'a arrow_array::TimestampMicrosecondArray),
    Boolean(&'a arrow_array::BooleanArray),
    Dictionary(&'a arrow_array::DictionaryArray<UInt32Type>, Box<View<'a>>),
}

impl<'a> View<'a> {
    fn of(array: &'a dyn Array) -> Self {
        use arrow_schema::DataType as D;
        match array.data_type() {
            D::Utf8 => Self::Utf8(array.as_string()),
            D::Binary => Self::Binary(array.as_binary()),
            D::Int64 => Self::Int64(array.as_primitive()),
            D::Timestamp(..) => Self::Timestamp(array.as_primitive()),
            D::Boolean => Self::Boolean(array.as_boolean()),
            D::Dictionary(..) => {
                let dictionary = array.as_dictionary::<UInt32Type>();
                Self::Dictionary(dictionary, Box::new(Self::of(dictionary.values().as_ref())))
            }
            other => unreachable!("the plan lets no {other} column be a key"),
        }
    }

    /// How many different values a dictionary column can have, null included.
    fn cardinality(&self) -> Option<usize> {
        match self {
            Self::Dictionary(d, _) => Some(d.values().len() + 1),
            _ => None,
        }
    }

    fn indices(&self) -> Option<(&[u32], Option<&arrow_buffer::NullBuffer>, u32)> {
        match self {
            Self::Dictionary(d, _) => Some((d.keys().values(), d.nulls(), d.values().len() as u32 + 1)),
            _ => None,
        }
    }

    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        let null = match self {
            Self::Utf8(a) => a.is_null(row),
            Self::Binary(a) => a.is_null(row),
            Self::Int64(a) => a.is_null(row),
            Self::Timestamp(a) => a.is_null(row),
            Self::Boolean(a) => a.is_null(row),
            Self::Dictionary(a, _) => a.is_null(row),
        };
        if null {
            out.push(0);
            return;
        }
        match self {
            Self::Utf8(a) => encode_bytes(a.value(row).as_bytes(), out),
            Self::Binary(a) => encode_bytes(a.value(row), out),
            Self::Int64(a) => encode_i64(a.value(row), out),
            Self::Timestamp(a) => encode_i64(a.value(row), out),
            Self::Boolean(a) => out.extend([1, u8::from(a.value(row))]),
            Self::Dictionary(a, values) => values.encode(a.keys().value(row) as usize, out),
        }
    }
}

fn encode_i64(value: i64, out: &mut Vec<u8>) {
    out.push(1);
    out.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
}

fn encode_bytes(value: &[u8], out: &mut Vec<u8>) {
    out.push(1);
    if value.contains(&0) {
        for &byte in value {
            out.push(byte);
            if byte == 0 {
                out.push(255);
            }
        }
    } else {
        out.extend_from_slice(value);
    }
    out.extend_from_slice(&[0, 0]);
}

/// Turns keys back into plain columns of these types.
///
/// # Errors
/// [`Error::Corrupt`] where the bytes are no keys of these types.
pub fn decode<'k>(types: &[DataType], keys: impl Iterator<Item = &'k [u8]>) -> Result<Vec<ArrayRef>, Error> {
    let mut columns: Vec<Decoder> = types.iter().map(|&t| Decoder::new(t)).collect();
    for key in keys {
        let mut rest = key;
        for column in &mut columns {
            rest = column.take(rest).ok_or_else(|| Error::Corrupt(format!("not a group key key={key:02x?}")))?;
        }
        if !rest.is_empty() {
            return Err(Error::Corrupt(format!("bytes left over in a group key key={key:02x?}")));
        }
    }
    Ok(columns.into_iter().map(Decoder::finish).collect())
}

enum Decoder {
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
    Int64(Int64Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Boolean(BooleanBuilder),
}

impl Decoder {
    fn new(of: DataType) -> Self {
        match of {
            DataType::Utf8 => Self::Utf8(StringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(timestamp_type())),
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Float64 => unreachable!("the plan lets no float column be a key"),
        }
    }

    /// Reads one value and gives the bytes behind it.
    fn take<'a>(&mut self, key: &'a [u8]) -> Option<&'a [u8]> {
        let (&tag, rest) = key.split_first()?;
        if tag == 0 {
            match self {
                Self::Utf8(b) => b.append_null(),
                Self::Binary(b) => b.append_null(),
                Self::Int64(b) => b.append_null(),
                Self::Timestamp(b) => b.append_null(),
                Self::Boolean(b) => b.append_null(),
            }
            return Some(rest);
        }
        if tag != 1 {
            return None;
        }
        match self {
            Self::Utf8(b) => {
                let (value, rest) = decode_bytes(rest)?;
                b.append_value(String::from_utf8(value).ok()?);
                Some(rest)
            }
            Self::Binary(b) => {
                let (value, rest) = decode_bytes(rest)?;
                b.append_value(value);
                Some(rest)
            }
            Self::Int64(b) => {
                let (value, rest) = decode_i64(rest)?;
                b.append_value(value);
                Some(rest)
            }
            Self::Timestamp(b) => {
                let (value, rest) = decode_i64(rest)?;
                b.append_value(value);
                Some(rest)
            }
            Self::Boolean(b) => {
                let (&value, rest) = rest.split_first().filter(|(value, _)| **value < 2)?;
                b.append_value(value == 1);
                Some(rest)
            }
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Utf8(mut b) => Arc::new(b.finish()),
            Self::Binary(mut b) => Arc::new(b.finish()),
            Self::Int64(mut b) => Arc::new(b.finish()),
            Self::Timestamp(mut b) => Arc::new(b.finish()),
            Self::Boolean(mut b) => Arc::new(b.finish()),
        }
    }
}

fn decode_i64(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (value, rest) = bytes.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*value) ^ i64::MIN, rest))
}

fn decode_bytes(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    loop {
        let zero = bytes.iter().position(|&b| b == 0)?;
        value.extend_from_slice(&bytes[..zero]);
        let mark = *bytes.get(zero + 1)?;
        bytes = &bytes[zero + 2..];
        match mark {
            0 => return Some((value, bytes)),
            255 => value.push(0),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BinaryArray, BooleanArray, DictionaryArray, Int64Array, StringArray};
    use proptest::prelude::*;

    fn keys_of(column: &ArrayRef) -> Vec<Vec<u8>> {
        let keys = Keys::of(&[column], column.len());
        (0..column.len()).map(|row| keys.key(keys.code(row)).to_vec()).collect()
    }

    #[test]
    fn dictionary_and_plain_columns_give_the_same_keys() {
        let words = vec![Some("a"), None, Some("b"), Some("a"), Some("")];
        let plain: ArrayRef = Arc::new(StringArray::from(words.clone()));
        let dictionary: ArrayRef = Arc::new(words.into_iter().collect::<DictionaryArray<UInt32Type>>());
        assert_eq!(keys_of(&plain), keys_of(&dictionary));
    }

    #[test]
    fn equal_dictionary_rows_share_one_key() {
        let column: ArrayRef = Arc::new(vec!["x", "y", "x", "x"].into_iter().collect::<DictionaryArray<UInt32Type>>());
        let keys = Keys::of(&[&column], 4);
        assert_eq!(keys.len(), 2);
        assert_eq!((keys.code(0), keys.code(2)), (keys.code(2), keys.code(3)));
    }

    #[test]
    fn rows_without_key_columns_are_all_of_one_key() {
        let keys = Keys::of(&[], 3);
        assert_eq!((keys.len(), keys.code(2), keys.key(0)), (1, 0, &[][..]));
    }

    #[test]
    fn a_truth_value_that_is_neither_is_no_key() {
        assert!(decode(&[DataType::Boolean], std::iter::once(&[1, 1][..])).is_ok());
        assert!(decode(&[DataType::Boolean], std::iter::once(&[1, 2][..])).is_err());
    }

    type KeyRow = (Option<String>, Option<Vec<u8>>, Option<i64>, Option<bool>);

    /// A column for each place of the rows.
    fn columns_of(rows: &[KeyRow]) -> [ArrayRef; 4] {
        [
            Arc::new(rows.iter().map(|row| row.0.clone()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| row.1.clone()).collect::<BinaryArray>()),
            Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.3).collect::<BooleanArray>()),
        ]
    }

    proptest! {
        #[test]
        fn keys_of_several_columns_sort_as_the_rows_do_and_decode_to_them(
            rows in prop::collection::vec((
                prop::option::of("[\u{0}\u{1}a]{0,3}"), prop::option::of(prop::collection::vec(prop::sample::select(vec![0, 1, 255]), 0..3)),
                prop::option::of(any::<i64>()), prop::option::of(any::<bool>()),
            ), 0..12)
        ) {
            let columns = columns_of(&rows);
            let keys = Keys::of(&columns.iter().collect::<Vec<_>>(), rows.len());
            for (i, a) in rows.iter().enumerate() {
                for (j, b) in rows.iter().enumerate() {
                    prop_assert_eq!(a.cmp(b), keys.key(i).cmp(keys.key(j)));
                }
            }
            let types = [DataType::Utf8, DataType::Binary, DataType::Int64, DataType::Boolean];
            let back = decode(&types, (0..rows.len()).map(|row| keys.key(row))).unwrap();
            prop_assert_eq!(back, columns);
        }

        #[test]
        fn text_keys_sort_as_the_texts_do_and_decode_to_them(texts in prop::collection::vec(prop::option::of(".{0,6}|[\u{0}\u{1}a]{0,4}"), 0..20)) {
            let column: ArrayRef = Arc::new(StringArray::from(texts.clone()));
            let keys = keys_of(&column);
            for (a, key_a) in texts.iter().zip(&keys) {
                for (b, key_b) in texts.iter().zip(&keys) {
                    prop_assert_eq!(a.cmp(b), key_a.cmp(key_b));
                }
            }
            let back = decode(&[DataType::Utf8], keys.iter().map(Vec::as_slice)).unwrap();
            prop_assert_eq!(&back[0], &column);
        }

        #[test]
        fn number_keys_sort_as_the_numbers_do(numbers in prop::collection::vec(any::<i64>(), 0..20)) {
            let column: ArrayRef = Arc::new(Int64Array::from(numbers.clone()));
            let keys = keys_of(&column);
            for (a, key_a) in numbers.iter().zip(&keys) {
                for (b, key_b) in numbers.iter().zip(&keys) {
                    prop_assert_eq!(a.cmp(b), key_a.cmp(key_b));
                }
            }
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let _ = decode(&[DataType::Utf8, DataType::Int64, DataType::Boolean], std::iter::once(bytes.as_slice()));
        }
    }
}
