//! The law: committed rows are a function of the topic's contents alone, however records were batched and
//! partitions interleaved, with any number of workers, over any number of cuts and crashes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{BinaryArray, RecordBatch};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmill_pipeline::checkpoint::Cut;
use wasmill_pipeline::error::Error;
use wasmill_pipeline::fault::{Cause, FaultRules, PluginFailure, Service, Treatment};
use wasmill_pipeline::pipeline::{Pipeline, Written};
use wasmill_pipeline::plan::Plan;
use wasmill_pipeline::plugin::{Aggregate, Parser};
use wasmill_pipeline::record::NO_TIMESTAMP;
use wasmill_pipeline::state::delta::{GroupEntry, GroupId, StateDelta};
use wasmill_pipeline::testing::{
    CountAndSum, Expected, POISON, Row, TestParser, TestRecord, Touchy, expected, expected_of_touchy, raw_batch,
    spec_of_all_windows,
};
use wasmill_pipeline::time::trust::Trusted;
use wasmill_pipeline::time::watermark::Watermarks;
use wasmill_pipeline::worker::{Effect, Worker};

type Topic = Vec<Vec<(TestRecord, i64)>>;

/// Which of the aggregates trap on poison.
#[derive(Clone, Copy)]
struct IsTouchy([bool; 3]);

fn build(workers: usize, touchy: IsTouchy, treatment: &Treatment) -> Vec<Worker> {
    let (spec, parser) = (spec_of_all_windows(), TestParser::default());
    let descriptions: Vec<_> = spec.aggregates.iter().map(|_| CountAndSum::default().description().clone()).collect();
    let plan = Arc::new(Plan::new(&spec, "events", parser.description(), &descriptions, workers).unwrap());
    let aggregate = |touchy| -> Box<dyn Aggregate> {
        if touchy { Box::new(Touchy::default()) } else { Box::new(CountAndSum::default()) }
    };
    let worker = |n| {
        let aggregates = touchy.0.map(aggregate).into();
        let mut worker = Worker::new(plan.clone(), n, Box::new(TestParser::default()), aggregates);
        worker.treat(treatment.clone());
        worker
    };
    (0..workers).map(worker).collect()
}

/// What a checkpoint store would hold.
#[derive(Default)]
struct Stored {
    partitions: BTreeMap<i32, (i64, Trusted)>,
    floor: Option<i64>,
    states: BTreeMap<String, BTreeMap<GroupId, (i64, Vec<u8>)>>,
    written: Vec<Effect>,
}

impl Stored {
    /// Makes the cuts of all workers a checkpoint, with what each wrote before its own.
    fn commit(&mut self, cuts: Vec<(Cut, Vec<Effect>)>) {
        for (cut, written) in cuts {
            self.written.extend(written);
            for p in cut.partitions {
                self.partitions.insert(p.partition, (p.next_offset, p.trusted));
            }
            self.floor = self.floor.max(Some(cut.closed_up_to_us));
            for delta in cut.deltas {
                let groups = self.states.entry(delta.aggregate).or_default();
                for id in &delta.deletes {
                    groups.remove(id);
                }
                for (entry, state) in delta.puts.into_iter().zip(delta.states.iter()) {
                    groups.insert(entry.id, (entry.last_us, state.unwrap().to_vec()));
                }
            }
        }
    }

    fn deltas(&self) -> Vec<StateDelta> {
        let delta = |(aggregate, groups): (&String, &BTreeMap<GroupId, (i64, Vec<u8>)>)| StateDelta {
            aggregate: aggregate.clone(),
            state_version: 1,
            deletes: vec![],
            puts: groups.iter().map(|(id, (last_us, _))| GroupEntry { id: id.clone(), last_us: *last_us }).collect(),
            states: BinaryArray::from_iter_values(groups.values().map(|(_, state)| state)),
        };
        self.states.iter().map(delta).collect()
    }

    fn recover(&self, partitions: usize, workers: usize, touchy: IsTouchy, treatment: &Treatment) -> Pipeline {
        let mut machines = build(workers, touchy, treatment);
        for partition in 0..partitions {
            let (offset, trusted) = self.partitions.get(&(partition as i32)).copied().unwrap_or_default();
            machines[partition % workers].assign(partition as i32, offset, trusted);
        }
        for machine in &mut machines {
            machine.restore(&self.deltas()).unwrap();
        }
        Pipeline::new(machines, self.floor.map_or_else(Watermarks::default, Watermarks::starting_at))
    }
}

