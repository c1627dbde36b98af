//! How a state becomes bytes: small, without a schema, and canonical: equal states give equal bytes.
//!
//! A state has a version, and so have the bytes of a [`Reader`]: what is a part of the state since a later version than
//! the bytes' is not read, and gets its default.

use crate::input::Hash64;
use crate::time::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// Why bytes are not a state, in a few words.
pub type Broken = &'static str;

/// The bytes of a state that are still to be read, and the version of the state that wrote them.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    version: u32,
}

impl<'a> Reader<'a> {
    /// Bytes of the newest version, whichever that is.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::of_version(u32::MAX, bytes)
    }

    /// Bytes that a state of this version wrote.
    #[must_use]
    pub fn of_version(version: u32, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, version }
    }

    /// The version of the state that wrote the bytes.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The bytes that are left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A value that is a part of the state since version `since`: its default where the bytes are older.
    ///
    /// # Errors
    /// The bytes are not such a value.
    pub fn since<T: Codec + Default>(&mut self, since: u32) -> Result<T, Broken> {
        if self.version < since { Ok(T::default()) } else { T::decode(self) }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or("ends early")?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or("ends early")?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A number of things that take at least one byte each: never more than there are bytes left.
    ///
    /// # Errors
    /// The bytes cannot hold so many.
    pub fn count(&mut self) -> Result<usize, Broken> {
        let count = u64::decode(self)?;
        usize::try_from(count).ok().filter(|count| *count <= self.rest.len()).ok_or("ends early")
    }
}

/// What can be part of a state.
///
/// `decode` reads back what `encode` wrote, and refuses bytes that `encode` would not have written.
///
/// The versions are those of the whole state, also in a part of it. `state!` derives them. Where a `Codec` is written
/// by hand and its bytes change, `VERSION` is the state's next version, and `decode` asks `from.version()`.
pub trait Codec: Sized {
    /// The version of the state in which these bytes were changed last.
    const VERSION: u32 = 1;
    /// The oldest version whose bytes `decode` reads.
    const OLDEST: u32 = 1;

    /// Appends the bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads the bytes.
    ///
    /// # Errors
    /// The bytes are not such a value, in the form that `encode` gives it.
    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken>;
}

/// The newest of some versions.
#[must_use]
pub const fn newest(versions: &[u32]) -> u32 {
    let mut newest = 0;
    let mut rest = versions;
    while let [version, others @ ..] = rest {
        if *version > newest {
            newest = *version;
        }
        rest = others;
    }
    newest
}

/// The newest of the versions in which fields were added, which ascend.
///
/// # Panics
/// They do not: as `state!` asks at compile time, that is an error there.
#[must_use]
pub const fn ascending(versions: &[u32]) -> u32 {
    let mut newest = 0;
    let mut rest = versions;
    while let [version, others @ ..] = rest {
        assert!(
            *version > newest,
            "each `since` of a state has a greater version than what is before it; the first is 1"
        );
        newest = *version;
        rest = others;
    }
    newest
}

/// LEB128, the shortest form only.
impl Codec for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = from.array()?;
            let bits = u64::from(byte & 0x7F);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err("number not in its shortest form");
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("number too long")
    }
}

/// Zigzag, then as `u64`.
impl Codec for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        ((self << 1) ^ (self >> 63)).cast_unsigned().encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let value = u64::decode(from)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

/// Its eight bytes. For sums prefer `ExactSum`: an `f64` depends on the order of addition.
impl Codec for f64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        from.array().map(Self::from_le_bytes)
    }
}

impl Codec for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        match from.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err("neither true nor false"),
        }
    }
}

impl Codec for Hash64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        from.array().map(|bytes| Self(u64::from_le_bytes(bytes)))
    }
}

impl Codec for Timestamp {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        i64::decode(from).map(Self)
    }
}

impl Codec for String {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let len = from.count()?;
        core::str::from_utf8(from.take(len)?).map(Into::into).map_err(|_| "text is not UTF-8")
    }
}

impl<T: Codec> Codec for Option<T> {
    const VERSION: u32 = T::VERSION;
    const OLDEST: u32 = T::OLDEST;

    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        bool::decode(from)?.then(|| T::decode(from)).transpose()
    }
}

