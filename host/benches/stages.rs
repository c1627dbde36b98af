//! ns per event of each stage, with the reference job's components: lane, shards, raw Parquet.
//!
//! `make plugins && cargo bench --bench stages`

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use arrow_array::BinaryArray;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use wasmill::assembly::{Assembly, runtime};
use wasmill::config::{Config, Overrides};
use wasmill::disk::RealDisk;
use wasmill::plugin::World;
use wasmill::sink::{FileNaming, Writers};
use wasmill_pipeline::exchange::Rows;
use wasmill_pipeline::fault::Treatment;
use wasmill_pipeline::lane::{Lane, LaneCounts, LaneOutput};
use wasmill_pipeline::record::RawBatch;
use wasmill_pipeline::shard::Shard;
use wasmill_pipeline::time::NOTHING_SEEN;

/// Records per batch, as the driver reads them.
const ROWS: usize = 4_096;

fn job() -> (Assembly, RawBatch) {
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
    let path = Path::new("host/pipelines/clickstream.toml");
    let config = Config::load(path, &|_| None, &Overrides::default()).unwrap();
    let runtime = runtime(&config).unwrap();
    let assembly = Assembly::new(&config, &runtime, 1).unwrap();
    let generator = &config.generator.as_ref().unwrap().plugin;
    let component = runtime.load("generator", &generator.path, World::Generator).unwrap();
    let times: Vec<i64> = (0..ROWS as i64).map(|i| 1_767_225_600_000_000 + i * 1_000).collect();
    let made = component.generator("{}", 1).unwrap().generate(0, &times).unwrap();
    let raw = RawBatch {
        partition: 0,
        offsets: (0..ROWS as i64).collect(),
        broker_times_us: times,
        keys: BinaryArray::new_null(ROWS),
        values: made.values,
    };
    (assembly, raw)
}

fn counts(assembly: &Assembly) -> LaneCounts {
    LaneCounts::new(assembly.outputs.names.len())
}

fn process(assembly: &Assembly, raw: &RawBatch) -> LaneOutput {
    let mut out = LaneOutput::default();
    let mut parser = assembly.instances().unwrap().parser;
    let mut lane = Lane::new(assembly.plan.clone(), 0, 0, NOTHING_SEEN);
    lane.process(parser.as_mut(), raw, &Treatment::default(), &mut counts(assembly), &mut out).unwrap();
    out
}

fn stages(c: &mut Criterion) {
    let (assembly, raw) = job();
    let mut group = c.benchmark_group("stages");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut parser = assembly.instances().unwrap().parser;
    group.bench_function("parse", |b| b.iter(|| parser.parse(&raw).unwrap()));
    group.bench_function("lane", |b| {
        b.iter_batched(
            || Lane::new(assembly.plan.clone(), 0, 0, NOTHING_SEEN),
            |mut lane| {
                let mut out = LaneOutput::default();
                lane.process(parser.as_mut(), &raw, &Treatment::default(), &mut counts(&assembly), &mut out).unwrap();
                out
            },
            BatchSize::SmallInput,
        );
    });
    let out = process(&assembly, &raw);
    let rows: Vec<Rows> = out.rows.into_iter().map(|(_, rows)| rows).collect();
    for (index, plugin) in assembly.instances().unwrap().aggregates.into_iter().enumerate() {
        let mut shard = Shard::new(assembly.plan.clone(), index, plugin);
        let name = format!("shard {}", assembly.outputs.names[index]);
        group.bench_function(name, |b| b.iter(|| shard.update(&rows[index], &mut Vec::new()).unwrap()));
        let name = format!("update and cut {}", assembly.outputs.names[index]);
        group.bench_function(name, |b| {
            b.iter(|| {
                shard.update(&rows[index], &mut Vec::new()).unwrap();
                shard.cut().unwrap()
            });
        });
    }
    let folder = tempfile::tempdir().unwrap();
    let naming = FileNaming { run: "bench".into(), generation: 1, worker: 0 };
    let specs: Vec<_> = assembly
        .output_specs
        .iter()
        .cloned()
        .map(|mut spec| {
            spec.folder = folder.path().join(&spec.name);
            spec
        })
        .collect();
    let mut writers = Writers::new(Arc::new(RealDisk), &specs.into(), folder.path(), naming, &[]).unwrap();
    let output = assembly.outputs.raw.unwrap();
    group.bench_function("raw parquet", |b| b.iter(|| writers.write(output, &out.raw[0], Instant::now()).unwrap()));
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
