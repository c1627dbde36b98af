//! Group keys, which checkpoints hold and shards decode.

use arrow_array::ArrayRef;
use wasmill_pipeline::key::{Keys, decode};
use wasmill_pipeline::plugin::DataType;

const TYPES: [DataType; 5] =
    [DataType::Utf8, DataType::Binary, DataType::Int64, DataType::Timestamp, DataType::Boolean];

/// The first byte says how many columns (0 to 3), the next ones their types, and the rest is a key. One that is read
/// is the key of the values that were read: no two keys stand for the same group.
pub fn key(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return };
    let Some((types, key)) = rest.split_at_checked(usize::from(count % 4)) else { return };
    let types: Vec<DataType> = types.iter().map(|of| TYPES[usize::from(*of) % TYPES.len()]).collect();
    let Ok(columns) = decode(&types, std::iter::once(key)) else { return };
    let columns: Vec<&ArrayRef> = columns.iter().collect();
    assert!(columns.iter().all(|column| column.len() == 1), "one key is one row");
    assert_eq!(Keys::of(&columns, 1).key(0), key, "a key has one form only");
}
