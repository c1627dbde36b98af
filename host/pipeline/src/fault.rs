//! Faults of plugins: which records they happened on, and what the plugin was asked.

use crate::plugin::Fault;
use crate::record::RawBatch;
use arrow_array::ArrayRef;

/// A fault that is pinned on one record: all that it takes to see it again.
#[derive(Debug)]
pub struct FaultReport {
    /// What went wrong.
    pub fault: Fault,
    /// Whose fault it is, by its place in the plan; `None` = the parser's.
    pub aggregate: Option<usize>,
    /// The record's partition and offset.
    pub origin: (i32, i64),
    /// The call that failed.
    pub call: FaultyCall,
}

/// A call that failed, with its arguments.
#[derive(Debug)]
pub enum FaultyCall {
    /// The parser was given this record.
    Parse {
        /// One record.
        record: RawBatch,
    },
    /// An aggregate was given one row.
    Update {
        /// The version and the bytes of its slot's state before the row; `None` where the slot was new.
        state: Option<(u32, Vec<u8>)>,
        /// The aggregate's inputs, of one row each.
        inputs: Vec<ArrayRef>,
    },
    /// An aggregate was asked for the result of one slot.
    Finish {
        /// The version and the bytes of the slot's state.
        state: (u32, Vec<u8>),
        /// The aggregate's context, of one row each.
        context: Vec<ArrayRef>,
    },
}
