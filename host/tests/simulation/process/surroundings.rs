//! What happens around an attempt: time passes, topics grow, readers take files away.

use super::{Attempt, Broken};
use crate::world::{CHECKPOINTS, OUTPUT};
use std::path::Path;
use std::time::Duration;
use wasmill::coordinator::worker_of;
use wasmill_pipeline::error::Class;

impl Attempt<'_, '_> {
    /// Reads all there is, in whatever order.
    pub(super) fn read_all(&mut self) -> Result<(), Broken> {
        self.discover();
        self.read_all_committed()
    }

    /// Reads all that does not wait for a transaction, in whatever order.
    pub(super) fn read_all_committed(&mut self) -> Result<(), Broken> {
        let ends = self.process.world.now().stable.clone();
        while self.next.iter().any(|(&p, &next)| next < ends[p as usize]) {
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
        self.process.world.now().elapsed += Duration::from_millis(ms);
        if self.process.world.rules.timed {
            self.let_silence_pass();
        }
    }

    /// More records come in, or a partition does; transactions are begun, and end.
    pub(super) fn grow(&mut self) {
        let world = self.process.world;
        let partition = self.random().below(world.topic.len());
        let more = self.random().below(12);
        let stays_open = self.random().percent(world.rules.transactions);
        let mut now = world.now();
        now.there[partition] = world.topic[partition].len().min(now.there[partition] + more);
        if !stays_open {
            now.stable[partition] = now.there[partition];
        }
        drop(now);
        if world.rules.timed || self.random().percent(10) {
            self.discover();
        }
    }

    /// Takes partitions in that came since the attempt began.
    pub(super) fn discover(&mut self) {
        for partition in self.process.world.partitions() {
            if !self.next.contains_key(&partition) {
                self.tell(&format!("discovers {partition}"));
                self.pipeline.assign(worker_of(partition, self.workers), partition, 0);
                self.next.insert(partition, 0);
            }
        }
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
        let Some(raw) = self.process.world.batch(partition, from..next) else { return Ok(()) };
        let mut written = Vec::new();
        match self.pipeline.read(worker, &raw, &mut written) {
            Err(error) if error.class() == Class::Bug && written.is_empty() => Ok(()),
            _ => Err(Broken::Promise(format!("{partition}@{from} was read twice"))),
        }
    }

    /// Where processes may be overtaken, a reader may be quick.
    pub(super) fn let_readers_come(&mut self) {
        let rules = &self.process.world.rules;
        if rules.taken && !rules.locks && self.random().percent(50) {
            self.take_files();
        }
    }

    /// A reader takes a file that a checkpoint has left to readers: with its commit, or with a recovery from it.
    pub(super) fn take_files(&mut self) {
        let world = self.process.world;
        let names = world.platter.files(Path::new(CHECKPOINTS));
        let noted = |what: &str, number: u64| {
            let note = Path::new(CHECKPOINTS).join(format!("{what}-{number}"));
            names.iter().any(|(path, _)| *path == note)
        };
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
        let there = world.platter.files(Path::new(OUTPUT));
        theirs.retain(|path| there.iter().any(|(there, _)| there == path));
        let Some(path) = self.random().pick(&theirs).cloned() else { return };
        if let Some(bytes) = world.platter.take(&path) {
            world.tell(format_args!("a reader takes {}", path.display()));
            world.now().taken.push((path, bytes));
        }
    }
}
