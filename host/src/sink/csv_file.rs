//! One CSV file being written, straight from Arrow's columns.

use super::dictionary_column::DictionaryColumn;
use super::error::{Error, Result};
use super::staged::push_hex;
use crate::disk::DiskFile;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{
    Array, ArrowPrimitiveType, BinaryArray, BooleanArray, LargeBinaryArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Schema};
use chrono::{NaiveDate, TimeDelta};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Bytes gathered before they go to the operating system.
const BUFFER_BYTES: usize = 64 * 1024;
/// µs in a day of UTC.
const DAY_US: i64 = 86_400_000_000;

/// A CSV file being written: a header line, then a line per row, ended by `\n`, as RFC 4180 says.
///
/// Null is nothing; text, and nothing else, is in quotation marks, so that the empty text is `""`, a text that looks like
/// a number, a null or a comment is told from one, and so is the header, whatever the rows are. Times are
/// `2026-01-31T23:59:59.000000Z`, always with six digits; floats are the shortest text that reads back as the same number
/// (`1.0`, `0.1`, `1e300`, `NaN`, `inf`); booleans `true` and `false`; bytes lowercase hexadecimal, which is text. Text is
/// never changed, not even where a spreadsheet would take it for a formula. After an error it is of no more use.
pub(super) struct CsvFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// What the operating system does not have yet.
    lines: Vec<u8>,
    /// How much it has.
    written_bytes: u64,
    dates: DateText,
}

impl CsvFile {
    /// Starts a file with its header line; nothing may have been written to it.
    pub(super) fn new(file: Box<dyn DiskFile>, path: &Path, schema: &Schema) -> Self {
        let mut lines = Vec::with_capacity(BUFFER_BYTES);
        for (index, field) in schema.fields().iter().enumerate() {
            separate(index, &mut lines);
            push_text(field.name().as_bytes(), &mut lines);
        }
        lines.push(b'\n');
        Self { file, path: path.to_path_buf(), lines, written_bytes: 0, dates: DateText::default() }
    }

    /// Appends rows of the file's schema.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns: Option<Vec<Column>> = batch.columns().iter().map(|array| Column::of(array.as_ref())).collect();
        let columns = columns.expect("outputs with types that CSV has no form for are refused at the start");
        for row in 0..batch.num_rows() {
            for (index, column) in columns.iter().enumerate() {
                separate(index, &mut self.lines);
                column.format(row, &mut self.lines, &mut self.dates);
            }
            self.lines.push(b'\n');
            if self.lines.len() >= BUFFER_BYTES {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<()> {
        self.file.write_all(&self.lines).map_err(Error::io("write rows", &self.path))?;
        self.written_bytes += self.lines.len() as u64;
        self.lines.clear();
        Ok(())
    }

    /// How long the file is.
    pub(super) fn size(&self) -> u64 {
        self.written_bytes + self.lines.len() as u64
    }

    /// Hands all to the operating system. Answers the file's length.
    pub(super) fn flush(&mut self) -> Result<u64> {
        self.hand_over()?;
        Ok(self.written_bytes)
    }
}

/// Begins the next field of a line.
fn separate(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

/// Appends a text in quotation marks, those within it twice.
fn push_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for (index, part) in text.split(|&byte| byte == b'"').enumerate() {
        if index > 0 {
            out.extend(b"\"\"");
        }
        out.extend_from_slice(part);
    }
    out.push(b'"');
}

/// Appends bytes as a text of lowercase hexadecimal digits.
fn push_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    push_hex(bytes, out);
    out.push(b'"');
}

/// Whether a column of this type can be written.
pub(super) fn supports(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) => DictionaryColumn::takes(data_type),
        DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, _) => true,
        other => matches!(
            other,
            DataType::Utf8
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::Boolean
                | DataType::Int32
                | DataType::Int64
                | DataType::UInt32
                | DataType::UInt64
                | DataType::Float64
        ),
    }
}

/// A column by its type, looked up once per batch.
enum Column<'a> {
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    LargeBytes(&'a LargeBinaryArray),
    Boolean(&'a BooleanArray),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    UInt32(&'a PrimitiveArray<UInt32Type>),
    UInt64(&'a PrimitiveArray<UInt64Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Time(&'a PrimitiveArray<TimestampMicrosecondType>),
    Dictionary(&'a PrimitiveArray<UInt32Type>, Box<Column<'a>>),
}

