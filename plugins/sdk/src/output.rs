//! Making output columns: a row is a struct, put field by field into one builder a column.

use crate::bindings::types::{Column, DataType, Encoding, Field, Values, Varlen};
use crate::input::{Hash64, Symbol};
use crate::symbols::Symbols;
use crate::time::Timestamp;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// A value that can be put into a column: the type of a field in `row_out!`.
pub trait Put: Sized {
    /// What collects the values.
    type Builder: Build;
    /// The type promised to the host.
    const TYPE: DataType;
    /// The encoding promised to the host.
    const ENCODING: Encoding = Encoding::Plain;
    /// Whether there may be nulls.
    const NULLABLE: bool = false;
    /// Appends this value.
    fn put(self, into: &mut Self::Builder);
}

/// Collects one column.
pub trait Build {
    /// An empty column with room for `rows`.
    fn new(rows: usize) -> Self;
    /// Appends what stands in a row that has no value.
    fn blank(&mut self);
    /// The finished column.
    fn column(self) -> Column;
}

/// The schema entry of a column called `name`.
#[must_use]
pub fn field<T: Put>(name: &str) -> Field {
    Field { name: name.into(), data_type: T::TYPE, encoding: T::ENCODING, nullable: T::NULLABLE }
}

macro_rules! fixed {
    ($($builder:ident = $raw:ty, $variant:ident;)*) => {$(
        #[doc = concat!("A column of `", stringify!($variant), "` values.")]
        #[derive(Debug)]
        pub struct $builder(Vec<$raw>);

        impl Build for $builder {
            fn new(rows: usize) -> Self {
                Self(Vec::with_capacity(rows))
            }

            #[inline]
            fn blank(&mut self) {
                self.0.push(Default::default());
            }

            fn column(self) -> Column {
                Column { values: Values::$variant(self.0), validity: None }
            }
        }
    )*};
}

fixed! {
    Int64s = i64, Int64;
    Float64s = f64, Float64;
    Timestamps = i64, Timestamp;
    Hashes64 = u64, Hash;
}

macro_rules! put_fixed {
    ($($cell:ty = $builder:ident, $data_type:ident, $encoding:ident, $raw:expr;)*) => {$(
        impl Put for $cell {
            type Builder = $builder;
            const TYPE: DataType = DataType::$data_type;
            const ENCODING: Encoding = Encoding::$encoding;

            #[inline]
            fn put(self, into: &mut $builder) {
                into.0.push($raw(self));
            }
        }
    )*};
}

put_fixed! {
    i64 = Int64s, Int64, Plain, core::convert::identity;
    u64 = Int64s, Int64, Plain, |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    f64 = Float64s, Float64, Plain, core::convert::identity;
    Timestamp = Timestamps, Timestamp, Plain, |time: Timestamp| time.0;
    Hash64 = Hashes64, Utf8, Hash, |hash: Hash64| hash.0;
}

/// A bitmap in Arrow's layout, least significant bit first.
#[derive(Debug, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    rows: usize,
}

impl Bits {
    #[inline]
    fn push(&mut self, set: bool) {
        if self.rows.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(set) << (self.rows & 7);
        }
        self.rows += 1;
    }
}

impl Build for Bits {
    fn new(rows: usize) -> Self {
        Self { bytes: Vec::with_capacity(rows.div_ceil(8)), rows: 0 }
    }

    fn blank(&mut self) {
        self.push(false);
    }

    fn column(self) -> Column {
        Column { values: Values::Boolean(self.bytes), validity: None }
    }
}

impl Put for bool {
    type Builder = Bits;
    const TYPE: DataType = DataType::Boolean;

    #[inline]
    fn put(self, into: &mut Bits) {
        into.push(self);
    }
}

/// Byte strings one after another, and where each ends.
#[derive(Debug)]
pub struct Bytes {
    offsets: Vec<u32>,
    bytes: Vec<u8>,
}

