//! What goes in comes out again, and what does not fit is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn field(data_type: DataType, encoding: Encoding) -> Field {
    Field { name: "c".to_owned(), data_type, encoding, nullable: true }
}

/// Through the SDK's columns and back.
fn round(field: &Field, array: &ArrayRef) -> ArrayRef {
    let rows = array.len();
    let columns = lower(std::slice::from_ref(field), std::slice::from_ref(array), rows).unwrap();
    let answer = Rows { count: rows as u32, origins: None, columns };
    lift(std::slice::from_ref(field), answer, rows).unwrap().0.remove(0)
}

fn answer(values: Values, rows: u32, origins: Option<Vec<u32>>) -> Rows {
    Rows { count: rows, origins, columns: vec![Column { values, validity: None }] }
}

#[test]
fn columns_of_all_kinds_come_back_as_they_were_also_of_slices() {
    let texts = vec![Some("a"), None, Some(""), Some("österreich"), Some("a")];
    let dictionary: DictionaryArray<UInt32Type> = {
        let keys = UInt32Array::from(vec![Some(0), None, Some(1), Some(2), Some(0)]);
        DictionaryArray::new(keys, Arc::new(StringArray::from(vec!["a", "", "b"])))
    };
    let times = TimestampMicrosecondArray::from(vec![Some(1), None, Some(-3), Some(4), Some(5)]).with_timezone("UTC");
    let cases: [(Field, ArrayRef); 7] = [
        (
            field(DataType::Boolean, Encoding::Plain),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true), Some(true)])),
        ),
        (
            field(DataType::Int64, Encoding::Plain),
            Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN), Some(0), Some(5)])),
        ),
        (
            field(DataType::Float64, Encoding::Plain),
            Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-0.0), Some(1.0), Some(2.0)])),
        ),
        (field(DataType::Timestamp, Encoding::Plain), Arc::new(times)),
        (field(DataType::Utf8, Encoding::Plain), Arc::new(StringArray::from(texts.clone()))),
        (
            field(DataType::Binary, Encoding::Plain),
            Arc::new(texts.iter().map(|t| t.map(str::as_bytes)).collect::<BinaryArray>()),
        ),
        (field(DataType::Utf8, Encoding::Dictionary), Arc::new(dictionary)),
    ];
    for (field, array) in cases {
        assert_eq!(&round(&field, &array), &array, "{field:?}");
        let slice = array.slice(1, 3);
        assert_eq!(&round(&field, &slice), &slice, "a slice of {field:?}");
    }
}

#[test]
fn an_array_that_is_not_of_its_field_is_refused() {
    let arrays: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![Some(1), None]))];
    let never_null = Field { nullable: false, ..field(DataType::Int64, Encoding::Plain) };
    assert!(lower(&[never_null], &arrays, 2).unwrap_err().contains("holds a null"));
    assert!(lower(&[field(DataType::Float64, Encoding::Plain)], &arrays, 2).is_err());
    assert!(lower(&[field(DataType::Int64, Encoding::Plain)], &arrays, 3).is_err());
    assert!(lower(&[], &arrays, 2).unwrap_err().contains("is given 1 columns; wants 0"));
}

#[test]
fn an_answer_that_breaks_the_contract_is_refused() {
    let int = [field(DataType::Int64, Encoding::Plain)];
    let text = [field(DataType::Utf8, Encoding::Plain)];
    let symbol = [field(DataType::Utf8, Encoding::Dictionary)];
    let varlen = |offsets: &[u32], bytes: &[u8]| Varlen { offsets: offsets.to_vec(), bytes: bytes.to_vec() };
    let dictionary =
        |indices: &[u32]| Values::Dictionary(Dictionary { indices: indices.to_vec(), values: varlen(&[0, 1], b"a") });
    assert!(lift(&int, answer(Values::Int64(vec![1, 2]), 2, Some(vec![0, 1])), 2).is_ok());
    for (what, fields, answer) in [
        ("too few rows", &int, answer(Values::Int64(vec![1]), 2, None)),
        ("rows without origins", &int, answer(Values::Int64(vec![1]), 1, None)),
        ("origins that decrease", &int, answer(Values::Int64(vec![1, 2]), 2, Some(vec![1, 0]))),
        ("an origin past the end", &int, answer(Values::Int64(vec![1]), 1, Some(vec![2]))),
        ("another type", &int, answer(Values::Float64(vec![1.0, 2.0]), 2, None)),
        ("another encoding", &text, answer(dictionary(&[0, 0]), 2, None)),
        ("no UTF-8", &text, answer(Values::Utf8(varlen(&[0, 1, 2], b"a\xFF")), 2, None)),
        ("offsets that decrease", &text, answer(Values::Utf8(varlen(&[0, 2, 1], b"a")), 2, None)),
        ("bytes left over", &text, answer(Values::Utf8(varlen(&[0, 1, 1], b"ab")), 2, None)),
        ("an index past the end", &symbol, answer(dictionary(&[0, 1]), 2, None)),
    ] {
        assert!(lift(fields, answer, 2).is_err(), "{what}");
    }
}
