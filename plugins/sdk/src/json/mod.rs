//! Reading flat JSON objects: strict, in one pass, without recursion, and quick where fields come in the expected order.
//!
//! # Source
//! RFC 8259. Stricter in that a key may come once per object, and nesting ends at depth 64.

mod scan;
mod text;

pub use scan::Object;
pub use text::Text;

use crate::input::Symbol;
use crate::parser::Reject;
use crate::time::Timestamp;
use alloc::format;

/// One value of an object. Its grammar is already checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it is written; not beyond the range of `f64`.
    Number(&'a str),
    /// A string.
    Text(Text<'a>),
    /// An array or object, as it is written.
    Nested(&'a str),
}

// What `json_row!` calls to make a field of a value: null is the same as absent.
impl<'a> Value<'a> {
    /// A text, or null.
    ///
    /// # Errors
    /// Invalid: a value of another type.
    #[inline]
    pub fn text(self) -> Result<Option<Text<'a>>, Reject> {
        match self {
            Self::Text(text) => Ok(Some(text)),
            Self::Null => Ok(None),
            _ => Err(self.not("a string")),
        }
    }

    /// A text; null counts as the empty one, as does an absent field: the plugin checks `is_empty`.
    ///
    /// # Errors
    /// Invalid: a value of another type.
    #[inline]
    pub fn text_or_empty(self) -> Result<Text<'a>, Reject> {
        self.text().map(Option::unwrap_or_default)
    }

    /// A text of few distinct values, or null.
    ///
    /// # Errors
    /// Invalid: a value of another type.
    #[inline]
    pub fn symbol(self) -> Result<Option<Symbol<Text<'a>>>, Reject> {
        self.text().map(|text| text.map(Symbol))
    }

    /// An instant in RFC 3339. Anything else is no time, and no error: the host then takes the broker's.
    ///
    /// # Errors
    /// None; for `json_row!` alike with the others.
    #[inline]
    pub fn time(self) -> Result<Option<Timestamp>, Reject> {
        match self {
            Self::Text(text) => Ok(text.time()),
            _ => Ok(None),
        }
    }

    /// A number, or null.
    ///
    /// # Errors
    /// Invalid: a value of another type.
    #[inline]
    pub fn number(self) -> Result<Option<f64>, Reject> {
        match self {
            Self::Number(number) => number.parse().map(Some).map_err(|_| self.not("a number")),
            Self::Null => Ok(None),
            _ => Err(self.not("a number")),
        }
    }

    /// A whole number written as such, or null.
    ///
    /// # Errors
    /// Invalid: a value of another type, a fraction or exponent, or beyond the range of `i64`.
    #[inline]
    pub fn integer(self) -> Result<Option<i64>, Reject> {
        match self {
            Self::Number(number) => number.parse().map(Some).map_err(|_| self.not("a whole number")),
            Self::Null => Ok(None),
            _ => Err(self.not("a whole number")),
        }
    }

    /// True, false or null.
    ///
    /// # Errors
    /// Invalid: a value of another type.
    #[inline]
    pub fn boolean(self) -> Result<Option<bool>, Reject> {
        match self {
            Self::Bool(value) => Ok(Some(value)),
            Self::Null => Ok(None),
            _ => Err(self.not("true or false")),
        }
    }

    #[cold]
    fn not(self, wanted: &str) -> Reject {
        let found = match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Nested(_) => "an array or object",
        };
        Reject::invalid(format!("{found}, not {wanted}"))
    }
}

/// A field's name as it stands in compact JSON, `"name":`, made at compile time.
#[must_use]
pub const fn quoted<const N: usize>(name: &str) -> [u8; N] {
    let name = name.as_bytes();
    assert!(N == name.len() + 3, "room for the name, two quotes and a colon");
    let mut out = [b'"'; N];
    let mut i = 0;
    while i < name.len() {
        out[i + 1] = name[i];
        i += 1;
    }
    out[N - 1] = b':';
    out
}

/// Makes a row of a flat JSON object: `json_row!(record.value, Click { user_id: text_or_empty, revenue: number })?`.
///
/// Each field is made of the value of that name by the method of [`Value`] after the colon; fields that are absent are
/// default, and unknown ones are checked and skipped. A struct of at most 64 fields that is `Default`. Objects that
/// start with these fields in this order are read without looking names up.
///
/// # Errors
/// Malformed: not UTF-8, not an object in JSON, or nested deeper than 64. Invalid: a value of the wrong type, a number beyond
/// `f64`, a key that comes twice.
#[macro_export]
macro_rules! json_row {
    ($text:expr, $row:ident { $($field:ident : $how:ident),* $(,)? }) => {
        (|| -> ::core::result::Result<_, $crate::parser::Reject> {
            #[allow(non_camel_case_types, dead_code)]
            #[derive(Clone, Copy)]
            enum Field { $($field),* }
            let mut row = $row::default();
            let mut object = $crate::json::Object::open($text)?;
            let mut more = object.first()?;
            'in_order: {
                $(
                    const { assert!((Field::$field as u32) < 64, "at most 64 fields") };
                    if !more || !object.next_is(const { &$crate::json::quoted::<{ stringify!($field).len() + 3 }>(stringify!($field)) }) {
                        break 'in_order;
                    }
                    object.saw(Field::$field as u32);
                    row.$field = object.$how(stringify!($field))?;
                    more = object.more()?;
                )*
            }
            while more {
                let key = object.key()?;
                match &*key.to_cow() {
                    $(stringify!($field) => {
                        object.once(Field::$field as u32, key)?;
                        row.$field = object.any_value()?.$how().map_err(|reject| reject.at_field(stringify!($field)))?;
                    })*
                    _ => {
                        object.once_unknown(key)?;
                        object.any_value()?;
                    }
                }
                more = object.more()?;
            }
            Ok(row)
        })()
    };
}

#[cfg(test)]
mod tests;
