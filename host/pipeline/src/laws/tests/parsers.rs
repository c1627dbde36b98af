//! Parsers: a good one with one flaw at a time.

use crate::dead_letter::Reason;
use crate::laws::{self, Broken, Law, Tried};
use crate::plugin::{DataType, Encoding, Fault, FaultKind, Field, Parsed, Parser, ParserDescription, Reject};
use crate::record::RawBatch;
use crate::testing::{TestParser, TestRecord, raw_batch};
use arrow_array::{ArrayRef, BinaryArray, StringArray};
use std::sync::Arc;

/// What a parser of words does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A word carries the number of the call.
    NumbersCalls,
    /// A word carries its number in the batch.
    NumbersRecords,
    /// A record without a word has the one before.
    FillsDown,
    /// It rejects a second record only.
    RejectsSecond,
    /// A reject has a row, too.
    RowOfReject,
    /// It has a null where it says there is none.
    Nulls,
    /// It traps on a dot.
    Traps,
}

/// Makes a row of each record that has a word of letters, and rejects other words.
struct Words {
    description: ParserDescription,
    flaw: Flaw,
    calls: usize,
    last: Option<String>,
}

impl Words {
    fn new(flaw: Flaw) -> Self {
        let field =
            |nullable| Field { name: "word".into(), data_type: DataType::Utf8, encoding: Encoding::Plain, nullable };
        let description = ParserDescription { outputs: vec![field(false)], event_time: None, rescue: None };
        Self { description, flaw, calls: 0, last: None }
    }
}

impl Parser for Words {
    fn description(&self) -> &ParserDescription {
        &self.description
    }

    fn parse(&mut self, batch: &RawBatch) -> Result<Parsed, Fault> {
        self.calls += 1;
        let (mut words, mut origins, mut rejects) = (Vec::new(), Vec::new(), Vec::new());
        for (record, payload) in batch.values.iter().enumerate() {
            let word = payload.map(|payload| String::from_utf8_lossy(payload).into_owned());
            let word = if self.flaw == Flaw::FillsDown { word.or(self.last.clone()) } else { word };
            self.last.clone_from(&word);
            let Some(word) = word else { continue };
            if self.flaw == Flaw::Traps && word == "." {
                let message = "a dot".into();
                return Err(Fault { plugin: "words".into(), kind: FaultKind::Trap, message, backtrace: Vec::new() });
            }
            if word == "." || (self.flaw == Flaw::RejectsSecond && record == 1) {
                rejects.push(Reject { record, reason: Reason::Malformed, message: "no word".into() });
                if self.flaw != Flaw::RowOfReject {
                    continue;
                }
            }
            words.push(match self.flaw {
                Flaw::NumbersCalls => Some(format!("{word}{}", self.calls)),
                Flaw::NumbersRecords => Some(format!("{word}{record}")),
                Flaw::Nulls if word == "d" => None,
                _ => Some(word),
            });
            origins.push(record as u32);
        }
        let (rows, columns) = (words.len(), vec![Arc::new(StringArray::from(words)) as ArrayRef]);
        Ok(Parsed { columns, rows, origins: Some(origins), rejects })
    }
}

/// Batches of words from `a` to `y`, dots and tombstones; the first is a word.
fn samples(batches: usize, records: usize) -> Vec<RawBatch> {
    let payload = |i: usize| match i % 26 {
        7 => None,
        25 => Some(vec![b'.']),
        letter => Some(vec![b'a' + letter as u8]),
    };
    let batch = |first: usize| RawBatch {
        partition: 3,
        offsets: (first as i64..).take(records).collect(),
        broker_times_us: vec![0; records],
        appended: vec![false; records],
        values: (first..first + records).map(payload).collect(),
        keys: BinaryArray::new_null(records),
    };
    (0..batches).map(|n| batch(n * records)).collect()
}

fn tried(flaw: Flaw) -> Result<Tried, Broken> {
    let mut make = || Ok(Box::new(Words::new(flaw)) as Box<dyn Parser>);
    laws::parser(&mut make, &samples(4, 500))
}

#[test]
fn a_parser_without_flaw_keeps_all_laws() {
    assert_eq!(tried(Flaw::None).unwrap(), Tried { batches: 4, rows: 2000 });
}

#[test]
fn the_parser_of_the_tests_keeps_all_laws() {
    let record = |i: i64| match i % 9 {
        7 => TestRecord::Bad,
        8 => TestRecord::Null,
        n => TestRecord::Event { user: format!("u{n}"), time: (i % 2 == 0).then_some(i), value: i },
    };
    let records: Vec<_> = (0..300).map(|i| (record(i), i)).collect();
    let samples = [raw_batch(0, 17, &records), raw_batch(1, 0, &records[..0])];
    let mut make = || Ok(Box::new(TestParser::default()) as Box<dyn Parser>);
    assert_eq!(laws::parser(&mut make, &samples).unwrap(), Tried { batches: 2, rows: 300 });
}

#[test]
fn each_flaw_is_named_and_shown_with_the_fewest_records() {
    for (flaw, law, items) in [
        (Flaw::NumbersCalls, Law::Determinism, 1),
        (Flaw::NumbersRecords, Law::Cut, 2),
        (Flaw::FillsDown, Law::RecordsApart, 2),
        (Flaw::RejectsSecond, Law::Cut, 2),
        (Flaw::RowOfReject, Law::Declared, 1),
        (Flaw::Nulls, Law::Declared, 1),
        (Flaw::Traps, Law::NoFault, 1),
    ] {
        let broken = tried(flaw).unwrap_err();
        assert_eq!((broken.law, broken.items), (law, items), "{flaw:?}: {broken}");
    }
}

#[test]
fn the_message_names_record_column_and_both_values() {
    let broken = tried(Flaw::NumbersRecords).unwrap_err();
    assert_eq!(broken.input.len(), 3, "{broken}");
    assert_eq!(broken.input[1], "--");
    let (record, values) = broken.message.split_once(": ").unwrap();
    assert!(broken.input[2].starts_with(&format!("{record}: value = \"")), "{broken}");
    let word = broken.input[2].split('"').nth(1).unwrap();
    assert_eq!(values, format!("`word` is \"{word}1\" in whole batches, and \"{word}0\" cut"));
}

#[test]
fn a_reject_that_comes_and_goes_is_told() {
    let broken = tried(Flaw::RejectsSecond).unwrap_err();
    let end = "is rejected (malformed: no word) in whole batches, and not rejected cut";
    assert!(broken.message.ends_with(end), "{broken}");
}

#[test]
fn a_record_that_fails_is_shown() {
    let broken = tried(Flaw::Traps).unwrap_err();
    assert_eq!(broken.message, "words: trapped: a dot");
    let line = "partition 3 offset 1975: value = \".\", key = null, timestamp = 1970-01-01T00:00:00Z";
    assert_eq!(broken.input, [line]);
}
