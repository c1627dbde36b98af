//! What a sliding window costs beside a tumbling one: ns of the processor's time per event, from rows to closed windows,
//! with the reference job's page metrics (two sketches of 2 KB each) in WebAssembly.
//!
//! `make plugins && cargo bench --bench panes`

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use arrow_array::BinaryArray;
#[path = "stages/cpu.rs"]
#[expect(dead_code, reason = "it is the stages' too")]
mod cpu;

use cpu::{CpuTime, stage};
use criterion::{Criterion, criterion_group, criterion_main};
use std::fmt::Write;
use std::sync::Arc;
use wasmill::assembly::{Assembly, runtime};
use wasmill::config::{Loader, Overrides};
use wasmill_pipeline::event::Times;
use wasmill_pipeline::exchange::Rows;
use wasmill_pipeline::fault::Treatment;
use wasmill_pipeline::lane::{Lane, LaneCounts, LaneOutput};
use wasmill_pipeline::record::RawBatch;
use wasmill_pipeline::shadow::Closed;
use wasmill_pipeline::shard::Shard;
use wasmill_pipeline::time::trust::Trusted;

/// Rows per batch, as the driver reads them.
const ROWS: usize = 4_096;

/// Batches that come again and again, so that a key has different users.
const BATCHES: usize = 16;

/// Events in a second of event time: a batch is some 0.4 s of it.
const RATE: i64 = 10_000;

/// Instants between two events, µs.
const BETWEEN: i64 = 1_000_000 / RATE;

fn assembly(window: &str) -> Assembly {
    let job = format!(
        r#"
[pipeline]
name = "panes"
[source]
topic = "events"
[parser]
plugin = "target/wasm32-wasip2/plugin/clickstream_parser.wasm"
[raw]
enabled = false
[[aggregate]]
name = "page_metrics"
plugin = "target/wasm32-wasip2/plugin/page_metrics.wasm"
window = {window}
keys = ["page"]
"#
    );
    let overrides = Overrides::default();
    let loader = Loader { env: &|_| None, overrides: &overrides, check_files: true };
    let config = loader.pipeline_text("benches/panes.rs", &job).unwrap();
    Assembly::new(&config, &runtime(&config).unwrap(), 1).unwrap()
}

/// The rows of each batch, as a lane hands them on.
fn rows(assembly: &Assembly, keys: usize) -> Vec<Rows> {
    let mut parser = assembly.instances().unwrap().parser;
    let mut batch = |batch: usize| {
        let raw = records(batch, keys);
        let mut lane = Lane::new(assembly.plan.clone(), 0, 0, Trusted::default());
        let (mut counts, mut out) = (LaneCounts::new(1), LaneOutput::default());
        lane.process(parser.as_mut(), &raw, &Treatment::default(), &mut counts, &mut out).unwrap();
        assert_eq!((out.rows.len(), counts.rows), (1, ROWS as u64));
        out.rows.swap_remove(0).1
    };
    (0..BATCHES).map(&mut batch).collect()
}

fn records(batch: usize, keys: usize) -> RawBatch {
    let mut text = String::new();
    let values = BinaryArray::from_iter_values((batch * ROWS..(batch + 1) * ROWS).map(|event| {
        text.clear();
        // Keys, users and sessions in no order, and the same in each run.
        let mixed = (event as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (page, user) = (mixed % keys as u64, mixed / 7 % 50_000);
        write!(
            text,
            r#"{{"event_id":"e","event_time":"2026-01-31T23:59:57.804Z","user_id":"user_{user:08}","session_id":"s{user}","event_type":"view","page":"/p/{page}","revenue":12.5}}"#
        )
        .unwrap();
        text.clone().into_bytes()
    }));
    RawBatch {
        partition: 0,
        offsets: (0..ROWS as i64).collect(),
        broker_times_us: vec![1_769_903_997_804_000; ROWS],
        appended: vec![false; ROWS],
        keys: BinaryArray::new_null(ROWS),
        values,
    }
}

/// A shard whose event time goes on and on.
struct Run {
    shard: Shard,
    rows: Vec<Rows>,
    batches: i64,
    closed: Vec<Closed>,
}

impl Run {
    /// Adds a batch and closes what is over.
    fn step(&mut self) {
        let rows = &mut self.rows[self.batches as usize % BATCHES];
        let first = self.batches * ROWS as i64 * BETWEEN;
        let times: Vec<i64> = (0..ROWS as i64).map(|row| first + row * BETWEEN).collect();
        let watermarks = times.iter().map(|time| time - BETWEEN).collect();
        rows.times = Arc::new(Times { events: times.into(), watermarks });
        self.batches += 1;
        self.shard.update(rows, &mut Vec::new()).unwrap();
        self.closed.clear();
        self.shard.close(first + ROWS as i64 * BETWEEN, None, &mut self.closed).unwrap();
    }
}

fn panes(c: &mut Criterion<CpuTime>) {
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
    for keys in [10, 1_000] {
        let mut group = stage(c, &format!("{keys} keys"), ROWS as u64);
        let sliding =
            |every: &str| (format!("60s every {every}"), format!("{{ sliding = \"60s\", every = \"{every}\" }}"));
        let tumbling = ("60s tumbling".to_owned(), "{ tumbling = \"60s\" }".to_owned());
        for (name, window) in [tumbling].into_iter().chain(["30s", "10s", "5s", "1s"].map(sliding)) {
            let assembly = assembly(&window);
            let plugin = assembly.instances().unwrap().aggregates.swap_remove(0);
            let shard = Shard::new(assembly.plan.clone(), 0, plugin);
            let mut run = Run { shard, rows: rows(&assembly, keys), batches: 0, closed: Vec::new() };
            // Until as many windows are open as there will be.
            while run.batches * ROWS as i64 * BETWEEN < 150_000_000 {
                run.step();
            }
            group.bench_function(name, |b| b.iter(|| run.step()));
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = panes
}
criterion_main!(benches);
