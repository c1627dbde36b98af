//! The search for the smallest input, and how it is shown.

use crate::laws::Law;
use crate::laws::failure::Failure;
use crate::laws::shrink::smallest;
use crate::laws::text::{record, screen, state, value};
use crate::record::RawBatch;
use arrow_array::types::UInt32Type;
use arrow_array::{BinaryArray, BooleanArray, DictionaryArray, Float64Array, TimestampMicrosecondArray, UInt64Array};

fn failure(law: Law) -> Failure {
    Failure::new(law, "wrong".to_owned())
}

#[test]
fn what_is_needed_is_found_wherever_it_is() {
    let items: Vec<u32> = (0..16_384).collect();
    let needed = [17, 9_000, 16_383];
    let fails = |some: &[u32]| needed.iter().all(|item| some.contains(item)).then(|| failure(Law::Cut));
    assert_eq!(smallest(&items, failure(Law::Cut), fails).0, needed);
}

#[test]
fn what_needs_no_input_ends_without_any() {
    let (items, found) = smallest(&[1, 2, 3], failure(Law::NoFault), |_| Some(failure(Law::NoFault)));
    assert_eq!((items.len(), found.law), (0, Law::NoFault));
}

#[test]
fn another_law_is_another_finding() {
    let fails = |some: &[u32]| Some(failure(if some.len() < 3 { Law::Nobody } else { Law::Cut }));
    assert_eq!(smallest(&[1, 2, 3, 4, 5], failure(Law::Cut), fails).0.len(), 3);
}

#[test]
fn the_search_ends_where_all_is_needed() {
    let items: Vec<u32> = (0..16_384).collect();
    let mut tries = 0;
    let fails = |some: &[u32]| {
        tries += 1;
        (some.len() == 16_384).then(|| failure(Law::Cut))
    };
    assert_eq!(smallest(&items, failure(Law::Cut), fails).0.len(), 16_384);
    assert!(tries < 500, "{tries} tries");
}

#[test]
fn values_are_told_apart() {
    assert_eq!(value(&BooleanArray::from(vec![Some(true), None]), 0), "true");
    assert_eq!(value(&BooleanArray::from(vec![Some(true), None]), 1), "null");
    assert_eq!(value(&Float64Array::from(vec![-0.0]), 0), "-0.0");
    assert_eq!(value(&UInt64Array::from(vec![255]), 0), "hash 00000000000000ff");
    assert_eq!(value(&BinaryArray::from(vec![b"\xFF\0".as_slice()]), 0), "0xff00");
    assert_eq!(value(&BinaryArray::from(vec![b"a\n\"".as_slice()]), 0), r#""a\n\"""#);
    let words: DictionaryArray<UInt32Type> = [Some("a"), None, Some("b")].into_iter().collect();
    assert_eq!([0, 1, 2].map(|row| value(&words, row)), ["\"a\"", "null", "\"b\""]);
}

#[test]
fn instants_are_written_as_people_write_them() {
    let at = |us| value(&TimestampMicrosecondArray::from(vec![us]).with_timezone("UTC"), 0);
    assert_eq!(at(0), "1970-01-01T00:00:00Z");
    assert_eq!(at(-1), "1969-12-31T23:59:59.999999Z");
    assert_eq!(at(1_769_903_997_804_000), "2026-01-31T23:59:57.804Z");
    assert_eq!(at(951_782_400_000_000), "2000-02-29T00:00:00Z");
}

#[test]
fn a_screen_holds_twenty_short_lines() {
    let few = screen(["a".to_owned(), "b".to_owned()].into_iter());
    assert_eq!(few, ["a", "b"]);
    let many = screen(vec!["é".repeat(1000); 50].into_iter());
    assert_eq!((many.len(), many[19].as_str()), (20, "and 31 more"));
    assert!(many.iter().map(String::len).sum::<usize>() <= 4096);
}

#[test]
fn long_payloads_and_states_are_cut() {
    let batch = RawBatch {
        partition: 0,
        offsets: vec![5],
        broker_times_us: vec![0],
        appended: vec![false],
        values: BinaryArray::from(vec![vec![b'x'; 10_000].as_slice()]),
        keys: BinaryArray::from(vec![Some(b"k".as_slice())]),
    };
    let line = record(&batch, 0);
    assert!(line.len() < 250 && line.contains("xx…, key = \"k\", timestamp"), "{line}");
    assert!(state(3, &[7; 1000]).ends_with("0707… (1000 bytes)"));
}
