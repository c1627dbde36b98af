//! A parser that breaks every rule: a record's first byte picks the crime. For the tests of the host only.
//!
//! It is an aggregate too: see [`aggregate`]. It is written on the raw bindings, as the SDK would not let it lie. A record that starts with no crime's letter is
//! good: its text is the row's `word`.
#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

pub mod aggregate;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::hint::black_box;
use wasmill_sdk::bindings::aggregate::exports::wasmill::plugin::aggregate::Description as AggregateDescription;
use wasmill_sdk::bindings::parser::exports::wasmill::plugin::parser::{Description, Parsed, Reject, RejectKind};
use wasmill_sdk::bindings::types::{Column, DataType, Encoding, Field, Rows, Values, Varlen};
use wasmill_sdk::guest::info;

/// How many lines the flood has: many times what a plugin may write in a second.
const FLOOD: u32 = 2_000;

/// How many columns the huge answer has.
const MANY: usize = 20_000;

/// What it says of itself: a payload in, a word out.
#[must_use]
pub fn description() -> Description {
    let field =
        |name: &str, data_type, nullable| Field { name: name.into(), data_type, encoding: Encoding::Plain, nullable };
    Description {
        inputs: vec![field("value", DataType::Binary, true)],
        outputs: vec![field("word", DataType::Utf8, false)],
        event_time: None,
        rescue: None,
    }
}

/// Parses as it should, until a record tells it otherwise.
#[must_use]
pub fn parse(count: u32, inputs: &[Column]) -> Parsed {
    let records = payloads(inputs);
    let mut answer = Parsed { rows: rows(count, words_column(&records)), rejects: Vec::new() };
    for (index, record) in records.iter().enumerate() {
        if let Some(&crime) = record.first() {
            commit(crime, index as u32, &mut answer);
        }
    }
    answer
}

#[expect(clippy::panic, reason = "it is one of the crimes")]
fn commit(crime: u8, index: u32, answer: &mut Parsed) {
    match crime {
        // Those that never come back.
        b'T' => trap(),
        b'P' => panic!("the panic that was asked for"),
        b'L' => endless(),
        b'M' => grow(),
        b'S' => {
            black_box(deep(u64::from(index)));
        }
        // Those that are about rejects.
        b'R' => answer.rejects.push(reject(answer.rows.count + 7, "nobody")),
        b'B' => answer.rejects.push(reject(index, "and gives a row for it too")),
        // Those that are only a nuisance.
        b'F' => flood(),
        b'Q' => with_one_long_reject(answer, index),
        _ => lie(crime, index, &mut answer.rows),
    }
}

/// The crimes of answers: that of row `index`, where it is about a row.
pub(crate) fn lie(crime: u8, index: u32, rows: &mut Rows) {
    match crime {
        b'C' => rows.count += 1,
        b'0' => rows.columns.clear(),
        b'K' => rows.columns = vec![column(Values::Int64(vec![0; rows.count as usize])); rows.columns.len()],
        b'U' => change_words(rows, |words| words.bytes[words.offsets[index as usize] as usize] = 0xFF),
        b'D' => change_words(rows, |words| words.offsets[index as usize] = u32::MAX),
        b'E' => change_words(rows, |words| {
            if let Some(last) = words.offsets.last_mut() {
                *last += 1000;
            }
        }),
        b'V' => rows.columns.iter_mut().for_each(|column| column.validity = Some(vec![0; 3])),
        b'N' => {
            let bits = (rows.count as usize).div_ceil(8);
            rows.columns.iter_mut().for_each(|column| column.validity = Some(vec![0; bits]));
        }
        b'O' => rows.origins = Some(vec![rows.count; rows.count as usize]),
        b'H' => rows.columns = vec![words_column(&[]); MANY],
        _ => {}
    }
}

fn payloads(inputs: &[Column]) -> Vec<&[u8]> {
    let Some(Column { values: Values::Binary(values), .. }) = inputs.first() else { return Vec::new() };
    values.offsets.windows(2).map(|ends| &values.bytes[ends[0] as usize..ends[1] as usize]).collect()
}

/// The words of an aggregate's rows.
pub(crate) fn words(inputs: &[Column]) -> Vec<&[u8]> {
    let Some(Column { values: Values::Utf8(values), .. }) = inputs.first() else { return Vec::new() };
    values.offsets.windows(2).map(|ends| &values.bytes[ends[0] as usize..ends[1] as usize]).collect()
}

pub(crate) fn column(values: Values) -> Column {
    Column { values, validity: None }
}

pub(crate) fn words_column(words: &[&[u8]]) -> Column {
    let mut varlen = Varlen { offsets: vec![0], bytes: Vec::new() };
    for word in words {
        varlen.bytes.extend_from_slice(word);
        varlen.offsets.push(varlen.bytes.len() as u32);
    }
    column(Values::Utf8(varlen))
}

fn rows(count: u32, words: Column) -> Rows {
    Rows { count, origins: None, columns: vec![words] }
}

