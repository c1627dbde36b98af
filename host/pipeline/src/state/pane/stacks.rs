//! What one key has in the last window closed: its panes, and sums of them from which the next windows are made.
//!
//! ```text
//! panes of the window   │ a │ b │ c ║ d │ e │ f │
//! sums                    ╰─── abc                 of the older: one from each pane on
//!                             ╰─ bc                of the newer: one in all
//!                                      ╰── def
//! ```
//!
//! A window is then one sum of the older and that of the newer, whatever the number of its panes. The boundary between
//! the two moves by a whole window at a time: then the newer become the older and are summed anew. That happens to each
//! key at instants of its own, so that no window has to do it for all.
//!
//! # Source
//! Two stacks: Tangwongsan, Hirzel, Schneider, "Low-latency sliding-window aggregation in worst-case constant time",
//! DEBS 2017, section 2. With windows of a fixed number of panes the instants at which stacks are turned are known
//! beforehand, as in van Herk, "A fast algorithm for local minimum and maximum filters on rectangular and octagonal
//! kernels", Pattern Recognition Letters 13(7), 1992.

use super::Part;
use super::closing::Script;
use crate::mutation::{self, Mutation};
use crate::state::group::{Groups, NONE};
use crate::window::Even;
use std::collections::VecDeque;

/// One key's panes and sums.
#[derive(Clone, Debug)]
pub(super) struct Stacks {
    /// The key's mark, which says what of it was given out.
    pub(super) mark: u32,
    /// Its panes in the window, by their start. They do not change any more.
    panes: VecDeque<u32>,
    /// The start of the first pane that is one of the newer; `i64::MIN` where nothing is summed.
    boundary: i64,
    /// How many of the panes are older.
    older: usize,
    /// Of each of the older but the last: the sum of it and of all older ones after it.
    sums: VecDeque<u32>,
    /// The sum of the first `totalled` of the newer panes; [`NONE`] where that is one at most.
    total: u32,
    totalled: usize,
}

/// A part of what a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) slot: u32,
    /// Whether nothing else needs it any more.
    pub(super) last_use: bool,
}

impl Stacks {
    pub(super) fn new(mark: u32, pane: u32) -> Self {
        let panes = VecDeque::from([pane]);
        Self { mark, panes, boundary: i64::MIN, older: 0, sums: VecDeque::new(), total: NONE, totalled: 0 }
    }

