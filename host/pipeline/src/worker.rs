//! A worker: the lanes of its partitions and the shards of its keys, in one thread.

use crate::checkpoint::{Cut, PartitionCut, share_of};
use crate::dead_letter::DeadLetter;
use crate::error::Error;
use crate::exchange::{Message, Rows};
use crate::fault::FaultReport;
use crate::lane::{Lane, LaneCounts, LaneOutput};
use crate::plan::Plan;
use crate::plugin::{Aggregate, Parser};
use crate::record::RawBatch;
use crate::shard::Shard;
use crate::state::delta::StateDelta;
use crate::time::NOTHING_SEEN;
use arrow_array::RecordBatch;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a worker wants done.
#[derive(Debug)]
pub enum Effect {
    /// Write events to the raw output.
    Raw(RecordBatch),
    /// Write rows to an aggregate's late output.
    Late(usize, RecordBatch),
    /// Write dead letters.
    DeadLetters(Vec<DeadLetter>),
    /// Write an aggregate's closed windows.
    Closed(usize, RecordBatch),
    /// A fault was found and pinned on one record.
    Fault(Box<FaultReport>),
    /// Send to another worker, after everything sent there before.
    Send(usize, Message),
}

/// One worker's machines.
pub struct Worker {
    plan: Arc<Plan>,
    number: usize,
    parser: Box<dyn Parser>,
    lanes: BTreeMap<i32, Lane>,
    shards: Vec<Shard>,
    counts: LaneCounts,
    cutting: Option<Cutting>,
    /// The number of the last cut finished.
    last_cut: u64,
    closed_up_to: i64,
}

/// A cut that waits for the barriers of the other workers.
struct Cutting {
    number: u64,
    /// Whether each worker's barrier is here.
    arrived: Vec<bool>,
    /// Rows from behind a barrier: they belong after the cut.
    held: VecDeque<Rows>,
}

impl Worker {
    /// A worker without partitions and state. `aggregates` are in the order of the plan.
    pub fn new(plan: Arc<Plan>, number: usize, parser: Box<dyn Parser>, aggregates: Vec<Box<dyn Aggregate>>) -> Self {
        let shard = |(index, plugin)| Shard::new(plan.clone(), index, plugin);
        let shards: Vec<Shard> = aggregates.into_iter().enumerate().map(shard).collect();
        let counts =
            LaneCounts { late: vec![0; shards.len()], late_windows: vec![0; shards.len()], ..LaneCounts::default() };
        Self {
            plan,
            number,
            parser,
            lanes: BTreeMap::new(),
            shards,
            counts,
            cutting: None,
            last_cut: 0,
            closed_up_to: NOTHING_SEEN,
        }
    }

    /// Gives it a partition to read from `next_offset` on.
    pub fn assign(&mut self, partition: i32, next_offset: i64, watermark: i64) {
        self.lanes.insert(partition, Lane::new(self.plan.clone(), partition, next_offset, watermark));
    }

    /// One of its partitions.
    pub fn lane_mut(&mut self, partition: i32) -> Option<&mut Lane> {
        self.lanes.get_mut(&partition)
    }

    /// Its partitions, in order.
    pub fn lanes(&self) -> impl Iterator<Item = (i32, &Lane)> {
        self.lanes.iter().map(|(&partition, lane)| (partition, lane))
    }

    /// Takes up the groups of a checkpoint that are its own.
    ///
    /// # Errors
    /// A plugin that cannot read its states.
    pub fn restore(&mut self, states: &[StateDelta]) -> Result<(), Error> {
        for delta in states {
            let aggregates = &self.plan.aggregates;
            let Some(index) = aggregates.iter().position(|a| a.spec.name == delta.aggregate) else {
                return Err(Error::Corrupt(format!("state of an unknown aggregate aggregate={}", delta.aggregate)));
            };
            let (entries, states) = share_of(delta, self.number, self.plan.workers)
                .map_err(|error| Error::Corrupt(format!("states aggregate={}: {error}", delta.aggregate)))?;
            self.shards[index].restore(delta.state_version, &entries, &states)?;
        }
        Ok(())
    }

    /// Takes in records of one of its partitions. Not while a cut is under way.
    ///
    /// # Errors
    /// See [`Lane::process`] and [`Shard::update`].
    pub fn read(&mut self, raw: &RawBatch, effects: &mut Vec<Effect>) -> Result<(), Error> {
        debug_assert!(self.cutting.is_none(), "a worker reads nothing while it cuts");
        let lane = self
            .lanes
            .get_mut(&raw.partition)
            .ok_or_else(|| Error::Bug(format!("records of a foreign partition partition={}", raw.partition)))?;
        let mut out = LaneOutput::default();
        lane.process(self.parser.as_mut(), raw, &mut self.counts, &mut out)?;
        effects.extend(out.raw.into_iter().map(Effect::Raw));
        effects.extend(out.late.into_iter().map(|(aggregate, rows)| Effect::Late(aggregate, rows)));
        if !out.dead_letters.is_empty() {
            effects.push(Effect::DeadLetters(out.dead_letters));
        }
        effects.extend(out.faults.into_iter().map(|report| Effect::Fault(Box::new(report))));
        for (worker, rows) in out.rows {
            if worker == self.number {
                self.shards[rows.aggregate].update(&rows)?;
            } else {
                effects.push(Effect::Send(worker, Message::Rows(rows)));
            }
        }
        Ok(())
    }

