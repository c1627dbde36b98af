//! The encoding of a segment: deltas as bytes, and bytes that may be hostile as deltas.
//!
//! ```text
//! segment  "wasmill segment\n"  format u32  block*  checksum 16 bytes (XXH3-128 of all before, little endian)
//! block    aggregate bytes  state_version u32  deletes u64  puts u64  delete*  put*
//! delete   start_us i64  key bytes
//! put      start_us i64  last_us i64  key bytes  state bytes
//! bytes    length u32, then as many bytes
//! ```
//! All numbers are little endian.

use std::io::{self, Write};
use std::path::Path;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::error::Error;
use wasmill_pipeline::state::delta::StateDelta;

/// The encoding's version.
const FORMAT: u32 = 1;

const MAGIC: &[u8; 16] = b"wasmill segment\n";

const CHECKSUM_BYTES: usize = 16;

/// The least that a delete takes: start, and the length of an empty key.
const DELETE_BYTES: usize = 8 + 4;

/// The least that a put takes: start, last, and the lengths of an empty key and state.
const PUT_BYTES: usize = 8 + 8 + 4 + 4;

/// One delta, borrowed from a segment's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub(super) aggregate: &'a str,
    pub(super) state_version: u32,
    pub(super) deletes: Vec<(i64, &'a [u8])>,
    pub(super) puts: Vec<Put<'a>>,
}

/// A group with its state, borrowed from a segment's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Put<'a> {
    pub(super) start_us: i64,
    pub(super) last_us: i64,
    pub(super) key: &'a [u8],
    pub(super) state: &'a [u8],
}

/// What was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) checksum: String,
}

/// Writes a segment. States must be one per put.
///
/// # Errors
/// What `out` says; `InvalidInput` for a name, key or state of 4 GiB and more.
pub(super) fn encode<'a>(deltas: impl IntoIterator<Item = &'a StateDelta>, out: &mut dyn Write) -> io::Result<Written> {
    let mut out = Hashed { out, hasher: Xxh3::new(), bytes: 0 };
    out.write_all(MAGIC)?;
    out.write_all(&FORMAT.to_le_bytes())?;
    let mut block = Vec::new();
    for delta in deltas {
        block.clear();
        encode_block(delta, &mut block)?;
        out.write_all(&block)?;
    }
    let checksum = out.hasher.digest128();
    out.out.write_all(&checksum.to_le_bytes())?;
    Ok(Written { bytes: out.bytes + CHECKSUM_BYTES as u64, checksum: hex(checksum) })
}

fn encode_block(delta: &StateDelta, block: &mut Vec<u8>) -> io::Result<()> {
    push_bytes(block, delta.aggregate.as_bytes())?;
    block.extend(delta.state_version.to_le_bytes());
    block.extend((delta.deletes.len() as u64).to_le_bytes());
    block.extend((delta.puts.len() as u64).to_le_bytes());
    for id in &delta.deletes {
        block.extend(id.start_us.to_le_bytes());
        push_bytes(block, &id.key)?;
    }
    for (index, put) in delta.puts.iter().enumerate() {
        block.extend(put.id.start_us.to_le_bytes());
        block.extend(put.last_us.to_le_bytes());
        push_bytes(block, &put.id.key)?;
        push_bytes(block, delta.states.value(index))?;
    }
    Ok(())
}

fn push_bytes(block: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    block.extend(length.to_le_bytes());
    block.extend(bytes);
    Ok(())
}

/// A writer that hashes and counts what goes through.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hasher: Xxh3,
    bytes: u64,
}

impl Hashed<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// A segment around these blocks, whatever they are, and its checksum.
#[cfg(feature = "testing")]
pub(super) fn sealed(blocks: &[u8]) -> (Vec<u8>, String) {
    let mut bytes = [MAGIC, &FORMAT.to_le_bytes()[..], blocks].concat();
    let checksum = xxh3_128(&bytes);
    bytes.extend(checksum.to_le_bytes());
    (bytes, hex(checksum))
}

/// Reads the bytes of the segment file `path`, of which the manifest says `checksum`.
///
/// # Errors
/// [`Error::Newer`], [`Error::Corrupt`].
pub(super) fn decode<'a>(path: &Path, bytes: &'a [u8], checksum: &str) -> Result<Vec<Block<'a>>, Error> {
    let (body, found) = checked(bytes, checksum).map_err(|reason| Error::corrupt(path, reason))?;
    if found != FORMAT {
        return Err(Error::Newer { path: path.to_owned(), found: u64::from(found), supported: FORMAT });
    }
    let mut cursor = Cursor { left: body };
    let mut blocks = Vec::new();
    while !cursor.left.is_empty() {
        blocks.push(cursor.block().ok_or_else(|| Error::corrupt(path, "its lengths do not fit"))?);
    }
    Ok(blocks)
}

