//! What the threads of one attempt share, and what they say to each other.

use crate::accounting::Totals;
use crate::assembly::Assembly;
use crate::budget::StateBudget;
use crate::failure::Failure;
use crate::kafka::{Lookout, Waker};
use crate::shown::is_hidden;
use crate::sink::SinkCut;
use crossbeam_channel::{Receiver, Sender};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;
use wasmill_pipeline::change::Change;
use wasmill_pipeline::checkpoint::{Boundary, Cut};
use wasmill_pipeline::dead_letter::DeadLetter;
use wasmill_pipeline::exchange::Message;
use wasmill_pipeline::fault::Treatment;
use wasmill_pipeline::lane::LaneCounts;
use wasmill_pipeline::record::{Anchor, RawBatch};
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::time::watermark::Watermarks;

/// Messages waiting for one worker; each holds up to a batch of rows.
pub const INBOX: usize = 32;

/// What can be done about a watermark that is too far ahead, for people.
pub const LOWER: &str =
    "Where a wrong clock has moved it, start once with --lower-watermark TIME, before which all was well";

/// What the coordinator asks of a worker.
pub enum Command {
    /// Take part in this cut.
    Cut(u64),
    /// Read a partition from this offset on.
    Assign {
        /// Which.
        partition: i32,
        /// Where to begin.
        next_offset: i64,
    },
    /// Close what is over at this watermark; nothing that was read is still under way.
    Close(i64),
    /// Close everything: nothing is open at this watermark.
    Drain(i64),
    /// Go on after a cut at which all stand still, with what changes there.
    GoOn(Option<Box<Upgrade>>),
    /// Treat the plugins in this way from now on.
    Treat(Arc<Treatment>),
    /// Watch this aggregate no longer.
    Trust(usize),
    /// This is the last checkpoint now: tell the broker how far the group has come, and new files where they begin.
    CommitOffsets(Boundary),
}

/// What a worker goes on with.
pub struct Upgrade {
    /// How the parts fit together.
    pub assembly: Arc<Assembly>,
    /// What changes in its machines.
    pub change: Change,
}

/// What a worker tells the coordinator.
#[derive(Debug)]
pub enum Report {
    /// Its part of a cut.
    Cut {
        /// The cut's number.
        number: u64,
        /// The machines' part.
        cut: Box<Cut>,
        /// The files' part.
        files: SinkCut,
        /// The last record read, by partition.
        anchors: BTreeMap<i32, Anchor>,
        /// How long the worker did nothing else.
        pause: Duration,
    },
    /// It goes on after a cut at which all stood still.
    WentOn {
        /// How long it had done nothing else.
        pause: Duration,
    },
    /// It has read everything it was to read.
    CaughtUp,
    /// The topic does not have this partition any more.
    Gone(i32),
    /// It failed, and has stopped.
    Failed(Failure),
}

/// What all threads of one attempt share.
pub struct Shared {
    /// What had been counted before this attempt.
    pub base: Totals,
    /// How far event time has come.
    pub watermarks: Mutex<Watermarks>,
    /// Where partitions end.
    pub lookout: Lookout,
    /// How many more records may be read before the next cut; `None` = any number.
    pub budget: Option<AtomicU64>,
    /// How much memory open state may take.
    pub state_budget: StateBudget,
    /// The number of the cut that is the last, in which all files are finished; 0 = the last is not known yet.
    pub last_cut: AtomicU64,
    /// The number of the cut at which all close their files and stand still until they are told to go on; 0 = none.
    pub stand_at: AtomicU64,
    /// The last records read.
    pub samples: Samples,
    /// Done when the first batch of this attempt is processed.
    pub first_batch: Once,
    /// Stop at once; what was not cut is read again by the next attempt.
    pub abort: AtomicBool,
    /// How each worker stands, for people.
    pub standing: Vec<Mutex<Standing>>,
}

impl Shared {
    /// How each worker stands by now.
    pub fn standings(&self) -> Vec<Standing> {
        self.standing.iter().map(|standing| lock(standing).clone()).collect()
    }

    /// What has been counted by workers that stand so, and before them. `names` are the aggregates in force.
    pub fn totals(&self, names: &[String], standings: &[Standing]) -> Totals {
        let mut totals = self.base.clone();
        for standing in standings {
            totals.add_lanes(names, &standing.counts);
            totals.add_shards(names, &standing.counted, &standing.set_aside, &standing.closed);
            totals.lost_records += standing.lost_records;
        }
        totals
    }

    /// Takes up to `most` records from the budget.
    pub(crate) fn reserve(&self, most: usize) -> usize {
        let Some(budget) = &self.budget else { return most };
        let take = |left: u64| Some(left - left.min(most as u64));
        let left = budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).unwrap_or(0);
        left.min(most as u64) as usize
    }

    /// Gives back what was taken and not read.
    pub(crate) fn give_back(&self, unread: usize) {
        if let Some(budget) = &self.budget {
            budget.fetch_add(unread as u64, Ordering::SeqCst);
        }
    }
}

