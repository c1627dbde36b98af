//! Facts about windows in pipeline files.

use proptest::prelude::*;

use super::super::tests::window;
use super::*;

const HOUR_US: i64 = DAY_US / 24;

fn in_zone(name: &str, unit: Unit, every: u32, steps: u32, offset_us: i64) -> Window {
    calendar(Zone::named(name).unwrap(), unit, every, steps, offset_us)
}

#[test]
fn windows_are_read() {
    assert_eq!(window("{ tumbling = \"30s\", offset = \"5s\" }"), Ok(Window::tumbling(30_000_000, 5_000_000)));
    assert_eq!(window("{ session = \"1 minute\" }"), Ok(Window::Session { gap_us: 60_000_000 }));
    let sliding = Window::sliding(60_000_000, 10_000_000, 0);
    assert_eq!(window("{ sliding = \"60s\", every = \"10s\" }"), Ok(sliding));
    assert_eq!(window("{ tumbling = \"1d12h\" }"), Ok(Window::tumbling(36 * HOUR_US, 0)));
}

#[test]
fn days_weeks_and_months_of_a_zone_are_read() {
    let berlin = |unit, every, steps, offset| Ok(in_zone("Europe/Berlin", unit, every, steps, offset));
    let read = |text: &str| window(&format!("{{ {text}, zone = \"Europe/Berlin\" }}"));
    assert_eq!(read("tumbling = \"1d\""), berlin(Unit::Day, 1, 1, 0));
    assert_eq!(read("tumbling = \"1 Day\", offset = \"4h\""), berlin(Unit::Day, 1, 1, 4 * HOUR_US));
    assert_eq!(read("tumbling = \"1w\""), berlin(Unit::Day, 7, 1, 4 * DAY_US));
    assert_eq!(read("tumbling = \"1w\", offset = \"-1d\""), berlin(Unit::Day, 7, 1, 3 * DAY_US));
    assert_eq!(read("tumbling = \"1 month\""), berlin(Unit::Month, 1, 1, 0));
    assert_eq!(read("tumbling = \"1q\""), berlin(Unit::Month, 3, 1, 0));
    assert_eq!(read("tumbling = \"1 year\", offset = \"-1h\""), berlin(Unit::Month, 12, 1, -HOUR_US));
    assert_eq!(read("sliding = \"1w\", every = \"1d\""), berlin(Unit::Day, 1, 7, 0));
    assert_eq!(read("sliding = \"12mo\", every = \"1mo\""), berlin(Unit::Month, 1, 12, 0));
}

#[test]
fn the_zone_utc_is_as_none() {
    for text in [
        "tumbling = \"1d\"",
        "tumbling = \"1w\", offset = \"1d\"",
        "tumbling = \"1mo\"",
        "tumbling = \"6h\", offset = \"1h\"",
        "sliding = \"4w\", every = \"1w\"",
    ] {
        let read = |zone: &str| window(&format!("{{ {text}{zone} }}"));
        assert_eq!(read(", zone = \"UTC\""), read(""), "{text}");
        assert_eq!(read(", zone = \"\""), read(""), "{text}");
    }
}

#[test]
fn a_week_begins_on_monday_and_seven_days_on_thursday_as_the_unix_epoch() {
    assert_eq!(window("{ tumbling = \"1w\" }"), Ok(Window::tumbling(7 * DAY_US, 4 * DAY_US)));
    assert_eq!(window("{ tumbling = \"7d\" }"), Ok(Window::tumbling(7 * DAY_US, 0)));
    assert_eq!(window("{ tumbling = \"7d\", offset = \"4d\" }"), window("{ tumbling = \"1w\" }"));
}

#[test]
fn an_offset_may_be_negative() {
    let read = |offset: &str| window(&format!("{{ tumbling = \"1d\", offset = {offset:?} }}"));
    assert_eq!(read("-8h"), Ok(Window::tumbling(DAY_US, 16 * HOUR_US)));
    assert_eq!(read("-8h"), read("16h"));
    assert_eq!(read("+8h"), read("8h"));
    let sliding = window("{ sliding = \"2d\", every = \"1d\", offset = \"-1h\" }");
    assert_eq!(sliding, Ok(Window::sliding(2 * DAY_US, DAY_US, 23 * HOUR_US)));
    let zone = window("{ tumbling = \"1d\", offset = \"-8h\", zone = \"Asia/Tokyo\" }");
    assert_eq!(zone, Ok(in_zone("Asia/Tokyo", Unit::Day, 1, 1, 16 * HOUR_US)));
}

