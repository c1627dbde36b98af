//! A million open sessions: what a checkpoint costs against the share that changed, what they take in memory, and how
//! long recovery takes. With the reference job's components and the real store.
//!
//! `make plugins && cargo bench -p wasmill --bench state`, with `SESSIONS=n` for another number. Times are of the CPU, as
//! the kernel counts them, so that a machine with other work tells the same; only what waits for the disk is by the clock.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "the numbers are the product")]

use arrow_array::{ArrayRef, BinaryArray};
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wasmill::assembly::{Assembly, runtime};
use wasmill::config::{Loader, Overrides};
use wasmill::disk::RealDisk;
use wasmill::store::{LocalStore, SegmentRef};
use wasmill_pipeline::checkpoint::Cut;
use wasmill_pipeline::plugin::{Aggregate, AggregateDescription, Fault, Finished};
use wasmill_pipeline::record::RawBatch;
use wasmill_pipeline::state::delta::StateDelta;
use wasmill_pipeline::time::trust::Trusted;
use wasmill_pipeline::worker::Worker;

/// Records per batch, as the driver reads them.
const ROWS: usize = 4_096;

const JOB: &str = r#"
[pipeline]
name = "state"
[source]
topic = "events"
[parser]
plugin = "target/wasm32-wasip2/plugin/clickstream_parser.wasm"
[raw]
enabled = false
[[aggregate]]
name = "sessions"
plugin = "target/wasm32-wasip2/plugin/sessions.wasm"
window = { session = "1h" }
keys = ["user_id"]
"#;

