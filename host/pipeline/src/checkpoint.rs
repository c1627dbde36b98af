//! What a cut holds: one worker's part of a consistent state of the whole pipeline, and how it is taken up again.

use crate::key::{hash, owner};
use crate::lane::LaneCounts;
use crate::shadow::Comparison;
use crate::state::delta::{GroupEntry, StateDelta};
use crate::time::ending::Newest;
use crate::time::trust::Trusted;
use arrow_array::{BinaryArray, UInt32Array};
use arrow_schema::ArrowError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a checkpoint is in the stream: what lies before it, and what after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// Its number.
    pub checkpoint: u64,
    /// The first offset after it, by partition.
    pub offsets: BTreeMap<i32, i64>,
    /// The pipeline's watermark, µs since the Unix epoch.
    pub watermark_us: Option<i64>,
}

/// One partition at a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCut {
    /// Which.
    pub partition: i32,
    /// The first offset that is not in the cut.
    pub next_offset: i64,
    /// How far it is trusted to have come in event time.
    pub trusted: Trusted,
    /// The newest broker timestamp of its records.
    pub newest: Newest,
}

/// One worker's part of a cut.
#[derive(Debug)]
pub struct Cut {
    /// Which worker's.
    pub worker: usize,
    /// Its partitions.
    pub partitions: Vec<PartitionCut>,
    /// The changes of its shards' state since the cut before, by aggregate.
    pub deltas: Vec<StateDelta>,
    /// What its lanes saw since the worker started.
    pub counts: LaneCounts,
    /// Rows its shards took in since the worker started, by aggregate.
    pub counted: Vec<u64>,
    /// Rows its shards set aside since the worker started, by aggregate.
    pub set_aside: Vec<u64>,
    /// Rows its shards gave out since the worker started, by aggregate.
    pub closed: Vec<u64>,
    /// Its open groups, by place in the plan.
    pub open_groups: Vec<u64>,
    /// Groups that a retiring version has yet to end, by aggregate.
    pub retiring_groups: BTreeMap<usize, u64>,
    /// What was found of each shadow since the worker started, by aggregate.
    pub comparisons: BTreeMap<usize, Comparison>,
    /// The largest watermark by which its shards closed windows.
    pub closed_up_to_us: i64,
    /// The least watermark at which nothing of it is open any more; `None` where nothing is.
    pub last_close_us: Option<i64>,
}

/// The groups of a state that one of `workers` owns, as `restore` takes them.
///
/// # Errors
/// Where the states cannot be taken apart.
pub fn share_of(
    delta: &StateDelta,
    worker: usize,
    workers: usize,
) -> Result<(Vec<GroupEntry>, BinaryArray), ArrowError> {
    let mine = |entry: &GroupEntry| owner(hash(&entry.id.key), workers) == worker;
    let numbers: Vec<u32> = (0..).zip(&delta.puts).filter(|(_, entry)| mine(entry)).map(|(i, _)| i).collect();
    let entries = numbers.iter().map(|&i| delta.puts[i as usize].clone()).collect();
    let states = arrow_select::take::take(&delta.states, &UInt32Array::from(numbers), None)?;
    Ok((entries, arrow_array::cast::AsArray::as_binary::<i32>(&states).clone()))
}
