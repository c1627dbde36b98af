//! Finds the rows on which a plugin fails: rows are tried, taken back and halved until such a row stands alone.

use super::{Books, Open, SLOTS_PER_CALL, Shard};
use crate::dead_letter::DeadLetter;
use crate::error::Error;
use crate::exchange::Rows;
use crate::fault::{FaultReport, FaultyCall};
use crate::plugin::Fault;
use crate::record::RawBatch;
use arrow_array::BinaryArray;

/// A row on which the plugin fails.
#[derive(Debug)]
pub struct Poison {
    /// The row's record, to be kept.
    pub letter: DeadLetter,
    /// What happened.
    pub report: FaultReport,
}

/// A shard as it was before some rows: the books, and the state of every slot in parts of [`SLOTS_PER_CALL`].
struct Backup {
    books: Books,
    slots: Vec<u32>,
    states: Vec<BinaryArray>,
}

impl Backup {
    fn state(&self, slot: u32) -> Option<&[u8]> {
        let at = self.slots.binary_search(&slot).ok()?;
        self.states.get(at / SLOTS_PER_CALL).map(|states| states.value(at % SLOTS_PER_CALL))
    }
}

impl Shard {
    /// Adds the rows on which the plugin does not fail, and sets the others aside. A fault costs about twice the
    /// logarithm of the rows in calls, half of which fail.
    pub(super) fn update_carefully(
        &mut self,
        rows: &Rows,
        records: &RawBatch,
        poison: &mut Vec<Poison>,
    ) -> Result<(), Error> {
        let backup = self.back_up()?;
        let Err(fault) = self.apply(rows) else {
            self.counts.counted += rows.len() as u64;
            return Ok(());
        };
        if rows.len() == 1 {
            return self.set_aside(rows, records, backup, fault, poison);
        }
        self.take_back(backup)?;
        let half = rows.len() / 2;
        self.update_carefully(&rows.part(0, half)?, records, poison)?;
        self.update_carefully(&rows.part(half, rows.len())?, records, poison)
    }

    fn back_up(&mut self) -> Result<Backup, Error> {
        let slots = self.books.groups.slots();
        let states = self.snapshot(&slots)?;
        Ok(Backup { books: self.books.clone(), slots, states })
    }

    /// Makes everything as it was, with a new instance.
    fn take_back(&mut self, backup: Backup) -> Result<(), Error> {
        self.plugin.renew().map_err(self.failure_in("init"))?;
        let version = self.plan.aggregates[self.aggregate].state_version;
        for (slots, states) in backup.slots.chunks(SLOTS_PER_CALL).zip(&backup.states) {
            self.plugin.restore(slots, version, states).map_err(self.failure_in("restore"))?;
        }
        self.books = backup.books;
        if let Open::Sliding(panes) = &mut self.books.open {
            panes.forget_sums(&mut self.books.groups);
        }
        Ok(())
    }

    /// Sets aside the one row on which the plugin has just failed.
    fn set_aside(
        &mut self,
        rows: &Rows,
        records: &RawBatch,
        backup: Backup,
        fault: Fault,
        poison: &mut Vec<Poison>,
    ) -> Result<(), Error> {
        let (aggregate, offset) = (self.aggregate, rows.offset(0));
        let origin = (rows.origins.partition, offset);
        let version = self.plan.aggregates[aggregate].state_version;
        // The slots of the failed call are still there.
        let slot = self.slots.first().copied();
        let state = slot.and_then(|slot| backup.state(slot)).map(|state| (version, state.to_vec()));
        let call = FaultyCall::Update { state, inputs: rows.inputs.clone() };
        poison.push(Poison {
            letter: DeadLetter::of_row(records, offset, aggregate, fault.to_string()),
            report: FaultReport { fault: fault.clone(), aggregate: Some(aggregate), origin, call },
        });
        self.counts.set_aside += 1;
        self.take_back(backup)?;
        match self.breaker.fault(&self.rules, origin) {
            Some(cause) => Err(self.failure(fault, cause)),
            None => Ok(()),
        }
    }
}
