//! Tries a new version on the last records of the stream, beside the version in force.

use super::{Generating, unacceptable};
use crate::admin::control::Refusal;
use crate::assembly::{Assembly, chain};
use crate::plugin::{self, Component, Side, difference};
use arrow_array::cast::AsArray;
use arrow_array::{Array, BinaryArray};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmill_pipeline::fault::Treatment;
use wasmill_pipeline::lane::{Lane, LaneCounts, LaneOutput};
use wasmill_pipeline::laws::{Sample, Tried};
use wasmill_pipeline::plan::Plan;
use wasmill_pipeline::plugin::{Fault, NOBODY};
use wasmill_pipeline::record::RawBatch;
use wasmill_pipeline::time::trust::Trusted;

/// How long a trial waits for the first records of a pipeline that has just begun.
const PATIENCE: Duration = Duration::from_secs(2);

/// Records of a generator that are tried.
const GENERATED: i64 = 1_000;

/// The last records read.
pub(super) struct Samples(Vec<RawBatch>);

impl Samples {
    /// What `read` gives as soon as it gives anything.
    pub(super) fn of(read: impl Fn() -> Vec<Arc<RawBatch>>) -> Self {
        let until = Instant::now() + PATIENCE;
        loop {
            let records = read();
            if !records.is_empty() || Instant::now() >= until {
                return Self(join(records));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// One batch of each partition: with little traffic a batch has a few records, and a law says little of those.
fn join(batches: Vec<Arc<RawBatch>>) -> Vec<RawBatch> {
    let mut partitions: BTreeMap<i32, Vec<Arc<RawBatch>>> = BTreeMap::new();
    for batch in batches {
        partitions.entry(batch.partition).or_default().push(batch);
    }
    let column = |of: fn(&RawBatch) -> &BinaryArray, batches: &[Arc<RawBatch>]| {
        let columns: Vec<&dyn Array> = batches.iter().map(|batch| of(batch) as &dyn Array).collect();
        arrow_select::concat::concat(&columns).map(|all| all.as_binary::<i32>().clone())
    };
    let join = |(partition, mut batches): (i32, Vec<Arc<RawBatch>>)| {
        batches.sort_by_key(|batch| batch.offsets.first().copied());
        let values = column(|batch| &batch.values, &batches).ok()?;
        let keys = column(|batch| &batch.keys, &batches).ok()?;
        let offsets = batches.iter().flat_map(|batch| batch.offsets.iter().copied()).collect();
        let broker_times_us = batches.iter().flat_map(|batch| batch.broker_times_us.iter().copied()).collect();
        let appended = batches.iter().flat_map(|batch| batch.appended.iter().copied()).collect();
        Some(RawBatch { partition, offsets, broker_times_us, appended, values, keys })
    };
    partitions.into_iter().filter_map(join).collect()
}

/// Tries the version at `at` in the plan of `next`, compared with the one at `place` in that of `base`, whose states it is
/// to read where `migrates`. Gives what is different, line by line.
///
/// # Errors
/// A refusal that names the law, with the smallest input found that breaks it.
pub(super) fn aggregate(
    base: &Assembly,
    place: usize,
    next: &Assembly,
    at: usize,
    migrates: bool,
    samples: &Samples,
) -> Result<Vec<String>, Refusal> {
    let json = base.config().aggregates[place].plugin.config_json();
    let (old, new) = (component(base, place), component(next, at));
    let old_rows = rows(base, place, &samples.0)?;
    let new_rows = rows(next, at, &samples.0)?;
    // A version in force that fails on them itself is no measure.
    let states = if migrates { states(base, place, &old_rows).unwrap_or_default() } else { Vec::new() };
    let tried = plugin::aggregate_laws(new, &json, &new_rows, &states);
    let tried = tried.map_err(|broken| unacceptable(format!("{} {broken}", new.name())))?;
    let old_cost = plugin::update_ns_per_row(old, &json, &old_rows).ok().flatten();
    let new_cost = plugin::update_ns_per_row(new, &json, &new_rows);
    let new_cost = new_cost.map_err(|fault| unacceptable(fault.to_string()))?;
    differences((old, &json, old_cost), (new, &json, new_cost), tried)
}

/// Tries the parser of `next`, compared with that of `base`.
///
/// # Errors
/// As for [`aggregate`].
pub(super) fn parser(base: &Assembly, next: &Assembly, samples: &Samples) -> Result<Vec<String>, Refusal> {
    let (json, topic) = (base.config().parser.config_json(), &*base.plan.topic);
    let wanted = next.wanted();
    let (old, new) = (&base.versions.parser, &next.versions.parser);
    let tried = plugin::parser_laws(new, &json, topic, wanted.as_deref(), &samples.0);
    let tried = tried.map_err(|broken| unacceptable(format!("{} {broken}", new.name())))?;
    let old_cost = plugin::parse_ns_per_record(old, &json, topic, base.wanted().as_deref(), &samples.0);
    let new_cost = plugin::parse_ns_per_record(new, &json, topic, wanted.as_deref(), &samples.0);
    let old_cost = old_cost.ok().flatten();
    let new_cost = new_cost.map_err(|fault| unacceptable(fault.to_string()))?;
    differences((old, &json, old_cost), (new, &json, new_cost), tried)
}

/// Tries a generator, compared with the one at work.
///
/// # Errors
/// As for [`aggregate`].
pub(super) fn generator(at_work: &Generating, old: &Component, new: &Component) -> Result<Vec<String>, Refusal> {
    let (first, last_us) = at_work.slot.next();
    let times_us: Vec<i64> = (0..GENERATED).map(|n| last_us + n * 1_000).collect();
    let tried = plugin::generator_laws(new, &at_work.config_json, at_work.seed, first, &times_us);
    let tried = tried.map_err(|broken| unacceptable(format!("{} {broken}", new.name())))?;
    differences((old, &at_work.config_json, None), (new, &at_work.config_json, None), tried)
}

/// A component, its configuration and what a row costs it.
type Costed<'a> = (&'a Component, &'a str, Option<f64>);

fn differences(old: Costed<'_>, new: Costed<'_>, tried: Tried) -> Result<Vec<String>, Refusal> {
    let describe =
        |(component, json, _): &Costed<'_>| component.describe(json).map_err(|error| unacceptable(chain(&error)));
    let described = (describe(&old)?, describe(&new)?);
    let mut lines = difference(&Side::new(old.0, &described.0, old.2), &Side::new(new.0, &described.1, new.2));
    lines.push(match tried.rows {
        0 => "laws: kept, but tried without any record, as none has been read yet".to_owned(),
        rows => format!("laws: kept on {rows} of the last records"),
    });
    Ok(lines)
}

fn component(assembly: &Assembly, place: usize) -> &Component {
    // The parser comes first.
    assembly.versions.all().nth(place + 1).expect("each place of the plan has a component")
}

/// The rows that records make for an aggregate, as its plugin gets them.
fn rows(assembly: &Assembly, place: usize, records: &[RawBatch]) -> Result<Vec<Sample>, Refusal> {
    let plan = Arc::new(Plan { workers: 1, ..assembly.plan.as_ref().clone() });
    let mut parser = assembly.parser().map_err(|error| unacceptable(chain(&error)))?;
    let mut groups: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut samples = Vec::new();
    for raw in records {
        let first = raw.offsets.first().copied().unwrap_or_default();
        let mut lane = Lane::new(plan.clone(), raw.partition, first, Trusted::default());
        let (mut counts, mut out) = (LaneCounts::new(plan.aggregates.len()), LaneOutput::default());
        let parsed = lane.process(parser.as_mut(), raw, &Treatment::default(), &mut counts, &mut out);
        parsed.map_err(|error| unacceptable(format!("the last records cannot be parsed: {}", chain(&error))))?;
        for (_, rows) in out.rows.into_iter().filter(|(_, rows)| rows.aggregate == place) {
            let mut slots = Vec::with_capacity(rows.len());
            for row in rows.numbers() {
                let (key, next) = (rows.keys.key(rows.keys.code(row)), groups.len() as u32);
                slots.push(*groups.entry(key.to_vec()).or_insert(next));
            }
            samples.push(Sample { slots, inputs: rows.inputs });
        }
    }
    Ok(samples)
}

/// States of the version in force after these rows.
fn states(base: &Assembly, place: usize, samples: &[Sample]) -> Result<Vec<(u32, Vec<u8>)>, Fault> {
    let Ok(mut aggregate) = base.aggregate(place) else { return Ok(Vec::new()) };
    let version = aggregate.description().state_version;
    let mut slots: Vec<u32> = samples.iter().flat_map(|sample| sample.slots.iter().copied()).collect();
    slots.retain(|&slot| slot != NOBODY);
    slots.sort_unstable();
    slots.dedup();
    for sample in samples {
        aggregate.update(&sample.slots, &sample.inputs)?;
    }
    let states = aggregate.snapshot(&slots)?;
    Ok(states.iter().flatten().map(|state| (version, state.to_vec())).collect())
}
