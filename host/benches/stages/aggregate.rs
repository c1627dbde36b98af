//! From rows to the rows of closed windows: what the host does for each row, what the plugin does, close, and cut.

use super::cpu::{CpuTime, measure, stage, timed};
use super::hollow::{Call, Hollow};
use super::job::{BATCH, Job, WIDE_GROUPS};
use super::native;
use criterion::Criterion;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use wasmill::disk::RealDisk;
use wasmill::store::LocalStore;
use wasmill_pipeline::exchange::Rows;
use wasmill_pipeline::key::Keys;
use wasmill_pipeline::plugin::Aggregate;
use wasmill_pipeline::shadow::Closed;
use wasmill_pipeline::shard::Shard;
use wasmill_pipeline::spec::Window;
use wasmill_pipeline::state::delta::StateDelta;

/// A watermark at which everything is over.
const THE_END: i64 = i64::MAX;

/// What an aggregate is called with, ready to be repeated.
pub(crate) trait Replay {
    /// Makes all calls once, after which nothing is left in the aggregate, and says how long updates and merges took.
    fn replay(&mut self) -> Duration;
}

pub(crate) fn benches(job: &Job, c: &mut Criterion<CpuTime>) {
    keys_and_slots(job, c);
    updates(job, c);
    closes(job, c);
    cuts(job, c);
}

/// The host's own work for each row: coding its key, and finding its group, or its session.
fn keys_and_slots(job: &Job, c: &mut Criterion<CpuTime>) {
    for (index, name) in job.aggregates() {
        let is_session = matches!(job.alone.plan.aggregates[index].spec.window, Window::Session { .. });
        let mut group = stage(c, if is_session { "session" } else { "group" }, job.events());
        let keys = job.keys(index);
        let columns: Vec<Vec<_>> = keys.iter().map(|columns| columns.iter().collect()).collect();
        group.bench_function(format!("{name} keys"), |b| {
            b.iter(|| columns.iter().map(|columns| Keys::of(black_box(columns), BATCH).len()).sum::<usize>());
        });
        let (batches, description) = (job.rows(index), &job.alone.descriptions[index]);
        group.bench_function(format!("{name} slots"), |b| {
            let empty = || Shard::new(job.alone.plan.clone(), index, Box::new(Hollow::new(description)));
            measure(b, empty, |mut shard| batches.iter().map(|rows| update_and_close(&mut shard, rows)).sum());
        });
        group.finish();
    }
}

/// How long it takes to add the rows. What is over then is closed, as a worker would.
fn update_and_close(shard: &mut Shard, rows: &Rows) -> Duration {
    let took = timed(|| shard.update(rows, &mut Vec::new()).unwrap());
    let watermark = rows.times.watermarks.last().copied().unwrap();
    shard.close(watermark, None, &mut Vec::new()).unwrap();
    took
}

/// The plugins' work for each row, as components and natively.
fn updates(job: &Job, c: &mut Criterion<CpuTime>) {
    let mut group = stage(c, "update", job.events());
    for (index, name) in job.aggregates() {
        let calls = calls(job, index);
        let plugin = job.alone.aggregate(index).unwrap();
        let wasm = Wasm { plugin, calls: calls.clone() };
        let replays: [(&str, Box<dyn Replay>); 2] =
            [("wasm", Box::new(wasm)), ("native", native::aggregate(name, &calls))];
        for (kind, mut replay) in replays {
            group.bench_function(format!("{name} {kind}"), |b| measure(b, || (), |()| replay.replay()));
        }
    }
    group.finish();
}

/// What the host calls an aggregate with for the stream.
fn calls(job: &Job, index: usize) -> Vec<Call> {
    let (noting, calls) = Hollow::noting(&job.alone.descriptions[index]);
    let mut shard = Shard::new(job.alone.plan.clone(), index, Box::new(noting));
    for rows in job.rows(index) {
        update_and_close(&mut shard, &rows);
    }
    shard.close(THE_END, None, &mut Vec::new()).unwrap();
    assert_eq!(shard.open_groups(), 0);
    let calls = calls.lock().unwrap();
    calls.clone()
}

/// A component and what it is called with.
struct Wasm {
    plugin: Box<dyn Aggregate>,
    calls: Vec<Call>,
}

impl Replay for Wasm {
    fn replay(&mut self) -> Duration {
        let Self { plugin, calls } = self;
        let mut took = Duration::ZERO;
        for call in calls {
            match call {
                Call::Update(slots, inputs) => took += timed(|| plugin.update(slots, inputs).unwrap()),
                Call::Merge(slots, others) => took += timed(|| plugin.merge(slots, others).unwrap()),
                Call::Release(slots) => plugin.release(slots).unwrap(),
            }
        }
        took
    }
}

/// A shard in which no group is open.
fn shard(job: &Job, index: usize) -> Shard {
    Shard::new(job.alone.plan.clone(), index, job.alone.aggregate(index).unwrap())
}

/// Adds the wide batches: every group has changed then.
fn fill(shard: &mut Shard, batches: &[Rows]) {
    for rows in batches {
        shard.update(rows, &mut Vec::new()).unwrap();
    }
    assert_eq!(shard.open_groups(), WIDE_GROUPS);
}

/// The rows of all groups of the wide batches.
pub(crate) fn closed(job: &Job, index: usize) -> Vec<Closed> {
    let (mut shard, mut out) = (shard(job, index), Vec::new());
    fill(&mut shard, &job.wide[index]);
    shard.close(THE_END, None, &mut out).unwrap();
    out
}

/// Closing 10,000 groups at once.
fn closes(job: &Job, c: &mut Criterion<CpuTime>) {
    let mut group = stage(c, "close", WIDE_GROUPS as u64);
    for (index, name) in job.aggregates() {
        let mut shard = Some(shard(job, index));
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let shard = shard.as_mut().unwrap();
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    fill(shard, &job.wide[index]);
                    took += timed(|| {
                        let mut out = Vec::new();
                        shard.close(THE_END, None, &mut out).unwrap();
                        out
                    });
                    assert_eq!(shard.open_groups(), 0);
                }
                took
            });
        });
    }
    group.finish();
}

/// A checkpoint's work for 10,000 groups that changed: what the worker stands still for, and the segment beside it.
fn cuts(job: &Job, c: &mut Criterion<CpuTime>) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk);
    let store = LocalStore::open(disk, folder.path(), 0, &mut |_| ControlFlow::Break(())).unwrap();
    let mut group = stage(c, "cut", WIDE_GROUPS as u64);
    for (index, name) in job.aggregates() {
        let mut shard = shard(job, index);
        let mut delta = StateDelta::new(name, 1);
        group.bench_function(format!("{name} pause"), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    fill(&mut shard, &job.wide[index]);
                    took += timed(|| delta = shard.cut().unwrap());
                    assert_eq!(delta.puts.len(), WIDE_GROUPS);
                }
                took
            });
        });
        if delta.is_empty() {
            // The filter of the command line left the bench above out.
            fill(&mut shard, &job.wide[index]);
            delta = shard.cut().unwrap();
        }
        let deltas = [delta];
        group.bench_function(format!("{name} segment"), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let mut segment = None;
                    took += timed(|| segment = Some(store.write_segment(1, &deltas).unwrap()));
                    std::fs::remove_file(folder.path().join(segment.unwrap().file)).unwrap();
                }
                took
            });
        });
    }
    group.finish();
}