/// How a worker stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What its lanes have seen in this attempt.
    pub counts: LaneCounts,
    /// The last dead letter of each reason.
    pub letters: BTreeMap<String, Letter>,
    /// Rows its shards took in, by aggregate in force.
    pub counted: Vec<u64>,
    /// Rows its shards set aside, by aggregate in force.
    pub set_aside: Vec<u64>,
    /// Rows its shards gave out, by aggregate in force.
    pub closed: Vec<u64>,
    /// Open groups, by place in the plan.
    pub open_groups: Vec<u64>,
    /// What they take in memory, by place in the plan.
    pub state_bytes: Vec<u64>,
    /// What plugins have cost since they were put in: of each place in the plan, and of the parser.
    pub costs: (Vec<Cost>, Cost),
    /// What was found of each shadow, by its aggregate.
    pub comparisons: BTreeMap<usize, Comparison>,
    /// Where each of its partitions stands.
    pub partitions: BTreeMap<i32, Place>,
    /// What is left to read before the ends of this run.
    pub left: Vec<Unread>,
    /// Whether there is some, and all of it lies behind open transactions.
    pub held: bool,
    /// What the source waits for, if it does.
    pub trouble: Option<String>,
    /// Records that the broker had removed before they were read.
    pub lost_records: u64,
}

/// An example of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The record's partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// What is wrong with it.
    pub message: String,
}

impl Letter {
    /// This one. Its message is a plugin's, which may hold anything: none of it writes to the terminal.
    pub fn of(letter: &DeadLetter) -> Self {
        let message = letter.message.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect();
        Self { partition: letter.partition, offset: letter.offset, message }
    }
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The next offset.
    pub next_offset: i64,
    /// The high watermark, as last looked at.
    pub high: Option<i64>,
    /// How many offsets are unread.
    pub lag: Option<u64>,
    /// Whether records wait for a transaction to end.
    pub held: Option<Held>,
    /// Since when records are parsed beside, as they take the parser too long, µs since the Unix epoch.
    pub slow_since_us: Option<i64>,
}

/// Records that wait behind an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Since when that is known, µs since the Unix epoch.
    pub since_us: i64,
    /// How many offsets are unread.
    pub unread: i64,
    /// Whether it lasts for longer than a partition without records would hold the watermark.
    pub long: bool,
}

/// Offsets of a partition that a run was to read and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Which.
    pub partition: i32,
    /// The first.
    pub from: i64,
    /// The one after the last.
    pub end: i64,
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "partition {} stands at {} of {}", self.partition, self.from, self.end)
    }
}

/// What a plugin has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Rows, or records, given to it.
    pub rows: u64,
    /// Time spent in it, ns.
    pub spent_ns: u64,
    /// Its memory, bytes.
    pub memory_bytes: u64,
}

impl Cost {
    /// Of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            spent_ns: self.spent_ns + other.spent_ns,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }

    /// The time that a row costs, ns; 0 where there was none.
    pub fn ns_per_row(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.spent_ns as f64 / self.rows as f64 }
    }
}

/// The last records that each worker read, for trying out plugins.
pub struct Samples(Vec<Mutex<VecDeque<Arc<RawBatch>>>>);

impl Samples {
    /// How many records of a worker are kept at least, where it has read that many.
    const RECORDS: usize = 4_096;

    /// Of so many workers, nothing yet.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Mutex::default()).collect())
    }

    /// Keeps a batch, and lets go of old ones.
    pub fn keep(&self, worker: usize, raw: Arc<RawBatch>) {
        let mut kept = lock(&self.0[worker]);
        kept.push_back(raw);
        let mut records: usize = kept.iter().map(|raw| raw.len()).sum();
        while let Some(oldest) = kept.front()
            && records - oldest.len() >= Self::RECORDS
        {
            records -= oldest.len();
            kept.pop_front();
        }
    }

    /// All that are kept.
    pub fn all(&self) -> Vec<Arc<RawBatch>> {
        self.0.iter().flat_map(|kept| lock(kept).clone()).collect()
    }
}

/// Locks, whether or not a thread died holding it: the attempt is over then anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ends of the queues a worker holds.
pub struct Wires {
    /// What the coordinator asks.
    pub commands: Receiver<Command>,
    /// What other workers send.
    pub inbox: Receiver<(usize, Message)>,
    /// Where to send to each worker.
    pub peers: Vec<Sender<(usize, Message)>>,
    /// What wakes each worker.
    pub wakers: Vec<Waker>,
    /// What the coordinator hears.
    pub reports: Sender<Report>,
}
