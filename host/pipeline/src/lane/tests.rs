//! Facts about what is too late for an aggregate.

use super::*;
use crate::plugin::Aggregate;
use crate::testing::{CountAndSum, TestParser, spec_on_the_calendar};

/// The end of the day in Berlin on which clocks go forward, after 23 hours: 2026-03-29T22:00Z.
const END_US: i64 = 1_774_821_600_000_000;

/// By how much a row at `time` is late for each aggregate, where its partition's watermark is `watermark`.
fn late_by(time: i64, watermark: i64) -> Vec<Option<i64>> {
    let spec = spec_on_the_calendar();
    let described = vec![CountAndSum::default().description().clone(); spec.aggregates.len()];
    let plan = Plan::new(&spec, "events", TestParser::default().description(), &described, 1).unwrap();
    let times = Times { events: vec![time].into(), watermarks: vec![watermark] };
    plan.aggregates.iter().map(|plan| judge(plan, &times, &mut 0).1.late_by_us.first().copied()).collect()
}

#[test]
fn a_row_is_late_for_a_day_of_23_hours_when_the_watermark_has_come_to_its_end() {
    assert_eq!(late_by(END_US - 1, END_US - 1)[0], None);
    assert_eq!(late_by(END_US - 1, END_US)[0], Some(0));
    assert_eq!(late_by(END_US, END_US)[0], None);
}

#[test]
fn a_row_is_late_for_a_session_when_the_watermark_has_passed_it_whatever_the_gap() {
    let window = spec_on_the_calendar().aggregates[2].window;
    let gap_us = window.last_end(0);
    let late = |watermark| {
        let late = late_by(END_US, watermark)[2];
        let rows = LateRows { late_by_us: late.into_iter().collect(), ..LateRows::default() };
        (late, within_gap(&window, &rows))
    };
    assert_eq!(late(END_US), (None, 0));
    assert_eq!(late(END_US + 1), (Some(1), 1));
    assert_eq!(late(END_US + gap_us - 1), (Some(gap_us - 1), 1));
    assert_eq!(late(END_US + gap_us), (Some(gap_us), 0));
}