/// One thing that happens in a history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read {
        partition: usize,
        count: usize,
    },
    Deliver(usize),
    Close(usize),
    /// A cut begins, unless one is under way.
    Cut,
    /// A worker hears of the cut.
    BeginCut(usize),
    /// A worker finishes its part, if it can; the last of them makes the checkpoint.
    FinishCut(usize),
    Crash {
        workers: usize,
    },
    /// An aggregate is watched no longer, whether that is wise or not.
    Trust(usize),
}

/// A pipeline in the middle of its history.
struct World<'t> {
    topic: &'t Topic,
    stored: Stored,
    workers: usize,
    touchy: IsTouchy,
    treatment: Treatment,
    pipeline: Pipeline,
    /// The next offset of each partition.
    at: Vec<usize>,
    /// What each worker wrote since its last cut.
    written: Vec<Vec<Effect>>,
    /// The parts of the cut under way.
    cutting: Option<BTreeMap<usize, (Cut, Vec<Effect>)>>,
}

impl<'t> World<'t> {
    fn new(topic: &'t Topic, stored: Stored, workers: usize, touchy: IsTouchy, treatment: Treatment) -> Self {
        let partitions = topic.len();
        let pipeline = stored.recover(partitions, workers, touchy, &treatment);
        let at = (0..partitions).map(|p| stored.partitions.get(&(p as i32)).map_or(0, |s| s.0 as usize)).collect();
        let written = (0..workers).map(|_| Vec::new()).collect();
        Self { topic, stored, workers, touchy, treatment, pipeline, at, written, cutting: None }
    }

    /// Goes on from the last checkpoint.
    fn crash(self, workers: usize) -> Self {
        Self::new(self.topic, self.stored, workers, self.touchy, self.treatment)
    }

    /// What a run does about a failure: the records that an aggregate failed on are watched from the last checkpoint on,
    /// and where that is not enough, all.
    fn fail(mut self, error: &Error) -> Self {
        let Error::Plugin(PluginFailure { aggregate: Some(aggregate), cause: Cause::Records(suspects), .. }) = error
        else {
            panic!("{error:?}");
        };
        let service = &mut self.treatment.aggregates[*aggregate].1;
        *service = match service {
            Service::Trusted => Service::Watched(Some(*suspects)),
            Service::Watched(Some(_)) => Service::Watched(None),
            other => panic!("an aggregate failed in spite of {other:?}"),
        };
        let workers = self.workers;
        self.crash(workers)
    }

    fn note(&mut self, written: Written) {
        for (worker, effect) in written {
            self.written[worker].push(effect);
        }
    }

    fn read(&mut self, partition: usize, count: usize) -> Result<(), Error> {
        let (from, worker) = (self.at[partition], partition % self.workers);
        let to = from.saturating_add(count).min(self.topic[partition].len());
        if from < to && !self.pipeline.workers()[worker].is_cutting() {
            let mut written = Vec::new();
            let raw = raw_batch(partition as i32, from as i64, &self.topic[partition][from..to]);
            self.pipeline.read(worker, &raw, &mut written)?;
            self.at[partition] = to;
            self.note(written);
        }
        Ok(())
    }

    fn finish_cut(&mut self, worker: usize) -> Result<(), Error> {
        let Some(parts) = &mut self.cutting else { return Ok(()) };
        if let Some(cut) = self.pipeline.finish_cut(worker)? {
            parts.insert(worker, (cut, std::mem::take(&mut self.written[worker])));
            self.pipeline.go_on(worker, None)?;
        }
        if parts.len() == self.workers {
            let parts = self.cutting.take().unwrap();
            self.stored.commit(parts.into_values().collect());
        }
        Ok(())
    }

    fn step(mut self, step: Step) -> Self {
        if let Step::Crash { workers } = step {
            return self.crash(workers);
        }
        match self.try_step(step) {
            Ok(()) => self,
            Err(error) => self.fail(&error),
        }
    }

    fn try_step(&mut self, step: Step) -> Result<(), Error> {
        let mut written = Vec::new();
        match step {
            Step::Read { partition, count } => self.read(partition % self.topic.len(), count)?,
            Step::Deliver(worker) => drop(self.pipeline.deliver(worker % self.workers, &mut written)?),
            Step::Close(worker) => self.pipeline.close(worker % self.workers, &mut written)?,
            Step::Cut if self.cutting.is_none() => {
                self.pipeline.next_cut();
                self.cutting = Some(BTreeMap::new());
            }
            Step::BeginCut(worker) if self.cutting.is_some() => {
                self.pipeline.begin_cut(worker % self.workers, &mut written);
            }
            Step::FinishCut(worker) => self.finish_cut(worker % self.workers)?,
            Step::Trust(aggregate) => {
                self.treatment.aggregates[aggregate].1 = Service::Trusted;
                self.pipeline.trust(aggregate);
            }
            Step::Cut | Step::BeginCut(_) | Step::Crash { .. } => {}
        }
        self.note(written);
        Ok(())
    }

