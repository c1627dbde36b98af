//! The laws of an aggregate.

mod migration;
mod outcome;
mod trials;

use super::failure::Failure;
use super::rows::{self, Pieces, Row};
use super::{Broken, Law, Tried, shrink, text};
use crate::plugin::{Aggregate, AggregateDescription, Fault, FaultKind, NOBODY};
use arrow_array::{ArrayRef, BinaryArray};
use outcome::Outcome;
use std::collections::{BTreeSet, HashMap};

/// Rows of the stream as the aggregate gets them.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The group of each row, by any number that stands for it in all samples, or [`NOBODY`].
    pub slots: Vec<u32>,
    /// One array per input of the description, all as long as `slots`.
    pub inputs: Vec<ArrayRef>,
}

/// Where the contexts' windows begin: the first of January 2026. They are a minute long.
const FIRST_WINDOW_US: i64 = 1_767_225_600_000_000;
const WINDOW_US: i64 = 60_000_000;

/// Tries the aggregates that `make` makes, each new and empty. `states` are states of the version in force, each with
/// its version, that the aggregate is to go on from; none where it is to begin empty.
///
/// Looks at the first [`MAX_BATCHES`](super::MAX_BATCHES) samples and at the first
/// [`MAX_BATCH_ROWS`](super::MAX_BATCH_ROWS) rows of each. A row that makes the aggregate fail breaks a law, so rows on
/// which the version in force is known to fail should be left out.
///
/// # Errors
/// The first law that does not hold.
pub fn aggregate(
    make: &mut dyn FnMut() -> Result<Box<dyn Aggregate>, Fault>,
    samples: &[Sample],
    states: &[(u32, Vec<u8>)],
) -> Result<Tried, Broken> {
    let description = match make() {
        Ok(first) => first.description().clone(),
        Err(fault) => return Err(Failure::from(fault).without_input()),
    };
    let mut subject = Subject { make, samples, groups: number(samples), description };
    let rows = rows::all(samples.iter().map(|sample| sample.slots.len()));
    for trial in trials::all(&rows, subject.description.commutative) {
        subject.hold(&trial, &rows)?;
    }
    subject.hold_migration(states, &rows)?;
    Ok(Tried { batches: samples.len().min(super::MAX_BATCHES), rows: rows.len() })
}

/// Numbers from 0 on instead of the slots of the samples, as the host hands them out.
fn number(samples: &[Sample]) -> Vec<Vec<u32>> {
    let mut numbers = HashMap::new();
    let mut number = |slot: u32| {
        let next = numbers.len() as u32;
        if slot == NOBODY { NOBODY } else { *numbers.entry(slot).or_insert(next) }
    };
    samples.iter().map(|sample| sample.slots.iter().map(|slot| number(*slot)).collect()).collect()
}

/// What is tried, and on what.
struct Subject<'a> {
    make: &'a mut dyn FnMut() -> Result<Box<dyn Aggregate>, Fault>,
    samples: &'a [Sample],
    /// The group of each row of each sample, numbered from 0.
    groups: Vec<Vec<u32>>,
    description: AggregateDescription,
}

impl<'a> Subject<'a> {
    fn hold(&mut self, trial: &trials::Trial<'a>, rows: &[Row]) -> Result<(), Broken> {
        let Err(failure) = (trial.check)(self, rows, &trial.pieces) else { return Ok(()) };
        let (rows, Failure { law, message, .. }) =
            shrink::smallest(rows, failure, |rows| (trial.check)(self, rows, &trial.pieces).err());
        Err(Broken { law, message, items: rows.len(), input: self.show(&rows, &trial.pieces) })
    }

