//! The laws of a parser.

use super::failure::{Failure, check_declared};
use super::rows::{self, Pieces, Row};
use super::{Broken, Law, Tried, shrink, text};
use crate::plugin::{Fault, Parsed, Parser, ParserDescription, Reject};
use crate::record::RawBatch;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, UInt32Array, new_empty_array};

/// Single records that are parsed one by one.
const SINGLES: u32 = 64;
/// Cuts of a batch at random.
const CUTS: u64 = 7;

/// Tries the parsers that `make` makes on batches as they came.
///
/// Looks at the first [`MAX_BATCHES`](super::MAX_BATCHES) samples and at the first
/// [`MAX_BATCH_ROWS`](super::MAX_BATCH_ROWS) records of each. A record that makes the parser fail breaks a law, so
/// records on which the version in force is known to fail should be left out.
///
/// # Errors
/// The first law that does not hold.
pub fn parser(make: &mut dyn FnMut() -> Result<Box<dyn Parser>, Fault>, samples: &[RawBatch]) -> Result<Tried, Broken> {
    let description = match make() {
        Ok(first) => first.description().clone(),
        Err(fault) => return Err(Failure::from(fault).without_input()),
    };
    let mut subject = Subject { make, samples, description };
    let records = rows::all(samples.iter().map(RawBatch::len));
    let trials: [(Pieces, Check<'_>); 4] = [
        (Pieces::Whole, Subject::deterministic),
        (Pieces::cuts(CUTS), Subject::cut),
        (Pieces::Singles(SINGLES), Subject::cut),
        (Pieces::Whole, Subject::apart),
    ];
    for (pieces, check) in trials {
        subject.hold(check, &records, &pieces)?;
    }
    Ok(Tried { batches: samples.len().min(super::MAX_BATCHES), rows: records.len() })
}

/// One way to try a law: fails where it does not hold for the records.
type Check<'a> = fn(&mut Subject<'a>, &[Row], &Pieces) -> Result<(), Failure>;

/// What is tried, and on what.
struct Subject<'a> {
    make: &'a mut dyn FnMut() -> Result<Box<dyn Parser>, Fault>,
    samples: &'a [RawBatch],
    description: ParserDescription,
}

/// What became of some records, all batches in one.
struct Outcome {
    columns: Vec<ArrayRef>,
    /// The record of each row.
    origins: Vec<Row>,
    rejects: Vec<(Row, Reject)>,
}

impl<'a> Subject<'a> {
    fn hold(&mut self, check: Check<'a>, records: &[Row], pieces: &Pieces) -> Result<(), Broken> {
        let Err(failure) = check(self, records, pieces) else { return Ok(()) };
        let (records, Failure { law, message, .. }) =
            shrink::smallest(records, failure, |records| check(self, records, pieces).err());
        Err(Broken { law, message, items: records.len(), input: self.show(&records, pieces) })
    }

    fn show(&self, records: &[Row], pieces: &Pieces) -> Vec<String> {
        let mut lines = Vec::new();
        for batch in pieces.batches(records) {
            if !lines.is_empty() {
                lines.push("--".to_owned());
            }
            lines.extend(batch.iter().map(|row| text::record(&self.samples[row.sample as usize], row.row as usize)));
        }
        text::screen(lines.into_iter())
    }

    fn fresh(&mut self) -> Result<Box<dyn Parser>, Failure> {
        let fresh = (self.make)()?;
        if *fresh.description() == self.description {
            Ok(fresh)
        } else {
            Err(Failure::new(Law::Determinism, "describes itself otherwise than before".to_owned()))
        }
    }

    /// The records of one sample as a batch of their own.
    fn batch(&self, records: &[Row]) -> RawBatch {
        let whole = &self.samples[records.first().map_or(0, |first| first.sample as usize)];
        let indices = rows::indices(records);
        let take = |column: &BinaryArray| {
            let taken = arrow_select::take::take(column, &indices, None).expect("records are within their sample");
            taken.as_binary().clone()
        };
        let numbers = |of: &[i64]| records.iter().map(|record| of[record.row as usize]).collect();
        RawBatch {
            partition: whole.partition,
            offsets: numbers(&whole.offsets),
            broker_times_us: numbers(&whole.broker_times_us),
            appended: records.iter().map(|record| whole.appended[record.row as usize]).collect(),
            values: take(&whole.values),
            keys: take(&whole.keys),
        }
    }

