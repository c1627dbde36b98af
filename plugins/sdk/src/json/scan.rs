//! The grammar: walks the bytes of an object once and hands out its keys and values.
#![expect(clippy::inline_always, reason = "guest code looks at its deadline wherever a function begins")]

use super::bytes::{equal, is_ascii, special};
use super::rest::Rest;
use super::{Text, Value, reason};
use crate::parser::Reject;
use crate::symbols::same;
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;

/// What a UTF-8 text may begin with, and JSON does not count.
///
/// # Source
/// RFC 8259, section 8.1: a reader may ignore it.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How much of a record has to be right, and what becomes of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Every field is checked, also those that nobody uses: their escapes and numbers, keys that come twice, and how
    /// deep they nest; and a value of another type is refused. Otherwise a field that nobody uses is stepped over by
    /// its quotes and brackets.
    pub strict: bool,
    /// What no field takes is kept: see [`Object::rest`].
    pub rescue: bool,
}

/// An object being read: `open`, `first`, then `key` (or `next_is`), a value and `more` for each of its members.
#[derive(Debug)]
pub struct Object<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
    /// A bit for each field that has come.
    seen: u64,
    pub(super) rules: Rules,
    /// As a whole it is not UTF-8, and every text in it is checked by itself.
    doubtful: bool,
    rare: Option<Box<Rare<'a>>>,
}

/// What few records need.
#[derive(Debug, Default)]
struct Rare<'a> {
    /// Keys that have come besides the fields, where none may come twice.
    unknown: BTreeSet<Cow<'a, str>>,
    rest: Rest,
}

/// The key of a member.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    text: Text<'a>,
    /// Not a text as it stands. Under `strict` there is no such key.
    broken: bool,
}

impl<'a> Key<'a> {
    /// Its characters; none, which is no field's name, where it is not a text.
    #[must_use]
    pub fn name(&self) -> Cow<'a, str> {
        if self.broken { Cow::Borrowed("") } else { self.text.to_cow() }
    }
}

impl<'a> Object<'a> {
    /// Begins to read `text`, a `str` or the bytes of one, strictly.
    ///
    /// # Errors
    /// Malformed: `text` is not UTF-8, or does not begin with an object.
    #[inline]
    pub fn open<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Result<Self, Reject> {
        Self::open_with(text, Rules { strict: true, rescue: false })
    }

    /// Begins to read `text` by these rules.
    ///
    /// # Errors
    /// Malformed: `text` is not UTF-8 and the rules are strict, or it does not begin with an object.
    #[inline]
    pub fn open_with<T: AsRef<[u8]> + ?Sized>(text: &'a T, rules: Rules) -> Result<Self, Reject> {
        let text = text.as_ref();
        let mut object = Self { text, at: 0, seen: 0, rules, doubtful: false, rare: None };
        if !is_ascii(text) {
            object.check_utf8()?;
        }
        object.space();
        object.expect(b'{')?;
        Ok(object)
    }

    #[cold]
    fn check_utf8(&mut self) -> Result<(), Reject> {
        if self.text.starts_with(BYTE_ORDER_MARK) {
            self.at = BYTE_ORDER_MARK.len();
        }
        if str::from_utf8(self.text).is_ok() {
            return Ok(());
        }
        if self.rules.strict || !self.text[self.at..].trim_ascii_start().starts_with(b"{") {
            return Err(reason::not_utf8(self.text));
        }
        self.doubtful = true;
        Ok(())
    }

    /// Whether each text has to be looked at by itself; then the quick way is closed.
    #[inline]
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.doubtful
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
    pub fn key(&mut self) -> Result<Key<'a>, Reject> {
        self.space();
        self.expect(b'"')?;
        let start = self.at;
        let key = match self.string() {
            Ok(text) => Key { text, broken: false },
            Err(reject) if self.rules.strict => return Err(reject),
            Err(_) => {
                self.at = start;
                self.loose_string()?;
                Key { text: Text::new(&self.text[start..self.at - 1], true), broken: true }
            }
        };
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
    pub fn once(&mut self, field: u32, name: &str) -> Result<(), Reject> {
        if self.seen >> field & 1 == 1 {
            return Err(twice(name));
        }
        self.saw(field);
        Ok(())
    }

    /// Notes that a key that is not a field has come.
    ///
    /// # Errors
    /// Invalid: it has come before.
    pub fn once_unknown(&mut self, key: Key<'a>) -> Result<(), Reject> {
        let name = key.name();
        let unknown = &mut self.rare.get_or_insert_default().unknown;
        if unknown.insert(name) { Ok(()) } else { Err(twice(&key.name())) }
    }

    /// Steps over the value of a key that is not a field, and keeps both if there is a rescue.
    ///
    /// # Errors
    /// Malformed: there is no end to it. If strict, as `once_unknown` and `value`.
    #[inline(never)]
    pub fn unknown(&mut self, key: Key<'a>) -> Result<(), Reject> {
        if self.rules.strict {
            self.once_unknown(key)?;
        }
        self.space();
        let start = self.at;
        let whole = self.step_over()?;
        if self.rules.rescue {
            let value = &self.text[start..self.at];
            self.rest_mut().add(key.text.raw(), !key.broken, value, whole);
        }
        Ok(())
    }

