//! The law: committed rows are a function of the topic's contents alone, however records were batched and
//! partitions interleaved, with any number of workers, over any number of cuts and crashes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{BinaryArray, RecordBatch};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmill_pipeline::checkpoint::Cut;
use wasmill_pipeline::pipeline::{Pipeline, Written};
use wasmill_pipeline::plan::Plan;
use wasmill_pipeline::plugin::{Aggregate, Parser};
use wasmill_pipeline::spec::{AggregateSpec, PipelineSpec, TimeSpec, Window};
use wasmill_pipeline::state::delta::{GroupEntry, GroupId, StateDelta};
use wasmill_pipeline::testing::{CountAndSum, Expected, Row, TestParser, TestRecord, expected, raw_batch};
use wasmill_pipeline::time::watermark::Watermarks;
use wasmill_pipeline::worker::{Effect, Worker};

type Topic = Vec<Vec<(TestRecord, i64)>>;

fn spec() -> PipelineSpec {
    let aggregate = |name: &str, window, allowed_lateness_us| AggregateSpec {
        name: name.into(),
        window,
        keys: vec!["user".into()],
        allowed_lateness_us,
    };
    PipelineSpec {
        time: TimeSpec { watermark_delay_us: 10, idle_timeout_us: None, max_ahead_us: Some(200) },
        aggregates: vec![
            aggregate("tumbling", Window::Tumbling { size_us: 30, offset_us: 5 }, 0),
            aggregate("sliding", Window::Sliding { size_us: 40, slide_us: 10, offset_us: 0 }, 5),
            aggregate("sessions", Window::Session { gap_us: 15 }, 0),
        ],
    }
}

fn build(workers: usize) -> (Arc<Plan>, Vec<Worker>) {
    let (spec, parser) = (spec(), TestParser::default());
    let descriptions: Vec<_> = spec.aggregates.iter().map(|_| CountAndSum::default().description().clone()).collect();
    let plan = Arc::new(Plan::new(&spec, "events", parser.description(), &descriptions, workers).unwrap());
    let aggregates =
        || spec.aggregates.iter().map(|_| Box::new(CountAndSum::default()) as Box<dyn Aggregate>).collect();
    let workers = (0..workers).map(|n| Worker::new(plan.clone(), n, Box::new(TestParser::default()), aggregates()));
    (plan.clone(), workers.collect())
}

/// What a checkpoint store would hold.
#[derive(Default)]
struct Stored {
    partitions: BTreeMap<i32, (i64, i64)>,
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
                self.partitions.insert(p.partition, (p.next_offset, p.watermark_us));
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

    fn recover(&self, partitions: usize, workers: usize) -> Pipeline {
        let (_, mut machines) = build(workers);
        for partition in 0..partitions {
            let (offset, watermark) = self.partitions.get(&(partition as i32)).copied().unwrap_or((0, i64::MIN));
            machines[partition % workers].assign(partition as i32, offset, watermark);
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
}

/// A pipeline in the middle of its history.
struct World<'t> {
    topic: &'t Topic,
    stored: Stored,
    workers: usize,
    pipeline: Pipeline,
    /// The next offset of each partition.
    at: Vec<usize>,
    /// What each worker wrote since its last cut.
    written: Vec<Vec<Effect>>,
    /// The parts of the cut under way.
    cutting: Option<BTreeMap<usize, (Cut, Vec<Effect>)>>,
}

impl<'t> World<'t> {
    fn new(topic: &'t Topic, stored: Stored, workers: usize) -> Self {
        let partitions = topic.len();
        let pipeline = stored.recover(partitions, workers);
        let at = (0..partitions).map(|p| stored.partitions.get(&(p as i32)).map_or(0, |s| s.0 as usize)).collect();
        let written = (0..workers).map(|_| Vec::new()).collect();
        Self { topic, stored, workers, pipeline, at, written, cutting: None }
    }

    fn note(&mut self, written: Written) {
        for (worker, effect) in written {
            self.written[worker].push(effect);
        }
    }

