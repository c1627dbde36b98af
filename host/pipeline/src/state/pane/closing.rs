//! Closes sliding windows: which states are to be copied and merged, and where the results are then.

use super::stacks::{Piece, Stacks};
use super::{Panes, Part};
use crate::mutation::{self, Mutation};
use crate::state::group::{Groups, Over};
use std::cmp::Ordering;

/// Copies to be made, and then mergers.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Slots whose states are copied.
    pub(crate) from: Vec<u32>,
    /// The slots that get them.
    pub(crate) to: Vec<u32>,
    /// Slots into which others are merged.
    pub(crate) into: Vec<u32>,
    /// The slots merged into them, which are empty then.
    pub(crate) others: Vec<u32>,
    /// Slots lent for this step.
    lent: Vec<u32>,
}

impl Step {
    pub(super) fn copy(&mut self, from: u32, to: u32) {
        self.from.push(from);
        self.to.push(to);
    }

    fn merge(&mut self, into: u32, other: u32) {
        self.into.push(into);
        self.others.push(other);
    }

    /// A copy in a slot that is lent until the window is closed.
    fn copy_of(&mut self, groups: &mut Groups, from: u32) -> u32 {
        let copy = groups.lend();
        self.lent.push(copy);
        self.copy(from, copy);
        copy
    }

    /// Merges a copy of what is left as it is.
    pub(super) fn merge_copy(&mut self, groups: &mut Groups, into: u32, from: u32) {
        let copy = self.copy_of(groups, from);
        self.merge(into, copy);
    }
}

/// What is to be done to close a window.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Where the newer panes became the older: the sums of these, a round for each but one.
    turns: Vec<Step>,
    /// The sums of the newer panes.
    pub(super) totals: Step,
    /// The window of each key out of two sums or three.
    results: Step,
    over: Vec<Over>,
    released: Vec<u32>,
    gone: Vec<u32>,
    lent: Vec<u32>,
}

impl Script {
    /// The step of a round of sums of older panes.
    pub(super) fn turn(&mut self, round: usize) -> &mut Step {
        if self.turns.len() <= round {
            self.turns.resize_with(round + 1, Step::default);
        }
        &mut self.turns[round]
    }

    /// Releases the state of a group that ends with the window.
    pub(super) fn release_group(&mut self, slot: u32) {
        self.released.push(slot);
        self.gone.push(slot);
    }

    /// Releases the state in a slot that was lent.
    pub(super) fn release_lent(&mut self, slot: u32) {
        self.released.push(slot);
        self.lent.push(slot);
    }

    /// A slot with all that a key has in the window: sums of panes, and what came too late for other windows.
    fn result(&mut self, groups: &mut Groups, pieces: [Option<Piece>; 2], single: Option<u32>) -> Option<u32> {
        let mut pieces = [pieces[0], pieces[1], single.map(|slot| Piece { slot, last_use: true })];
        // What nothing else needs may take in the others; where there is one piece, it may stay as it is.
        pieces.sort_by_key(|piece| piece.map_or(2, |piece| u8::from(!piece.last_use)));
        let [first, others @ ..] = pieces;
        let first = first?;
        let into = if first.last_use || others[0].is_none() {
            first.slot
        } else {
            let copy = self.results.copy_of(groups, first.slot);
            self.released.push(copy);
            copy
        };
        for piece in others.into_iter().flatten() {
            if piece.last_use {
                self.results.merge(into, piece.slot);
            } else {
                self.results.merge_copy(groups, into, piece.slot);
            }
        }
        if let Some(single) = single {
            if into == single { self.release_group(single) } else { self.gone.push(single) }
        }
        Some(into)
    }
}

/// A window that is over: what makes its results, and what ends with it.
#[derive(Debug)]
pub(crate) struct Closing {
    /// What is to be done first, in this order.
    pub(crate) steps: Vec<Step>,
    /// Whose results are to be given then, by key.
    pub(crate) over: Vec<Over>,
    /// Slots that the plugin is to release after that.
    pub(crate) released: Vec<u32>,
    gone: Vec<u32>,
    lent: Vec<u32>,
}

impl Closing {
    /// Ends what ends with the window.
    pub(crate) fn end(self, groups: &mut Groups) {
        for slot in self.gone {
            groups.close(slot);
        }
        for slot in self.lent.into_iter().chain(self.steps.into_iter().flat_map(|step| step.lent)) {
            groups.take_back(slot);
        }
    }
}

impl From<Script> for Closing {
    fn from(script: Script) -> Self {
        let Script { turns, totals, results, over, released, gone, lent } = script;
        let steps =
            turns.into_iter().chain([totals, results]).filter(|step| !step.into.is_empty() || !step.to.is_empty());
        Self { steps: steps.collect(), over, released, gone, lent }
    }
}