    /// A pane that comes into the window.
    pub(super) fn push(&mut self, pane: u32) {
        self.panes.push_back(pane);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// The slot of its newest pane.
    pub(super) fn last_pane(&self) -> u32 {
        self.panes.back().copied().unwrap_or(NONE)
    }

    /// Sees to it that all sums are there from which the window that starts at `start` is made.
    pub(super) fn sum_up(&mut self, groups: &mut Groups, grid: &Even, start: i64, script: &mut Script) {
        let boundary = boundary_after(grid, start, groups.get(self.mark).hash);
        if self.boundary != boundary {
            for slot in self.forget_sums() {
                script.release_lent(slot);
            }
            self.boundary = boundary;
            let first_newer = Part::Pane(boundary).id(grid);
            self.older = self.panes.partition_point(|&pane| groups.get(pane).start < first_newer);
            self.sum_up_older(groups, script);
        }
        self.sum_up_newer(groups, script);
    }

    /// From the last but one on back: each is a copy of the sum after it, with the pane. Not the other way round: what
    /// is larger takes in the smaller for less.
    fn sum_up_older(&mut self, groups: &mut Groups, script: &mut Script) {
        let mut older = self.panes.iter().take(self.older).rev();
        let Some(&last) = older.next() else { return };
        let mut after = last;
        for (round, &pane) in older.enumerate() {
            let sum = groups.lend();
            let step = script.turn(round);
            step.copy(after, sum);
            step.merge_copy(groups, sum, pane);
            self.sums.push_front(sum);
            after = sum;
        }
    }

    fn sum_up_newer(&mut self, groups: &mut Groups, script: &mut Script) {
        let newer = self.panes.len() - self.older;
        if newer < 2 || (self.total != NONE && mutation::on(Mutation::StaleSum)) {
            return;
        }
        if self.total == NONE {
            self.total = groups.lend();
            self.totalled = 1;
            script.totals.copy(self.panes[self.older], self.total);
        }
        for &pane in self.panes.iter().skip(self.older + self.totalled) {
            script.totals.merge_copy(groups, self.total, pane);
        }
        self.totalled = newer;
    }

    /// The sums that make the window that starts at `start`, one or two.
    pub(super) fn pieces(&self, groups: &Groups, grid: &Even, start: i64) -> [Option<Piece>; 2] {
        let older = (self.older > 0).then(|| {
            let last_use = self.leaves(groups, grid, start);
            Piece { slot: self.sums.front().copied().unwrap_or(self.panes[0]), last_use }
        });
        let newer = self.panes.get(self.older).map(|&pane| {
            let slot = if self.total == NONE { pane } else { self.total };
            Piece { slot, last_use: false }
        });
        [older, newer]
    }

    /// Whether its first pane is in no later window.
    fn leaves(&self, groups: &Groups, grid: &Even, start: i64) -> bool {
        self.panes.front().is_some_and(|&pane| groups.get(pane).start <= Part::Pane(start).id(grid))
    }

    /// Lets go of the pane that is in no later window than this, and of its sum.
    pub(super) fn leave(&mut self, groups: &Groups, grid: &Even, start: i64, script: &mut Script) {
        let early = start + i64::from(mutation::on(Mutation::PaneReleasedTooEarly)) * grid.step;
        if self.leaves(groups, grid, early)
            && let Some(pane) = self.panes.pop_front()
        {
            script.release_group(pane);
            self.older = self.older.saturating_sub(1);
            if let Some(sum) = self.sums.pop_front() {
                script.release_lent(sum);
            }
        }
        if self.is_empty() {
            script.release_group(self.mark);
            for slot in self.forget_sums() {
                script.release_lent(slot);
            }
        }
    }

    /// Forgets all sums, and gives their slots.
    pub(super) fn forget_sums(&mut self) -> impl Iterator<Item = u32> + use<> {
        (self.boundary, self.older, self.totalled) = (i64::MIN, 0, 0);
        let total = std::mem::replace(&mut self.total, NONE);
        std::mem::take(&mut self.sums).into_iter().chain((total != NONE).then_some(total))
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + (self.panes.capacity() + self.sums.capacity()) * size_of::<u32>()
    }
}

/// The first boundary after `start`, of those that a key with this hash has: one in each window.
fn boundary_after(grid: &Even, start: i64, hash: u64) -> i64 {
    let panes = grid.windows_per_event();
    // By the higher bits: the lowest say which share of keys a shadow gets.
    let phase = ((hash >> 32) % panes.unsigned_abs()) as i64;
    let number = start.saturating_sub(grid.offset).div_euclid(grid.step);
    let since = number.wrapping_sub(phase).rem_euclid(panes);
    start.saturating_add((panes - since) * grid.step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn boundaries_are_a_window_apart_and_on_the_grid(
            number in -1_000i64..1_000, hash in any::<u64>(), panes in 2i64..8, step in 3i64..9, offset in 0i64..3,
        ) {
            let grid = Even { size: panes * step, step, offset };
            let start = number * step + offset;
            let boundary = boundary_after(&grid, start, hash);
            prop_assert!(start < boundary && boundary <= grid.end(start));
            prop_assert_eq!((boundary - offset).rem_euclid(step), 0);
            prop_assert_eq!(boundary_after(&grid, boundary - step, hash), boundary);
            prop_assert_eq!(boundary_after(&grid, boundary, hash), boundary + grid.size);
        }
    }
}
