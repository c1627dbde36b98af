//! A JSON string where it stands: unescaped only when it is used.

use crate::output::{Put, Utf8s};
use crate::symbols::Symbols;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The characters of a string in a record, not copied. Escapes, which the reader has checked, are resolved on use.
#[derive(Clone, Copy, Default)]
pub struct Text<'a> {
    /// UTF-8.
    raw: &'a [u8],
    /// 0 = none. A whole word: a `bool` and its padding would be copied in pieces, at twice the cost of parsing.
    escapes: usize,
}

impl<'a> Text<'a> {
    /// `raw` as it stands between the quotes; if `escaped`, its escapes have been checked.
    #[inline]
    pub(super) fn new(raw: &'a [u8], escaped: bool) -> Self {
        Self { raw, escapes: usize::from(escaped) }
    }

    /// Whether there is no character.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// As it stands between the quotes.
    #[inline]
    pub(super) fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The characters: borrowed, unless there are escapes.
    #[inline]
    #[must_use]
    pub fn to_cow(&self) -> Cow<'a, str> {
        if self.escapes > 0 { Cow::Owned(self.unescaped()) } else { self.characters() }
    }

    /// The characters as they stand. Nothing is ever lost: the reader has checked that they are UTF-8.
    fn characters(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.raw)
    }

    #[cold]
    fn unescaped(&self) -> String {
        let mut out = String::with_capacity(self.raw.len());
        let characters = self.characters();
        let mut rest = &*characters;
        while let Some((plain, escape)) = rest.split_once('\\') {
            out.push_str(plain);
            let (character, len) = unescape(escape.as_bytes());
            out.push(character);
            rest = escape.get(len..).unwrap_or_default();
        }
        out.push_str(rest);
        out
    }
}

/// The character that `escape` (after its backslash) begins with, and how many bytes that took.
fn unescape(escape: &[u8]) -> (char, usize) {
    let character = match escape.first() {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            return code(escape).unwrap_or((char::REPLACEMENT_CHARACTER, 5));
        }
        Some(byte) => char::from(*byte),
        None => char::REPLACEMENT_CHARACTER,
    };
    (character, 1)
}

/// The character of `uXXXX`, or of a pair of surrogates `uXXXX\uXXXX`, and how many bytes that took. `None` for
/// anything else, such as half a pair.
pub(super) fn code(escape: &[u8]) -> Option<(char, usize)> {
    let high = unit(escape)?;
    if !(0xD800..0xDC00).contains(&high) {
        return char::from_u32(high).map(|character| (character, 5));
    }
    let (b'\\', second) = escape.get(5..)?.split_first()? else { return None };
    let low = unit(second).filter(|low| (0xDC00..0xE000).contains(low))?;
    char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00)).map(|character| (character, 11))
}

pub(super) fn unit(escape: &[u8]) -> Option<u32> {
    let [b'u', digits @ ..] = escape.first_chunk::<5>()? else { return None };
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::new(text.as_bytes(), false)
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.to_cow() == other.to_cow()
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.to_cow() == other
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.to_cow(), f)
    }
}

impl Put for Text<'_> {
    type Builder = Utf8s;
    const TYPE: crate::bindings::types::DataType = <&str as Put>::TYPE;

    #[inline]
    fn put(self, into: &mut Utf8s) {
        if self.escapes > 0 {
            into.0.push_with(|out: &mut Vec<u8>| out.extend_from_slice(self.unescaped().as_bytes()));
        } else {
            into.0.push(self.raw);
        }
    }
}

impl Put for crate::input::Symbol<Text<'_>> {
    type Builder = Symbols;
    const TYPE: crate::bindings::types::DataType = <&str as Put>::TYPE;
    const ENCODING: crate::bindings::types::Encoding = crate::bindings::types::Encoding::Dictionary;

    #[inline]
    fn put(self, into: &mut Symbols) {
        if self.0.escapes > 0 {
            into.push(self.0.unescaped().as_bytes());
        } else {
            into.push(self.0.raw);
        }
    }
}
