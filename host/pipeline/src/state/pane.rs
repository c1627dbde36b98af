//! Sliding windows that share panes: a row counts in one group, that of its key in its pane, however many windows it
//! is in; what a window holds is the merger of its panes.
//!
//! ```text
//! panes      │ 0 │ 1 │ 2 │ 3 │ 4 │ 5 │      a pane is as wide as the step from one window to the next
//! windows    ├───────────────┤              and has the start of the newest window that it is part of
//!                ├───────────────┤
//!                    ├───────────────┤
//! ```
//!
//! A row counts in its pane if it is in time for all windows that the pane is part of. A row that is too late for some
//! counts in groups of single windows, one for each of the others. So nothing is added to a pane any more once the first
//! of its windows is closed: whatever still comes is too late for that window. What was summed of panes stays right.
//!
//! # Source
//! Panes: Li, Maier, Tufte, Papadimos, Tucker, "No pane, no gain: efficient evaluation of sliding-window aggregates over
//! data streams", SIGMOD Record 34(1), 2005.

mod closing;
mod stacks;

pub(crate) use self::closing::Step;

use self::stacks::Stacks;
use super::by_start::ByStart;
use super::group::Groups;
use crate::event::Times;
use crate::key::Keys;
use crate::mutation::{self, Mutation};
use crate::plugin::NOBODY;
use crate::time::lateness::window_is_over;
use crate::version::Starts;
use crate::window::Even;
use hashbrown::HashTable;

/// The open windows of one shard, by their panes.
#[derive(Clone, Debug)]
pub(crate) struct Panes {
    grid: Even,
    allowed_lateness: i64,
    /// The windows that it answers for.
    starts: Starts,
    /// Panes of which no window is closed, by their start.
    open: ByStart,
    /// Windows with rows that came too late for others.
    single: ByStart,
    /// The keys that have panes in the last window closed, in their order.
    stacks: Vec<Stacks>,
    /// What they took in memory then.
    stacks_bytes: usize,
    /// The mark of each of these keys, and of those that a checkpoint brought.
    marks: HashTable<u32>,
    /// The first window that is not closed.
    next: i64,
    /// Per key of the batch, the pane it was last seen in and its slot there.
    memo: Vec<(i64, u32)>,
}

/// Rows that are too late for some of their windows, once for each of the others: the rows' numbers, and the slots.
#[derive(Debug, Default)]
pub(crate) struct Singles {
    pub(crate) rows: Vec<u32>,
    pub(crate) slots: Vec<u32>,
}

/// What a group holds.
///
/// A checkpoint tells groups of one key apart by one instant. Windows start on a grid, so the instants between say what
/// else there is; a single window is written as before there were panes, and read the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Rows of the window that starts there, which are too late for others.
    Single(i64),
    /// Rows of the pane that starts there.
    Pane(i64),
    /// Nothing: it marks, as its last event, the first window of its key that was not given out.
    Mark,
}

impl Part {
    /// How many instants of a step are in use.
    const INSTANTS: i64 = 3;

    /// The instant under which a checkpoint has it.
    fn id(self, grid: &Even) -> i64 {
        match self {
            Self::Single(start) => start,
            Self::Pane(start) => start + 1,
            Self::Mark => grid.offset + 2,
        }
    }

    /// What a checkpoint has under this instant.
    fn of(id: i64, grid: &Even) -> Option<Self> {
        match id.wrapping_sub(grid.offset).rem_euclid(grid.step) {
            0 => Some(Self::Single(id)),
            1 => Some(Self::Pane(id - 1)),
            2 => Some(Self::Mark),
            _ => None,
        }
    }
}

impl Panes {
    /// The longest window with panes, µs, some 36,000 years: so that no start overflows.
    const MAX_SIZE: i64 = i64::MAX / 8;

    /// Whether windows on this grid are to share panes: there must be several, and instants between their starts.
    pub(crate) fn suit(grid: &Even) -> bool {
        grid.windows_per_event() > 1 && grid.step >= Part::INSTANTS && grid.size <= Self::MAX_SIZE
    }

    pub(crate) fn new(grid: Even, allowed_lateness: i64, starts: Starts) -> Self {
        Self {
            grid,
            allowed_lateness,
            starts,
            open: ByStart::default(),
            single: ByStart::default(),
            stacks: Vec::new(),
            stacks_bytes: 0,
            marks: HashTable::new(),
            next: i64::MIN,
            memo: Vec::new(),
        }
    }

    /// Answers for other windows from now on.
    pub(crate) fn set_starts(&mut self, starts: Starts) {
        self.starts = starts;
    }

