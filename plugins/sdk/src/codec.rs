//! How a state becomes bytes: small, without a schema, and canonical: equal states give equal bytes.

use crate::input::Hash64;
use crate::time::Timestamp;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// Why bytes are not a state, in a few words.
pub type Broken = &'static str;

/// The bytes of a state that are still to be read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `n` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or("ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("ends early")?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A number of things that take at least one byte each: never more than there are bytes left.
    ///
    /// # Errors
    /// The bytes cannot hold so many.
    pub fn count(&mut self) -> Result<usize, Broken> {
        let count = u64::decode(self)?;
        usize::try_from(count).ok().filter(|count| *count <= self.0.len()).ok_or("ends early")
    }
}

/// What can be part of a state.
///
/// `decode` reads back what `encode` wrote, and refuses bytes that `encode` would not have written.
pub trait Codec: Sized {
    /// Appends the bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads the bytes.
    ///
    /// # Errors
    /// The bytes are not such a value, in the form that `encode` gives it.
    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken>;
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
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Broken> {
        Ok((A::decode(from)?, B::decode(from)?))
    }
}

/// Declares a state: a struct, empty by default, encoded field by field.
///
/// ```
/// use wasmill_sdk::prelude::*;
/// state! { pub struct Page { events: u64, users: Distinct, revenue: ExactSum } }
/// ```
#[macro_export]
macro_rules! state {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$doc:meta])* $field:ident : $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default)]
        #[allow(missing_docs, reason = "a field is documented by its name and type")]
        $vis struct $name { $($(#[$doc])* pub $field: $type),* }

        impl $crate::codec::Codec for $name {
            fn encode(&self, out: &mut $crate::prelude::Vec<u8>) {
                $($crate::codec::Codec::encode(&self.$field, out);)*
            }

            fn decode(from: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::Broken> {
                Ok($name { $($field: $crate::codec::Codec::decode(from)?),* })
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
            let mut reader = Reader(&encoded);
            prop_assert_eq!(Codec::decode(&mut reader), Ok(state));
            prop_assert!(reader.0.is_empty());
        }

        #[test]
        fn what_is_decoded_has_one_form_only(raw: Vec<u8>) {
            let mut reader = Reader(&raw);
            if let Ok(value) = <(u64, (BTreeSet<u64>, Option<i64>))>::decode(&mut reader) {
                prop_assert_eq!(bytes(&value), &raw[..raw.len() - reader.0.len()]);
            }
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_memory_is_taken() {
        assert_eq!(Vec::<u64>::decode(&mut Reader(&bytes(&u64::MAX))), Err("ends early"));
        assert_eq!(String::decode(&mut Reader(&[200, 1, b'x'])), Err("ends early"));
    }

    #[test]
    fn numbers_in_long_forms_are_refused() {
        for long in [vec![0x80, 0], vec![0xFF; 10], vec![0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]] {
            assert!(u64::decode(&mut Reader(&long)).is_err());
        }
        assert_eq!(u64::decode(&mut Reader(&bytes(&u64::MAX))), Ok(u64::MAX));
    }
}
