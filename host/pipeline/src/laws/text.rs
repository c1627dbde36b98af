//! Rows, records and states as lines for a person.

use crate::record::RawBatch;
use crate::time::text::instant;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, BinaryArray};
use arrow_schema::{DataType, TimeUnit};

/// The most lines shown.
const MAX_LINES: usize = 20;
/// The most bytes of a line: twenty of them are 4 KiB.
const MAX_LINE_BYTES: usize = 204;
/// The most bytes of a value.
const MAX_VALUE_BYTES: usize = 96;

/// What is shown of so many lines.
pub(super) fn screen(lines: impl ExactSizeIterator<Item = String>) -> Vec<String> {
    let all = lines.len();
    let mut shown: Vec<String> = lines.take(MAX_LINES).map(|line| cut(&line, MAX_LINE_BYTES)).collect();
    if all > MAX_LINES {
        shown.pop();
        shown.push(format!("and {} more", all - MAX_LINES + 1));
    }
    shown
}

/// A record of a batch.
pub(super) fn record(batch: &RawBatch, record: usize) -> String {
    format!(
        "partition {} offset {}: value = {}, key = {}, timestamp = {}",
        batch.partition,
        batch.offsets[record],
        value(&batch.values, record),
        value(&batch.keys, record),
        instant(batch.broker_times_us[record]),
    )
}

/// A state of an older version.
pub(super) fn state(version: u32, state: &[u8]) -> String {
    format!("version {version}: {} ({} bytes)", hexadecimal(state), state.len())
}

/// A value of a column: of the types that cross to a plugin.
pub(super) fn value(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "null".to_owned();
    }
    let text = match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::UInt64 => format!("hash {:016x}", array.as_primitive::<UInt64Type>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            instant(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Utf8 => quoted(array.as_string::<i32>().value(row)),
        DataType::Binary => bytes(array.as_binary::<i32>(), row),
        DataType::Dictionary(key, _) if **key == DataType::UInt32 => {
            let array = array.as_dictionary::<UInt32Type>();
            return value(array.values(), array.keys().value(row) as usize);
        }
        other => format!("a {other}"),
    };
    cut(&text, MAX_VALUE_BYTES)
}

fn bytes(array: &BinaryArray, row: usize) -> String {
    let bytes = array.value(row);
    std::str::from_utf8(bytes).map_or_else(|_| hexadecimal(bytes), quoted)
}

fn quoted(text: &str) -> String {
    // What is cut off anyway need not be escaped.
    format!("{:?}", text.chars().take(MAX_VALUE_BYTES).collect::<String>())
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits: String = bytes
        .iter()
        .take(MAX_VALUE_BYTES / 2)
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect();
    format!("0x{digits}{}", if bytes.len() > MAX_VALUE_BYTES / 2 { "…" } else { "" })
}

/// At most so many bytes of a text, with a mark where something is left out.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let mark = '…';
    let end = text.floor_char_boundary(bytes - mark.len_utf8());
    format!("{}{mark}", &text[..end])
}
