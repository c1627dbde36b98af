//! The decoders of checkpoint files, open to fuzzing, and what gets hostile contents past their checksums.

use super::manifest::framed;
use super::merge::{Deletes, fold};
use super::segment::{Block, decode, encode, sealed};
use super::{Error, Manifest};
use arrow_array::BinaryArray;
use std::path::Path;
use wasmill_pipeline::state::delta::{GroupEntry, GroupId, StateDelta};

/// Reads a manifest file.
///
/// # Errors
/// As for a file on the disk.
pub fn manifest(bytes: &[u8]) -> Result<Manifest, Error> {
    Manifest::decode(Path::new("manifest"), bytes)
}

/// A manifest file with this body, and a checksum that is right whatever the body is.
pub fn manifest_of(body: &str) -> Vec<u8> {
    framed(body).into_bytes()
}

/// The deltas of a segment file, as they stand there.
///
/// # Errors
/// As for a file on the disk.
pub fn segment(bytes: &[u8], checksum: &str) -> Result<Vec<StateDelta>, Error> {
    Ok(decode(Path::new("segment"), bytes, checksum)?.iter().map(owned).collect())
}

/// The deltas of a segment file as one state: as recovery reads it if it is the `oldest`, else as a merge does.
///
/// # Errors
/// As for a file on the disk.
pub fn folded(bytes: &[u8], checksum: &str, oldest: bool) -> Result<Vec<StateDelta>, Error> {
    let deletes = if oldest { Deletes::Drop } else { Deletes::Keep };
    Ok(fold(&decode(Path::new("segment"), bytes, checksum)?, deletes))
}

/// A segment file of these deltas, and its checksum.
///
/// # Errors
/// As for a file on the disk.
pub fn segment_of(deltas: &[StateDelta]) -> std::io::Result<(Vec<u8>, String)> {
    let mut bytes = Vec::new();
    let written = encode(deltas, &mut bytes)?;
    Ok((bytes, written.checksum))
}

/// A segment file whose blocks are these bytes, and a checksum that is right whatever they are.
pub fn segment_around(blocks: &[u8]) -> (Vec<u8>, String) {
    sealed(blocks)
}

fn owned(block: &Block<'_>) -> StateDelta {
    let id = |start_us, key: &[u8]| GroupId { key: key.to_vec(), start_us };
    StateDelta {
        aggregate: block.aggregate.to_owned(),
        state_version: block.state_version,
        deletes: block.deletes.iter().map(|&(start_us, key)| id(start_us, key)).collect(),
        puts: block.puts.iter().map(|p| GroupEntry { id: id(p.start_us, p.key), last_us: p.last_us }).collect(),
        states: BinaryArray::from_iter_values(block.puts.iter().map(|put| put.state)),
    }
}
