//! What happens around an attempt: time passes, topics grow, readers take files away.

use super::{Attempt, Broken};
use crate::world::CHECKPOINTS;
use std::path::Path;
use std::time::Duration;
use wasmill::coordinator::worker_of;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::testing::raw_batch;

impl Attempt<'_, '_> {
    /// Reads all there is, in whatever order.
    pub(super) fn read_all(&mut self) -> Result<(), Broken> {
        self.discover();
        let world = self.process.world;
        while self.next.iter().any(|(&p, &next)| next < world.topic[p as usize].len()) {
            self.read(30)?;
            if self.random().percent(30) {
                let worker = self.any_worker();
                let mut written = Vec::new();
                self.pipeline.close(worker, &mut written)?;
                self.write(written)?;
            }
        }
        Ok(())
    }

    pub(super) fn let_time_pass(&mut self) {
        let ms = self.random().below(40) as u64;
        let world = self.process.world;
        world.now().elapsed += Duration::from_millis(ms);
        if world.rules.timed {
            self.pipeline.watermarks().pass_idle_time(ms as i64);
        }
    }

    /// More records come in, or a partition does.
    pub(super) fn grow(&mut self) {
        let world = self.process.world;
        let partition = self.random().below(world.topic.len());
        let more = self.random().below(12);
        let mut now = world.now();
        now.there[partition] = world.topic[partition].len().min(now.there[partition] + more);
        drop(now);
        if world.rules.timed || self.random().percent(10) {
            self.discover();
        }
    }

    /// Takes partitions in that came since the attempt began.
    pub(super) fn discover(&mut self) {
        let there = self.process.world.now().there.clone();
        for (partition, there) in (0..).zip(there) {
            if there > 0 && !self.next.contains_key(&partition) {
                self.tell(&format!("discovers {partition}"));
                self.pipeline.assign(worker_of(partition, self.workers), partition, 0);
                self.next.insert(partition, 0);
            }
        }
    }

    /// Sets a partition idle that gave all it has. When it is the last, nothing holds the watermark behind the furthest.
    pub(super) fn note_idle(&mut self) -> Result<(), Broken> {
        let partitions: Vec<i32> = self.next.keys().copied().collect();
        let Some(&partition) = self.random().pick(&partitions) else { return Ok(()) };
        if self.next[&partition] == self.process.world.now().there[partition as usize] {
            self.tell(&format!("{partition} is idle"));
            self.pipeline.fall_silent(worker_of(partition, self.workers), partition);
        }
        let (reached, marks) = (self.pipeline.watermarks().current(), self.pipeline.watermarks().partitions());
        let marks: Vec<_> = marks.map(|(_, mark)| mark).collect();
        let behind = marks.iter().all(|mark| mark.idle) && marks.iter().any(|mark| mark.watermark_us > reached);
        if behind { Err(Broken::Promise(format!("all silent, the watermark is {reached}: {marks:?}"))) } else { Ok(()) }
    }

    /// Records that were read come once more: they must be refused, and the attempt begins again.
    pub(super) fn duplicate(&mut self) -> Result<(), Broken> {
        let partitions: Vec<i32> = self.next.keys().copied().collect();
        let Some(&partition) = self.random().pick(&partitions) else { return Ok(()) };
        let (next, worker) = (self.next[&partition], worker_of(partition, self.workers));
        if next == 0 || self.pipeline.workers()[worker].is_cutting() {
            return Ok(());
        }
        let from = self.random().below(next);
        let raw = raw_batch(partition, from as i64, &self.process.world.topic[partition as usize][from..next]);
        let mut written = Vec::new();
        match self.pipeline.read(worker, &raw, &mut written) {
            Err(error) if error.class() == Class::Bug && written.is_empty() => Ok(()),
            _ => Err(Broken::Promise(format!("{partition}@{from} was read twice"))),
        }
    }

    /// A reader takes a file that a checkpoint has left to readers: with its commit, or with a recovery from it.
    pub(super) fn take_files(&mut self) {
        let world = self.process.world;
        let names = world.platter.files(Path::new(CHECKPOINTS));
        let noted = |what: &str, number: u64| names.iter().any(|(path, _)| path.ends_with(format!("{what}-{number}")));
        let mut theirs = Vec::new();
        for (number, files) in world.log().checkpoints() {
            let recovered = noted("recovered", number);
            if recovered || noted("committed", number) {
                theirs.extend(files.finished);
            }
            if recovered {
                theirs.extend(files.open);
            }
        }
        let Some(path) = self.random().pick(&theirs).cloned() else { return };
        if let Some(bytes) = world.platter.take(&path) {
            world.tell(format_args!("a reader takes {}", path.display()));
            world.now().taken.push((path, bytes));
        }
    }
}
