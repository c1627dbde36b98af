//! One worker's thread: inputs in, a step of the machines, effects out.
//!
//! A worker reads its partitions, takes in what the others send it, closes what is over and takes part in cuts. It
//! never waits for another worker without taking in what is sent to itself meanwhile, so bounded queues cannot lock.

mod apart;
mod watch;

pub use self::apart::Apart;
pub use self::watch::{GONE_AFTER, Watch, lose_partition};
use crate::assembly::{Assembly, Outputs};
use crate::capsule::Capsules;
use crate::failpoint;
use crate::failure::Failure;
use crate::kafka::{Poll, Source};
use crate::parts::caught;
use crate::shared::{Command, Cost, LOWER, Letter, Report, Shared, Upgrade, Wires, lock};
use crate::sink::{Writers, dead_letter_batch};
use crate::tap::Taps;
use crossbeam_channel::{RecvTimeoutError, Select, TryRecvError, TrySendError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wasmill_pipeline::dead_letter::Reason;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::exchange::Message;
use wasmill_pipeline::record::{Anchor, RawBatch};
use wasmill_pipeline::shard::Shard;
use wasmill_pipeline::time::text::instant;
use wasmill_pipeline::time::trust::Trusted;
use wasmill_pipeline::worker::{Effect, Worker};

/// Rows per parse call: the contract was measured with 4,096 to 8,192; smaller stays in the L2 cache.
const BATCH_ROWS: usize = 4_096;

/// Payload bytes per parse call, so that a batch of large records stays small in memory.
const BATCH_BYTES: usize = 4 << 20;

/// The longest sleep of a worker with nothing to do; peers and the coordinator wake it earlier.
const NAP: Duration = Duration::from_millis(100);

/// Trouble is told again every few seconds while it lasts; not told again for this long, it is over.
const TROUBLE_LASTS: Duration = Duration::from_secs(10);

/// How often a worker tells how it stands.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// So many rows far before their partition's watermark are told, where they are most of its rows.
const MANY_BEHIND: u64 = 20;

/// How a worker treats its source.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Stop at these end offsets, by partition.
    pub until: Option<BTreeMap<i32, i64>>,
    /// Whether removed records are a failure.
    pub fail_on_data_loss: bool,
    /// After how long without records a partition is idle.
    pub idle_timeout: Option<Duration>,
}

/// One worker's thread.
pub struct Driver {
    /// Its number.
    pub number: usize,
    /// Its machines.
    pub worker: Worker,
    /// Its partitions.
    pub source: Source,
    /// Its files.
    pub writers: Writers,
    /// What its parts are made of.
    pub assembly: Arc<Assembly>,
    /// Which output is which.
    pub outputs: Arc<Outputs>,
    /// What keeps the plugins' faults.
    pub capsules: Arc<Capsules>,
    /// Its queues.
    pub wires: Wires,
    /// What all share.
    pub shared: Arc<Shared>,
    /// How it reads.
    pub reading: Reading,
    /// The live view.
    pub taps: Taps,
    /// What waits to be sent, in order.
    pub outbox: VecDeque<(usize, Message)>,
    /// By partition: records that are parsed beside, before any that come after them, and since when, µs since the Unix
    /// epoch.
    pub apart: BTreeMap<i32, (Arc<RawBatch>, i64)>,
    /// Who parses them.
    pub beside: Option<Apart>,
    /// What is known of each of its partitions.
    pub watches: BTreeMap<i32, Watch>,
    /// The last record taken in, by partition.
    pub anchors: BTreeMap<i32, Anchor>,
    /// When the source last told of trouble, if it still lasts.
    pub troubled: Option<Instant>,
    /// Since when it stands still, until it is told to go on after a cut.
    pub standing_since: Option<Instant>,
    /// The last dead letter of each reason.
    pub letters: BTreeMap<Reason, Letter>,
    /// Partitions whose watermark was told to be far ahead of their rows.
    pub told_ahead: BTreeSet<i32>,
}

