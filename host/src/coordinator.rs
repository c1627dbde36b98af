//! The coordinator: when cuts through all workers are made, and what ends a run.
//!
//! A cut becomes a checkpoint beside the running pipeline, by the steps of [`Checkpointer`].

mod ending;
mod switching;

use crate::accounting::Totals;
use crate::admin::control::Boundary;
use crate::assembly::Assembly;
use crate::checkpointer::{Checkpointer, Made, WholeCut};
use crate::chronicle::Chronicle;
use crate::clock;
use crate::failpoint;
use crate::failure::Failure;
use crate::faults::Faults;
use crate::kafka::Waker;
use crate::shared::{Command, Cost, Report, Shared, Unread, lock};
use crate::sink::SinkCut;
use crate::store::Probation;
use crate::switch::Switchboard;
use anyhow::anyhow;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wasmill_pipeline::checkpoint::Cut;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::record::Anchor;
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::time::NOTHING_SEEN;
use wasmill_pipeline::time::ending::Newest;
use wasmill_pipeline::time::silence::AnsweredTime;
use wasmill_pipeline::version::Role;

/// How often the coordinator looks around.
const TICK: Duration = Duration::from_millis(100);

/// What ends a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Somebody asked.
    Stopped,
    /// Somebody asked, and no final checkpoint could be made: the one before stands.
    Interrupted,
    /// Everything there was at the start has been read.
    CaughtUp,
    /// What is left of what there was at the start waited behind open transactions for longer than it was to be waited
    /// for.
    Unread(Vec<Unread>),
    /// Kafka did not give what is left of it, or what there is at all, for longer than it was to be waited for: why.
    Away(String),
}

/// What a run that ends by itself may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The end of transactions.
    Transactions,
    /// Brokers.
    Brokers,
}

/// What people see of checkpoints.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The last checkpoint's number.
    pub checkpoint: u64,
    /// How many were made by this process.
    pub made: u64,
    /// When the last was complete.
    pub completed: Option<Instant>,
    /// How long it took from the cut's start to the final names.
    pub took: Duration,
    /// The longest time a worker stood still for it.
    pub pause: Duration,
    /// State bytes it wrote.
    pub bytes: u64,
    /// Totals as of the last checkpoint.
    pub totals: Totals,
    /// Files committed by this process, by output.
    pub files: BTreeMap<String, u64>,
    /// Whether the books close, and where not.
    pub accounting: Vec<String>,
    /// What the pipeline is doing.
    pub phase: &'static str,
    /// The swap that can be taken back.
    pub probation: Option<Probation>,
    /// What was found of each shadow, by its aggregate's name.
    pub shadows: BTreeMap<String, Comparison>,
    /// The longest time a worker stood still for the last change of versions, if there was one.
    pub switch_pause: Option<Duration>,
}

/// One attempt's coordinator.
pub struct Coordinator {
    /// What makes a cut a checkpoint.
    pub checkpointer: Checkpointer,
    /// The time between two checkpoints.
    pub interval: Duration,
    /// The most records read between two cuts.
    pub max_records: Option<u64>,
    /// Close everything at the end of a run that ends by itself.
    pub drain: bool,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The workers.
    pub commands: Vec<Sender<Command>>,
    /// What wakes each worker.
    pub wakers: Vec<Waker>,
    /// What the workers say.
    pub reports: Receiver<Report>,
    /// Partitions of the topic, as they are discovered, with where to begin in each.
    pub discovered: Receiver<Vec<(i32, i64)>>,
    /// Somebody asks to stop.
    pub stop: Arc<AtomicBool>,
    /// For people.
    pub progress: Arc<Mutex<Progress>>,
    /// The partitions that are assigned.
    pub partitions: BTreeSet<i32>,
    /// How many workers have read everything they were to read.
    pub caught_up: usize,
    /// For what alone it waits, and since when.
    pub waiting: Option<(Waiting, Instant)>,
    /// How long a run that ends by itself waits for transactions when nothing else is left; `None` = any time.
    pub wait_for_transactions: Option<Duration>,
    /// How long it waits for brokers; `None` = any time.
    pub wait_for_broker: Option<Duration>,
    /// How much older its newest record must be than the newest of all for a partition not to hold the watermark when a
    /// run ends by itself, µs; `None` = all hold it.
    pub idle_timeout_us: Option<i64>,
    /// The time that passes while all partitions are idle.
    pub answered: AnsweredTime,
    /// The plugins' faults.
    pub faults: Arc<Mutex<Faults>>,
    /// The versions at work.
    pub assembly: Arc<Assembly>,
    /// Where the versions at work are told.
    pub in_force: Arc<Mutex<Option<Arc<Assembly>>>>,
    /// What is to be changed.
    pub switchboard: Arc<Switchboard>,
    /// What a new version may cost.
    pub allowance: Allowance,
    /// What the version before cost, where one is on probation.
    pub cost_before: Option<Cost>,
    /// What becomes of swaps and shadows is written down here.
    pub history: Arc<Chronicle>,
    /// The aggregate whose version before has nothing left to do.
    pub retired: Option<usize>,
    /// Aggregates of which it was said that rows were too late for their sessions by less than the gap.
    pub late_sessions_told: BTreeSet<String>,
}

