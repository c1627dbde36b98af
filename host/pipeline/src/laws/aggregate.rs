//! The laws of an aggregate.

mod outcome;

use super::failure::Failure;
use super::rows::{self, Pieces, Row, mix};
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

/// Single rows that are updated one by one: enough to see what a call of its own does.
const SINGLES: u32 = 64;
/// Cuts of a batch at random.
const CUTS: u64 = 7;
/// The same where all states are restored at each cut.
const RESTORES: u64 = 1;
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
    for trial in trials(&rows, subject.description.commutative) {
        subject.hold(&trial, &rows)?;
    }
    subject.hold_migration(states)?;
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

/// Fails where a law does not hold for the rows.
type Check<'a> = fn(&mut Subject<'a>, &[Row], &Pieces) -> Result<(), Failure>;

/// One way to try a law.
struct Trial<'a> {
    pieces: Pieces,
    check: Check<'a>,
}

/// All that is tried, the plainest first: whoever breaks one of them may break those after it for the same reason.
fn trials<'a>(rows: &[Row], commutative: bool) -> Vec<Trial<'a>> {
    let trial = |pieces, check: Check<'a>| Trial { pieces, check };
    let between = |pieces| Pieces::between(rows, pieces);
    let mut trials = vec![
        trial(Pieces::Whole, Subject::deterministic),
        trial(Pieces::Whole, Subject::finishes),
        trial(Pieces::Whole, Subject::nobody),
        trial(Pieces::Whole, Subject::groups_apart),
        trial(Pieces::cuts(CUTS), Subject::cut),
        trial(Pieces::Singles(SINGLES), Subject::cut),
        trial(Pieces::Whole, Subject::restores),
        trial(Pieces::cuts(RESTORES), Subject::resumes),
        trial(Pieces::Singles(SINGLES), Subject::resumes),
        trial(between(2), Subject::releases),
    ];
    if commutative {
        trials.push(trial(Pieces::Whole, Subject::reversed));
        trials.push(trial(Pieces::Whole, Subject::shuffled));
    }
    trials.push(trial(between(2), Subject::merge_is_update));
    trials.push(trial(between(3), Subject::merge_associative));
    if commutative {
        trials.push(trial(Pieces::Scattered(2), Subject::merge_is_update));
        trials.push(trial(Pieces::Scattered(3), Subject::merge_associative));
        trials.push(trial(between(2), Subject::merge_commutative));
        trials.push(trial(Pieces::Scattered(2), Subject::merge_commutative));
    }
    trials.push(trial(between(2), Subject::merge_releases));
    trials
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
    fn hold(&mut self, trial: &Trial<'a>, rows: &[Row]) -> Result<(), Broken> {
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

    fn deterministic(&mut self, rows: &[Row], _: &Pieces) -> Result<(), Failure> {
        let groups = self.groups(rows);
        let (mut one, mut other) = (self.updated(rows)?, self.updated(rows)?);
        let (one, other) = (self.outcome(&mut *one, &groups)?, self.outcome(&mut *other, &groups)?);
        self.same(Law::Determinism, &groups, (&one, "in one instance"), (&other, "in another"))
    }

    fn finishes(&mut self, rows: &[Row], _: &Pieces) -> Result<(), Failure> {
        let groups = self.groups(rows);
        let mut aggregate = self.updated(rows)?;
        let first = self.outcome(&mut *aggregate, &groups)?;
        let second = self.outcome(&mut *aggregate, &groups)?;
        self.same(Law::Finish, &groups, (&first, "when asked first"), (&second, "when asked again"))?;
        let backwards: Vec<u32> = groups.iter().rev().copied().collect();
        let third = self.outcome(&mut *aggregate, &backwards)?.reversed();
        self.same(Law::Finish, &groups, (&first, "when asked first"), (&third, "when asked in another order"))
    }

    fn groups_apart(&mut self, rows: &[Row], _: &Pieces) -> Result<(), Failure> {
        for half in 0..2 {
            let own: Vec<Row> = rows.iter().copied().filter(|row| mix(self.group(*row).into()) % 2 == half).collect();
            let groups = self.groups(&own);
            let (mut all, mut alone) = (self.updated(rows)?, self.updated(&own)?);
            let (all, alone) = (self.outcome(&mut *all, &groups)?, self.outcome(&mut *alone, &groups)?);
            self.same(Law::GroupsApart, &groups, (&all, "beside others"), (&alone, "without some of them"))?;
        }
        Ok(())
    }

    fn nobody(&mut self, rows: &[Row], _: &Pieces) -> Result<(), Failure> {
        // A quarter of them; which, is the row's own affair, so that it stays so while others are taken away.
        let skipped = |row: Row| row.hash(4).is_multiple_of(4);
        let counted: Vec<Row> = rows.iter().copied().filter(|row| !skipped(*row)).collect();
        let groups = self.groups(&counted);
        let mut with = self.fresh()?;
        self.update_slots(&mut *with, rows, &Pieces::Whole, |row, group| if skipped(row) { NOBODY } else { group })?;
        let mut without = self.updated(&counted)?;
        let (with, without) = (self.outcome(&mut *with, &groups)?, self.outcome(&mut *without, &groups)?);
        self.same(Law::Nobody, &groups, (&with, "with rows of nobody"), (&without, "without them"))
    }

    fn cut(&mut self, rows: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let groups = self.groups(rows);
        let mut whole = self.updated(rows)?;
        let mut parts = self.fresh()?;
        self.update(&mut *parts, rows, pieces)?;
        let (whole, parts) = (self.outcome(&mut *whole, &groups)?, self.outcome(&mut *parts, &groups)?);
        self.same(Law::Cut, &groups, (&whole, "in whole batches"), (&parts, "cut"))
    }

    fn restores(&mut self, rows: &[Row], _: &Pieces) -> Result<(), Failure> {
        let groups = self.groups(rows);
        let mut saved = self.updated(rows)?;
        let saved = self.outcome(&mut *saved, &groups)?;
        let mut restored = self.fresh()?;
        // Other slots than before: a state is not to know where it was.
        let slots: Vec<u32> = (0..groups.len() as u32).rev().collect();
        self.restore(&mut *restored, &slots, &saved.states)?;
        let restored = Outcome::of(&mut *restored, &self.description, &slots, &groups)?;
        self.same(Law::Restore, &groups, (&saved, "before"), (&restored, "after it was restored"))
    }

    /// Gives slots states of the aggregate's own version.
    fn restore(&self, to: &mut dyn Aggregate, slots: &[u32], states: &BinaryArray) -> Result<(), Failure> {
        to.restore(slots, self.description.state_version, states).map_err(|fault| match fault.kind {
            FaultKind::Refused => Failure::new(Law::Restore, format!("refuses a state of its own: {}", fault.message)),
            _ => fault.into(),
        })
    }

    fn resumes(&mut self, rows: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let groups = self.groups(rows);
        let (mut kept, mut restored) = (self.fresh()?, self.fresh()?);
        let mut open = BTreeSet::new();
        for batch in pieces.batches(rows) {
            let slots: Vec<u32> = open.iter().copied().collect();
            let states = restored.snapshot(&slots)?;
            restored = self.fresh()?;
            self.restore(&mut *restored, &slots, &states)?;
            self.update(&mut *kept, batch, &Pieces::Whole)?;
            self.update(&mut *restored, batch, &Pieces::Whole)?;
            open.extend(self.groups(batch));
        }
        let (kept, restored) = (self.outcome(&mut *kept, &groups)?, self.outcome(&mut *restored, &groups)?);
        self.same(Law::Resume, &groups, (&kept, "without a restore"), (&restored, "with restores at the cuts"))
    }

    fn releases(&mut self, rows: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let (before, then) = (pieces.take(rows, 0), pieces.take(rows, 1));
        let groups = self.groups(&then);
        let mut used = self.updated(&before)?;
        used.release(&self.groups(&before))?;
        self.update(&mut *used, &then, &Pieces::Whole)?;
        let mut unused = self.updated(&then)?;
        let (used, unused) = (self.outcome(&mut *used, &groups)?, self.outcome(&mut *unused, &groups)?);
        self.same(Law::Release, &groups, (&used, "in a released slot"), (&unused, "in a new one"))
    }

    fn merge_releases(&mut self, rows: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let (before, then) = (pieces.take(rows, 0), pieces.take(rows, 1));
        let (merged_groups, groups) = (self.groups(&before), self.groups(&then));
        let mut used = self.updated(&before)?;
        used.merge(&self.lifted(&merged_groups, 1), &merged_groups)?;
        self.update(&mut *used, &then, &Pieces::Whole)?;
        let mut unused = self.updated(&then)?;
        let (used, unused) = (self.outcome(&mut *used, &groups)?, self.outcome(&mut *unused, &groups)?);
        self.same(Law::Release, &groups, (&used, "in a slot that was merged into another"), (&unused, "in a new one"))
    }

    fn reversed(&mut self, rows: &[Row], _: &Pieces) -> Result<(), Failure> {
        self.reordered(rows, rows.iter().rev().copied().collect())
    }

    fn shuffled(&mut self, rows: &[Row], _: &Pieces) -> Result<(), Failure> {
        let mut order = rows.to_vec();
        order.sort_by_key(|row| (row.sample, row.hash(0)));
        self.reordered(rows, order)
    }

    fn reordered(&mut self, rows: &[Row], order: Vec<Row>) -> Result<(), Failure> {
        let groups = self.groups(rows);
        let (mut one, mut other) = (self.updated(rows)?, self.updated(&order)?);
        let (one, other) = (self.outcome(&mut *one, &groups)?, self.outcome(&mut *other, &groups)?);
        self.same(Law::RowOrder, &groups, (&one, "in this order"), (&other, "in another"))
    }

    /// The slots of these groups for piece number `piece`.
    fn lifted(&self, groups: &[u32], piece: u32) -> Vec<u32> {
        groups.iter().map(|group| group + piece * self.apart()).collect()
    }

    /// A new one that has each piece in slots of its own, and the groups of each piece.
    fn apart_by_piece(
        &mut self,
        rows: &[Row],
        pieces: &Pieces,
        count: u32,
    ) -> Result<(Box<dyn Aggregate>, Vec<Vec<u32>>), Failure> {
        let mut aggregate = self.fresh()?;
        let mut groups = Vec::new();
        for piece in 0..count {
            let own = pieces.take(rows, piece.into());
            let offset = piece * self.apart();
            self.update_slots(&mut *aggregate, &own, &Pieces::Whole, |_, group| group + offset)?;
            groups.push(self.groups(&own));
        }
        Ok((aggregate, groups))
    }

    fn merge_is_update(&mut self, rows: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let groups = self.groups(rows);
        let (mut merged, of) = self.apart_by_piece(rows, pieces, 2)?;
        if let Some(second) = of.get(1) {
            merged.merge(second, &self.lifted(second, 1))?;
        }
        // Rows in the order in which they are merged.
        let order = [pieces.take(rows, 0), pieces.take(rows, 1)].concat();
        let mut updated = self.updated(&order)?;
        let (merged, updated) = (self.outcome(&mut *merged, &groups)?, self.outcome(&mut *updated, &groups)?);
        self.same_merged(Law::MergeIsUpdate, rows, &groups, (&updated, "updated"), (&merged, "merged"))
    }

    fn merge_associative(&mut self, rows: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let groups = self.groups(rows);
        // (a + b) + c, in one call.
        let (mut left, of) = self.apart_by_piece(rows, pieces, 3)?;
        let [_, second, third] = of.as_slice() else { return Ok(()) };
        let others = [self.lifted(second, 1), self.lifted(third, 2)].concat();
        left.merge(&[second.as_slice(), third].concat(), &others)?;
        // a + (b + c).
        let (mut right, _) = self.apart_by_piece(rows, pieces, 3)?;
        right.merge(&self.lifted(third, 1), &self.lifted(third, 2))?;
        let both: BTreeSet<u32> = second.iter().chain(third).copied().collect();
        let both: Vec<u32> = both.into_iter().collect();
        right.merge(&both, &self.lifted(&both, 1))?;
        let (left, right) = (self.outcome(&mut *left, &groups)?, self.outcome(&mut *right, &groups)?);
        self.same_merged(Law::MergeAssociative, rows, &groups, (&left, "as (a + b) + c"), (&right, "as a + (b + c)"))
    }

    fn merge_commutative(&mut self, rows: &[Row], pieces: &Pieces) -> Result<(), Failure> {
        let groups = self.groups(rows);
        let (mut forth, of) = self.apart_by_piece(rows, pieces, 2)?;
        let (mut back, _) = self.apart_by_piece(rows, pieces, 2)?;
        let [first, second] = of.as_slice() else { return Ok(()) };
        forth.merge(second, &self.lifted(second, 1))?;
        back.merge(&self.lifted(first, 1), first)?;
        let forth = self.outcome(&mut *forth, &groups)?;
        let back = Outcome::of(&mut *back, &self.description, &self.lifted(&groups, 1), &groups)?;
        self.same(Law::MergeCommutative, &groups, (&forth, "as a + b"), (&back, "as b + a"))
    }

    /// As `same`; where order is not without influence, floats may be rounded otherwise.
    fn same_merged(
        &self,
        law: Law,
        rows: &[Row],
        groups: &[u32],
        one: (&Outcome, &str),
        other: (&Outcome, &str),
    ) -> Result<(), Failure> {
        if self.description.commutative {
            return self.same(law, groups, one, other);
        }
        let magnitude = outcome::magnitude(self.samples, rows);
        let names = (one.1, other.1);
        match one.0.difference_but_for_rounding(other.0, &self.description, groups, names, magnitude) {
            None => Ok(()),
            Some(message) => Err(Failure::new(law, message)),
        }
    }

    fn hold_migration(&mut self, states: &[(u32, Vec<u8>)]) -> Result<(), Broken> {
        let all: Vec<usize> = (0..states.len()).collect();
        let Err(failure) = self.migrates(states, &all) else { return Ok(()) };
        let (items, Failure { law, message, .. }) =
            shrink::smallest(&all, failure, |some| self.migrates(states, some).err());
        let lines = items.iter().map(|item| text::state(states[*item].0, &states[*item].1));
        Err(Broken { law, message, items: items.len(), input: text::screen(lines) })
    }

    /// Reads states of other versions, and then its own of the same, which are to come to the same.
    fn migrates(&mut self, states: &[(u32, Vec<u8>)], items: &[usize]) -> Result<(), Failure> {
        let slots: Vec<u32> = (0..items.len() as u32).collect();
        let mut old = self.fresh()?;
        let versions: BTreeSet<u32> = items.iter().map(|item| states[*item].0).collect();
        for version in versions {
            let of = slots.iter().zip(items).filter(|(_, item)| states[**item].0 == version);
            let (slots, states): (Vec<u32>, Vec<&[u8]>) =
                of.map(|(slot, item)| (*slot, states[*item].1.as_slice())).unzip();
            old.restore(&slots, version, &BinaryArray::from(states)).map_err(|fault| match fault.kind {
                FaultKind::Refused => Failure::new(Law::Migration, format!("refuses a state: {}", fault.message)),
                _ => fault.into(),
            })?;
        }
        let old = self.outcome(&mut *old, &slots)?;
        let mut own = self.fresh()?;
        self.restore(&mut *own, &slots, &old.states)?;
        let own = self.outcome(&mut *own, &slots)?;
        self.same(Law::Migration, &slots, (&old, "as read"), (&own, "as read once more, in the own version"))
    }
}

/// The window of a group, for those who ask for it in `finish`.
fn window_of(group: u32) -> (i64, i64) {
    let start = FIRST_WINDOW_US + i64::from(group) * WINDOW_US;
    (start, start + WINDOW_US)
}
