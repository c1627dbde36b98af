//! Time passes for partitions: looks at their ends, outages, and the ends of runs that end by themselves.

use super::{Attempt, Broken};
use std::collections::BTreeMap;
use wasmill::coordinator::worker_of;
use wasmill_pipeline::lane::Lane;
use wasmill_pipeline::record::NO_TIMESTAMP;
use wasmill_pipeline::time::NOTHING_SEEN;
use wasmill_pipeline::time::ending::{Newest, end};
use wasmill_pipeline::time::reach::{End, Reach};
use wasmill_pipeline::time::silence::{AnsweredTime, Silence};
use wasmill_pipeline::worker::Worker;

/// The time between two looks, µs.
const LOOK_US: i64 = 1_000_000;

/// After how much silence a partition is idle, µs.
const IDLE_US: i64 = 3 * LOOK_US;

/// How long brokers are away, or the process is frozen: far longer than looks are apart, µs.
const OUTAGE_US: i64 = 20 * LOOK_US;

/// What a second of silence is in the topic's small times.
const SECOND: i64 = 20;

/// By how much older its newest record must be for a partition not to hold the watermark at the end of a run, in the
/// topic's small times.
pub(super) const BEHIND: i64 = 60;

/// What an attempt knows of silence, and what is true.
#[derive(Default)]
pub(super) struct Quiet {
    silences: BTreeMap<i32, Silence>,
    passed: AnsweredTime,
    /// For how long a partition has had nothing unread while brokers answered, written down as it happens.
    truth: BTreeMap<i32, i64>,
    /// When that was, and how many outages there had been.
    seen: Option<(i64, u64)>,
}

impl Quiet {
    /// Records of a partition came.
    pub(super) fn end(&mut self, partition: i32) {
        self.silences.entry(partition).or_default().end();
        self.truth.insert(partition, 0);
    }
}

impl Attempt<'_, '_> {
    /// Some seconds in which nothing else happens; in some histories no broker answers meanwhile, or the process is frozen.
    pub(super) fn let_silence_pass(&mut self) {
        for _ in 0..self.random().between(1, 6) {
            if self.random().percent(10) {
                let mut now = self.process.world.now();
                now.clock_us += OUTAGE_US;
                now.outages += 1;
            }
            self.process.world.now().clock_us += LOOK_US;
            self.look();
        }
    }

    /// A look at the ends of all partitions, and what follows from it.
    fn look(&mut self) {
        let now = self.process.world.now();
        let (clock_us, outages, there) = (now.clock_us, now.outages, now.there.clone());
        drop(now);
        // What passed since the look before, unless that was before an outage.
        let passed_us = match self.quiet.seen.replace((clock_us, outages)) {
            Some((last_us, before)) if before == outages => clock_us - last_us,
            _ => {
                self.quiet.truth.clear();
                0
            }
        };
        let step = self.quiet.passed.pass(clock_us);
        self.pipeline.watermarks().pass_idle_time(step / LOOK_US * SECOND);
        for (partition, reach) in self.reaches() {
            let high = there[partition as usize];
            let truth = self.quiet.truth.entry(partition).or_default();
            *truth = if self.next[&partition] == high { *truth + passed_us } else { 0 };
            let truth = *truth;
            let silence = self.quiet.silences.entry(partition).or_default();
            silence.look(clock_us, Some(high as i64), Some(reach.read_to()));
            let lasts_us = silence.lasts_us(clock_us);
            // Where nobody else moves the clock.
            if truth > IDLE_US && lasts_us == 0 && self.process.world.rules.processes == 1 {
                let broken = format!("{partition} holds the watermark, of which all was read for {truth} us");
                self.broken.get_or_insert(broken);
            }
            if lasts_us < IDLE_US {
                self.pipeline.wake(worker_of(partition, self.workers), partition);
            } else {
                self.tell(&format!("{partition} is idle"));
                self.pipeline.fall_silent(worker_of(partition, self.workers), partition);
                if truth < IDLE_US {
                    let broken = format!("{partition} is idle after {truth} us without unread records");
                    self.broken.get_or_insert(broken);
                }
            }
        }
        // When the last falls silent, nothing holds the watermark behind the furthest.
        let (reached, marks) = (self.pipeline.watermarks().current(), self.pipeline.watermarks().partitions());
        let marks: Vec<_> = marks.map(|(_, mark)| mark).collect();
        if marks.iter().all(|mark| mark.idle) && marks.iter().any(|mark| mark.watermark_us > reached) {
            self.broken.get_or_insert(format!("all silent, the watermark is {reached}: {marks:?}"));
        }
    }