/// What a version on probation may cost, compared with the one before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    /// How many times more time per row.
    pub time: Option<f64>,
    /// How many times more memory.
    pub memory: Option<f64>,
}

impl Coordinator {
    /// Runs until the end or a failure. Workers are left to stop by themselves.
    ///
    /// # Errors
    /// A worker's failure, or one of the store or the outputs.
    pub fn run(mut self) -> Result<End, Failure> {
        let result = self.work();
        if result.is_err() {
            self.shared.abort.store(true, Ordering::SeqCst);
        }
        result
    }

    fn work(&mut self) -> Result<End, Failure> {
        if self.checkpointer.checkpoint() == 0 {
            // The first checkpoint holds where reading began: `latest` means the same after a crash.
            self.cut()?;
        }
        let mut next_cut = Instant::now() + self.interval;
        let mut look = 0;
        loop {
            let last = self.shared.lookout.last();
            if std::mem::replace(&mut look, last.number) != last.number {
                lock(&self.shared.watermarks).pass_idle_time(self.answered.pass(last.asked_us));
            }
            self.assign_discovered()?;
            self.obey()?;
            if self.stop.load(Ordering::SeqCst) {
                self.phase("stopping");
                self.last_cut()?;
                return Ok(End::Stopped);
            }
            if let Some(end) = self.end()? {
                return Ok(end);
            }
            if Instant::now() >= next_cut {
                self.cut()?;
                next_cut = (next_cut + self.interval).max(Instant::now());
            }
            match self.reports.recv_timeout(TICK.min(next_cut.saturating_duration_since(Instant::now()))) {
                Ok(report) => self.hear(report)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.workers_gone()),
            }
        }
    }

    fn last_cut(&mut self) -> Result<Published, Failure> {
        self.shared.last_cut.store(self.checkpointer.checkpoint() + 1, Ordering::SeqCst);
        self.cut()
    }

    fn phase(&self, phase: &'static str) {
        lock(&self.progress).phase = phase;
    }

    fn hear(&mut self, report: Report) -> Result<(), Failure> {
        match report {
            Report::CaughtUp => {
                self.caught_up += 1;
                Ok(())
            }
            Report::Gone(partition) => {
                // Where the topic gets it again, it is a new one.
                self.partitions.remove(&partition);
                Ok(())
            }
            Report::Failed(failure) => Err(failure),
            Report::WentOn { .. } => Ok(()),
            Report::Cut { number, .. } => {
                Err(Failure::new(Class::Bug, anyhow!("a part of a cut that is not under way number={number}")))
            }
        }
    }

    /// Why workers are gone: what one said at its end, which may not have been heard yet.
    fn workers_gone(&self) -> Failure {
        let said = self.reports.try_iter().find_map(|report| match report {
            Report::Failed(failure) => Some(failure),
            _ => None,
        });
        said.unwrap_or_else(|| Failure::new(Class::Bug, anyhow!("a worker ended without saying why")))
    }

    fn tell_all(&self, command: impl Fn() -> Command) -> Result<(), Failure> {
        for (commands, waker) in self.commands.iter().zip(&self.wakers) {
            commands.send(command()).map_err(|_| self.workers_gone())?;
            waker.wake();
        }
        Ok(())
    }

    /// Gives new partitions of the topic to workers.
    fn assign_discovered(&mut self) -> Result<(), Failure> {
        while let Ok(found) = self.discovered.try_recv() {
            for (partition, next_offset) in found {
                if self.partitions.insert(partition) {
                    tracing::info!(partition, next_offset, "the topic has a new partition");
                    self.shared.lookout.add(partition);
                    let worker = worker_of(partition, self.commands.len());
                    let assign = Command::Assign { partition, next_offset };
                    self.commands[worker].send(assign).map_err(|_| self.workers_gone())?;
                    self.wakers[worker].wake();
                }
            }
        }
        Ok(())
    }

    /// Makes a checkpoint.
    fn cut(&mut self) -> Result<Published, Failure> {
        let parts = self.collect()?;
        self.publish(parts)
    }

    /// A consistent cut of all workers.
    fn collect(&mut self) -> Result<Parts, Failure> {
        let began = Instant::now();
        let number = self.checkpointer.checkpoint() + 1;
        self.tell_all(|| Command::Cut(number))?;
        let mut cuts = Vec::new();
        let mut files = SinkCut::default();
        let mut anchors = BTreeMap::new();
        let mut longest = Duration::ZERO;
        while cuts.len() < self.commands.len() {
            match self.reports.recv().map_err(|_| self.workers_gone())? {
                Report::Cut { number: of, cut, files: part, anchors: read, pause } if of == number => {
                    cuts.push(*cut);
                    files.extend(part);
                    anchors.extend(read);
                    longest = longest.max(pause);
                }
                other => self.hear(other)?,
            }
        }
        if let (Some(budget), Some(most)) = (&self.shared.budget, self.max_records) {
            budget.store(most, Ordering::SeqCst);
        }
        Ok(Parts { cuts, files, anchors, began, pause: longest })
    }

    fn publish(&mut self, parts: Parts) -> Result<Published, Failure> {
        failpoint::reach("cut-complete");
        self.obey_before_the_last()?;
        let Parts { cuts, files, anchors, began, pause } = parts;
        let idle = lock(&self.shared.watermarks).partitions().filter(|(_, mark)| mark.idle).map(|(p, _)| p).collect();
        let lost_records = self.shared.standing.iter().map(|standing| lock(standing).lost_records).sum();
        let newest = cuts.iter().flat_map(|cut| &cut.partitions).map(|p| (p.partition, p.newest)).collect();
        let open_groups = open_groups(&cuts);
        let open_until = cuts.iter().filter_map(|cut| cut.last_close_us).max().unwrap_or(NOTHING_SEEN);
        let retired = retired(&cuts, &self.assembly);
        self.warn_of_late_sessions(&cuts);
        let whole = WholeCut { cuts, files, idle, anchors, lost_records, made_at_us: clock::now_us() };
        let made = self.checkpointer.publish(whole)?;
        let boundary = made.boundary();
        self.tell_all(|| Command::CommitOffsets(boundary.clone()))?;
        failpoint::reach("offsets-told");
        self.trust_again(&made)?;
        made.events.iter().for_each(|event| self.history.note(event));
        if let Some(confirmed) = &made.confirmed {
            self.confirm(confirmed, &boundary)?;
        }
        self.note(made, began.elapsed(), pause);
        self.check_allowance()?;
        if self.checkpointer.probation().is_none()
            && let Some(aggregate) = retired
        {
            self.retired = Some(aggregate);
        }
        Ok(Published { open_until, open_groups, newest, boundary })
    }

    /// Says once in a run that rows were too late for sessions which their gap might have joined: the gap looks like the
    /// tolerance that it is not.
    fn warn_of_late_sessions(&mut self, cuts: &[Cut]) {
        for (index, plan) in self.assembly.plan.aggregates[..self.assembly.plan.in_force()].iter().enumerate() {
            let rows: u64 = cuts.iter().filter_map(|cut| cut.counts.late_within_gap.get(index)).sum();
            let aggregate = &plan.spec.name;
            if rows > 0 && self.late_sessions_told.insert(aggregate.clone()) {
                tracing::warn!(
                    aggregate,
                    rows,
                    "rows came too late for sessions by less than the gap: how much out of order rows may be is \
                     time.watermark_delay, not the gap; aggregate.{aggregate}.allowed_lateness lets sessions take them, \
                     and makes their rows come that much later"
                );
            }
        }
    }

    /// Ends the watch over aggregates that do not fail any more.
    fn trust_again(&self, made: &Made) -> Result<(), Failure> {
        let next_offset = |of| made.offsets.iter().find(|(partition, _)| *partition == of).map(|&(_, next)| next);
        let set_aside = |name| made.totals.aggregates.get(name).map_or(0, |aggregate| aggregate.set_aside);
        let set_aside: Vec<u64> = self.checkpointer.aggregates().iter().map(set_aside).collect();
        let calm = lock(&self.faults).note_checkpoint(next_offset, &set_aside);
        calm.into_iter().try_for_each(|aggregate| self.tell_all(|| Command::Trust(aggregate)))
    }

    fn note(&self, made: Made, took: Duration, pause: Duration) {
        let Made { number, totals, bytes, committed, shadows, .. } = made;
        let accounting = totals.mistakes();
        for mistake in &accounting {
            tracing::error!(checkpoint = number, "the accounting does not close: {mistake}");
        }
        tracing::debug!(checkpoint = number, ?took, ?pause, bytes, files = committed.len(), "checkpoint");
        let mut progress = lock(&self.progress);
        progress.checkpoint = number;
        progress.made += 1;
        progress.completed = Some(Instant::now());
        (progress.took, progress.pause, progress.bytes) = (took, pause, bytes);
        (progress.totals, progress.accounting) = (totals, accounting);
        (progress.probation, progress.shadows) = (self.checkpointer.probation().cloned(), shadows);
        for output in committed {
            *progress.files.entry(output).or_default() += 1;
        }
    }
}