    /// Finishes the cut under way, reads the rest, closes everything and makes the last checkpoint.
    fn end(mut self) -> Vec<Effect> {
        loop {
            match self.try_end() {
                Ok(()) => return self.stored.written,
                Err(error) => self = self.fail(&error),
            }
        }
    }

    fn try_end(&mut self) -> Result<(), Error> {
        if self.cutting.is_some() {
            for worker in 0..self.workers {
                self.try_step(Step::BeginCut(worker))?;
            }
            while self.cutting.is_some() {
                for worker in 0..self.workers {
                    self.try_step(Step::Deliver(worker))?;
                    self.try_step(Step::FinishCut(worker))?;
                }
            }
        }
        for partition in 0..self.topic.len() {
            self.read(partition, usize::MAX)?;
        }
        let mut written = Vec::new();
        self.pipeline.drain(&mut written)?;
        let cuts = self.pipeline.cut(&mut written)?;
        self.note(written);
        let parts = cuts.into_iter().zip(std::mem::take(&mut self.written)).collect();
        self.stored.commit(parts);
        assert!(self.stored.states.values().all(BTreeMap::is_empty), "nothing is open after a drain");
        Ok(())
    }
}

fn run_touchy(topic: &Topic, workers: usize, steps: &[Step], touchy: IsTouchy) -> Vec<Effect> {
    let rules = FaultRules { breaker: 1.0, ..FaultRules::default() };
    let treatment = Treatment { parser: rules, aggregates: vec![(rules, Service::Trusted); 3] };
    let world = World::new(topic, Stored::default(), workers, touchy, treatment);
    steps.iter().fold(world, |world, &step| world.step(step)).end()
}

fn run(topic: &Topic, workers: usize, steps: &[Step]) -> Vec<Effect> {
    run_touchy(topic, workers, steps, IsTouchy([false; 3]))
}

fn origins(batch: &RecordBatch) -> Vec<(i32, i64)> {
    let partitions = batch["partition"].as_primitive::<Int32Type>().values().iter();
    partitions.copied().zip(batch["offset"].as_primitive::<Int64Type>().values().iter().copied()).collect()
}

fn instants(batch: &RecordBatch, column: usize) -> impl Iterator<Item = i64> + '_ {
    batch.column(column).as_primitive::<TimestampMicrosecondType>().values().iter().copied()
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let (users, numbers) = (batch.column(2).as_string::<i32>(), |c: usize| batch.column(c).as_primitive::<Int64Type>());
    let ends: Vec<i64> = instants(batch, 1).collect();
    let row = |(i, start)| (start, ends[i], users.value(i).to_string(), numbers(3).value(i), numbers(4).value(i));
    instants(batch, 0).enumerate().map(row).collect()
}

fn collect(written: Vec<Effect>) -> Expected {
    collect_with_set_aside(written).0
}

/// What was written; and of each aggregate, the origins of rows set aside.
fn collect_with_set_aside(written: Vec<Effect>) -> (Expected, [Vec<(i32, i64)>; 3]) {
    let mut set_aside = [const { Vec::new() }; 3];
    let mut out = Expected { rows: vec![vec![]; 3], late: vec![vec![]; 3], ..Expected::default() };
    for effect in written {
        match effect {
            Effect::Raw(batch) => {
                let times = batch["event_ts"].as_primitive::<TimestampMicrosecondType>().values().to_vec();
                out.raw.extend(origins(&batch).into_iter().zip(times).map(|((p, o), t)| (p, o, t)));
            }
            Effect::DeadLetters(letters) => {
                for letter in letters {
                    let of = letter.aggregate.map_or(&mut out.dead_letters, |aggregate| &mut set_aside[aggregate]);
                    of.push((letter.partition, letter.offset));
                }
            }
            Effect::Late(aggregate, batch) => out.late[aggregate].extend(origins(&batch)),
            Effect::Closed(aggregate, batch) => {
                let rows = rows(&batch);
                let order = |row: &Row| (row.0, row.2.clone());
                assert!(rows.is_sorted_by_key(order), "rows of a close are sorted by window start and key");
                out.rows[aggregate].extend(rows);
            }
            Effect::Fault(_) => {}
            Effect::Send(..) => unreachable!("the pipeline carries messages itself"),
        }
    }
    out.raw.sort_unstable();
    out.dead_letters.sort_unstable();
    out.rows.iter_mut().for_each(|rows| rows.sort());
    out.late.iter_mut().for_each(|late| late.sort_unstable());
    for origins in &mut set_aside {
        origins.sort_unstable();
    }
    (out, set_aside)
}

