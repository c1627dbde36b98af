//! What a checkpoint store and readers of outputs would have, and what must be true of it at every checkpoint.

use crate::setup::Setup;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wasmill_pipeline::checkpoint::Cut;
use wasmill_pipeline::key::Keys;
use wasmill_pipeline::pipeline::Pipeline;
use wasmill_pipeline::plugin::{Aggregate, Parser};
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::state::delta::{GroupEntry, GroupId, StateDelta};
use wasmill_pipeline::testing::{Expected, Row, Tagged, TestParser, spec_of_all_windows, untagged};
use wasmill_pipeline::time::trust::Trusted;
use wasmill_pipeline::time::watermark::Watermarks;
use wasmill_pipeline::worker::{Effect, Worker};

/// From where on an aggregate's rows count.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    pub(crate) of: usize,
    pub(crate) offsets: BTreeMap<i32, i64>,
    /// The least watermark up to which a worker had closed.
    pub(crate) floor: i64,
    /// How many rows there were by then.
    pub(crate) rows: usize,
}

/// The version of a group's state, the time of its last event, and the state.
type State = (u32, i64, Vec<u8>);

/// The last checkpoint.
pub(crate) struct Stored {
    pub(crate) setup: Setup,
    pub(crate) partitions: BTreeMap<i32, (i64, Trusted)>,
    pub(crate) floor: Option<i64>,
    /// By name: the version and the last event of each group's state, and the state.
    pub(crate) states: BTreeMap<String, BTreeMap<GroupId, State>>,
    /// What was committed; rows without their tags.
    pub(crate) out: Expected,
    /// What was found of each shadow.
    pub(crate) found: BTreeMap<usize, Comparison>,
    /// What each shadow should have been compared with: groups, and those with a total that is a multiple of three.
    comparable: BTreeMap<usize, (u64, u64)>,
    /// Aggregates whose retiring version has nothing left to do.
    pub(crate) done: BTreeSet<usize>,
    pub(crate) fresh: Vec<Fresh>,
    /// The least watermark up to which a worker had closed.
    pub(crate) closed_up_to: i64,
}

impl Stored {
    pub(crate) fn new() -> Self {
        Self {
            setup: Setup::first(&spec_of_all_windows()),
            partitions: BTreeMap::new(),
            floor: None,
            states: BTreeMap::new(),
            out: Expected { rows: vec![vec![]; 3], late: vec![vec![]; 3], ..Expected::default() },
            found: BTreeMap::new(),
            comparable: BTreeMap::new(),
            done: BTreeSet::new(),
            fresh: Vec::new(),
            closed_up_to: i64::MIN,
        }
    }

    /// Makes the cuts of all workers, each with what it wrote before, a checkpoint of these versions. `base` is what had
    /// been found of shadows when the workers began.
    pub(crate) fn commit(&mut self, setup: &Setup, base: &BTreeMap<usize, Comparison>, cuts: Vec<(Cut, Vec<Effect>)>) {
        self.comparable.retain(|&of, _| setup.shadow(of).is_some() && base.contains_key(&of));
        self.found.clone_from(base);
        self.found.retain(|&of, _| setup.shadow(of).is_some());
        books_close(&cuts);
        self.done = setup.done(&cuts.iter().map(|(cut, _)| cut).collect::<Vec<_>>());
        self.closed_up_to = cuts.iter().map(|(cut, _)| cut.closed_up_to_us).min().unwrap();
        for (cut, written) in cuts {
            for effect in written {
                self.write(setup, effect);
            }
            for p in cut.partitions {
                self.partitions.insert(p.partition, (p.next_offset, p.trusted));
            }
            self.floor = self.floor.max(Some(cut.closed_up_to_us));
            for (of, found) in &cut.comparisons {
                self.found.entry(*of).or_default().add(found);
            }
            for delta in cut.deltas {
                self.fold(delta);
            }
        }
        self.setup = setup.clone();
        let names: Vec<String> =
            setup.plan(1).aggregates.iter().map(wasmill_pipeline::plan::AggregatePlan::state_name).collect();
        for (name, groups) in &self.states {
            assert!(groups.is_empty() || names.contains(name), "{name} has state, and there is no such version");
        }
        self.shadows_were_compared();
    }

    fn fold(&mut self, delta: StateDelta) {
        let groups = self.states.entry(delta.aggregate).or_default();
        for id in &delta.deletes {
            groups.remove(id);
        }
        for (entry, state) in delta.puts.into_iter().zip(delta.states.iter()) {
            groups.insert(entry.id, (delta.state_version, entry.last_us, state.unwrap().to_vec()));
        }
    }

