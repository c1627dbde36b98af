//! Laws of changes: versions come and go between two cuts, and every row is of the version that it should be of, counts
//! what it should count, and is there once; whatever the batches, interleavings, workers, cuts and crashes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod setup;
mod stored;

use proptest::prelude::*;
use setup::{Kind, Setup};
use std::collections::{BTreeMap, BTreeSet};
use stored::{Fresh, Stored};
use wasmill_pipeline::change::{Change, instant_after};
use wasmill_pipeline::checkpoint::Cut;
use wasmill_pipeline::fault::{FaultRules, Treatment};
use wasmill_pipeline::pipeline::{Pipeline, Written};
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::spec::Window;
use wasmill_pipeline::testing::{
    Call, Expected, Tagged, TestRecord, expected, expected_rows_from, raw_batch, spec_of_all_windows,
};
use wasmill_pipeline::version::ALL_KEYS;
use wasmill_pipeline::worker::Effect;

type Topic = Vec<Vec<(TestRecord, i64)>>;

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
    BeginCut(usize),
    FinishCut(usize),
    /// All workers cut and stand still, each with its part of the change.
    Change(Kind, usize),
    /// A worker goes on.
    GoOn(usize),
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
    /// The versions that the next checkpoint names.
    setup: Setup,
    /// What is known of the shadows beyond what these workers found.
    base: BTreeMap<usize, Comparison>,
    /// Where a version began anew that no checkpoint names yet.
    fresh: Option<Fresh>,
    tags: i64,
    at: Vec<usize>,
    written: Vec<Vec<Effect>>,
    cutting: Option<BTreeMap<usize, (Cut, Vec<Effect>)>>,
    /// What the workers that stand still go on with.
    standing: Vec<Option<Change>>,
}

impl<'t> World<'t> {
    fn new(topic: &'t Topic, stored: Stored, workers: usize, tags: i64) -> Self {
        let at = (0..topic.len()).map(|p| stored.partitions.get(&(p as i32)).map_or(0, |s| s.0 as usize)).collect();
        Self {
            topic,
            workers,
            pipeline: stored.recover(topic.len(), workers),
            setup: stored.setup.clone(),
            base: stored.found.clone(),
            fresh: None,
            tags,
            at,
            written: (0..workers).map(|_| Vec::new()).collect(),
            cutting: None,
            standing: (0..workers).map(|_| None).collect(),
            stored,
        }
    }

    fn note(&mut self, written: Written) {
        for (worker, effect) in written {
            self.written[worker].push(effect);
        }
    }

    fn all_work(&self) -> bool {
        self.standing.iter().all(Option::is_none)
    }

