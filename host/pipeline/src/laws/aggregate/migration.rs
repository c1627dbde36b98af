//! What is tried with states of the version in force.

use super::Subject;
use crate::laws::failure::Failure;
use crate::laws::rows::{Pieces, Row};
use crate::laws::{Broken, Law, shrink, text};
use crate::plugin::FaultKind;
use arrow_array::BinaryArray;
use std::collections::BTreeSet;

/// The most states looked at.
const MAX_STATES: usize = 4096;

impl Subject<'_> {
    /// Tries to go on from `states`, each with its version, with these rows.
    pub(super) fn hold_migration(&mut self, states: &[(u32, Vec<u8>)], rows: &[Row]) -> Result<(), Broken> {
        let all: Vec<usize> = (0..states.len().min(MAX_STATES)).collect();
        let Err(failure) = self.migrates(states, &all, rows) else { return Ok(()) };
        let (items, Failure { law, message, .. }) =
            shrink::smallest(&all, failure, |some| self.migrates(states, some, rows).err());
        let lines = items.iter().map(|item| text::state(states[*item].0, &states[*item].1));
        Err(Broken { law, message, items: items.len(), input: text::screen(lines) })
    }

    /// Reads states of other versions, and then its own of the same; both are to come to the same, then and after rows.
    fn migrates(&mut self, states: &[(u32, Vec<u8>)], items: &[usize], rows: &[Row]) -> Result<(), Failure> {
        if items.is_empty() {
            return Ok(());
        }
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
        let read = self.outcome(&mut *old, &slots)?;
        let mut own = self.fresh()?;
        self.restore(&mut *own, &slots, &read.states)?;
        let again = self.outcome(&mut *own, &slots)?;
        let names = ("as read", "as read once more, in its own version");
        self.same(Law::Migration, &slots, (&read, names.0), (&again, names.1))?;
        let count = slots.len() as u32;
        for aggregate in [&mut old, &mut own] {
            self.update_slots(&mut **aggregate, rows, &Pieces::Whole, |_, group| group % count)?;
        }
        let (read, again) = (self.outcome(&mut *old, &slots)?, self.outcome(&mut *own, &slots)?);
        let names = ("as read and after more rows", "as read once more, in its own version");
        self.same(Law::Migration, &slots, (&read, names.0), (&again, names.1))
    }
}
