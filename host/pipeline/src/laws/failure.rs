//! What was found to be wrong with one input: a law and a sentence.

use super::{Broken, Law};
use crate::plugin::{Fault, FaultKind, Field};
use arrow_array::{Array, ArrayRef};

/// A law that does not hold for an input.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) law: Law,
    pub(super) message: String,
    /// It took as long as a call may take: not to be repeated often.
    pub(super) slow: bool,
}

impl Failure {
    pub(super) fn new(law: Law, message: String) -> Self {
        Self { law, message, slow: false }
    }

    /// As what it is where nothing had been given yet.
    pub(super) fn without_input(self) -> Broken {
        Broken { law: self.law, message: self.message, items: 0, input: Vec::new() }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let law = if fault.kind == FaultKind::Contract { Law::Declared } else { Law::NoFault };
        Self { law, message: fault.to_string(), slow: fault.kind == FaultKind::Deadline }
    }
}

/// Whether an answer of `rows` rows, from `inputs` slots or records, is what was declared. The port to a component has
/// looked already; others may not have.
pub(super) fn check_declared(
    fields: &[Field],
    columns: &[ArrayRef],
    rows: usize,
    origins: Option<&[u32]>,
    inputs: usize,
) -> Result<(), Failure> {
    let wrong = |message: String| Err(Failure::new(Law::Declared, message));
    if columns.len() != fields.len() {
        return wrong(format!("the answer has {} columns; declared are {}", columns.len(), fields.len()));
    }
    for (field, column) in fields.iter().zip(columns) {
        let name = &field.name;
        if column.data_type() != &field.arrow_type() {
            return wrong(format!("column `{name}` is {}; declared is {}", column.data_type(), field.arrow_type()));
        }
        if column.len() != rows {
            return wrong(format!("column `{name}` has {} rows; the answer has {rows}", column.len()));
        }
        if !field.nullable && column.logical_null_count() > 0 {
            return wrong(format!("column `{name}` holds a null; it is declared never to"));
        }
    }
    match origins {
        None if rows != inputs => wrong(format!("the answer has {rows} rows and no origins; wanted {inputs}")),
        Some(origins) if origins.len() != rows => {
            wrong(format!("the answer has {rows} rows, but {} origins", origins.len()))
        }
        Some(origins) if !origins.is_sorted() => wrong("the origins decrease".to_owned()),
        Some(origins) if origins.last().is_some_and(|last| *last as usize >= inputs) => {
            wrong(format!("a row comes from {}; there are {inputs}", origins.last().copied().unwrap_or_default()))
        }
        _ => Ok(()),
    }
}
