//! A guest's answers: structures of the contract's types, with contents that may be lies.

use arbitrary::{Result, Unstructured};
use arrow_array::{Array, ArrayRef};
use wasmill::plugin::decoders::{self, ColumnResult, DictionaryResult, ValuesResult, VarlenResult};
use wasmill_pipeline::plugin::{DataType, Encoding, Field};

const TYPES: [DataType; 6] =
    [DataType::Boolean, DataType::Int64, DataType::Float64, DataType::Timestamp, DataType::Utf8, DataType::Binary];

/// What was promised and what was answered, both made of the bytes. What passes is sound to the last bit: lengths,
/// offsets, indices, UTF-8 and nulls are as Arrow wants them, and types as they were promised.
pub fn answer(bytes: &[u8]) {
    // Bytes that run out make a smaller answer.
    let _ = check(&mut Unstructured::new(bytes));
}

fn check(from: &mut Unstructured<'_>) -> Result<()> {
    let rows = from.int_in_range(0..=20usize)?;
    let fields = (0..from.int_in_range(1..=3usize)?).map(|_| field(from)).collect::<Result<Vec<Field>>>()?;
    let answered = fields.iter().map(|field| column(from, field, rows)).collect::<Result<Vec<_>>>()?;
    if let Ok(arrays) = decoders::columns(&fields, answered, rows) {
        assert_eq!(arrays.len(), fields.len());
        fields.iter().zip(&arrays).for_each(|(field, array)| sound(field, array, rows));
    }
    let inputs = from.int_in_range(0..=20usize)?;
    let origins: Option<Vec<u32>> = from.arbitrary()?;
    if decoders::origins(origins.as_deref(), rows, inputs).is_ok() {
        let origins = origins.unwrap_or_else(|| (0..inputs as u32).collect());
        assert!(origins.len() == rows && origins.is_sorted() && origins.iter().all(|&o| (o as usize) < inputs));
    }
    let states = varlen(from, rows)?;
    if let Ok(states) = decoders::binary(states, rows) {
        assert!(states.len() == rows && states.null_count() == 0);
        states.to_data().validate_full().expect("states are sound");
    }
    Ok(())
}

fn sound(field: &Field, array: &ArrayRef, rows: usize) {
    assert_eq!((array.len(), array.data_type()), (rows, &field.arrow_type()));
    assert!(field.nullable || array.null_count() == 0, "no nulls where none were promised");
    array.to_data().validate_full().expect("an array that passed is sound");
    // As the rest of the host reads it, row by row.
    let text = arrow_array::cast::AsArray::as_string_opt::<i32>(array);
    text.iter().flat_map(|texts| texts.iter()).flatten().for_each(|text| assert!(text.chars().count() <= text.len()));
}

fn field(from: &mut Unstructured<'_>) -> Result<Field> {
    let data_type = *from.choose(&TYPES)?;
    let encoding = *from.choose(&[Encoding::Plain, Encoding::Plain, Encoding::Dictionary])?;
    // A description that says otherwise is refused before any answer is looked at.
    let text = matches!(data_type, DataType::Utf8 | DataType::Binary);
    let encoding = if text { encoding } else { Encoding::Plain };
    Ok(Field { name: "x".into(), data_type, encoding, nullable: from.arbitrary()? })
}

/// An answer for the field: mostly of its kind and length, sometimes not.
fn column(from: &mut Unstructured<'_>, field: &Field, rows: usize) -> Result<ColumnResult> {
    let rows = length(from, rows)?;
    let dictionary = field.encoding == Encoding::Dictionary;
    let kind = if from.ratio(1, 16)? { from.int_in_range(0..=7u8)? } else { u8::MAX };
    let values = match (kind, field.data_type) {
        (6, _) | (u8::MAX, DataType::Utf8 | DataType::Binary) if kind == 6 || dictionary => {
            let distinct = from.int_in_range(0..=4usize)?;
            let index = |from: &mut Unstructured<'_>| {
                if from.ratio(1, 16)? { from.arbitrary() } else { from.int_in_range(0..=4u32) }
            };
            let indices = (0..rows).map(|_| index(from)).collect::<Result<_>>()?;
            ValuesResult::Dictionary(DictionaryResult { indices, values: varlen(from, distinct)? })
        }
        (0, _) | (u8::MAX, DataType::Boolean) => ValuesResult::Boolean(bits(from, rows)?),
        (1, _) | (u8::MAX, DataType::Int64) => ValuesResult::Int64(many(from, rows)?),
        (2, _) | (u8::MAX, DataType::Float64) => ValuesResult::Float64(many(from, rows)?),
        (3, _) | (u8::MAX, DataType::Timestamp) => ValuesResult::Timestamp(many(from, rows)?),
        (4, _) | (u8::MAX, DataType::Utf8) => ValuesResult::Utf8(varlen(from, rows)?),
        (5, _) | (u8::MAX, DataType::Binary) => ValuesResult::Binary(varlen(from, rows)?),
        _ => ValuesResult::Hash(many(from, rows)?),
    };
    let validity = if from.arbitrary()? { Some(bits(from, rows)?) } else { None };
    Ok(ColumnResult { values, validity })
}

/// The length promised, or once in a while another.
fn length(from: &mut Unstructured<'_>, promised: usize) -> Result<usize> {
    if from.ratio(1, 16)? { from.int_in_range(0..=20) } else { Ok(promised) }
}

fn many<'a, T: arbitrary::Arbitrary<'a>>(from: &mut Unstructured<'a>, count: usize) -> Result<Vec<T>> {
    (0..length(from, count)?).map(|_| from.arbitrary()).collect()
}

fn bits(from: &mut Unstructured<'_>, rows: usize) -> Result<Vec<u8>> {
    many(from, rows.div_ceil(8))
}

/// Byte strings whose offsets mostly ascend from 0 to the end.
fn varlen(from: &mut Unstructured<'_>, count: usize) -> Result<VarlenResult> {
    let (mut offsets, mut bytes) = (vec![0u32], Vec::new());
    for _ in 0..length(from, count)? {
        let value: &str = from.arbitrary()?;
        let value = value.get(..8).unwrap_or(value).as_bytes();
        bytes.extend_from_slice(value);
        offsets.push(bytes.len() as u32);
    }
    if from.ratio(1, 8)? {
        let at = from.choose_index(offsets.len())?;
        offsets[at] = from.arbitrary()?;
    }
    if from.ratio(1, 8)? {
        bytes.extend_from_slice(from.arbitrary::<&[u8]>()?);
    }
    if from.ratio(1, 16)? {
        offsets = from.arbitrary()?;
    }
    Ok(VarlenResult { offsets, bytes })
}
