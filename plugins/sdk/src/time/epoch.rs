//! Numbers that count time since 1970, exactly: decimals of any length, never through a float.

use super::{Numbers, Timestamp};

/// A decimal as JSON writes it, not yet a number.
pub(super) struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// Reads `-12.5e3` and its like: the whole text, in the grammar of JSON's numbers.
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let (whole, mut rest) = digits(rest);
        if whole.is_empty() || whole.len() > 1 && whole[0] == b'0' {
            return None;
        }
        let mut fraction: &[u8] = b"";
        if let Some(after) = rest.strip_prefix(b".") {
            (fraction, rest) = digits(after);
            if fraction.is_empty() {
                return None;
            }
        }
        let mut exponent = 0;
        if let Some((b'e' | b'E', after)) = rest.split_first() {
            let (sign, after) = match after.split_first() {
                Some((b'-', after)) => (-1, after),
                Some((b'+', after)) => (1, after),
                _ => (1, after),
            };
            let power;
            (power, rest) = digits(after);
            if power.is_empty() {
                return None;
            }
            // Saturates far beyond any time, and far from what adding a length to it could overflow.
            let read = |value: i64, digit: &u8| (value * 10 + i64::from(digit - b'0')).min(i64::from(i32::MAX));
            exponent = sign * power.iter().fold(0, read);
        }
        rest.is_empty().then_some(Self { negative, whole, fraction, exponent })
    }

    /// The instant that it is, cut to µs (downwards, as the digits of a second are); `None` outside the years 0 to 9999.
    pub(super) fn instant(&self, numbers: Numbers) -> Option<Timestamp> {
        let digits = || self.whole.iter().chain(self.fraction);
        let zeros = digits().take_while(|digit| **digit == b'0').count();
        let significant = || digits().skip(zeros);
        // How many digits stand before the point.
        let wholes = self.whole.len() as i64 + self.exponent - zeros as i64;
        let micros_digits = match numbers {
            Numbers::Nothing => return None,
            Numbers::Seconds => 6,
            Numbers::Millis => 3,
            Numbers::Micros => 0,
            Numbers::Nanos => -3,
            Numbers::ByMagnitude => match wholes {
                9 | 10 => 6,
                12 | 13 => 3,
                15 | 16 => 0,
                18 | 19 => -3,
                _ => return None,
            },
        };
        if significant().next().is_none() {
            // Zero in any unit; by magnitude it is more likely a time that was never set.
            return (numbers != Numbers::ByMagnitude).then_some(Timestamp(0));
        }
        let kept = wholes + micros_digits;
        // 18 digits of µs: beyond the year 9999, and in the range of `i64`.
        if kept > 18 {
            return None;
        }
        let kept = usize::try_from(kept).unwrap_or(0);
        let padded = significant().copied().chain(core::iter::repeat(b'0')).take(kept);
        let micros = padded.fold(0, |value: i64, digit| value * 10 + i64::from(digit - b'0'));
        let cut = significant().skip(kept).any(|digit| *digit != b'0');
        Timestamp(if self.negative { -micros - i64::from(cut) } else { micros }).in_four_digit_years()
    }
}

/// The digits at the start of a text, and what comes after them.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}
