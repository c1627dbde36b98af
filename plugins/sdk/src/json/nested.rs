//! Values that are stepped over: arrays and objects, checked to their end, and whatever no field uses.

use super::scan::twice;
use super::{Object, Value, reason};
use crate::parser::Reject;
use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

/// Objects and arrays may nest this deep, the outermost object included.
const MAX_DEPTH: usize = 64;

impl<'a> Object<'a> {
    /// An array or object, checked to its end; the levels above are on a stack of our own.
    #[cold]
    pub(super) fn nested(&mut self) -> Result<Value<'a>, Reject> {
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
                    self.value()?;
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
                    self.expect(b'"')?;
                    let key = self.string()?;
                    self.space();
                    self.expect(b':')?;
                    if self.rules.strict && !keys.insert(key.to_cow()) {
                        return Err(twice(&key.to_cow()));
                    }
                }
                break;
            }
            if levels.is_empty() {
                return Ok(Value::Nested(str::from_utf8(&self.text[start..self.at]).unwrap_or_default()));
            }
        }
    }

    /// Steps over the value that comes next. Whether it is JSON as it stands; under `strict` it must be.
    ///
    /// # Errors
    /// Malformed: there is no end to it. If strict, as `value`.
    pub(super) fn step_over(&mut self) -> Result<bool, Reject> {
        let start = self.at;
        let because = match self.value() {
            Ok(_) if matches!(self.peek(), None | Some(b',' | b'}' | b' ' | b'\n' | b'\t' | b'\r')) => return Ok(true),
            // As in `007`, which begins with a number.
            Ok(_) => self.malformed(),
            Err(reject) => reject,
        };
        if self.rules.strict {
            return Err(because);
        }
        self.at = start;
        self.loosely(&because).map(|()| false)
    }

    /// Steps over a value by its quotes and brackets; `because` is what is wrong with it, and is given back where that
    /// does not lead to its end.
    #[cold]
    fn loosely(&mut self, because: &Reject) -> Result<(), Reject> {
        let mut open = Vec::new();
        loop {
            let byte = self.peek().ok_or_else(|| because.clone())?;
            self.at += 1;
            match byte {
                b'"' => self.loose_string()?,
                b'{' => open.push(b'}'),
                b'[' => open.push(b']'),
                b'}' | b']' if open.pop() != Some(byte) => return Err(because.clone()),
                b'}' | b']' => {}
                _ if !open.is_empty() => {}
                // A word: `NaN`, `-Infinity`, `0x10`, `None`.
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.' | b'_' => {
                    while let Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.' | b'_') = self.peek() {
                        self.at += 1;
                    }
                }
                _ => return Err(because.clone()),
            }
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    /// Steps over the string whose opening quote is behind, whatever is in it.
    pub(super) fn loose_string(&mut self) -> Result<(), Reject> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(reason::malformed(self.text, self.text.len())),
            }
        }
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