fn main() {
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
    let sessions: usize = std::env::var("SESSIONS").map_or(1_000_000, |n| n.parse().unwrap());
    let overrides = Overrides::default();
    let loader = Loader { env: &|_| None, overrides: &overrides, check_files: true };
    let config = loader.pipeline_text("benches/state.rs", JOB).unwrap();
    let assembly = Assembly::new(&config, &runtime(&config).unwrap(), 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(Arc::new(RealDisk), folder.path(), 0, &mut |_| ControlFlow::Break(())).unwrap();
    let mut bench = Bench::new(&assembly, store);
    bench.read(&(0..sessions).collect::<Vec<_>>());
    println!(
        "| changed | sessions | cut pause ms | of it the plugin ms | MB written | / changed state | write ms, by the clock |"
    );
    println!("|---|---|---|---|---|---|---|");
    bench.checkpoint("new");
    for (share, name) in [(100, "1 %"), (10, "10 %"), (1, "100 %"), (100, "1 %"), (10, "10 %")] {
        bench.read(&(0..sessions).step_by(share).collect::<Vec<_>>());
        bench.checkpoint(name);
    }
    let held = bench.worker.shards()[0].state_bytes() as f64;
    println!("\n{:.0} bytes of memory a session, {:.0} MB in all", held / sessions as f64, held / 1e6);
    bench.recover(&assembly, sessions);
}

struct Bench {
    worker: Worker,
    in_plugin: Arc<AtomicU64>,
    store: LocalStore,
    segments: Vec<SegmentRef>,
    read: i64,
    cuts: u64,
}

impl Bench {
    fn new(assembly: &Assembly, store: LocalStore) -> Self {
        let (worker, in_plugin) = worker(assembly);
        Self { worker, in_plugin, store, segments: Vec::new(), read: 0, cuts: 0 }
    }

    /// An event of each of these users.
    fn read(&mut self, users: &[usize]) {
        let mut effects = Vec::new();
        for users in users.chunks(ROWS) {
            let mut text = String::new();
            let values = BinaryArray::from_iter_values(users.iter().map(|user| {
                text.clear();
                let page = user % 7 + self.cuts as usize;
                write!(
                    text,
                    r#"{{"event_id":"e","event_time":"2026-01-31T23:59:57.804Z","user_id":"user_{user:08}","session_id":"s","event_type":"view","page":"/p/{page}","revenue":12.5}}"#
                )
                .unwrap();
                text.clone().into_bytes()
            }));
            let rows = users.len();
            let raw = RawBatch {
                partition: 0,
                offsets: (self.read..).take(rows).collect(),
                broker_times_us: vec![1_769_903_997_804_000; rows],
                appended: vec![false; rows],
                keys: BinaryArray::new_null(rows),
                values,
            };
            self.read += rows as i64;
            self.worker.read(&raw, &mut effects).unwrap();
            assert!(effects.drain(..).count() == 1, "the raw rows, and no dead letters");
        }
    }

    fn checkpoint(&mut self, name: &str) {
        self.cuts += 1;
        self.in_plugin.store(0, Ordering::Relaxed);
        let (cut, pause) = on_cpu(|| cut(&mut self.worker, self.cuts));
        let in_plugin = Duration::from_nanos(self.in_plugin.load(Ordering::Relaxed));
        let changed: usize = cut.deltas.iter().map(state_bytes).sum();
        let entries: u64 = cut.deltas.iter().map(StateDelta::entries).sum();
        let began = Instant::now();
        let segment = self.store.write_segment(self.cuts, &cut.deltas).unwrap();
        let took = began.elapsed();
        println!(
            "| {name} | {entries} | {:.1} | {:.1} | {:.2} | {:.2} | {:.0} |",
            ms(pause),
            ms(in_plugin),
            segment.bytes as f64 / 1e6,
            segment.bytes as f64 / changed as f64,
            ms(took),
        );
        self.segments.push(segment);
    }

    /// As after a crash: the state from the segments, and new instances that take it in.
    fn recover(&self, assembly: &Assembly, sessions: usize) {
        let (states, load) = on_cpu(|| self.store.load(&self.segments).unwrap());
        let (mut worker, _) = worker(assembly);
        let ((), restore) = on_cpu(|| worker.restore(&states).unwrap());
        assert_eq!(worker.shards()[0].open_groups(), sessions);
        let all = load + restore;
        println!("recovery: {:.0} ms, of which reading {:.0}, restoring {:.0}", ms(all), ms(load), ms(restore));
    }
}

/// The state that changed: key, first and last event, and what the plugin keeps.
fn state_bytes(delta: &StateDelta) -> usize {
    let times = 2 * size_of::<i64>();
    let keys: usize = delta.puts.iter().map(|put| put.id.key.len() + times).sum();
    keys + delta.states.value_data().len()
}

fn cut(worker: &mut Worker, number: u64) -> Cut {
    worker.begin_cut(number, &mut Vec::new());
    let (_, cut) = worker.finish_cut().unwrap();
    worker.go_on(None).unwrap();
    cut
}

fn worker(assembly: &Assembly) -> (Worker, Arc<AtomicU64>) {
    let made = assembly.instances().unwrap();
    let in_plugin = Arc::new(AtomicU64::new(0));
    let watched = |inner| Box::new(Watched { inner, nanos: in_plugin.clone() }) as Box<dyn Aggregate>;
    let aggregates = made.aggregates.into_iter().map(watched).collect();
    let mut worker = Worker::new(assembly.plan.clone(), 0, made.parser, aggregates);
    worker.assign(0, 0, Trusted::default());
    (worker, in_plugin)
}

/// What the work makes, and how long this thread was on a CPU for it (by the clock where the kernel does not count).
fn on_cpu<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let (began, counted) = (Instant::now(), cpu_time());
    let made = work();
    let took = cpu_time().zip(counted).map(|(now, then)| now.saturating_sub(then));
    (made, took.unwrap_or_else(|| began.elapsed()))
}

/// This thread's time on a CPU: the first number of Linux's schedstat, ns.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// An aggregate whose snapshots are timed.
struct Watched {
    inner: Box<dyn Aggregate>,
    nanos: Arc<AtomicU64>,
}

impl Aggregate for Watched {
    fn description(&self) -> &AggregateDescription {
        self.inner.description()
    }

    fn memory_bytes(&self) -> u64 {
        self.inner.memory_bytes()
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        self.inner.update(slots, inputs)
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        self.inner.merge(slots, others)
    }

    fn finish(&mut self, slots: &[u32], context: &[ArrayRef]) -> Result<Finished, Fault> {
        self.inner.finish(slots, context)
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        let (states, took) = on_cpu(|| self.inner.snapshot(slots));
        self.nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        states
    }

    fn restore(&mut self, slots: &[u32], state_version: u32, states: &BinaryArray) -> Result<(), Fault> {
        self.inner.restore(slots, state_version, states)
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        self.inner.release(slots)
    }

    fn renew(&mut self) -> Result<(), Fault> {
        self.inner.renew()
    }
}