impl Driver {
    /// Runs until told to stop; a failure is reported.
    pub fn run(mut self) {
        let worked = caught(|| self.work());
        let worked = worked.unwrap_or_else(|_| Err(Failure::new(Class::Bug, anyhow::anyhow!("a worker panicked"))));
        if let Err(failure) = worked {
            self.shared.abort.store(true, Ordering::SeqCst);
            // The coordinator may be gone already, having failed itself.
            let _ = self.wires.reports.send(Report::Failed(failure));
        }
    }

    fn work(&mut self) -> Result<(), Failure> {
        let mut told = Instant::now();
        let mut caught_up = false;
        let mut cut_began = None;
        // After the last cut nothing is read, closed or written any more.
        let mut finished = false;
        loop {
            if self.shared.abort.load(Ordering::SeqCst) || !self.obey()? {
                return Ok(());
            }
            if finished || self.standing_since.is_some() {
                self.rest();
                continue;
            }
            // The order matters: first the watermark, then everything sent before it was read, then close.
            let watermark = lock(&self.shared.watermarks).current();
            self.receive_waiting()?;
            if self.worker.is_cutting() {
                let began = *cut_began.get_or_insert_with(Instant::now);
                if self.worker.cut_is_ready() {
                    finished = self.finish_cut(began)?;
                    cut_began = None;
                } else {
                    self.rest();
                }
                continue;
            }
            self.take_parsed()?;
            let mut effects = Vec::new();
            self.worker.close(watermark, &mut effects)?;
            self.carry_out(effects)?;
            if told.elapsed() >= TELL_EVERY {
                self.look_around()?;
                self.tell()?;
                self.tell_ahead();
                told = Instant::now();
            }
            if !caught_up && self.has_caught_up() {
                caught_up = true;
                // Nothing is asked of brokers any more.
                self.trouble(None);
                let partitions: Vec<i32> = self.watches.keys().copied().collect();
                for partition in partitions {
                    self.settle(partition);
                }
                self.tell()?;
                let _ = self.wires.reports.send(Report::CaughtUp);
            }
            let granted = if caught_up { 0 } else { self.shared.reserve(BATCH_ROWS) };
            if granted == 0 {
                self.rest();
            } else {
                let read = self.read(granted)?;
                self.shared.give_back(granted - read);
            }
        }
    }