impl<T: Codec> Codec for Vec<T> {
    const VERSION: u32 = T::VERSION;
    const OLDEST: u32 = T::OLDEST;

    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        for item in self {
            item.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        (0..from.count()?).map(|_| T::decode(from)).collect()
    }
}

impl<T: Codec + Ord> Codec for BTreeSet<T> {
    const VERSION: u32 = T::VERSION;
    const OLDEST: u32 = T::OLDEST;

    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        for item in self {
            item.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let items = Vec::<T>::decode(from)?;
        if !items.is_sorted_by(|a, b| a < b) {
            return Err("set out of order");
        }
        Ok(items.into_iter().collect())
    }
}

impl<K: Codec + Ord, V: Codec> Codec for BTreeMap<K, V> {
    const VERSION: u32 = newest(&[K::VERSION, V::VERSION]);
    const OLDEST: u32 = newest(&[K::OLDEST, V::OLDEST]);

    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        let entries = Vec::<(K, V)>::decode(from)?;
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            return Err("map out of order");
        }
        Ok(entries.into_iter().collect())
    }
}

impl<A: Codec, B: Codec> Codec for (A, B) {
    const VERSION: u32 = newest(&[A::VERSION, B::VERSION]);
    const OLDEST: u32 = newest(&[A::OLDEST, B::OLDEST]);

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok((A::decode(from)?, B::decode(from)?))
    }
}

