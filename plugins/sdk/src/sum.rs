//! Sums of floats that do not depend on the order of addition.
//!
//! # Source
//! The idea of a superaccumulator: Kulisch; the form with small, lazily carried digits: Neal, "Fast exact summation
//! using small and large superaccumulators", 2015.

use crate::codec::{Broken, Codec, Reader};
use alloc::vec::Vec;

/// Bits of a digit.
const DIGIT: u32 = 32;
/// The value of one step of the digit above.
const BASE: i64 = 1 << DIGIT;
/// Most digits a sum can need: 2^64 numbers below 2^1024, in units of 2^-1074, are below 2^2162.
const MAX_DIGITS: usize = 68;
/// Additions after which digits are carried: each adds less than 2^32 to a digit, which holds 2^63.
const MAX_PENDING: u32 = 1 << 30;

const NAN: u8 = 1;
const POSITIVE_INFINITY: u8 = 2;
const NEGATIVE_INFINITY: u8 = 4;

/// The exact sum of any number of `f64`s, rounded once, when it is asked for.
///
/// The same numbers give the same result and the same bytes in any order of adds and merges. Takes no heap memory
/// while nothing was added, and some 32 bytes for amounts of similar size.
#[derive(Clone, Debug, Default)]
pub struct ExactSum {
    /// Digits in base 2^32, lowest first, of the sum in units of 2^-1074; each of any sign until carried.
    digits: Vec<i64>,
    /// The place of the lowest digit kept; all below are 0.
    lowest: u8,
    /// Which of NaN, +inf and -inf were added.
    specials: u8,
    /// Bound on the additions since the digits were last carried.
    pending: u32,
}