    fn parse(&self, parser: &mut dyn Parser, records: &[Row], pieces: &Pieces) -> Result<Outcome, Failure> {
        let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.description.outputs.len()];
        let (mut origins, mut rejects) = (Vec::new(), Vec::new());
        for batch in pieces.batches(records) {
            let parsed = parser.parse(&self.batch(batch))?;
            check_parsed(&self.description, &parsed, batch.len())?;
            for (parts, column) in columns.iter_mut().zip(parsed.columns) {
                parts.push(column);
            }
            match &parsed.origins {
                None => origins.extend_from_slice(batch),
                Some(of) => origins.extend(of.iter().map(|record| batch[*record as usize])),
            }
            // The record's number is the batch's affair.
            rejects.extend(
                parsed.rejects.into_iter().map(|reject| (batch[reject.record], Reject { record: 0, ..reject })),
            );
        }
        let columns = columns.iter().zip(&self.description.outputs).map(|(parts, field)| {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            if parts.is_empty() {
                return new_empty_array(&field.arrow_type());
            }
            arrow_select::concat::concat(&parts).expect("the parts are of the declared type")
        });
        Ok(Outcome { columns: columns.collect(), origins, rejects })
    }

    /// Fails where two ways to parse the same records came to different ends.
    fn same(&self, law: Law, one: (&Outcome, &str), other: (&Outcome, &str)) -> Result<(), Failure> {
        match self.difference(one, other) {
            None => Ok(()),
            Some(message) => Err(Failure::new(law, message)),
        }
    }

    fn difference(&self, (one, here): (&Outcome, &str), (other, there): (&Outcome, &str)) -> Option<String> {
        let rejects = one.rejects == other.rejects;
        if rejects && one.origins == other.origins && one.columns == other.columns {
            return None;
        }
        let offset = |record: Row| {
            let batch = &self.samples[record.sample as usize];
            format!("partition {} offset {}", batch.partition, batch.offsets[record.row as usize])
        };
        if !rejects {
            let at = one.rejects.iter().zip(&other.rejects).take_while(|(a, b)| a == b).count();
            let (a, b) = (one.rejects.get(at), other.rejects.get(at));
            let record = a.into_iter().chain(b).map(|(record, _)| *record).min()?;
            let said = |reject: Option<&(Row, Reject)>| match reject.filter(|(of, _)| *of == record) {
                None => "not rejected".to_owned(),
                Some((_, reject)) => format!("rejected ({}: {})", reject.reason.as_str(), reject.message),
            };
            return Some(format!("{} is {} {here}, and {} {there}", offset(record), said(a), said(b)));
        }
        let at = one.origins.iter().zip(&other.origins).take_while(|(a, b)| a == b).count();
        let row = (0..at).find(|&row| self.first_other_column(one, other, row).is_some());
        if let Some((row, column)) = row.and_then(|row| Some((row, self.first_other_column(one, other, row)?))) {
            let name = &self.description.outputs[column].name;
            let shown = |of: &Outcome| text::value(&of.columns[column], row);
            let (a, b) = (shown(one), shown(other));
            return Some(format!("{}: `{name}` is {a} {here}, and {b} {there}", offset(one.origins[row])));
        }
        let record = one.origins.get(at).into_iter().chain(other.origins.get(at)).min()?;
        let count = |of: &Outcome| of.origins.iter().filter(|origin| *origin == record).count();
        Some(format!("{} has {} rows {here}, and {} {there}", offset(*record), count(one), count(other)))
    }

    /// The first column in which the two differ in this row.
    fn first_other_column(&self, one: &Outcome, other: &Outcome, row: usize) -> Option<usize> {
        let value = |of: &Outcome, column: usize| of.columns[column].slice(row, 1);
        (0..self.description.outputs.len())
            .find(|column| value(one, *column).as_ref() != value(other, *column).as_ref())
    }

    fn deterministic(&mut self, records: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let (mut one, mut other) = (self.fresh()?, self.fresh()?);
        let first = self.parse(&mut *one, records, pieces)?;
        let second = self.parse(&mut *other, records, pieces)?;
        self.same(Law::Determinism, (&first, "in one instance"), (&second, "in another"))?;
        let again = self.parse(&mut *one, records, pieces)?;
        self.same(Law::Determinism, (&first, "the first time"), (&again, "the second"))
    }

    fn cut(&mut self, records: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let (mut one, mut other) = (self.fresh()?, self.fresh()?);
        let whole = self.parse(&mut *one, records, &Pieces::Whole)?;
        let parts = self.parse(&mut *other, records, pieces)?;
        self.same(Law::Cut, (&whole, "in whole batches"), (&parts, "cut"))
    }

    fn apart(&mut self, records: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let mut one = self.fresh()?;
        let all = self.parse(&mut *one, records, pieces)?;
        for half in 0..2 {
            let own: Vec<Row> = records.iter().copied().filter(|record| record.hash(2) % 2 == half).collect();
            let mut other = self.fresh()?;
            let alone = self.parse(&mut *other, &own, pieces)?;
            let among = all.of(&own);
            self.same(Law::RecordsApart, (&among, "beside others"), (&alone, "without some of them"))?;
        }
        Ok(())
    }
}

impl Outcome {
    /// What became of some of the records, ascending.
    fn of(&self, records: &[Row]) -> Self {
        let has = |record: &Row| records.binary_search(record).is_ok();
        let kept = self.origins.iter().enumerate().filter(|(_, origin)| has(origin)).map(|(row, _)| row as u32);
        let kept: UInt32Array = kept.collect();
        let take =
            |column: &ArrayRef| arrow_select::take::take(column, &kept, None).expect("rows are within the outcome");
        Self {
            columns: self.columns.iter().map(take).collect(),
            origins: self.origins.iter().copied().filter(has).collect(),
            rejects: self.rejects.iter().filter(|(record, _)| has(record)).cloned().collect(),
        }
    }
}

/// Whether an answer about `records` records is what was declared.
fn check_parsed(description: &ParserDescription, parsed: &Parsed, records: usize) -> Result<(), Failure> {
    let origins = parsed.origins.as_deref();
    check_declared(&description.outputs, &parsed.columns, parsed.rows, origins, records)?;
    let wrong = |message: String| Err(Failure::new(Law::Declared, message));
    let rejected: Vec<usize> = parsed.rejects.iter().map(|reject| reject.record).collect();
    if !rejected.is_sorted_by(|a, b| a < b) {
        return wrong("the rejects are out of order, or name a record twice".to_owned());
    }
    if let Some(last) = rejected.last().filter(|last| **last >= records) {
        return wrong(format!("rejects record {last}; there are {records}"));
    }
    let has_rows = |record: &usize| origins.is_none_or(|origins| origins.binary_search(&(*record as u32)).is_ok());
    match rejected.iter().find(|record| has_rows(record)) {
        Some(record) => wrong(format!("rejects record {record}, and gives rows for it")),
        None => Ok(()),
    }
}