/// The blocks' bytes and the format, after the checks that need neither.
fn checked<'a>(bytes: &'a [u8], checksum: &str) -> Result<(&'a [u8], u32), &'static str> {
    let (hashed, trailer) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or("it is cut short")?;
    let found = xxh3_128(hashed);
    if u128::from_le_bytes(*trailer) != found {
        return Err("its checksum does not match");
    }
    if hex(found) != checksum {
        return Err("it is not the file that the manifest names");
    }
    let (format, body) = hashed.strip_prefix(MAGIC).and_then(<[u8]>::split_first_chunk).ok_or("it is no segment")?;
    Ok((body, u32::from_le_bytes(*format)))
}

/// The checksum as manifests write it.
fn hex(checksum: u128) -> String {
    format!("{checksum:032x}")
}

/// Takes values off the front of bytes that may be anything; `None` where they do not suffice.
struct Cursor<'a> {
    left: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn block(&mut self) -> Option<Block<'a>> {
        let aggregate = std::str::from_utf8(self.bytes()?).ok()?;
        let state_version = u32::from_le_bytes(self.chunk()?);
        let deletes = u64::from_le_bytes(self.chunk()?);
        let puts = u64::from_le_bytes(self.chunk()?);
        let deletes = self.many(deletes, DELETE_BYTES, |cursor| Some((cursor.i64()?, cursor.bytes()?)))?;
        let puts = self.many(puts, PUT_BYTES, Self::put)?;
        Some(Block { aggregate, state_version, deletes, puts })
    }

    fn put(&mut self) -> Option<Put<'a>> {
        let put = Put { start_us: self.i64()?, last_us: self.i64()?, key: self.bytes()?, state: self.bytes()? };
        // An Arrow column cannot hold a larger one.
        i32::try_from(put.state.len()).is_ok().then_some(put)
    }

    /// `count` items of at least `least` bytes each. What is allocated is bounded by the bytes that are there.
    fn many<T>(&mut self, count: u64, least: usize, take: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(count).ok().filter(|count| *count <= self.left.len() / least)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(take(self)?);
        }
        Some(items)
    }

    fn i64(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(u32::from_le_bytes(self.chunk()?)).ok()?;
        let (bytes, left) = self.left.split_at_checked(length)?;
        self.left = left;
        Some(bytes)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, left) = self.left.split_first_chunk()?;
        self.left = left;
        Some(*chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::tests::arbitrary_deltas;
    use super::*;
    use proptest::prelude::*;

    fn encoded(deltas: &[StateDelta]) -> (Vec<u8>, Written) {
        let mut bytes = Vec::new();
        let written = encode(deltas, &mut bytes).unwrap();
        assert_eq!(written.bytes, bytes.len() as u64);
        (bytes, written)
    }

    fn path() -> &'static Path {
        Path::new("segment-1-1-0.bin")
    }

    fn same(block: &Block<'_>, delta: &StateDelta) -> bool {
        let deletes = block.deletes.iter().copied().eq(delta.deletes.iter().map(|id| (id.start_us, &id.key[..])));
        let puts = delta.puts.iter().enumerate().map(|(index, put)| Put {
            start_us: put.id.start_us,
            last_us: put.last_us,
            key: &put.id.key,
            state: delta.states.value(index),
        });
        deletes && block.puts.iter().copied().eq(puts) && block.state_version == delta.state_version
    }

    proptest! {
        #[test]
        fn a_segment_reads_back_as_written(deltas in arbitrary_deltas()) {
            let (bytes, written) = encoded(&deltas);
            let blocks = decode(path(), &bytes, &written.checksum).unwrap();
            prop_assert_eq!(blocks.len(), deltas.len());
            prop_assert!(blocks.iter().zip(&deltas).all(|(block, delta)| same(block, delta)));
        }

        #[test]
        fn a_segment_cut_short_is_corrupt(deltas in arbitrary_deltas(), cut in any::<prop::sample::Index>()) {
            let (bytes, written) = encoded(&deltas);
            let error = decode(path(), &bytes[..cut.index(bytes.len())], &written.checksum).unwrap_err();
            prop_assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        }

        #[test]
        fn a_flipped_bit_is_an_error_that_names_the_file(
            deltas in arbitrary_deltas(), position in any::<prop::sample::Index>(), bit in 0..8
        ) {
            let (mut bytes, written) = encoded(&deltas);
            let position = position.index(bytes.len());
            bytes[position] ^= 1u8 << bit;
            let error = decode(path(), &bytes, &written.checksum).unwrap_err();
            prop_assert!(error.to_string().contains("segment-1-1-0.bin"));
        }

        #[test]
        fn hostile_bytes_with_a_right_checksum_neither_panic_nor_allocate(
            deltas in arbitrary_deltas(), position in any::<prop::sample::Index>(), lie in any::<[u8; 8]>()
        ) {
            let (bytes, _) = encoded(&deltas);
            let mut hashed = bytes[..bytes.len() - CHECKSUM_BYTES].to_vec();
            let position = position.index(hashed.len());
            let end = hashed.len().min(position + lie.len());
            hashed[position..end].copy_from_slice(&lie[..end - position]);
            let checksum = xxh3_128(&hashed);
            hashed.extend(checksum.to_le_bytes());
            let _ = decode(path(), &hashed, &hex(checksum));
        }
    }

    #[test]
    fn another_whole_segment_under_the_name_is_corrupt() {
        let (_, named) = encoded(&[StateDelta::new("sessions", 1)]);
        let (bytes, _) = encoded(&[StateDelta::new("sessions", 2)]);
        let error = decode(path(), &bytes, &named.checksum).unwrap_err();
        assert!(error.to_string().contains("not the file that the manifest names"), "{error}");
    }
}
