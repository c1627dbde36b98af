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
use wasmill_pipeline::pipeline::Pipeline;
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
            aggregate("tumbling", Window::Tumbling { size_us: 30, offset_us: 7 }, 0),
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
    fn commit(&mut self, cuts: Vec<Cut>, written: &mut Vec<Effect>) {
        for cut in cuts {
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
        self.written.append(written);
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
    Read { partition: usize, count: usize },
    Deliver(usize),
    Close(usize),
    Cut,
    Crash { workers: usize },
}

fn run(topic: &Topic, workers: usize, steps: &[Step]) -> Vec<Effect> {
    let partitions = topic.len();
    let mut stored = Stored::default();
    let mut workers = workers;
    let mut pipeline = stored.recover(partitions, workers);
    let mut at = vec![0usize; partitions];
    let mut written = Vec::new();
    for &step in steps {
        match step {
            Step::Read { partition, count } => {
                let partition = partition % partitions;
                read(&mut pipeline, topic, partition, count, workers, &mut at, &mut written);
            }
            Step::Deliver(worker) => drop(pipeline.deliver(worker % workers, &mut written).unwrap()),
            Step::Close(worker) => pipeline.close(worker % workers, &mut written).unwrap(),
            Step::Cut => stored.commit(pipeline.cut(&mut written).unwrap(), &mut written),
            Step::Crash { workers: other } => {
                workers = other;
                written.clear();
                pipeline = stored.recover(partitions, workers);
                at = (0..partitions).map(|p| stored.partitions.get(&(p as i32)).map_or(0, |s| s.0 as usize)).collect();
            }
        }
    }
    for partition in 0..partitions {
        read(&mut pipeline, topic, partition, usize::MAX, workers, &mut at, &mut written);
    }
    pipeline.drain(&mut written).unwrap();
    stored.commit(pipeline.cut(&mut written).unwrap(), &mut written);
    assert!(stored.states.values().all(BTreeMap::is_empty), "nothing is open after a drain");
    stored.written
}

fn read(
    p: &mut Pipeline,
    topic: &Topic,
    partition: usize,
    count: usize,
    workers: usize,
    at: &mut [usize],
    w: &mut Vec<Effect>,
) {
    let from = at[partition];
    let to = from.saturating_add(count).min(topic[partition].len());
    if from < to {
        p.read(partition % workers, &raw_batch(partition as i32, from as i64, &topic[partition][from..to]), w).unwrap();
        at[partition] = to;
    }
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
    let event = (user, prop::option::weighted(0.9, 0i64..300), -5i64..50)
        .prop_map(|(user, time, value)| TestRecord::Event { user: user.into(), time, value });
    let record = prop_oneof![20 => event, 1 => Just(TestRecord::Bad), 1 => Just(TestRecord::Poison), 1 => Just(TestRecord::Null)];
    (record, 50i64..250)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..4, 1usize..9).prop_map(|(partition, count)| Step::Read { partition, count }),
        4 => (0usize..3).prop_map(Step::Deliver),
        3 => (0usize..3).prop_map(Step::Close),
        2 => Just(Step::Cut),
        1 => (1usize..4).prop_map(|workers| Step::Crash { workers }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_gives_what_the_oracle_computes_from_the_topic(
        topic in prop::collection::vec(prop::collection::vec(record(), 0..40), 1..4),
        workers in 1usize..4,
        steps in prop::collection::vec(step(), 0..60),
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
    let sessions =
        collect(run(&topic, 1, &[Step::Read { partition: 0, count: 2 }, Step::Cut, Step::Crash { workers: 2 }]));
    assert_eq!(sessions.rows[2], [(100, 135, "ann".into(), 3, 3)]);
}
