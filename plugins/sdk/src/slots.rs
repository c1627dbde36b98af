//! The states of all slots, in blocks: more of them never moves those that are there, nor takes twice the memory.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// States in a block: few enough that a plugin with one group is small, enough that millions are few blocks.
const BLOCK: usize = 512;

/// A state for each slot up to the largest that was asked for, empty by default.
#[derive(Debug)]
pub(crate) struct Slots<S>(Vec<Box<[S]>>);

impl<S: Default> Slots<S> {
    /// Of no slots.
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sees to it that there is a state for each of `slots`.
    pub(crate) fn reach(&mut self, slots: &[u32]) {
        // Nobody's slot, the largest number there is, wraps to 0.
        let wanted = slots.iter().map(|slot| slot.wrapping_add(1)).max().unwrap_or(0) as usize;
        while self.0.len() * BLOCK < wanted {
            self.0.push((0..BLOCK).map(|_| S::default()).collect());
        }
    }

    /// The state of a slot; `None` for one that was not asked for, such as nobody's.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut S> {
        self.0.get_mut(slot as usize / BLOCK)?.get_mut(slot as usize % BLOCK)
    }
}

impl<S> Index<u32> for Slots<S> {
    type Output = S;

    fn index(&self, slot: u32) -> &S {
        &self.0[slot as usize / BLOCK][slot as usize % BLOCK]
    }
}

impl<S> IndexMut<u32> for Slots<S> {
    fn index_mut(&mut self, slot: u32) -> &mut S {
        &mut self.0[slot as usize / BLOCK][slot as usize % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_stay_where_they_are_when_more_come() {
        let mut slots: Slots<u64> = Slots::new();
        slots.reach(&[3]);
        slots[3] = 7;
        let place = core::ptr::from_ref(&slots[3]);
        slots.reach(&[1_000_000, u32::MAX]);
        assert_eq!((slots[3], core::ptr::from_ref(&slots[3]), slots[1_000_000]), (7, place, 0));
    }

    #[test]
    fn nobody_has_no_state() {
        let mut slots: Slots<u64> = Slots::new();
        slots.reach(&[u32::MAX]);
        assert!(slots.0.is_empty() && slots.get_mut(u32::MAX).is_none());
    }
}