fn change_words(rows: &mut Rows, change: impl FnOnce(&mut Varlen)) {
    if let Some(Column { values: Values::Utf8(words), .. }) = rows.columns.first_mut() {
        change(words);
    }
}

fn reject(record_index: u32, message: &str) -> Reject {
    Reject { record_index, kind: RejectKind::Invalid, message: message.to_string() }
}

/// A reject as it should be, but for the length of its message. Once in a batch: it counts on a row for every record.
fn with_one_long_reject(answer: &mut Parsed, index: u32) {
    let Some(Column { values: Values::Utf8(words), .. }) = answer.rows.columns.first() else { return };
    let kept = |i: &u32| *i != index;
    let origins: Vec<u32> = (0..answer.rows.count).filter(kept).collect();
    let word = |&i: &u32| &words.bytes[words.offsets[i as usize] as usize..words.offsets[i as usize + 1] as usize];
    let left: Vec<&[u8]> = origins.iter().map(word).collect();
    let words = words_column(&left);
    answer.rejects.push(reject(index, &"long ".repeat(200_000)));
    answer.rows = Rows { count: origins.len() as u32, origins: Some(origins), columns: vec![words] };
}

pub(crate) fn trap() {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
}

pub(crate) fn flood() {
    (0..FLOOD).for_each(|line| info(format!("line {line}\nERROR forged \u{1b}[31m")));
}

pub(crate) fn endless() {
    loop {
        black_box(());
    }
}

pub(crate) fn grow() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

pub(crate) fn deep(level: u64) -> u64 {
    black_box(level) + if black_box(true) { deep(level + 1) } else { 0 }
}

/// What `init` answers: it takes no settings, and ignores all.
///
/// # Errors
/// Never: a parser that refuses its settings is no crime.
pub fn init(_: &str) -> Result<Description, String> {
    Ok(description())
}

/// What the aggregate says of itself: with `word` in its settings it counts words, else rows of any kind. With `order` in its settings that order matters, with `strict` that `page` is never
/// null, with `greedy` that there is a column `wealth`.
#[must_use]
pub fn aggregate_description(config: &str) -> AggregateDescription {
    let field =
        |name: &str, data_type, nullable| Field { name: name.into(), data_type, encoding: Encoding::Plain, nullable };
    let mut inputs = Vec::new();
    if config.contains("word") {
        inputs.push(field("word", DataType::Utf8, false));
    }
    if config.contains("strict") {
        inputs.push(field("page", DataType::Utf8, false));
    }
    if config.contains("greedy") {
        inputs.push(field("wealth", DataType::Int64, true));
    }
    AggregateDescription {
        inputs,
        context: Vec::new(),
        outputs: vec![
            field("label", DataType::Utf8, false),
            field("events", DataType::Int64, false),
            field("nan", DataType::Float64, false),
        ],
        state_version: 1,
        restores: Vec::new(),
        commutative: !config.contains("order"),
        typical_state_bytes: 0,
    }
}

#[cfg(target_arch = "wasm32")]
mod component {
    use super::aggregate::Hostile;
    use super::{AggregateDescription, Column, Description, Parsed, Rows, String, Varlen, Vec};
    use wasmill_sdk::bindings::aggregate::exports::wasmill::plugin::aggregate;
    use wasmill_sdk::bindings::parser::exports::wasmill::plugin::parser;
    use wasmill_sdk::guest::Instance;

    static AGGREGATE: Instance<Hostile> = Instance::new();

    struct Component;

    impl parser::Guest for Component {
        fn init(config: String) -> Result<Description, String> {
            super::init(&config)
        }

        fn project(_: Vec<u32>) {}

        fn parse(count: u32, inputs: Vec<Column>) -> Parsed {
            super::parse(count, &inputs)
        }
    }

    impl aggregate::Guest for Component {
        fn init(config: String) -> Result<AggregateDescription, String> {
            AGGREGATE.set(Hostile::new(&config));
            Ok(super::aggregate_description(&config))
        }

        fn update(slots: Vec<u32>, inputs: Vec<Column>) {
            AGGREGATE.with(|hostile| hostile.update(&slots, &inputs));
        }

        fn merge(slots: Vec<u32>, others: Vec<u32>) {
            AGGREGATE.with(|hostile| hostile.merge(&slots, &others));
        }

        fn finish(slots: Vec<u32>, _: Vec<Column>) -> Rows {
            AGGREGATE.with(|hostile| hostile.finish(&slots))
        }

        fn snapshot(slots: Vec<u32>) -> Varlen {
            AGGREGATE.with(|hostile| hostile.snapshot(&slots))
        }

        fn restore(slots: Vec<u32>, _: u32, states: Varlen) -> Result<(), String> {
            AGGREGATE.with(|hostile| hostile.restore(&slots, &states))
        }

        fn release(slots: Vec<u32>) {
            AGGREGATE.with(|hostile| hostile.release(&slots));
        }
    }

    wasmill_sdk::bindings::parser::export_parser_world!(Component with_types_in wasmill_sdk::bindings::parser);
    wasmill_sdk::bindings::aggregate::export_aggregate_world!(Component with_types_in wasmill_sdk::bindings::aggregate);
}
