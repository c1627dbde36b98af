//! Reading flat JSON objects: in one pass, without recursion, and quick where fields come in the expected order.
//!
//! # Source
//! RFC 8259. Stricter in that a field's key comes once, and nesting ends at depth 64; laxer in what no field uses, but for
//! [`Rules::strict`].

mod bytes;
mod fields;
mod nested;
mod reason;
mod rest;
mod scan;
mod text;

pub use reason::missing;
pub use scan::{Key, Object, Rules};
pub use text::Text;

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

impl<'a> Value<'a> {
    /// The text, if it is one.
    #[inline]
    #[must_use]
    pub fn text(self) -> Option<Text<'a>> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one.
    #[inline]
    #[must_use]
    pub fn number(self) -> Option<f64> {
        if let Self::Number(number) = self { number.parse().ok() } else { None }
    }

    /// The whole number, if it is one, written as such, in the range of `i64`.
    #[inline]
    #[must_use]
    pub fn integer(self) -> Option<i64> {
        if let Self::Number(number) = self { number.parse().ok() } else { None }
    }

    /// True or false, if it is one of them.
    #[inline]
    #[must_use]
    pub fn boolean(self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(value) } else { None }
    }

    /// What kind of value it is, with its article.
    fn kind(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Nested(nested) if nested.starts_with('[') => "an array",
            Self::Nested(_) => "an object",
        }
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

/// Makes a row of a flat JSON object: `json_row!(record.value, Click { user_id: text_or_empty, revenue: number, ..rescue })?`.
///
/// Each field is made of the value of that name by the method of [`Object`](crate::json::Object) after the colon
/// (`at: time_in(self.times)` where it takes settings); fields that are absent are default. A struct of at most 64 fields
/// that is `Default`. Objects that start with these fields in this order are read without looking names up.
///
/// `..rescue` puts what no field takes into the field of that name, an `Option<String>`: unknown fields, and values of a type
/// that does not fit, whose fields are then null. Without it, unknown fields are stepped over, and a value that does not
/// fit is refused. `, strict: true` after the braces refuses such a value always, and what is wrong in an unknown field, too.
///
/// # Errors
/// Malformed: not UTF-8, or not an object in JSON. Invalid: a value that does not fit, half a pair of surrogates in a
/// text, a key of a field that comes twice.
#[macro_export]
macro_rules! json_row {
    ($text:expr, $row:ident {
        $($field:ident : $how:ident $(($($arg:expr),*))?),* $(, ..$rest:ident)? $(,)?
    } $(, strict: $strict:expr)? $(,)?) => {
        (|| -> ::core::result::Result<_, $crate::parser::Reject> {
            #[allow(non_camel_case_types, dead_code)]
            #[derive(Clone, Copy)]
            enum Field { $($field),* }
            let mut row = $row::default();
            let rules = $crate::json::Rules {
                strict: false $(|| $strict)?,
                rescue: const { !<[&str]>::is_empty(&[$(stringify!($rest))?]) },
            };
            let mut object = $crate::json::Object::open_with($text, rules)?;
            let mut more = object.first()?;
            'in_order: {
                if object.is_doubtful() {
                    break 'in_order;
                }
                $(
                    const { assert!((Field::$field as u32) < 64, "at most 64 fields") };
                    if !more || !object.next_is(const { &$crate::json::quoted::<{ stringify!($field).len() + 3 }>(stringify!($field)) }) {
                        break 'in_order;
                    }
                    object.saw(Field::$field as u32);
                    row.$field = object.$how(stringify!($field) $($(, $arg)*)?)?;
                    more = object.more()?;
                )*
            }
            while more {
                let key = object.key()?;
                match &*key.name() {
                    $(stringify!($field) => {
                        object.once(Field::$field as u32, stringify!($field))?;
                        row.$field = object.by_name(stringify!($field), |object, field| object.$how(field $($(, $arg)*)?))?;
                    })*
                    _ => object.unknown(key)?,
                }
                more = object.more()?;
            }
            $(row.$rest = object.rest();)?
            Ok(row)
        })()
    };
}

#[cfg(test)]
mod tests;