#[test]
fn windows_that_cannot_be_say_why() {
    let at = |text: &str, says: &str| {
        let wrong = window(text).unwrap_err();
        assert_eq!(wrong.lines().count(), 1, "{wrong}");
        assert_eq!(wrong.strip_prefix("p.toml:11: aggregate.window").unwrap(), says);
    };
    at("{ tumbling = \"30x\" }", ".tumbling: \"30x\" is not a duration; write 500ms, 30s, 2m, 1h or \"30 seconds\"");
    at("{ tumbling = \"0s\" }", ".tumbling: \"0s\" is no time at all; write 500ms, 30s, 2m, 1h or \"30 seconds\"");
    at("{ tumbling = \"-1s\" }", ".tumbling: \"-1s\" is negative; write 500ms, 30s, 2m, 1h or \"30 seconds\"");
    at("{ tumbling = 30 }", ".tumbling: 30 has no unit; write 500ms, 30s, 2m, 1h or \"30 seconds\"");
    at(
        "{ tumbling = \"30s\", offset = \"30s\" }",
        ".offset: 30s is out of range; write less than the window's size, 30s",
    );
    at("{ sliding = \"60s\", every = \"7s\" }", ".every: 7s does not divide the window of 1m; write one that does");
    at("{ sliding = \"60s\", every = \"2m\" }", ".every: 2m is longer than the window of 1m; write a part of it");
    at(
        "{ sliding = \"1d\", every = \"1ms\" }",
        ".every: 1ms puts each row into 86400000 windows of 1d; write a longer one",
    );
    at("{ sliding = \"60s\" }", ".every: missing; write every = \"10s\": the time between two windows' starts");
    let whenever = "a session begins with an event, whenever that is; leave it out";
    at("{ session = \"30s\", offset = \"1s\" }", &format!(".offset: {whenever}"));
    at("{ session = \"30s\", zone = \"Europe/Berlin\" }", &format!(".zone: {whenever}"));
    at("{ tumbling = \"1d\", offset = \"1d\" }", ".offset: 1d is out of range; write less than the window's size, 1d");
    at(
        "{ tumbling = \"1d\", offset = \"-1d\" }",
        ".offset: -1d is out of range; write less than the window's size, 1d",
    );
    at(
        "{ tumbling = \"1d\", offset = \"--1h\" }",
        ".offset: \"-1h\" is negative; write 500ms, 30s, 2m, 1h or \"30 seconds\"",
    );
    at(
        "{ tumbling = \"1mo\", offset = \"30d\" }",
        ".offset: 30d is out of range; write less than 28d, the shortest month",
    );
    at(
        "{ sliding = \"1mo\", every = \"1d\" }",
        ".every: 1d does not divide the window of 1mo; write both in days and weeks, or in months",
    );
    at("{ tumbling = \"0d\" }", ".tumbling: \"0d\" is no time at all; write \"1d\", \"1w\" or \"1mo\"");
    at("{ tumbling = \"9999y\" }", ".tumbling: \"9999y\" is longer than 100 years; write \"1d\", \"1w\" or \"1mo\"");
    let a_length = "is a length of time, and days of a zone differ in length; write \"1d\", \"1w\" or \"1mo\", or leave the \
                    zone out";
    at("{ tumbling = \"24h\", zone = \"Europe/Berlin\" }", &format!(".tumbling: 24h {a_length}"));
    at("{ sliding = \"1d\", every = \"1h\", zone = \"Europe/Berlin\" }", &format!(".every: 1h {a_length}"));
    let kinds = "{ tumbling = \"30s\" }, { sliding = \"60s\", every = \"10s\" } or { session = \"30s\" }";
    at("{ tumbling = \"30s\", session = \"30s\" }", &format!(": a window is of one kind; write {kinds}"));
    at("{}", &format!(": a window is of one kind; write {kinds}"));
    at("\"30s\"", ": this is a section; write [aggregate.window]");
}

#[test]
fn a_zone_that_is_not_known_says_which_may_be_meant() {
    let at = |zone: &str, says: &str| {
        let wrong = window(&format!("{{ tumbling = \"1d\", zone = {zone:?} }}")).unwrap_err();
        assert_eq!(wrong, format!("p.toml:11: aggregate.window.zone: {zone:?} is not a time zone; {says}"));
    };
    at("Europe/Berln", "did you mean Europe/Berlin?");
    at("europe/berlin", "did you mean Europe/Berlin?");
    at("Berlin", "did you mean Europe/Berlin?");
    at("new york", "did you mean America/New_York?");
    at("somewhere/else/entirely", "write a name of the IANA database, such as Europe/Berlin");
}

fn any_window() -> impl Strategy<Value = Window> {
    let zones = prop::sample::select(vec!["Europe/Berlin", "Asia/Kolkata", "America/Los_Angeles"]);
    let even = (1i64..1_000_000_000_000, 1i64..20, 0i64..1_000_000_000_000)
        .prop_map(|(step, steps, offset)| Window::sliding(step * steps, step, offset % step));
    let days = (1u32..40, 1u32..20, 0i64..40, 0i64..3);
    prop_oneof![
        even,
        days.clone().prop_map(|(every, steps, days, hours)| {
            let step = i64::from(every) * DAY_US;
            Window::sliding(step * i64::from(steps), step, (days * DAY_US + hours * HOUR_US) % step)
        }),
        (zones.clone(), days).prop_map(|(zone, (every, steps, days, hours))| {
            let offset = (days * DAY_US + hours * HOUR_US) % (i64::from(every) * DAY_US);
            in_zone(zone, Unit::Day, every, steps, offset)
        }),
        (zones, 1u32..30, 1u32..20, -27i64..27)
            .prop_map(|(zone, every, steps, days)| { in_zone(zone, Unit::Month, every, steps, days * DAY_US) }),
        (1i64..1_000_000_000_000).prop_map(|gap_us| Window::Session { gap_us }),
    ]
}

proptest! {
    #[test]
    fn what_is_shown_reads_back_the_same(of in any_window()) {
        prop_assert_eq!(window(&format_window(&of)), Ok(of));
    }
}
