//! Tumbling and sliding windows: a table of groups per window start.

use super::group::Groups;
use crate::event::Times;
use crate::key::Keys;
use crate::plugin::NOBODY;
use crate::time::lateness::window_is_over;
use crate::version::Starts;
use crate::window::Grid;
use hashbrown::HashTable;
use std::collections::BTreeMap;

/// The open windows of one shard.
#[derive(Clone, Debug)]
pub(crate) struct Windowed {
    grid: Grid,
    allowed_lateness: i64,
    /// The windows that are opened.
    starts: Starts,
    windows: BTreeMap<i64, HashTable<u32>>,
    /// Per key of the batch, the window it was last seen in and its slot there.
    memo: Vec<(i64, u32)>,
}

impl Windowed {
    pub(crate) fn new(grid: Grid, allowed_lateness: i64, starts: Starts) -> Self {
        Self { grid, allowed_lateness, starts, windows: BTreeMap::new(), memo: Vec::new() }
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
        let back = round * self.grid.step;
        for row in rows {
            let start = self.grid.newest_start(times.events[row]) - back;
            let over = window_is_over(self.grid.end(start), self.allowed_lateness, times.watermarks[row]);
            if over || !self.starts.contain(start) {
                slots.push(NOBODY);
                continue;
            }
            let code = keys.code(row);
            let (seen_in, seen) = self.memo[code];
            let slot = if seen != NOBODY && seen_in == start {
                seen
            } else {
                let slot = Self::slot(&mut self.windows, groups, start, keys.key(code), keys.hash(code));
                self.memo[code] = (start, slot);
                groups.touch(slot);
                slot
            };
            slots.push(slot);
        }
    }

    fn slot(
        windows: &mut BTreeMap<i64, HashTable<u32>>,
        groups: &mut Groups,
        start: i64,
        key: &[u8],
        hash: u64,
    ) -> u32 {
        let window = windows.entry(start).or_default();
        if let Some(&slot) = window.find(hash, |&slot| *groups.get(slot).key == *key) {
            return slot;
        }
        let slot = groups.open(key, hash, start, start);
        window.insert_unique(hash, slot, |&slot| groups.get(slot).hash);
        slot
    }

    /// Takes in a group that was opened from a checkpoint.
    pub(crate) fn adopt(&mut self, groups: &Groups, slot: u32) {
        let group = groups.get(slot);
        self.windows.entry(group.start).or_default().insert_unique(group.hash, slot, |&s| groups.get(s).hash);
    }

    /// The slots of all windows that are over at `watermark`, by window start and key. They are forgotten here and
    /// stay in `groups`.
    pub(crate) fn take_over(&mut self, groups: &Groups, watermark: i64) -> Vec<u32> {
        let mut over = Vec::new();
        while let Some(entry) = self.windows.first_entry() {
            if !window_is_over(self.grid.end(*entry.key()), self.allowed_lateness, watermark) {
                break;
            }
            let mut slots: Vec<u32> = entry.remove().into_iter().collect();
            slots.sort_unstable_by(|&a, &b| groups.get(a).key.cmp(&groups.get(b).key));
            over.append(&mut slots);
        }
        over
    }

    /// What finding them takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.windows.values().map(HashTable::allocation_size).sum()
    }

    /// The exclusive end of a group's window.
    pub(crate) fn end(&self, start: i64) -> i64 {
        self.grid.end(start)
    }

    /// The least watermark at which every window is over.
    pub(crate) fn last_close(&self) -> Option<i64> {
        let (&start, _) = self.windows.last_key_value()?;
        Some(self.grid.end(start).saturating_add(self.allowed_lateness))
    }
}
