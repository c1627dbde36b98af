//! The state of open groups as the store sees it: opaque keys, opaque bytes.

use arrow_array::{Array, BinaryArray};

/// A group: one window of one key. Unique within its aggregate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// Start of its window, µs since the Unix epoch.
    pub start_us: i64,
    /// Its key, encoded by the pipeline.
    pub key: Vec<u8>,
}

/// A group that has state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupState {
    /// Which one.
    pub id: GroupId,
    /// Its latest event time, µs since the Unix epoch.
    pub last_us: i64,
}

/// What changed in the groups of one aggregate; the deletes come before the puts.
///
/// Several deltas of one aggregate may be in one checkpoint, as each worker makes its own; they must not share a group.
/// The same type holds whole state: then there are no deletes.
#[derive(Clone, Debug, PartialEq)]
pub struct StateDelta {
    /// The aggregate's name.
    pub aggregate: String,
    /// The version of the plugin's state encoding that `states` has.
    pub state_version: u32,
    /// Groups that are no more.
    pub deletes: Vec<GroupId>,
    /// Groups that are new or have another state.
    pub puts: Vec<GroupState>,
    /// Their states, whole: one per entry of `puts`, no nulls.
    pub states: BinaryArray,
}

impl StateDelta {
    /// An empty delta.
    pub fn new(aggregate: impl Into<String>, state_version: u32) -> Self {
        Self {
            aggregate: aggregate.into(),
            state_version,
            deletes: Vec::new(),
            puts: Vec::new(),
            states: BinaryArray::from_iter_values(std::iter::empty::<&[u8]>()),
        }
    }

    /// How many groups it names.
    pub fn entries(&self) -> u64 {
        (self.deletes.len() + self.puts.len()) as u64
    }

    /// Whether there is exactly one state per put.
    pub(super) fn is_consistent(&self) -> bool {
        self.puts.len() == self.states.len() && self.states.null_count() == 0
    }
}