    /// Keeps the value of a field that does not take it: what stands from `start` to here.
    pub(super) fn leave(&mut self, field: &str, start: usize, whole: bool) {
        let value = &self.text[start..self.at];
        self.rest_mut().add_misfit(field, value, whole);
    }

    fn rest_mut(&mut self) -> &mut Rest {
        &mut self.rare.get_or_insert_default().rest
    }

    /// What no field has taken, as the text of a JSON object: the fields with a key that is unknown, and values that do
    /// not fit their field, in the order of the record, as they stood. `None` if there is nothing, or no rescue.
    ///
    /// A value that is not JSON stands there as a text. Keys may come twice, as in the record.
    /// It is at most 64 KiB, and a line for each value that does not fit: of a value that has no room, there is
    /// the beginning and how long it is; of fields that have none, how many there are, under the key `…`.
    #[inline]
    #[must_use]
    pub fn rest(self) -> Option<alloc::string::String> {
        self.rare.and_then(|rare| rare.rest.json())
    }

    /// The value that comes next.
    ///
    /// # Errors
    /// Malformed: it is not JSON. Invalid: a number beyond `f64`, half a pair of surrogates, and if strict a key that comes
    /// twice in a nested object.
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

    /// Reads the string or null that comes next, if it is one or the other, and a string without escapes; else nothing
    /// is read. Most values are: to make a `Value` of each would cost as much as to find its end.
    pub(super) fn plain(&mut self) -> Plain {
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
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Reject> {
        if self.peek() != Some(byte) {
            return Err(self.malformed());
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn end(&mut self) -> Result<bool, Reject> {
        self.space();
        if self.at == self.text.len() { Ok(false) } else { Err(reason::something_after(self.text, self.at)) }
    }

    #[inline]
    fn word(&mut self, word: &str, value: Value<'a>) -> Result<Value<'a>, Reject> {
        if self.skips(word) { Ok(value) } else { Err(self.malformed()) }
    }

    /// Steps over `word`, if it is what comes next.
    #[inline]
    pub(super) fn skips(&mut self, word: &str) -> bool {
        let found = self.text.get(self.at..self.at + word.len()).is_some_and(|bytes| same(bytes, word.as_bytes()));
        if found {
            self.at += word.len();
        }
        found
    }

    /// The string whose opening quote is behind, with its closing one.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text<'a>, Reject> {
        let end = special(self.text, self.at);
        if self.text.get(end) == Some(&b'"') {
            let raw = &self.text[self.at..end];
            self.at = end + 1;
            self.check(raw)?;
            return Ok(Text::new(raw, false));
        }
        self.escaped_string(end)
    }

    /// Whether the string that comes next, if it is one, is right, where the text as a whole is not.
    #[cold]
    pub(super) fn check_next(&mut self) -> Result<(), Reject> {
        self.space();
        let start = self.at;
        if self.peek() == Some(b'"') {
            self.at += 1;
            self.string()?;
            self.at = start;
        }
        Ok(())
    }

    /// Whether a text is UTF-8, where that is not known yet.
    #[inline]
    fn check(&self, raw: &[u8]) -> Result<(), Reject> {
        if self.doubtful && str::from_utf8(raw).is_err() { Err(reason::not_utf8(self.text)) } else { Ok(()) }
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
                    self.check(&bytes[start..at])?;
                    return Ok(Text::new(&bytes[start..at], true));
                }
                Some(b'\\') => {
                    let len = match bytes.get(at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Some(1),
                        Some(b'u') => super::text::code(&bytes[at + 1..]).map(|(_, len)| len),
                        _ => None,
                    };
                    let Some(len) = len else { return Err(reason::bad_escape(bytes, at)) };
                    at = special(bytes, at + 1 + len);
                }
                Some(_) => {
                    return Err(Reject::malformed(format!("not JSON: a raw control character in a text at byte {at}")));
                }
                None => return Err(reason::malformed(bytes, at)),
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
            return Err(Reject::invalid(format!("a number out of range at byte {start}")));
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

    #[cold]
    pub(super) fn malformed(&self) -> Reject {
        reason::malformed(self.text, self.at)
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

/// Where a string without escapes stands: a single word, as results in several are handed on through memory.
#[derive(PartialEq, Eq)]
pub(super) struct Plain(u64);

impl Plain {
    /// Something else than a string without escapes stands there.
    pub(super) const OTHER: Self = Self(u64::MAX);
    /// Null stands there.
    pub(super) const NULL: Self = Self(u64::MAX - 1);

    #[inline]
    fn between(start: usize, end: usize) -> Self {
        Self((start as u64) << 32 | end as u64)
    }

    /// Where its opening quote is.
    pub(super) fn start(&self) -> usize {
        (self.0 >> 32) as usize - 1
    }

    #[inline]
    pub(super) fn of<'a>(&self, text: &'a [u8]) -> Option<Text<'a>> {
        let raw = text.get((self.0 >> 32) as usize..self.0 as u32 as usize)?;
        Some(Text::new(raw, false))
    }
}

#[cold]
pub(super) fn twice(name: &str) -> Reject {
    Reject::invalid(format!("key {name:?} comes twice"))
}
