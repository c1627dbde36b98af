//! How far a reader of committed records has come in a partition.
//!
//! That is not told by records alone: the last offsets may be none, but marks of transactions or records of aborted ones;
//! and those behind an open transaction do not come before it has ended, one way or the other.

use crate::mutation::{self, Mutation};

/// Where a fetch found nothing more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The offset after all that there was to be read, marks of transactions included.
    pub met: i64,
    /// The last stable offset: records from here on wait for an open transaction.
    pub stable: i64,
}

/// How far a reader has come.
///
/// ```
/// use wasmill_pipeline::time::reach::{End, Reach};
/// // Offsets 5 and 6 are of an aborted transaction, and from 7 on another one is open.
/// let reach = Reach { next: 5, end: Some(End { met: 7, stable: 7 }) };
/// assert_eq!(reach.read_to(), 7);
/// assert!(reach.is_stable() && reach.has_reached(7) && !reach.has_reached(9));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The offset after the last record.
    pub next: i64,
    /// The end, where all before it has come.
    pub end: Option<End>,
}

impl Reach {
    /// The offset before which everything was read.
    pub fn read_to(self) -> i64 {
        let met = self.end.filter(|_| !mutation::on(Mutation::AbortedHoldTheEnd)).map(|end| end.met);
        met.unwrap_or(self.next).max(self.next)
    }

    /// Whether all that is committed was read.
    pub fn is_stable(self) -> bool {
        self.end.is_some_and(|end| self.read_to() == end.stable)
    }

    /// Whether everything before `end` was read, whoever may commit it later.
    pub fn has_reached(self, end: i64) -> bool {
        self.read_to() >= end || (self.is_stable() && mutation::on(Mutation::OpenTransactionIsTheEnd))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_an_open_transaction_was_not_read() {
        let behind = Reach { next: 5, end: Some(End { met: 5, stable: 5 }) };
        assert!(behind.is_stable() && !behind.has_reached(6));
    }

    #[test]
    fn an_end_that_was_not_met_says_nothing() {
        let amid = Reach { next: 5, end: None };
        assert_eq!((amid.read_to(), amid.is_stable(), amid.has_reached(6)), (5, false, false));
    }

    #[test]
    fn an_end_before_the_last_record_is_of_an_older_fetch() {
        let ahead = Reach { next: 9, end: Some(End { met: 7, stable: 7 }) };
        assert_eq!((ahead.read_to(), ahead.is_stable()), (9, false));
    }
}
