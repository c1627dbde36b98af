//! Counting distinct values approximately, in at most 2 KB a group.
//!
//! # Source
//! HyperLogLog: Flajolet, Fusy, Gandouet, Meunier 2007. Estimator: Ertl, "New cardinality estimation algorithms for
//! HyperLogLog sketches", 2017, section 4 (no bias tables, no logarithms).

use crate::codec::{Broken, Codec, Reader};
use crate::input::Hash64;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Bits of the hash that choose a register. 11: standard error 1.04 / sqrt(2048) = 2.3 %, and an entry fits 16 bits.
const BITS: u32 = 11;
/// How many registers there are.
const REGISTERS: usize = 1 << BITS;
/// Bits of a rank in a sparse entry.
const RANK_BITS: u32 = 16 - BITS;
/// The largest rank kept: reached after some 2^42 distinct values only.
const MAX_RANK: u8 = (1 << RANK_BITS) - 1;
/// With more registers than this in use a sketch is dense; with fewer it is a list of 2-byte entries.
const MAX_SPARSE: usize = 128;
/// What stands in place of a list's length before the registers of a dense sketch.
const DENSE: u64 = MAX_SPARSE as u64 + 1;

/// A HyperLogLog sketch of hashes: the standard error of `estimate` is 2.3 %.
///
/// Its form and bytes depend on the set of hashes alone, never on the order in which they were added or merged:
/// sparse while at most 128 registers are in use, dense from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distinct(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Register above rank in each entry; ascending, each register once, no rank of 0.
    Sparse(Vec<u16>),
    /// A rank per register.
    Dense(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self(Form::Sparse(Vec::new()))
    }
}

impl Distinct {
    /// Adds a value by its hash.
    #[inline]
    pub fn add(&mut self, hash: Hash64) {
        let register = (hash.0 >> (64 - BITS)) as u16;
        let rank = ((hash.0 << BITS).leading_zeros() + 1).min(u32::from(MAX_RANK)) as u8;
        match &mut self.0 {
            Form::Dense(ranks) => {
                let known = &mut ranks[register as usize];
                *known = rank.max(*known);
            }
            Form::Sparse(_) => self.add_sparse(register, rank),
        }
    }

    fn add_sparse(&mut self, register: u16, rank: u8) {
        let Form::Sparse(entries) = &mut self.0 else { return };
        let first = register << RANK_BITS;
        let entry = first | u16::from(rank);
        let at = entries.partition_point(|&e| e < first);
        match entries.get_mut(at) {
            Some(known) if *known >> RANK_BITS == register => *known = entry.max(*known),
            _ => {
                entries.insert(at, entry);
                if entries.len() > MAX_SPARSE {
                    self.dense();
                }
            }
        }
    }

    /// The registers, after making the sketch dense.
    fn dense(&mut self) -> &mut [u8; REGISTERS] {
        if let Form::Sparse(entries) = &self.0 {
            let mut ranks = Box::new([0; REGISTERS]);
            for (register, rank) in entries.iter().map(|&entry| split(entry)) {
                ranks[register as usize] = rank;
            }
            self.0 = Form::Dense(ranks);
        }
        match &mut self.0 {
            Form::Dense(ranks) => ranks,
            Form::Sparse(_) => unreachable!("made dense above"),
        }
    }

    /// Adds all that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Form::Dense(ranks), Form::Sparse(entries)) => {
                for (register, rank) in entries.iter().map(|&entry| split(entry)) {
                    let known = &mut ranks[register as usize];
                    *known = rank.max(*known);
                }
            }
            (Form::Sparse(_), Form::Sparse(entries)) => {
                for (register, rank) in entries.iter().map(|&entry| split(entry)) {
                    match &mut self.0 {
                        Form::Dense(ranks) => ranks[register as usize] = rank.max(ranks[register as usize]),
                        Form::Sparse(_) => self.add_sparse(register, rank),
                    }
                }
            }
            (_, Form::Dense(others)) => {
                for (known, rank) in self.dense().iter_mut().zip(others.iter()) {
                    *known = (*known).max(*rank);
                }
            }
        }
    }

    /// How many distinct values were added, about. Only `+ - * /` on floats: the same bits natively and in WebAssembly.
    #[must_use]
    pub fn estimate(&self) -> u64 {
        /// 1 / (2 ln 2): the limit of HyperLogLog's constant.
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let mut counts = [0u32; MAX_RANK as usize + 1];
        match &self.0 {
            Form::Dense(ranks) => {
                for rank in ranks.iter() {
                    counts[*rank as usize] += 1;
                }
            }
            Form::Sparse(entries) => {
                for entry in entries {
                    counts[split(*entry).1 as usize] += 1;
                }
                counts[0] = (REGISTERS - entries.len()) as u32;
            }
        }
        let m = REGISTERS as f64;
        let share = |count: u32| f64::from(count) / m;
        let last = MAX_RANK as usize;
        let mut z = m * tau(1.0 - share(counts[last]));
        for &count in counts[1..last].iter().rev() {
            z = 0.5 * (z + f64::from(count));
        }
        z += m * sigma(share(counts[0]));
        (ALPHA * m * m / z + 0.5) as u64
    }
}

