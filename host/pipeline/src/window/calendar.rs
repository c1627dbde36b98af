//! Windows of days, weeks and months as the clocks of a time zone show them: a day has 23 or 25 hours where these change.
//!
//! A step goes from one start to the next: from the first instant at which the zone's clock shows a start's date and
//! time, or a later one, to the first of the next start. So steps follow each other without gap or overlap, whatever is
//! done to the clock, and a date that a zone has skipped is no step.

use super::Span;
use super::zone::{DAY_US, LIMIT_US, Zone};
use crate::mutation::{self, Mutation};
use chrono::{DateTime, Datelike, NaiveDate};

/// What a calendar's windows are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Days, counted from 1970-01-01.
    Day,
    /// Months, counted from January 1970.
    Month,
}

/// A grid of windows that begin at dates of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// Whose clock counts.
    pub zone: Zone,
    /// What is counted.
    pub unit: Unit,
    /// From one start to the next, in units, above 0.
    pub every: u32,
    /// How many steps a window is long, above 0.
    pub steps: u32,
    /// How much later than the unit a window begins, by the clock, µs: shorter than `every` days, or than any month.
    pub offset_us: i64,
}

impl Calendar {
    /// The days of a zone.
    pub fn days(zone: Zone) -> Self {
        Self { zone, unit: Unit::Day, every: 1, steps: 1, offset_us: 0 }
    }

    /// The step that holds `time`.
    pub fn step(&self, time: i64) -> Span {
        // The end of time is in no window, as ends are exclusive.
        let time = time.min(i64::MAX - 1);
        let mut number = self.number_at(self.zone.clock_at(time));
        // Where the clock was set back over a start, it shows less than it did.
        while self.start(number + 1) <= time {
            number += 1;
        }
        while self.start(number) > time {
            number -= 1;
        }
        let start = self.start(number);
        if mutation::on(Mutation::DayOf24Hours) {
            return Span { start, end: start + i64::from(self.every) * DAY_US };
        }
        Span { start, end: self.start(number + 1) }
    }

    /// The date that a zone's clock shows at an instant, in days from 1970-01-01.
    pub fn date_at(&self, time: i64) -> i64 {
        self.zone.clock_at(time).div_euclid(DAY_US)
    }

    /// The number of the last start that the clock has come to when it shows `clock`.
    fn number_at(&self, clock: i64) -> i64 {
        let every = i64::from(self.every);
        match self.unit {
            Unit::Day => (clock - self.offset_us).div_euclid(every * DAY_US),
            Unit::Month => {
                let date = DateTime::from_timestamp_micros(clock - self.offset_us).unwrap_or_default();
                (i64::from(date.year() - 1970) * 12 + i64::from(date.month0())).div_euclid(every)
            }
        }
    }

    /// The instant of a start.
    fn start(&self, number: i64) -> i64 {
        let units = number * i64::from(self.every);
        let days = match self.unit {
            Unit::Day => units,
            Unit::Month => days_to_month(units),
        };
        self.zone.first_at(days * DAY_US + self.offset_us)
    }
}

/// The days from 1970-01-01 to the first of a month, of those counted from January 1970. Of a month beyond chrono's
/// calendar those to a day beyond the limit of ours.
fn days_to_month(month: i64) -> i64 {
    let year = i32::try_from(1970 + month.div_euclid(12)).ok();
    let first = year.and_then(|year| NaiveDate::from_ymd_opt(year, month.rem_euclid(12) as u32 + 1, 1));
    let beyond = month.signum() * (LIMIT_US / DAY_US + 1);
    first.map_or(beyond, |first| first.signed_duration_since(NaiveDate::default()).num_days())
}
