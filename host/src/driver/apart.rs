//! Records that take the parser too long are parsed beside their worker: its other partitions go on meanwhile, and all
//! others, and cuts. Their own partition waits, and the watermark with it.

use super::Driver;
use crate::assembly::Assembly;
use crate::clock;
use crate::failure::Failure;
use crate::plugin;
use crate::shared::lock;
use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Arc;
use std::time::Instant;
use wasmill_pipeline::error::{Class, Error};
use wasmill_pipeline::lane::{Piece, parse_apart};
use wasmill_pipeline::plugin::Parser;
use wasmill_pipeline::record::RawBatch;
use wasmill_pipeline::worker::Effect;

/// A thread with a parser of its own, for the records of one worker, one batch at a time: of the processor it never has
/// more than a worker has. It ends when it is let go of, and its call is over.
pub struct Apart {
    batches: Sender<Arc<RawBatch>>,
    parsed: Receiver<Result<Batch, plugin::Error>>,
}

/// A batch of which the first records are parsed.
struct Batch {
    raw: Arc<RawBatch>,
    pieces: Vec<Piece>,
    /// How long that took, µs.
    took_us: i64,
}

impl Apart {
    /// Starts the thread, whose parser is that of `assembly`.
    fn start(assembly: Arc<Assembly>) -> std::io::Result<Self> {
        let (batches, to_parse) = unbounded::<Arc<RawBatch>>();
        let (done, parsed) = unbounded();
        let work = move || {
            let mut parser: Option<Box<dyn Parser>> = None;
            for raw in to_parse {
                let began = Instant::now();
                let mut parse = || {
                    let at_hand = parser.take().map_or_else(|| assembly.parser(), Ok)?;
                    let pieces = parse_apart(parser.insert(at_hand).as_mut(), &raw);
                    let took_us = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX);
                    Ok(Batch { raw: raw.clone(), pieces, took_us })
                };
                if done.send(parse()).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("parse-apart".into()).spawn(work)?;
        Ok(Self { batches, parsed })
    }
}

impl Driver {
    /// Takes in records of a partition, as many as the parser takes quickly; the others are parsed beside.
    pub(super) fn process(&mut self, raw: &Arc<RawBatch>) -> Result<(), Failure> {
        let mut effects = Vec::new();
        let read = self.worker.read_soon(raw, &mut effects);
        let taken = self.unless_failed(read, &effects)?;
        self.pass(raw, taken, effects)?;
        if taken < raw.len() {
            self.shared.samples.keep(self.number, Arc::new(raw.slice(0, taken)));
            return self.set_apart(raw.slice(taken, raw.len()));
        }
        self.shared.samples.keep(self.number, raw.clone());
        if self.apart.remove(&raw.partition).is_some() {
            self.source.resume(&[raw.partition])?;
        }
        Ok(())
    }

    /// Takes in what was parsed beside.
    pub(super) fn take_parsed(&mut self) -> Result<(), Failure> {
        while let Some(parsed) = self.beside.as_ref().and_then(|beside| beside.parsed.try_recv().ok()) {
            let Batch { raw, pieces, took_us } = parsed.map_err(|error| Failure::new(Class::Plugin, error))?;
            // The partition may be gone, and another batch of it here.
            if !self.apart.get(&raw.partition).is_some_and(|(waiting, _)| Arc::ptr_eq(waiting, &raw)) {
                continue;
            }
            let mut effects = Vec::new();
            let read = self.worker.read_apart(&raw, pieces, took_us, &mut effects);
            let taken = self.unless_failed(read, &effects)?;
            self.pass(&raw, taken, effects)?;
            self.process(&Arc::new(raw.slice(taken, raw.len())))?;
        }
        Ok(())
    }

    /// Hands on what was made of the first `taken` of these records.
    fn pass(&mut self, raw: &RawBatch, taken: usize, effects: Vec<Effect>) -> Result<(), Failure> {
        self.anchors.extend(raw.anchor_of_first(taken).map(|anchor| (raw.partition, anchor)));
        self.carry_out(effects)?;
        // Only now, with its rows handed on, may the batch move the watermark.
        if let Some(lane) = self.worker.lane_mut(raw.partition) {
            lock(&self.shared.watermarks).advance(raw.partition, lane.watermark());
        }
        Ok(())
    }

    /// With another parser: what waits for the one before is tried anew.
    pub(super) fn parse_with(&mut self, assembly: Arc<Assembly>) -> Result<(), Failure> {
        (self.assembly, self.beside) = (assembly, None);
        let waiting: Vec<Arc<RawBatch>> = self.apart.values().map(|(raw, _)| raw.clone()).collect();
        waiting.iter().try_for_each(|raw| self.process(raw))
    }

    /// The partition gives nothing more until these records are parsed, beside.
    fn set_apart(&mut self, raw: RawBatch) -> Result<(), Failure> {
        let (partition, raw) = (raw.partition, Arc::new(raw));
        let beside = match self.beside.take() {
            Some(beside) => beside,
            None => Apart::start(self.assembly.clone())
                .context("a thread cannot be started")
                .map_err(|error| Failure { class: Class::Unavailable, error })?,
        };
        let sent = beside.batches.send(raw.clone());
        self.beside = Some(beside);
        if sent.is_err() {
            return Err(Error::Bug("the thread that parses beside is gone".into()).into());
        }
        let since_us = self.apart.get(&partition).map_or_else(clock::now_us, |&(_, since_us)| since_us);
        if self.apart.insert(partition, (raw.clone(), since_us)).is_none() {
            self.source.pause(&[partition])?;
            tracing::warn!(
                partition,
                first_offset = raw.offsets.first(),
                last_offset = raw.offsets.last(),
                "some of these records take the parser too long: which is found out beside the other partitions, and \
                 this one waits, with the watermark"
            );
        }
        Ok(())
    }
}
