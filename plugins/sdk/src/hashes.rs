//! An exact set of hashes, for groups that mostly have a handful.

use crate::codec::{Broken, Codec, Reader};
use crate::input::Hash64;
use alloc::vec::Vec;

/// Hashes kept in place, without heap memory: a typical session sees fewer distinct pages than this.
const INLINE: usize = 7;

/// An exact set of hashes, ascending: up to 7 in place, more on the heap.
///
/// Its form and bytes depend on the set alone, never on the order in which hashes were added or merged.
#[derive(Clone, Debug)]
pub struct Hashes(Form);

#[derive(Clone, Debug)]
enum Form {
    Few(u8, [Hash64; INLINE]),
    Many(Vec<Hash64>),
}

impl Default for Hashes {
    fn default() -> Self {
        Self(Form::Few(0, [Hash64(0); INLINE]))
    }
}

impl Hashes {
    /// The set in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Hash64] {
        match &self.0 {
            Form::Few(len, hashes) => &hashes[..usize::from(*len)],
            Form::Many(hashes) => hashes,
        }
    }

    /// How many hashes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a hash, if it is new.
    #[inline]
    pub fn add(&mut self, hash: Hash64) {
        let at = match &self.0 {
            Form::Few(len, hashes) => {
                let hashes = &hashes[..usize::from(*len)];
                let at = hashes.iter().take_while(|known| **known < hash).count();
                if hashes.get(at) == Some(&hash) {
                    return;
                }
                at
            }
            Form::Many(hashes) => match hashes.binary_search(&hash) {
                Ok(_) => return,
                Err(at) => at,
            },
        };
        self.insert(at, hash);
    }

    fn insert(&mut self, at: usize, hash: Hash64) {
        match &mut self.0 {
            Form::Few(len, hashes) if usize::from(*len) < INLINE => {
                hashes[at..=usize::from(*len)].rotate_right(1);
                hashes[at] = hash;
                *len += 1;
            }
            Form::Few(_, hashes) => {
                let mut many = Vec::with_capacity(2 * INLINE);
                many.extend_from_slice(&hashes[..at]);
                many.push(hash);
                many.extend_from_slice(&hashes[at..]);
                self.0 = Form::Many(many);
            }
            Form::Many(hashes) => hashes.insert(at, hash),
        }
    }

    /// Adds all hashes of `other`.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            // Two long lists are joined in one go: one by one would move the longer one for every hash.
            (Form::Many(hashes), Form::Many(others)) => {
                hashes.extend_from_slice(others);
                hashes.sort_unstable();
                hashes.dedup();
            }
            _ => other.as_slice().iter().for_each(|hash| self.add(*hash)),
        }
    }
}

impl PartialEq for Hashes {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Codec for Hashes {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        for hash in self.as_slice() {
            hash.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let hashes = Vec::<Hash64>::decode(from)?;
        if !hashes.is_sorted_by(|a, b| a < b) {
            return Err("set out of order");
        }
        if hashes.len() > INLINE {
            return Ok(Self(Form::Many(hashes)));
        }
        let mut few = Self::default();
        for hash in hashes {
            few.add(hash);
        }
        Ok(few)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    fn of(values: &[u8]) -> Hashes {
        let mut set = Hashes::default();
        for value in values {
            set.add(Hash64(u64::from(*value)));
        }
        set
    }

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds_however_it_came(a: Vec<u8>, b in prop::collection::vec(0u8..9, 0..12)) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let want: BTreeSet<u64> = a.iter().chain(&b).map(|v| u64::from(*v)).collect();
            prop_assert!(merged.as_slice().iter().map(|hash| hash.0).eq(want));
            let mut bytes = Vec::new();
            merged.encode(&mut bytes);
            prop_assert_eq!(Hashes::decode(&mut Reader::new(&bytes)), Ok(merged));
        }
    }

    #[test]
    fn a_set_out_of_order_is_refused() {
        let mut bytes = Vec::new();
        alloc::vec![Hash64(2), Hash64(1)].encode(&mut bytes);
        assert!(Hashes::decode(&mut Reader::new(&bytes)).is_err());
    }
}
