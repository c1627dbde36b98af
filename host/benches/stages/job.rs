//! The reference job and what it reads: made once, shared by all stages.

use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch};
use std::fmt::Write;
use std::path::Path;
use wasmill::assembly::{Assembly, runtime};
use wasmill::config::{Config, Overrides};
use wasmill::plugin::World;
use wasmill_pipeline::exchange::Rows;
use wasmill_pipeline::fault::Treatment;
use wasmill_pipeline::lane::{Lane, LaneCounts, LaneOutput};
use wasmill_pipeline::plugin::Parser;
use wasmill_pipeline::record::RawBatch;
use wasmill_pipeline::time::trust::Trusted;

/// Records per batch, as the driver reads them.
pub(crate) const BATCH: usize = 4_096;

/// Batches of the stream: 131,072 events, a Parquet row group.
const BATCHES: usize = 32;

/// Events a second of event time in one partition: 3,000,000 events of half an hour in 4 partitions, as in `make bench`.
const RATE: i64 = 417;

/// Groups of each aggregate in the wide batches.
pub(crate) const WIDE_GROUPS: usize = 10_000;

/// Events of each of these groups.
const EVENTS_PER_WIDE_GROUP: usize = 8;

/// 2026-01-01T00:00:00Z.
const BEGINNING_US: i64 = 1_767_225_600_000_000;

/// The reference job with its components, and its input.
pub(crate) struct Job {
    /// As one worker has it.
    pub(crate) alone: Assembly,
    /// As two workers have it, which divide the keys.
    pub(crate) shared: Assembly,
    /// Records as the generator makes them, in order.
    pub(crate) stream: Vec<RawBatch>,
    /// What the lane of one worker makes of them.
    pub(crate) parsed: Vec<LaneOutput>,
    /// As many groups as a wide topic has, in one window: rows for each aggregate.
    pub(crate) wide: Vec<Vec<Rows>>,
}

impl Job {
    pub(crate) fn new() -> Self {
        std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
        let path = Path::new("host/pipelines/clickstream.toml");
        let settings = [("PAGE_WINDOW", "1m"), ("GEO_WINDOW", "1m"), ("SESSION_WINDOW", "30s")];
        let env = |name: &str| settings.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let config = Config::load(path, &env, &Overrides::default()).unwrap();
        let runtime = runtime(&config).unwrap();
        let assembly = |workers| Assembly::new(&config, &runtime, workers).unwrap();
        let (alone, shared) = (assembly(1), assembly(2));
        let generator = &config.generator.as_ref().unwrap().plugin;
        let component = runtime.load("generator", &generator.path, World::Generator).unwrap();
        let mut generator = component.generator("{}", 1).unwrap();
        let stream: Vec<RawBatch> = (0..BATCHES)
            .map(|number| {
                let first = (number * BATCH) as i64;
                let times: Vec<i64> = (first..).take(BATCH).map(|n| BEGINNING_US + n * 1_000_000 / RATE).collect();
                let values = generator.generate(first as u64, &times).unwrap().values;
                batch(first, times, values)
            })
            .collect();
        let parsed = process(&alone, &stream);
        let wide = process(&alone, &wide_batches());
        let wide = (0..alone.plan.aggregates.len()).map(|of| wide.iter().map(|out| rows(out, of).clone()).collect());
        let wide = wide.collect();
        Self { alone, shared, stream, parsed, wide }
    }

    /// How many events the stream has.
    pub(crate) fn events(&self) -> u64 {
        self.stream.iter().map(|batch| batch.len() as u64).sum()
    }

    /// The stream's rows for an aggregate.
    pub(crate) fn rows(&self, aggregate: usize) -> Vec<Rows> {
        self.parsed.iter().map(|out| rows(out, aggregate).clone()).collect()
    }

    /// The stream's events, as the raw output has them.
    pub(crate) fn raw(&self) -> Vec<RecordBatch> {
        self.parsed.iter().flat_map(|out| out.raw.clone()).collect()
    }

    /// The key columns of an aggregate, by batch.
    pub(crate) fn keys(&self, aggregate: usize) -> Vec<Vec<ArrayRef>> {
        let keys = &self.alone.plan.aggregates[aggregate].keys;
        self.raw().iter().map(|raw| keys.iter().map(|&key| raw.column(key).clone()).collect()).collect()
    }

    /// The aggregates, with their names.
    pub(crate) fn aggregates(&self) -> impl Iterator<Item = (usize, &str)> {
        self.alone.outputs.names.iter().map(String::as_str).enumerate()
    }
}

/// A lane at the beginning of the stream, its parser, and an empty page for what it counts.
pub(crate) fn lane(assembly: &Assembly) -> (Lane, LaneCounts) {
    let counts = LaneCounts::new(assembly.outputs.names.len());
    (Lane::new(assembly.plan.clone(), 0, 0, Trusted::default()), counts)
}

/// What a lane makes of batches.
pub(crate) fn process(assembly: &Assembly, batches: &[RawBatch]) -> Vec<LaneOutput> {
    let mut parser = assembly.parser().unwrap();
    let (mut lane, mut counts) = lane(assembly);
    let outputs = batches.iter().map(|raw| step(&mut lane, parser.as_mut(), raw, &mut counts)).collect();
    assert_eq!(counts.rows, counts.records, "every record is an event");
    outputs
}

/// What a lane makes of one batch.
pub(crate) fn step(lane: &mut Lane, parser: &mut dyn Parser, raw: &RawBatch, counts: &mut LaneCounts) -> LaneOutput {
    let mut out = LaneOutput::default();
    lane.process(parser, raw, &Treatment::default(), counts, &mut out).unwrap();
    out
}

/// The rows for an aggregate of one worker.
fn rows(out: &LaneOutput, aggregate: usize) -> &Rows {
    &out.rows.iter().find(|(_, rows)| rows.aggregate == aggregate).unwrap().1
}

fn batch(first: i64, times: Vec<i64>, values: BinaryArray) -> RawBatch {
    RawBatch {
        partition: 0,
        offsets: (first..).take(times.len()).collect(),
        appended: vec![false; times.len()],
        broker_times_us: times,
        keys: BinaryArray::new_null(values.len()),
        values,
    }
}

/// Events of [`WIDE_GROUPS`] pages, countries with browsers, and users: one round of all, then the next.
fn wide_batches() -> Vec<RawBatch> {
    let events: Vec<usize> = (0..WIDE_GROUPS * EVENTS_PER_WIDE_GROUP).collect();
    let batches = events.chunks(BATCH).map(|numbers| {
        let mut text = String::new();
        let values = BinaryArray::from_iter_values(numbers.iter().map(|n| {
            let (group, round) = (n % WIDE_GROUPS, n / WIDE_GROUPS);
            text.clear();
            write!(
                text,
                r#"{{"event_id":"e{n}","event_time":"2026-01-01T00:00:0{round}.000Z","user_id":"u{group}","session_id":"s{n}","event_type":"view","page":"/p/{group}","referrer":"direct","device":"mobile","browser":"b{}","country":"c{}","campaign":"none","revenue":{round}.25}}"#,
                group % 100,
                group / 100,
            )
            .unwrap();
            text.clone().into_bytes()
        }));
        batch(numbers[0] as i64, vec![BEGINNING_US; numbers.len()], values)
    });
    batches.collect()
}
