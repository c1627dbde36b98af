//! The checks of a guest's answers, open to fuzzing.

use super::lift;
use arrow_array::{ArrayRef, BinaryArray};
use wasmill_pipeline::plugin::Field;

pub use super::bindings::wit::{ColumnResult, DictionaryResult, ValuesResult, VarlenResult};

/// Columns of an answer that has `rows` rows, as `fields` promised them.
///
/// # Errors
/// As for the answer of a component.
pub fn columns(fields: &[Field], columns: Vec<ColumnResult>, rows: usize) -> Result<Vec<ArrayRef>, String> {
    lift::columns(fields, columns, rows)
}

/// The inputs that the rows of an answer came from.
///
/// # Errors
/// As for the answer of a component.
pub fn origins(origins: Option<&[u32]>, rows: usize, inputs: usize) -> Result<(), String> {
    lift::origins(origins, rows, inputs)
}

/// The states of a snapshot, `wanted` of them.
///
/// # Errors
/// As for the answer of a component.
pub fn binary(answer: VarlenResult, wanted: usize) -> Result<BinaryArray, String> {
    lift::binary(answer, wanted)
}
