//! Reading input columns: a row is a struct, and the type of each field says how its column travels.

use crate::bindings::types::{Column, DataType, Encoding, Field, Values, Varlen};
use crate::time::Timestamp;
use alloc::vec::Vec;

/// The XXH3-64 (seed 0) of a text, computed by the host; the text itself never crosses into the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash64(pub u64);

impl Hash64 {
    /// The hash the host would send for `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }
}

/// A text of few distinct values: it travels as an index into the dictionary of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Symbol<T>(pub T);

impl<T> core::ops::Deref for Symbol<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A value that a column can hold: the type of a field in `row_in!`.
pub trait Cell<'a>: Sized {
    /// What is looked up once per batch, so that `at` is cheap.
    type Column;
    /// The type asked of the host.
    const TYPE: DataType;
    /// The encoding asked of the host.
    const ENCODING: Encoding = Encoding::Plain;
    /// Whether nulls are welcome.
    const NULLABLE: bool = false;
    /// Finds the values of a column.
    fn bind(column: &'a Column) -> Self::Column;
    /// The value in row `row`.
    fn at(column: &Self::Column, row: usize) -> Self;
}

/// The schema entry of a column called `name`.
#[must_use]
pub fn field<'a, T: Cell<'a>>(name: &str) -> Field {
    Field { name: name.into(), data_type: T::TYPE, encoding: T::ENCODING, nullable: T::NULLABLE }
}

#[cold]
#[expect(clippy::panic, reason = "the host broke the schema it negotiated: there is nothing to go on with")]
fn mismatch(wanted: &str) -> ! {
    panic!("the host sent another column than {wanted}")
}

macro_rules! fixed {
    ($($cell:ty = $raw:ty, $variant:ident, $data_type:ident, $encoding:ident, $wrap:expr;)*) => {$(
        impl<'a> Cell<'a> for $cell {
            type Column = &'a [$raw];
            const TYPE: DataType = DataType::$data_type;
            const ENCODING: Encoding = Encoding::$encoding;

            fn bind(column: &'a Column) -> &'a [$raw] {
                match &column.values {
                    Values::$variant(values) => values,
                    _ => mismatch(stringify!($variant)),
                }
            }

            #[inline]
            fn at(column: &&'a [$raw], row: usize) -> Self {
                $wrap(column[row])
            }
        }
    )*};
}

fixed! {
    i64 = i64, Int64, Int64, Plain, core::convert::identity;
    f64 = f64, Float64, Float64, Plain, core::convert::identity;
    Timestamp = i64, Timestamp, Timestamp, Plain, Timestamp;
    Hash64 = u64, Hash, Utf8, Hash, Hash64;
}

/// Whether bit `row` of an Arrow bitmap is set.
#[inline]
pub(crate) fn bit(bitmap: &[u8], row: usize) -> bool {
    bitmap[row >> 3] >> (row & 7) & 1 == 1
}

impl<'a> Cell<'a> for bool {
    type Column = &'a [u8];
    const TYPE: DataType = DataType::Boolean;

    fn bind(column: &'a Column) -> &'a [u8] {
        match &column.values {
            Values::Boolean(bits) => bits,
            _ => mismatch("Boolean"),
        }
    }

    #[inline]
    fn at(column: &&'a [u8], row: usize) -> Self {
        bit(column, row)
    }
}

/// A column of byte strings.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(&'a Varlen);

impl<'a> Bytes<'a> {
    /// The bytes of value `i`.
    #[inline]
    pub fn get(&self, i: usize) -> &'a [u8] {
        &self.0.bytes[self.0.offsets[i] as usize..self.0.offsets[i + 1] as usize]
    }
}

impl<'a> Cell<'a> for &'a [u8] {
    type Column = Bytes<'a>;
    const TYPE: DataType = DataType::Binary;

    fn bind(column: &'a Column) -> Bytes<'a> {
        match &column.values {
            Values::Binary(values) => Bytes(values),
            _ => mismatch("Binary"),
        }
    }

    #[inline]
    fn at(column: &Bytes<'a>, row: usize) -> Self {
        column.get(row)
    }
}

/// A column of texts, checked to be UTF-8 once per batch.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    offsets: &'a [u32],
    text: &'a str,
}

impl<'a> Texts<'a> {
    fn new(values: &'a Varlen) -> Self {
        let text = core::str::from_utf8(&values.bytes).unwrap_or_else(|_| mismatch("UTF-8"));
        Self { offsets: &values.offsets, text }
    }

    /// The text of value `i`.
    #[inline]
    pub fn get(&self, i: usize) -> &'a str {
        &self.text[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }
}

