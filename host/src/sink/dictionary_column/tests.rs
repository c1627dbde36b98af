use super::*;
use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::{DictionaryArray, RecordBatch, StringArray, UInt32Array};
use arrow_schema::{Field, Schema};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use proptest::prelude::*;
use std::sync::Arc;

/// A file of one row group whose only column has these batches, one after the other.
fn file(nullable: bool, batches: &[ArrayRef]) -> (Bytes, ParquetMetaData) {
    let text = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
    let schema = Schema::new(vec![Field::new("text", text, nullable)]);
    let schema = ArrowSchemaConverter::new().convert(&schema).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut file = SerializedFileWriter::new(Vec::new(), schema.root_schema_ptr(), properties).unwrap();
    let (mut column, mut zstd) = (DictionaryColumn::new(schema.column(0)), Zstd::new().unwrap());
    for batch in batches {
        column.write(batch, &mut zstd).unwrap();
    }
    let (bytes, close) = column.finish(&mut zstd).unwrap();
    let mut row_group = file.next_row_group().unwrap();
    row_group.append_column(&bytes, close).unwrap();
    row_group.close().unwrap();
    let metadata = file.finish().unwrap();
    (file.inner().clone().into(), metadata)
}

fn rows_of(file: Bytes) -> Vec<Option<String>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let texts = batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter());
    texts.map(|text| text.map(str::to_owned)).collect()
}

fn array(rows: &[Option<String>]) -> ArrayRef {
    let mut builder = StringDictionaryBuilder::<UInt32Type>::new();
    for row in rows {
        builder.append_option(row.as_deref());
    }
    Arc::new(builder.finish())
}

/// Texts of so many kinds, in runs, some of them null.
fn texts() -> impl Strategy<Value = Vec<Option<String>>> {
    (1u32..300).prop_flat_map(|kinds| {
        let run = (0..kinds, prop_oneof![3 => 1usize..3, 1 => 1usize..60], prop::bool::weighted(0.2));
        prop::collection::vec(run, 0..300).prop_map(|runs| {
            let row = |(kind, length, null): (u32, usize, bool)| {
                std::iter::repeat_n((!null).then(|| format!("text {kind}")), length)
            };
            runs.into_iter().flat_map(row).collect()
        })
    })
}

proptest! {
    #[test]
    fn rows_in_are_rows_out_however_they_are_cut(texts in texts(), cut in 1usize..400) {
        let batches: Vec<ArrayRef> = texts.chunks(cut).map(array).collect();
        let (bytes, metadata) = file(true, &batches);
        prop_assert_eq!(rows_of(bytes), texts.clone());
        let statistics = metadata.row_group(0).column(0).statistics().unwrap();
        prop_assert_eq!(statistics.null_count_opt(), Some(texts.iter().filter(|text| text.is_none()).count() as u64));
        let bound = |text: Option<&Option<String>>| text.cloned().flatten().map(String::into_bytes);
        let there = || texts.iter().filter(|text| text.is_some());
        prop_assert_eq!(statistics.min_bytes_opt().map(<[u8]>::to_vec), bound(there().min()));
        prop_assert_eq!(statistics.max_bytes_opt().map(<[u8]>::to_vec), bound(there().max()));
    }
}

#[test]
fn pages_follow_each_other_and_codes_grow_wider_from_one_to_the_next() {
    let texts: Vec<_> = (0..3 * PAGE_ROWS + 7).map(|row| Some(format!("text {}", row / 9 % (row / 100 + 1)))).collect();
    let (bytes, metadata) = file(false, &texts.chunks(4096).map(array).collect::<Vec<_>>());
    assert_eq!(rows_of(bytes), texts);
    assert_eq!(metadata.row_group(0).column(0).num_values(), texts.len() as i64);
}

#[test]
fn one_value_takes_next_to_nothing() {
    let texts = vec![Some("clicks".to_owned()); PAGE_ROWS];
    let (bytes, metadata) = file(false, &[array(&texts)]);
    assert!(metadata.row_group(0).column(0).compressed_size() < 200);
    assert_eq!(rows_of(bytes), texts);
}

#[test]
fn a_null_among_the_values_of_the_dictionary_is_null() {
    let values = Arc::new(StringArray::from(vec![None, Some("b")]));
    let array = DictionaryArray::new(UInt32Array::from(vec![Some(1), Some(0), None]), values);
    let (bytes, _) = file(true, &[Arc::new(array)]);
    assert_eq!(rows_of(bytes), [Some("b".to_owned()), None, None]);
}

#[test]
fn values_that_no_row_has_are_not_in_the_file() {
    let values = Arc::new(StringArray::from(vec!["never", "b"]));
    let array = DictionaryArray::new(UInt32Array::from(vec![1, 1]), values);
    let (_, metadata) = file(false, &[Arc::new(array)]);
    let statistics = metadata.row_group(0).column(0).statistics().unwrap();
    assert_eq!((statistics.min_bytes_opt(), statistics.max_bytes_opt()), (Some(&b"b"[..]), Some(&b"b"[..])));
}

#[test]
fn long_values_bound_nothing() {
    let texts = [Some("x".repeat(LONGEST_BOUND + 1)), Some("a".to_owned())];
    let (bytes, metadata) = file(false, &[array(&texts)]);
    let statistics = metadata.row_group(0).column(0).statistics().unwrap();
    assert_eq!((statistics.min_bytes_opt(), statistics.max_bytes_opt()), (None, None));
    assert_eq!(rows_of(bytes), texts);
}

#[test]
fn only_codes_of_32_bits_are_taken() {
    let of = |key| DataType::Dictionary(Box::new(key), Box::new(DataType::Utf8));
    assert!(DictionaryColumn::takes(&of(DataType::UInt32)) && !DictionaryColumn::takes(&of(DataType::Int32)));
    assert!(!DictionaryColumn::takes(&DataType::Utf8));
}
