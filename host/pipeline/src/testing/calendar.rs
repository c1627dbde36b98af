//! The starts of a calendar's windows, found by looking at the zone's clock every few hours.

use crate::window::{Calendar, DAY_US, Unit};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;

/// How often the clock is looked at, µs: no zone has changed it twice in three hours.
const LOOK_US: i64 = 3 * DAY_US / 24;

/// All starts, ascending, that the windows of events from `from` to `to` have to do with.
pub fn starts(calendar: &Calendar, from: i64, to: i64) -> Vec<i64> {
    let zone: Tz = calendar.zone.name().parse().expect("it is a zone of this database");
    let units = i64::from(calendar.every) * i64::from(calendar.steps + 1);
    let margin = DAY_US * (3 + units * if calendar.unit == Unit::Month { 32 } else { 1 });
    let ahead_of_utc = |time: i64| {
        let offset = zone.offset_from_utc_datetime(&date_time(time)).fix();
        i64::from(offset.local_minus_utc()) * 1_000_000
    };
    let (mut at, last) = (from - margin, to + margin);
    let mut date = date_time(at + ahead_of_utc(at)).date();
    let mut starts = Vec::new();
    while at < last {
        let offset = ahead_of_utc(at);
        // The clock runs evenly up to there.
        let (mut even, mut beyond) = (at, at + LOOK_US);
        let changes = ahead_of_utc(beyond) != offset;
        while changes && beyond - even > 1 {
            let middle = i64::midpoint(even, beyond);
            if ahead_of_utc(middle) == offset { even = middle } else { beyond = middle }
        }
        let next = |date: NaiveDate| next_start(calendar, date).map(|date| (date, shown_at(date) + calendar.offset_us));
        while let Some((found, shown)) = next(date).filter(|(_, shown)| *shown < beyond + offset) {
            starts.push((shown - offset).max(at));
            date = found.succ_opt().expect("there is a day after it");
        }
        at = beyond;
    }
    starts.dedup();
    starts
}

/// The windows of an event, by all starts.
pub fn windows(calendar: &Calendar, starts: &[i64], at: i64) -> Vec<(i64, i64)> {
    let steps = calendar.steps as usize;
    let newest = starts.partition_point(|&start| start <= at) - 1;
    (0..steps).map(|back| (starts[newest - back], starts[newest - back + steps])).collect()
}

/// The first date from this one on with which a window starts.
fn next_start(calendar: &Calendar, from: NaiveDate) -> Option<NaiveDate> {
    let every = i64::from(calendar.every);
    from.iter_days().find(|date| match calendar.unit {
        Unit::Day => days(*date).rem_euclid(every) == 0,
        Unit::Month => date.day() == 1 && i64::from(date.year() * 12 + date.month0() as i32).rem_euclid(every) == 0,
    })
}

fn days(date: NaiveDate) -> i64 {
    date.signed_duration_since(NaiveDate::default()).num_days()
}

/// What a clock shows at the beginning of a date, µs from 1970-01-01.
fn shown_at(date: NaiveDate) -> i64 {
    days(date) * DAY_US
}

fn date_time(time: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(time).expect("tests use no times beyond the calendar").naive_utc()
}
