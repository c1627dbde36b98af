//! What changed in an aggregate's state between two cuts: the unit in which state is written and read back.

use arrow_array::BinaryArray;

/// What names a group in a checkpoint: its key and where its window or session starts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The key's bytes, as `key` encodes them.
    pub key: Vec<u8>,
    /// The start of the window, or the time of the session's first event, µs. What is between the starts of sliding
    /// windows stands for their panes (see `state/pane.rs`).
    pub start_us: i64,
}

/// A group and, for a session, the time of its last event (the start again for a window).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// Which group.
    pub id: GroupId,
    /// The time of its last event, µs.
    pub last_us: i64,
}

/// One aggregate's changes. Deletes apply before puts.
#[derive(Clone, Debug, PartialEq)]
pub struct StateDelta {
    /// The aggregate's name.
    pub aggregate: String,
    /// The version of `states`.
    pub state_version: u32,
    /// Groups that are gone.
    pub deletes: Vec<GroupId>,
    /// Groups that are new or changed.
    pub puts: Vec<GroupEntry>,
    /// The state of each of `puts`.
    pub states: BinaryArray,
}

impl StateDelta {
    /// No changes.
    pub fn new(aggregate: impl Into<String>, state_version: u32) -> Self {
        let states = BinaryArray::from_iter_values(std::iter::empty::<&[u8]>());
        Self { aggregate: aggregate.into(), state_version, deletes: Vec::new(), puts: Vec::new(), states }
    }

    /// How many groups it names.
    pub fn entries(&self) -> u64 {
        (self.deletes.len() + self.puts.len()) as u64
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.entries() == 0
    }
}
