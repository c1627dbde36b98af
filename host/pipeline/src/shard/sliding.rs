//! What a shard asks of its plugin for sliding windows that share panes.

#[cfg(test)]
mod tests;

use super::{Open, SLOTS_PER_CALL, Shard};
use crate::error::Error;
use crate::exchange::Rows;
use crate::plugin::Fault;
use crate::shadow::Closed;
use crate::state::pane::{Singles, Step};
use arrow_array::{ArrayRef, UInt32Array};

/// How many states are copied in one call at most: with states of some KB they stay in the cache of a core on their way.
const COPIES_PER_CALL: usize = 256;

impl Shard {
    /// Adds the rows that are too late for some of their windows to the others.
    pub(super) fn update_singles(&mut self, singles: &Singles, rows: &Rows) -> Result<(), Fault> {
        // Of a row that stands alone it is to be known on which of its windows the plugin fails.
        let most = if rows.len() == 1 { 1 } else { SLOTS_PER_CALL };
        for (numbers, slots) in singles.rows.chunks(most).zip(singles.slots.chunks(most)) {
            let numbers = UInt32Array::from(numbers.to_vec());
            let take = |column: &ArrayRef| {
                arrow_select::take::take(column, &numbers, None).expect("the numbers are of rows of this batch")
            };
            let inputs: Vec<ArrayRef> = rows.inputs.iter().map(take).collect();
            self.slots.clear();
            self.slots.extend_from_slice(slots);
            self.plugin.update(&self.slots, &inputs)?;
        }
        Ok(())
    }

    /// Closes one window after the other, as long as they are over.
    pub(super) fn close_sliding(&mut self, watermark: i64, out: &mut Vec<Closed>) -> Result<(), Error> {
        loop {
            let Open::Sliding(panes) = &mut self.books.open else { return Ok(()) };
            let Some(closing) = panes.close_next(&mut self.books.groups, watermark) else { return Ok(()) };
            for step in &closing.steps {
                self.carry_out(step)?;
            }
            for over in closing.over.chunks(SLOTS_PER_CALL) {
                self.give(over, out)?;
            }
            for slots in closing.released.chunks(SLOTS_PER_CALL) {
                self.plugin.release(slots).map_err(self.failure_in("release"))?;
            }
            closing.end(&mut self.books.groups);
        }
    }

    /// Makes copies, and then mergers. The contract knows no copy of a state but what is saved and restored.
    fn carry_out(&mut self, step: &Step) -> Result<(), Error> {
        let version = self.plan.aggregates[self.aggregate].state_version;
        for (from, to) in step.from.chunks(COPIES_PER_CALL).zip(step.to.chunks(COPIES_PER_CALL)) {
            let states = self.plugin.snapshot(from).map_err(self.failure_in("snapshot"))?;
            self.plugin.restore(to, version, &states).map_err(self.failure_in("restore"))?;
        }
        for (into, others) in step.into.chunks(SLOTS_PER_CALL / 2).zip(step.others.chunks(SLOTS_PER_CALL / 2)) {
            self.plugin.merge(into, others).map_err(self.failure_in("merge"))?;
        }
        Ok(())
    }
}
