//! Time zones: what their clocks show, and when they first show a time.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use std::fmt;

/// The version of the IANA time zone database that is compiled in, such as `2025b`.
pub const DATA_VERSION: &str = chrono_tz::IANA_TZDB_VERSION;

/// µs in a day of 24 hours.
pub const DAY_US: i64 = 86_400_000_000;

/// Times further than this from the Unix epoch, 200,000 years, have no calendar: there chrono's ends, at 262,000.
pub(super) const LIMIT_US: i64 = 200_000 * 365 * DAY_US;

/// No clock was ever further than this from UTC, nor set back or forward by more: 26 hours.
const FURTHEST_US: i64 = 26 * 3_600_000_000;

/// A time zone of the IANA database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Zone(Tz);

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Self = Self(Tz::UTC);

    /// The zone with exactly this name, such as `Europe/Berlin`.
    pub fn named(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    /// All zones.
    pub fn all() -> impl Iterator<Item = Self> {
        TZ_VARIANTS.iter().copied().map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// What its clock shows at an instant, as µs from a clock's 1970-01-01 00:00. An instant without a calendar counts as
    /// the nearest that has one.
    pub(super) fn clock_at(self, time: i64) -> i64 {
        let time = time.clamp(-LIMIT_US, LIMIT_US);
        let offset = self.0.offset_from_utc_datetime(&naive(time)).fix();
        time + i64::from(offset.local_minus_utc()) * 1_000_000
    }

    /// The first instant at which its clock shows `clock` or later: where clocks go forward over it, when they do; where
    /// they are set back and show it twice, the first time.
    pub(super) fn first_at(self, clock: i64) -> i64 {
        if clock.abs() > LIMIT_US {
            return if clock < 0 { i64::MIN } else { i64::MAX };
        }
        match self.0.offset_from_local_datetime(&naive(clock)) {
            LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => {
                clock - i64::from(offset.fix().local_minus_utc()) * 1_000_000
            }
            LocalResult::None => self.end_of_gap(clock),
        }
    }

    /// The instant at which its clock goes forward over `clock`.
    fn end_of_gap(self, clock: i64) -> i64 {
        let (mut before, mut after) = (clock - FURTHEST_US, clock + FURTHEST_US);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.clock_at(middle) < clock { before = middle } else { after = middle }
        }
        after
    }
}

/// µs since an epoch, within the limit, as a date and time.
fn naive(us: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(us).expect("chrono's calendar goes beyond the limit").naive_utc()
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