    /// Carries out what the coordinator asks. `false` = it is gone: stop.
    fn obey(&mut self) -> Result<bool, Failure> {
        loop {
            let command = match self.wires.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return Ok(true),
                Err(TryRecvError::Disconnected) => return Ok(false),
            };
            let mut effects = Vec::new();
            match command {
                Command::Cut(number) => self.worker.begin_cut(number, &mut effects),
                Command::Assign { partition, next_offset } => {
                    let mut watermarks = lock(&self.shared.watermarks);
                    watermarks.assign(partition, i64::MIN, false);
                    let floor = watermarks.wake(partition);
                    drop(watermarks);
                    self.worker.assign(partition, next_offset, Trusted::at(floor));
                    self.source.add(partition, next_offset)?;
                    self.watches.insert(partition, Watch::default());
                }
                Command::Close(watermark) => self.worker.close(watermark, &mut effects)?,
                Command::Drain(watermark) => self.worker.drain(watermark, &mut effects)?,
                Command::GoOn(upgrade) => self.go_on(upgrade)?,
                Command::Treat(treatment) => self.worker.treat(treatment.as_ref().clone()),
                Command::Trust(aggregate) => self.worker.trust(aggregate),
                Command::CommitOffsets(last) => {
                    let offsets = last.offsets.iter().map(|(&partition, &next)| (partition, next));
                    let mine: Vec<_> = offsets.filter(|(p, _)| self.watches.contains_key(p)).collect();
                    self.source.commit_offsets(&mine);
                    self.writers.set_checkpoint(last);
                }
            }
            self.carry_out(effects)?;
        }
    }

    /// Reads up to `most` records, and gives how many it read.
    fn read(&mut self, most: usize) -> Result<usize, Failure> {
        let by_progress = lock(&self.shared.watermarks);
        let mut order: Vec<(i64, i32)> =
            self.watches.keys().filter_map(|&p| Some((by_progress.partition(p)?.watermark_us, p))).collect();
        drop(by_progress);
        order.sort_unstable();
        let order: Vec<i32> = order.into_iter().map(|(_, partition)| partition).collect();
        self.source.prefer(&order);
        match self.source.poll(most, BATCH_BYTES, NAP)? {
            Poll::Batch(raw) => self.take_in(raw),
            Poll::Nothing => {
                if self.troubled.is_some_and(|since| since.elapsed() > TROUBLE_LASTS) {
                    self.trouble(None);
                }
                Ok(0)
            }
            Poll::Unavailable(what) => {
                tracing::warn!(worker = self.number, "waiting for kafka: {what}");
                self.trouble(Some(what));
                Ok(0)
            }
            Poll::DataLoss { partition, expected, found, end } => {
                self.lose(partition, expected, found, end)?;
                Ok(0)
            }
        }
    }

    fn take_in(&mut self, raw: RawBatch) -> Result<usize, Failure> {
        let Some(raw) = self.before_the_end(raw) else { return Ok(0) };
        let partition = raw.partition;
        self.watches.entry(partition).or_default().hear();
        self.wake(partition);
        self.taps.raw(&raw);
        let raw = Arc::new(raw);
        self.process(&raw)?;
        self.shared.first_batch.call_once(|| tracing::debug!(records = raw.len(), "the first batch is processed"));
        if self.troubled.is_some() {
            self.trouble(None);
        }
        failpoint::reach("batch-taken-in");
        Ok(raw.len())
    }

    /// The records before the end that this run is to stop at.
    fn before_the_end(&self, raw: RawBatch) -> Option<RawBatch> {
        let Some(&end) = self.reading.until.as_ref().and_then(|until| until.get(&raw.partition)) else {
            return Some(raw);
        };
        let inside = raw.offsets.partition_point(|&offset| offset < end);
        match inside {
            0 => None,
            all if all == raw.len() => Some(raw),
            some => Some(raw.slice(0, some)),
        }
    }

    fn lose(&mut self, partition: i32, expected: i64, found: i64, end: i64) -> Result<(), Failure> {
        let how = if found > expected {
            "records are gone from the broker before they were read"
        } else {
            "the topic was made anew or cut off: what it has now is not what was read before, and nobody knows what \
             was not read"
        };
        let what =
            format!("{how} partition={partition} expected_offset={expected} first_offset={found} end_offset={end}");
        if self.reading.fail_on_data_loss {
            let hint = "set source.on_data_loss = \"skip\" to go on at the first record there is";
            return Err(Failure::new(Class::Corrupt, anyhow::anyhow!("{what}; {hint}")));
        }
        tracing::error!("{what}; going on at the first record there is");
        lock(&self.shared.standing[self.number]).lost_records += (found - expected).max(0) as u64;
        if let Some(lane) = self.worker.lane_mut(partition) {
            lane.skip_to(found);
        }
        self.anchors.remove(&partition);
        if let Some(until) = self.reading.until.as_mut().and_then(|until| until.get_mut(&partition))
            && found <= expected
        {
            // The end that was seen at the start may have been that of the log before.
            *until = end.min(*until);
        }
        Ok(self.source.skip_to(partition, found)?)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), Failure> {
        self.write_all(effects)?;
        self.send_all()
    }

    /// Writes what is to be written; what is to be sent waits in the outbox.
    fn write_all(&mut self, effects: Vec<Effect>) -> Result<(), Failure> {
        let now = Instant::now();
        for effect in effects {
            match effect {
                Effect::Raw(rows) => {
                    self.taps.rows("parsed", &rows);
                    if let Some(output) = self.outputs.raw {
                        self.writers.write(output, &rows, now)?;
                    }
                }
                Effect::Late(aggregate, rows) => self.writers.write(self.outputs.late[aggregate], &rows, now)?,
                Effect::DeadLetters(letters) => {
                    self.letters.extend(letters.iter().map(|letter| (letter.reason, Letter::of(letter))));
                    let plugin = |aggregate| self.outputs.plugin(aggregate);
                    let rows = dead_letter_batch(&self.outputs.topic, plugin, &letters);
                    self.writers.write(self.outputs.dead_letters, &rows, now)?;
                }
                Effect::Closed(aggregate, rows) => {
                    self.taps.rows(&self.outputs.names[aggregate], &rows);
                    if let Some(output) = self.outputs.aggregates[aggregate] {
                        self.writers.write(output, &rows, now)?;
                    }
                    failpoint::reach("close-written");
                }
                Effect::Fault(report) => self.capsules.keep(&report),
                Effect::Send(to, message) => self.outbox.push_back((to, message)),
            }
        }
        Ok(())
    }

    /// Sends what waits, in order; while a peer's queue is full, takes in what is sent to itself.
    fn send_all(&mut self) -> Result<(), Failure> {
        while let Some((to, message)) = self.outbox.pop_front() {
            match self.wires.peers[to].try_send((self.number, message)) {
                Ok(()) => {
                    self.wires.wakers[to].wake();
                    failpoint::reach("rows-sent");
                }
                Err(TrySendError::Full((_, message))) => {
                    self.outbox.push_front((to, message));
                    self.receive_one(Duration::from_millis(1))?;
                }
                // The peer failed, and says so itself.
                Err(TrySendError::Disconnected(_)) => self.outbox.clear(),
            }
            if self.shared.abort.load(Ordering::Relaxed) {
                self.outbox.clear();
            }
        }
        Ok(())
    }

    fn receive_waiting(&mut self) -> Result<(), Failure> {
        while let Ok((from, message)) = self.wires.inbox.try_recv() {
            self.receive(from, message)?;
        }
        self.send_all()
    }

    /// Sleeps until a worker or the coordinator sends something.
    fn rest(&self) {
        let mut any = Select::new();
        // What others send once they go on is not for one who stands still.
        if self.standing_since.is_none() {
            any.recv(&self.wires.inbox);
        }
        any.recv(&self.wires.commands);
        // A timeout is as good as a message: the loop looks at everything again.
        let _ = any.ready_timeout(NAP);
    }

    fn receive_one(&mut self, wait: Duration) -> Result<(), Failure> {
        match self.wires.inbox.recv_timeout(wait) {
            Ok((from, message)) => self.receive(from, message),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    /// Takes in one message. What this makes it send waits in the outbox, behind what waits there already.
    fn receive(&mut self, from: usize, message: Message) -> Result<(), Failure> {
        let mut effects = Vec::new();
        let received = self.worker.receive(from, message, &mut effects);
        self.unless_failed(received, &effects)?;
        self.write_all(effects)
    }

    /// A failure, before which only its report is told: nothing else of that step is done.
    fn unless_failed<T>(
        &self,
        step: Result<T, wasmill_pipeline::error::Error>,
        effects: &[Effect],
    ) -> Result<T, Failure> {
        if step.is_err() {
            for effect in effects {
                if let Effect::Fault(report) = effect {
                    self.capsules.keep(report);
                }
            }
        }
        Ok(step?)
    }

    /// Reports this worker's part of the cut, and says whether it was the last cut.
    fn finish_cut(&mut self, began: Instant) -> Result<bool, Failure> {
        let (number, cut) = self.worker.finish_cut()?;
        let last = self.shared.last_cut.load(Ordering::SeqCst) == number;
        let stand = self.shared.stand_at.load(Ordering::SeqCst) == number;
        let files = self.writers.cut(Instant::now(), last || stand)?;
        failpoint::reach("cut-part-made");
        self.tell()?;
        let anchors = self.anchors.clone();
        let report = Report::Cut { number, cut: Box::new(cut), files, anchors, pause: began.elapsed() };
        let _ = self.wires.reports.send(report);
        if stand {
            self.standing_since = Some(began);
        } else {
            self.worker.go_on(None)?;
        }
        Ok(last)
    }

    /// Goes on after a cut at which all stood still.
    fn go_on(&mut self, upgrade: Option<Box<Upgrade>>) -> Result<(), Failure> {
        let Some(since) = self.standing_since.take() else { return Ok(()) };
        let (change, assembly) = match upgrade {
            None => (None, None),
            Some(upgrade) => {
                let Upgrade { assembly, change } = *upgrade;
                self.writers.set_outputs(&assembly.output_specs)?;
                (self.outputs, self.capsules) = (assembly.outputs.clone(), assembly.capsules.clone());
                (Some(change), Some(assembly))
            }
        };
        self.worker.go_on(change)?;
        if let Some(assembly) = assembly {
            self.parse_with(assembly)?;
        }
        failpoint::reach("gone-on");
        let _ = self.wires.reports.send(Report::WentOn { pause: since.elapsed() });
        Ok(())
    }

    /// All there is of a partition was read: its watermark goes by that.
    fn settle(&mut self, partition: i32) {
        if let Some(lane) = self.worker.lane_mut(partition) {
            lane.settle();
            lock(&self.shared.watermarks).advance(partition, lane.watermark());
        }
    }

    /// Says, once, where most rows of a partition lie far before its watermark, and what can be done.
    fn tell_ahead(&mut self) {
        for (&partition, counts) in &self.worker.counts().partitions {
            let (behind, rows) = (counts.behind, counts.rows);
            if behind >= MANY_BEHIND && behind * 2 > rows && self.told_ahead.insert(partition) {
                let lane = self.worker.lanes().find(|&(number, _)| number == partition);
                let watermark = lane.map(|(_, lane)| instant(lane.watermark())).unwrap_or_default();
                tracing::warn!(partition, "{behind} of {rows} rows lie far before the watermark, {watermark}. {LOWER}");
            }
        }
    }

    fn trouble(&mut self, what: Option<String>) {
        self.troubled = what.as_ref().map(|_| Instant::now());
        lock(&self.shared.standing[self.number]).trouble = what;
    }

    /// Tells how it stands, and stops where all workers together hold more state than they may.
    fn tell(&self) -> Result<(), Failure> {
        let mut standing = lock(&self.shared.standing[self.number]);
        standing.counts = self.worker.counts().clone();
        let letter = |(reason, letter): (&Reason, &Letter)| (reason.as_str().to_owned(), letter.clone());
        standing.letters = self.letters.iter().map(letter).collect();
        let shards = self.worker.shards();
        let counts = (0..self.outputs.in_force).map(|index| self.worker.counts_of(index));
        let counts: Vec<_> = counts.collect();
        standing.counted = counts.iter().map(|counts| counts.counted).collect();
        standing.set_aside = counts.iter().map(|counts| counts.set_aside).collect();
        standing.closed = counts.iter().map(|counts| counts.closed).collect();
        standing.open_groups = shards.iter().map(|s| s.open_groups() as u64).collect();
        standing.state_bytes = shards.iter().map(Shard::state_bytes).collect();
        let cost = |shard: &Shard| Cost {
            rows: shard.given_rows(),
            spent_ns: shard.spent_ns(),
            memory_bytes: shard.memory_bytes(),
        };
        let (rows, spent_ns) = self.worker.parsing();
        let of_parser = Cost { rows, spent_ns, memory_bytes: 0 };
        standing.costs = (shards.iter().map(cost).collect(), of_parser);
        standing.comparisons = self.worker.comparisons().clone();
        let look = self.shared.lookout.last();
        let places = self.worker.lanes().map(|(p, lane)| (p, self.place(p, lane.next_offset(), &look)));
        standing.partitions = places.collect();
        standing.left = self.behind_the_end().collect();
        standing.held = self.only_transactions_left(&standing.left);
        drop(standing);
        self.shared.state_budget.check(&self.outputs.names, &self.shared.standing)
    }
}
