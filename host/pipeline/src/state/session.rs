//! Sessions: per key, runs of events with no silence longer than the gap; they grow, and merge when one event
//! bridges two.

use super::group::{Groups, NONE};
use crate::event::Times;
use crate::key::Keys;
use crate::time::lateness::session_is_over;
use hashbrown::HashTable;
use std::collections::BTreeMap;

/// The open sessions of one shard.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    gap: i64,
    allowed_lateness: i64,
    /// The first session of each key; `Group::next` leads to the others.
    by_key: HashTable<u32>,
    /// Sessions by the time they were due to end when noted here, in buckets of `width`. A session that grew since
    /// is noted anew when its bucket is looked at: growing costs nothing.
    due: BTreeMap<i64, Vec<(u32, u32)>>,
    width: i64,
}

/// Two sessions that became one: `others` went into `into`.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    pub(crate) into: Vec<u32>,
    pub(crate) others: Vec<u32>,
}

impl Sessions {
    pub(crate) fn new(gap: i64, allowed_lateness: i64) -> Self {
        // An eighth of the gap: few buckets, and a session is looked at a few times too early at most.
        let width = (gap / 8).max(1_000);
        Self { gap, allowed_lateness, by_key: HashTable::new(), due: BTreeMap::new(), width }
    }

    /// The slots of `rows`, and the merges to be made after the rows were added, in this order.
    pub(crate) fn assign(
        &mut self,
        groups: &mut Groups,
        rows: impl Iterator<Item = usize>,
        times: &Times,
        keys: &Keys,
        slots: &mut Vec<u32>,
    ) -> Merges {
        let mut merges = Merges::default();
        for row in rows {
            let code = keys.code(row);
            slots.push(self.slot(groups, times.events[row], keys.key(code), keys.hash(code), &mut merges));
        }
        merges
    }

    /// The session of the event, which grows it, opens it, or merges several into the first it touches.
    fn slot(&mut self, groups: &mut Groups, time: i64, key: &[u8], hash: u64, merges: &mut Merges) -> u32 {
        let head = self.by_key.find(hash, |&slot| *groups.get(slot).key == *key).copied().unwrap_or(NONE);
        let mut home = NONE;
        let mut before = NONE;
        let mut slot = head;
        while slot != NONE {
            let session = groups.get(slot);
            let next = session.next;
            let touches =
                time <= session.last.saturating_add(self.gap) && time.saturating_add(self.gap) >= session.start;
            if !touches {
                before = slot;
            } else if home == NONE {
                home = slot;
                before = slot;
                let session = groups.get_mut(slot);
                session.start = session.start.min(time);
                session.last = session.last.max(time);
            } else {
                let (start, last) = (session.start, session.last);
                let grown = groups.get_mut(home);
                grown.start = grown.start.min(start);
                grown.last = grown.last.max(last);
                merges.into.push(home);
                merges.others.push(slot);
                // `before` is set: `home` comes earlier in the list.
                groups.get_mut(before).next = next;
            }
            slot = next;
        }
        if home == NONE {
            home = groups.open(key, hash, time, time);
            if head == NONE {
                self.by_key.insert_unique(hash, home, |&s| groups.get(s).hash);
            } else {
                let second = std::mem::replace(&mut groups.get_mut(head).next, home);
                groups.get_mut(home).next = second;
            }
            self.note(groups, home);
        }
        groups.touch(home);
        home
    }

    /// The open session of a key that holds an instant.
    pub(crate) fn around(&self, groups: &Groups, key: &[u8], hash: u64, time: i64) -> Option<u32> {
        let mut slot = self.by_key.find(hash, |&slot| *groups.get(slot).key == *key).copied()?;
        while slot != NONE {
            let session = groups.get(slot);
            if session.start <= time && time <= session.last {
                return Some(slot);
            }
            slot = session.next;
        }
        None
    }

    /// Takes in a session that was opened from a checkpoint.
    pub(crate) fn adopt(&mut self, groups: &mut Groups, slot: u32) {
        let (hash, key) = (groups.get(slot).hash, groups.get(slot).key.clone());
        let head = self.by_key.find(hash, |&s| *groups.get(s).key == *key).copied();
        match head {
            Some(head) => {
                let second = std::mem::replace(&mut groups.get_mut(head).next, slot);
                groups.get_mut(slot).next = second;
            }
            None => {
                self.by_key.insert_unique(hash, slot, |&s| groups.get(s).hash);
            }
        }
        self.note(groups, slot);
    }

    fn note(&mut self, groups: &Groups, slot: u32) {
        let group = groups.get(slot);
        let bucket = self.deadline(group.last).div_euclid(self.width);
        self.due.entry(bucket).or_default().push((slot, group.generation));
    }