    fn show(&self, rows: &[Row], pieces: &Pieces) -> Vec<String> {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| pieces.of(*row));
        let mut lines = Vec::new();
        for batch in pieces.batches(&rows) {
            if !lines.is_empty() {
                lines.push("--".to_owned());
            }
            lines.extend(batch.iter().map(|row| self.line(*row)));
        }
        text::screen(lines.into_iter())
    }

    fn line(&self, row: Row) -> String {
        let group = match self.group(row) {
            NOBODY => "nobody".to_owned(),
            group => format!("group {group}"),
        };
        let inputs = &self.samples[row.sample as usize].inputs;
        let columns = self.description.inputs.iter().zip(inputs);
        let values = columns.map(|(field, array)| format!("{} = {}", field.name, text::value(array, row.row as usize)));
        let values = values.collect::<Vec<_>>().join(", ");
        if values.is_empty() { group } else { format!("{group}: {values}") }
    }

    fn group(&self, row: Row) -> u32 {
        self.groups[row.sample as usize][row.row as usize]
    }

    /// The groups of these rows, ascending.
    fn groups(&self, rows: &[Row]) -> Vec<u32> {
        let groups: BTreeSet<u32> = rows.iter().map(|row| self.group(*row)).filter(|group| *group != NOBODY).collect();
        groups.into_iter().collect()
    }

    /// What a slot's number grows by for it to be another's.
    fn apart(&self) -> u32 {
        self.groups.iter().flatten().filter(|group| **group != NOBODY).max().map_or(1, |most| most + 1)
    }

    fn fresh(&mut self) -> Result<Box<dyn Aggregate>, Failure> {
        let fresh = (self.make)()?;
        if *fresh.description() == self.description {
            Ok(fresh)
        } else {
            Err(Failure::new(Law::Determinism, "describes itself otherwise than before".to_owned()))
        }
    }

    /// Adds rows in batches to the slots of their groups.
    fn update(&self, to: &mut dyn Aggregate, rows: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        self.update_slots(to, rows, pieces, |_, group| group)
    }

    fn update_slots(
        &self,
        to: &mut dyn Aggregate,
        rows: &[Row],
        pieces: &Pieces,
        slot: impl Fn(Row, u32) -> u32,
    ) -> Result<(), Failure> {
        for batch in pieces.batches(rows) {
            let Some(first) = batch.first() else { continue };
            let indices = rows::indices(batch);
            let take = |array: &ArrayRef| {
                arrow_select::take::take(array, &indices, None).expect("rows are within their sample")
            };
            let inputs: Vec<ArrayRef> = self.samples[first.sample as usize].inputs.iter().map(take).collect();
            let slots: Vec<u32> = batch
                .iter()
                .map(|row| (*row, self.group(*row)))
                .map(|(row, group)| if group == NOBODY { NOBODY } else { slot(row, group) })
                .collect();
            to.update(&slots, &inputs)?;
        }
        Ok(())
    }

    /// A new one with these rows, each batch whole.
    fn updated(&mut self, rows: &[Row]) -> Result<Box<dyn Aggregate>, Failure> {
        let mut fresh = self.fresh()?;
        self.update(&mut *fresh, rows, &Pieces::Whole)?;
        Ok(fresh)
    }

    /// Gives slots states of the aggregate's own version.
    fn restore(&self, to: &mut dyn Aggregate, slots: &[u32], states: &BinaryArray) -> Result<(), Failure> {
        to.restore(slots, self.description.state_version, states).map_err(|fault| match fault.kind {
            FaultKind::Refused => Failure::new(Law::Restore, format!("refuses a state of its own: {}", fault.message)),
            _ => fault.into(),
        })
    }

    /// What `groups` came to, which are in the slots of their numbers.
    fn outcome(&self, of: &mut dyn Aggregate, groups: &[u32]) -> Result<Outcome, Failure> {
        Outcome::of(of, &self.description, groups, groups)
    }

    /// Fails where two ways to the state of the same groups came to different ends.
    fn same(
        &self,
        law: Law,
        groups: &[u32],
        (one, here): (&Outcome, &str),
        (other, there): (&Outcome, &str),
    ) -> Result<(), Failure> {
        match one.difference(other, &self.description, groups, (here, there)) {
            None => Ok(()),
            Some(message) => Err(Failure::new(law, message)),
        }
    }
}

/// The window of a group, for those who ask for it in `finish`.
fn window_of(group: u32) -> (i64, i64) {
    let start = FIRST_WINDOW_US + i64::from(group) * WINDOW_US;
    (start, start + WINDOW_US)
}
