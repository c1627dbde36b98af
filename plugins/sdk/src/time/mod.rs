//! Instants: microseconds since the Unix epoch, and how people write them.
//!
//! # Source
//! RFC 3339 for the form that is written; Hinnant, "chrono-compatible low-level date algorithms", for days and dates.

mod epoch;
mod iso;
mod reader;

pub use reader::{Numbers, TimeReader};

use alloc::vec::Vec;

/// An instant, in µs since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

const DAY_SECONDS: i64 = 86_400;
const DAYS_IN_MONTH: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Timestamp {
    /// Reads a text as [`TimeReader::default`] does: any form that has one meaning only, in UTC where it names no zone.
    #[inline]
    #[must_use]
    pub fn parse<T: AsRef<[u8]> + ?Sized>(text: &T) -> Option<Self> {
        TimeReader::default().text(text.as_ref())
    }

    /// `None` outside the years 0 to 9999: what a reader makes it must also write.
    fn in_four_digit_years(self) -> Option<Self> {
        (-62_167_219_200_000_000..253_402_300_800_000_000).contains(&self.0).then_some(self)
    }

    /// Appends RFC 3339 in UTC: `2026-01-31T23:59:57.804Z`; six digits of a second where three do not say it all.
    /// Years outside 0 to 9999 get a sign or more digits, which no reader here takes.
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
mod tests;
