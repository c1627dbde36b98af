//! Facts about the laws on components as they are really built, and what is told of them to a person.

use super::reference::load;
use crate::plugin::{
    Component, Side, World, aggregate_laws, difference, generator_laws, parse_ns_per_record, parser_laws,
    update_ns_per_row,
};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, BinaryArray, StringArray};
use std::collections::HashMap;
use std::sync::Arc;
use wasmill_pipeline::event::{Encoded, EventBatch, Origins, Times};
use wasmill_pipeline::laws::{Broken, Law, Sample, Tried};
use wasmill_pipeline::plan::Plan;
use wasmill_pipeline::plugin::{Aggregate, AggregateDescription, NOBODY};
use wasmill_pipeline::record::RawBatch;
use wasmill_pipeline::spec::{AggregateSpec, PipelineSpec, TimeSpec, Window};

const FIRST_US: i64 = 1_769_903_997_000_000;
const BATCHES: usize = 2;
const ROWS: usize = 1000;

fn times(from: usize, count: usize) -> Vec<i64> {
    (from..from + count).map(|n| FIRST_US + n as i64 * 500).collect()
}

/// Records of the reference job as a broker would give them; every hundredth is none of its, every 77th a tombstone.
fn records() -> Vec<RawBatch> {
    let mut generator = load("clickstream_generator", World::Generator).generator("{}", 7).unwrap();
    let batch = |n: usize| {
        let first = n * ROWS;
        let made = generator.generate(first as u64, &times(first, ROWS)).unwrap().values;
        let value = |at: usize| match at {
            _ if at % 100 == 99 => Some(b"{\"user_id\":".as_slice()),
            _ if at % 77 == 76 => None,
            _ => Some(made.value(at)),
        };
        RawBatch {
            partition: n as i32,
            offsets: (0..ROWS as i64).collect(),
            broker_times_us: times(first, ROWS),
            appended: vec![false; ROWS],
            values: (0..ROWS).map(value).collect(),
            keys: BinaryArray::new_null(ROWS),
        }
    };
    (0..BATCHES).map(batch).collect()
}

/// The rows of those records as this aggregate gets them, grouped by the first column of `keys`.
fn samples(description: &AggregateDescription, key: &str) -> Vec<Sample> {
    let mut parser = load("clickstream_parser", World::Parser).parser("{}", "clicks", None).unwrap();
    let described = parser.description().clone();
    let spec = PipelineSpec {
        time: TimeSpec { watermark_delay_us: 0, idle_timeout_us: None, max_ahead_us: None, ..TimeSpec::default() },
        aggregates: vec![AggregateSpec {
            name: "tried".into(),
            window: Window::tumbling(1_000_000, 0),
            keys: vec![key.into()],
            allowed_lateness_us: 0,
        }],
    };
    let plan = Plan::new(&spec, "clicks", &described, std::slice::from_ref(description), 1).unwrap();
    let time = described.event_time.unwrap();
    let key = described.outputs.iter().position(|field| field.name == key).unwrap();
    let mut groups = HashMap::new();
    let mut sample = |batch: &RawBatch| {
        let parsed = parser.parse(batch).unwrap();
        let events = parsed.columns[time].as_primitive::<TimestampMicrosecondType>().values().clone();
        let slots = texts(&parsed.columns[key]).into_iter().map(|text| {
            let next = groups.len() as u32;
            text.map_or(NOBODY, |text| *groups.entry(text).or_insert(next))
        });
        let slots = slots.collect();
        let batch = EventBatch {
            columns: parsed.columns,
            times: Arc::new(Times { watermarks: vec![i64::MIN; events.len()], events }),
            origins: Arc::new(Origins { partition: batch.partition, offsets: vec![0; parsed.rows] }),
        };
        Sample { slots, inputs: Encoded::new(&batch).inputs(&plan.aggregates[0]).unwrap() }
    };
    records().iter().map(&mut sample).collect()
}