    /// Takes in what another worker sent.
    ///
    /// # Errors
    /// See [`Shard::update`].
    pub fn receive(&mut self, from: usize, message: Message, effects: &mut Vec<Effect>) -> Result<(), Error> {
        match message {
            Message::Barrier(number) => {
                self.begin_cut(number, effects);
                if let Some(cutting) = &mut self.cutting {
                    cutting.arrived[from] = true;
                }
                Ok(())
            }
            Message::Rows(rows) => match &mut self.cutting {
                Some(cutting) if cutting.arrived[from] => {
                    cutting.held.push_back(rows);
                    Ok(())
                }
                _ => self.shards[rows.aggregate].update(&rows),
            },
        }
    }

    /// Closes what is over at the pipeline's watermark. Everything that was sent to this worker before that
    /// watermark was read must have been received. Does nothing while a cut is under way.
    ///
    /// # Errors
    /// See [`Shard::close`].
    pub fn close(&mut self, watermark: i64, effects: &mut Vec<Effect>) -> Result<(), Error> {
        if self.cutting.is_some() || watermark <= self.closed_up_to {
            return Ok(());
        }
        self.closed_up_to = watermark;
        self.close_up_to(watermark, effects)
    }

    /// Closes everything that is open, at the end of a run, once no row is under way any more. `watermark` is the
    /// least at which nothing of any worker is open ([`last_close`](Self::last_close)): rows for what is closed
    /// here will be too late.
    ///
    /// # Errors
    /// See [`Shard::close`].
    pub fn drain(&mut self, watermark: i64, effects: &mut Vec<Effect>) -> Result<(), Error> {
        self.closed_up_to = self.closed_up_to.max(watermark);
        for lane in self.lanes.values_mut() {
            lane.raise(watermark);
        }
        self.close_up_to(watermark, effects)
    }

    fn close_up_to(&mut self, watermark: i64, effects: &mut Vec<Effect>) -> Result<(), Error> {
        let mut closed = Vec::new();
        for (index, shard) in self.shards.iter_mut().enumerate() {
            shard.close(watermark, &mut closed)?;
            effects.extend(closed.drain(..).map(|rows| Effect::Closed(index, rows)));
        }
        Ok(())
    }

    /// The least watermark at which nothing of this worker is open; `None` where nothing is.
    pub fn last_close(&self) -> Option<i64> {
        self.shards.iter().filter_map(Shard::last_close).max()
    }

    /// Starts a cut between two batches: from here on, what is sent to the others belongs after it. Numbers ascend;
    /// a cut that another worker's barrier has started already, or that is finished, is not started again.
    pub fn begin_cut(&mut self, number: u64, effects: &mut Vec<Effect>) {
        if self.cutting.is_some() || number <= self.last_cut {
            return;
        }
        let workers = self.plan.workers;
        let mut arrived = vec![false; workers];
        arrived[self.number] = true;
        self.cutting = Some(Cutting { number, arrived, held: VecDeque::new() });
        let others = (0..workers).filter(|&worker| worker != self.number);
        effects.extend(others.map(|worker| Effect::Send(worker, Message::Barrier(number))));
    }

    /// Whether a cut is under way: no reading and no closing until it is finished.
    pub fn is_cutting(&self) -> bool {
        self.cutting.is_some()
    }

    /// Whether every worker's barrier is here, so that the cut can be finished.
    pub fn cut_is_ready(&self) -> bool {
        self.cutting.as_ref().is_some_and(|cutting| cutting.arrived.iter().all(|&here| here))
    }

    /// Finishes the cut that is ready, and takes in the rows held back for it.
    ///
    /// # Errors
    /// A plugin's fault, or [`Error::Bug`] where no cut is ready.
    pub fn finish_cut(&mut self) -> Result<(u64, Cut), Error> {
        if !self.cut_is_ready() {
            return Err(Error::Bug("a cut was finished before every barrier was there".into()));
        }
        let cutting = self.cutting.take().expect("a cut that is ready is under way");
        self.last_cut = cutting.number;
        let cut = self.cut()?;
        for rows in cutting.held {
            self.shards[rows.aggregate].update(&rows)?;
        }
        Ok((cutting.number, cut))
    }

    fn cut(&mut self) -> Result<Cut, Error> {
        let partitions = self.lanes.iter().map(|(&partition, lane)| PartitionCut {
            partition,
            next_offset: lane.next_offset(),
            watermark_us: lane.watermark(),
        });
        let partitions = partitions.collect();
        let deltas = self.shards.iter_mut().map(Shard::cut).collect::<Result<_, _>>()?;
        Ok(Cut {
            worker: self.number,
            partitions,
            deltas,
            counts: self.counts.clone(),
            counted: self.shards.iter().map(Shard::counted_rows).collect(),
            closed: self.shards.iter().map(Shard::closed_rows).collect(),
            open_groups: self.shards.iter().map(|s| s.open_groups() as u64).collect(),
            closed_up_to_us: self.closed_up_to,
            last_close_us: self.last_close(),
        })
    }

    /// What its lanes have seen so far.
    pub fn counts(&self) -> &LaneCounts {
        &self.counts
    }

    /// Its shards, in the order of the plan.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }
}
