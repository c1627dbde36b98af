//! Windows that share nothing: a row counts in a group of each of its windows. Tumbling windows, and sliding ones
//! without panes.

use super::by_start::ByStart;
use super::group::Groups;
use crate::event::Times;
use crate::key::Keys;
use crate::plugin::NOBODY;
use crate::time::lateness::window_is_over;
use crate::version::Starts;
use crate::window::{Finder, Grid, Span};

/// The open windows of one shard.
#[derive(Clone, Debug)]
pub(crate) struct Windowed {
    grid: Grid,
    allowed_lateness: i64,
    /// The windows that are opened.
    starts: Starts,
    windows: ByStart,
    /// Per key of the batch, the window it was last seen in and its slot there.
    memo: Vec<(i64, u32)>,
}

impl Windowed {
    pub(crate) fn new(grid: Grid, allowed_lateness: i64, starts: Starts) -> Self {
        Self { grid, allowed_lateness, starts, windows: ByStart::default(), memo: Vec::new() }
    }

    /// Opens other windows from now on.
    pub(crate) fn set_starts(&mut self, starts: Starts) {
        self.starts = starts;
    }

    /// How many rounds of slots a batch needs: an event has one slot in each.
    pub(crate) fn rounds(&self) -> i64 {
        self.grid.windows_per_event()
    }

    /// The slots of `rows` in their newest window but `round`; nobody's where the row is too late for that one, or the
    /// window is another version's.
    pub(crate) fn assign(
        &mut self,
        groups: &mut Groups,
        round: i64,
        rows: impl Iterator<Item = usize>,
        times: &Times,
        keys: &Keys,
        slots: &mut Vec<u32>,
    ) {
        self.memo.clear();
        self.memo.resize(keys.len(), (0, NOBODY));
        let mut finder = Finder::new(&self.grid, round);
        for row in rows {
            let Span { start, end } = finder.window(times.events[row]);
            let over = window_is_over(end, self.allowed_lateness, times.watermarks[row]);
            if over || !self.starts.contain(start) {
                slots.push(NOBODY);
                continue;
            }
            let code = keys.code(row);
            let (seen_in, seen) = self.memo[code];
            let slot = if seen != NOBODY && seen_in == start {
                seen
            } else {
                let (key, hash) = (keys.key(code), keys.hash(code));
                let slot = self.windows.slot(groups, start, (key, hash), |groups| groups.open(key, hash, start, start));
                self.memo[code] = (start, slot);
                groups.touch(slot);
                slot
            };
            slots.push(slot);
        }
    }

    /// Takes in a group that was opened from a checkpoint; `None` where no window starts with it.
    pub(crate) fn adopt(&mut self, groups: &Groups, slot: u32) -> Option<()> {
        let start = groups.get(slot).start;
        (self.grid.step(start).start == start).then(|| self.windows.adopt(groups, start, slot))
    }

    /// The slots of all windows that are over at `watermark`, by window start and key. They are forgotten here and
    /// stay in `groups`.
    pub(crate) fn take_over(&mut self, groups: &Groups, watermark: i64) -> Vec<u32> {
        let mut over = Vec::new();
        while let Some(start) = self.windows.first() {
            if !window_is_over(self.grid.end(start), self.allowed_lateness, watermark) {
                break;
            }
            over.append(&mut self.windows.take(groups, start));
        }
        over
    }

    /// What finding them takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.windows.bytes()
    }

    /// The exclusive end of a group's window.
    pub(crate) fn end(&self, start: i64) -> i64 {
        self.grid.end(start)
    }

    /// The least watermark at which every window is over.
    pub(crate) fn last_close(&self) -> Option<i64> {
        Some(self.grid.end(self.windows.last()?).saturating_add(self.allowed_lateness))
    }
}