impl Bytes {
    /// An empty column with room for `rows` short values.
    #[must_use]
    pub fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        // 12: a typical identifier or name; longer ones cost a doubling or two per batch.
        Self { offsets, bytes: Vec::with_capacity(rows * 12) }
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        append(&mut self.bytes, value);
        self.end();
    }

    /// Appends the value that `write` appends.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.end();
    }

    /// Value `i`.
    #[inline]
    #[must_use]
    pub fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.offsets[i] as usize..self.offsets[i + 1] as usize]
    }

    /// As the contract has it.
    #[must_use]
    pub fn varlen(self) -> Varlen {
        Varlen { offsets: self.offsets, bytes: self.bytes }
    }

    #[inline]
    fn end(&mut self) {
        self.offsets.push(self.bytes.len() as u32);
    }
}

/// Appends short values by words: a `memory.copy` is a call out of the compiled code in most runtimes.
#[inline]
fn append(to: &mut Vec<u8>, value: &[u8]) {
    let mut rest = value;
    while let Some((block, tail)) = rest.split_first_chunk::<16>() {
        if value.len() > 64 {
            break;
        }
        to.extend_from_slice(block);
        rest = tail;
    }
    let n = rest.len();
    let words = match n {
        0 => return,
        // Overlapping reads: where they overlap they hold the same bytes, so `|` puts them together.
        1..4 => {
            [u64::from(rest[0]) | u64::from(rest[n / 2]) << (8 * (n / 2)) | u64::from(rest[n - 1]) << (8 * (n - 1)), 0]
        }
        4..=8 => [u64::from(half(rest, 0)) | u64::from(half(rest, n - 4)) << (8 * (n - 4)), 0],
        9..16 => [word(rest, 0), word(rest, n - 8) >> (8 * (16 - n))],
        _ => return to.extend_from_slice(rest),
    };
    let end = to.len() + n;
    to.extend_from_slice(&words[0].to_le_bytes());
    if n > 8 {
        to.extend_from_slice(&words[1].to_le_bytes());
    }
    to.truncate(end);
}

/// Eight bytes at `at`, which are there.
#[inline]
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight bytes at this place"))
}

/// Four bytes at `at`, which are there.
#[inline]
pub(crate) fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes at this place"))
}