impl<'a> Cell<'a> for &'a str {
    type Column = Texts<'a>;
    const TYPE: DataType = DataType::Utf8;

    fn bind(column: &'a Column) -> Texts<'a> {
        match &column.values {
            Values::Utf8(values) => Texts::new(values),
            _ => mismatch("Utf8"),
        }
    }

    #[inline]
    fn at(column: &Texts<'a>, row: usize) -> Self {
        column.get(row)
    }
}

impl<'a> Cell<'a> for Symbol<&'a str> {
    type Column = (&'a [u32], Vec<&'a str>);
    const TYPE: DataType = DataType::Utf8;
    const ENCODING: Encoding = Encoding::Dictionary;

    fn bind(column: &'a Column) -> Self::Column {
        let Values::Dictionary(dictionary) = &column.values else { mismatch("Dictionary") };
        let texts = Texts::new(&dictionary.values);
        (&dictionary.indices, (0..texts.offsets.len().saturating_sub(1)).map(|i| texts.get(i)).collect())
    }

    #[inline]
    fn at((indices, texts): &Self::Column, row: usize) -> Self {
        Symbol(texts[indices[row] as usize])
    }
}

impl<'a, T: Cell<'a>> Cell<'a> for Option<T> {
    type Column = (Option<&'a [u8]>, T::Column);
    const TYPE: DataType = T::TYPE;
    const ENCODING: Encoding = T::ENCODING;
    const NULLABLE: bool = true;

    fn bind(column: &'a Column) -> Self::Column {
        (column.validity.as_deref(), T::bind(column))
    }

    #[inline]
    fn at((validity, values): &Self::Column, row: usize) -> Self {
        match validity {
            Some(bits) if !bit(bits, row) => None,
            _ => Some(T::at(values, row)),
        }
    }
}

/// A row that the host sends, field by field a column. Made by `row_in!`; `()` asks for no column at all.
pub trait RowIn<'a>: Sized {
    /// The columns of a batch, looked up.
    type Columns;
    /// What is asked of the host.
    fn fields() -> Vec<Field>;
    /// Looks up the columns of a batch, which come in the order of `fields`.
    fn bind(columns: &'a [Column]) -> Self::Columns;
    /// Row `row`.
    fn at(columns: &Self::Columns, row: usize) -> Self;
}

impl<'a> RowIn<'a> for () {
    type Columns = ();

    fn fields() -> Vec<Field> {
        Vec::new()
    }

    fn bind(_: &'a [Column]) {}

    fn at((): &(), _: usize) {}
}

/// Declares the row that a plugin reads.
///
/// ```
/// use wasmill_sdk::prelude::*;
/// row_in! { pub struct Event<'a> { page: Symbol<&'a str>, user_id: Hash64, revenue: Option<f64> } }
/// ```
/// Field types: `bool`, `i64`, `f64`, `Timestamp`, `&str`, `&[u8]`, `Symbol<&str>` (dictionary), `Hash64`, and `Option` of each.
#[macro_export]
macro_rules! row_in {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($fields:tt)* }) => {
        $crate::row_in!(@row ($(#[$meta])*) ($vis) $name () 'a { $($fields)* });
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident<$life:lifetime> { $($fields:tt)* }) => {
        $crate::row_in!(@row ($(#[$meta])*) ($vis) $name (<$life>) $life { $($fields)* });
    };
    (@row ($(#[$meta:meta])*) ($vis:vis) $name:ident ($($generic:tt)*) $life:lifetime
        { $($(#[$doc:meta])* $field:ident : $cell:ty),* $(,)? }) => {
        $crate::row_out! {
            #[derive(Clone, Copy, Debug, PartialEq)]
            $(#[$meta])* $vis struct $name ($($generic)*) { $($(#[$doc])* $field: $cell),* }
        }
        impl<$life> $crate::input::RowIn<$life> for $name $($generic)* {
            type Columns = ($(<$cell as $crate::input::Cell<$life>>::Column,)*);

            fn fields() -> $crate::prelude::Vec<$crate::bindings::types::Field> {
                [$($crate::input::field::<$cell>(stringify!($field))),*].into()
            }

            fn bind(columns: &$life [$crate::bindings::types::Column]) -> Self::Columns {
                let mut columns = columns.iter();
                ($(<$cell as $crate::input::Cell<$life>>::bind(
                    columns.next().expect(concat!("the host sends column ", stringify!($field)))
                ),)*)
            }

            #[inline]
            fn at(($($field,)*): &Self::Columns, row: usize) -> Self {
                $name { $($field: <$cell as $crate::input::Cell<$life>>::at($field, row)),* }
            }
        }
    };
}
