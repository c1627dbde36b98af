//! The grammar: walks the bytes of an object once and hands out its keys and values.
#![expect(clippy::inline_always, reason = "guest code looks at its deadline wherever a function begins")]

use super::{Text, Value};
use crate::input::Symbol;
use crate::output::word;
use crate::parser::Reject;
use crate::symbols::same;
use crate::time::Timestamp;
use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

/// Objects and arrays may nest this deep, the outermost object included.
const MAX_DEPTH: usize = 64;

/// An object being read: `open`, `first`, then `key` (or `next_is`), `value` and `more` for each of its members.
#[derive(Debug)]
pub struct Object<'a> {
    /// UTF-8, which is checked once for all.
    text: &'a [u8],
    at: usize,
    /// A bit for each field that has come.
    seen: u64,
    /// Keys that have come besides.
    unknown: BTreeSet<Cow<'a, str>>,
}

impl<'a> Object<'a> {
    /// Begins to read `text`: a `str`, or the bytes of one.
    ///
    /// # Errors
    /// Malformed: `text` is not UTF-8, or does not begin with an object.
    #[inline]
    pub fn open<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Result<Self, Reject> {
        let text = text.as_ref();
        if !is_ascii(text) {
            crate::parser::utf8(text)?;
        }
        let mut object = Self { text, at: 0, seen: 0, unknown: BTreeSet::new() };
        object.space();
        object.expect(b'{')?;
        Ok(object)
    }