/// All workers' parts of a cut.
struct Parts {
    cuts: Vec<Cut>,
    files: SinkCut,
    anchors: BTreeMap<i32, Anchor>,
    began: Instant,
    pause: Duration,
}

/// A checkpoint that was made.
struct Published {
    /// The least watermark at which nothing is open any more.
    open_until: i64,
    /// Open groups, by place in the plan.
    open_groups: Vec<u64>,
    /// The newest broker timestamp of each partition.
    newest: Vec<(i32, Newest)>,
    /// Where it is.
    boundary: Boundary,
}

/// Open groups of all workers, by place in the plan.
fn open_groups(cuts: &[Cut]) -> Vec<u64> {
    let places = cuts.iter().map(|cut| cut.open_groups.len()).max().unwrap_or(0);
    (0..places).map(|place| cuts.iter().filter_map(|cut| cut.open_groups.get(place)).sum()).collect()
}

/// An aggregate whose retiring version has nothing left to do: what it began is ended, and rows for more are too late.
fn retired(cuts: &[Cut], assembly: &Assembly) -> Option<usize> {
    let plan = assembly.plan.aggregates.iter().find(|plan| {
        let last = plan.spec.window.last_end(plan.starts.before_us);
        let over = last.saturating_add(plan.spec.allowed_lateness_us);
        plan.role == Role::Retiring
            && cuts.iter().all(|cut| cut.closed_up_to_us > over)
            && cuts.iter().all(|cut| cut.retiring_groups.get(&plan.of) == Some(&0))
    });
    plan.map(|plan| plan.of)
}

/// Which worker reads a partition.
pub fn worker_of(partition: i32, workers: usize) -> usize {
    partition.unsigned_abs() as usize % workers
}
