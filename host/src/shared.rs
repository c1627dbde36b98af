//! What the threads of one attempt share, and what they say to each other.

use crate::budget::StateBudget;
use crate::failure::Failure;
use crate::kafka::Waker;
use crate::sink::SinkCut;
use crossbeam_channel::{Receiver, Sender};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wasmill_pipeline::checkpoint::{Boundary, Cut};
use wasmill_pipeline::exchange::Message;
use wasmill_pipeline::lane::LaneCounts;
use wasmill_pipeline::record::Anchor;
use wasmill_pipeline::time::watermark::Watermarks;

/// Messages waiting for one worker; each holds up to a batch of rows.
pub const INBOX: usize = 32;

/// What the coordinator asks of a worker.
#[derive(Clone, Debug)]
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
    /// Watch this aggregate no longer.
    Trust(usize),
    /// This is the last checkpoint now: tell the broker how far the group has come, and new files where they begin.
    CommitOffsets(Boundary),
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
    /// It has read everything it was to read.
    CaughtUp,
    /// It failed, and has stopped.
    Failed(Failure),
}

/// What all threads of one attempt share.
pub struct Shared {
    /// How far event time has come.
    pub watermarks: Mutex<Watermarks>,
    /// How many more records may be read before the next cut; `None` = any number.
    pub budget: Option<AtomicU64>,
    /// How much memory open state may take.
    pub state_budget: StateBudget,
    /// The number of the cut that is the last, in which all files are finished; 0 = the last is not known yet.
    pub last_cut: AtomicU64,
    /// Stop at once; what was not cut is read again by the next attempt.
    pub abort: AtomicBool,
    /// How each worker stands, for people.
    pub standing: Vec<Mutex<Standing>>,
}

impl Shared {
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
    /// Rows its shards took in, by aggregate.
    pub counted: Vec<u64>,
    /// Rows its shards set aside, by aggregate.
    pub set_aside: Vec<u64>,
    /// Rows its shards gave out, by aggregate.
    pub closed: Vec<u64>,
    /// Open groups, by aggregate.
    pub open_groups: Vec<u64>,
    /// What they take in memory, by aggregate.
    pub state_bytes: Vec<u64>,
    /// Per partition: the next offset, and the end as last heard.
    pub partitions: BTreeMap<i32, (i64, Option<i64>)>,
    /// What the source waits for, if it does.
    pub trouble: Option<String>,
    /// Records that the broker had removed before they were read.
    pub lost_records: u64,
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
