//! Faults of plugins: which records they happened on, what is done about them, and when it is given up.

use crate::plugin::Fault;
use crate::record::RawBatch;
use crate::time::text::span;
use arrow_array::ArrayRef;
use std::sync::Arc;

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
#[expect(clippy::large_enum_variant, reason = "there are few, each in a box with its report")]
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

/// What is done about faults of a plugin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultRules {
    /// What becomes of a record that makes it fail.
    pub policy: FaultPolicy,
    /// The share of records that may fail in a checkpoint's interval, 0 to 1.
    pub breaker: f64,
    /// How long records on which a parser misses its deadline may hold up a partition, in intervals in a row in which
    /// there are some, µs.
    pub breaker_time_us: i64,
}

impl Default for FaultRules {
    /// Records are set aside, up to one in a hundred, and for ten minutes.
    fn default() -> Self {
        Self { policy: FaultPolicy::DeadLetter, breaker: 0.01, breaker_time_us: 600_000_000 }
    }
}

/// What becomes of a record that makes a plugin fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPolicy {
    /// It is set aside, and the rest goes on.
    DeadLetter,
    /// The run ends.
    Stop,
}

/// The least number of faults that the breaker counts: below it no share says anything.
const FEWEST_FAULTS: u64 = 10;

/// Counts the records of an interval and those of them that fail, and says when that is too many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Breaker {
    seen: u64,
    faults: u64,
    /// The time lost on missed deadlines, in this interval and those before it in which there were some, µs.
    lost_us: i64,
    /// Whether some was lost in this interval.
    loses: bool,
}

impl Breaker {
    /// Notes records that a plugin is about to be given.
    pub(crate) fn see(&mut self, records: usize) {
        self.seen += records as u64;
    }

    /// Notes a record that made it fail. The answer is what to do instead of setting it aside, if anything.
    pub(crate) fn fault(&mut self, rules: &FaultRules, origin: (i32, i64)) -> Option<Cause> {
        self.faults += 1;
        if rules.policy == FaultPolicy::Stop {
            return Some(Cause::Record { partition: origin.0, offset: origin.1 });
        }
        let too_many = self.faults >= FEWEST_FAULTS && self.faults as f64 > rules.breaker * self.seen as f64;
        too_many.then_some(Cause::TooMany { faults: self.faults, seen: self.seen })
    }

    /// Notes the time that was lost to find a record on which the parser misses its deadline. The answer is as for
    /// [`fault`](Self::fault).
    pub(crate) fn lose(&mut self, rules: &FaultRules, time_us: i64) -> Option<Cause> {
        self.lost_us = self.lost_us.saturating_add(time_us);
        self.loses = true;
        (self.lost_us > rules.breaker_time_us).then_some(Cause::TooLong { lost_us: self.lost_us })
    }

    /// Begins the next interval, with so many records that were noted and are still to be parsed.
    pub(crate) fn reset(&mut self, left: u64) {
        let lost_us = if self.loses { self.lost_us } else { 0 };
        *self = Self { seen: left, lost_us, ..Self::default() };
    }
}

/// A fault that whoever met it cannot go on from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault} {cause}")]
pub struct PluginFailure {
    /// Whose fault it is, by its place in the plan; `None` = the parser's.
    pub aggregate: Option<usize>,
    /// What went wrong.
    pub fault: Fault,
    /// Where, and why there is no way on.
    pub cause: Cause,
}

/// Where a fault happened that there is no way on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// On one or more of these records: the aggregate has to be watched to find out which.
    Records(Suspects),
    /// On this record, and that is to end the run.
    Record {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
    /// On more records than may fail.
    TooMany {
        /// How many failed since the last cut.
        faults: u64,
        /// How many there were since then.
        seen: u64,
    },
    /// On records that took more time than may be lost.
    TooLong {
        /// The time, µs.
        lost_us: i64,
    },
    /// In this call, which concerns state, not a record.
    Call(&'static str),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Records(Suspects { partition, first, last }) => {
                write!(f, "on one of the records partition={partition} first_offset={first} last_offset={last}")
            }
            Self::Record { partition, offset } => write!(f, "on a record partition={partition} offset={offset}"),
            Self::TooMany { faults, seen } => write!(f, "on too many records faults={faults} records={seen}"),
            Self::TooLong { lost_us } => write!(f, "on records that cost too much time lost={}", span(*lost_us)),
            Self::Call(call) => write!(f, "in {call}"),
        }
    }
}

/// Records on one or more of which an aggregate failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspects {
    /// Their partition.
    pub partition: i32,
    /// The first one's offset.
    pub first: i64,
    /// The last one's offset.
    pub last: i64,
}

/// How an aggregate is treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// As one that never failed.
    #[default]
    Trusted,
    /// As one that fails on some of these records, or of all (`None`): their rows travel with the records, and are tried
    /// before they count.
    Watched(Option<Suspects>),
    /// It gets no rows and is asked nothing; its rows are set aside, for this reason.
    Out(Arc<str>),
}

impl Service {
    /// Whether rows of these records are to be tried before they count.
    pub(crate) fn is_careful_with(&self, raw: &RawBatch) -> bool {
        match (self, raw.offsets.first(), raw.offsets.last()) {
            (Self::Watched(Some(of)), Some(&first), Some(&last)) => {
                of.partition == raw.partition && of.first <= last && of.last >= first
            }
            (Self::Watched(None), ..) => true,
            _ => false,
        }
    }
}

/// How a worker treats its plugins.
#[derive(Clone, Debug, Default)]
pub struct Treatment {
    /// What is done about faults of the parser.
    pub parser: FaultRules,
    /// Of each aggregate: what is done about its faults, and how it is treated until then. What is not there is as
    /// by default.
    pub aggregates: Vec<(FaultRules, Service)>,
}

impl Treatment {
    /// How an aggregate is treated.
    pub fn service(&self, aggregate: usize) -> &Service {
        self.aggregates.get(aggregate).map_or(&Service::Trusted, |(_, service)| service)
    }

    /// What is done about an aggregate's faults.
    pub fn rules(&self, aggregate: usize) -> FaultRules {
        self.aggregates.get(aggregate).map_or_else(FaultRules::default, |(rules, _)| *rules)
    }
}
