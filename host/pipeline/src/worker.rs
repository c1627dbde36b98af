//! A worker: the lanes of its partitions and the shards of its keys, in one thread.

mod change;
mod closing;

use crate::change::Change;
use crate::checkpoint::{Cut, PartitionCut, share_of};
use crate::dead_letter::DeadLetter;
use crate::error::Error;
use crate::exchange::{Message, Rows};
use crate::fault::{FaultPolicy, FaultReport, Service, Treatment};
use crate::lane::{Lane, LaneCounts, LaneOutput, Piece};
use crate::mutation::{self, Mutation};
use crate::plan::Plan;
use crate::plugin::{Aggregate, FaultKind, Parser};
use crate::record::RawBatch;
use crate::shadow::Comparison;
use crate::shard::{Poison, Shard, ShardCounts};
use crate::state::delta::StateDelta;
use crate::time::NOTHING_SEEN;
use crate::time::trust::Trusted;
use crate::version::Role;
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
    /// Records given to the parser since that was put in.
    given: u64,
    lanes: BTreeMap<i32, Lane>,
    shards: Vec<Shard>,
    counts: LaneCounts,
    cutting: Option<Cutting>,
    /// The number of the last cut finished.
    last_cut: u64,
    closed_up_to: i64,
    treatment: Treatment,
    /// Rows held back for a cut that is finished: they are taken in when the worker goes on.
    held: VecDeque<Rows>,
    /// What became of them, to be given out with the next effects.
    left_over: Vec<Effect>,
    /// Groups of versions that are gone, to be deleted by the next cut.
    farewells: Vec<StateDelta>,
    /// What was found of each shadow, by its aggregate.
    comparisons: BTreeMap<usize, Comparison>,
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
        let counts = LaneCounts::new(shards.len());
        Self {
            plan,
            number,
            parser,
            given: 0,
            lanes: BTreeMap::new(),
            shards,
            counts,
            cutting: None,
            last_cut: 0,
            closed_up_to: NOTHING_SEEN,
            treatment: Treatment::default(),
            held: VecDeque::new(),
            left_over: Vec::new(),
            farewells: Vec::new(),
            comparisons: BTreeMap::new(),
        }
    }

    /// Sets how it treats its plugins. To be called first, as an aggregate out of service restores nothing.
    pub fn treat(&mut self, treatment: Treatment) {
        for (index, shard) in self.shards.iter_mut().enumerate() {
            shard.set_rules(treatment.rules(index));
            if let Service::Out(_) = treatment.service(index) {
                shard.take_out_of_service();
            }
        }
        self.treatment = treatment;
    }

    /// Trusts an aggregate again that was watched.
    pub fn trust(&mut self, aggregate: usize) {
        if let Some((_, service @ Service::Watched(_))) = self.treatment.aggregates.get_mut(aggregate) {
            *service = Service::Trusted;
        }
    }

    /// Gives it a partition to read from `next_offset` on.
    pub fn assign(&mut self, partition: i32, next_offset: i64, trusted: Trusted) {
        self.lanes.insert(partition, Lane::new(self.plan.clone(), partition, next_offset, trusted));
    }

    /// Gives up a partition that the topic does not have any more.
    pub fn unassign(&mut self, partition: i32) {
        self.lanes.remove(&partition);
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
            let Some(index) = aggregates.iter().position(|a| a.state_name() == delta.aggregate) else {
                return Err(Error::Corrupt(format!("state of an unknown aggregate aggregate={}", delta.aggregate)));
            };
            let (entries, states) = share_of(delta, self.number, self.plan.workers)
                .map_err(|error| Error::Corrupt(format!("states aggregate={}: {error}", delta.aggregate)))?;
            if self.has_failed(index) {
                self.shards[index].adopt_all(&entries)?;
                continue;
            }
            let restored = self.shards[index].restore(delta.state_version, &entries, &states);
            self.unless_shadow(index, restored)?;
        }
        Ok(())
    }

    /// Takes in records of one of its partitions. Not while a cut is under way.
    ///
    /// # Errors
    /// See [`Lane::process`] and [`Shard::update`].
    pub fn read(&mut self, raw: &RawBatch, effects: &mut Vec<Effect>) -> Result<(), Error> {
        debug_assert!(self.cutting.is_none(), "a worker reads nothing while it cuts");
        if mutation::on(Mutation::LateByTheFastest) {
            let fastest = self.lanes.values().map(Lane::watermark).max().unwrap_or(NOTHING_SEEN);
            self.lanes.values_mut().for_each(|lane| lane.raise(fastest));
        }
        self.take_in(raw, effects, |lane, parser, treatment, counts, out| {
            lane.process(parser, raw, treatment, counts, out).map(|()| raw.len())
        })?;
        Ok(())
    }

    /// The same, but only as far as the parser does not take too long: how many records were taken in. The others are to
    /// be parsed beside, by [`parse_apart`](crate::lane::parse_apart), and no record of the partition after them is read
    /// before they are. Where a fault is to end the run, there is no reason to let others go on: all are taken in.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn read_soon(&mut self, raw: &RawBatch, effects: &mut Vec<Effect>) -> Result<usize, Error> {
        if self.treatment.parser.policy == FaultPolicy::Stop {
            return self.read(raw, effects).map(|()| raw.len());
        }
        self.take_in(raw, effects, |lane, parser, treatment, counts, out| {
            lane.process_soon(parser, raw, treatment, counts, out)
        })
    }

    /// Takes in the first of these records, as they were parsed beside, which took `took_us`: how many.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn read_apart(
        &mut self,
        raw: &RawBatch,
        pieces: Vec<Piece>,
        took_us: i64,
        effects: &mut Vec<Effect>,
    ) -> Result<usize, Error> {
        let missed =
            |piece: &Piece| piece.parsed.as_ref().err().filter(|fault| fault.kind == FaultKind::Deadline).cloned();
        let missed = pieces.iter().find_map(missed);
        let taken = self.take_in(raw, effects, |lane, _, treatment, counts, out| {
            lane.take_pieces(raw, pieces, treatment, counts, out)
        })?;
        if let (Some(fault), Some(lane)) = (missed, self.lanes.get_mut(&raw.partition)) {
            lane.lose(&fault, took_us, &self.treatment.parser)?;
        }
        Ok(taken)
    }

    /// Takes in what `process` makes of records: how many.
    fn take_in(
        &mut self,
        raw: &RawBatch,
        effects: &mut Vec<Effect>,
        process: impl FnOnce(
            &mut Lane,
            &mut dyn Parser,
            &Treatment,
            &mut LaneCounts,
            &mut LaneOutput,
        ) -> Result<usize, Error>,
    ) -> Result<usize, Error> {
        effects.append(&mut self.left_over);
        let lane = self
            .lanes
            .get_mut(&raw.partition)
            .ok_or_else(|| Error::Bug(format!("records of a foreign partition partition={}", raw.partition)))?;
        let mut out = LaneOutput::default();
        let processed = process(lane, self.parser.as_mut(), &self.treatment, &mut self.counts, &mut out);
        effects.extend(out.faults.into_iter().map(|report| Effect::Fault(Box::new(report))));
        let taken = processed?;
        self.given += taken as u64;
        effects.extend(out.raw.into_iter().map(Effect::Raw));
        effects.extend(out.late.into_iter().map(|(aggregate, rows)| Effect::Late(aggregate, rows)));
        if !out.dead_letters.is_empty() {
            effects.push(Effect::DeadLetters(out.dead_letters));
        }
        for (worker, rows) in out.rows {
            if worker == self.number {
                self.update(&rows, effects)?;
            } else {
                effects.push(Effect::Send(worker, Message::Rows(rows)));
            }
        }
        Ok(taken)
    }

    /// Adds rows to their shard.
    fn update(&mut self, rows: &Rows, effects: &mut Vec<Effect>) -> Result<(), Error> {
        if self.has_failed(rows.aggregate) {
            return Ok(());
        }
        let mut poison = Vec::new();
        let updated = self.shards[rows.aggregate].update(rows, &mut poison);
        let updated = self.unless_shadow(rows.aggregate, updated);
        for Poison { letter, report } in poison {
            effects.extend([Effect::DeadLetters(vec![letter]), Effect::Fault(Box::new(report))]);
        }
        updated
    }

    /// Takes in what another worker sent.
    ///
    /// # Errors
    /// See [`Shard::update`].
    pub fn receive(&mut self, from: usize, message: Message, effects: &mut Vec<Effect>) -> Result<(), Error> {
        effects.append(&mut self.left_over);
        match message {
            Message::Barrier(number) => {
                self.begin_cut(number, effects);
                if let Some(cutting) = &mut self.cutting {
                    cutting.arrived[from] = true;
                }
                Ok(())
            }
            Message::Rows(rows) => match &mut self.cutting {
                Some(cutting) if cutting.arrived[from] && !mutation::on(Mutation::BarrierIgnored) => {
                    cutting.held.push_back(rows);
                    Ok(())
                }
                _ => self.update(&rows, effects),
            },
        }
    }

    /// Closes what is over at the pipeline's watermark. Everything that was sent to this worker before that
    /// watermark was read must have been received. Does nothing while a cut is under way.
    ///
    /// # Errors
    /// See [`Shard::close`].
    pub fn close(&mut self, watermark: i64, effects: &mut Vec<Effect>) -> Result<(), Error> {
        effects.append(&mut self.left_over);
        let cutting = self.cutting.is_some() && !mutation::on(Mutation::CloseWhileCutting);
        if cutting || watermark <= self.closed_up_to {
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
        effects.append(&mut self.left_over);
        self.closed_up_to = self.closed_up_to.max(watermark);
        for lane in self.lanes.values_mut() {
            lane.raise(watermark);
        }
        self.close_up_to(watermark, effects)
    }

    /// What was found of each shadow so far, by its aggregate.
    pub fn comparisons(&self) -> &BTreeMap<usize, Comparison> {
        &self.comparisons
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
        effects.append(&mut self.left_over);
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

    /// Finishes the cut that is ready. The worker stands still then, until it is told to go on.
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
        self.held = cutting.held;
        Ok((cutting.number, cut))
    }

    /// Goes on after a cut, with what changes there, and takes in the rows held back for it.
    ///
    /// # Errors
    /// A plugin's fault.
    pub fn go_on(&mut self, change: Option<Change>) -> Result<(), Error> {
        if let Some(change) = change {
            self.change(change)?;
        }
        for lane in self.lanes.values_mut() {
            lane.begin_interval();
        }
        let mut left_over = Vec::new();
        for rows in std::mem::take(&mut self.held) {
            self.update(&rows, &mut left_over)?;
        }
        self.left_over.append(&mut left_over);
        Ok(())
    }

    /// What was done for an aggregate so far, by all of its versions.
    pub fn counts_of(&self, aggregate: usize) -> ShardCounts {
        let own = self.shards[aggregate].counts();
        let retiring = self.plan.retiring(aggregate).map_or(0, |index| self.shards[index].counts().closed);
        ShardCounts { closed: own.closed + retiring, ..own }
    }

    fn cut(&mut self) -> Result<Cut, Error> {
        let partitions = self.lanes.iter().map(|(&partition, lane)| PartitionCut {
            partition,
            next_offset: lane.next_offset() + i64::from(mutation::on(Mutation::NextOffsetTooHigh)),
            trusted: lane.trusted(),
            newest: lane.newest(),
        });
        let partitions = partitions.collect();
        let mut deltas = std::mem::take(&mut self.farewells);
        for index in 0..self.shards.len() {
            let delta = if self.has_failed(index) { Ok(None) } else { self.shards[index].cut().map(Some) };
            // Nobody asks for what a shadow that failed knew.
            deltas.push(self.unless_shadow(index, delta)?.unwrap_or_else(|| self.shards[index].forget()));
        }
        let counts: Vec<ShardCounts> = (0..self.plan.in_force()).map(|index| self.counts_of(index)).collect();
        Ok(Cut {
            worker: self.number,
            partitions,
            deltas,
            counts: self.counts.clone(),
            counted: counts.iter().map(|counts| counts.counted).collect(),
            set_aside: counts.iter().map(|counts| counts.set_aside).collect(),
            closed: counts.iter().map(|counts| counts.closed).collect(),
            open_groups: self.shards.iter().map(|shard| shard.open_groups() as u64).collect(),
            retiring_groups: self.retiring_groups(),
            comparisons: self.comparisons.clone(),
            closed_up_to_us: self.closed_up_to,
            last_close_us: self.last_close(),
        })
    }

    /// How many groups the retiring version of each aggregate still has to end.
    fn retiring_groups(&self) -> BTreeMap<usize, u64> {
        let retiring = self.plan.aggregates.iter().zip(&self.shards).filter(|(plan, _)| plan.role == Role::Retiring);
        retiring.map(|(plan, shard)| (plan.of, shard.own_groups() as u64)).collect()
    }

    /// What the parser was given since it was put in, and what it has spent on that, ns.
    pub fn parsing(&self) -> (u64, u64) {
        (self.given, self.parser.spent_ns())
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
