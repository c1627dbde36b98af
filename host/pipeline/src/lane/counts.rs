//! What lanes have seen, in numbers.

use crate::dead_letter::Reason;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a lane has seen, since the pipeline's beginning or since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Records read.
    pub records: u64,
    /// Records the parser made neither rows nor a reject of: tombstones and what it filters.
    pub filtered: u64,
    /// Records that became rows.
    pub parsed: u64,
    /// Rows made: those of the raw output.
    pub rows: u64,
    /// Rows whose event time is the broker's, as they had none or a bad one.
    pub broker_time: u64,
    /// Records set aside, in the order of [`Reason::ALL`].
    pub dead_letters: [u64; Reason::ALL.len()],
    /// Rows too late, by aggregate.
    pub late: Vec<u64>,
    /// Sliding windows missed by rows that still counted in others, by aggregate.
    pub late_windows: Vec<u64>,
    /// Rows too late for a session although one that begins with them would not have been over, by aggregate.
    pub late_within_gap: Vec<u64>,
    /// Rows set aside because the aggregate is out of service, by aggregate.
    pub set_aside: Vec<u64>,
    /// What of it each partition gave, by its number.
    pub partitions: BTreeMap<i32, PartitionCounts>,
}

/// What one partition gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionCounts {
    /// Records read.
    pub records: u64,
    /// Rows made.
    pub rows: u64,
    /// Rows whose event time is the broker's.
    pub broker_time: u64,
    /// Those of them whose own time is there and cannot be read.
    pub unreadable: u64,
    /// Rows that claimed to be too far ahead of all before them, and that the next rows refuted.
    pub suspects: u64,
    /// Rows whose time lies more than `max_jump` before the watermark: late by hours, or it is the watermark that is wrong.
    pub behind: u64,
    /// Records set aside, in the order of [`Reason::ALL`].
    pub dead_letters: [u64; Reason::ALL.len()],
}

impl PartitionCounts {
    /// Adds what was seen besides.
    pub fn add(&mut self, other: &Self) {
        let PartitionCounts { records, rows, broker_time, unreadable, suspects, behind, dead_letters } = other;
        self.records += records;
        self.rows += rows;
        self.broker_time += broker_time;
        self.unreadable += unreadable;
        self.suspects += suspects;
        self.behind += behind;
        for (mine, others) in self.dead_letters.iter_mut().zip(dead_letters) {
            *mine += others;
        }
    }
}

impl LaneCounts {
    /// Nothing, of so many aggregates.
    pub fn new(aggregates: usize) -> Self {
        let zeros = || vec![0; aggregates];
        let (late, late_windows, late_within_gap, set_aside) = (zeros(), zeros(), zeros(), zeros());
        Self { late, late_windows, late_within_gap, set_aside, ..Self::default() }
    }

    /// What this partition gave so far.
    pub(super) fn of(&mut self, partition: i32) -> &mut PartitionCounts {
        self.partitions.entry(partition).or_default()
    }

    /// Goes on with another number of aggregates; those that stay keep their places.
    pub(crate) fn resize(&mut self, aggregates: usize) {
        for counts in [&mut self.late, &mut self.late_windows, &mut self.late_within_gap, &mut self.set_aside] {
            counts.resize(aggregates, 0);
        }
    }
}
