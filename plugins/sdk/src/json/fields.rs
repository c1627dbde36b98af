//! The kinds of fields that `json_row!` has: what becomes of a value in a row, and of one that does not fit.
#![expect(clippy::inline_always, reason = "guest code looks at its deadline wherever a function begins")]

use super::scan::Plain;
use super::{Object, Text, Value};
use crate::bindings::parser::exports::wasmill::plugin::parser::RejectKind;
use crate::input::Symbol;
use crate::parser::Reject;
use crate::time::{TimeReader, Timestamp};
use alloc::format;

/// What becomes of a value that does not fit its field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Misfit {
    /// The record is refused: it would be nothing without this field.
    Refused,
    /// The field is null and the value in the rescue; refused if there is none, or everything is strict.
    Rescued,
    /// The field is null and the value in the rescue, if there is one.
    Forgotten,
}

// Null is the same as absent. `field` is the name, for messages and the rescue.
impl<'a> Object<'a> {
    /// A text, or null.
    ///
    /// # Errors
    /// As `value`, and invalid: a value of another type that is not rescued.
    #[inline(always)]
    pub fn text(&mut self, field: &str) -> Result<Option<Text<'a>>, Reject> {
        match self.plain() {
            Plain::OTHER => self.other_text(field, Misfit::Rescued),
            plain => Ok(plain.of(self.text)),
        }
    }

    /// A text; null counts as the empty one, as does an absent field: the plugin checks `is_empty`.
    ///
    /// # Errors
    /// As `value`, and invalid: a value of another type.
    #[inline(always)]
    pub fn text_or_empty(&mut self, field: &str) -> Result<Text<'a>, Reject> {
        let text = match self.plain() {
            Plain::OTHER => self.other_text(field, Misfit::Refused)?,
            plain => plain.of(self.text),
        };
        Ok(text.unwrap_or_default())
    }

    /// A text of few distinct values, or null.
    ///
    /// # Errors
    /// As `text`.
    #[inline(always)]
    pub fn symbol(&mut self, field: &str) -> Result<Option<Symbol<Text<'a>>>, Reject> {
        self.text(field).map(|text| text.map(Symbol))
    }

    /// The same where a value of another type is never rescued: a record without this field is worth nothing. The plugin
    /// checks `is_none`.
    ///
    /// # Errors
    /// As `text_or_empty`.
    #[inline(always)]
    pub fn required_symbol(&mut self, field: &str) -> Result<Option<Symbol<Text<'a>>>, Reject> {
        let text = match self.plain() {
            Plain::OTHER => self.other_text(field, Misfit::Refused)?,
            plain => plain.of(self.text),
        };
        Ok(text.map(Symbol))
    }

    #[inline(never)]
    fn other_text(&mut self, field: &str, misfit: Misfit) -> Result<Option<Text<'a>>, Reject> {
        self.fit(field, "a text", misfit, Value::text)
    }

    /// An instant in any form that has one meaning, UTC where it names no zone: [`TimeReader::default`].
    ///
    /// # Errors
    /// As `time_in`.
    #[inline]
    pub fn time(&mut self, field: &str) -> Result<Option<Timestamp>, Reject> {
        self.time_in(field, TimeReader::default())
    }

    /// An instant as `reader` reads it. What it cannot read is no time, rescued, and no error: the host then takes the
    /// broker's time.
    ///
    /// # Errors
    /// As `value`, for what is not JSON.
    #[inline]
    pub fn time_in(&mut self, field: &str, reader: TimeReader) -> Result<Option<Timestamp>, Reject> {
        match self.plain() {
            Plain::NULL => Ok(None),
            Plain::OTHER => self.other_time(field, reader),
            plain => {
                let time = plain.of(self.text).and_then(|text| reader.text(text.raw()));
                if time.is_none() && self.rules.rescue {
                    self.leave(field, plain.start(), true);
                }
                Ok(time)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn other_time(&mut self, field: &str, reader: TimeReader) -> Result<Option<Timestamp>, Reject> {
        self.fit(field, "a time", Misfit::Forgotten, |value| match value {
            Value::Text(text) => reader.text(text.to_cow().as_bytes()),
            Value::Number(number) => reader.number(number),
            Value::Nested(array) => reader.array(array),
            Value::Null | Value::Bool(_) => None,
        })
    }

    /// A number, or null.
    ///
    /// # Errors
    /// As `text`.
    #[inline]
    pub fn number(&mut self, field: &str) -> Result<Option<f64>, Reject> {
        if self.null() { Ok(None) } else { self.fit(field, "a number", Misfit::Rescued, Value::number) }
    }

    /// A whole number written as such, or null.
    ///
    /// # Errors
    /// As `text`; a fraction, an exponent, or what is beyond `i64` is of another type.
    #[inline]
    pub fn integer(&mut self, field: &str) -> Result<Option<i64>, Reject> {
        if self.null() { Ok(None) } else { self.fit(field, "a whole number", Misfit::Rescued, Value::integer) }
    }

    /// True, false or null.
    ///
    /// # Errors
    /// As `text`.
    #[inline]
    pub fn boolean(&mut self, field: &str) -> Result<Option<bool>, Reject> {
        if self.null() { Ok(None) } else { self.fit(field, "true or false", Misfit::Rescued, Value::boolean) }
    }

    /// What `read` makes of the value that comes next: where fields come in another order.
    ///
    /// # Errors
    /// Those of `read`. Malformed: a text that is not UTF-8.
    #[inline(never)]
    pub fn by_name<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&mut Self, &str) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        if self.is_doubtful() {
            self.check_next().map_err(|reject| reject.at_field(field))?;
        }
        read(self, field)
    }

    /// Steps over null, if it is what comes next.
    #[inline]
    fn null(&mut self) -> bool {
        self.space();
        self.peek() == Some(b'n') && self.skips("null")
    }

    /// What `of` makes of the value that comes next.
    #[inline(never)]
    fn fit<T>(
        &mut self,
        field: &str,
        wanted: &str,
        misfit: Misfit,
        of: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, Reject> {
        self.space();
        let start = self.at;
        let value = match self.value() {
            Ok(Value::Null) => return Ok(None),
            Ok(value) => match of(value) {
                None => Ok(value.kind()),
                made => return Ok(made),
            },
            Err(reject) => Err(reject),
        };
        self.misfit(field, wanted, misfit, start, value).map(|()| None)
    }

    /// Sees to the value at `start`, of a kind that is not `wanted`, or not a value.
    #[cold]
    fn misfit(
        &mut self,
        field: &str,
        wanted: &str,
        misfit: Misfit,
        start: usize,
        found: Result<&str, Reject>,
    ) -> Result<(), Reject> {
        let passes = match misfit {
            Misfit::Refused => false,
            Misfit::Rescued => self.rules.rescue && !self.rules.strict,
            Misfit::Forgotten => true,
        };
        match found {
            Ok(found) if !passes => return Err(Reject::invalid(format!("{field}: {found} where {wanted} is wanted"))),
            Ok(_) => {}
            // What is wrong inside an array or object, or with a number, does not matter where none is wanted.
            Err(reject) => {
                let nested = matches!(self.text.get(start), Some(b'{' | b'['));
                let number = reject.kind == RejectKind::Invalid && self.text.get(start) != Some(&b'"');
                if self.rules.strict || !passes || !(nested || number) {
                    return Err(reject.at_field(field));
                }
            }
        }
        self.at = start;
        let whole = self.step_over()?;
        if self.rules.rescue {
            self.leave(field, start, whole);
        }
        Ok(())
    }
}
