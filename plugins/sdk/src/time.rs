//! Instants: microseconds since the Unix epoch, and how people write them.
//!
//! # Source
//! RFC 3339 for the form; Hinnant, "chrono-compatible low-level date algorithms", for days and dates.

use alloc::vec::Vec;

/// An instant, in µs since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

const DAY_SECONDS: i64 = 86_400;
const DAYS_IN_MONTH: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// The value of `N` ASCII digits; above 9999 if one is none.
#[inline]
fn digits<const N: usize>(bytes: &[u8], at: usize) -> u32 {
    let mut value = 0;
    let mut wrong = 0;
    for byte in &bytes[at..at + N] {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        wrong |= u32::from(digit > 9);
        value = value * 10 + digit;
    }
    value | wrong << 16
}

impl Timestamp {
    /// Reads RFC 3339: `2026-01-31T23:59:57.804Z`, with `T` or a space, up to 9 digits of a second (cut to µs), and
    /// `Z`, `+hh:mm` or `-hh:mm`; where the zone is missing it is UTC. `None` for anything else, such as a day that
    /// the month has not, hour 24 or second 60.
    #[inline]
    #[must_use]
    pub fn parse<T: AsRef<[u8]> + ?Sized>(text: &T) -> Option<Self> {
        let b = text.as_ref();
        if b.len() < 19 || [b[4], b[7], b[13], b[16]] != *b"--::" || !matches!(b[10], b'T' | b't' | b' ') {
            return None;
        }
        let (year, month, day) = (digits::<4>(b, 0), digits::<2>(b, 5), digits::<2>(b, 8));
        let (hour, minute, second) = (digits::<2>(b, 11), digits::<2>(b, 14), digits::<2>(b, 17));
        if year > 9999 || hour > 23 || minute > 59 || second > 59 || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        let (micros, zone) = fraction(&b[19..])?;
        let seconds = i64::from(hour * 3600 + minute * 60 + second) - offset_seconds(zone)?;
        Some(Self((days_since_epoch(year, month, day) * DAY_SECONDS + seconds) * 1_000_000 + i64::from(micros)))
    }

    /// Appends RFC 3339 in UTC: `2026-01-31T23:59:57.804Z`; six digits of a second where three do not say it all.
    /// Years outside 0 to 9999 get a sign or more digits, which `parse` does not read.
    pub fn write(self, out: &mut Vec<u8>) {
        let (days, micros) = (self.0.div_euclid(DAY_SECONDS * 1_000_000), self.0.rem_euclid(DAY_SECONDS * 1_000_000));
        let (year, month, day) = date(days);
        if year < 0 {
            out.push(b'-');
        }
        let seconds = micros / 1_000_000;
        let mut put = |value: i64, width: u32, end: u8| {
            let value = value.unsigned_abs();
            let mut scale = 10u64.pow(width - 1);
            while value / scale > 9 {
                scale *= 10;
            }
            while scale > 0 {
                out.push(b'0' + (value / scale % 10) as u8);
                scale /= 10;
            }
            out.push(end);
        };
        put(year, 4, b'-');
        put(month, 2, b'-');
        put(day, 2, b'T');
        put(seconds / 3600, 2, b':');
        put(seconds / 60 % 60, 2, b':');
        put(seconds % 60, 2, b'.');
        match micros % 1_000_000 {
            us if us % 1000 == 0 => put(us / 1000, 3, b'Z'),
            us => put(us, 6, b'Z'),
        }
    }
}

/// The µs of `.123456789` at the start of `rest`, and what comes after it.
#[inline]
fn fraction(rest: &[u8]) -> Option<(u32, &[u8])> {
    let Some((b'.', rest)) = rest.split_first() else { return Some((0, rest)) };
    let mut micros = 0;
    let mut scale = 100_000;
    let mut len = 0;
    while let Some(digit) = rest.get(len).map(|byte| u32::from(byte.wrapping_sub(b'0'))).filter(|digit| *digit <= 9) {
        micros += digit * scale;
        scale /= 10;
        len += 1;
    }
    (1..=9).contains(&len).then(|| (micros, &rest[len..]))
}

#[inline]
fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match zone {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits::<2>(zone, 1), digits::<2>(zone, 4));
            let seconds = i64::from(hours * 3600) + i64::from(minutes * 60);
            (hours < 24 && minutes < 60).then_some(if *sign == b'+' { seconds } else { -seconds })
        }
        _ => None,
    }
}

/// 0 for a month that is none.
#[inline]
fn days_in_month(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    DAYS_IN_MONTH.get(month.wrapping_sub(1) as usize).map_or(0, |days| days + u32::from(leap && month == 2))
}

#[inline]
fn days_since_epoch(year: u32, month: u32, day: u32) -> i64 {
    // Years begin in March, so that the leap day comes last; 400 more keep year 0's January positive.
    let year = year + 400 - u32::from(month <= 2);
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    i64::from(year * 365 + year / 4 - year / 100 + year / 400 + day_of_year) - 719_468 - 146_097
}

fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn at(text: &str) -> Option<i64> {
        Timestamp::parse(text).map(|time| time.0)
    }

    fn written(time: i64) -> String {
        let mut out = Vec::new();
        Timestamp(time).write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn all_forms_of_one_instant_are_the_same() {
        for text in [
            "2026-01-31T23:59:57.804Z",
            "2026-01-31t23:59:57.804z",
            "2026-01-31 23:59:57.804",
            "2026-01-31T23:59:57.804000999",
            "2026-02-01T01:29:57.804+01:30",
            "2026-01-31T18:59:57.804-05:00",
        ] {
            assert_eq!(at(text), Some(1_769_903_997_804_000), "{text}");
        }
    }

    #[test]
    fn known_days_have_their_numbers() {
        assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(at("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(at("2000-02-29T00:00:00Z"), Some(951_782_400_000_000));
        assert_eq!(at("0000-01-01T00:00:00Z"), Some(-62_167_219_200_000_000));
        assert_eq!(at("9999-12-31T23:59:59Z"), Some(253_402_300_799_000_000));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026-01-31",
            "2026-01-31T24:00:00Z",
            "2026-01-31T23:60:00Z",
            "2026-01-31T23:59:60Z",
            "2025-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-01-31T23:59:57.Z",
            "2026-01-31T23:59:57.1234567890Z",
            "2026-01-31T23:59:57+0100",
            "2026-01-31T23:59:57+24:00",
            "2026-01-31T23:59:57ZZ",
            "2026-01-31T23:59:57 Z",
            "2026-01-31T23:59:5ßZ",
            "+026-01-31T23:59:57Z",
            "2026/01/31T23:59:57Z",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(time in -62_167_219_200_000_000i64..253_402_300_800_000_000, by in prop::sample::select(alloc::vec![1, 1000, 1_000_000])) {
            let time = time / by * by;
            prop_assert_eq!(at(&written(time)), Some(time));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,40}|[0-9TZ:. +-]{19,35}", any: i64) {
            let _ = at(&text);
            let _ = written(any);
        }
    }

    #[test]
    fn times_are_written_with_as_many_digits_as_they_need() {
        assert_eq!(written(1_769_903_997_804_000), "2026-01-31T23:59:57.804Z");
        assert_eq!(written(1), "1970-01-01T00:00:00.000001Z");
    }
}
