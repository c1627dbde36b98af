//! Silence: how long a partition has had nothing to give, as far as brokers that answered can tell.
//!
//! A reader that gets nothing does not know why: there may be nothing, or there are records behind an open transaction,
//! no leader, no broker, or this process was frozen. So silence is measured by looks at the partition's end instead, and
//! only the time between looks that were answered counts.

use crate::mutation::{self, Mutation};

/// The longest time between two answered looks that counts, µs: looks are a second apart, and one that fails may be made
/// up for. What lies between looks further apart is an outage, or a process that was frozen.
pub const LONGEST_STEP_US: i64 = 3_000_000;

/// How long one partition has been silent.
///
/// Instants are µs of a clock that never goes back.
///
/// ```
/// use wasmill_pipeline::time::silence::Silence;
/// let mut silence = Silence::default();
/// silence.look(1_000_000, Some(7), Some(7)); // the partition ends at 7, and all before 7 was read
/// silence.look(2_000_000, Some(7), Some(7));
/// assert_eq!(silence.lasts_us(2_100_000), 1_000_000);
/// silence.look(3_000_000, Some(9), Some(7)); // two offsets are unread, whoever keeps them back
/// assert_eq!(silence.lasts_us(3_100_000), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// Since which look it lasts, and the last look, both by when they were asked.
    lasts: Option<(i64, i64)>,
}

impl Silence {
    /// Records came.
    pub fn end(&mut self) {
        self.lasts = None;
    }

    /// A look that was asked at `asked_us` was answered: the partition ends at `high`, `None` where it has no leader; its
    /// reader has read all before `read_to`, `None` where that is not known.
    pub fn look(&mut self, asked_us: i64, high: Option<i64>, read_to: Option<i64>) {
        let unread = high.is_none() || high != read_to;
        if unread && !mutation::on(Mutation::UnreadIsSilence) {
            return self.end();
        }
        self.forget_if_old(asked_us);
        self.lasts = Some((self.lasts.map_or(asked_us, |(since, _)| since), asked_us));
    }

    /// How long it has lasted by `now_us`, µs; 0 where brokers do not answer.
    pub fn lasts_us(&mut self, now_us: i64) -> i64 {
        self.forget_if_old(now_us);
        self.lasts.map_or(0, |(since, last)| last - since)
    }

    fn forget_if_old(&mut self, now_us: i64) {
        let old = |(_, last): (i64, i64)| now_us - last > LONGEST_STEP_US;
        if self.lasts.is_some_and(old) && !mutation::on(Mutation::OutageIsSilence) {
            self.end();
        }
    }
}

/// The time that passes while brokers answer: from one answered look to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnsweredTime {
    last: Option<i64>,
}

impl AnsweredTime {
    /// A look that was asked at `asked_us` was answered: how much time has passed since the one before, µs. None where
    /// that is longer ago than [`LONGEST_STEP_US`].
    pub fn pass(&mut self, asked_us: i64) -> i64 {
        let step = asked_us - self.last.replace(asked_us).unwrap_or(asked_us);
        if step <= LONGEST_STEP_US || mutation::on(Mutation::OutageIsSilence) { step.max(0) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Looks a second apart, from second 1 on; each with the partition's end and how far it was read.
    fn after(looks: &[(Option<i64>, Option<i64>)]) -> Silence {
        let mut silence = Silence::default();
        for (second, &(high, read_to)) in (1..).zip(looks) {
            silence.look(second * 1_000_000, high, read_to);
        }
        silence
    }

    #[test]
    fn a_partition_behind_an_open_transaction_is_not_silent() {
        let (open, read) = ((Some(9), Some(7)), (Some(7), Some(7)));
        assert_eq!(after(&[read, read, read]).lasts_us(3_000_000), 2_000_000);
        assert_eq!(after(&[open; 9]).lasts_us(9_000_000), 0);
        assert_eq!(after(&[read, read, open, read, read]).lasts_us(5_000_000), 1_000_000);
    }

    #[test]
    fn a_partition_without_a_leader_or_a_known_place_is_not_silent() {
        assert_eq!(after(&[(None, Some(7)); 5]).lasts_us(5_000_000), 0);
        assert_eq!(after(&[(Some(7), None); 5]).lasts_us(5_000_000), 0);
        assert_eq!(after(&[(None, None); 5]).lasts_us(5_000_000), 0);
    }

    #[test]
    fn a_log_that_is_shorter_than_what_was_read_is_not_silent() {
        assert_eq!(after(&[(Some(3), Some(7)); 5]).lasts_us(5_000_000), 0);
    }

    #[test]
    fn an_outage_or_a_freeze_is_not_silence() {
        let mut silence = after(&[(Some(7), Some(7)); 5]);
        assert_eq!(silence.lasts_us(5_000_000 + LONGEST_STEP_US), 4_000_000);
        assert_eq!(silence.lasts_us(5_000_001 + LONGEST_STEP_US), 0);
        silence.look(80_000_000, Some(7), Some(7));
        assert_eq!(silence.lasts_us(80_000_000), 0, "it begins anew");
    }

    #[test]
    fn time_passes_only_between_looks_that_were_answered() {
        let mut time = AnsweredTime::default();
        let passed = [5, 6, 8, 80, 81].map(|second| time.pass(second * 1_000_000) / 1_000_000);
        assert_eq!(passed, [0, 1, 2, 0, 1]);
    }

    proptest! {
        #[test]
        fn silence_is_never_longer_than_the_answered_time_since_something_was_unread(
            steps in prop::collection::vec((0i64..5_000_000, any::<bool>(), 0u8..8), 1..80)
        ) {
            let (mut silence, mut time) = (Silence::default(), AnsweredTime::default());
            let (mut now, mut most) = (0, 0);
            for (step, answered, what) in steps {
                now += step;
                if what == 0 {
                    silence.end();
                    most = 0;
                }
                if answered {
                    let read = what > 1;
                    let passed = time.pass(now);
                    most = if read { most + passed } else { 0 };
                    silence.look(now, Some(7), Some(if read { 7 } else { 6 }));
                }
                prop_assert!(silence.lasts_us(now) <= most);
            }
        }
    }
}
