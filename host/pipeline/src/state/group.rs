//! The groups of one shard: dense slots that are used again, and what changed since the last cut.

use super::delta::{GroupEntry, GroupId};
use crate::mutation::{self, Mutation};
use crate::plugin::NOBODY;

/// No group: the end of a list of slots.
pub(crate) const NONE: u32 = NOBODY;

/// One open group.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The key's bytes.
    pub(crate) key: Box<[u8]>,
    /// Their hash.
    pub(crate) hash: u64,
    /// The window's start, or the session's first event.
    pub(crate) start: i64,
    /// The session's last event; the start again for a window.
    pub(crate) last: i64,
    /// Another session of the same key, or [`NONE`].
    pub(crate) next: u32,
    /// Under which start the last cut has it.
    persisted: Option<i64>,
    changed: bool,
    live: bool,
    /// How often the slot was given away: tells an old note about it from a new one.
    pub(crate) generation: u32,
}

/// All groups of a shard, by slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    slots: Vec<Group>,
    free: Vec<u32>,
    changed: Vec<u32>,
    gone: Vec<GroupId>,
    live: usize,
}

impl Groups {
    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// The slots of all that are open, ascending.
    pub(crate) fn slots(&self) -> Vec<u32> {
        (0..).zip(&self.slots).filter(|(_, group)| group.live).map(|(slot, _)| slot).collect()
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &Group {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Group {
        &mut self.slots[slot as usize]
    }

    /// Opens a group that no cut has seen.
    pub(crate) fn open(&mut self, key: &[u8], hash: u64, start: i64, last: i64) -> u32 {
        let group = Group {
            key: key.into(),
            hash,
            start,
            last,
            next: NONE,
            persisted: None,
            changed: false,
            live: true,
            generation: 0,
        };
        self.live += 1;
        if let Some(slot) = self.free.pop() {
            let old = &mut self.slots[slot as usize];
            // A slot that was noted as changed, given back and opened again in one interval is noted already.
            *old = Group { generation: old.generation, changed: old.changed, ..group };
            slot
        } else {
            self.slots.push(group);
            (self.slots.len() - 1) as u32
        }
    }

    /// Opens a group as the last cut has it.
    pub(crate) fn reopen(&mut self, entry: &GroupEntry, hash: u64) -> u32 {
        let slot = self.open(&entry.id.key, hash, entry.id.start_us, entry.last_us);
        self.slots[slot as usize].persisted = Some(entry.id.start_us);
        slot
    }

    /// Notes that a group changed.
    #[inline]
    pub(crate) fn touch(&mut self, slot: u32) {
        let group = &mut self.slots[slot as usize];
        if !group.changed {
            group.changed = true;
            self.changed.push(slot);
        }
    }

    /// Forgets a group; its slot may be given out again.
    pub(crate) fn close(&mut self, slot: u32) {
        let group = &mut self.slots[slot as usize];
        if let Some(start_us) = group.persisted.take()
            && !mutation::on(Mutation::ReleaseForgotten)
        {
            self.gone.push(GroupId { key: group.key.to_vec(), start_us });
        }
        group.live = false;
        group.generation = group.generation.wrapping_add(1);
        group.key = Box::default();
        self.free.push(slot);
        self.live -= 1;
    }

    /// Everything that changed since the last call: groups gone, and groups to put with their slots. Afterwards all
    /// is as the cut has it.
    pub(crate) fn take_changes(&mut self) -> (Vec<GroupId>, Vec<GroupEntry>, Vec<u32>) {
        let mut slots = std::mem::take(&mut self.changed);
        let mut puts = Vec::with_capacity(slots.len());
        slots.retain(|&slot| {
            let group = &mut self.slots[slot as usize];
            group.changed = false;
            if !group.live {
                return false;
            }
            if let Some(start_us) = group.persisted.replace(group.start)
                && start_us != group.start
                && !mutation::on(Mutation::OldStartKept)
            {
                self.gone.push(GroupId { key: group.key.to_vec(), start_us });
            }
            let id = GroupId { key: group.key.to_vec(), start_us: group.start };
            puts.push(GroupEntry { id, last_us: group.last });
            true
        });
        (std::mem::take(&mut self.gone), puts, slots)
    }
}
