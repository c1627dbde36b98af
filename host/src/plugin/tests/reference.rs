//! Facts about the reference plugins, as they are really built.

use crate::plugin::{Component, Limits, Runtime, World};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{ArrayRef, BinaryArray, Float64Array, UInt64Array};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmill_pipeline::dead_letter::Reason;
use wasmill_pipeline::plugin::{Aggregate, FaultKind, NOBODY};
use wasmill_pipeline::record::RawBatch;

/// The file of a plugin that `make plugins` builds.
fn built(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/wasm32-wasip2/plugin/{name}.wasm"));
    assert!(path.exists(), "run make plugins first; missing {}", path.display());
    path
}

pub(super) fn load(name: &str, world: World) -> Component {
    Runtime::new(None, Limits::default()).unwrap().load(name, &built(name), world).unwrap()
}

fn batch(values: &[Option<&[u8]>]) -> RawBatch {
    let count = values.len();
    RawBatch {
        partition: 3,
        offsets: (0..count as i64).collect(),
        broker_times_us: vec![0; count],
        appended: vec![false; count],
        values: BinaryArray::from(values.to_vec()),
        keys: BinaryArray::from(vec![None; count]),
    }
}

const CLICK: &[u8] = br#"{"user_id":"u1","event_type":"click","page":"/a","revenue":1.5}"#;
const VISIT: &[u8] = br#"{"user_id":"u2","event_type":"page_view","page":"/b"}"#;

#[test]
fn the_parser_makes_rows_and_rejects() {
    let mut parser = load("clickstream_parser", World::Parser).parser("{}", "clicks", None).unwrap();
    let parsed = parser.parse(&batch(&[Some(CLICK), Some(b"not json"), None, Some(VISIT)])).unwrap();
    assert_eq!((parsed.rows, parsed.origins.as_deref()), (2, Some(&[0, 3][..])));
    assert_eq!(parsed.columns.len(), parser.description().outputs.len());
    assert_eq!((parsed.rejects[0].record, parsed.rejects[0].reason), (1, Reason::Malformed));
}

#[test]
fn a_slice_parses_as_the_same_records_alone() {
    let mut parser = load("clickstream_parser", World::Parser).parser("{}", "clicks", None).unwrap();
    let slice = parser.parse(&batch(&[Some(CLICK), None, Some(VISIT), Some(CLICK)]).slice(1, 3)).unwrap();
    let alone = parser.parse(&batch(&[None, Some(VISIT)])).unwrap();
    assert_eq!(slice.columns, alone.columns);
    assert_eq!(slice.origins, alone.origins);
}

#[test]
fn a_projection_keeps_the_event_time_and_the_rescue() {
    let component = load("clickstream_parser", World::Parser);
    let mut parser = component.parser("{}", "clicks", Some(&["revenue", "page"])).unwrap();
    let names: Vec<&str> = parser.description().outputs.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["event_time", "page", "revenue", "rescue"]);
    assert_eq!((parser.description().event_time, parser.description().rescue), (Some(0), Some(3)));
    let parsed = parser.parse(&batch(&[Some(CLICK)])).unwrap();
    assert_eq!(parsed.columns[2].as_primitive::<Float64Type>().value(0).to_bits(), 1.5_f64.to_bits());
}

#[test]
fn a_column_that_is_not_made_is_named() {
    let error = load("clickstream_parser", World::Parser).parser("{}", "t", Some(&["pgae"])).err().unwrap();
    assert!(error.to_string().starts_with("plugin does not make column(s) pgae; it makes event_id,"), "{error}");
}

fn sessions() -> Box<dyn Aggregate> {
    load("sessions", World::Aggregate).aggregate("{}").unwrap()
}

fn events(pages: &[u64], revenues: &[f64]) -> Vec<ArrayRef> {
    vec![Arc::new(UInt64Array::from(pages.to_vec())), Arc::new(Float64Array::from(revenues.to_vec()))]
}

