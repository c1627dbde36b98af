//! Facts about reading and writing times.

use super::*;
use alloc::format;
use alloc::string::{String, ToString};
use proptest::prelude::*;

/// 2026-03-10T12:05:00Z, in µs.
const NOON: i64 = 1_773_144_300_000_000;
const SECOND: i64 = 1_000_000;

fn at(text: &str) -> Option<i64> {
    Timestamp::parse(text).map(|time| time.0)
}

fn counted(number: &str) -> Option<i64> {
    TimeReader::default().number(number).map(|time| time.0)
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
        "2026-01-31T23:59:57,804Z",
        "20260131T235957.804Z",
        "20260131T235957,804",
        "2026-031T23:59:57.804Z",
        "2026031T235957.804Z",
        "2026-W05-6T23:59:57.804Z",
        "2026W056T235957.804Z",
        "2026-02-01T01:29:57.804+01:30",
        "2026-02-01T01:29:57.804+0130",
        "2026-01-31T18:59:57.804-05:00",
        "2026-01-31T18:59:57.804-05",
        "2026-02-01 00:59:57.804000000 +0100",
        "2026-02-01 00:59:57.804 +0100 CET",
        "2026-02-01T00:59:57.804+01:00[Europe/Berlin]",
        "2026-01-31 23:59:57.804 UTC",
        "2026-01-31T23:59:57.804GMT",
        " 2026-01-31T23:59:57.804Z\n",
        "1769903997804",
        "1769903997.804",
        " 1769903997804000 ",
        "1769903997804000000",
        "1.769903997804E9",
        "1769903997804.000999",
    ] {
        assert_eq!(at(text), Some(1_769_903_997_804_000), "{text}");
    }
}

#[test]
fn what_is_left_away_is_zero() {
    for text in [
        "2026-03-10T12:05Z",
        "2026-03-10T12:05",
        "2026-03-10 12:05",
        "2026-03-10T13:05+01:00",
        "20260310T1205Z",
        "20260310T120500Z",
        "20260310T12:05:00Z",
        "2026-03-10T12:05:00.0Z",
    ] {
        assert_eq!(at(text), Some(NOON), "{text}");
    }
    let midnight = Some(NOON - (12 * 60 + 5) * 60 * SECOND);
    for text in
        ["2026-03-10", "20260310", "2026-069", "2026-W11-2", "2026-03-10Z", "2026-03-10T00", "2026-03-09T24:00:00Z"]
    {
        assert_eq!(at(text), midnight, "{text}");
    }
    assert_eq!(at("2026-03-10T12Z"), Some(NOON - 5 * 60 * SECOND));
}

#[test]
fn known_days_have_their_numbers() {
    assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(at("1969-12-31T23:59:59.999999Z"), Some(-1));
    assert_eq!(at("2000-02-29T00:00:00Z"), Some(951_782_400_000_000));
    assert_eq!(at("0000-01-01T00:00:00Z"), Some(-62_167_219_200_000_000));
    assert_eq!(at("9999-12-31T23:59:59Z"), Some(253_402_300_799_000_000));
    // ISO 8601's own examples of weeks at the turn of a year.
    for (week, day) in [
        ("2004-W53-6", "2005-01-01"),
        ("2008-W01-1", "2007-12-31"),
        ("2009-W53-7", "2010-01-03"),
        ("2024-366", "2024-12-31"),
    ] {
        assert_eq!(at(week), at(day), "{week}");
    }
}

#[test]
fn a_leap_second_is_the_second_after_it() {
    let midnight = at("2017-01-01T00:00:00Z");
    assert!(midnight.is_some());
    for text in ["2016-12-31T23:59:60Z", "2016-12-31T15:59:60-08:00", "20170101T055960+0600"] {
        assert_eq!(at(text), midnight, "{text}");
    }
    assert_eq!(at("2016-12-31T23:59:60.5Z"), midnight.map(|time| time + SECOND / 2));
}

#[test]
fn what_is_no_time_is_none() {
    for text in [
        "",
        " ",
        "yesterday",
        "null",
        "2026",
        "2026-03",
        "202603",
        "2026069",
        "20260310120500",
        "2026-02-30",
        "2025-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-366",
        "2026-000",
        "2026-W54-1",
        "2026-W00-1",
        "2026-W11-8",
        "2026-W112",
        "2026-3-10",
        "2026-03-10T24:00:01Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T23:60:00Z",
        "2026-03-10T12:05:60Z",
        "2026-12-31T23:59:61Z",
        "2026-01-31T23:59:57.Z",
        "2026-01-31T23:59:57.1234567890Z",
        "2026-01-31T23:59.5Z",
        "2026-01-31T23:59:57+24:00",
        "2026-01-31T23:59:57+01:60",
        "2026-01-31T23:59:57+1",
        "2026-01-31T23:59:57+01:00:00",
        "2026-01-31T23:59:57ZZ",
        "2026-01-31T23:59:57Z x",
        "2026-01-31T23:59:57 CET",
        "2026-01-31T23:59:57[Europe/Berlin]",
        "2026-01-31T23:59:5ßZ",
        "2026-01-31T5:59:57Z",
        "+026-01-31T23:59:57Z",
        "-0001-01-31T23:59:57Z",
        "+002026-03-10T12:05:00Z",
        "12026-03-10T12:05:00Z",
        "2026/01/31T23:59:57Z",
        "03/10/2026 12:05",
        "Tue, 10 Mar 2026 12:05:00 GMT",
        "0000-00-00 00:00:00",
    ] {
        assert_eq!(at(text), None, "{text}");
    }
}