    /// How far the reader has come in each partition.
    fn reaches(&self) -> BTreeMap<i32, Reach> {
        let stable = self.process.world.now().stable.clone();
        let lanes = self.pipeline.workers().iter().flat_map(Worker::lanes);
        let reach = |(partition, lane): (i32, &Lane)| {
            let (met, stable) = (self.next[&partition] as i64, stable[partition as usize] as i64);
            (partition, Reach { next: lane.next_offset(), end: (met == stable).then_some(End { met, stable }) })
        };
        lanes.map(reach).collect()
    }

    /// Goes on as a run that stops at the ends that it saw at its start, now, until it has come there or what is left
    /// waits behind open transactions for too long.
    pub(super) fn end_caught_up(&mut self) -> Result<bool, Broken> {
        let changing = self.standing.iter().any(Option::is_some);
        if changing || self.pipeline.watermarks().partitions().any(|(_, mark)| mark.idle) {
            return Ok(false);
        }
        self.discover();
        let ends = self.process.world.now().there.clone();
        self.tell("goes on until it has caught up");
        self.checkpoint(false)?;
        loop {
            self.read_all_committed()?;
            let reaches = self.reaches();
            let left = reaches.iter().find(|(partition, reach)| !reach.has_reached(ends[**partition as usize] as i64));
            let now = self.process.world.now();
            let open = reaches.keys().find(|&&partition| now.stable[partition as usize] < ends[partition as usize]);
            let (left, open) = (left.map(|(partition, _)| *partition), open.copied());
            let more = self.next.iter().any(|(&partition, &next)| next < now.stable[partition as usize]);
            drop(now);
            if more {
                continue;
            }
            match (left, open) {
                (None, None) => break,
                (None, Some(partition)) => {
                    let what = format!("a run ended while records of {partition} waited for an open transaction");
                    return Err(Broken::Promise(what));
                }
                (Some(partition), None) => {
                    return Err(Broken::Promise(format!("a run waits for {partition}, of which all was read")));
                }
                (Some(_), Some(_)) if self.random().percent(30) => {
                    self.tell("has waited for a transaction for too long");
                    self.stop()?;
                    return Ok(true);
                }
                // It ends, and others may have begun.
                (Some(_), Some(partition)) => {
                    let mut now = self.process.world.now();
                    now.stable[partition as usize] = now.there[partition as usize];
                }
            }
        }
        self.tell("has caught up");
        self.checkpoint(false)?;
        let before = self.pipeline.watermarks().current();
        for partition in self.next.keys().copied().collect::<Vec<i32>>() {
            self.pipeline.settle(worker_of(partition, self.workers), partition);
        }
        let lanes = self.pipeline.workers().iter().flat_map(Worker::lanes);
        let lanes: Vec<(i32, Newest, i64)> = lanes.map(|(p, lane)| (p, lane.newest(), lane.watermark())).collect();
        let newest: Vec<(i32, Newest)> = lanes.iter().map(|&(partition, newest, _)| (partition, newest)).collect();
        end(self.pipeline.watermarks(), &newest, Some(BEHIND));
        self.check_the_end(before, &lanes)?;
        for worker in 0..self.workers {
            let mut written = Vec::new();
            self.pipeline.close(worker, &mut written)?;
            self.write(written)?;
        }
        self.stop()?;
        Ok(true)
    }

    /// Where the watermark is at the end of a run, computed from the topic.
    fn check_the_end(&mut self, before: i64, lanes: &[(i32, Newest, i64)]) -> Result<(), Broken> {
        // None without records; of some none has a time, which says nothing of how old they are.
        let newest = |partition: i32| {
            let read = self.process.world.batch(partition, 0..self.next[&partition])?;
            Some(read.broker_times_us.into_iter().filter(|&time| time != NO_TIMESTAMP).max())
        };
        let of_all = self.next.keys().filter_map(|&partition| newest(partition)).max().flatten();
        let holds =
            |partition: &i32| newest(*partition).is_some_and(|own| own.is_none_or(|own| Some(own + BEHIND) >= of_all));
        let held = lanes.iter().filter(|(partition, ..)| holds(partition)).map(|&(_, _, watermark)| watermark).min();
        let wanted = held.unwrap_or(NOTHING_SEEN).max(before);
        let reached = self.pipeline.watermarks().current();
        if reached == wanted {
            return Ok(());
        }
        let what = format!("the watermark at the end of a run is {reached}, the topic says {wanted}: {lanes:?}");
        Err(Broken::Promise(what))
    }
}