/// Declares a state: a struct, empty by default, encoded field by field, and its version.
///
/// ```
/// use wasmill_sdk::prelude::*;
/// state! { pub struct Page { events: u64, users: Distinct, revenue: ExactSum } }
/// assert_eq!(Page::VERSION, 1);
/// ```
/// To add a field in the next version of the plugin, append it, with the version that has it first. States of the
/// versions before are read, too, and the field has its default: the value that it has in a state without rows.
///
/// ```
/// use wasmill_sdk::prelude::*;
/// state! {
///     pub struct Page { events: u64, users: Distinct, revenue: ExactSum }
///     since 2 { devices: u64, mobile: u64 }
///     since 3 { referrers: Hashes }
/// }
/// assert_eq!((Page::OLDEST, Page::VERSION), (1, 3));
/// ```
/// Any other change (a field of another type or meaning, one that goes) begins anew: states of the versions before are
/// not read, unless the aggregate does it in `migrate`.
///
/// ```
/// use wasmill_sdk::prelude::*;
/// state! { pub struct Page since 4 { events: u64, users: Hashes } }
/// assert_eq!((Page::OLDEST, Page::VERSION), (4, 4));
/// ```
/// A field may be a state itself: the versions are those of the whole, so that one with `since 5` inside makes it
/// version 5. Versions ascend:
///
/// ```compile_fail
/// use wasmill_sdk::prelude::*;
/// state! { pub struct Page { events: u64 } since 1 { devices: u64 } }
/// ```
#[macro_export]
macro_rules! state {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($fields:tt)* } $($more:tt)*) => {
        $crate::state! { $(#[$meta])* $vis struct $name since 1 { $($fields)* } $($more)* }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident
        since $oldest:literal { $($(#[$doc:meta])* $field:ident : $type:ty),* $(,)? }
        $(since $version:literal { $($(#[$new_doc:meta])* $new:ident : $new_type:ty),* $(,)? })*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        #[allow(missing_docs, reason = "a field is documented by its name and type")]
        $vis struct $name { $($(#[$doc])* pub $field: $type,)* $($($(#[$new_doc])* pub $new: $new_type,)*)* }

        const _: u32 = <$name as $crate::codec::Codec>::VERSION;

        impl $crate::codec::Codec for $name {
            const VERSION: u32 = $crate::codec::newest(&[
                $crate::codec::ascending(&[$oldest $(, $version)*]),
                $(<$type as $crate::codec::Codec>::VERSION,)*
                $($(<$new_type as $crate::codec::Codec>::VERSION,)*)*
            ]);
            const OLDEST: u32 =
                $crate::codec::newest(&[$oldest $(, <$type as $crate::codec::Codec>::OLDEST)*]);

            fn encode(&self, out: &mut $crate::prelude::Vec<u8>) {
                $($crate::codec::Codec::encode(&self.$field, out);)*
                $($($crate::codec::Codec::encode(&self.$new, out);)*)*
            }

            fn decode(from: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::Broken> {
                Ok($name {
                    $($field: $crate::codec::Codec::decode(from)?,)*
                    $($($new: from.since($version)?,)*)*
                })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn bytes(value: &impl Codec) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(state: (u64, (i64, (Option<bool>, (String, BTreeMap<u64, Vec<i64>>))))) {
            let encoded = bytes(&state);
            let mut reader = Reader::new(&encoded);
            prop_assert_eq!(Codec::decode(&mut reader), Ok(state));
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn what_is_decoded_has_one_form_only(raw: Vec<u8>) {
            let mut reader = Reader::new(&raw);
            if let Ok(value) = <(u64, (BTreeSet<u64>, Option<i64>))>::decode(&mut reader) {
                prop_assert_eq!(bytes(&value), &raw[..raw.len() - reader.rest().len()]);
            }
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_memory_is_taken() {
        assert_eq!(Vec::<u64>::decode(&mut Reader::new(&bytes(&u64::MAX))), Err("ends early"));
        assert_eq!(String::decode(&mut Reader::new(&[200, 1, b'x'])), Err("ends early"));
    }

    #[test]
    fn numbers_in_long_forms_are_refused() {
        for long in [vec![0x80, 0], vec![0xFF; 10], vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]] {
            assert!(u64::decode(&mut Reader::new(&long)).is_err());
        }
        assert_eq!(u64::decode(&mut Reader::new(&bytes(&u64::MAX))), Ok(u64::MAX));
    }

    state! {
        #[derive(PartialEq)]
        struct Part { count: u64 }
        since 3 { names: BTreeSet<String> }
    }
    state! {
        #[derive(PartialEq)]
        struct Whole { total: i64, parts: Vec<Part>, by: BTreeMap<u64, Part> }
        since 2 { last: Option<Timestamp>, seen: u64 }
    }
    state! { struct Anew since 4 { whole: Option<Whole> } }

    #[test]
    fn a_state_is_as_new_as_its_newest_part() {
        assert_eq!((Part::OLDEST, Part::VERSION), (1, 3));
        assert_eq!((Whole::OLDEST, Whole::VERSION), (1, 3));
        assert_eq!((Anew::OLDEST, Anew::VERSION), (4, 4));
        assert_eq!((<(u64, Part)>::VERSION, Vec::<Anew>::OLDEST), (3, 4));
    }

    fn whole() -> Whole {
        let part = |count| Part { count, names: ["a".into()].into() };
        Whole { total: -3, parts: vec![part(1), part(2)], by: [(7, part(4))].into(), last: Some(Timestamp(9)), seen: 5 }
    }

    #[test]
    fn fields_that_older_bytes_do_not_have_get_their_defaults() {
        let one = bytes(&(-3_i64, (vec![1_u64, 2], BTreeMap::from([(7_u64, 4_u64)]))));
        let part = |count| Part { count, names: BTreeSet::new() };
        let want = Whole { parts: vec![part(1), part(2)], by: [(7, part(4))].into(), last: None, seen: 0, ..whole() };
        let mut reader = Reader::of_version(1, &one);
        assert_eq!(Whole::decode(&mut reader), Ok(want.clone()));
        assert!(reader.rest().is_empty());

        let two = [one, bytes(&(Some(Timestamp(9)), 5_u64))].concat();
        let mut reader = Reader::of_version(2, &two);
        assert_eq!(Whole::decode(&mut reader), Ok(Whole { last: Some(Timestamp(9)), seen: 5, ..want }));
        assert!(reader.rest().is_empty());
    }

    #[test]
    fn a_versioned_state_is_read_back_and_not_as_another_version() {
        let encoded = bytes(&whole());
        assert_eq!(Whole::decode(&mut Reader::of_version(3, &encoded)), Ok(whole()));
        let mut older = Reader::of_version(2, &encoded);
        assert!(Whole::decode(&mut older).is_err() || !older.rest().is_empty());
    }
}
