//! Finds the record that takes a parser too long: beside the lane, for that takes as long as the calls do that miss their
//! deadline.

use crate::plugin::{Fault, Parsed, Parser};
use crate::record::RawBatch;

/// Consecutive records, and what a parser made of them.
#[derive(Debug)]
pub struct Piece {
    /// How many.
    pub records: usize,
    /// A fault is that of one record, given alone all the time that a call may take.
    pub parsed: Result<Parsed, Fault>,
}

/// What a parser makes of the first records of `raw`, which are too much for it in one call: up to the first that makes
/// it fail alone, or that only seemed to. At least one record is in the pieces.
///
/// Where the first half is well, the one that is not must be in the second, which is halved at once: what is found costs
/// about half the logarithm of the records in calls that fail soon, and one that takes all its time.
pub fn parse_apart(parser: &mut dyn Parser, raw: &RawBatch) -> Vec<Piece> {
    let (mut pieces, mut from, mut bad) = (Vec::new(), 0, raw.len());
    while bad > 1 {
        let half = bad / 2;
        match parser.parse_soon(&raw.slice(from, from + half)) {
            Ok(parsed) => {
                pieces.push(Piece { records: half, parsed: Ok(parsed) });
                (from, bad) = (from + half, bad - half);
            }
            Err(_) => bad = half,
        }
    }
    if bad == 1 {
        pieces.push(Piece { records: 1, parsed: parser.parse(&raw.slice(from, from + 1)) });
    }
    pieces
}
