//! Instants as people write them: `2026-01-31T12:00:00+01:00` in its usual forms, and seconds or finer since the Unix epoch.

use chrono::{NaiveDate, NaiveTime};

/// What to write instead, for messages.
pub(super) const EXAMPLES: &str =
    "2026-01-31T12:00:00Z, 2026-01-31, or since 1970 seconds (10 digits) or milliseconds (13 digits)";

/// By its size a number of units since the Unix epoch is in the unit with which it lies between March 1973 and November
/// 2286: these ranges do not touch, and Kafka is younger. First number, first number after, µs in 1,000 units.
const UNITS: [(i64, i64, i64); 4] = [
    (100_000_000, 10_000_000_000, 1_000_000_000),
    (100_000_000_000, 10_000_000_000_000, 1_000_000),
    (100_000_000_000_000, 10_000_000_000_000_000, 1_000),
    (100_000_000_000_000_000, i64::MAX, 1),
];

/// Reads an instant, µs since the Unix epoch. Without a zone it is in UTC, and without a time it is midnight.
///
/// # Errors
/// What is wrong with `text` and what would be right.
pub fn parse_instant(text: &str) -> Result<i64, String> {
    let text = text.trim();
    if text == "0" {
        return Ok(0);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse::<i64>().ok();
        let unit = number.and_then(|number| UNITS.iter().find(|unit| (unit.0..unit.1).contains(&number)));
        return number.zip(unit).map(|(number, unit)| in_us(number, unit.2)).ok_or_else(|| {
            format!(
                "{text:?} may be seconds or milliseconds since 1970, and neither is of 1973 to 2286; write {EXAMPLES}"
            )
        });
    }
    written(text).ok_or_else(|| format!("{text:?} is not a time; write {EXAMPLES}"))
}

fn in_us(number: i64, us_in_1000: i64) -> i64 {
    (i128::from(number) * i128::from(us_in_1000) / 1000) as i64
}

fn written(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked("2026-01-31".len())?;
    let date: NaiveDate = date.parse().ok()?;
    let (time, ahead_minutes) = match rest.strip_prefix(['T', 't', ' ']) {
        None if rest.is_empty() => (NaiveTime::MIN, 0),
        None => return None,
        Some(rest) => {
            let (time, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
            (time_of_day(time.trim_end())?, minutes_ahead(zone)?)
        }
    };
    Some(date.and_time(time).and_utc().timestamp_micros() - ahead_minutes * 60_000_000)
}

fn time_of_day(text: &str) -> Option<NaiveTime> {
    let text = text.replace(',', ".");
    NaiveTime::parse_from_str(&text, "%H:%M:%S%.f").or_else(|_| NaiveTime::parse_from_str(&text, "%H:%M")).ok()
}

/// How far a zone's clock is ahead of UTC: `Z`, `+01`, `+0100`, `+01:00`; nothing is UTC.
fn minutes_ahead(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let digits = zone[1..].replacen(':', "", 1);
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = digits.split_at(2);
    let ahead = hours.parse::<i64>().ok()? * 60 + if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
    Some(if zone.starts_with('-') { -ahead } else { ahead })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_instant_is_read_in_its_usual_forms() {
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31t12:00:00z",
            "2026-01-31 12:00:00",
            "2026-01-31T12:00",
            "2026-01-31T13:00:00+01:00",
            "2026-01-31T13:00:00+0100",
            "2026-01-31 13:00+01",
            "2026-01-31T04:00:00.000-08:00",
            "2026-01-31T12:00:00,0 Z",
            "1769860800",
            "1769860800000",
            "1769860800000000",
            "1769860800000000000",
            " 1769860800 ",
        ] {
            assert_eq!(parse_instant(text), Ok(1_769_860_800_000_000), "{text}");
        }
        assert_eq!(parse_instant("1900-01-01"), Ok(-2_208_988_800_000_000));
        assert_eq!(parse_instant("0"), Ok(0));
        assert_eq!(parse_instant("1970-01-01T00:00:01.5Z"), Ok(1_500_000));
    }

    #[test]
    fn seconds_are_told_from_milliseconds_by_their_size() {
        assert_eq!(parse_instant("1773144030"), parse_instant("1773144030000"));
        for text in ["1500", "99999999", "10000000000", "99999999999", "99999999999999999999"] {
            let wrong = parse_instant(text).unwrap_err();
            assert!(wrong.contains("may be seconds or milliseconds since 1970, and neither is of 1973"), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_an_instant_says_what_would_be() {
        for text in ["", "yesterday", "2026-13-01", "2026-01-31X", "2026-01-31T25:00", "2026-01-31T12:00:00+1", "12:00"]
        {
            assert_eq!(parse_instant(text), Err(format!("{text:?} is not a time; write {EXAMPLES}")));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9TZ:+\\-., é]{0,30}") {
            let _ = parse_instant(&text);
        }
    }
}
