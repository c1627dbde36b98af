//! Which rows may move a partition's watermark: one wrong clock moves nothing, many that agree do.
//!
//! ```text
//!  a row's own time ─▶ claim: at most the broker's + clock_skew ─▶ up to max_jump beyond all before: believed at once
//!  no own time ──────▶ none, unless `confirm` rows in a row        └▶ further: a suspect; of `confirm` in a row the
//!                      have none: then the broker's                   smallest is believed, any other claim clears them
//! ```
//! Before the first claim is believed, every claim is further ahead than all before it: a partition's start is a run
//! of suspects, too. All of this is a function of the partition's rows in their order; batches and clocks have no part
//! in it. Only where a partition falls silent before its start is over, [`Trusted::settle`] ends that.

use super::NOTHING_SEEN;
use crate::mutation::{self, Mutation};
use crate::spec::{TimeSpec, TrustRule};
use serde::{Deserialize, Serialize};

/// What is known of the time of a row. One of the two times is there: a row without any becomes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowTime {
    /// The event's own, µs; `None` = it has none that can be read.
    pub own_us: Option<i64>,
    /// The broker's timestamp, µs, where it is plausible.
    pub broker_us: Option<i64>,
    /// Whether the broker took that from its own clock (`LogAppendTime`), not from a producer.
    pub appended: bool,
}

/// How far a partition is trusted to have come in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// (greatest claim believed) - `watermark_delay`, or the floor it was raised to, µs; never decreases.
    pub watermark_us: i64,
    /// The greatest time of its rows, believed or not, µs; never decreases.
    pub latest_us: i64,
    /// What is not believed yet.
    pub doubt: Doubt,
}

/// What the last rows of a partition claimed that is not believed yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The last claims in a row that are too far ahead. Rows without a claim lie between them unnoticed.
    pub suspects: Run,
    /// The last rows in a row that have no time of their own, with the broker's times.
    pub timeless: Run,
}

/// Rows in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How many.
    pub rows: u32,
    /// The smallest of their times, µs; 0 where there is none.
    pub least_us: i64,
}

impl Run {
    fn add(&mut self, time_us: i64) {
        self.least_us = if self.rows == 0 { time_us } else { self.least_us.min(time_us) };
        self.rows = self.rows.saturating_add(1);
    }
}

impl Default for Trusted {
    fn default() -> Self {
        Self::at(NOTHING_SEEN)
    }
}

impl Trusted {
    /// At this watermark, in doubt about nothing.
    pub fn at(watermark_us: i64) -> Self {
        Self { watermark_us, latest_us: NOTHING_SEEN, doubt: Doubt::default() }
    }

    /// Raises the watermark to at least `watermark_us`: windows up to there are closed. How far ahead a claim is counts
    /// from there.
    pub fn raise(&mut self, watermark_us: i64) {
        self.watermark_us = self.watermark_us.max(watermark_us);
    }

    /// Takes in the next row, and gives how many rows before it that refutes: they claimed to be too far ahead of all
    /// that was believed, and too few others did.
    ///
    /// ```
    /// use wasmill_pipeline::spec::TimeSpec;
    /// use wasmill_pipeline::time::trust::{RowTime, Trusted};
    /// let rules = TimeSpec { watermark_delay_us: 0, max_jump_us: 60, confirm: 3, ..TimeSpec::default() };
    /// let row = |time| RowTime { own_us: Some(time), broker_us: None, appended: false };
    /// let mut trusted = Trusted::at(100);
    /// trusted.take(row(9_999), &rules); // one clock ahead of all others
    /// assert_eq!(trusted.take(row(160), &rules), 1);
    /// assert_eq!(trusted.watermark_us, 160);
    /// assert_eq!([500, 501, 502].map(|time| trusted.take(row(time), &rules)), [0, 0, 0]);
    /// assert_eq!(trusted.watermark_us, 500); // three in a row: after a quiet night, say
    /// ```
    pub fn take(&mut self, row: RowTime, rules: &TimeSpec) -> u32 {
        let reaches = |time_us: i64| time_us.saturating_sub(rules.watermark_delay_us);
        let time_us = row.own_us.or(row.broker_us).unwrap_or(NOTHING_SEEN);
        self.latest_us = self.latest_us.max(time_us);
        if rules.trust == TrustRule::Any {
            self.raise(reaches(time_us));
            return 0;
        }
        let Some(claim_us) = self.claim(row, rules) else { return 0 };
        if self.is_believed(claim_us, row, rules) {
            let is_start = self.watermark_us == NOTHING_SEEN;
            let cleared = std::mem::take(&mut self.doubt.suspects);
            self.raise(reaches(claim_us));
            return if is_start { 0 } else { cleared.rows };
        }
        self.doubt.suspects.add(claim_us);
        let confirm = rules.confirm + u32::from(mutation::on(Mutation::ConfirmOffByOne));
        if self.doubt.suspects.rows >= confirm {
            self.raise(reaches(self.doubt.suspects.least_us));
            self.doubt.suspects = Run::default();
        }
        0
    }

    /// Ends the start of a partition that gives nothing more for now: the smallest claim that there is is believed, or
    /// else, where no row has a time of its own, the smallest of the broker's. After the start, does nothing.
    pub fn settle(&mut self, rules: &TimeSpec) {
        let Doubt { suspects, timeless } = self.doubt;
        let known = if suspects.rows > 0 { suspects } else { timeless };
        if self.watermark_us == NOTHING_SEEN && known.rows > 0 {
            self.raise(known.least_us.saturating_sub(rules.watermark_delay_us));
            self.doubt.suspects = Run::default();
        }
    }

    /// The time up to which a row asks to be believed; `None` = it has no say.
    fn claim(&mut self, row: RowTime, rules: &TimeSpec) -> Option<i64> {
        if let Some(own_us) = row.own_us {
            self.doubt.timeless = Run::default();
            // Nothing happens after it was seen, but for clocks that differ a little.
            return Some(
                row.broker_us.map_or(own_us, |seen_us| own_us.min(seen_us.saturating_add(rules.clock_skew_us))),
            );
        }
        // The time at which a row came says little of when it happened; only where no row says more it is all there is.
        let seen_us = row.broker_us?;
        self.doubt.timeless.add(seen_us);
        let all_timeless = self.doubt.timeless.rows >= rules.confirm || mutation::on(Mutation::BrokerTimeClaims);
        all_timeless.then_some(seen_us)
    }

    fn is_believed(&self, claim_us: i64, row: RowTime, rules: &TimeSpec) -> bool {
        // A broker's own clock is beyond doubt, and vouches for what happened shortly before it. Of a backlog that is
        // written today it knows nothing.
        let vouched = |seen_us: i64| row.appended && seen_us <= claim_us.saturating_add(rules.max_jump_us);
        let is_start = self.watermark_us == NOTHING_SEEN;
        let least = claim_us.saturating_sub(rules.watermark_delay_us).saturating_sub(rules.max_jump_us);
        (!is_start && least <= self.watermark_us)
            || row.broker_us.is_some_and(vouched)
            || (is_start && mutation::on(Mutation::StartSkipped))
            || (!is_start && mutation::on(Mutation::SuspectsBelieved))
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