fn texts(column: &ArrayRef) -> Vec<Option<String>> {
    let plain: ArrayRef = match column.as_any_dictionary_opt() {
        Some(dictionary) => arrow_select::take::take(dictionary.values(), dictionary.keys(), None).unwrap(),
        None => column.clone(),
    };
    plain.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

fn aggregate(component: &Component) -> Box<dyn Aggregate> {
    component.aggregate("{}").unwrap()
}

/// What one instance holds in the end.
fn states(component: &Component, samples: &[Sample]) -> Vec<(u32, Vec<u8>)> {
    let mut aggregate = aggregate(component);
    for sample in samples {
        aggregate.update(&sample.slots, &sample.inputs).unwrap();
    }
    let version = aggregate.description().state_version;
    let states = aggregate.snapshot(&[0, 1, 2]).unwrap();
    states.iter().flatten().map(|state| (version, state.to_vec())).collect()
}

#[test]
fn every_reference_aggregate_keeps_the_laws() {
    for (name, key) in [("page_metrics", "page"), ("geo_metrics", "country"), ("sessions", "user_id")] {
        let component = load(name, World::Aggregate);
        let samples = samples(aggregate(&component).description(), key);
        let tried = aggregate_laws(&component, "{}", &samples, &states(&component, &samples));
        let rows = samples.iter().map(|sample| sample.slots.len()).sum();
        assert!(rows > 1900, "most records are rows: {rows}");
        assert_eq!(tried.unwrap_or_else(|broken| panic!("{name} {broken}")), Tried { batches: BATCHES, rows });
    }
}

#[test]
fn the_reference_parser_keeps_the_laws() {
    let component = load("clickstream_parser", World::Parser);
    for wanted in [None, Some(["page", "revenue"].as_slice())] {
        let tried = parser_laws(&component, "{}", "clicks", wanted, &records()).unwrap();
        assert_eq!(tried, Tried { batches: BATCHES, rows: BATCHES * ROWS });
    }
}

#[test]
fn the_reference_generator_keeps_the_laws() {
    let component = load("clickstream_generator", World::Generator);
    let tried = generator_laws(&component, "{}", 7, 12_345, &times(0, 500)).unwrap();
    assert_eq!(tried, Tried { batches: 1, rows: 500 });
}

fn hostile(config: &str, words: &[&str]) -> Broken {
    let component = load("hostile", World::Aggregate);
    let inputs = component.aggregate(config).unwrap().description().inputs.len();
    let column: ArrayRef = Arc::new(StringArray::from(words.to_vec()));
    let sample = Sample { slots: (0..words.len() as u32).collect(), inputs: vec![column; inputs] };
    aggregate_laws(&component, config, &[sample], &[]).unwrap_err()
}

#[test]
fn a_hostile_aggregate_is_refused_with_the_law_it_breaks() {
    for (config, law) in [
        (r#"{"crime":"fickle","wants":"word"}"#, Law::Finish),
        (r#"{"crime":"snapshot short","wants":"word"}"#, Law::Declared),
        (r#"{"crime":"snapshot trap","wants":"word"}"#, Law::NoFault),
        (r#"{"crime":"restore refuse","wants":"word"}"#, Law::Restore),
        (r#"{"crime":"release trap","wants":"word"}"#, Law::NoFault),
        (r#"{"crime":"merge trap","wants":"word"}"#, Law::NoFault),
    ] {
        let broken = hostile(config, &["a", "b", "c"]);
        assert_eq!(broken.law, law, "{config}: {broken}");
        assert!(broken.items <= 1, "{config}: {broken}");
    }
}

#[test]
fn the_row_that_traps_is_shown() {
    let broken = hostile(r#"{"wants":"word"}"#, &["a", "b", "!T", "c"]);
    assert_eq!((broken.law, broken.items), (Law::NoFault, 1), "{broken}");
    assert!(broken.input[0].ends_with("word = \"!T\""), "{broken}");
}

#[test]
fn a_plugin_that_refuses_its_configuration_breaks_what_it_declared() {
    let component = load("page_metrics", World::Aggregate);
    let broken = aggregate_laws(&component, r#"{"no_such_setting":1}"#, &[], &[]).unwrap_err();
    assert_eq!(broken.law, Law::Declared);
    assert!(broken.message.contains("cannot start: plugin refuses its configuration"), "{broken}");
}

#[test]
fn the_cost_of_a_row_is_measured() {
    let component = load("page_metrics", World::Aggregate);
    let samples = samples(aggregate(&component).description(), "page");
    let parser = load("clickstream_parser", World::Parser);
    for cost in [
        update_ns_per_row(&component, "{}", &samples).unwrap(),
        parse_ns_per_record(&parser, "{}", "clicks", None, &records()).unwrap(),
    ] {
        assert!(cost.is_some_and(|ns| (1.0..1e6).contains(&ns)), "{cost:?}");
    }
    assert_eq!(update_ns_per_row(&component, "{}", &[]).unwrap(), None);
}

#[test]
fn two_components_are_told_apart() {
    let (old, new) = (load("page_metrics", World::Aggregate), load("geo_metrics", World::Aggregate));
    let (said, says) = (old.describe("{}").unwrap(), new.describe("{}").unwrap());
    let lines = difference(&Side::new(&old, &said, Some(60.0)), &Side::new(&new, &says, Some(20.0)));
    assert_eq!(lines[0], format!("digest: {} → {}", &old.digest()[..12], &new.digest()[..12]));
    let has = |line: &str| assert!(lines.iter().any(|has| has == line), "{line} in {lines:#?}");
    has("output: - users int64");
    has("input: - user_id utf8 hash");
    has("cost per row: 60 ns → 20 ns");
    assert!(lines.iter().any(|line| line.starts_with("size: ") && line.contains(" KB → ")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("events") || line.starts_with("world")), "{lines:#?}");
    assert!(old.imports().contains(&"wasmill:plugin/log@0.1.0".to_owned()), "{:?}", old.imports());
}