fn count_of(aggregate: &mut dyn Aggregate, slot: u32) -> i64 {
    aggregate.finish(&[slot], &[]).unwrap().columns[0].as_primitive::<Int64Type>().value(0)
}

#[test]
fn rows_reach_their_slots_and_nobody_gets_the_rest() {
    let mut sessions = sessions();
    sessions.update(&[0, NOBODY, 1, 0], &events(&[7, 8, 9, 7], &[1.0, 2.0, 4.0, 8.0])).unwrap();
    assert_eq!((count_of(&mut *sessions, 0), count_of(&mut *sessions, 1)), (2, 1));
}

#[test]
fn a_merged_slot_holds_both() {
    let mut sessions = sessions();
    sessions.update(&[0, 1, 1], &events(&[7, 8, 9], &[1.0, 2.0, 4.0])).unwrap();
    sessions.merge(&[0], &[1]).unwrap();
    assert_eq!((count_of(&mut *sessions, 0), count_of(&mut *sessions, 1)), (3, 0));
}

#[test]
fn another_instance_goes_on_from_a_snapshot() {
    let (mut one, mut other) = (sessions(), sessions());
    one.update(&[4, 4, 5], &events(&[7, 8, 9], &[1.0, 2.0, 4.0])).unwrap();
    let states = one.snapshot(&[5, 4]).unwrap();
    let version = one.description().state_version;
    // A slice, as a checkpoint's reader makes them.
    other.restore(&[0], version, &states.slice(1, 1)).unwrap();
    assert_eq!(other.snapshot(&[0]).unwrap().value(0), states.value(1));
    assert_eq!(count_of(&mut *other, 0), 2);
}

#[test]
fn a_state_of_a_version_unheard_of_is_refused_and_nothing_else_happens() {
    let mut sessions = sessions();
    let states = BinaryArray::from(vec![b"x".as_slice()]);
    assert_eq!(sessions.restore(&[0], 4711, &states).unwrap_err().kind, FaultKind::Refused);
    assert_eq!(count_of(&mut *sessions, 0), 0);
}

#[test]
fn a_broken_state_is_refused_or_a_fault() {
    let mut sessions = sessions();
    let version = sessions.description().state_version;
    assert!(sessions.restore(&[0], version, &BinaryArray::from(vec![b"\xff\xff\xff".as_slice()])).is_err());
}

#[test]
fn an_aggregate_answers_the_same_fault_until_it_is_renewed() {
    let mut sessions = sessions();
    let fault = sessions.update(&[0], &[]).unwrap_err();
    assert_eq!(sessions.release(&[0]).unwrap_err(), fault);
    assert_eq!(sessions.snapshot(&[]).unwrap_err(), fault);
    sessions.renew().unwrap();
    assert_eq!(count_of(&mut *sessions, 0), 0);
}

#[test]
fn the_generator_is_a_function_of_its_seed() {
    let component = load("clickstream_generator", World::Generator);
    let times: Vec<i64> = (0..100).map(|i| 1_769_903_997_000_000 + i).collect();
    let whole = component.generator("{}", 7).unwrap().generate(0, &times).unwrap();
    let tail = component.generator("{}", 7).unwrap().generate(60, &times[60..]).unwrap();
    assert_eq!(whole.values.slice(60, 40), tail.values);
    let other = component.generator("{}", 8).unwrap().generate(0, &times).unwrap();
    assert_ne!(whole.values, other.values);
}

#[test]
fn every_reference_plugin_describes_itself() {
    for (name, world) in [
        ("clickstream_parser", World::Parser),
        ("page_metrics", World::Aggregate),
        ("page_metrics_v2", World::Aggregate),
        ("geo_metrics", World::Aggregate),
        ("sessions", World::Aggregate),
        ("clickstream_generator", World::Generator),
    ] {
        load(name, world).describe("{}").unwrap();
    }
}
