//! The contract suite, natively: call it from a plugin's tests, and the host will accept what it accepts.
//!
//! Everything here panics with the name of the law that does not hold.

use crate::aggregate::{Aggregate, Groups};
use crate::bindings::types::{Column, DataType, Encoding, Field, Values, Varlen};
use crate::codec::Codec;
use crate::generator::{Generator, generate};
use crate::input::RowIn;
use crate::output::{Build, Bytes, Projection, Put, RowOut};
use crate::parser::{Host, Parser};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Slots that the suite spreads rows over.
const SLOTS: u32 = 3;
/// The slot of a row that belongs to nobody.
const NOBODY: u32 = u32::MAX;

/// The columns that the host would send for `rows`.
pub fn columns<R: RowOut + Clone>(rows: &[R]) -> Vec<Column> {
    let mut builders = R::builders(rows.len(), &Projection::default());
    for row in rows {
        row.clone().put(&mut builders);
    }
    R::columns(builders)
}

/// What the aggregate makes of one group of `rows`.
pub fn result_of<A: Aggregate>(config: &str, rows: &[A::Row<'_>]) -> A::Output
where
    for<'a> A::Row<'a>: Clone,
{
    let aggregate = crate::config::Config::make(config, A::new).expect("the settings are accepted");
    let mut state = A::State::default();
    for row in rows {
        add(&aggregate, &mut state, row);
    }
    aggregate.finish(&state)
}

fn add<A: Aggregate>(aggregate: &A, state: &mut A::State, row: &A::Row<'_>)
where
    for<'a> A::Row<'a>: Clone,
{
    aggregate.add(state, row.clone());
}

/// Checks the three laws of an aggregate on these rows, which should be varied: a few hundred are enough.
///
/// 1. Cutting a batch anywhere changes nothing, and rows of nobody are skipped. 2. Merging is updating, in any grouping,
///    and if `COMMUTATIVE` in any order. 3. A restored state is the state that was saved, byte for byte; broken bytes
///    and unknown versions are refused. Besides: a released slot is empty, and finishing changes nothing.
///
/// # Panics
/// A law does not hold.
pub fn aggregate_laws<'r, A: Aggregate>(config: &str, rows: &[A::Row<'r>])
where
    A::Row<'r>: RowOut + Clone,
{
    let groups = || Groups::<A>::init(config).expect("the settings are accepted").0;
    let all: Vec<u32> = (0..SLOTS).collect();
    let slots: Vec<u32> = (0..rows.len() as u32).map(|i| if i % 7 == 6 { NOBODY } else { i % SLOTS }).collect();
    let update = |groups: &mut Groups<A>, from: usize, to: usize, offset: u32| {
        let slots: Vec<u32> = slots[from..to].iter().map(|s| if *s == NOBODY { NOBODY } else { s + offset }).collect();
        groups.update(&slots, &columns(&rows[from..to]));
    };
    let mut whole = groups();
    update(&mut whole, 0, rows.len(), 0);
    let want = whole.snapshot(&all);

    let cuts: Vec<usize> = (0..=8).map(|i| rows.len() * i / 8).collect();
    let mut cut = groups();
    cuts.windows(2).for_each(|part| update(&mut cut, part[0], part[1], 0));
    assert_eq!(cut.snapshot(&all), want, "cutting a batch changes nothing");

    let (a, b) = (cuts[3], cuts[6]);
    let thirds = |groups: &mut Groups<A>| {
        update(groups, 0, a, 0);
        update(groups, a, b, SLOTS);
        update(groups, b, rows.len(), 2 * SLOTS);
    };
    let at = |n: u32| -> Vec<u32> { all.iter().map(|slot| slot + n * SLOTS).collect() };
    let mut left = groups();
    thirds(&mut left);
    left.merge(&all, &at(1));
    left.merge(&all, &at(2));
    let mut right = groups();
    thirds(&mut right);
    right.merge(&at(1), &at(2));
    right.merge(&all, &at(1));
    assert_eq!(right.snapshot(&at(1)), groups().snapshot(&at(1)), "a merged slot is released");
    if A::COMMUTATIVE {
        assert_eq!(left.snapshot(&all), want, "merging is updating");
        assert_eq!(right.snapshot(&all), want, "merging is associative");
        let mut backwards = groups();
        thirds(&mut backwards);
        backwards.merge(&at(2), &at(1));
        backwards.merge(&at(2), &all);
        assert_eq!(backwards.snapshot(&at(2)), want, "merging is commutative");
        let mut reversed = groups();
        let slots: Vec<u32> = slots.iter().rev().copied().collect();
        let rows: Vec<A::Row<'r>> = rows.iter().rev().cloned().collect();
        reversed.update(&slots, &columns(&rows));
        assert_eq!(reversed.snapshot(&all), want, "updating is commutative");
    }

    restore_laws(&groups, &all, &want);
    let windows = Column { values: Values::Timestamp(alloc::vec![0; all.len()]), validity: None };
    let context = if A::WANTS_WINDOW { alloc::vec![windows.clone(), windows] } else { Vec::new() };
    let finished = whole.finish(&all, &context);
    assert_eq!(finished.count, SLOTS, "one row per slot");
    assert_eq!(whole.snapshot(&all), want, "finishing leaves the state as it is");
    whole.release(&all);
    assert_eq!(whole.snapshot(&all), groups().snapshot(&all), "a released slot is empty");
}

fn restore_laws<A: Aggregate>(groups: &impl Fn() -> Groups<A>, all: &[u32], want: &Varlen) {
    let mut restored = groups();
    restored.restore(all, A::State::VERSION, want).expect("restore takes what snapshot gave");
    assert_eq!(&restored.snapshot(all), want, "restore gives back what snapshot took");
    assert!(groups().restore(all, u32::MAX, want).is_err(), "an unknown version is refused");
    let mut long = want.clone();
    long.bytes.push(0);
    *long.offsets.last_mut().expect("offsets are never empty") += 1;
    assert!(groups().restore(all, A::State::VERSION, &long).is_err(), "bytes left over are refused");
    if want.offsets[all.len()] > want.offsets[all.len() - 1] {
        let mut short = want.clone();
        short.bytes.pop();
        *short.offsets.last_mut().expect("offsets are never empty") -= 1;
        assert!(groups().restore(all, A::State::VERSION, &short).is_err(), "missing bytes are refused");
    }
}

/// The state of a group of `rows`, as `snapshot` encodes it. To keep as the golden bytes of a version.
pub fn state_of<A: Aggregate>(config: &str, rows: &[A::Row<'_>]) -> Vec<u8>
where
    for<'a> A::Row<'a>: Clone,
{
    let aggregate = crate::config::Config::make(config, A::new).expect("the settings are accepted");
    let mut state = A::State::default();
    for row in rows {
        add(&aggregate, &mut state, row);
    }
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    bytes
}

/// The state that a group has after `restore` of these bytes of an older version, as this version encodes it.
///
/// # Errors
/// What `restore` refuses.
pub fn migrated<A: Aggregate>(config: &str, version: u32, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut groups = Groups::<A>::init(config).expect("the settings are accepted").0;
    groups.restore(&[0], version, &one(bytes))?;
    Ok(groups.snapshot(&[0]).bytes)
}

fn one(bytes: &[u8]) -> Varlen {
    Varlen { offsets: [0, bytes.len() as u32].into(), bytes: bytes.into() }
}

/// Checks that a new version of an aggregate goes on from the states of an old one. Give it varied rows of both.
///
/// An old state is restored, and then saved and restored as a new one; the state of no rows stays the state of no rows;
/// broken bytes are refused. If both are `COMMUTATIVE`, merging before and after is the same, and going on is the same
/// as merging what comes after.
///
/// # Panics
/// A law does not hold.
pub fn migration_laws<Old: Aggregate, New: Aggregate>(config: &str, old: &[Old::Row<'_>], new: &[New::Row<'_>])
where
    for<'a> Old::Row<'a>: Clone,
    for<'a> New::Row<'a>: RowOut + Clone,
{
    let version = Old::State::VERSION;
    let migrated = |bytes: &[u8]| migrated::<New>(config, version, bytes);
    let (first, second) = old.split_at(old.len() / 2);
    let all = state_of::<Old>(config, old);
    let restored = migrated(&all).expect("an old state is restored");
    let again = self::migrated::<New>(config, New::State::VERSION, &restored);
    assert_eq!(again.as_ref(), Ok(&restored), "what is made of an old state is a new state");
    let nothing = migrated(&state_of::<Old>(config, &[])).expect("the old state of no rows is restored");
    assert_eq!(nothing, state_of::<New>(config, &[]), "the state of no rows is the state of no rows");
    assert!(migrated(&[&all[..], &[0]].concat()).is_err(), "bytes left over are refused");
    assert!(all.is_empty() || migrated(&all[..all.len() - 1]).is_err(), "missing bytes are refused");
    if !(Old::COMMUTATIVE && New::COMMUTATIVE) {
        return;
    }
    let mut groups = Groups::<New>::init(config).expect("the settings are accepted").0;
    for (slot, rows) in [first, second].into_iter().enumerate() {
        let state = one(&state_of::<Old>(config, rows));
        groups.restore(&[slot as u32], version, &state).expect("an old state is restored");
    }
    groups.merge(&[0], &[1]);
    assert_eq!(groups.snapshot(&[0]).bytes, restored, "merging old states is merging what is made of them");
    let slots: Vec<u32> = new.iter().map(|_| 0).collect();
    groups.update(&slots, &columns(new));
    let gone_on = groups.snapshot(&[0]).bytes;
    for (to, from) in [(2, 3), (3, 2)] {
        groups.release(&[2, 3]);
        groups
            .restore(&[2], New::State::VERSION, &one(&state_of::<New>(config, new)))
            .expect("a new state is restored");
        groups.restore(&[3], version, &one(&all)).expect("an old state is restored");
        groups.merge(&[to], &[from]);
        assert_eq!(groups.snapshot(&[to]).bytes, gone_on, "going on is merging what comes after");
    }
}

/// Checks a parser on these records (`None` is a tombstone), which should be varied, with good and bad ones.
///
/// Cutting the batch anywhere changes neither rows nor rejects; calling again gives the same; origins and rejects name
/// each record at most once, in order; a projection makes the same columns, only fewer. For parsers that ask for
/// nothing but the payload.
///
/// # Panics
/// A law does not hold.
pub fn parser_laws<P: Parser>(config: &str, records: &[Option<&[u8]>]) {
    let host = || Host::<P>::init(config).expect("the settings are accepted").0;
    assert!(<P::Meta<'static> as RowIn>::fields().is_empty(), "the suite gives a parser the payload only");
    let fields = <P::Row<'static> as RowOut>::fields();
    let mut whole = host();
    let want = outcome(&mut whole, records, 0, &fields);
    assert_eq!(outcome(&mut whole, records, 0, &fields), want, "the same call gives the same rows");
    for cut in 0..=records.len() {
        let mut host = host();
        let mut both = outcome(&mut host, &records[..cut], 0, &fields);
        both.extend(outcome(&mut host, &records[cut..], cut, &fields));
        assert_eq!(both, want, "cutting a batch changes nothing, here before record {cut}");
    }
    for index in 0..fields.len() {
        let mut host = host();
        host.project(alloc::vec![index as u32]);
        let column: Vec<(usize, Vec<String>)> = want
            .iter()
            .map(|(record, row)| {
                (*record, if row[0] == REJECTED { row.clone() } else { alloc::vec![row[index].clone()] })
            })
            .collect();
        assert_eq!(outcome(&mut host, records, 0, &fields[index..=index]), column, "a projection changes no value");
    }
}

/// What a reject has in the place of its first value.
const REJECTED: &str = "rejected";

/// What became of each record that was not filtered: its index and the values of its row, or its reject.
fn outcome<P: Parser>(
    host: &mut Host<P>,
    records: &[Option<&[u8]>],
    first: usize,
    fields: &[Field],
) -> Vec<(usize, Vec<String>)> {
    let mut values = <Option<&[u8]> as Put>::Builder::new(records.len());
    for record in records {
        record.put(&mut values);
    }
    let parsed = host.parse(records.len() as u32, &[values.column()]);
    let rows = parsed.rows;
    assert_eq!(rows.columns.len(), fields.len(), "as many columns as were promised");
    let origins = rows.origins.unwrap_or_else(|| (0..rows.count).collect());
    assert_eq!(origins.len(), rows.count as usize, "an origin for each row");
    assert!(origins.is_sorted(), "origins do not decrease");
    let columns: Vec<Vec<String>> =
        rows.columns.iter().zip(fields).map(|(column, field)| read(column, field, rows.count as usize)).collect();
    let made = origins
        .iter()
        .enumerate()
        .map(|(row, record)| (*record, columns.iter().map(|column| column[row].clone()).collect()));
    let refused = parsed.rejects.iter().map(|reject| {
        (reject.record_index, alloc::vec![REJECTED.into(), format!("{:?}: {}", reject.kind, reject.message)])
    });
    let mut all: Vec<(u32, Vec<String>)> = made.chain(refused).collect();
    all.sort_by_key(|(record, _)| *record);
    assert!(all.iter().all(|(record, _)| (*record as usize) < records.len()), "no record but those of the batch");
    all.into_iter().map(|(record, row)| (first + record as usize, row)).collect()
}

/// The values of a column as text, after checking its shape against its field.
fn read(column: &Column, field: &Field, rows: usize) -> Vec<String> {
    let valid = |row: usize| column.validity.as_ref().is_none_or(|bits| crate::input::bit(bits, row));
    assert!(field.nullable || (0..rows).all(valid), "column {} has no nulls", field.name);
    let text = |values: &Varlen, i: usize| {
        let bytes = &values.bytes[values.offsets[i] as usize..values.offsets[i + 1] as usize];
        String::from_utf8_lossy(bytes).into_owned()
    };
    let dictionary = field.encoding == Encoding::Dictionary;
    let (len, values): (usize, Vec<String>) = match (&column.values, field.data_type, dictionary) {
        (Values::Boolean(bits), DataType::Boolean, false) => {
            (rows, (0..rows).map(|row| format!("{}", crate::input::bit(bits, row))).collect())
        }
        (Values::Int64(v), DataType::Int64, false) | (Values::Timestamp(v), DataType::Timestamp, false) => {
            (v.len(), v.iter().map(|value| format!("{value}")).collect())
        }
        (Values::Float64(v), DataType::Float64, false) => {
            (v.len(), v.iter().map(|value| format!("{:x}", value.to_bits())).collect())
        }
        (Values::Utf8(v), DataType::Utf8, false) | (Values::Binary(v), DataType::Binary, false) => {
            (v.offsets.len() - 1, (0..rows).map(|row| text(v, row)).collect())
        }
        (Values::Dictionary(d), DataType::Utf8 | DataType::Binary, true) => {
            (d.indices.len(), d.indices.iter().map(|index| text(&d.values, *index as usize)).collect())
        }
        _ => unreachable!("column {} is what its field says", field.name),
    };
    assert_eq!((len, values.len()), (rows, rows), "column {} has a value per row", field.name);
    values
        .into_iter()
        .enumerate()
        .map(|(row, value)| if valid(row) { format!("={value}") } else { "null".into() })
        .collect()
}

/// Checks that record `n` is a pure function of settings, seed, `n` and time: in whatever batch it is asked for.
///
/// # Panics
/// The law does not hold.
pub fn generator_laws<G: Generator>(config: &str, seed: u64, count: u32) {
    let new = || crate::config::Config::make(config, |config| G::new(config, seed)).expect("the settings are accepted");
    // The first of January 2026, and a millisecond for each record.
    let times: Vec<i64> = (0..i64::from(count)).map(|n| 1_767_225_600_000_000 + n * 1000).collect();
    let whole = generate(&new(), 0, &times);
    let (mut values, mut keys) = (Bytes::new(0), Bytes::new(0));
    for (n, time) in times.iter().enumerate() {
        let one = generate(&new(), n as u64, &[*time]);
        values.push(&one.values.bytes);
        keys.push(&one.keys.map(|keys| keys.bytes).unwrap_or_default());
    }
    assert_eq!(whole.values, values.varlen(), "a record's payload does not depend on its batch");
    assert_eq!(whole.keys, G::KEYED.then(|| keys.varlen()), "a record's key does not depend on its batch");
}
