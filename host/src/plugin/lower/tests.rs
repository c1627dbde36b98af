//! Facts about what a guest sees of Arrow arrays, sliced ones above all.

use super::*;
use arrow_array::{BooleanArray, Int64Array, UInt32Array};
use std::sync::Arc;

fn field(data_type: DataType, encoding: Encoding, nullable: bool) -> Field {
    Field { name: "x".into(), data_type, encoding, nullable }
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn an_unsliced_column_is_borrowed() {
    let array = texts(&[Some("ab"), Some("c")]);
    let lowered = Lowered::new(&field(DataType::Utf8, Encoding::Plain, false), &array, 2).unwrap();
    let Values::Utf8(varlen) = &lowered.values else { panic!("not text") };
    assert!(matches!(varlen.offsets, Cow::Borrowed([0, 2, 3])));
    assert_eq!(varlen.bytes, b"abc");
}

#[test]
fn a_slice_counts_its_offsets_from_zero() {
    let array = texts(&[Some("ab"), Some("c"), Some("def")]).slice(1, 2);
    let lowered = Lowered::new(&field(DataType::Utf8, Encoding::Plain, false), &array, 2).unwrap();
    let Values::Utf8(varlen) = &lowered.values else { panic!("not text") };
    assert_eq!((&*varlen.offsets, varlen.bytes), (&[0, 1, 4][..], &b"cdef"[..]));
}

#[test]
fn the_start_of_a_column_shows_nothing_of_the_rest() {
    let array = texts(&[Some("ab"), Some("secret")]).slice(0, 1);
    let lowered = Lowered::new(&field(DataType::Utf8, Encoding::Plain, false), &array, 1).unwrap();
    let Values::Utf8(varlen) = &lowered.values else { panic!("not text") };
    assert_eq!((&*varlen.offsets, varlen.bytes), (&[0, 2][..], &b"ab"[..]));
}

#[test]
fn an_empty_column_has_one_offset() {
    let array = BinaryArray::from(vec![b"ab".as_slice(), b"c"]).slice(1, 0);
    let varlen = Varlen::new(&array);
    assert_eq!((&*varlen.offsets, varlen.bytes), (&[0][..], &b""[..]));
}

#[test]
fn validity_of_a_slice_starts_at_bit_zero_and_ends_in_zeros() {
    let array: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), None, Some(2), None, Some(4), Some(5)]).slice(1, 4));
    let lowered = Lowered::new(&field(DataType::Int64, Encoding::Plain, true), &array, 4).unwrap();
    assert_eq!(lowered.validity.as_deref(), Some(&[0b1010][..]));
}

#[test]
fn a_column_without_nulls_has_no_validity() {
    let array: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), None, Some(2)]).slice(2, 1));
    let lowered = Lowered::new(&field(DataType::Int64, Encoding::Plain, true), &array, 1).unwrap();
    assert_eq!(lowered.validity, None);
}

#[test]
fn booleans_of_a_slice_start_at_bit_zero() {
    let array: ArrayRef = Arc::new(BooleanArray::from(vec![true, false, true, true, true]).slice(1, 3));
    let lowered = Lowered::new(&field(DataType::Boolean, Encoding::Plain, false), &array, 3).unwrap();
    assert!(matches!(&lowered.values, Values::Boolean(bits) if bits == &[0b110]));
}

#[test]
fn a_null_row_of_a_dictionary_has_index_zero() {
    let keys = UInt32Array::new(vec![1, 1, 0].into(), Some(vec![true, false, true].into()));
    let array: ArrayRef = Arc::new(DictionaryArray::new(keys, texts(&[Some("a"), Some("b")])));
    let lowered = Lowered::new(&field(DataType::Utf8, Encoding::Dictionary, true), &array, 3).unwrap();
    let Values::Dictionary { indices, values } = &lowered.values else { panic!("not a dictionary") };
    assert_eq!((&**indices, values.bytes), (&[1, 0, 0][..], &b"ab"[..]));
    assert_eq!(lowered.validity.as_deref(), Some(&[0b101][..]));
}

#[test]
fn a_null_that_was_promised_away_is_refused() {
    let array = texts(&[Some("a"), None]);
    let refused = Lowered::new(&field(DataType::Utf8, Encoding::Plain, false), &array, 2).err();
    assert!(refused.unwrap().contains("promised to hold none"));
}

#[test]
fn another_type_or_length_is_refused() {
    let array = texts(&[Some("a")]);
    let wrong_type = Lowered::new(&field(DataType::Int64, Encoding::Plain, true), &array, 1).err();
    assert_eq!(wrong_type.unwrap(), "input `x` is Utf8; wanted Int64");
    let wrong_length = Lowered::new(&field(DataType::Utf8, Encoding::Plain, true), &array, 2).err();
    assert_eq!(wrong_length.unwrap(), "input `x` has 1 rows; the call has 2");
}