    /// The slots of `rows` in their panes; nobody's where the row is too late for some of its windows, or all are
    /// another version's. The answer has those that are too late for some.
    pub(crate) fn assign(
        &mut self,
        groups: &mut Groups,
        rows: impl Iterator<Item = usize>,
        times: &Times,
        keys: &Keys,
        slots: &mut Vec<u32>,
    ) -> Singles {
        let mut singles = Singles::default();
        self.memo.clear();
        self.memo.resize(keys.len(), (0, NOBODY));
        // Rows mostly come in the order of their times, so that most are in the pane of the one before.
        let (mut start, mut end) = (0, 0);
        for (number, row) in (0..).zip(rows) {
            let (time, watermark, code) = (times.events[row], times.watermarks[row], keys.code(row));
            if time < start || end <= time {
                start = self.pane_of(time);
                end = start.saturating_add(self.grid.step);
            }
            let oldest = self.grid.oldest_start(start);
            if self.is_over(oldest, watermark) && !mutation::on(Mutation::LateRowInPane) {
                slots.push(NOBODY);
                self.assign_singles(groups, start, watermark, (keys.key(code), keys.hash(code)), number, &mut singles);
                continue;
            }
            let (seen_in, seen) = self.memo[code];
            let slot = if seen != NOBODY && seen_in == start {
                seen
            } else if self.starts.contain(start) || self.starts.contain(oldest) {
                let (key, hash, id) = (keys.key(code), keys.hash(code), Part::Pane(start).id(&self.grid));
                let slot = self.open.slot(groups, start, (key, hash), |groups| groups.open(key, hash, id, id));
                self.memo[code] = (start, slot);
                groups.touch(slot);
                slot
            } else {
                NOBODY
            };
            slots.push(slot);
        }
        singles
    }

    /// The groups of a row in each of its windows that it is not too late for, the newest first.
    fn assign_singles(
        &mut self,
        groups: &mut Groups,
        newest: i64,
        watermark: i64,
        key: (&[u8], u64),
        number: u32,
        singles: &mut Singles,
    ) {
        let windows = (0..self.grid.windows_per_event()).map(|back| newest - back * self.grid.step);
        for start in windows {
            if self.is_over(start, watermark) {
                break;
            }
            if self.starts.contain(start) {
                let slot = self.single.slot(groups, start, key, |groups| groups.open(key.0, key.1, start, start));
                groups.touch(slot);
                singles.rows.push(number);
                singles.slots.push(slot);
            }
        }
    }

    /// The start of the pane of an event. Those at the limits of what a time can be come somewhat closer: there a start
    /// would not be on the grid, as nothing is before the first instant.
    fn pane_of(&self, time: i64) -> i64 {
        let margin = 2 * self.grid.size;
        self.grid.newest_start(time.clamp(i64::MIN + margin, i64::MAX - margin))
    }

    fn is_over(&self, start: i64, watermark: i64) -> bool {
        window_is_over(self.grid.end(start), self.allowed_lateness, watermark)
    }

    /// Takes in a group that was opened from a checkpoint; `None` where that is none of a sliding window.
    pub(crate) fn adopt(&mut self, groups: &Groups, slot: u32) -> Option<()> {
        let group = groups.get(slot);
        match Part::of(group.start, &self.grid)? {
            Part::Single(start) => self.single.adopt(groups, start, slot),
            Part::Pane(start) => self.open.adopt(groups, start, slot),
            Part::Mark => drop(self.marks.insert_unique(group.hash, slot, |&slot| groups.get(slot).hash)),
        }
        Some(())
    }

    /// Whether a group is part of a window that this one answers for and has not closed.
    pub(crate) fn answers_for(&self, groups: &Groups, slot: u32) -> bool {
        match Part::of(groups.get(slot).start, &self.grid) {
            Some(Part::Single(start)) => self.starts.contain(start),
            Some(Part::Pane(start)) => {
                let oldest = self.grid.oldest_start(start).max(self.next);
                self.starts.contain(start) || self.starts.contain(oldest)
            }
            Some(Part::Mark) | None => false,
        }
    }

    /// Forgets what was summed of panes: the plugin has nothing of that any more.
    pub(crate) fn forget_sums(&mut self, groups: &mut Groups) {
        for stacks in &mut self.stacks {
            for slot in stacks.forget_sums() {
                groups.take_back(slot);
            }
        }
    }

    /// What finding them takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.open.bytes() + self.single.bytes() + self.marks.allocation_size() + self.stacks_bytes
    }

    /// The least watermark at which every window is over.
    pub(crate) fn last_close(&self, groups: &Groups) -> Option<i64> {
        let summed = || self.stacks.iter().map(|stacks| self.pane_start(groups, stacks.last_pane())).max();
        let last = self.open.last().or_else(summed).max(self.single.last())?;
        let own = match self.starts.before_us {
            i64::MAX => last,
            before => last.min(self.grid.newest_start(before - 1)),
        };
        Some(self.grid.end(own).saturating_add(self.allowed_lateness))
    }

    fn pane_start(&self, groups: &Groups, slot: u32) -> i64 {
        groups.get(slot).start - Part::Pane(0).id(&self.grid)
    }
}