#[test]
fn numbers_are_told_by_their_digits() {
    for number in [
        "1773144300",
        "1773144300.0",
        "1.7731443e9",
        "1773144300000",
        "1773144300000000",
        "1773144300000000000",
        "17731443e2",
        "177314430000000e-5",
    ] {
        assert_eq!(counted(number), Some(NOON), "{number}");
        assert_eq!(at(number), Some(NOON), "{number} as a text");
    }
    assert_eq!(counted("1773144300.123456999"), Some(NOON + 123_456));
    assert_eq!(counted("1773144300123.999999"), Some(NOON + 123_999));
    assert_eq!(counted("1773144300123456789"), Some(NOON + 123_456));
    for number in
        ["0", "-0", "20260310", "99999999", "10000000000", "20260310120500", "1e400", "1e-400", "1e99999999999999"]
    {
        assert_eq!(counted(number), None, "{number}");
    }
    for text in
        ["+1773144300", "01773144300", "1773144300.", ".5", "0x69b00a6c", "1_773_144_300", "1773144300,5", "1e", "-"]
    {
        assert_eq!(at(text), None, "{text}");
    }
}

#[test]
fn each_unit_covers_1973_to_2286_and_the_same_before_1970() {
    for (least, most) in [
        ("100000000", "9999999999"),
        ("100000000000", "9999999999999"),
        ("100000000000000", "9999999999999999"),
        ("100000000000000000", "9999999999999999999"),
    ] {
        let (first, last) = (counted(least).unwrap(), counted(most).unwrap());
        assert_eq!(written(first), "1973-03-03T09:46:40.000Z");
        assert!(written(last).starts_with("2286-11-20T17:46:39."), "{most}");
        assert_eq!(counted(&format!("-{least}")), Some(-first));
        assert!(counted(&format!("-{most}")).is_some_and(|time| (-last - 1..=-last).contains(&time)), "cut downwards");
    }
}

#[test]
fn a_named_unit_takes_any_number() {
    for (numbers, number, want) in [
        (Numbers::Seconds, "0", Some(0)),
        (Numbers::Seconds, "17", Some(17 * SECOND)),
        (Numbers::Seconds, "-1.5", Some(-1_500_000)),
        (Numbers::Seconds, "1773144300000", None),
        (Numbers::Millis, "1773144300", Some(1_773_144_300_000)),
        (Numbers::Micros, "-1", Some(-1)),
        (Numbers::Micros, "-0.1", Some(-1)),
        (Numbers::Nanos, "1999", Some(1)),
        (Numbers::Nanos, "-1", Some(-1)),
        (Numbers::Nothing, "1773144300", None),
    ] {
        let reader = TimeReader::of(numbers);
        assert_eq!(reader.number(number).map(|time| time.0), want, "{numbers:?} {number}");
        assert_eq!(reader.text(number.as_bytes()).map(|time| time.0), want, "{numbers:?} {number} as a text");
        assert_eq!(reader.text(b"2026-03-10T12:05Z"), Some(Timestamp(NOON)), "{numbers:?}");
    }
    assert_eq!(TimeReader::of(Numbers::Seconds).text(b"20260310"), Some(Timestamp(20_260_310 * SECOND)));
}

#[test]
fn arrays_have_the_parts_down_to_the_nanosecond() {
    let array = |array: &str| TimeReader::default().array(array).map(|time| time.0);
    assert_eq!(array("[2026,3,10,12,5]"), Some(NOON));
    assert_eq!(array("[2026, 3, 10, 12, 5, 7]"), Some(NOON + 7 * SECOND));
    assert_eq!(array("[2026,3,10,12,5,0,123456789]"), Some(NOON + 123_456));
    assert_eq!(array("[2026,3,10]"), at("2026-03-10"));
    for odd in [
        "[]",
        "[2026]",
        "[2026,3]",
        "[2026,3,10,12]",
        "[2026,13,10]",
        "[2026,3,10,12,60]",
        "[2026,3,10,12,5,0,1,1]",
        "[2026,3,10,12,5,0,1234567890]",
        "[2026,3,-1]",
        "[\"2026\",3,10]",
        "[2026.0,3,10]",
        "[[2026,3,10]]",
        "{}",
        "[10000,1,1]",
    ] {
        assert_eq!(array(odd), None, "{odd}");
    }
}

fn of_settings(json: &str) -> Result<TimeReader, String> {
    Config::make(json, |config| TimeReader::take(config, "event_time", "assume_zone"))
}

use crate::config::Config;