impl ExactSum {
    /// Adds a number.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7FF) as u32;
        let fraction = bits & ((1 << 52) - 1);
        if exponent == 0x7FF {
            self.specials |= match (fraction, value > 0.0) {
                (0, true) => POSITIVE_INFINITY,
                (0, false) => NEGATIVE_INFINITY,
                _ => NAN,
            };
            return;
        }
        let mantissa = fraction | u64::from(exponent > 0) << 52;
        if mantissa == 0 {
            return;
        }
        let place = exponent.max(1) - 1;
        let (first, shift) = (place / DIGIT, place % DIGIT);
        let low = u64::from(u32::MAX);
        let parts = [mantissa << shift & low, mantissa >> (DIGIT - shift) & low, mantissa >> DIGIT >> (DIGIT - shift)];
        let digits = self.window(first as usize, 3);
        for (digit, part) in digits.iter_mut().zip(parts) {
            *digit += if value < 0.0 { -part.cast_signed() } else { part.cast_signed() };
        }
        self.count(1);
    }

    /// Adds all that was added to `other`.
    pub fn merge(&mut self, other: &Self) {
        self.specials |= other.specials;
        if other.digits.is_empty() {
            return;
        }
        let digits = self.window(other.lowest as usize, other.digits.len());
        for (digit, part) in digits.iter_mut().zip(&other.digits) {
            *digit += part;
        }
        self.count(other.pending + 1);
    }

    /// The sum, rounded to nearest, ties to even; infinite beyond the range of `f64`. NaN if a NaN was added, or
    /// infinities of both signs; otherwise an infinity if one was added.
    #[must_use]
    pub fn value(&self) -> f64 {
        match self.specials {
            0 => {
                let exact = self.exact();
                let magnitude = round(exact.lowest, &exact.digits);
                if exact.negative { -magnitude } else { magnitude }
            }
            POSITIVE_INFINITY => f64::INFINITY,
            NEGATIVE_INFINITY => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    /// `count` digits from place `first` on, made where they are not.
    #[inline]
    fn window(&mut self, first: usize, count: usize) -> &mut [i64] {
        let lowest = self.lowest as usize;
        if first < lowest || first + count > lowest + self.digits.len() {
            self.widen(first, count);
        }
        &mut self.digits[first - self.lowest as usize..][..count]
    }

    #[cold]
    fn widen(&mut self, first: usize, count: usize) {
        if self.digits.is_empty() {
            self.lowest = first as u8;
        }
        if first < self.lowest as usize {
            let missing = self.lowest as usize - first;
            self.digits.splice(0..0, core::iter::repeat_n(0, missing));
            self.lowest = first as u8;
        }
        let wanted = first + count - self.lowest as usize;
        self.digits.resize(wanted.max(self.digits.len()), 0);
    }

    #[inline]
    fn count(&mut self, additions: u32) {
        self.pending += additions;
        if self.pending >= MAX_PENDING {
            self.carry();
        }
    }

    /// Brings all digits but the highest into 0..2^32.
    #[cold]
    fn carry(&mut self) {
        let Some((top, lower)) = self.digits.split_last_mut() else { return };
        let mut carried = 0;
        for digit in lower {
            let value = *digit + carried;
            carried = value >> DIGIT;
            *digit = value & (BASE - 1);
        }
        *top += carried;
        // The highest digit keeps the sign. It held less than 2^63, so one more holds what is too much for it.
        if top.abs() >= BASE {
            let above = *top >> DIGIT;
            *top &= BASE - 1;
            self.digits.push(above);
        }
        self.pending = 1;
    }

    /// The sum in the one form it has: a sign, and digits without zeros at either end.
    fn exact(&self) -> Exact {
        if self.digits.is_empty() {
            return Exact { negative: false, lowest: 0, digits: Vec::new() };
        }
        let mut digits: Vec<u32> = Vec::with_capacity(self.digits.len() + 2);
        // The sign of a sum with carries outstanding is that of the carry out of its top.
        let top = self.digits.iter().fold(0, |carried, digit| (digit + carried) >> DIGIT);
        let negative = top < 0;
        let mut carried = 0;
        for digit in self.digits.iter().copied().chain([0, 0]) {
            let value = if negative { carried - digit } else { carried + digit };
            digits.push(value as u32);
            carried = value >> DIGIT;
        }
        while digits.last() == Some(&0) {
            digits.pop();
        }
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        let lowest = if digits.is_empty() { 0 } else { self.lowest as usize + zeros };
        Exact { negative, lowest, digits }
    }
}

/// A sum in canonical form.
struct Exact {
    negative: bool,
    lowest: usize,
    digits: Vec<u32>,
}

/// The `f64` nearest to `digits * 2^(32 * lowest - 1074)`.
fn round(lowest: usize, digits: &[u32]) -> f64 {
    let Some(top) = digits.last() else { return 0.0 };
    let length = digits.len() * 32 - top.leading_zeros() as usize;
    // The 64 bits from `from` on; those outside are 0.
    let bits = |from: isize| {
        (0..64).fold(0u64, |bits, i| {
            let at = from + i;
            let set = usize::try_from(at)
                .is_ok_and(|at| digits.get(at / 32).is_some_and(|digit| digit >> (at % 32) & 1 == 1));
            bits | u64::from(set) << i
        })
    };
    let total = lowest * 32 + length;
    if total <= 53 {
        return f64::from_bits(bits(0) << (lowest * 32));
    }
    let cut = length as isize - 53;
    let mut mantissa = bits(cut) & ((1 << 53) - 1);
    if cut > 0 {
        let half = bits(cut - 1) & 1 == 1;
        let below = (0..cut - 1).any(|at| digits[at as usize / 32] >> (at % 32) & 1 == 1);
        mantissa += u64::from(half && (below || mantissa & 1 == 1));
    }
    // The exponent's field is one more than the shift; adding the mantissa with its leading bit makes up for that.
    let shift = (total - 53) as u64;
    let result = (shift << 52) + mantissa;
    if result >= f64::INFINITY.to_bits() { f64::INFINITY } else { f64::from_bits(result) }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.exact(), other.exact());
        (self.specials, a.negative, a.lowest, a.digits) == (other.specials, b.negative, b.lowest, b.digits)
    }
}

/// One byte of flags and sign, one with the number of digits; with digits also the lowest one's place, and they.
impl Codec for ExactSum {
    fn encode(&self, out: &mut Vec<u8>) {
        let exact = self.exact();
        out.push(self.specials | u8::from(exact.negative) << 3);
        out.push(exact.digits.len() as u8);
        if !exact.digits.is_empty() {
            out.push(exact.lowest as u8);
        }
        for digit in &exact.digits {
            out.extend_from_slice(&digit.to_le_bytes());
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let [flags, count] = from.array()?;
        let negative = flags >> 3 == 1;
        if flags > 15 || (negative && count == 0) {
            return Err("sum with unknown flags");
        }
        let [lowest] = if count > 0 { from.array()? } else { [0] };
        if lowest as usize + count as usize > MAX_DIGITS {
            return Err("sum too long");
        }
        let digits: Vec<i64> = from
            .take(count as usize * 4)?
            .chunks_exact(4)
            .map(|d| i64::from(u32::from_le_bytes([d[0], d[1], d[2], d[3]])))
            .map(|digit| if negative { -digit } else { digit })
            .collect();
        if digits.first() == Some(&0) || digits.last() == Some(&0) {
            return Err("sum not in its shortest form");
        }
        Ok(Self { digits, lowest, specials: flags & 7, pending: 1 })
    }
}

#[cfg(test)]
mod tests;
