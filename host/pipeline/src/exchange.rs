//! The exchange: which worker's shard each row goes to, and what travels there.

use crate::event::Times;
use crate::key::{Keys, owner};
use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::ArrowError;
use std::sync::Arc;

/// Rows of one batch for one shard of one aggregate.
#[derive(Debug)]
pub struct Rows {
    /// Which aggregate, by its place in the plan.
    pub aggregate: usize,
    /// Their numbers in the batch that `times` and `keys` are of, ascending. `None` = all of it.
    pub rows: Option<Vec<u32>>,
    /// When the rows of the batch happened.
    pub times: Arc<Times>,
    /// The keys of the rows of the batch.
    pub keys: Arc<Keys>,
    /// The aggregate's inputs, for these rows only.
    pub inputs: Vec<ArrayRef>,
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
}

/// What one worker sends another.
#[derive(Debug)]
pub enum Message {
    /// Rows for the receiver's shards.
    Rows(Rows),
    /// Everything before this belongs to the cut of this number, everything after it does not.
    Barrier(u64),
}

/// Divides the rows of a batch among the workers: `(worker, rows)`, none of them empty.
///
/// `on_time` says of each row whether it counts; `None` = all do.
///
/// # Errors
/// Where the columns cannot be taken apart, which their types rule out.
pub fn divide(
    aggregate: usize,
    times: &Arc<Times>,
    keys: &Arc<Keys>,
    inputs: &[ArrayRef],
    on_time: Option<&[bool]>,
    workers: usize,
) -> Result<Vec<(usize, Rows)>, ArrowError> {
    let whole = |rows| Rows { aggregate, rows, times: times.clone(), keys: keys.clone(), inputs: inputs.to_vec() };
    let count = times.events.len();
    if workers == 1 && on_time.is_none() {
        return Ok(if count == 0 { vec![] } else { vec![(0, whole(None))] });
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
            parts.push((worker, whole(None)));
            continue;
        }
        let indices = UInt32Array::from(rows);
        let taken = inputs.iter().map(|c| arrow_select::take::take(c, &indices, None)).collect::<Result<_, _>>()?;
        let rows = Some(indices.values().to_vec());
        parts.push((worker, Rows { aggregate, rows, times: times.clone(), keys: keys.clone(), inputs: taken }));
    }
    Ok(parts)
}
