//! The dictionary of one column and one batch: each distinct text once, and an index per row.

use crate::bindings::types::{Column, Dictionary, Values};
use crate::output::{Build, Bytes, half, word};
use alloc::vec;
use alloc::vec::Vec;

/// An entry of the table that holds no index.
const FREE: u32 = u32::MAX;

/// A dictionary being built: an open hash table of indices, grown by doubling.
#[derive(Debug)]
pub struct Symbols {
    indices: Vec<u32>,
    values: Bytes,
    table: Vec<u32>,
}

impl Symbols {
    /// Appends a row with this text.
    #[inline]
    pub fn push(&mut self, text: &[u8]) {
        let index = self.index(text);
        self.indices.push(index);
    }

    #[inline]
    fn index(&mut self, text: &[u8]) -> u32 {
        let mask = self.table.len() - 1;
        let mut at = hash(text) as usize & mask;
        loop {
            let entry = self.table[at];
            if entry == FREE {
                return self.insert(text, at);
            }
            if same(self.values.get(entry as usize), text) {
                return entry;
            }
            at = (at + 1) & mask;
        }
    }

    #[cold]
    fn insert(&mut self, text: &[u8], at: usize) -> u32 {
        let index = self.values.len() as u32;
        self.values.push(text);
        self.table[at] = index;
        if self.values.len() * 2 > self.table.len() {
            let mask = self.table.len() * 2 - 1;
            self.table = vec![FREE; mask + 1];
            for i in 0..=index {
                let mut at = hash(self.values.get(i as usize)) as usize & mask;
                while self.table[at] != FREE {
                    at = (at + 1) & mask;
                }
                self.table[at] = i;
            }
        }
        index
    }
}

impl Build for Symbols {
    fn new(rows: usize) -> Self {
        // 128: room for 64 distinct values before the first doubling, half a KB.
        Self { indices: Vec::with_capacity(rows), values: Bytes::new(64), table: vec![FREE; 128] }
    }

    #[inline]
    fn blank(&mut self) {
        self.indices.push(0);
    }

    fn column(mut self) -> Column {
        if self.values.is_empty() && !self.indices.is_empty() {
            self.values.push(b""); // the index of a null row must be below the number of values, too
        }
        let dictionary = Dictionary { indices: self.indices, values: self.values.varlen() };
        Column { values: Values::Dictionary(dictionary), validity: None }
    }
}

/// A quick hash of the whole text, by words: names that differ only in their middle must not pile up.
#[inline]
fn hash(text: &[u8]) -> u64 {
    // The odd constants of XXH64, for their bit patterns.
    const A: u64 = 0x9E37_79B1_85EB_CA87;
    const B: u64 = 0xC2B2_AE3D_27D4_EB4F;
    let n = text.len();
    let (mut head, tail) = match n {
        0 => (0, 0),
        1..4 => (u64::from(text[0]) | u64::from(text[n / 2]) << 8, u64::from(text[n - 1])),
        4..8 => (u64::from(half(text, 0)), u64::from(half(text, n - 4))),
        _ => (word(text, 0), word(text, n - 8)),
    };
    if n > 16 {
        for at in (8..n - 8).step_by(8) {
            head = (head ^ head >> 29).wrapping_mul(B) ^ word(text, at);
        }
    }
    let mixed = (head ^ (n as u64) << 56).wrapping_mul(A) ^ tail.wrapping_mul(B).rotate_left(29);
    mixed ^ mixed >> 32
}

/// Equality of two texts, by words where they are short.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    let n = a.len();
    if n != b.len() {
        return false;
    }
    match n {
        0 => true,
        1..4 => a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1],
        4..8 => half(a, 0) == half(b, 0) && half(a, n - 4) == half(b, n - 4),
        8..=16 => word(a, 0) == word(b, 0) && word(a, n - 8) == word(b, n - 8),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    #[test]
    fn every_row_finds_its_text_again_past_many_doublings() {
        let texts: Vec<String> = (0..2000).map(|i| format!("/product/{}/{}", i % 700, "x".repeat(i % 23))).collect();
        let mut symbols = Symbols::new(texts.len());
        for text in &texts {
            symbols.push(text.as_bytes());
        }
        for (row, text) in texts.iter().enumerate() {
            assert_eq!(symbols.values.get(symbols.indices[row] as usize), text.as_bytes());
        }
        assert_eq!(symbols.values.len(), texts.iter().collect::<std::collections::HashSet<_>>().len());
    }

    #[test]
    fn a_column_of_nulls_still_has_a_value_to_point_at() {
        let mut symbols = Symbols::new(2);
        symbols.blank();
        symbols.blank();
        let Values::Dictionary(dictionary) = symbols.column().values else { unreachable!("a dictionary") };
        assert_eq!((dictionary.indices, dictionary.values.offsets), (vec![0, 0], vec![0, 0]));
    }
}