macro_rules! varlen {
    ($($(#[$doc:meta])* $builder:ident = $variant:ident, $target:ty, $($text:ty),*;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $builder(pub(crate) Bytes);

        impl Build for $builder {
            fn new(rows: usize) -> Self {
                Self(Bytes::new(rows))
            }

            #[inline]
            fn blank(&mut self) {
                self.0.end();
            }

            fn column(self) -> Column {
                Column { values: Values::$variant(self.0.varlen()), validity: None }
            }
        }

        $(impl Put for $text {
            type Builder = $builder;
            const TYPE: DataType = DataType::$variant;

            #[inline]
            fn put(self, into: &mut $builder) {
                let target: &$target = self.as_ref();
                into.0.push(target.as_ref());
            }
        })*
    )*};
}

varlen! {
    /// A column of texts.
    Utf8s = Utf8, str, &str, String, Cow<'_, str>;
    /// A column of byte strings.
    Binaries = Binary, [u8], &[u8], Vec<u8>;
}

impl<T: AsRef<str>> Put for Symbol<T> {
    type Builder = Symbols;
    const TYPE: DataType = DataType::Utf8;
    const ENCODING: Encoding = Encoding::Dictionary;

    #[inline]
    fn put(self, into: &mut Symbols) {
        into.push(self.0.as_ref().as_bytes());
    }
}

/// A column that may have nulls.
#[derive(Debug)]
pub struct Nullable<B> {
    values: B,
    validity: Bits,
    nulls: usize,
}

impl<B: Build> Build for Nullable<B> {
    fn new(rows: usize) -> Self {
        Self { values: B::new(rows), validity: Bits::new(rows), nulls: 0 }
    }

    fn blank(&mut self) {
        self.values.blank();
        self.validity.push(false);
        self.nulls += 1;
    }

    fn column(self) -> Column {
        let column = self.values.column();
        Column { validity: (self.nulls > 0).then_some(self.validity.bytes), ..column }
    }
}

impl<T: Put> Put for Option<T> {
    type Builder = Nullable<T::Builder>;
    const TYPE: DataType = T::TYPE;
    const ENCODING: Encoding = T::ENCODING;
    const NULLABLE: bool = true;

    #[inline]
    fn put(self, into: &mut Self::Builder) {
        match self {
            Some(value) => {
                into.validity.push(true);
                value.put(&mut into.values);
            }
            None => into.blank(),
        }
    }
}

/// Which columns of a row are wanted: all, or those with these indices, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection(pub Option<Vec<u32>>);

impl Projection {
    /// Whether column `index` is wanted.
    #[must_use]
    pub fn wants(&self, index: u32) -> bool {
        self.0.as_ref().is_none_or(|wanted| wanted.contains(&index))
    }
}

/// A row that the plugin makes, field by field a column. Made by `row_out!`.
pub trait RowOut: Sized {
    /// A builder for each wanted column.
    type Builders;
    /// What is promised to the host.
    fn fields() -> Vec<Field>;
    /// Empty columns with room for `rows`.
    fn builders(rows: usize, wanted: &Projection) -> Self::Builders;
    /// Appends this row.
    fn put(self, into: &mut Self::Builders);
    /// The finished columns, in order.
    fn columns(from: Self::Builders) -> Vec<Column>;
}

impl RowOut for () {
    type Builders = ();

    fn fields() -> Vec<Field> {
        Vec::new()
    }

    fn builders(_: usize, _: &Projection) {}

    fn put(self, (): &mut ()) {}

    fn columns((): ()) -> Vec<Column> {
        Vec::new()
    }
}

/// Declares the row that a plugin makes.
///
/// ```
/// use wasmill_sdk::prelude::*;
/// row_out! { pub struct Click<'a> { user_id: &'a str, page: Symbol<&'a str>, revenue: Option<f64> } }
/// ```
/// Field types: `bool`, `i64`, `u64`, `f64`, `Timestamp`, texts, byte strings, `Symbol` of a text (dictionary), and `Option` of each.
#[macro_export]
macro_rules! row_out {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($fields:tt)* }) => {
        $crate::row_out! { $(#[$meta])* $vis struct $name () { $($fields)* } }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident<$life:lifetime> { $($fields:tt)* }) => {
        $crate::row_out! { $(#[$meta])* $vis struct $name (<$life>) { $($fields)* } }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident ($($generic:tt)*)
        { $($(#[$doc:meta])* $field:ident : $cell:ty),* $(,)? }) => {
        $(#[$meta])*
        #[allow(missing_docs, reason = "a field is documented by its name and type")]
        $vis struct $name $($generic)* { $($(#[$doc])* pub $field: $cell),* }

        impl $($generic)* $crate::output::RowOut for $name $($generic)* {
            type Builders = ($(Option<<$cell as $crate::output::Put>::Builder>,)*);

            fn fields() -> $crate::prelude::Vec<$crate::bindings::types::Field> {
                [$($crate::output::field::<$cell>(stringify!($field))),*].into()
            }

            fn builders(rows: usize, wanted: &$crate::output::Projection) -> Self::Builders {
                let mut indices = 0u32..;
                ($(indices.next().filter(|index| wanted.wants(*index)).map(|_| {
                    <<$cell as $crate::output::Put>::Builder as $crate::output::Build>::new(rows)
                }),)*)
            }

            #[inline]
            fn put(self, ($($field,)*): &mut Self::Builders) {
                $(if let Some(builder) = $field {
                    $crate::output::Put::put(self.$field, builder);
                })*
            }

            fn columns(($($field,)*): Self::Builders) -> $crate::prelude::Vec<$crate::bindings::types::Column> {
                [$($field.map($crate::output::Build::column)),*].into_iter().flatten().collect()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_length_are_appended_whole() {
        let text: Vec<u8> = (0..200).collect();
        let mut column = Bytes::new(0);
        (0..=text.len()).for_each(|n| column.push(&text[..n]));
        for n in 0..=text.len() {
            assert_eq!(column.get(n), &text[..n]);
        }
    }

    #[test]
    fn validity_is_absent_without_nulls_and_a_bitmap_with_them() {
        let build = |values: &[Option<i64>]| {
            let mut builder = <Option<i64> as Put>::Builder::new(values.len());
            for value in values {
                value.put(&mut builder);
            }
            builder.column()
        };
        assert_eq!(build(&[Some(1), Some(2)]).validity, None);
        let holed = build(&[Some(1), None, Some(3)]);
        assert_eq!(holed, Column { values: Values::Int64([1, 0, 3].into()), validity: Some([0b101].into()) });
    }
}
