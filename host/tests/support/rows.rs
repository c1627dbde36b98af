//! What outputs hold, as text that can be sorted and compared: times are µs, floats are exact.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fmt::{Display, Write};
use std::fs::File;
use std::path::{Path, PathBuf};

/// What stands for null.
pub(crate) const NULL: &str = "\u{0}";

/// A row of these cells.
pub(crate) fn row<const N: usize>(cells: [&dyn Display; N]) -> String {
    let mut row = String::new();
    for cell in cells {
        write!(row, "{cell}\u{1f}").unwrap();
    }
    row
}

/// All rows of the Parquet files below the folder, sorted; of these columns, or of all. No folder = no rows.
pub(crate) fn parquet(folder: &Path, columns: Option<&[&str]>) -> Vec<String> {
    let mut rows = Vec::new();
    each_of_parquet(folder, columns, |row| rows.push(row.to_owned()));
    rows.sort_unstable();
    rows
}

/// The same one by one, in the order of the files.
pub(crate) fn each_of_parquet(folder: &Path, columns: Option<&[&str]>, mut take: impl FnMut(&str)) {
    let mut row = String::new();
    for path in files(folder, "parquet") {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap());
        let reader = reader.unwrap_or_else(|error| panic!("{}: {error}", path.display())).build().unwrap();
        let mut rows = 0;
        for batch in reader {
            let batch = batch.unwrap();
            let all = batch.schema();
            let all: Vec<&str> = all.fields().iter().map(|field| field.name().as_str()).collect();
            let arrays = columns.unwrap_or(&all).iter().map(|name| plain(batch.column_by_name(name).unwrap()));
            let arrays: Vec<ArrayRef> = arrays.collect();
            for at in 0..batch.num_rows() {
                row.clear();
                for array in &arrays {
                    write_cell(array, at, &mut row);
                    row.push('\u{1f}');
                }
                take(&row);
            }
            rows += batch.num_rows();
        }
        assert!(rows > 0, "a file without rows: {}", path.display());
    }
}

/// All rows of the CSV files below the folder as [`parquet()`] has them, sorted: `_start` and `_end` are times,
/// `revenue` is a float. Null cannot be told from an empty text: both are null here.
pub(crate) fn csv(folder: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    each_of_csv(folder, |row| rows.push(row.to_owned()));
    rows.sort_unstable();
    rows
}

/// The same one by one, in the order of the files.
pub(crate) fn each_of_csv(folder: &Path, mut take: impl FnMut(&str)) {
    let mut row = String::new();
    for path in files(folder, "csv") {
        let mut reader = csv::Reader::from_path(&path).unwrap();
        let header = reader.headers().unwrap().clone();
        for record in reader.records() {
            let record = record.unwrap();
            row.clear();
            for (name, cell) in header.iter().zip(&record) {
                match name {
                    _ if cell.is_empty() => row.push_str(NULL),
                    "revenue" => write!(row, "{:?}", cell.parse::<f64>().unwrap()).unwrap(),
                    _ if name.ends_with("_start") || name.ends_with("_end") => {
                        assert!(cell.ends_with('Z'), "{cell}");
                        let time = chrono::DateTime::parse_from_rfc3339(cell).unwrap();
                        write!(row, "{}", time.timestamp_micros()).unwrap();
                    }
                    _ => row.push_str(cell),
                }
                row.push('\u{1f}');
            }
            take(&row);
        }
    }
}

/// The columns of the first Parquet file below the folder.
pub(crate) fn columns(folder: &Path) -> Vec<String> {
    let path = files(folder, "parquet").into_iter().next().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    reader.schema().fields().iter().map(|field| field.name().clone()).collect()
}

/// The files below the folder that end so, however deep. In place of a folder there may be a file.
pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    if folder.is_file() {
        return vec![folder.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|of| of == extension) {
            found.push(path);
        }
    }
    found.sort_unstable();
    found
}

/// Cell `at` of `row`.
pub(crate) fn cell(row: &str, at: usize) -> &str {
    row.split('\u{1f}').nth(at).unwrap()
}

/// Fails with the first rows that only one side has.
pub(crate) fn assert_same(what: &str, expected: &[String], found: &[String]) {
    assert!(expected.is_sorted() && found.is_sorted());
    if expected == found {
        return;
    }
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        let differs = |row: &&String| those.binary_search(row).is_err();
        these.iter().filter(differs).take(3).map(|row| row.replace('\u{1f}', " | ")).collect()
    };
    let twice = found.windows(2).filter(|pair| pair[0] == pair[1]).count();
    panic!(
        "{what}: {} rows expected, {} found, {twice} of them twice\n  missing: {:#?}\n  too many: {:#?}",
        expected.len(),
        found.len(),
        only(expected, found),
        only(found, expected)
    );
}

fn plain(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Dictionary(_, value) => arrow_cast::cast(array, value).unwrap(),
        _ => array.clone(),
    }
}

fn write_cell(array: &ArrayRef, at: usize, row: &mut String) {
    if array.is_null(at) {
        return row.push_str(NULL);
    }
    match array.data_type() {
        DataType::Utf8 => row.push_str(array.as_string::<i32>().value(at)),
        DataType::Timestamp(_, zone) => {
            assert_eq!(zone.as_deref(), Some("UTC"));
            write!(row, "{}", array.as_primitive::<TimestampMicrosecondType>().value(at)).unwrap();
        }
        DataType::Float64 => write!(row, "{:?}", array.as_primitive::<Float64Type>().value(at)).unwrap(),
        DataType::Int32 => write!(row, "{}", array.as_primitive::<Int32Type>().value(at)).unwrap(),
        DataType::Int64 => write!(row, "{}", array.as_primitive::<Int64Type>().value(at)).unwrap(),
        DataType::UInt64 => write!(row, "{}", array.as_primitive::<UInt64Type>().value(at)).unwrap(),
        other => panic!("a column of type {other}"),
    }
}
