//! From records to rows: the parser alone, as a component and natively; and with all else that a lane does.

use super::cpu::{CpuTime, measure, stage, timed};
use super::job::{self, Job};
use super::native;
use criterion::Criterion;

pub(crate) fn benches(job: &Job, c: &mut Criterion<CpuTime>) {
    let mut group = stage(c, "parse", job.events());
    let mut parser = job.alone.parser().unwrap();
    group.bench_function("wasm", |b| {
        b.iter(|| job.stream.iter().map(|batch| parser.parse(batch).unwrap().rows).sum::<usize>());
    });
    let payloads: Vec<_> = job.stream.iter().map(native::payloads).collect();
    let mut parser = native::Parser::new();
    group.bench_function("native", |b| {
        b.iter(|| payloads.iter().map(|batch| parser.parse(batch).rows.count).sum::<u32>());
    });
    group.finish();

    let mut group = stage(c, "lane", job.events());
    for (workers, assembly) in [("one worker", &job.alone), ("two workers", &job.shared)] {
        let mut parser = assembly.parser().unwrap();
        group.bench_function(workers, |b| {
            let beginning = || job::lane(assembly);
            measure(b, beginning, |(mut lane, mut counts)| {
                job.stream.iter().map(|raw| timed(|| job::step(&mut lane, parser.as_mut(), raw, &mut counts))).sum()
            });
        });
    }
    group.finish();
}
