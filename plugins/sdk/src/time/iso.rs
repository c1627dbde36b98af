//! Dates and times as ISO 8601, RFC 3339 and the libraries of many languages write them.
//!
//! # Source
//! ISO 8601:2004, which has hour 24 and the basic forms; RFC 3339; RFC 9557 for a zone's name in brackets.

use super::{DAY_SECONDS, Timestamp, days_in_month, days_since_epoch};

/// A time of day.
#[derive(Default)]
struct Clock {
    hour: u32,
    minute: u32,
    second: u32,
    micros: u32,
}

/// Reads RFC 3339 in UTC, `2026-01-31T23:59:57.804Z`: what most times are, and as quickly as can be. `None` says only
/// that it is no such text.
#[inline]
pub(super) fn utc(b: &[u8]) -> Option<Timestamp> {
    if b.len() < 20 || [b[4], b[7], b[13], b[16]] != *b"--::" || !matches!(b[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (digits::<4>(b, 0), digits::<2>(b, 5), digits::<2>(b, 8));
    let (hour, minute, second) = (digits::<2>(b, 11), digits::<2>(b, 14), digits::<2>(b, 17));
    if year > 9999 || hour > 23 || minute > 59 || second > 59 || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    let (micros, b"Z" | b"z") = fraction(&b[19..])? else { return None };
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Some(Timestamp((days_since_epoch(year, month, day) * DAY_SECONDS + seconds) * 1_000_000 + i64::from(micros)))
}

/// Reads a date, or a date and a time, in any form; `zone` is the offset in seconds of those that name none.
pub(super) fn read(text: &[u8], zone: Option<i64>) -> Option<Timestamp> {
    let mut text = Cursor(text);
    let days = text.date()?;
    let clock = match text.0 {
        [b'T' | b't' | b' ', b'0'..=b'9', ..] => text.clock()?,
        _ => Clock::default(),
    };
    let offset = if text.0.is_empty() { zone? } else { text.offset()? };
    instant(days, &clock, offset)
}

/// Reads a zone by itself: `Z`, `UTC`, `GMT` or an offset.
pub(super) fn zone(text: &[u8]) -> Option<i64> {
    let mut text = Cursor(text);
    text.plain_offset().filter(|_| text.0.is_empty())
}

/// Reads `[2026,3,10,12,5,0,123000000]`: the parts of a date and a time down to the ns, the last two or all four of the
/// time left away where they are 0.
pub(super) fn array(text: &[u8], zone: Option<i64>) -> Option<Timestamp> {
    let inside = text.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let mut parts = [0; 7];
    let mut count = 0;
    for part in inside.split(|byte| *byte == b',') {
        let mut part = Cursor(part.trim_ascii());
        // 9: a part of the year's, or the nanoseconds of a second.
        *parts.get_mut(count)? = part.number(1..=9)?;
        if !part.0.is_empty() {
            return None;
        }
        count += 1;
    }
    let [year, month, day, hour, minute, second, nanos] = parts;
    if !matches!(count, 3 | 5 | 6 | 7) || year > 9999 {
        return None;
    }
    let clock = Clock { hour, minute, second, micros: nanos / 1000 };
    instant(day_of_month(year, month, day)?, &clock, zone?)
}

/// The instant of a clock on a day. Hour 24 is the end of the day and nothing later; second 60 is a leap second, which
/// is put in at the end of a day of UTC only, and counts as the second after it, as in POSIX.
fn instant(days: i64, clock: &Clock, offset: i64) -> Option<Timestamp> {
    let Clock { hour, minute, second, micros } = *clock;
    let past_midnight = hour == 24 && (minute, second, micros) != (0, 0, 0);
    if hour > 24 || past_midnight || minute > 59 || second > 60 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second) - offset;
    if second == 60 && seconds.rem_euclid(DAY_SECONDS) != 0 {
        return None;
    }
    Timestamp((days * DAY_SECONDS + seconds) * 1_000_000 + i64::from(micros)).in_four_digit_years()
}

/// What is left of a text. What a reader does not take, it may have begun to: the whole is no time then.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Days since 1970: `2026-03-10`, `20260310`, `2026-069`, `2026069T…`, `2026-W11-2`, `2026W112`.
    fn date(&mut self) -> Option<i64> {
        let run = self.run();
        let year = match run {
            4 | 7 | 8 => self.number(4..=4)?,
            _ => return None,
        };
        let extended = self.skip(b'-');
        if self.skip(b'W') {
            let week = self.number(2..=2)?;
            if self.skip(b'-') != extended {
                return None;
            }
            return day_of_week(year, week, self.number(1..=1)?);
        }
        match (extended, self.run()) {
            (true, 3) if run == 4 => day_of_year(year, self.number(3..=3)?),
            // Without a time after it, it is a number of seven digits, which says nothing.
            (false, 3) if matches!(self.0.get(3), Some(b'T' | b't')) => day_of_year(year, self.number(3..=3)?),
            (true, 2) if run == 4 => {
                let month = self.number(2..=2)?;
                if !self.skip(b'-') {
                    return None;
                }
                day_of_month(year, month, self.number(2..=2)?)
            }
            (false, 4) => day_of_month(year, self.number(2..=2)?, self.number(2..=2)?),
            _ => None,
        }
    }

    /// After its separator: `12`, `12:05`, `1205`, `12:05:57`, `120557`, the last two with up to 9 digits of a second.
    fn clock(&mut self) -> Option<Clock> {
        self.0 = self.0.get(1..)?;
        let mut clock = Clock { hour: self.number(2..=2)?, ..Clock::default() };
        let extended = self.skip(b':');
        if !extended && self.run() == 0 {
            return Some(clock);
        }
        clock.minute = self.number(2..=2)?;
        let more = if extended { self.skip(b':') } else { self.run() > 0 };
        if more {
            clock.second = self.number(2..=2)?;
            (clock.micros, self.0) = fraction(self.0)?;
        }
        Some(clock)
    }

    /// Seconds east of UTC, and the end of the text; a space may stand before it. What names the zone besides, in
    /// brackets or as letters, says nothing new after an offset.
    fn offset(&mut self) -> Option<i64> {
        self.skip(b' ');
        let offset = self.plain_offset()?;
        let named = match self.0 {
            [] => true,
            [b'[', name @ .., b']'] => !name.is_empty() && !name.iter().any(|byte| b"[]".contains(byte)),
            [b' ', letters @ ..] => matches!(letters.len(), 3..=5) && letters.iter().all(u8::is_ascii_uppercase),
            _ => false,
        };
        named.then_some(offset)
    }

    /// `Z`, `UTC`, `GMT`, `+01:00`, `+0100`, `+01`.
    fn plain_offset(&mut self) -> Option<i64> {
        let sign = match self.0 {
            [b'Z' | b'z', rest @ ..] | [b'U', b'T', b'C', rest @ ..] | [b'G', b'M', b'T', rest @ ..] => {
                self.0 = rest;
                return Some(0);
            }
            [b'+', ..] => 1,
            [b'-', ..] => -1,
            _ => return None,
        };
        self.0 = self.0.get(1..)?;
        let hours = self.number(2..=2)?;
        let minutes = if self.skip(b':') || self.run() > 0 { self.number(2..=2)? } else { 0 };
        (hours < 24 && minutes < 60).then_some(sign * i64::from(hours * 3600 + minutes * 60))
    }

    fn skip(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// How many digits come next.
    fn run(&self) -> usize {
        self.0.iter().take_while(|byte| byte.is_ascii_digit()).count()
    }

    /// The next digits, as many as there are but at most so many; `None` for fewer. At most 9.
    fn number(&mut self, len: core::ops::RangeInclusive<usize>) -> Option<u32> {
        let run = self.run().min(*len.end());
        let (digits, rest) = self.0.split_at(run);
        self.0 = rest;
        (run >= *len.start()).then(|| digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    }
}

fn day_of_month(year: u32, month: u32, day: u32) -> Option<i64> {
    (1..=days_in_month(year, month)).contains(&day).then(|| days_since_epoch(year, month, day))
}

fn day_of_year(year: u32, day: u32) -> Option<i64> {
    let first = days_since_epoch(year, 1, 1);
    let days = days_since_epoch(year + 1, 1, 1) - first;
    (1..=days).contains(&i64::from(day)).then(|| first + i64::from(day) - 1)
}

/// Week 1 is the one with January 4; weeks begin on Monday.
fn day_of_week(year: u32, week: u32, day: u32) -> Option<i64> {
    let first_monday = |year| {
        let fourth = days_since_epoch(year, 1, 4);
        // 1970-01-01 was a Thursday.
        fourth - (fourth + 3).rem_euclid(7)
    };
    let monday = first_monday(year) + 7 * (i64::from(week) - 1);
    let valid = week > 0 && monday < first_monday(year + 1) && (1..=7).contains(&day);
    valid.then(|| monday + i64::from(day) - 1)
}

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

/// The µs of `.123456789` or `,123456789` at the start of `rest`, and what comes after it.
#[inline]
fn fraction(rest: &[u8]) -> Option<(u32, &[u8])> {
    let Some((b'.' | b',', rest)) = rest.split_first() else { return Some((0, rest)) };
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