/// Register and rank of a sparse entry.
fn split(entry: u16) -> (u16, u8) {
    (entry >> RANK_BITS, entry as u8 & MAX_RANK)
}

/// Ertl's sigma: x + sum of x^(2^k) 2^(k-1). Infinite at 1.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut weight, mut sum) = (1.0, x);
    loop {
        x *= x;
        let next = sum + x * weight;
        if next <= sum {
            return sum;
        }
        (sum, weight) = (next, weight + weight);
    }
}

/// Ertl's tau: (1 - x - sum of (1 - x^(2^-k))^2 2^-k) / 3.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut weight, mut sum) = (1.0, 1.0 - x);
    loop {
        x = root(x);
        weight *= 0.5;
        let next = sum - (1.0 - x) * (1.0 - x) * weight;
        if next >= sum {
            return sum / 3.0;
        }
        sum = next;
    }
}

/// The square root of 0 < x < 1 by Newton's method from above: `core` has none.
fn root(x: f64) -> f64 {
    let mut guess = 1.0;
    loop {
        let next = 0.5 * (guess + x / guess);
        if next >= guess {
            return guess;
        }
        guess = next;
    }
}

impl Codec for Distinct {
    fn encode(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Form::Sparse(entries) => {
                (entries.len() as u64).encode(out);
                for entry in entries {
                    out.extend_from_slice(&entry.to_le_bytes());
                }
            }
            Form::Dense(ranks) => {
                DENSE.encode(out);
                out.extend_from_slice(&ranks[..]);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let len = u64::decode(from)?;
        if len == DENSE {
            let ranks = Box::new(from.array::<REGISTERS>()?);
            let used = ranks.iter().filter(|rank| **rank > 0).count();
            let sound = used > MAX_SPARSE && ranks.iter().all(|rank| *rank <= MAX_RANK);
            return sound.then_some(Self(Form::Dense(ranks))).ok_or("dense sketch out of bounds");
        }
        if len > DENSE {
            return Err("sparse sketch too long");
        }
        let entries: Vec<u16> =
            from.take(len as usize * 2)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let ascending = entries.is_sorted_by(|a, b| split(*a).0 < split(*b).0);
        let sound = ascending && entries.iter().all(|entry| split(*entry).1 > 0);
        sound.then_some(Self(Form::Sparse(entries))).ok_or("sparse sketch out of order")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Distinct {
        let mut sketch = Distinct::default();
        values.into_iter().for_each(|value| sketch.add(Hash64::of(&format!("u{value}"))));
        sketch
    }

    fn bytes(sketch: &Distinct) -> Vec<u8> {
        let mut out = Vec::new();
        sketch.encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn any_order_of_adds_and_merges_gives_the_same_bytes(
            cuts in prop::collection::vec(0u64..400, 0..4), last in 1u64..400, backwards: bool,
        ) {
            let whole = of(0..last);
            let mut bounds: Vec<u64> = cuts.into_iter().filter(|cut| *cut < last).chain([0, last]).collect();
            bounds.sort_unstable();
            let mut parts: Vec<Distinct> = bounds.windows(2).map(|w| of((w[0]..w[1]).rev())).collect();
            if backwards {
                parts.reverse();
            }
            let mut merged = Distinct::default();
            for part in &parts {
                merged.merge(part);
            }
            prop_assert_eq!(bytes(&merged), bytes(&whole));
        }

        #[test]
        fn decoded_bytes_encode_to_themselves(raw: Vec<u8>) {
            let mut reader = Reader::new(&raw);
            if let Ok(sketch) = Distinct::decode(&mut reader) {
                prop_assert_eq!(bytes(&sketch), &raw[..raw.len() - reader.rest().len()]);
            }
        }
    }

    #[test]
    fn estimates_stay_within_three_standard_errors() {
        for n in [0, 1, 10, 100, 127, 500, 1000, 5000, 20_000, 100_000] {
            let error = of(0..n).estimate().abs_diff(n) as f64;
            assert!(error <= n as f64 * 0.07, "{n}: off by {error}");
        }
    }

    #[test]
    fn both_forms_survive_a_snapshot() {
        for sketch in [of(0..20), of(0..2000)] {
            assert_eq!(Distinct::decode(&mut Reader::new(&bytes(&sketch))), Ok(sketch));
        }
    }

    #[test]
    fn a_saturated_sketch_still_gives_a_number() {
        let mut sketch = of(0..2000);
        sketch.dense().fill(MAX_RANK);
        assert!(sketch.estimate() > 1 << 40);
    }
}