    fn deadline(&self, last: i64) -> i64 {
        last.saturating_add(self.gap).saturating_add(self.allowed_lateness)
    }

    /// The slots of all sessions that are over at `watermark`, by start and key. They are forgotten here and stay in
    /// `groups`.
    pub(crate) fn take_over(&mut self, groups: &mut Groups, watermark: i64) -> Vec<u32> {
        let mut over = Vec::new();
        let mut still_open = Vec::new();
        while let Some(bucket) = self.due.first_entry() {
            if bucket.key().saturating_mul(self.width) >= watermark {
                break;
            }
            for (slot, generation) in bucket.remove() {
                let group = groups.get(slot);
                if group.generation != generation {
                    continue;
                }
                if session_is_over(group.last, self.gap, self.allowed_lateness, watermark) {
                    over.push(slot);
                } else {
                    still_open.push(slot);
                }
            }
        }
        for slot in still_open {
            self.note(groups, slot);
        }
        for &slot in &over {
            self.unlink(groups, slot);
        }
        over.sort_unstable_by(|&a, &b| {
            let (a, b) = (groups.get(a), groups.get(b));
            a.start.cmp(&b.start).then_with(|| a.key.cmp(&b.key))
        });
        over
    }

    /// Takes a session out of its key's list.
    fn unlink(&mut self, groups: &mut Groups, slot: u32) {
        let (hash, next) = (groups.get(slot).hash, groups.get(slot).next);
        let key = &groups.get(slot).key;
        let Ok(entry) = self.by_key.find_entry(hash, |&s| groups.get(s).key == *key) else { return };
        let head = *entry.get();
        if head == slot {
            if next == NONE {
                entry.remove();
            } else {
                *entry.into_mut() = next;
            }
            return;
        }
        let mut before = head;
        while groups.get(before).next != slot {
            before = groups.get(before).next;
        }
        groups.get_mut(before).next = next;
    }

    /// What finding them takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.by_key.allocation_size()
            + self.due.values().map(|noted| noted.capacity() * size_of::<(u32, u32)>()).sum::<usize>()
    }

    /// The exclusive end of a session.
    pub(crate) fn end(&self, last: i64) -> i64 {
        last.saturating_add(self.gap)
    }

    /// The least watermark at which every session is over.
    pub(crate) fn last_close(&self, groups: &Groups) -> Option<i64> {
        let open = self.due.values().flatten().filter(|&&(slot, generation)| groups.get(slot).generation == generation);
        open.map(|&(slot, _)| self.deadline(groups.get(slot).last).saturating_add(1)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, StringArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// The sessions of one order of events, cut into batches: start, last and events of each.
    fn sessions(gap: i64, events: &[i64], batch: usize) -> Vec<(i64, i64, usize)> {
        let (mut sessions, mut groups) = (Sessions::new(gap, 0), Groups::default());
        // As the plugin keeps it: how many events each slot has.
        let mut counts: Vec<usize> = Vec::new();
        for events in events.chunks(batch) {
            let keys: ArrayRef = Arc::new(StringArray::from(vec!["ann"; events.len()]));
            let keys = Keys::of(&[&keys], events.len());
            let times = Times { events: events.to_vec().into(), watermarks: vec![i64::MIN; events.len()] };
            let mut slots = Vec::new();
            let merges = sessions.assign(&mut groups, 0..events.len(), &times, &keys, &mut slots);
            for &slot in &slots {
                counts.resize(counts.len().max(slot as usize + 1), 0);
                counts[slot as usize] += 1;
            }
            for (&into, &other) in merges.into.iter().zip(&merges.others) {
                counts[into as usize] += std::mem::take(&mut counts[other as usize]);
                groups.close(other);
            }
        }
        let over = sessions.take_over(&mut groups, i64::MAX);
        over.iter().map(|&slot| (groups.get(slot).start, groups.get(slot).last, counts[slot as usize])).collect()
    }

    /// The same from sorted events, the plain way.
    fn expected(gap: i64, mut events: Vec<i64>) -> Vec<(i64, i64, usize)> {
        events.sort_unstable();
        let runs = events.chunk_by(|a, b| b - a <= gap);
        runs.map(|run| (run[0], run[run.len() - 1], run.len())).collect()
    }

    proptest! {
        #[test]
        fn any_order_of_events_and_any_cut_gives_the_same_sessions(
            events in prop::collection::vec(0i64..200, 1..60), gap in 1i64..20, batch in 1usize..20,
        ) {
            prop_assert_eq!(sessions(gap, &events, batch), expected(gap, events));
        }
    }
}
