//! What is tried with rows, law by law.

use super::Subject;
use super::outcome::{self, Outcome};
use crate::laws::Law;
use crate::laws::failure::Failure;
use crate::laws::rows::{Pieces, Row, mix};
use crate::plugin::{Aggregate, NOBODY};
use std::collections::BTreeSet;

/// Single rows that are updated one by one: enough to see what a call of its own does.
const SINGLES: u32 = 64;
/// Cuts of a batch at random.
const CUTS: u64 = 7;
/// The same where all states are restored at each cut.
const RESTORES: u64 = 1;
/// Fails where a law does not hold for the rows.
pub(super) type Check<'a> = fn(&mut Subject<'a>, &[Row], &Pieces) -> Result<(), Failure>;

/// The groups of the rows of each piece, ascending.
type GroupsByPiece = Vec<Vec<u32>>;

/// One way to try a law.
pub(super) struct Trial<'a> {
    pub(super) pieces: Pieces,
    pub(super) check: Check<'a>,
}

/// All that is tried, the plainest first: whoever breaks one of them may break those after it for the same reason.
pub(super) fn all<'a>(rows: &[Row], commutative: bool) -> Vec<Trial<'a>> {
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

impl Subject<'_> {
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
        let order: Vec<Row> = rows.iter().rev().copied().collect();
        self.reordered(rows, &order)
    }

    fn shuffled(&mut self, rows: &[Row], _: &Pieces) -> Result<(), Failure> {
        let mut order = rows.to_vec();
        order.sort_by_key(|row| (row.sample, row.hash(0)));
        self.reordered(rows, &order)
    }

    fn reordered(&mut self, rows: &[Row], order: &[Row]) -> Result<(), Failure> {
        let groups = self.groups(rows);
        let (mut one, mut other) = (self.updated(rows)?, self.updated(order)?);
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
    ) -> Result<(Box<dyn Aggregate>, GroupsByPiece), Failure> {
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
}
