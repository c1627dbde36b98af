//! What stands for rows without their order: how many there are, and the sum of their hashes.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// Rows of an output, in any order: each row counts, and each repetition of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) rows: u64,
    /// XXH3-128 of each row, added up without carry; in halves, as JSON's numbers are short.
    high: u64,
    low: u64,
}

impl Digest {
    pub(crate) fn add(&mut self, row: &str) {
        let sum = (u128::from(self.high) << 64 | u128::from(self.low)).wrapping_add(xxh3_128(row.as_bytes()));
        self.rows += 1;
        (self.high, self.low) = ((sum >> 64) as u64, sum as u64);
    }

    pub(crate) fn of(rows: &[String]) -> Self {
        let mut digest = Self::default();
        for row in rows {
            digest.add(row);
        }
        digest
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows ({:016x}{:016x})", self.rows, self.high, self.low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[&str]) -> Digest {
        Digest::of(&rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_order_of_rows_is_nothing() {
        assert_eq!(of(&["a", "b", "c"]), of(&["c", "a", "b"]));
    }

    #[test]
    fn a_row_more_less_twice_or_changed_is_seen() {
        let whole = of(&["a", "b", "c"]);
        for other in [of(&["a", "b"]), of(&["a", "b", "c", "c"]), of(&["a", "b", "d"]), of(&["a", "b", "b"]), of(&[])] {
            assert_ne!(whole, other);
        }
    }

    #[test]
    fn it_reads_back_from_json() {
        let digest = of(&["a", "b", "c"]);
        assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
    }
}
