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
    /// How often the slot was given away: tells an old note about it from a new one.
    pub(crate) generation: u32,
    /// Under which start the last cut has it, if `persisted`. Not an `Option`: there are millions of groups.
    persisted_start: i64,
    persisted: bool,
    changed: bool,
    live: bool,
}

impl Group {
    /// Under which start the last cut has it, which is forgotten.
    fn take_persisted(&mut self) -> Option<i64> {
        std::mem::take(&mut self.persisted).then_some(self.persisted_start)
    }
}

/// A window of a key, or a session, whose result is to be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    /// The slot that holds all its rows.
    pub(crate) slot: u32,
    /// A group of the same key, which is still there.
    pub(crate) of: u32,
    /// Its start.
    pub(crate) start: i64,
    /// Its exclusive end.
    pub(crate) end: i64,
}

/// All groups of a shard, by slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    slots: Vec<Group>,
    free: Vec<u32>,
    changed: Vec<u32>,
    gone: Vec<GroupId>,
    live: usize,
    /// What the keys of open groups and of those in `gone` take on the heap.
    key_bytes: usize,
}

/// What `len` bytes take on the heap: glibc's malloc adds 8 bytes, and gives multiples of 16, 32 at least.
fn heap_bytes(len: usize) -> usize {
    if len == 0 { 0 } else { (len + 8).next_multiple_of(16).max(32) }
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

    /// What they take in memory. Slots are kept for those to come, so this falls with the keys alone.
    pub(crate) fn bytes(&self) -> usize {
        let slots = self.slots.len() * size_of::<Group>();
        let notes = (self.free.len() + self.changed.len()) * size_of::<u32>();
        slots + notes + self.gone.len() * size_of::<GroupId>() + self.key_bytes
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
            generation: 0,
            persisted_start: start,
            persisted: false,
            changed: false,
            live: true,
        };
        self.live += 1;
        self.key_bytes += heap_bytes(key.len());
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
        self.slots[slot as usize].persisted = true;
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
        let key = std::mem::take(&mut group.key);
        match group.take_persisted() {
            Some(start_us) if !mutation::on(Mutation::ReleaseForgotten) => {
                self.gone.push(GroupId { key: key.into_vec(), start_us });
            }
            _ => self.key_bytes -= heap_bytes(key.len()),
        }
        group.live = false;
        group.generation = group.generation.wrapping_add(1);
        self.free.push(slot);
        self.live -= 1;
    }

    /// Lends a slot to what is no group: no cut has it, and nobody finds it here.
    pub(crate) fn lend(&mut self) -> u32 {
        let slot = self.open(&[], 0, 0, 0);
        self.slots[slot as usize].live = false;
        self.live -= 1;
        slot
    }

    /// Takes back a slot that was lent.
    pub(crate) fn take_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// A group as a cut has it.
    pub(crate) fn entry(&self, slot: u32) -> GroupEntry {
        let group = self.get(slot);
        GroupEntry { id: GroupId { key: group.key.to_vec(), start_us: group.start }, last_us: group.last }
    }

    /// What the last cut has of them, whatever happened since then.
    pub(crate) fn persisted(&self) -> Vec<GroupId> {
        let open = self.slots.iter().filter(|group| group.persisted);
        let open = open.map(|group| GroupId { key: group.key.to_vec(), start_us: group.persisted_start });
        open.chain(self.gone.iter().cloned()).collect()
    }

    /// The slots of open groups that changed since the last cut, as the next one has them.
    pub(crate) fn changed(&self) -> Vec<u32> {
        self.changed.iter().copied().filter(|&slot| self.get(slot).live).collect()
    }

    /// Notes all groups as changed. `renamed` = as if no cut had ever seen them.
    pub(crate) fn touch_all(&mut self, renamed: bool) {
        for slot in self.slots() {
            self.touch(slot);
            if renamed {
                self.slots[slot as usize].persisted = false;
            }
        }
    }

    /// Everything that changed since the last call: groups gone, and groups to put, those of [`changed`](Self::changed)
    /// in their order. Afterwards all is as the cut has it.
    pub(crate) fn take_changes(&mut self) -> (Vec<GroupId>, Vec<GroupEntry>) {
        self.key_bytes -= self.gone.iter().map(|id| heap_bytes(id.key.len())).sum::<usize>();
        let slots = std::mem::take(&mut self.changed);
        let mut puts = Vec::with_capacity(slots.len());
        for slot in slots {
            let group = &mut self.slots[slot as usize];
            group.changed = false;
            if !group.live {
                continue;
            }
            let moved = group.take_persisted().filter(|&start_us| start_us != group.start);
            if let Some(start_us) = moved
                && !mutation::on(Mutation::OldStartKept)
            {
                self.gone.push(GroupId { key: group.key.to_vec(), start_us });
            }
            (group.persisted_start, group.persisted) = (group.start, true);
            puts.push(self.entry(slot));
        }
        (std::mem::take(&mut self.gone), puts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_takes_a_cache_line() {
        assert!(size_of::<Group>() <= 64, "{} bytes: there are millions of groups", size_of::<Group>());
    }

    #[test]
    fn keys_are_accounted_for_until_the_cut_that_tells_of_their_end() {
        let mut groups = Groups::default();
        let empty = groups.bytes();
        let slots: Vec<u32> = (0..100).map(|n| groups.open(&[n; 40], u64::from(n), 0, 0)).collect();
        for &slot in &slots {
            groups.touch(slot);
        }
        let open = groups.bytes() - empty;
        assert!(open >= 100 * (size_of::<Group>() + 40), "{open}");
        groups.take_changes();
        for &slot in &slots {
            groups.close(slot);
        }
        assert_eq!(groups.key_bytes, 100 * heap_bytes(40), "deletes hold keys");
        assert_eq!(groups.take_changes().0.len(), 100);
        assert_eq!(groups.key_bytes, 0);
    }

    #[test]
    fn a_group_that_came_and_went_between_two_cuts_leaves_nothing() {
        let mut groups = Groups::default();
        let slot = groups.open(b"short-lived", 1, 0, 0);
        groups.touch(slot);
        groups.close(slot);
        assert_eq!((groups.key_bytes, groups.take_changes().0.len()), (0, 0));
    }

    #[test]
    fn a_slot_that_is_lent_is_no_group_and_nobody_elses() {
        let mut groups = Groups::default();
        let before = groups.open(b"before", 1, 0, 0);
        groups.touch(before);
        groups.close(before);
        let lent = groups.lend();
        assert_eq!(lent, before, "slots are used again");
        let other = groups.open(b"k", 1, 0, 0);
        groups.touch_all(false);
        assert_eq!((groups.len(), groups.slots(), groups.changed()), (1, vec![other], vec![other]));
        assert_eq!((groups.take_changes().1.len(), groups.persisted().len()), (1, 1));
        groups.take_back(lent);
        assert_eq!(groups.open(b"after", 1, 0, 0), lent);
    }

    #[test]
    fn a_session_whose_start_moved_is_deleted_under_the_old_one() {
        let mut groups = Groups::default();
        let slot = groups.open(b"k", 1, 50, 50);
        groups.touch(slot);
        groups.take_changes();
        groups.get_mut(slot).start = 40;
        groups.touch(slot);
        let (gone, puts) = groups.take_changes();
        assert_eq!((gone[0].start_us, puts[0].id.start_us), (50, 40));
        groups.close(slot);
        assert_eq!(groups.take_changes().0[0].start_us, 40);
    }
}
