//! Facts about panes: they give what the plain way gives, and what that costs.

use super::super::{Books, Open, SLOTS_PER_CALL, Shard};
use crate::error::{Class, Error};
use crate::event::{Origins, Times};
use crate::exchange::Rows;
use crate::fault::{FaultRules, FaultyCall};
use crate::key::Keys;
use crate::plan::Plan;
use crate::plugin::{Aggregate, AggregateDescription, Fault, Finished, NOBODY, Parser};
use crate::shadow::Closed;
use crate::spec::{AggregateSpec, PipelineSpec, TimeSpec, Window};
use crate::state::delta::{GroupEntry, GroupId, StateDelta};
use crate::state::windowed::Windowed;
use crate::testing::{CountAndSum, POISON, TestParser, TestRecord, Touchy, raw_batch};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, BinaryArray, Int64Array, StringArray};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

/// What was asked of a plugin.
#[derive(Default)]
struct Asked {
    /// Slots that hold something.
    held: BTreeSet<u32>,
    updates: usize,
    copies: usize,
    mergers: usize,
}

/// Counts and sums, and tells what was asked of it.
struct Watched {
    inner: CountAndSum,
    asked: Arc<Mutex<Asked>>,
}

impl Watched {
    fn asked(&self, slots: usize) -> MutexGuard<'_, Asked> {
        assert!(slots <= SLOTS_PER_CALL, "a call concerns {slots} slots");
        self.asked.lock().unwrap()
    }
}

impl Aggregate for Watched {
    fn description(&self) -> &AggregateDescription {
        self.inner.description()
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        let mut asked = self.asked(slots.len());
        let slots_of_rows = slots.iter().filter(|&&slot| slot != NOBODY);
        asked.updates += slots_of_rows.clone().count();
        asked.held.extend(slots_of_rows);
        drop(asked);
        self.inner.update(slots, inputs)
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        let mut asked = self.asked(slots.len() + others.len());
        asked.mergers += slots.len();
        for (slot, other) in slots.iter().zip(others) {
            assert!(asked.held.contains(slot) && asked.held.remove(other), "{other} into {slot}: there is nothing");
        }
        drop(asked);
        self.inner.merge(slots, others)
    }

    fn finish(&mut self, slots: &[u32], context: &[ArrayRef]) -> Result<Finished, Fault> {
        assert!(slots.iter().all(|slot| self.asked(slots.len()).held.contains(slot)), "a window without rows");
        self.inner.finish(slots, context)
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        self.asked(slots.len()).copies += slots.len();
        self.inner.snapshot(slots)
    }

    fn restore(&mut self, slots: &[u32], version: u32, states: &BinaryArray) -> Result<(), Fault> {
        self.asked(slots.len()).held.extend(slots);
        self.inner.restore(slots, version, states)
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        let mut asked = self.asked(slots.len());
        for slot in slots {
            asked.held.remove(slot);
        }
        drop(asked);
        self.inner.release(slots)
    }

    fn renew(&mut self) -> Result<(), Fault> {
        self.asked.lock().unwrap().held.clear();
        self.inner.renew()
    }
}

/// A row of a closed window: start, end, key, events, total.
type Row = (i64, i64, String, i64, i64);

/// One shard of one aggregate, and what a checkpoint of it holds.
struct World {
    window: Window,
    lateness: i64,
    shard: Shard,
    asked: Arc<Mutex<Asked>>,
    stored: BTreeMap<GroupId, (GroupEntry, Vec<u8>)>,
    rows: Vec<Row>,
}

impl World {
    /// With panes, or the plain way.
    fn new(window: Window, lateness: i64, panes: bool) -> Self {
        let (shard, asked) = shard(window, lateness, panes);
        Self { window, lateness, shard, asked, stored: BTreeMap::new(), rows: Vec::new() }
    }

    /// Rows of one partition: key, time, watermark before it, value.
    fn update(&mut self, events: &[(&str, i64, i64, i64)]) {
        self.shard.update(&rows(events), &mut Vec::new()).unwrap();
    }

    fn close(&mut self, watermark: i64) {
        let mut closed = Vec::new();
        self.shard.close(watermark, None, &mut closed).unwrap();
        self.rows.extend(closed.iter().flat_map(rows_of));
    }

    fn cut(&mut self) {
        let StateDelta { deletes, puts, states, .. } = self.shard.cut().unwrap();
        self.stored.retain(|id, _| !deletes.contains(id));
        for (entry, state) in puts.into_iter().zip(states.iter().flatten()) {
            self.stored.insert(entry.id.clone(), (entry, state.to_vec()));
        }
    }

