//! The rule of trust once more, as plainly as it can be said: over all rows of a partition.

use crate::spec::{TimeSpec, TrustRule};

/// The times of a row; one of them is there. `appended` = the broker's is of its own clock.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Its own.
    pub own: Option<i64>,
    /// The broker's, if it can be meant.
    pub broker: Option<i64>,
    /// Whether that is of the broker's own clock.
    pub appended: bool,
}

/// The partition's watermark before each of its rows, `i64::MIN` = nothing is known yet.
pub fn watermarks(rows: &[Told], time: &TimeSpec) -> Vec<i64> {
    let confirm = time.confirm as usize;
    let mut believed: Option<i64> = None;
    let mut unconfirmed: Vec<i64> = Vec::new();
    let mut before = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        before.push(believed.map_or(i64::MIN, |greatest| greatest - time.watermark_delay_us));
        if time.trust == TrustRule::Any {
            believed = believed.max(row.own.or(row.broker));
            continue;
        }
        let last = &rows[(index + 1).saturating_sub(confirm)..=index];
        let claim = match (row.own, row.broker) {
            (Some(own), Some(broker)) if own > broker + time.clock_skew_us => broker + time.clock_skew_us,
            (Some(own), _) => own,
            (None, Some(broker)) if last.len() == confirm && last.iter().all(|row| row.own.is_none()) => broker,
            (None, _) => continue,
        };
        let near = believed.is_some_and(|greatest| claim <= greatest + time.max_jump_us);
        let vouched = row.appended && row.broker.is_some_and(|broker| broker - claim <= time.max_jump_us);
        if near || vouched {
            believed = believed.max(Some(claim));
            unconfirmed.clear();
            continue;
        }
        unconfirmed.push(claim);
        if unconfirmed.len() == confirm {
            believed = believed.max(unconfirmed.iter().min().copied());
            unconfirmed.clear();
        }
    }
    before
}