impl Panes {
    /// The next window, if it is over at `watermark`. It is forgotten here; its groups stay until it has ended.
    pub(crate) fn close_next(&mut self, groups: &mut Groups, watermark: i64) -> Option<Closing> {
        let start = self.next_window().filter(|&start| self.is_over(start, watermark))?;
        let newest_pane = start.saturating_add(self.grid.size - self.grid.step);
        while let Some(pane) = self.open.first().filter(|&pane| pane <= newest_pane) {
            self.enter(groups, pane, start);
        }
        let mut singles = self.single.take(groups, start).into_iter().peekable();
        let mut script = Script::default();
        let mut all = std::mem::take(&mut self.stacks);
        for stacks in &mut all {
            let order = |groups: &Groups, single: u32| groups.get(single).key.cmp(&groups.get(stacks.mark).key);
            while let Some(single) = singles.next_if(|&single| order(groups, single) == Ordering::Less) {
                self.give(groups, start, None, Some(single), &mut script);
            }
            let single = singles.next_if(|&single| order(groups, single) == Ordering::Equal);
            self.give(groups, start, Some(stacks), single, &mut script);
            stacks.leave(groups, &self.grid, start, &mut script);
            if stacks.is_empty() {
                self.forget_mark(groups, stacks.mark);
            }
        }
        for single in singles {
            self.give(groups, start, None, Some(single), &mut script);
        }
        all.retain(|stacks| !stacks.is_empty());
        self.stacks_bytes = all.iter().map(Stacks::bytes).sum();
        self.stacks = all;
        self.next = self.next.max(start.saturating_add(self.grid.step));
        Some(script.into())
    }

    /// The first window with rows that is not closed, as far as can be told.
    fn next_window(&self) -> Option<i64> {
        let by_panes = if self.stacks.is_empty() {
            self.open.first().map(|pane| self.grid.oldest_start(pane).max(self.next))
        } else {
            Some(self.next)
        };
        [by_panes, self.single.first()].into_iter().flatten().min()
    }

    /// A pane comes into the window that starts at `start`.
    fn enter(&mut self, groups: &mut Groups, pane: i64, start: i64) {
        let known = self.stacks.len();
        let mut at = 0;
        for slot in self.open.take(groups, pane) {
            let order = loop {
                let Some(stacks) = self.stacks[..known].get(at) else { break Ordering::Greater };
                match groups.get(stacks.mark).key.cmp(&groups.get(slot).key) {
                    Ordering::Less => at += 1,
                    order => break order,
                }
            };
            if order == Ordering::Equal {
                self.stacks[at].push(slot);
            } else {
                let mark = self.mark(groups, slot, start);
                self.stacks.push(Stacks::new(mark, slot));
            }
        }
        if self.stacks.len() > known {
            // Two sorted runs, which this sort merges.
            self.stacks.sort_by(|a, b| groups.get(a.mark).key.cmp(&groups.get(b.mark).key));
        }
    }

    /// The mark of a pane's key: that of a checkpoint, or a new one.
    fn mark(&mut self, groups: &mut Groups, pane: u32, start: i64) -> u32 {
        let (key, hash) = (groups.get(pane).key.clone(), groups.get(pane).hash);
        if let Some(&mark) = self.marks.find(hash, |&mark| groups.get(mark).key == key) {
            return mark;
        }
        let mark = groups.open(&key, hash, Part::Mark.id(&self.grid), start);
        self.marks.insert_unique(hash, mark, |&mark| groups.get(mark).hash);
        mark
    }

    fn forget_mark(&mut self, groups: &Groups, mark: u32) {
        if let Ok(entry) = self.marks.find_entry(groups.get(mark).hash, |&other| other == mark) {
            entry.remove();
        }
    }

    /// Gives out the window of one key, unless it is another version's, or was given out before the last checkpoint.
    fn give(
        &self,
        groups: &mut Groups,
        start: i64,
        stacks: Option<&mut Stacks>,
        single: Option<u32>,
        script: &mut Script,
    ) {
        let given = |mark: u32| groups.get(mark).last > start;
        if !self.starts.contain(start) || stacks.as_ref().is_some_and(|stacks| given(stacks.mark)) {
            if let Some(single) = single {
                script.release_group(single);
            }
            return;
        }
        let mut pieces = [None; 2];
        let mut of = single;
        if let Some(stacks) = stacks {
            stacks.sum_up(groups, &self.grid, start, script);
            pieces = stacks.pieces(groups, &self.grid, start);
            of = Some(stacks.mark);
            if !mutation::on(Mutation::MarkForgotten) {
                groups.get_mut(stacks.mark).last = start.saturating_add(self.grid.step);
                groups.touch(stacks.mark);
            }
        }
        if let (Some(slot), Some(of)) = (script.result(groups, pieces, single), of) {
            script.over.push(Over { slot, of, start, end: self.grid.end(start) });
        }
    }
}