    /// Goes on from the last cut, with panes from now on.
    fn restart(&mut self) {
        (self.shard, self.asked) = shard(self.window, self.lateness, true);
        let entries: Vec<GroupEntry> = self.stored.values().map(|(entry, _)| entry.clone()).collect();
        let states = BinaryArray::from_iter_values(self.stored.values().map(|(_, state)| state));
        self.shard.restore(1, &entries, &states).unwrap();
    }

    /// Closes all there is.
    fn end(mut self) -> Vec<Row> {
        if let Some(last) = self.shard.last_close() {
            self.close(last);
        }
        self.cut();
        assert_eq!((self.shard.open_groups(), self.stored.len()), (0, 0), "nothing is open any more");
        assert_eq!(self.asked().held, BTreeSet::new(), "the plugin holds nothing any more");
        self.rows
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap()
    }
}

fn shard(window: Window, allowed_lateness_us: i64, panes: bool) -> (Shard, Arc<Mutex<Asked>>) {
    let asked = Arc::new(Mutex::new(Asked::default()));
    let plugin = Watched { inner: CountAndSum::default(), asked: asked.clone() };
    let spec = PipelineSpec {
        time: TimeSpec { watermark_delay_us: 0, idle_timeout_us: None, max_ahead_us: None, ..TimeSpec::default() },
        aggregates: vec![AggregateSpec {
            name: "sliding".into(),
            window,
            keys: vec!["user".into()],
            allowed_lateness_us,
        }],
    };
    let described = [plugin.description().clone()];
    let plan = Plan::new(&spec, "events", TestParser::default().description(), &described, 1).unwrap();
    let mut shard = Shard::new(Arc::new(plan), 0, Box::new(plugin));
    let starts = shard.plan.aggregates[0].starts;
    let Window::Grid(grid) = window else { unreachable!("sliding windows are on a grid") };
    assert!(matches!(shard.books.open, Open::Sliding(_)), "sliding windows share panes");
    if !panes {
        let open = Open::Windowed(Windowed::new(grid, allowed_lateness_us, starts));
        shard.books = Books { open, ..shard.books };
    }
    (shard, asked)
}

fn rows(events: &[(&str, i64, i64, i64)]) -> Rows {
    let users: ArrayRef = Arc::new(events.iter().map(|event| Some(event.0)).collect::<StringArray>());
    let values: ArrayRef = Arc::new(events.iter().map(|event| event.3).collect::<Int64Array>());
    let times = Times {
        events: events.iter().map(|event| event.1).collect(),
        watermarks: events.iter().map(|event| event.2).collect(),
    };
    Rows {
        aggregate: 0,
        rows: None,
        times: Arc::new(times),
        origins: Arc::new(Origins { partition: 0, offsets: (0..).take(events.len()).collect() }),
        keys: Arc::new(Keys::of(&[&users], events.len())),
        inputs: vec![values],
        records: None,
    }
}

fn rows_of(closed: &Closed) -> Vec<Row> {
    let instants = |column: usize| closed.rows.column(column).as_primitive::<TimestampMicrosecondType>().values();
    let numbers = |column: usize| closed.rows.column(column).as_primitive::<Int64Type>().values();
    let users = closed.rows.column(2).as_string::<i32>();
    let row = |i| (instants(0)[i], instants(1)[i], users.value(i).to_owned(), numbers(3)[i], numbers(4)[i]);
    (0..closed.rows.num_rows()).map(row).collect()
}

