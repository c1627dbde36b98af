//! The rows that wait for the end of their row group, kept beside the staged Parquet file so that a checkpoint has them.
//!
//! ```text
//! log    frame*
//! frame  length u32  checksum 16 bytes (XXH3-128)  as many bytes: zstd of an Arrow IPC stream
//! ```
//! Numbers are little endian. Each cut appends a frame of the rows that are new since the last one. Nothing of a log is
//! ever changed: a checkpoint names the stretch of it that it means, and what a row group took in is not named again. The
//! log goes when its file is committed.

use super::error::{Error, Result};
use super::staged::{STAGED_SUFFIX, Waiting};
use crate::disk::{Disk, DiskFile};
use crate::mutation::{self, Mutation};
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use arrow_select::concat::concat_batches;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Before the suffix of a staged file that is a log.
pub(super) const ROWS: &str = ".rows";
/// The fastest level: rows are written twice anyway, and are read after a crash alone.
const ZSTD_LEVEL: i32 = 1;
const CHECKSUM_BYTES: usize = 16;

/// The log of the staged file of this name.
pub(super) fn log_name(staged: &str) -> String {
    format!("{}{ROWS}{STAGED_SUFFIX}", staged.strip_suffix(STAGED_SUFFIX).unwrap_or(staged))
}

/// One log being written. After an error it is of no more use.
pub(super) struct RowLog {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Made when there is something to write.
    file: Option<Box<dyn DiskFile>>,
    length_bytes: u64,
}

impl RowLog {
    /// A log of nothing, which will be at `path`.
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { disk, path, file: None, length_bytes: 0 }
    }

    /// How long it is.
    pub(super) fn length(&self) -> u64 {
        self.length_bytes
    }

    /// Appends rows of one schema, and hands them to the operating system.
    pub(super) fn append(&mut self, rows: &[RecordBatch]) -> Result<()> {
        let Some(first) = rows.first() else { return Ok(()) };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.disk.create_new(&self.path).map_err(Error::io("create file", &self.path))?),
        };
        let encode = || {
            let mut stream = StreamWriter::try_new(Vec::new(), first.schema_ref())?;
            stream.write(&concat_batches(first.schema_ref(), rows)?)?;
            Ok::<_, ArrowError>(frame(&stream.into_inner()?)?)
        };
        let frame = encode().map_err(|error| Error::parquet(&self.path)(error.into()))?;
        file.write_all(&frame).map_err(Error::io("write rows", &self.path))?;
        self.length_bytes += frame.len() as u64;
        Ok(())
    }
}

/// A frame of a stream.
fn frame(stream: &[u8]) -> io::Result<Vec<u8>> {
    let bytes = zstd::bulk::compress(stream, ZSTD_LEVEL)?;
    let length = u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok([&length.to_le_bytes()[..], &xxh3_128(&bytes).to_le_bytes(), &bytes].concat())
}

/// The rows of the stretch of the log at `path` that a checkpoint names, for the staged file `staged`.
///
/// # Errors
/// `Corrupt` where the log is not as the checkpoint says.
pub(super) fn read(disk: &dyn Disk, path: &Path, staged: &str, waiting: &Waiting) -> Result<Vec<RecordBatch>> {
    let log = match disk.length(path).map_err(Error::io("look at file", path))? {
        Some(_) => disk.read(path).map_err(Error::io("read rows", path))?,
        None => return Err(Error::gone(&log_name(staged), waiting.rows)),
    };
    let until = if mutation::on(Mutation::RowsAfterTheCutRead) { log.len() as u64 } else { waiting.to };
    let at = |position: u64| usize::try_from(position).ok();
    let corrupt = |problem| Error::corrupt(&log_name(staged), problem);
    let named = at(waiting.from).zip(at(until)).and_then(|(from, to)| log.get(from..to));
    let batches =
        decode(named.ok_or_else(|| corrupt("waiting rows are fewer than the checkpoint says"))?).map_err(corrupt)?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if rows as u64 != waiting.rows && !mutation::on(Mutation::RowsAfterTheCutRead) {
        return Err(corrupt("waiting rows are not as many as the checkpoint says"));
    }
    Ok(batches)
}

