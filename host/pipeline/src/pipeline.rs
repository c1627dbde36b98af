//! The whole way of the data, in one thread: what happens to a record, read top to bottom.
//!
//! ```text
//!  records ─▶ lane: parse ▸ event time ▸ too late? ─rows by key─▶ exchange ─▶ shard: window ▸ group ▸ update
//!                 │ the partition's watermark                                    │ over? finish, in order
//!                 └──────▶ watermarks: the least of all partitions ──────────────┘─▶ rows of closed windows
//! ```
//!
//! The threads of the `wasmill` crate run the same machines with real queues between them; tests and simulations
//! run them here, where every order of deliveries can be chosen.

use crate::change::Change;
use crate::checkpoint::Cut;
use crate::error::Error;
use crate::exchange::Message;
use crate::mutation::{self, Mutation};
use crate::record::RawBatch;
use crate::time::NOTHING_SEEN;
use crate::time::trust::Trusted;
use crate::time::watermark::Watermarks;
use crate::worker::{Effect, Worker};
use std::collections::VecDeque;

/// What workers want written, and which of them.
pub type Written = Vec<(usize, Effect)>;

/// All workers of a pipeline, the queues between them and the watermarks.
pub struct Pipeline {
    workers: Vec<Worker>,
    /// What was sent to each worker and not received yet: who sent it, and what.
    queues: Vec<VecDeque<(usize, Message)>>,
    watermarks: Watermarks,
    cuts: u64,
}

impl Pipeline {
    /// Of these workers, in the order of their numbers, with their partitions assigned.
    pub fn new(workers: Vec<Worker>, mut watermarks: Watermarks) -> Self {
        for worker in &workers {
            for (partition, lane) in worker.lanes() {
                watermarks.assign(partition, lane.watermark(), false);
            }
        }
        let queues = workers.iter().map(|_| VecDeque::new()).collect();
        Self { workers, queues, watermarks, cuts: 0 }
    }

    /// Records come in from Kafka, to the worker that has their partition.
    ///
    /// # Errors
    /// See [`Worker::read`].
    pub fn read(&mut self, worker: usize, raw: &RawBatch, written: &mut Written) -> Result<(), Error> {
        self.wake(worker, raw.partition);
        let mut effects = Vec::new();
        self.workers[worker].read(raw, &mut effects)?;
        self.carry_out(worker, effects, written);
        // Only now, with its rows handed on, may the batch move the watermark.
        if let Some(lane) = self.workers[worker].lane_mut(raw.partition) {
            self.watermarks.advance(raw.partition, lane.watermark());
        }
        Ok(())
    }

    /// Takes a partition back into the minimum of watermarks, if it was left out.
    pub fn wake(&mut self, worker: usize, partition: i32) {
        if self.watermarks.partition(partition).is_some_and(|mark| mark.idle) {
            let floor = self.watermarks.wake(partition);
            if let Some(lane) = self.workers[worker].lane_mut(partition) {
                lane.raise(floor);
            }
        }
    }

    /// A partition that is new to the topic, for one of the workers.
    pub fn assign(&mut self, worker: usize, partition: i32, next_offset: i64) {
        self.watermarks.assign(partition, NOTHING_SEEN, false);
        let floor = self.watermarks.wake(partition);
        self.workers[worker].assign(partition, next_offset, Trusted::at(floor));
    }

    /// A partition gives nothing more for now: it is left out of the minimum.
    pub fn fall_silent(&mut self, worker: usize, partition: i32) {
        self.settle(worker, partition);
        self.watermarks.set_idle(partition);
    }

    /// All there is of a partition was read: its watermark goes by that.
    pub fn settle(&mut self, worker: usize, partition: i32) {
        if let Some(lane) = self.workers[worker].lane_mut(partition) {
            lane.settle();
            self.watermarks.advance(partition, lane.watermark());
        }
    }