    /// Whether there is a first member. If not, the object has ended, and so has the text.
    ///
    /// # Errors
    /// Malformed: something follows the object.
    #[inline]
    pub fn first(&mut self) -> Result<bool, Reject> {
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return self.end();
        }
        Ok(true)
    }

    /// Whether another member follows the one just read. If not, the object has ended, and so has the text.
    ///
    /// # Errors
    /// Malformed: neither a comma nor the object's end, or something after it.
    #[inline(always)]
    pub fn more(&mut self) -> Result<bool, Reject> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(b'}') => {
                self.at += 1;
                self.end()
            }
            _ => Err(self.malformed()),
        }
    }

    /// Steps over `key`, quoted and with its colon, if it is what comes next.
    #[inline(always)]
    pub fn next_is<const N: usize>(&mut self, key: &[u8; N]) -> bool {
        self.space();
        let found = self.text.get(self.at..self.at + N).is_some_and(|bytes| equal(bytes, key));
        if found {
            self.at += N;
        }
        found
    }

    /// The next key.
    ///
    /// # Errors
    /// Malformed: not a string followed by a colon.
    pub fn key(&mut self) -> Result<Text<'a>, Reject> {
        self.space();
        self.expect(b'"')?;
        let key = self.string()?;
        self.space();
        self.expect(b':')?;
        Ok(key)
    }

    /// Notes that field number `field`, which cannot have come before, has come.
    #[inline]
    pub fn saw(&mut self, field: u32) {
        self.seen |= 1 << field;
    }

    /// Notes that field number `field` has come.
    ///
    /// # Errors
    /// Invalid: it has come before.
    pub fn once(&mut self, field: u32, key: Text<'a>) -> Result<(), Reject> {
        if self.seen >> field & 1 == 1 {
            return Err(twice(key));
        }
        self.saw(field);
        Ok(())
    }

    /// Notes that a key that is not a field has come.
    ///
    /// # Errors
    /// Invalid: it has come before.
    pub fn once_unknown(&mut self, key: Text<'a>) -> Result<(), Reject> {
        if self.unknown.insert(key.to_cow()) { Ok(()) } else { Err(twice(key)) }
    }

    /// The value that comes next.
    ///
    /// # Errors
    /// Malformed: it is not JSON. Invalid: a number beyond `f64`, or a key that comes twice in a nested object.
    #[inline]
    pub fn value(&mut self) -> Result<Value<'a>, Reject> {
        self.space();
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(Value::Text)
            }
            Some(b'n') => self.word("null", Value::Null),
            _ => self.rare_value(),
        }
    }

    /// The same as `value`, not inlined.
    ///
    /// # Errors
    /// As `value`.
    #[inline(never)]
    pub fn any_value(&mut self) -> Result<Value<'a>, Reject> {
        self.value()
    }

    /// Reads the string or null that comes next, if it is one or the other, and a string without escapes; else nothing
    /// is read. Most values are: to make a `Value` of each would cost as much as to find its end.
    fn plain(&mut self) -> Plain {
        self.space();
        match self.peek() {
            Some(b'"') => {
                let (start, end) = (self.at + 1, special(self.text, self.at + 1));
                if self.text.get(end) != Some(&b'"') {
                    return Plain::OTHER;
                }
                self.at = end + 1;
                Plain::between(start, end)
            }
            Some(b'n') if self.skips("null") => Plain::NULL,
            _ => Plain::OTHER,
        }
    }

    #[inline(never)]
    fn rare_value(&mut self) -> Result<Value<'a>, Reject> {
        match self.peek() {
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'-' | b'0'..=b'9') => self.numeral(),
            Some(b'{' | b'[') => self.nested(),
            Some(b'N' | b'I') => Err(self.not_finite()),
            _ => Err(self.malformed()),
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Reject> {
        if self.peek() != Some(byte) {
            return Err(self.malformed());
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn end(&mut self) -> Result<bool, Reject> {
        self.space();
        if self.at == self.text.len() { Ok(false) } else { Err(self.malformed()) }
    }

    #[inline]
    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Reject> {
        if self.skips(word) { Ok(value) } else { Err(self.malformed()) }
    }

    /// Steps over `word`, if it is what comes next.
    #[inline]
    fn skips(&mut self, word: &str) -> bool {
        let found = self.text.get(self.at..self.at + word.len()).is_some_and(|bytes| same(bytes, word.as_bytes()));
        if found {
            self.at += word.len();
        }
        found
    }

    /// The string whose opening quote is behind, with its closing one.
    #[inline]
    fn string(&mut self) -> Result<Text<'a>, Reject> {
        let end = special(self.text, self.at);
        if self.text.get(end) == Some(&b'"') {
            let raw = &self.text[self.at..end];
            self.at = end + 1;
            return Ok(Text::new(raw, false));
        }
        self.escaped_string(end)
    }

    /// The same, with something other than a quote at `at`.
    #[cold]
    #[inline(never)]
    fn escaped_string(&mut self, mut at: usize) -> Result<Text<'a>, Reject> {
        let bytes = self.text;
        let start = self.at;
        loop {
            match bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Text::new(&self.text[start..at], true));
                }
                Some(b'\\') => {
                    let len = match bytes.get(at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Some(1),
                        Some(b'u') => super::text::code(&bytes[at + 1..]).map(|(_, len)| len),
                        _ => None,
                    };
                    let Some(len) = len else {
                        return Err(Reject::malformed(format!("not JSON: bad escape at byte {at}")));
                    };
                    at = special(bytes, at + 1 + len);
                }
                Some(_) => return Err(Reject::malformed(format!("not JSON: control character at byte {at}"))),
                None => return Err(Reject::malformed("not JSON: ends inside a string")),
            }
        }
    }

    fn numeral(&mut self) -> Result<Value<'a>, Reject> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'I') => return Err(self.not_finite()),
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let mut exponent = false;
        if let Some(b'e' | b'E') = self.peek() {
            exponent = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let number = str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        // 308: fewer digits than that are in the range of `f64`, without an exponent.
        if (exponent || number.len() > 308) && !number.parse().is_ok_and(f64::is_finite) {
            return Err(Reject::invalid(format!("number out of range at byte {start}")));
        }
        Ok(Value::Number(number))
    }

    fn digits(&mut self) -> Result<(), Reject> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.malformed()) } else { Ok(()) }
    }

    /// An array or object, checked to its end; the levels above are on a stack of our own.
    #[cold]
    fn nested(&mut self) -> Result<Value<'a>, Reject> {
        let start = self.at;
        let mut levels = Vec::new();
        loop {
            self.space();
            let mut complete = false;
            match self.peek() {
                Some(b'{' | b'[') if levels.len() + 2 > MAX_DEPTH => {
                    return Err(Reject::malformed(format!("nested deeper than {MAX_DEPTH}")));
                }
                Some(opening @ (b'{' | b'[')) => {
                    self.at += 1;
                    levels.push(if opening == b'{' { Level::Object(BTreeSet::new()) } else { Level::Array });
                }
                _ => {
                    self.any_value()?;
                    complete = true;
                }
            }
            // Closes the levels that end here, and steps on to the next value of the one that does not.
            while let Some(level) = levels.last_mut() {
                self.space();
                if self.peek() == Some(level.end()) {
                    self.at += 1;
                    levels.pop();
                    complete = true;
                    continue;
                }
                if complete {
                    self.expect(b',')?;
                }
                if let Level::Object(keys) = level {
                    let key = self.key()?;
                    if !keys.insert(key.to_cow()) {
                        return Err(twice(key));
                    }
                }
                break;
            }
            if levels.is_empty() {
                return Ok(Value::Nested(str::from_utf8(&self.text[start..self.at]).unwrap_or_default()));
            }
        }
    }

    #[cold]
    fn malformed(&self) -> Reject {
        Reject::malformed(match self.peek() {
            Some(_) => format!("not a JSON object: unexpected byte at {}", self.at),
            None => format!("not a JSON object: ends at byte {}", self.at),
        })
    }

    #[cold]
    fn not_finite(&self) -> Reject {
        let rest = &self.text[self.at..];
        if rest.starts_with(b"NaN") || rest.starts_with(b"Infinity") {
            return Reject::invalid(format!("not a finite number at byte {}", self.at));
        }
        self.malformed()
    }
}

