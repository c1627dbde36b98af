//! Groups by where they start, and then by key: a table for each window, or each pane of one.

use super::group::Groups;
use hashbrown::HashTable;
use std::collections::BTreeMap;

/// Slots of groups, found by start and key.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByStart(BTreeMap<i64, HashTable<u32>>);

impl ByStart {
    /// The slot of a key's group that starts at `start`; where there is none, of what `open` opens.
    pub(crate) fn slot(
        &mut self,
        groups: &mut Groups,
        start: i64,
        (key, hash): (&[u8], u64),
        open: impl FnOnce(&mut Groups) -> u32,
    ) -> u32 {
        let table = self.0.entry(start).or_default();
        if let Some(&slot) = table.find(hash, |&slot| *groups.get(slot).key == *key) {
            return slot;
        }
        let slot = open(groups);
        table.insert_unique(hash, slot, |&slot| groups.get(slot).hash);
        slot
    }

    /// Takes in a group that was opened from a checkpoint.
    pub(crate) fn adopt(&mut self, groups: &Groups, start: i64, slot: u32) {
        self.0.entry(start).or_default().insert_unique(groups.get(slot).hash, slot, |&s| groups.get(s).hash);
    }

    /// The first start.
    pub(crate) fn first(&self) -> Option<i64> {
        self.0.first_key_value().map(|(&start, _)| start)
    }

    /// The last start.
    pub(crate) fn last(&self) -> Option<i64> {
        self.0.last_key_value().map(|(&start, _)| start)
    }

    /// Forgets all groups that start at `start`, and gives their slots, by key.
    pub(crate) fn take(&mut self, groups: &Groups, start: i64) -> Vec<u32> {
        let mut slots: Vec<u32> = self.0.remove(&start).into_iter().flatten().collect();
        slots.sort_unstable_by(|&a, &b| groups.get(a).key.cmp(&groups.get(b).key));
        slots
    }

    /// What finding them takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.0.values().map(HashTable::allocation_size).sum()
    }
}