#[test]
fn a_time_without_a_zone_has_the_assumed_one() {
    let east = of_settings(r#"{"assume_zone":"+01:00"}"#).unwrap();
    assert_eq!(east.text(b"2026-03-10T13:05"), Some(Timestamp(NOON)));
    assert_eq!(east.array("[2026,3,10,13,5]"), Some(Timestamp(NOON)));
    assert_eq!(east.text(b"2026-03-10T12:05Z"), Some(Timestamp(NOON)), "it has its own");
    let nowhere = of_settings(r#"{"assume_zone":"none"}"#).unwrap();
    for text in ["2026-03-10T12:05:00", "2026-03-10"] {
        assert_eq!(nowhere.text(text.as_bytes()), None, "{text}");
    }
    assert_eq!(nowhere.text(b"1773144300"), Some(Timestamp(NOON)));
}

#[test]
fn settings_name_a_form_and_a_zone() {
    assert_eq!(of_settings("{}"), Ok(TimeReader::default()));
    assert_eq!(of_settings(r#"{"event_time":"auto","assume_zone":"UTC"}"#), Ok(TimeReader::default()));
    assert_eq!(of_settings(r#"{"event_time":"epoch_ms"}"#), Ok(TimeReader::of(Numbers::Millis)));
    assert_eq!(of_settings(r#"{"event_time":"iso"}"#), Ok(TimeReader::of(Numbers::Nothing)));
    let form = of_settings(r#"{"event_time":"unix"}"#).unwrap_err();
    assert_eq!(form, "event_time: want auto, iso, epoch_s, epoch_ms, epoch_us or epoch_ns");
    let zone = of_settings(r#"{"assume_zone":"Europe/Berlin"}"#).unwrap_err();
    assert_eq!(zone, "assume_zone: want UTC, an offset such as +01:00, or none");
}

#[test]
fn times_are_written_with_as_many_digits_as_they_need() {
    assert_eq!(written(1_769_903_997_804_000), "2026-01-31T23:59:57.804Z");
    assert_eq!(written(1), "1970-01-01T00:00:00.000001Z");
}

/// Instants of the years 0 to 9999, often without µs, seconds or minutes.
fn instant() -> impl Strategy<Value = i64> {
    let step = prop::sample::select(alloc::vec![1, 1000, SECOND, 60 * SECOND, 86_400 * SECOND]);
    (-62_167_000_000_000_000i64..253_402_000_000_000_000, step).prop_map(|(time, step)| time.div_euclid(step) * step)
}

proptest! {
    #[test]
    fn what_is_written_is_read(time in instant()) {
        prop_assert_eq!(at(&written(time)), Some(time));
    }

    #[test]
    fn every_form_says_the_same_as_the_one_that_is_written(time in instant(), minutes in -1439i64..1440) {
        let utc = written(time);
        let (day, clock) = (&utc[..10], utc[11..].trim_end_matches('Z'));
        let basic = format!("{}T{}Z", day.replace('-', ""), clock.replace(':', ""));
        let ordinal = (time - at(&format!("{}-01-01", &day[..4])).unwrap()).div_euclid(86_400 * SECOND) + 1;
        for text in [basic, format!("{}-{ordinal:03}T{clock}Z", &day[..4]), format!("{day} {clock}"), utc.to_lowercase()] {
            prop_assert_eq!(at(&text), Some(time), "{}", text);
        }
        let local = written(time + minutes * 60 * SECOND);
        prop_assume!(local.len() == utc.len() && !local.starts_with('-'));
        let (sign, offset) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
        for colon in ["", ":"] {
            let text = format!("{}{sign}{:02}{colon}{:02}", local.trim_end_matches('Z'), offset / 60, offset % 60);
            prop_assert_eq!(at(&text), Some(time), "{}", text);
        }
    }

    #[test]
    fn every_unit_says_the_same(time in 100_000_000_000_000i64..10_000_000_000_000_000, negative: bool) {
        let sign = if negative { "-" } else { "" };
        let time_us = if negative { -time } else { time };
        for number in [
            format!("{sign}{time}"),
            format!("{sign}{time}000"),
            format!("{sign}{}.{:03}", time / 1000, time % 1000),
            format!("{sign}{}.{:06}", time / SECOND, time % SECOND),
            format!("{sign}{time}e-6"),
            format!("{sign}{}.{}E{}", &time.to_string()[..1], &time.to_string()[1..], time.to_string().len() - 7),
        ] {
            prop_assert_eq!(counted(&number), Some(time_us), "{}", number);
        }
    }

    #[test]
    fn no_text_is_too_strange(
        text in "\\PC{0,40}|[0-9TZW:,. +-]{4,35}|[0-9]{1,25}(\\.[0-9]{1,25})?(e-?[0-9]{1,12})?|\\[[0-9, ]{0,40}\\]",
        any: i64,
    ) {
        let read = TimeReader::default().text(text.as_bytes());
        prop_assert!(read.is_none_or(|time| written(time.0).len() <= 27), "no year of five digits");
        let _ = (TimeReader::default().array(&text), written(any));
        let _ = TimeReader::of(Numbers::Seconds).number(&text);
    }
}
