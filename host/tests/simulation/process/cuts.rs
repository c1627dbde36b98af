//! Cuts and checkpoints of an attempt, and how it ends.

use super::changes::Parts;
use super::{Attempt, Broken};
use std::collections::BTreeMap;
use wasmill::checkpointer::WholeCut;
use wasmill::sink::SinkCut;

impl Attempt<'_, '_> {
    /// A worker's part of the cut under way, if it is ready.
    pub(super) fn finish_cut(&mut self, worker: usize, last: bool) -> Result<(), Broken> {
        let now = self.process.world.instant();
        let Some(parts) = &mut self.parts else { return Ok(()) };
        if let Some(cut) = self.pipeline.finish_cut(worker)? {
            let files = self.writers[worker].cut(now, last)?;
            parts.insert(worker, (cut, files));
            self.pipeline.go_on(worker, None)?;
            self.tell(&format!("worker {worker} has cut"));
        }
        Ok(())
    }

    /// Makes the cut a checkpoint, once all parts are there.
    pub(super) fn publish_if_whole(&mut self) -> Result<(), Broken> {
        match self.parts.take_if(|parts| parts.len() == self.workers) {
            Some(parts) => self.publish(parts).map(drop),
            None => Ok(()),
        }
    }

    /// Makes a cut a checkpoint, and gives its number.
    pub(super) fn publish(&mut self, parts: Parts) -> Result<u64, Broken> {
        let mut whole = WholeCut {
            cuts: Vec::new(),
            files: SinkCut::default(),
            idle: self.pipeline.watermarks().partitions().filter(|(_, mark)| mark.idle).map(|(p, _)| p).collect(),
            anchors: BTreeMap::new(),
            lost_records: 0,
            made_at_us: self.process.world.now().elapsed.as_micros() as i64,
        };
        for (cut, files) in parts.into_values() {
            whole.cuts.push(cut);
            whole.files.extend(files);
        }
        self.done = self.named.done(&whole.cuts.iter().collect::<Vec<_>>());
        let made = self.checkpointer.publish(whole)?;
        self.let_readers_come();
        self.process.go_back = false;
        self.process.on_probation = self.checkpointer.probation().is_some();
        self.tell(&format!("made checkpoint {} at {:?}", made.number, made.offsets));
        let mistakes = made.totals.mistakes();
        let world = self.process.world;
        let read: usize = made.offsets.iter().map(|&(p, offset)| world.records_before(p, offset as usize)).sum();
        if !mistakes.is_empty() || made.totals.records != read as u64 {
            let records = made.totals.records;
            return Err(Broken::Promise(format!("the books do not close: {mistakes:?} records={records} read={read}")));
        }
        self.check_shadows(&made.shadows)?;
        Ok(made.number)
    }

    /// A checkpoint from beginning to end; a cut that is under way is finished first.
    pub(super) fn checkpoint(&mut self, last: bool) -> Result<(), Broken> {
        while self.parts.is_some() {
            self.advance_cut(false)?;
        }
        self.pipeline.next_cut();
        self.parts = Some(BTreeMap::new());
        while self.parts.is_some() {
            self.advance_cut(last)?;
        }
        Ok(())
    }

    pub(super) fn advance_cut(&mut self, last: bool) -> Result<(), Broken> {
        for worker in 0..self.workers {
            let mut written = Vec::new();
            self.pipeline.begin_cut(worker, &mut written);
            self.pipeline.deliver(worker, &mut written)?;
            self.write(written)?;
            self.finish_cut(worker, last)?;
        }
        self.publish_if_whole()
    }

    /// Stops as somebody asked for: with a last checkpoint that finishes all files.
    pub(super) fn stop(&mut self) -> Result<(), Broken> {
        self.tell("stops");
        self.checkpoint(true)
    }

    /// Closes everything that is open.
    pub(super) fn drain(&mut self) -> Result<(), Broken> {
        self.tell("drains");
        self.checkpoint(false)?;
        let mut written = Vec::new();
        self.pipeline.drain(&mut written)?;
        self.checkpointer.confirm_next();
        self.write(written)
    }
}
