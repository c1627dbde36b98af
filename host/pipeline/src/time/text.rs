//! Instants and spans of time as people read them.

/// A day, µs.
const DAY_US: i64 = 86_400_000_000;

/// An instant as RFC 3339 writes it, with µs only where there are any: `2026-03-10T12:01:00Z`.
pub fn instant(us: i64) -> String {
    let (days, of_day) = (us.div_euclid(DAY_US), us.rem_euclid(DAY_US));
    let (year, month, day) = civil(days);
    let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// A span of time, not negative, by its two largest units: `365d`, `1h30m`.
pub fn span(us: i64) -> String {
    let units = [(DAY_US, "d"), (3_600_000_000, "h"), (60_000_000, "m"), (1_000_000, "s"), (1_000, "ms"), (1, "us")];
    let (mut left, mut text) = (us, String::new());
    for (size, unit) in units.into_iter().skip_while(|&(size, _)| size > us).take(2) {
        if left >= size {
            text += &format!("{}{unit}", left / size);
        }
        left %= size;
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Year, month and day, so many days after the Unix epoch.
///
/// # Source
/// `civil_from_days`: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
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