fn sliding(panes: i64, slide_us: i64, offset_us: i64) -> Window {
    Window::sliding(panes * slide_us, slide_us, offset_us)
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// Rows of a partition: key, by how much its time is before or after the furthest so far, value.
    Rows(usize, Vec<(&'static str, i64, i64)>),
    Close,
    Cut,
    /// A cut, and a new process that goes on from there.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop::sample::select(vec!["ann", "bob", "cy", "dee", "eve"]);
    let ahead = prop_oneof![6 => -12i64..14, 2 => -90i64..0, 1 => 0i64..300];
    let row = (key, ahead, -5i64..100);
    prop_oneof![
        6 => (0usize..3, prop::collection::vec(row, 1..12)).prop_map(|(partition, rows)| Step::Rows(partition, rows)),
        4 => Just(Step::Close),
        1 => Just(Step::Cut),
        1 => Just(Step::Restart),
    ]
}

/// The same in both ways: partitions move on each at its own pace, and windows close by the slowest.
fn play(worlds: &mut [World; 2], steps: &[Step], delay: i64) {
    let mut marks = [i64::MIN; 3];
    let mut furthest = 0;
    for step in steps {
        match step {
            Step::Rows(partition, rows) => {
                let mark = &mut marks[*partition];
                let events: Vec<(&str, i64, i64, i64)> = rows
                    .iter()
                    .map(|&(key, ahead, value)| {
                        let (time, before) = (furthest + ahead, *mark);
                        furthest = furthest.max(time);
                        *mark = before.max(time - delay);
                        (key, time, before, value)
                    })
                    .collect();
                for world in &mut *worlds {
                    world.update(&events);
                }
            }
            Step::Close => {
                let slowest = marks[0].min(marks[1]).min(marks[2]);
                for world in &mut *worlds {
                    world.close(slowest);
                }
            }
            Step::Cut => worlds.iter_mut().for_each(World::cut),
            Step::Restart => {
                worlds.iter_mut().for_each(World::cut);
                worlds[0].restart();
            }
        }
        assert_eq!(worlds[0].rows, worlds[1].rows, "after {step:?}");
        assert_eq!(worlds[0].shard.last_close(), worlds[1].shard.last_close());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn panes_give_what_the_plain_way_gives(
        (panes, slide, offset) in (2i64..9, 3i64..12).prop_flat_map(|(n, slide)| (Just(n), Just(slide), 0..slide)),
        (lateness, delay) in (0i64..20, 0i64..20),
        steps in prop::collection::vec(step(), 0..60),
        before in 0usize..20,
        taken_over in any::<bool>(),
    ) {
        let window = sliding(panes, slide, offset);
        let mut worlds = [World::new(window, lateness, !taken_over), World::new(window, lateness, false)];
        let (first, rest) = steps.split_at(before.min(steps.len()));
        let steps = [first, &[Step::Restart], rest].concat();
        play(&mut worlds, &steps, delay);
        let [found, wanted] = worlds.map(World::end);
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn times_at_their_limits_close_as_all_do(
        events in prop::collection::vec(prop_oneof![i64::MIN..i64::MIN + 100, i64::MAX - 100..=i64::MAX], 1..10),
    ) {
        let mut world = World::new(sliding(4, 10, 3), 5, true);
        let events: Vec<_> = events.into_iter().map(|time| ("ann", time, i64::MIN, 1)).collect();
        world.update(&events);
        world.cut();
        world.restart();
        let windows: i64 = world.end().iter().map(|row| row.3).sum();
        prop_assert_eq!(windows, 4 * events.len() as i64);
    }
}

/// An event of each key in each pane, of which the last window closes as soon as it is over.
fn steady(panes: i64, keys: &[&str], steps: i64) -> World {
    let mut world = World::new(sliding(panes, 10, 0), 0, true);
    for pane in 0..steps {
        let events: Vec<_> = keys.iter().map(|&key| (key, pane * 10, pane * 10 - 10, 1)).collect();
        world.update(&events);
        world.close(pane * 10);
    }
    world
}

#[test]
fn a_window_costs_the_same_few_mergers_whatever_the_number_of_its_panes() {
    let cost = |panes: i64| {
        let steps = 20 * panes;
        let world = steady(panes, &["ann", "bob", "cy"], steps);
        let asked = world.asked();
        let each = |count: usize| count as f64 / (3 * steps) as f64;
        assert!((each(asked.updates) - 1.0).abs() < f64::EPSILON, "a row is added once");
        (each(asked.copies), each(asked.mergers))
    };
    for panes in [4, 60] {
        let (copies, mergers) = cost(panes);
        assert!(copies < 4.0 && mergers < 3.0, "{panes} panes: {copies} copies and {mergers} mergers a window");
    }
}

#[test]
fn a_key_with_one_pane_costs_no_merger_and_no_copy() {
    let mut world = World::new(sliding(60, 10, 0), 0, true);
    world.update(&[("ann", 1_000, 0, 7)]);
    assert_eq!(world.shard.open_groups(), 1);
    world.close(1_600);
    assert_eq!(world.rows.len(), 60);
    let asked = world.asked();
    assert_eq!((asked.updates, asked.copies, asked.mergers), (1, 0, 0));
}

#[test]
fn a_row_too_late_for_some_windows_counts_in_the_others() {
    let mut world = World::new(sliding(4, 10, 0), 0, true);
    // The window up to 20 is over in this row's partition.
    world.update(&[("ann", 15, i64::MIN, 1), ("ann", 15, 20, 10)]);
    let totals: Vec<(i64, i64)> = world.end().iter().map(|row| (row.1, row.4)).collect();
    assert_eq!(totals, [(20, 1), (30, 11), (40, 11), (50, 11)]);
}

#[test]
fn a_cut_has_the_panes_that_changed_and_no_sums() {
    let mut world = steady(4, &["ann"], 12);
    world.cut();
    world.update(&[("ann", 120, 110, 1)]);
    let delta = world.shard.cut().unwrap();
    assert_eq!((delta.deletes.len(), delta.puts.len()), (0, 1), "{delta:?}");
    // Panes of the last window but the one that has left, the new one, and the mark.
    assert_eq!(world.shard.persisted().len(), 3 + 2 + 1);
}

#[test]
fn a_window_given_out_before_a_crash_is_not_given_out_again() {
    let mut world = World::new(sliding(4, 10, 0), 0, true);
    world.update(&[("ann", 35, i64::MIN, 1)]);
    world.close(45);
    world.cut();
    world.restart();
    world.restart();
    let ends: Vec<i64> = world.end().iter().map(|row| row.1).collect();
    assert_eq!(ends, [40, 50, 60, 70]);
}

#[test]
fn a_row_that_fails_in_some_window_is_taken_back_from_all() {
    let (mut shard, _) = shard(sliding(4, 10, 0), 0, true);
    shard.plugin = Box::new(Touchy::default());
    shard.set_rules(FaultRules { breaker: 1.0, ..FaultRules::default() });
    let events = [("ann", 15, i64::MIN, 1), ("ann", 15, 20, 10), ("ann", 15, 20, POISON), ("ann", 15, 20, 100)];
    let records: Vec<_> = events.iter().map(|_| (TestRecord::Null, 0)).collect();
    let careful = Rows { records: Some(Arc::new(raw_batch(0, 0, &records))), ..rows(&events) };
    let mut poison = Vec::new();
    shard.update(&careful, &mut poison).unwrap();
    assert_eq!(poison.iter().map(|one| one.letter.offset).collect::<Vec<_>>(), [2]);
    let FaultyCall::Update { state, .. } = &poison[0].report.call else { panic!("{:?}", poison[0].report) };
    let before = [1i64.to_le_bytes(), 10i64.to_le_bytes()].concat();
    assert_eq!(*state, Some((1, before)), "that of the window in which it failed");
    let mut closed = Vec::new();
    shard.close(50, None, &mut closed).unwrap();
    let totals: Vec<i64> = closed.iter().flat_map(rows_of).map(|row| row.4).collect();
    assert_eq!(totals, [1, 111, 111, 111]);
}

#[test]
fn sums_are_made_anew_after_a_row_was_taken_back() {
    let mut world = steady(4, &["ann"], 12);
    world.shard.set_rules(FaultRules { breaker: 1.0, ..FaultRules::default() });
    let mut touchy = Touchy::default();
    let slots = world.shard.books.groups.slots();
    touchy.restore(&slots, 1, &world.shard.plugin.snapshot(&slots).unwrap()).unwrap();
    // What was summed is not there: a plugin put in now knows groups only.
    let Books { groups, open: Open::Sliding(panes) } = &mut world.shard.books else { panic!("no panes") };
    panes.forget_sums(groups);
    world.shard.plugin = Box::new(touchy);
    world.close(120);
    let events = [("ann", 120, 110, POISON), ("ann", 120, 110, 1)];
    let records: Vec<_> = events.iter().map(|_| (TestRecord::Null, 0)).collect();
    let careful = Rows { records: Some(Arc::new(raw_batch(0, 0, &records))), ..rows(&events) };
    let mut poison = Vec::new();
    world.shard.update(&careful, &mut poison).unwrap();
    assert_eq!(poison.len(), 1);
    world.close(160);
    let events: Vec<i64> = world.rows.iter().rev().take(5).map(|row| row.3).collect();
    assert_eq!(events, [1, 2, 3, 4, 4]);
}

#[test]
fn a_group_that_is_no_part_of_a_sliding_window_is_corrupt() {
    let (mut shard, _) = shard(sliding(4, 10, 0), 0, true);
    let id = GroupId { key: vec![], start_us: 17 };
    let states = BinaryArray::from_iter_values([[0; 16]]);
    let refused = shard.restore(1, &[GroupEntry { id, last_us: 17 }], &states).unwrap_err();
    assert_eq!(refused.class(), Class::Corrupt);
    assert!(matches!(&refused, Error::Corrupt(what) if what.ends_with("aggregate=sliding start_us=17")), "{refused}");
}
