//! The exchange: which worker's shard each row goes to, and what travels there.

use crate::event::{Origins, Times};
use crate::key::{Keys, owner};
use crate::record::RawBatch;
use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::ArrowError;
use std::sync::Arc;

/// Rows of one batch for one shard of one aggregate.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Which aggregate, by its place in the plan.
    pub aggregate: usize,
    /// Their numbers in the batch that `times` and `keys` are of, ascending. `None` = all of it.
    pub rows: Option<Vec<u32>>,
    /// When the rows of the batch happened.
    pub times: Arc<Times>,
    /// Where the rows of the batch come from.
    pub origins: Arc<Origins>,
    /// The keys of the rows of the batch.
    pub keys: Arc<Keys>,
    /// The aggregate's inputs, for these rows only.
    pub inputs: Vec<ArrayRef>,
    /// The records of the batch, where the aggregate is watched.
    pub records: Option<Arc<RawBatch>>,
}

impl Rows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.times.events.len(), Vec::len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their numbers in the batch.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        let all = if self.rows.is_none() { self.times.events.len() } else { 0 };
        self.rows.iter().flatten().map(|&row| row as usize).chain(0..all)
    }

    /// The offset of a row's record.
    pub fn offset(&self, row: usize) -> i64 {
        self.origins.offsets[self.rows.as_ref().map_or(row, |rows| rows[row] as usize)]
    }

    /// The rows `from..to` of these.
    ///
    /// # Errors
    /// Where the columns cannot be taken apart, which their types rule out.
    pub fn part(&self, from: usize, to: usize) -> Result<Self, ArrowError> {
        let numbers = self.numbers().skip(from).take(to - from).map(|row| row as u32).collect();
        let inputs = take(&self.inputs, (from as u32..to as u32).collect())?;
        Ok(Self { rows: Some(numbers), inputs, ..self.clone() })
    }
}

/// What one worker sends another.
#[derive(Debug)]
pub enum Message {
    /// Rows for the receiver's shards.
    Rows(Rows),
    /// Everything before this belongs to the cut of this number, everything after it does not.
    Barrier(u64),
}

/// Divides all rows of a batch among the workers: `(worker, rows)`, none of them empty.
///
/// `on_time` says of each row whether it counts; `None` = all do.
///
/// # Errors
/// Where the columns cannot be taken apart, which their types rule out.
pub fn divide(all: Rows, on_time: Option<&[bool]>, workers: usize) -> Result<Vec<(usize, Rows)>, ArrowError> {
    let (count, keys) = (all.len(), all.keys.clone());
    if workers == 1 && on_time.is_none() {
        return Ok(if count == 0 { vec![] } else { vec![(0, all)] });
    }
    let mut numbers: Vec<Vec<u32>> = vec![Vec::new(); workers];
    let owners: Vec<u32> = (0..keys.len()).map(|code| owner(keys.hash(code), workers) as u32).collect();
    for row in 0..count {
        if on_time.is_none_or(|on_time| on_time[row]) {
            numbers[owners[keys.code(row)] as usize].push(row as u32);
        }
    }
    let mut parts = Vec::new();
    for (worker, rows) in numbers.into_iter().enumerate() {
        if rows.is_empty() {
            continue;
        }
        if rows.len() == count {
            parts.push((worker, all.clone()));
            continue;
        }
        let inputs = take(&all.inputs, rows.clone())?;
        parts.push((worker, Rows { rows: Some(rows), inputs, ..all.clone() }));
    }
    Ok(parts)
}

fn take(columns: &[ArrayRef], rows: Vec<u32>) -> Result<Vec<ArrayRef>, ArrowError> {
    let rows = UInt32Array::from(rows);
    columns.iter().map(|column| arrow_select::take::take(column, &rows, None)).collect()
}
