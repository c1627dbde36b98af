//! Facts about answers: those that become arrays, and the lies that do not.

use super::*;
use arrow_array::Array;
use arrow_array::cast::AsArray;

fn field(data_type: DataType, encoding: Encoding, nullable: bool) -> Field {
    Field { name: "x".into(), data_type, encoding, nullable }
}

fn varlen(offsets: &[u32], bytes: &[u8]) -> wit::VarlenResult {
    wit::VarlenResult { offsets: offsets.to_vec(), bytes: bytes.to_vec() }
}

fn lift_one(
    field: &Field,
    values: wit::ValuesResult,
    validity: Option<Vec<u8>>,
    rows: usize,
) -> Result<ArrayRef, String> {
    let answer = vec![wit::ColumnResult { values, validity }];
    columns(std::slice::from_ref(field), answer, rows).map(|mut columns| columns.remove(0))
}

fn lift_text(offsets: &[u32], bytes: &[u8], rows: usize) -> Result<ArrayRef, String> {
    let field = field(DataType::Utf8, Encoding::Plain, false);
    lift_one(&field, wit::ValuesResult::Utf8(varlen(offsets, bytes)), None, rows)
}

fn lift_dictionary_of(
    indices: &[u32],
    values: wit::VarlenResult,
    validity: Option<Vec<u8>>,
) -> Result<ArrayRef, String> {
    let dictionary = wit::DictionaryResult { indices: indices.to_vec(), values };
    let field = field(DataType::Utf8, Encoding::Dictionary, true);
    lift_one(&field, wit::ValuesResult::Dictionary(dictionary), validity, indices.len())
}

#[test]
fn text_becomes_a_string_array() {
    let array = lift_text(&[0, 2, 2, 4], b"abcd", 3).unwrap();
    assert_eq!(array.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["ab", "", "cd"]);
}

#[test]
fn no_rows_take_one_offset() {
    assert_eq!(lift_text(&[0], b"", 0).unwrap().len(), 0);
    assert!(lift_text(&[], b"", 0).unwrap_err().contains("no offsets"));
}

#[test]
fn lying_offsets_are_refused() {
    assert!(lift_text(&[1, 2], b"ab", 1).unwrap_err().contains("first offset of 1"));
    assert!(lift_text(&[0, 3], b"ab", 1).unwrap_err().contains("last offset of 3"));
    assert!(lift_text(&[0, 2, 1, 2], b"ab", 3).unwrap_err().contains("decrease"));
    assert!(lift_text(&[0, u32::MAX, 2], b"ab", 2).unwrap_err().contains("decrease"));
    assert!(lift_text(&[0, 2], b"ab", 2).unwrap_err().contains("has 1 rows"));
}

#[test]
fn invalid_utf8_is_refused() {
    assert!(lift_text(&[0, 2], b"\xff\xfe", 1).unwrap_err().starts_with("column `x` is not valid"));
}

#[test]
fn an_offset_inside_a_character_is_refused() {
    assert!(lift_text(&[0, 1, 2], "é".as_bytes(), 2).unwrap_err().starts_with("column `x` is not valid"));
}

#[test]
fn timestamps_are_utc() {
    let field = field(DataType::Timestamp, Encoding::Plain, true);
    let array = lift_one(&field, wit::ValuesResult::Timestamp(vec![7, 0]), Some(vec![0b01]), 2).unwrap();
    assert_eq!(array.data_type(), &field.arrow_type());
    assert_eq!((array.is_valid(0), array.is_valid(1)), (true, false));
}

#[test]
fn the_wrong_type_is_refused() {
    let field = field(DataType::Int64, Encoding::Plain, false);
    let wrong = lift_one(&field, wit::ValuesResult::Float64(vec![1.0]), None, 1).unwrap_err();
    assert_eq!(wrong, "column `x` is float64; declared Int64 in encoding Plain");
}

#[test]
fn nulls_in_a_column_without_nulls_are_refused() {
    let field = field(DataType::Int64, Encoding::Plain, false);
    assert!(
        lift_one(&field, wit::ValuesResult::Int64(vec![1, 2]), Some(vec![0b01]), 2).unwrap_err().contains("1 nulls")
    );
    assert!(lift_one(&field, wit::ValuesResult::Int64(vec![1, 2]), Some(vec![0b11]), 2).is_ok());
}

#[test]
fn a_bitmap_of_another_length_is_refused() {
    let field = field(DataType::Boolean, Encoding::Plain, true);
    assert!(lift_one(&field, wit::ValuesResult::Boolean(vec![0, 0]), None, 8).is_err());
    assert!(lift_one(&field, wit::ValuesResult::Boolean(vec![0]), Some(vec![]), 8).is_err());
    assert!(lift_one(&field, wit::ValuesResult::Boolean(vec![0, 0]), Some(vec![1, 1]), 9).is_ok());
}

#[test]
fn an_index_past_the_values_is_refused_even_under_a_null() {
    assert!(lift_dictionary_of(&[0, 1], varlen(&[0, 1], b"a"), None).unwrap_err().contains("has index 1"));
    assert!(lift_dictionary_of(&[0, 9], varlen(&[0, 1], b"a"), Some(vec![0b01])).is_err());
    assert!(lift_dictionary_of(&[0], varlen(&[0], b""), None).is_err());
}

#[test]
fn a_dictionary_of_nulls_needs_no_values() {
    let array = lift_dictionary_of(&[0, 0], varlen(&[0], b""), Some(vec![0])).unwrap();
    assert_eq!(array.null_count(), 2);
}

#[test]
fn origins_ascend_inside_the_batch() {
    assert_eq!(origins(Some(&[0, 0, 2]), 3, 3), Ok(()));
    assert!(origins(Some(&[1, 0]), 2, 2).unwrap_err().contains("decrease"));
    assert!(origins(Some(&[0, 3]), 2, 3).unwrap_err().contains("comes from 3"));
    assert!(origins(Some(&[0]), 2, 3).unwrap_err().contains("1 origins"));
}

#[test]
fn without_origins_there_is_one_row_for_each_input() {
    assert_eq!(origins(None, 3, 3), Ok(()));
    assert!(origins(None, 2, 3).is_err());
}

#[test]
fn a_missing_column_is_refused() {
    let field = field(DataType::Int64, Encoding::Plain, false);
    assert!(columns(&[field], vec![], 0).unwrap_err().contains("0 columns"));
}