fn record() -> impl Strategy<Value = (TestRecord, i64)> {
    let user = prop::sample::select(vec!["ann", "bob", "cy", "dee"]);
    let value = prop_oneof![9 => -5i64..12, 1 => Just(POISON)];
    let event = (user, prop::option::weighted(0.9, 0i64..60), value)
        // Multiples of 5, as are the watermark's delay, the gap and the windows: so that limits are met exactly.
        .prop_map(|(user, time, value)| TestRecord::Event { user: user.into(), time: time.map(|t| t * 5), value });
    let record = prop_oneof![20 => event, 1 => Just(TestRecord::Bad), 1 => Just(TestRecord::Poison), 1 => Just(TestRecord::Null)];
    let seen = prop_oneof![15 => (10i64..50).prop_map(|time| time * 5), 1 => Just(NO_TIMESTAMP)];
    (record, seen)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..4, 1usize..9).prop_map(|(partition, count)| Step::Read { partition, count }),
        4 => (0usize..3).prop_map(Step::Deliver),
        3 => (0usize..3).prop_map(Step::Close),
        2 => Just(Step::Cut),
        3 => (0usize..3).prop_map(Step::BeginCut),
        3 => (0usize..3).prop_map(Step::FinishCut),
        1 => (1usize..4).prop_map(|workers| Step::Crash { workers }),
        1 => (0usize..3).prop_map(Step::Trust),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_history_gives_what_the_oracle_computes_from_the_topic(
        topic in prop::collection::vec(prop::collection::vec(record(), 0..40), 1..4),
        workers in 1usize..4,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let spec = spec_of_all_windows();
        let expected = expected(&topic, &spec.time, &spec.aggregates);
        prop_assert_eq!(collect(run(&topic, workers, &steps)), expected);
    }

    #[test]
    fn any_history_with_poison_gives_what_the_oracle_computes_without_it(
        topic in prop::collection::vec(prop::collection::vec(record(), 0..40), 1..4),
        workers in 1usize..4,
        steps in prop::collection::vec(step(), 0..120),
        touchy in prop::array::uniform3(any::<bool>()),
    ) {
        let spec = spec_of_all_windows();
        let mut expected = expected(&topic, &spec.time, &spec.aggregates);
        let mut expected_aside = [const { Vec::new() }; 3];
        for (index, aggregate) in spec.aggregates.iter().enumerate().filter(|&(index, _)| touchy[index]) {
            let of = expected_of_touchy(&topic, &spec.time, aggregate);
            (expected.rows[index], expected.late[index], expected_aside[index]) = (of.rows, of.late, of.set_aside);
        }
        let (found, set_aside) = collect_with_set_aside(run_touchy(&topic, workers, &steps, IsTouchy(touchy)));
        prop_assert_eq!(found, expected);
        prop_assert_eq!(set_aside, expected_aside);
    }
}

#[test]
fn an_event_exactly_a_gap_after_the_last_joins_the_session() {
    let event = |time| (TestRecord::Event { user: "ann".into(), time: Some(time), value: 1 }, time);
    let topic = vec![vec![event(100), event(115), event(131)]];
    let sessions = collect(run(&topic, 1, &[])).rows.swap_remove(2);
    assert_eq!(sessions, [(100, 130, "ann".into(), 2, 2), (131, 146, "ann".into(), 1, 1)]);
}

#[test]
fn a_session_merges_when_an_event_bridges_two() {
    let event = |time| (TestRecord::Event { user: "ann".into(), time: Some(time), value: 1 }, time);
    let topic = vec![vec![event(100), event(120), event(110)]];
    let sessions = collect(run(
        &topic,
        1,
        &[
            Step::Read { partition: 0, count: 2 },
            Step::Cut,
            Step::BeginCut(0),
            Step::FinishCut(0),
            Step::Crash { workers: 2 },
        ],
    ));
    assert_eq!(sessions.rows[2], [(100, 135, "ann".into(), 3, 3)]);
}