/// The rows of some frames, whose bytes may be anything: what is not as it was written has another checksum.
fn decode(mut frames: &[u8]) -> std::result::Result<Vec<RecordBatch>, &'static str> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    while !frames.is_empty() {
        let (bytes, rest) = take_frame(frames).ok_or("waiting rows are cut short, or their checksum does not match")?;
        let stream = zstd::stream::decode_all(bytes).map_err(|_| "waiting rows cannot be decompressed")?;
        let stream = StreamReader::try_new(Cursor::new(stream), None);
        let rows = stream.and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
        batches.extend(rows.map_err(|_| "waiting rows cannot be read")?);
        frames = rest;
    }
    match batches.split_first() {
        Some((first, others)) if others.iter().any(|other| other.schema_ref() != first.schema_ref()) => {
            Err("waiting rows are of several schemas")
        }
        _ => Ok(batches),
    }
}

/// The bytes of the first frame, if their checksum is right, and what comes after it.
fn take_frame(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = frames.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (u128::from_le_bytes(*checksum) == xxh3_128(bytes)).then_some((bytes, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::sink::tests::batch;
    use proptest::prelude::*;
    use wasmill_pipeline::error::Class;

    const STAGED: &str = "_staging/pages/parquet/part-a-1-w0-0.parquet.tmp";

    /// A log of rows 0..20 and 20..50, and what a checkpoint after the second cut says of it.
    fn log(folder: &Path) -> (PathBuf, Waiting) {
        let path = folder.join("x.rows.tmp");
        let mut log = RowLog::new(Arc::new(RealDisk), path.clone());
        log.append(&[batch(0..10), batch(10..20)]).unwrap();
        log.append(&[batch(20..50)]).unwrap();
        (path, Waiting { from: 0, to: log.length(), rows: 50 })
    }

    #[test]
    fn rows_that_wait_read_back_as_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let (path, waiting) = log(folder.path());
        let back = read(&RealDisk, &path, STAGED, &waiting).unwrap();
        assert_eq!(back.len(), 2, "a batch for each cut");
        assert_eq!(concat_batches(back[0].schema_ref(), &back).unwrap(), batch(0..50));
    }

    #[test]
    fn a_log_of_nothing_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.rows.tmp");
        RowLog::new(Arc::new(RealDisk), path.clone()).append(&[]).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_log_that_is_gone_or_holds_other_rows_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (path, waiting) = log(folder.path());
        let told = |waiting: &Waiting| read(&RealDisk, &path, STAGED, waiting).unwrap_err();
        for wrong in [Waiting { rows: 49, ..waiting }, Waiting { to: waiting.to + 1, ..waiting }] {
            assert_eq!(told(&wrong).class(), Class::Corrupt);
            assert!(told(&wrong).to_string().contains("part-a-1-w0-0.parquet.rows.tmp"), "{}", told(&wrong));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(told(&waiting), Error::Gone { rows: 50, .. }));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_a_cut_anywhere_is_an_error(position in any::<prop::sample::Index>(), bit in 0..8, cut: bool) {
            let folder = tempfile::tempdir().unwrap();
            let (path, waiting) = log(folder.path());
            let mut bytes = std::fs::read(&path).unwrap();
            let position = position.index(bytes.len());
            if cut {
                bytes.truncate(position);
            } else {
                bytes[position] ^= 1u8 << bit;
            }
            std::fs::write(&path, bytes).unwrap();
            let error = read(&RealDisk, &path, STAGED, &waiting).unwrap_err();
            prop_assert_eq!(error.class(), Class::Corrupt);
        }
    }
}
