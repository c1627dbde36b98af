//! Rows of samples by number, and the ways to deal them out: a way belongs to a row, so that it stays with the rows
//! that are left when others are taken away.

use super::{MAX_BATCH_ROWS, MAX_BATCHES};
use arrow_array::UInt32Array;

/// A row of a sample, or a record of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) sample: u32,
    pub(super) row: u32,
}

impl Row {
    /// A number that looks random and depends on the row and `salt` alone.
    pub(super) fn hash(self, salt: u64) -> u64 {
        mix((u64::from(self.sample) << 32 | u64::from(self.row)) ^ mix(salt))
    }
}

/// A number that looks random and depends on `of` alone.
///
/// # Source
/// The output function of `SplitMix64`: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators",
/// OOPSLA 2014.
pub(super) fn mix(of: u64) -> u64 {
    let mut z = of.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// All rows of samples that have these lengths, as far as they are looked at.
pub(super) fn all(lengths: impl Iterator<Item = usize>) -> Vec<Row> {
    let samples = (0u32..).zip(lengths.take(MAX_BATCHES));
    samples
        .flat_map(|(sample, rows)| (0..rows.min(MAX_BATCH_ROWS) as u32).map(move |row| Row { sample, row }))
        .collect()
}

/// The numbers of rows of one sample.
pub(super) fn indices(rows: &[Row]) -> UInt32Array {
    rows.iter().map(|row| row.row).collect()
}

/// What becomes of rows that are dealt out.
pub(super) enum Pieces {
    /// One piece, but for the border between samples.
    Whole,
    /// Each sample is cut before these of its rows, ascending.
    Cuts(Vec<u32>),
    /// So many rows of the first sample, each alone.
    Singles(u32),
    /// Before, between and after these rows, ascending.
    Between(Vec<Row>),
    /// To so many, at random.
    Scattered(u64),
}

impl Pieces {
    /// Samples cut at `count` places at random.
    pub(super) fn cuts(count: u64) -> Self {
        let mut before: Vec<u32> = (0..count).map(|n| (mix(n) % MAX_BATCH_ROWS as u64) as u32).collect();
        // A short batch, too, is to be cut somewhere.
        before.extend([1, 3, 10, 40]);
        before.sort_unstable();
        Self::Cuts(before)
    }

    /// So many pieces of `rows`, one after the other.
    pub(super) fn between(rows: &[Row], pieces: usize) -> Self {
        Self::Between((1..pieces).filter_map(|n| rows.get(rows.len() * n / pieces).copied()).collect())
    }

    /// The number of a row's piece.
    pub(super) fn of(&self, row: Row) -> u64 {
        match self {
            Self::Whole => 0,
            Self::Cuts(before) => before.partition_point(|cut| *cut <= row.row) as u64,
            Self::Singles(rows) => u64::from(if row.sample == 0 { row.row.min(*rows) } else { *rows }),
            Self::Between(borders) => borders.partition_point(|border| *border <= row) as u64,
            Self::Scattered(pieces) => row.hash(*pieces) % pieces,
        }
    }

    /// Batches of these rows: of one sample and one piece each.
    pub(super) fn batches<'a>(&self, rows: &'a [Row]) -> impl Iterator<Item = &'a [Row]> {
        rows.chunk_by(|a, b| a.sample == b.sample && self.of(*a) == self.of(*b))
    }

    /// The rows of piece number `piece`.
    pub(super) fn take(&self, rows: &[Row], piece: u64) -> Vec<Row> {
        rows.iter().copied().filter(|row| self.of(*row) == piece).collect()
    }
}