    fn step(mut self, step: Step) -> Self {
        let mut written = Vec::new();
        let works = |worker: usize| self.standing[worker % self.workers].is_none();
        match step {
            Step::Crash { workers } => return Self::new(self.topic, self.stored, workers, self.tags),
            Step::Read { partition, count } if works(partition % self.topic.len()) => {
                self.read(partition % self.topic.len(), count);
            }
            Step::Deliver(worker) if works(worker) => {
                self.pipeline.deliver(worker % self.workers, &mut written).unwrap();
            }
            Step::Close(worker) if works(worker) => {
                self.pipeline.close(worker % self.workers, &mut written).unwrap();
            }
            Step::Cut if self.cutting.is_none() && self.all_work() => {
                self.pipeline.next_cut();
                self.cutting = Some(BTreeMap::new());
            }
            Step::BeginCut(worker) if self.cutting.is_some() => {
                self.pipeline.begin_cut(worker % self.workers, &mut written);
            }
            Step::FinishCut(worker) => self.finish_cut(worker % self.workers, true),
            Step::Change(kind, of) => self.change(kind, of),
            Step::GoOn(worker) => self.go_on(worker % self.workers),
            _ => {}
        }
        self.note(written);
        self
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

    /// A worker's part of the cut under way, if it is ready; the last of them makes the checkpoint.
    fn finish_cut(&mut self, worker: usize, goes_on: bool) {
        let Some(parts) = &mut self.cutting else { return };
        if let Some(cut) = self.pipeline.finish_cut(worker).unwrap() {
            parts.insert(worker, (cut, std::mem::take(&mut self.written[worker])));
            if goes_on {
                self.pipeline.go_on(worker, None).unwrap();
            }
        }
        if parts.len() == self.workers {
            let parts = self.cutting.take().unwrap();
            self.stored.fresh.extend(self.fresh.take());
            self.stored.commit(&self.setup, &self.base, parts.into_values().collect());
        }
    }

    fn whole_cut(&mut self, goes_on: bool) {
        if self.cutting.is_none() {
            self.pipeline.next_cut();
            self.cutting = Some(BTreeMap::new());
        }
        let mut written = Vec::new();
        for worker in 0..self.workers {
            self.pipeline.begin_cut(worker, &mut written);
        }
        while let Some(parts) = &self.cutting {
            let waiting: Vec<usize> = (0..self.workers).filter(|worker| !parts.contains_key(worker)).collect();
            for worker in waiting {
                self.pipeline.deliver(worker, &mut written).unwrap();
                self.note(std::mem::take(&mut written));
                self.finish_cut(worker, goes_on);
            }
        }
    }

    fn change(&mut self, kind: Kind, of: usize) {
        if self.setup.change(kind, of, 0, 0).is_none() {
            return;
        }
        self.settle();
        self.whole_cut(false);
        let marks = self.stored.partitions.values().map(|&(_, mark)| mark);
        let instant = instant_after(marks, spec_of_all_windows().time.watermark_delay_us);
        let refused = matches!(kind, Kind::Retire) && !self.stored.done.contains(&of);
        self.tags += 1;
        let (setup, origins) = match self.setup.change(kind, of, instant, self.tags) {
            Some(next) if !refused => next,
            _ => (self.setup.clone(), (0..self.setup.entries.len()).map(setup::Origin::Same).collect()),
        };
        let plan = setup.plan(self.workers);
        let rules = FaultRules { breaker: 1.0, ..FaultRules::default() };
        let treatment = Treatment { parser: rules, ..Treatment::default() };
        for place in &mut self.standing {
            let (shards, treatment) =
                (setup.heirs(&origins, |entry| Box::new(Tagged::new(entry.version))), treatment.clone());
            *place = Some(Change { plan: plan.clone(), parser: None, shards, treatment });
        }
        if matches!(kind, Kind::Fresh) {
            let offsets = self.stored.partitions.iter().map(|(&partition, &(next, _))| (partition, next)).collect();
            let (rows, floor) = (self.stored.out.rows[of].len(), self.stored.closed_up_to);
            self.fresh = Some(Fresh { of, offsets, floor, rows });
        }
        if matches!(kind, Kind::Shadow { .. }) {
            self.base.insert(of, Comparison::default());
        } else if setup.shadow(of).is_none() {
            self.base.remove(&of);
        }
        self.setup = setup;
    }

    fn go_on(&mut self, worker: usize) {
        if let Some(change) = self.standing[worker].take() {
            self.pipeline.go_on(worker, Some(change)).unwrap();
        }
    }

    /// All go on, and the cut under way is finished.
    fn settle(&mut self) {
        for worker in 0..self.workers {
            self.go_on(worker);
        }
        if self.cutting.is_some() || self.setup.entries.len() != self.stored.setup.entries.len() || self.fresh.is_some()
        {
            self.whole_cut(true);
        }
    }

    /// Reads the rest, closes everything and makes the last checkpoint.
    fn end(mut self) -> Stored {
        self.settle();
        for partition in 0..self.topic.len() {
            self.read(partition, usize::MAX);
        }
        let mut written = Vec::new();
        self.pipeline.drain(&mut written).unwrap();
        self.note(written);
        self.whole_cut(true);
        assert!(self.stored.states.values().all(BTreeMap::is_empty), "nothing is open after a drain");
        let out = &mut self.stored.out;
        out.raw.sort_unstable();
        out.dead_letters.sort_unstable();
        out.late.iter_mut().for_each(|late| late.sort_unstable());
        self.stored
    }
}

fn run(topic: &Topic, workers: usize, steps: &[Step]) -> Stored {
    let world = World::new(topic, Stored::new(), workers, 0);
    steps.iter().fold(world, |world, &step| world.step(step)).end()
}

/// What is committed where no version begins without state.
fn committed(stored: Stored) -> Expected {
    let mut out = stored.out;
    out.rows.iter_mut().for_each(|rows| rows.sort());
    out
}

/// Whether each aggregate's rows are those of the records since its version began anew, and before that of those until then.
fn judge_fresh(topic: &Topic, stored: &Stored) {
    let spec = spec_of_all_windows();
    for (of, aggregate) in spec.aggregates.iter().enumerate() {
        let rows = &stored.out.rows[of];
        let mut begins = vec![Fresh { of, offsets: BTreeMap::new(), floor: i64::MIN, rows: 0 }];
        begins.extend(stored.fresh.iter().filter(|fresh| fresh.of == of).cloned());
        for (index, begin) in begins.iter().enumerate() {
            let wanted = expected_rows_from(topic, &spec.time, aggregate, &begin.offsets);
            let Some(next) = begins.get(index + 1) else {
                let mut found = rows[begin.rows..].to_vec();
                found.sort();
                assert_eq!(found, wanted, "{} since the last version without state", aggregate.name);
                continue;
            };
            let found: BTreeSet<_> = rows[begin.rows..next.rows].iter().collect();
            assert_eq!(found.len(), next.rows - begin.rows, "no row is there twice");
            let open = |end: i64| match aggregate.window {
                Window::Session { .. } => end + aggregate.allowed_lateness_us >= next.floor,
                Window::Grid(_) => end + aggregate.allowed_lateness_us > next.floor,
            };
            for row in &wanted {
                assert!(found.contains(row) || open(row.1), "{row:?} of {} is lost", aggregate.name);
            }
            let wanted: BTreeSet<_> = wanted.iter().collect();
            assert!(found.is_subset(&wanted), "{:?}", found.difference(&wanted).collect::<Vec<_>>());
        }
    }
}

fn record() -> impl Strategy<Value = (TestRecord, i64)> {
    let user = prop::sample::select(vec!["ann", "bob", "cy", "dee"]);
    let event = (user, prop::option::weighted(0.9, 0i64..60), -5i64..12)
        .prop_map(|(user, time, value)| TestRecord::Event { user: user.into(), time: time.map(|t| t * 5), value });
    let record = prop_oneof![20 => event, 1 => Just(TestRecord::Bad), 1 => Just(TestRecord::Null)];
    (record, (10i64..50).prop_map(|time| time * 5))
}

/// Partitions whose event times move on, so that windows close all the time.
fn topic() -> impl Strategy<Value = Topic> {
    let partition = prop::collection::vec(record(), 0..40).prop_map(|mut records| {
        for (index, (record, broker_time)) in (0i64..).zip(&mut records) {
            *broker_time += 10 * index;
            if let TestRecord::Event { time: Some(time), .. } = record {
                *time = *time / 25 * 5 + 10 * index;
            }
        }
        records
    });
    prop::collection::vec(partition, 1..4)
}

fn trap() -> impl Strategy<Value = Option<(Call, u32)>> {
    let calls = [Call::Update, Call::Merge, Call::Finish, Call::Snapshot, Call::Restore, Call::Release];
    prop::option::weighted(0.4, (prop::sample::select(calls.to_vec()), 0u32..6))
}

fn kind() -> impl Strategy<Value = Kind> {
    let keys = prop_oneof![2 => Just(ALL_KEYS), 1 => Just(ALL_KEYS / 2)];
    let shadow = (keys, any::<bool>(), any::<bool>(), any::<bool>(), trap());
    let shadow = shadow.prop_map(|(keys, next, same, odd, trap)| Kind::Shadow { keys, next, same, odd, trap });
    prop_oneof![
        2 => Just(Kind::Migrate),
        3 => Just(Kind::Pin),
        4 => shadow,
        2 => Just(Kind::Promote),
        1 => Just(Kind::Discard),
        4 => Just(Kind::Retire),
    ]
}

fn step(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0usize..4, 1usize..9).prop_map(|(partition, count)| Step::Read { partition, count }),
        4 => (0usize..3).prop_map(Step::Deliver),
        4 => (0usize..3).prop_map(Step::Close),
        2 => Just(Step::Cut),
        3 => (0usize..3).prop_map(Step::BeginCut),
        3 => (0usize..3).prop_map(Step::FinishCut),
        4 => (kind, 0usize..3).prop_map(|(kind, of)| Step::Change(kind, of)),
        6 => (0usize..3).prop_map(Step::GoOn),
        1 => (1usize..4).prop_map(|workers| Step::Crash { workers }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn versions_that_take_up_or_end_what_others_began_change_nothing_but_who_made_a_row(
        topic in topic(),
        workers in 1usize..4,
        steps in prop::collection::vec(step(kind()), 0..150),
    ) {
        let spec = spec_of_all_windows();
        let expected = expected(&topic, &spec.time, &spec.aggregates);
        prop_assert_eq!(committed(run(&topic, workers, &steps)), expected);
    }

    #[test]
    fn a_version_without_state_loses_what_was_counted_before_and_nothing_else(
        topic in topic(),
        workers in 1usize..4,
        steps in prop::collection::vec(step(prop_oneof![Just(Kind::Fresh), Just(Kind::Migrate)]), 0..150),
    ) {
        judge_fresh(&topic, &run(&topic, workers, &steps));
    }
}

fn event(time: i64, value: i64) -> (TestRecord, i64) {
    (TestRecord::Event { user: "ann".into(), time: Some(time), value }, time)
}

#[test]
fn a_session_that_the_version_before_began_is_ended_by_it_with_all_its_events() {
    let topic = vec![vec![event(100, 1), event(110, 1), event(120, 1), event(200, 1)]];
    let steps = [Step::Read { partition: 0, count: 1 }, Step::Change(Kind::Pin, 2), Step::GoOn(0)];
    let mut stored = run(&topic, 1, &steps);
    stored.out.rows[2].sort();
    assert_eq!((stored.setup.tag(2, 100), stored.setup.tag(2, 200)), (0, 1), "the rows' tags were held against this");
    assert_eq!(stored.out.rows[2], [(100, 135, "ann".into(), 3, 3), (200, 215, "ann".into(), 1, 1)]);
}

#[test]
fn a_shadow_that_fails_leaves_no_state_behind() {
    for call in [Call::Update, Call::Finish, Call::Snapshot, Call::Restore, Call::Release] {
        let topic = vec![(0..30).map(|n| event(5 * n, n)).collect()];
        let shadow = Kind::Shadow { keys: ALL_KEYS, next: false, same: true, odd: false, trap: Some((call, 1)) };
        let mut steps = vec![Step::Read { partition: 0, count: 8 }, Step::Change(shadow, 0), Step::GoOn(0)];
        for _ in 0..3 {
            let cut = [Step::Cut, Step::BeginCut(0), Step::FinishCut(0)];
            steps.extend([Step::Read { partition: 0, count: 5 }, Step::Close(0)].into_iter().chain(cut));
        }
        steps.extend([Step::Change(Kind::Discard, 0), Step::GoOn(0), Step::Crash { workers: 1 }]);
        let spec = spec_of_all_windows();
        assert_eq!(committed(run(&topic, 1, &steps)), expected(&topic, &spec.time, &spec.aggregates), "{call:?}");
    }
}