    fn read(&mut self, partition: usize, count: usize) {
        let (from, worker) = (self.at[partition], partition % self.workers);
        let to = from.saturating_add(count).min(self.topic[partition].len());
        if from < to && !self.pipeline.workers()[worker].is_cutting() {
            let mut written = Vec::new();
            let raw = raw_batch(partition as i32, from as i64, &self.topic[partition][from..to]);
            self.pipeline.read(worker, &raw, &mut written).unwrap();
            self.at[partition] = to;
            self.note(written);
        }
    }

    fn finish_cut(&mut self, worker: usize) {
        let Some(parts) = &mut self.cutting else { return };
        if let Some(cut) = self.pipeline.finish_cut(worker).unwrap() {
            parts.insert(worker, (cut, std::mem::take(&mut self.written[worker])));
        }
        if parts.len() == self.workers {
            let parts = self.cutting.take().unwrap();
            self.stored.commit(parts.into_values().collect());
        }
    }

    fn step(mut self, step: Step) -> Self {
        let mut written = Vec::new();
        match step {
            Step::Read { partition, count } => self.read(partition % self.topic.len(), count),
            Step::Deliver(worker) => drop(self.pipeline.deliver(worker % self.workers, &mut written).unwrap()),
            Step::Close(worker) => self.pipeline.close(worker % self.workers, &mut written).unwrap(),
            Step::Cut if self.cutting.is_none() => {
                self.pipeline.next_cut();
                self.cutting = Some(BTreeMap::new());
            }
            Step::BeginCut(worker) if self.cutting.is_some() => {
                self.pipeline.begin_cut(worker % self.workers, &mut written);
            }
            Step::Cut | Step::BeginCut(_) => {}
            Step::FinishCut(worker) => self.finish_cut(worker % self.workers),
            Step::Crash { workers } => return Self::new(self.topic, self.stored, workers),
        }
        self.note(written);
        self
    }

    /// Finishes the cut under way, reads the rest, closes everything and makes the last checkpoint.
    fn end(mut self) -> Vec<Effect> {
        if self.cutting.is_some() {
            for worker in 0..self.workers {
                self = self.step(Step::BeginCut(worker));
            }
            while self.cutting.is_some() {
                for worker in 0..self.workers {
                    self = self.step(Step::Deliver(worker)).step(Step::FinishCut(worker));
                }
            }
        }
        for partition in 0..self.topic.len() {
            self.read(partition, usize::MAX);
        }
        let mut written = Vec::new();
        self.pipeline.drain(&mut written).unwrap();
        let cuts = self.pipeline.cut(&mut written).unwrap();
        self.note(written);
        self.stored.commit(cuts.into_iter().zip(self.written).collect());
        assert!(self.stored.states.values().all(BTreeMap::is_empty), "nothing is open after a drain");
        self.stored.written
    }
}

fn run(topic: &Topic, workers: usize, steps: &[Step]) -> Vec<Effect> {
    let world = World::new(topic, Stored::default(), workers);
    steps.iter().fold(world, |world, &step| world.step(step)).end()
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
    let mut out = Expected { rows: vec![vec![]; 3], late: vec![vec![]; 3], ..Expected::default() };
    for effect in written {
        match effect {
            Effect::Raw(batch) => {
                let times = batch["event_ts"].as_primitive::<TimestampMicrosecondType>().values().to_vec();
                out.raw.extend(origins(&batch).into_iter().zip(times).map(|((p, o), t)| (p, o, t)));
            }
            Effect::DeadLetters(letters) => out.dead_letters.extend(letters.iter().map(|l| (l.partition, l.offset))),
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
    out
}

fn record() -> impl Strategy<Value = (TestRecord, i64)> {
    let user = prop::sample::select(vec!["ann", "bob", "cy", "dee"]);
    let event = (user, prop::option::weighted(0.9, 0i64..60), -5i64..50)
        // Multiples of 5, as are the watermark's delay, the gap and the windows: so that limits are met exactly.
        .prop_map(|(user, time, value)| TestRecord::Event { user: user.into(), time: time.map(|t| t * 5), value });
    let record = prop_oneof![20 => event, 1 => Just(TestRecord::Bad), 1 => Just(TestRecord::Poison), 1 => Just(TestRecord::Null)];
    (record, (10i64..50).prop_map(|time| time * 5))
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
        let spec = spec();
        let expected = expected(&topic, &spec.time, &spec.aggregates);
        prop_assert_eq!(collect(run(&topic, workers, &steps)), expected);
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
