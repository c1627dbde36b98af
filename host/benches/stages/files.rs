//! From rows to files: the raw events as Parquet, and the rows of closed windows as both.

use super::aggregate::closed;
use super::cpu::{CpuTime, stage, timed};
use super::job::Job;
use arrow_array::RecordBatch;
use criterion::Criterion;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmill::disk::RealDisk;
use wasmill::sink::{FileNaming, Format, OutputSpec, Writers};

pub(crate) fn benches(job: &Job, c: &mut Criterion<CpuTime>) {
    let raw = job.alone.outputs.raw.unwrap();
    bench(job, c, "raw Parquet", raw, Format::Parquet, &job.raw());
    for (index, name) in job.aggregates() {
        let rows: Vec<RecordBatch> = closed(job, index).into_iter().map(|closed| closed.rows).collect();
        let output = job.alone.outputs.aggregates[index].unwrap();
        bench(job, c, &format!("{name} Parquet"), output, Format::Parquet, &rows);
        bench(job, c, &format!("{name} CSV"), output, Format::Csv, &rows);
    }
}

/// Writes batches to one format of an output and ends the file: the time that a row takes.
fn bench(job: &Job, c: &mut Criterion<CpuTime>, name: &str, output: usize, format: Format, batches: &[RecordBatch]) {
    let mut group = stage(c, "files", batches.iter().map(|batch| batch.num_rows() as u64).sum());
    group.bench_function(name, |b| {
        b.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                let folder = tempfile::tempdir().unwrap();
                let mut writers = writers(job, format, folder.path());
                let now = Instant::now();
                took += timed(|| {
                    for batch in batches {
                        writers.write(output, batch, now).unwrap();
                    }
                    writers.cut(now, true).unwrap()
                });
            }
            took
        });
    });
    group.finish();
}

/// Writers of the job's outputs in one format, below a folder.
fn writers(job: &Job, format: Format, folder: &Path) -> Writers {
    let in_folder =
        |spec: &OutputSpec| OutputSpec { folder: folder.join(&spec.name), formats: vec![format], ..spec.clone() };
    let specs: Vec<OutputSpec> = job.alone.output_specs.iter().map(in_folder).collect();
    let naming = FileNaming { run: "bench".into(), generation: 1, worker: 0 };
    Writers::new(Arc::new(RealDisk), &specs.into(), folder, naming, &[]).unwrap()
}
