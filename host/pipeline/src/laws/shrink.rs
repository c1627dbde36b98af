//! The search for the smallest input that still fails: by taking away halves, then less, then single items.
//!
//! # Source
//! The complement steps of `ddmin`: A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input",
//! IEEE Transactions on Software Engineering 28(2), 2002.

use super::failure::Failure;

/// Tries: halving 16,384 rows down to a few takes about a hundred.
const MAX_TRIES: usize = 500;
/// Rows in all tries: a second or so of a plugin that takes 200 ns for a row.
const MAX_ROWS: usize = 1_000_000;
/// Tries that may take as long as a call's deadline.
const MAX_SLOW_TRIES: usize = 8;

/// The smallest part of `items` found for which `fails` still answers a failure of the same law, with that failure.
/// `found` is the failure of all of them.
pub(super) fn smallest<T: Copy>(
    items: &[T],
    mut found: Failure,
    mut fails: impl FnMut(&[T]) -> Option<Failure>,
) -> (Vec<T>, Failure) {
    let mut best = items.to_vec();
    let (mut tries, mut slow_tries, mut rows) = (0, 0, 0);
    let mut chunk = best.len().div_ceil(2).max(1);
    loop {
        let mut removed = false;
        let mut at = 0;
        while at < best.len() {
            let end = (at + chunk).min(best.len());
            let rest = [&best[..at], &best[end..]].concat();
            tries += 1;
            rows += rest.len();
            if tries > MAX_TRIES || rows > MAX_ROWS || slow_tries >= MAX_SLOW_TRIES {
                return (best, found);
            }
            let failure = fails(&rest);
            slow_tries += usize::from(failure.as_ref().is_some_and(|failure| failure.slow));
            match failure.filter(|failure| failure.law == found.law) {
                Some(failure) => {
                    (best, found, removed) = (rest, failure, true);
                }
                None => at = end,
            }
        }
        if chunk == 1 && !removed {
            return (best, found);
        }
        chunk = (chunk / 2).max(1);
    }
}