impl<'a> Column<'a> {
    fn of(array: &'a dyn Array) -> Option<Self> {
        if !supports(array.data_type()) {
            return None;
        }
        Some(match array.data_type() {
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::LargeBinary => Self::LargeBytes(array.as_binary()),
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int32 => Self::Int32(array.as_primitive()),
            DataType::Int64 => Self::Int64(array.as_primitive()),
            DataType::UInt32 => Self::UInt32(array.as_primitive()),
            DataType::UInt64 => Self::UInt64(array.as_primitive()),
            DataType::Float64 => Self::Float64(array.as_primitive()),
            DataType::Timestamp(..) => Self::Time(array.as_primitive()),
            DataType::Dictionary(..) => {
                let dictionary = array.as_dictionary::<UInt32Type>();
                Self::Dictionary(dictionary.keys(), Box::new(Self::of(dictionary.values().as_ref())?))
            }
            _ => return None,
        })
    }

    /// Appends the text of one value; nothing for null.
    fn format(&self, row: usize, out: &mut Vec<u8>, dates: &mut DateText) {
        match self {
            Self::Text(texts) if texts.is_valid(row) => push_text(texts.value(row).as_bytes(), out),
            Self::Bytes(values) if values.is_valid(row) => push_bytes(values.value(row), out),
            Self::LargeBytes(values) if values.is_valid(row) => push_bytes(values.value(row), out),
            Self::Boolean(values) if values.is_valid(row) => {
                out.extend(if values.value(row) { &b"true"[..] } else { b"false" });
            }
            Self::Int32(values) => display(values, row, out),
            Self::Int64(values) => display(values, row, out),
            Self::UInt32(values) => display(values, row, out),
            Self::UInt64(values) => display(values, row, out),
            Self::Float64(values) if values.is_valid(row) => print(out, format_args!("{:?}", values.value(row))),
            Self::Time(values) if values.is_valid(row) => dates.push(values.value(row), out),
            Self::Dictionary(keys, values) if keys.is_valid(row) => {
                values.format(keys.value(row) as usize, out, dates);
            }
            _ => {}
        }
    }
}

fn display<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, row: usize, out: &mut Vec<u8>)
where
    T::Native: std::fmt::Display,
{
    if values.is_valid(row) {
        print(out, format_args!("{}", values.value(row)));
    }
}

fn print(out: &mut Vec<u8>, text: std::fmt::Arguments) {
    out.write_fmt(text).expect("writing to memory does not fail");
}

/// Instants as text; remembers the date it made last, since the next is most often the same.
#[derive(Default)]
struct DateText {
    day: Option<i64>,
    date: String,
}

impl DateText {
    /// Appends `2026-01-31T23:59:59.000000Z`; beyond the calendar's ±262,000 years the bare µs since the Unix epoch.
    fn push(&mut self, time_us: i64, out: &mut Vec<u8>) {
        let day = time_us.div_euclid(DAY_US);
        if self.day != Some(day) {
            let date = NaiveDate::default().checked_add_signed(TimeDelta::days(day));
            self.date = date.map(|date| date.to_string()).unwrap_or_default();
            self.day = Some(day);
        }
        if self.date.is_empty() {
            return print(out, format_args!("{time_us}"));
        }
        let us = time_us.rem_euclid(DAY_US);
        let seconds = us / 1_000_000;
        out.extend(self.date.as_bytes());
        for (before, number, digits) in [
            (b'T', seconds / 3600, 2),
            (b':', seconds / 60 % 60, 2),
            (b':', seconds % 60, 2),
            (b'.', us % 1_000_000, 6),
        ] {
            out.push(before);
            let end = out.len() + digits;
            let mut rest = number;
            out.resize(end, b'0');
            for digit in out.iter_mut().rev().take(digits) {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(time_us: i64) -> String {
        let mut out = Vec::new();
        DateText::default().push(time_us, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn quotation_marks_are_doubled_and_nothing_else_is_changed() {
        let quoted = |text: &str| {
            let mut out = Vec::new();
            push_text(text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted("\""), "\"\"\"\"");
        assert_eq!(quoted(" a\r\n\"b\",\\\" "), "\" a\r\n\"\"b\"\",\\\"\" \"");
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(text(1_767_225_599_000_001), "2025-12-31T23:59:59.000001Z");
    }

    #[test]
    fn times_beyond_the_calendar_do_not_panic() {
        assert_eq!(text(i64::MIN), i64::MIN.to_string());
        assert_eq!(text(i64::MAX), i64::MAX.to_string());
    }
}