    /// A worker receives the first message waiting for it.
    ///
    /// # Errors
    /// See [`Worker::receive`].
    pub fn deliver(&mut self, worker: usize, written: &mut Written) -> Result<bool, Error> {
        let Some((from, message)) = self.queues[worker].pop_front() else { return Ok(false) };
        let mut effects = Vec::new();
        self.workers[worker].receive(from, message, &mut effects)?;
        self.carry_out(worker, effects, written);
        Ok(true)
    }

    /// A worker closes what is over: the watermark first, then all that was sent before it was read, then close.
    ///
    /// # Errors
    /// See [`Worker::close`].
    pub fn close(&mut self, worker: usize, written: &mut Written) -> Result<(), Error> {
        let watermark = self.watermarks.current();
        while !mutation::on(Mutation::CloseBeforeReceiving) && self.deliver(worker, written)? {}
        let mut effects = Vec::new();
        self.workers[worker].close(watermark, &mut effects)?;
        self.carry_out(worker, effects, written);
        Ok(())
    }

    /// The next cut begins; workers hear of it one by one, from here or from another's barrier.
    pub fn next_cut(&mut self) {
        self.cuts += 1;
    }

    /// A worker hears of the cut that has begun.
    pub fn begin_cut(&mut self, worker: usize, written: &mut Written) {
        let mut effects = Vec::new();
        self.workers[worker].begin_cut(self.cuts, &mut effects);
        self.carry_out(worker, effects, written);
    }

    /// A worker's part of the cut, once every barrier has come to it. What it writes later belongs after the cut.
    ///
    /// # Errors
    /// See [`Worker::finish_cut`].
    pub fn finish_cut(&mut self, worker: usize) -> Result<Option<Cut>, Error> {
        if !self.workers[worker].cut_is_ready() {
            return Ok(None);
        }
        let (_, cut) = self.workers[worker].finish_cut()?;
        Ok(Some(cut))
    }

    /// A worker goes on after its part of a cut, with what changes there.
    ///
    /// # Errors
    /// See [`Worker::go_on`].
    pub fn go_on(&mut self, worker: usize, change: Option<Change>) -> Result<(), Error> {
        self.workers[worker].go_on(change)
    }

    /// A consistent cut of all workers, one after the other.
    ///
    /// # Errors
    /// See [`Worker::finish_cut`].
    pub fn cut(&mut self, written: &mut Written) -> Result<Vec<Cut>, Error> {
        self.next_cut();
        for worker in 0..self.workers.len() {
            self.begin_cut(worker, written);
        }
        let mut cuts = Vec::new();
        for worker in 0..self.workers.len() {
            while !self.workers[worker].cut_is_ready() && self.deliver(worker, written)? {}
            cuts.extend(self.finish_cut(worker)?);
            self.go_on(worker, None)?;
        }
        Ok(cuts)
    }

    /// Closes everything, at the end of a run.
    ///
    /// # Errors
    /// See [`Worker::drain`].
    pub fn drain(&mut self, written: &mut Written) -> Result<(), Error> {
        for worker in 0..self.workers.len() {
            self.close(worker, written)?;
        }
        let Some(last) = self.workers.iter().filter_map(Worker::last_close).max() else { return Ok(()) };
        self.watermarks.raise(last);
        for worker in 0..self.workers.len() {
            let mut effects = Vec::new();
            self.workers[worker].drain(last, &mut effects)?;
            self.carry_out(worker, effects, written);
        }
        Ok(())
    }

    /// Every worker trusts an aggregate again that was watched.
    pub fn trust(&mut self, aggregate: usize) {
        for worker in &mut self.workers {
            worker.trust(aggregate);
        }
    }

    /// The watermarks, to set partitions idle or let time pass.
    pub fn watermarks(&mut self) -> &mut Watermarks {
        &mut self.watermarks
    }

    /// The workers.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    fn carry_out(&mut self, from: usize, effects: Vec<Effect>, written: &mut Written) {
        for effect in effects {
            match effect {
                Effect::Send(to, message) => self.queues[to].push_back((from, message)),
                write => written.push((from, write)),
            }
        }
    }
}
