//! Which time a row has: the event's own, else the broker's; and whether that can be.

use super::text::{instant, span};
use crate::dead_letter::Reason;
use crate::spec::TimeSpec;

/// The time of a row, µs. `broker_us` is the broker's timestamp where it is plausible.
///
/// # Errors
/// Why the record is to be set aside, with a sentence that names what was found and the setting.
pub fn time_of(own_us: Option<i64>, broker_us: Option<i64>, rules: &TimeSpec) -> Result<i64, (Reason, String)> {
    let Some(time_us) = own_us.or(broker_us) else {
        return Err((Reason::NoTime, "it has no event time, and its broker's timestamp is no time either".to_owned()));
    };
    if let Some(min_us) = rules.min_us.filter(|&min_us| time_us < min_us) {
        let (time, min) = (instant(time_us), instant(min_us));
        return Err((Reason::BeforeMin, format!("event time {time} is before time.min, {min}")));
    }
    if let (Some(most_us), Some(seen_us)) = (rules.max_ahead_us, broker_us)
        && time_us > seen_us.saturating_add(most_us)
    {
        let (time, seen) = (instant(time_us), instant(seen_us));
        let (ahead, most) = (span(time_us.saturating_sub(seen_us)), span(most_us));
        let message =
            format!("event time {time} is {ahead} after the broker's timestamp {seen}; time.max_ahead is {most}");
        return Err((Reason::TooFarAhead, message));
    }
    Ok(time_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-10T12:01:00Z.
    const SEEN: i64 = 1_773_144_060_000_000;
    const DAY: i64 = 86_400_000_000;

    fn time(own: Option<i64>, broker: Option<i64>) -> Result<i64, (Reason, String)> {
        time_of(own, broker, &TimeSpec::default())
    }

    #[test]
    fn a_row_has_its_own_time_or_else_the_brokers() {
        assert_eq!(time(Some(SEEN - 5), Some(SEEN)), Ok(SEEN - 5));
        assert_eq!(time(None, Some(SEEN)), Ok(SEEN));
        assert_eq!(time(None, None).unwrap_err().0, Reason::NoTime);
    }

    #[test]
    fn a_time_far_ahead_of_the_brokers_is_refused_by_both_times_and_the_setting() {
        let (reason, message) = time(Some(SEEN + 365 * DAY), Some(SEEN)).unwrap_err();
        assert_eq!(reason, Reason::TooFarAhead);
        assert_eq!(
            message,
            "event time 2027-03-10T12:01:00Z is 365d after the broker's timestamp 2026-03-10T12:01:00Z; \
             time.max_ahead is 1h"
        );
    }

    #[test]
    fn a_time_is_not_compared_with_a_timestamp_that_is_none() {
        assert_eq!(time(Some(SEEN + 365 * DAY), None), Ok(SEEN + 365 * DAY));
    }

    #[test]
    fn a_time_before_the_least_is_refused_by_both_and_the_setting() {
        let (reason, message) = time(Some(-62_135_596_800_000_000), Some(SEEN)).unwrap_err();
        assert_eq!(reason, Reason::BeforeMin);
        assert_eq!(message, "event time 0001-01-01T00:00:00Z is before time.min, 1900-01-01T00:00:00Z");
        assert_eq!(time(Some(-2_208_988_800_000_000), None), Ok(-2_208_988_800_000_000), "the least itself is fine");
    }
}
