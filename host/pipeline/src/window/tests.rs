//! Laws and facts about grids, held against a clock that is looked at every few hours.

use super::zone::LIMIT_US;
use super::*;
use crate::testing::calendar::{starts, windows};
use chrono::{DateTime, NaiveDate};
use proptest::prelude::*;

const HOUR_US: i64 = DAY_US / 24;

fn zone(name: &str) -> Zone {
    Zone::named(name).unwrap()
}

fn instant(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

/// The hours of the step that holds an instant, and when it starts.
fn step(calendar: Calendar, at: &str) -> (String, i64) {
    let Span { start, end } = calendar.step(instant(at));
    (DateTime::from_timestamp_micros(start).unwrap().to_rfc3339(), (end - start) / HOUR_US)
}

fn any_zone() -> impl Strategy<Value = Zone> {
    (0..Zone::all().count()).prop_map(|index| Zone::all().nth(index).unwrap())
}

/// Days, weeks, months and more, some with an offset and some of several steps.
fn any_calendar() -> impl Strategy<Value = Calendar> {
    let unit = prop_oneof![
        (1u32..15, 0i64..24).prop_map(|(every, hours)| (Unit::Day, every, hours * HOUR_US)),
        (1u32..4, -20i64..20).prop_map(|(every, days)| (Unit::Month, every, days * DAY_US)),
    ];
    (any_zone(), unit, 1u32..4).prop_map(|(zone, (unit, every, offset_us), steps)| Calendar {
        zone,
        unit,
        every,
        steps,
        offset_us,
    })
}

/// From 1970 to 2037: what later years bring is nobody's promise.
fn any_time() -> impl Strategy<Value = i64> {
    0..instant("2037-06-01T00:00:00Z")
}

proptest! {
    #[test]
    fn every_event_lies_in_exactly_size_over_step_windows(time in -1_000_000i64..1_000_000, step in 1i64..500, n in 1i64..6, shift in 0i64..500) {
        let grid = Even { size: step * n, step, offset: shift % step };
        let newest = grid.newest_start(time);
        let holding = (-1..=n).map(|k| newest - k * step).filter(|&s| s <= time && time < grid.end(s)).count() as i64;
        prop_assert_eq!(holding, n);
        prop_assert!((newest - grid.offset).rem_euclid(step) == 0);
    }

    #[test]
    fn steps_of_a_calendar_follow_each_other_without_gap_or_overlap(calendar in any_calendar(), time in any_time()) {
        let step = calendar.step(time);
        prop_assert!(step.start <= time && time < step.end);
        for inside in [step.start, i64::midpoint(step.start, step.end), step.end - 1] {
            prop_assert_eq!(calendar.step(inside), step);
        }
        prop_assert_eq!(calendar.step(step.end).start, step.end);
        prop_assert_eq!(calendar.step(step.start - 1).end, step.start);
    }

    #[test]
    fn windows_of_a_calendar_are_those_that_its_clock_shows(calendar in any_calendar(), time in any_time()) {
        let grid = Grid::Calendar(calendar);
        let starts = starts(&calendar, time, time);
        let windows = windows(&calendar, &starts, time);
        for (back, (start, end)) in (0..).zip(windows) {
            prop_assert_eq!(Finder::new(&grid, back).window(time), Span { start, end });
        }
    }

    #[test]
    fn days_of_utc_are_an_even_grid(time in any::<i64>(), every in 1u32..15, offset in 0i64..24) {
        let offset = offset * HOUR_US;
        let calendar = Calendar { every, offset_us: offset, ..Calendar::days(Zone::UTC) };
        let step = i64::from(every) * DAY_US;
        let time = time / 2;
        prop_assert_eq!(Grid::Calendar(calendar).step(time), Grid::Even(Even { size: step, step, offset }).step(time));
    }

    #[test]
    fn a_finder_finds_what_the_grid_says_in_any_order(times in prop::collection::vec(-200i64..200, 0..40), watermark in -200i64..200) {
        let grid = Grid::Even(Even { size: 40, step: 10, offset: 3 });
        let mut finder = Finder::new(&grid, 0);
        for time in times {
            let window = finder.window(time);
            prop_assert_eq!(window, Span { start: last_start(time, 10, 3), end: last_start(time, 10, 3) + 40 });
            let over = (0..4).filter(|back| window.end - back * 10 + 5 <= watermark).count() as i64;
            prop_assert_eq!(finder.windows_missed(5, watermark), over);
        }
    }
}

#[test]
fn no_time_and_no_zone_make_it_panic() {
    for zone in Zone::all() {
        for (unit, offset_us) in [(Unit::Day, 5), (Unit::Month, -1)] {
            let calendar = Calendar { unit, every: 7, offset_us, ..Calendar::days(zone) };
            for time in [i64::MIN, i64::MIN / 2, -LIMIT_US, LIMIT_US, i64::MAX / 2, i64::MAX - 1] {
                let step = calendar.step(time);
                assert!(step.start <= time && time < step.end, "{calendar:?} {time}");
            }
            calendar.step(i64::MAX);
        }
    }
}

#[test]
fn a_day_has_23_or_25_hours_where_the_clock_changes() {
    let berlin = Calendar::days(zone("Europe/Berlin"));
    assert_eq!(step(berlin, "2026-03-28T12:00:00Z"), ("2026-03-27T23:00:00+00:00".into(), 24));
    assert_eq!(step(berlin, "2026-03-29T12:00:00Z"), ("2026-03-28T23:00:00+00:00".into(), 23));
    assert_eq!(step(berlin, "2026-10-25T12:00:00Z"), ("2026-10-24T22:00:00+00:00".into(), 25));
    let california = Calendar::days(zone("America/Los_Angeles"));
    assert_eq!(step(california, "2026-03-08T12:00:00Z"), ("2026-03-08T08:00:00+00:00".into(), 23));
}

#[test]
fn a_week_across_a_clock_change_has_an_hour_less() {
    // Weeks from Monday: 1970-01-05 was one.
    let weeks = Calendar { every: 7, offset_us: 4 * DAY_US, ..Calendar::days(zone("Europe/Berlin")) };
    assert_eq!(step(weeks, "2026-03-29T21:59:59Z"), ("2026-03-22T23:00:00+00:00".into(), 7 * 24 - 1));
}

#[test]
fn a_month_is_as_long_as_its_days_and_its_zone_say() {
    let months = Calendar { unit: Unit::Month, ..Calendar::days(zone("Europe/Berlin")) };
    assert_eq!(step(months, "2026-01-31T22:59:59Z"), ("2025-12-31T23:00:00+00:00".into(), 31 * 24));
    assert_eq!(step(months, "2026-03-15T00:00:00Z"), ("2026-02-28T23:00:00+00:00".into(), 31 * 24 - 1));
    assert_eq!(step(months, "2024-02-29T12:00:00Z"), ("2024-01-31T23:00:00+00:00".into(), 29 * 24));
    let quarters = Calendar { every: 3, ..months };
    assert_eq!(step(quarters, "2026-05-15T00:00:00Z"), ("2026-03-31T22:00:00+00:00".into(), 91 * 24));
    let fiscal = Calendar { offset_us: 14 * DAY_US, ..months };
    assert_eq!(step(fiscal, "2026-03-15T00:00:00Z"), ("2026-03-14T23:00:00+00:00".into(), 31 * 24 - 1));
}

#[test]
fn a_day_without_midnight_begins_when_the_clock_has_gone_forward() {
    let sao_paulo = Calendar::days(zone("America/Sao_Paulo"));
    assert_eq!(step(sao_paulo, "2018-11-04T12:00:00Z"), ("2018-11-04T03:00:00+00:00".into(), 23));
    let beirut = Calendar::days(zone("Asia/Beirut"));
    assert_eq!(step(beirut, "2022-03-27T12:00:00Z"), ("2022-03-26T22:00:00+00:00".into(), 23));
}

#[test]
fn a_day_that_shows_midnight_twice_begins_with_the_first() {
    let havana = Calendar::days(zone("America/Havana"));
    assert_eq!(step(havana, "2025-11-02T12:00:00Z"), ("2025-11-02T04:00:00+00:00".into(), 25));
}

#[test]
fn a_date_that_a_zone_has_skipped_is_no_step() {
    let apia = Calendar::days(zone("Pacific/Apia"));
    let before = apia.step(instant("2011-12-30T09:59:59Z"));
    assert_eq!(before.end, instant("2011-12-30T10:00:00Z"));
    assert_eq!(step(apia, "2011-12-30T10:00:00Z"), ("2011-12-30T10:00:00+00:00".into(), 24));
    assert_eq!(apia.date_at(before.end) - apia.date_at(before.start), 2);
    let two_days = Grid::Calendar(Calendar { steps: 2, ..apia });
    assert_eq!(two_days.end(before.start), instant("2011-12-31T10:00:00Z"));
}

#[test]
fn zones_half_an_hour_off_and_with_half_an_hour_of_summer_have_days_too() {
    let kolkata = Calendar::days(zone("Asia/Kolkata"));
    assert_eq!(step(kolkata, "2026-01-01T00:00:00Z"), ("2025-12-31T18:30:00+00:00".into(), 24));
    let lord_howe = Calendar::days(zone("Australia/Lord_Howe"));
    let day = lord_howe.step(instant("2026-04-04T20:00:00Z"));
    assert_eq!((day.end - day.start) / 60_000_000, 24 * 60 + 30);
}

#[test]
fn a_day_of_before_there_were_zones_is_that_of_the_sun() {
    let brussels = Calendar::days(zone("Europe/Brussels"));
    let noon = NaiveDate::from_ymd_opt(1870, 6, 1).unwrap().and_hms_opt(12, 0, 0).unwrap().and_utc();
    assert_eq!(step(brussels, &noon.to_rfc3339()).0, "1870-05-31T23:42:30+00:00");
}
