//! Instants and spans of time as people read them.

use chrono::DateTime;
use std::fmt::Write;

/// A day, µs.
const DAY_US: i64 = 86_400_000_000;

/// An instant as RFC 3339 writes it, with a fraction only where there is one: `2026-03-10T12:01:00Z`. What chrono's
/// calendar of 262,000 years does not have is told in µs.
pub fn instant(us: i64) -> String {
    let instant = DateTime::from_timestamp_micros(us).map(|instant| instant.naive_utc());
    instant.map_or_else(|| format!("{us} us after 1970"), |instant| format!("{instant:?}Z"))
}

/// A span of time, not negative, by its two largest units: `365d`, `1h30m`.
pub fn span(us: i64) -> String {
    let units = [(DAY_US, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"), (1, "us")];
    let (mut left, mut text) = (us, String::new());
    for (size, unit) in units.into_iter().skip_while(|&(size, _)| size > us).take(2) {
        if left >= size {
            write!(text, "{}{unit}", left / size).expect("a String takes what is written");
        }
        left %= size;
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_rfc_3339_with_a_fraction_only_where_there_is_one() {
        assert_eq!(instant(0), "1970-01-01T00:00:00Z");
        assert_eq!(instant(1_773_144_030_000_001), "2026-03-10T12:00:30.000001Z");
        assert_eq!(instant(-1), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn spans_are_told_by_their_two_largest_units() {
        let told = [(0, "0s"), (1, "1us"), (1_000_000, "1s"), (5_400_000_000, "1h30m"), (3_600_000_001, "1h")];
        for (us, text) in told {
            assert_eq!(span(us), text);
        }
        assert_eq!(span(365 * DAY_US), "365d");
        assert_eq!(span(DAY_US + 60_000_000), "1d");
    }
}