    fn write(&mut self, setup: &Setup, effect: Effect) {
        match effect {
            Effect::Raw(batch) => {
                let times = batch["event_ts"].as_primitive::<TimestampMicrosecondType>().values().to_vec();
                self.out.raw.extend(origins(&batch).into_iter().zip(times).map(|((p, o), t)| (p, o, t)));
            }
            Effect::DeadLetters(letters) => {
                assert!(letters.iter().all(|letter| letter.aggregate.is_none()), "no aggregate's rows are set aside");
                self.out.dead_letters.extend(letters.iter().map(|letter| (letter.partition, letter.offset)));
            }
            Effect::Late(of, batch) => self.out.late[of].extend(origins(&batch)),
            Effect::Closed(place, batch) => {
                let of = setup.entries[place].of;
                assert!(!setup.entries[place].role.is_shadow(), "a shadow's rows are not written");
                for row in rows(&batch) {
                    let (tag, row) = untagged(&row);
                    assert_eq!(tag, setup.tag(of, row.0), "{row:?} of {of} is of another version");
                    if let Some(shadow) = setup.shadow(of)
                        && setup.from.get(&of).is_none_or(|&from| row.0 >= from)
                        && setup.entries[shadow].role.takes(hash(&row.2))
                    {
                        let comparable = self.comparable.entry(of).or_default();
                        comparable.0 += 1;
                        comparable.1 += u64::from(row.4 % 3 == 0);
                    }
                    self.out.rows[of].push(row);
                }
            }
            Effect::Fault(fault) => panic!("{fault:?}"),
            Effect::Send(..) => unreachable!("the pipeline carries messages itself"),
        }
    }

    /// Each shadow was compared with all it should have been, and differs where it does.
    fn shadows_were_compared(&self) {
        for (of, found) in &self.found {
            let version = self.setup.entries[self.setup.shadow(*of).unwrap()].version;
            let (groups, thirds) = self.comparable.get(of).copied().unwrap_or_default();
            assert_eq!((found.only_current, found.only_shadow), (0, 0), "both close the same: {found:?}");
            assert_eq!(found.compared, found.equal + found.different);
            if found.failed.is_some() {
                assert!(found.compared <= groups && version.trap.is_some(), "{found:?}");
                continue;
            }
            let other_tag = version.tag != self.setup.entries[*of].version.tag;
            let different = if other_tag {
                groups
            } else if version.odd {
                thirds
            } else {
                0
            };
            assert_eq!((found.compared, found.different), (groups, different), "{found:?}");
        }
    }

    fn deltas(&self) -> Vec<StateDelta> {
        let mut deltas = Vec::new();
        for (name, groups) in &self.states {
            let versions: BTreeSet<u32> = groups.values().map(|(version, ..)| *version).collect();
            for version in versions {
                let groups = || groups.iter().filter(|(_, (of, ..))| *of == version);
                let entry =
                    |(id, (_, last_us, _)): (&GroupId, &State)| GroupEntry { id: id.clone(), last_us: *last_us };
                deltas.push(StateDelta {
                    puts: groups().map(entry).collect(),
                    states: BinaryArray::from_iter_values(groups().map(|(_, (.., state))| state)),
                    ..StateDelta::new(name.clone(), version)
                });
            }
        }
        deltas
    }

    /// A pipeline that goes on from here.
    pub(crate) fn recover(&self, partitions: usize, workers: usize) -> Pipeline {
        let plan = self.setup.plan(workers);
        let worker = |number| {
            let instance = |entry: &crate::setup::Entry| Box::new(Tagged::new(entry.version)) as Box<dyn Aggregate>;
            let aggregates = self.setup.entries.iter().map(instance).collect();
            let parser: Box<dyn Parser> = Box::new(TestParser::default());
            let mut worker = Worker::new(plan.clone(), number, parser, aggregates);
            let rules = wasmill_pipeline::fault::FaultRules { breaker: 1.0, ..Default::default() };
            worker.treat(wasmill_pipeline::fault::Treatment { parser: rules, ..Default::default() });
            for (&of, found) in &self.found {
                if let Some(why) = &found.failed {
                    worker.give_up_shadow(of, why);
                }
            }
            worker
        };
        let mut machines: Vec<Worker> = (0..workers).map(worker).collect();
        for partition in 0..partitions {
            let (offset, trusted) = self.partitions.get(&(partition as i32)).copied().unwrap_or_default();
            machines[partition % workers].assign(partition as i32, offset, trusted);
        }
        let deltas = self.deltas();
        for machine in &mut machines {
            machine.restore(&deltas).unwrap();
        }
        Pipeline::new(machines, self.floor.map_or_else(Watermarks::default, Watermarks::starting_at))
    }
}

/// Rows = counted + late + set aside, at every cut.
fn books_close(cuts: &[(Cut, Vec<Effect>)]) {
    let sum = |of: &dyn Fn(&Cut) -> u64| cuts.iter().map(|(cut, _)| of(cut)).sum::<u64>();
    let rows = sum(&|cut| cut.counts.rows);
    for aggregate in 0..3 {
        let became = sum(&|cut| cut.counted[aggregate] + cut.counts.late[aggregate] + cut.set_aside[aggregate]);
        assert_eq!(rows, became, "the books of aggregate {aggregate} do not close");
    }
}

fn hash(user: &str) -> u64 {
    let user: ArrayRef = Arc::new(StringArray::from(vec![user]));
    Keys::of(&[&user], 1).hash(0)
}

fn origins(batch: &RecordBatch) -> Vec<(i32, i64)> {
    let partitions = batch["partition"].as_primitive::<Int32Type>().values().iter();
    partitions.copied().zip(batch["offset"].as_primitive::<Int64Type>().values().iter().copied()).collect()
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let times = |column: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>().values();
    let numbers = |column: usize| batch.column(column).as_primitive::<Int64Type>().values();
    let users = batch.column(2).as_string::<i32>();
    let row = |i| (times(0)[i], times(1)[i], users.value(i).to_string(), numbers(3)[i], numbers(4)[i]);
    (0..users.len()).map(row).collect()
}
