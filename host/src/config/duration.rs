//! Durations as people write them: `500ms`, `30s`, `1m30s`, and Spark's `30 seconds`.

use std::time::Duration;

/// What to write instead, for messages.
pub(super) const EXAMPLES: &str = "500ms, 30s, 2m, 1h or \"30 seconds\"";

/// The longest duration, 100 years: sums of event times and durations stay far from the ends of an i64 of µs.
const MAX_US: u64 = 100 * 365 * 86_400 * 1_000_000;

/// Units by length in µs; the first name of each is the one that is written.
const UNITS: [(u64, &[&str]); 7] = [
    (7 * 86_400_000_000, &["w", "week", "weeks"]),
    (86_400_000_000, &["d", "day", "days"]),
    (3_600_000_000, &["h", "hr", "hour", "hours"]),
    (60_000_000, &["m", "min", "mins", "minute", "minutes"]),
    (1_000_000, &["s", "sec", "secs", "second", "seconds"]),
    (1_000, &["ms", "msec", "milli", "millis", "millisecond", "milliseconds"]),
    (1, &["us", "µs", "microsecond", "microseconds"]),
];

/// Reads a duration: numbers with units, in any case, with or without spaces, added up. `0` needs no unit.
///
/// # Errors
/// What is wrong with `text` and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let not_one = || format!("{text:?} is not a duration; write {EXAMPLES}");
    let lower = text.trim().to_lowercase();
    if lower.starts_with('-') {
        return Err(format!("{text:?} is negative; write {EXAMPLES}"));
    }
    if lower == "0" {
        return Ok(Duration::ZERO);
    }
    if !lower.is_empty() && lower.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{text:?} has no unit; write {EXAMPLES}"));
    }
    let mut total: u64 = 0;
    let mut rest = lower.as_str();
    loop {
        let (number, after) = split_where(rest, |c| !c.is_ascii_digit());
        let (unit, after) = split_where(after.trim_start(), |c| !c.is_alphabetic());
        let (size, _) = UNITS.iter().find(|(_, names)| names.contains(&unit)).ok_or_else(not_one)?;
        let too_long = || format!("{text:?} is longer than 100 years; write {EXAMPLES}");
        if number.is_empty() {
            return Err(not_one());
        }
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*size)).ok_or_else(too_long)?;
        total = total.checked_add(part).filter(|total| *total <= MAX_US).ok_or_else(too_long)?;
        rest = after.trim_start();
        if rest.is_empty() {
            return Ok(Duration::from_micros(total));
        }
    }
}

/// Writes a duration so that [`parse_duration`] reads the same, to the µs: `1m30s`.
pub fn format_duration(duration: Duration) -> String {
    let mut left = duration.as_micros();
    let mut text = String::new();
    // Nobody writes weeks.
    for (size, names) in UNITS.iter().skip(1) {
        let count = left / u128::from(*size);
        left %= u128::from(*size);
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(names.first().copied().unwrap_or_default());
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// µs; [`parse_duration`] has kept it far below the end of an i64.
pub(super) fn us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Writes µs, 0 or more, as a duration.
pub(super) fn format_us(us: i64) -> String {
    format_duration(Duration::from_micros(us.unsigned_abs()))
}

/// Writes µs in either direction: `-8h`.
pub(super) fn format_signed(us: i64) -> String {
    format!("{}{}", if us < 0 { "-" } else { "" }, format_us(us))
}

/// `text` before and from the first character that `is_end`.
fn split_where(text: &str, is_end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_and_spark_forms_mean_the_same() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
            ("30 seconds", 30_000),
            ("1 MINUTE", 60_000),
            ("2 Hours", 7_200_000),
            ("10 milliseconds", 10),
            ("1 minute 30 seconds", 90_000),
            (" 1m30s ", 90_000),
            ("1 week", 604_800_000),
            ("0", 0),
            ("0 seconds", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_says_what_would_be() {
        for text in ["", "30x", "s", "1.5s", "30 seconds and", "1m 30", "30s s", "once"] {
            let wrong = parse_duration(text).unwrap_err();
            assert_eq!(wrong, format!("{text:?} is not a duration; write 500ms, 30s, 2m, 1h or \"30 seconds\""));
        }
        assert!(parse_duration("30").unwrap_err().starts_with("\"30\" has no unit; write"));
        assert!(parse_duration("-30s").unwrap_err().starts_with("\"-30s\" is negative; write"));
        assert!(parse_duration("99999999999999999999s").unwrap_err().contains("longer than 100 years"));
        assert!(parse_duration("200000d").unwrap_err().contains("longer than 100 years"));
    }

    proptest! {
        #[test]
        fn what_is_formatted_parses_to_the_same(us in 0..=MAX_US) {
            let duration = Duration::from_micros(us);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,20}") {
            let _ = parse_duration(&text);
        }
    }
}