// The same names as those of `Value`: what `json_row!` calls where fields come in the
// expected order. `field` is for the message where the value is of another type.
impl<'a> Object<'a> {
    /// A text, or null.
    ///
    /// # Errors
    /// As `value`, and invalid: a value of another type.
    #[inline(always)]
    pub fn text(&mut self, field: &str) -> Result<Option<Text<'a>>, Reject> {
        match self.plain() {
            Plain::OTHER => self.any_value()?.text().map_err(|reject| reject.at_field(field)),
            plain => Ok(plain.of(self.text)),
        }
    }

    /// A text; null counts as the empty one.
    ///
    /// # Errors
    /// As `text`.
    #[inline(always)]
    pub fn text_or_empty(&mut self, field: &str) -> Result<Text<'a>, Reject> {
        self.text(field).map(Option::unwrap_or_default)
    }

    /// A text of few distinct values, or null.
    ///
    /// # Errors
    /// As `text`.
    #[inline(always)]
    pub fn symbol(&mut self, field: &str) -> Result<Option<Symbol<Text<'a>>>, Reject> {
        self.text(field).map(|text| text.map(Symbol))
    }

    /// An instant in RFC 3339, or nothing.
    ///
    /// # Errors
    /// As `value`.
    #[inline]
    pub fn time(&mut self, field: &str) -> Result<Option<Timestamp>, Reject> {
        match self.plain() {
            Plain::OTHER => self.any_value()?.time().map_err(|reject| reject.at_field(field)),
            plain => Ok(plain.of(self.text).and_then(Text::time)),
        }
    }

    /// A number, or null.
    ///
    /// # Errors
    /// As `value`, and invalid: a value of another type.
    #[inline]
    pub fn number(&mut self, field: &str) -> Result<Option<f64>, Reject> {
        self.unless_null(field, Value::number)
    }

    /// A whole number, or null.
    ///
    /// # Errors
    /// As `value`, and invalid: another value.
    #[inline]
    pub fn integer(&mut self, field: &str) -> Result<Option<i64>, Reject> {
        self.unless_null(field, Value::integer)
    }

    /// True, false or null.
    ///
    /// # Errors
    /// As `value`, and invalid: a value of another type.
    #[inline]
    pub fn boolean(&mut self, field: &str) -> Result<Option<bool>, Reject> {
        self.unless_null(field, Value::boolean)
    }

    #[inline]
    fn unless_null<T>(
        &mut self,
        field: &str,
        of: impl FnOnce(Value<'a>) -> Result<Option<T>, Reject>,
    ) -> Result<Option<T>, Reject> {
        self.space();
        if self.peek() == Some(b'n') && self.skips("null") {
            return Ok(None);
        }
        of(self.any_value()?).map_err(|reject| reject.at_field(field))
    }
}

/// Where a string without escapes stands: a single word, as results in several are handed on through memory.
#[derive(PartialEq, Eq)]
struct Plain(u64);

impl Plain {
    /// Something else than a string without escapes stands there.
    const OTHER: Self = Self(u64::MAX);
    /// Null stands there.
    const NULL: Self = Self(u64::MAX - 1);

    #[inline]
    fn between(start: usize, end: usize) -> Self {
        Self((start as u64) << 32 | end as u64)
    }

    #[inline]
    fn of<'a>(&self, text: &'a [u8]) -> Option<Text<'a>> {
        let raw = text.get((self.0 >> 32) as usize..self.0 as u32 as usize)?;
        Some(Text::new(raw, false))
    }
}

/// A level of nesting: an object and the keys it has had, or an array.
enum Level<'a> {
    Object(BTreeSet<Cow<'a, str>>),
    Array,
}

impl Level<'_> {
    fn end(&self) -> u8 {
        match self {
            Self::Object(_) => b'}',
            Self::Array => b']',
        }
    }
}

#[cold]
fn twice(key: Text<'_>) -> Reject {
    Reject::invalid(format!("key {key:?} comes twice"))
}

/// Whether all bytes are ASCII, which almost all texts are: that is told more quickly than that they are UTF-8. As guest
/// code, the standard library's own goes by words of four bytes, and takes 50 ns more for a record of 290.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut high = 0;
    for block in blocks {
        high |= word(block, 0) | word(block, 8) | word(block, 16) | word(block, 24);
    }
    high & 0x8080_8080_8080_8080 == 0 && rest.iter().fold(0, |high, byte| high | byte) < 0x80
}

/// Equality with a key known at compile time: the loop unrolls into a few words.
#[inline]
fn equal<const N: usize>(bytes: &[u8], key: &[u8; N]) -> bool {
    if N < 8 || bytes.len() != N {
        return bytes == key;
    }
    let mut different = 0;
    for at in (0..N - 7).step_by(8) {
        different |= word(bytes, at) ^ word(key, at);
    }
    different | (word(bytes, N - 8) ^ word(key, N - 8)) == 0
}

/// The first quote, backslash or control character at or after `at`; the length if there is none.
#[inline]
fn special(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let word = u64::from_le_bytes(*chunk);
        // A byte's high bit comes up where it is below 0x20 or zero after the xor. Borrows can raise wrong bits only
        // above a right one, and bytes from 0x80 on are masked out: the lowest bit is always right.
        let quote = word ^ (ONES * 0x22);
        let slash = word ^ (ONES * 0x5C);
        let hits =
            (word.wrapping_sub(ONES * 0x20) | quote.wrapping_sub(ONES) | slash.wrapping_sub(ONES)) & !word & HIGHS;
        if hits != 0 {
            return at + (hits.trailing_zeros() >> 3) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}
