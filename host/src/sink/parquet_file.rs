//! One Parquet file being written, which at any cut knows what would complete it.

use super::dictionary_column::{DictionaryColumn, Zstd};
use super::error::{Error, Result};
use super::origin::Origin;
use super::row_log::RowLog;
use super::staged::Waiting;
use crate::disk::DiskFile;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{
    FileMetaData, FooterTail, KeyValue, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader,
    ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows in a row group: what Spark and DuckDB use as a unit of parallel reading, and little enough to hold in memory.
const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Bytes in a row group, which bounds memory when rows are large (dead letters).
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;
/// From so many rows on a cut ends the row group instead of keeping its rows in the log: a quarter of what it may have is
/// of use to readers, and so the log's part of a cut takes milliseconds, whatever the traffic.
const LOGGED_ROWS: usize = ROW_GROUP_ROWS / 4;
/// And from so many bytes of Arrow on, which bounds what is in memory for the log where rows are large.
const LOGGED_BYTES: usize = 8 * 1024 * 1024;
/// Rows that the encoder takes between two looks at the page size, where values may be megabytes: a page's length
/// is an `i32`, so 8 payloads of Kafka's usual largest size and even of 100 MB fit.
const BINARY_STEP_ROWS: usize = 8;

/// By this Spark knows that dates and times are of the proleptic Gregorian calendar, as they are by the format, and reads
/// those before 1900 as they stand; without it, it refuses them. No other reader looks at it.
///
/// # Source
/// Apache Spark, `DataSourceUtils.datetimeRebaseSpec` and `int96RebaseSpec`: files of Spark 3.1 and later without a mark
/// for the old calendar.
const PROLEPTIC: (&str, &str) = ("org.apache.spark.version", "3.1.0");

/// How the files of an output are encoded.
///
/// zstd level 1, statistics per column chunk and no page index (so that a footer stands alone); integers and
/// times delta-packed; text and bytes plain, for Spark (to 4.0 at least) reads wrong values where their lengths are packed
/// and there are nulls, or more than 4,096 rows in a page. Columns that arrive as dictionaries are [`DictionaryColumn`]'s. The
/// file's schema is Parquet's own, without Arrow's beside it: every reader sees plain strings, and times as
/// `TIMESTAMP(MICROS, UTC)`.
pub(super) fn properties(schema: &Schema, origin: &Origin) -> WriterProperties {
    let entries = origin.entries().chain([PROLEPTIC]);
    let entries: Vec<_> = entries.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned())).collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(entries));
    for field in schema.fields() {
        let column = ColumnPath::from(field.name().as_str());
        properties = match field.data_type() {
            DataType::Binary | DataType::LargeBinary => properties
                .set_write_batch_size(BINARY_STEP_ROWS)
                .set_column_statistics_enabled(column, EnabledStatistics::None),
            DataType::Int32 | DataType::Int64 | DataType::Timestamp(..) => {
                properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
            }
            _ => properties,
        };
    }
    properties.build()
}

/// What a file is at a cut: see [`OpenFile`](super::OpenFile).
pub(super) struct Cut {
    pub(super) len: u64,
    pub(super) footer: Option<Vec<u8>>,
    pub(super) waiting: Option<Waiting>,
}

/// A Parquet file being written. After an error it is of no more use.
pub(super) struct ParquetFile {
    writer: SerializedFileWriter<Box<dyn DiskFile>>,
    columns: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// Row groups that were not made here.
    earlier: Vec<RowGroupMetaData>,
    row_group: Option<RowGroup>,
    zstd: Zstd,
    path: PathBuf,
}

/// The row group in the making.
struct RowGroup {
    columns: Vec<Column>,
    rows: usize,
    /// About how long its rows are in memory, as far as that matters.
    arrow_bytes: usize,
    /// The rows that no cut has put into the log yet; nothing once the next cut will end the row group anyway.
    new_rows: Vec<RecordBatch>,
    /// Those that are there.
    logged: Option<Waiting>,
}

/// One of its columns.
enum Column {
    Dictionary(Box<DictionaryColumn>),
    Other(Box<ArrowColumnWriter>),
}

impl RowGroup {
    fn write(&mut self, batch: &RecordBatch, zstd: &mut Zstd) -> std::result::Result<(), ParquetError> {
        for ((column, array), field) in self.columns.iter_mut().zip(batch.columns()).zip(batch.schema_ref().fields()) {
            match column {
                Column::Dictionary(column) => column.write(array, zstd)?,
                Column::Other(column) => {
                    for leaf in compute_leaves(field, array)? {
                        column.write(&leaf)?;
                    }
                }
            }
        }
        self.rows += batch.num_rows();
        if !self.is_large() {
            for column in batch.columns() {
                self.arrow_bytes += column.to_data().get_slice_memory_size()?;
            }
            self.new_rows.push(batch.clone());
        }
        if self.is_large() {
            self.new_rows = Vec::new();
        }
        Ok(())
    }

    /// Whether it is of use to readers as it is.
    fn is_large(&self) -> bool {
        self.rows >= LOGGED_ROWS || self.arrow_bytes >= LOGGED_BYTES
    }

    /// Sees to it that the log has all rows, and says where.
    fn log(&mut self, log: &mut RowLog) -> Result<Option<Waiting>> {
        let from = self.logged.map_or(log.length(), |logged| logged.from);
        log.append(&std::mem::take(&mut self.new_rows))?;
        self.logged = Some(Waiting { from, to: log.length(), rows: self.rows as u64 });
        Ok(self.logged)
    }

    /// About how long it is so far.
    fn size(&self) -> usize {
        let size = |column: &Column| match column {
            Column::Dictionary(column) => column.size(),
            Column::Other(column) => column.get_estimated_total_bytes(),
        };
        self.columns.iter().map(size).sum()
    }
}

impl ParquetFile {
    /// Starts a file; nothing may have been written to it.
    pub(super) fn new(
        file: Box<dyn DiskFile>,
        path: &Path,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> Result<Self> {
        Self::start(file, path, schema, properties).map_err(Error::parquet(path))
    }

    fn start(
        file: Box<dyn DiskFile>,
        path: &Path,
        schema: SchemaRef,
        properties: WriterProperties,
    ) -> std::result::Result<Self, ParquetError> {
        let descriptor = ArrowSchemaConverter::new().convert(&schema)?;
        let writer = SerializedFileWriter::new(file, descriptor.root_schema_ptr(), Arc::new(properties))?;
        let columns = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(&schema));
        let (earlier, row_group, zstd, path) = (Vec::new(), None, Zstd::new()?, path.to_path_buf());
        Ok(Self { writer, columns, schema, earlier, row_group, zstd, path })
    }

    /// Appends rows of the file's schema.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.append(batch).map_err(Error::parquet(&self.path))
    }

    fn append(&mut self, batch: &RecordBatch) -> std::result::Result<(), ParquetError> {
        let mut from = 0;
        while from < batch.num_rows() {
            if self.row_group.is_none() {
                self.row_group = Some(self.new_row_group()?);
            }
            let Some(row_group) = &mut self.row_group else { unreachable!("made just now") };
            let rows = (batch.num_rows() - from).min(ROW_GROUP_ROWS - row_group.rows);
            row_group.write(&batch.slice(from, rows), &mut self.zstd)?;
            from += rows;
            if row_group.rows == ROW_GROUP_ROWS || row_group.size() >= ROW_GROUP_BYTES {
                self.end_row_group()?;
            }
        }
        Ok(())
    }

    fn new_row_group(&self) -> std::result::Result<RowGroup, ParquetError> {
        let others = self.columns.create_column_writers(self.row_groups())?;
        let columns = self.schema.fields().iter().zip(self.writer.schema_descr().columns()).zip(others);
        let column = |((field, descriptor), other): ((&FieldRef, &ColumnDescPtr), _)| {
            if DictionaryColumn::takes(field.data_type()) {
                Column::Dictionary(Box::new(DictionaryColumn::new(Arc::clone(descriptor))))
            } else {
                Column::Other(Box::new(other))
            }
        };
        let columns = columns.map(column).collect();
        Ok(RowGroup { columns, rows: 0, arrow_bytes: 0, new_rows: Vec::new(), logged: None })
    }

    fn end_row_group(&mut self) -> std::result::Result<(), ParquetError> {
        let Some(row_group) = self.row_group.take() else { return Ok(()) };
        let mut writer = self.writer.next_row_group()?;
        for column in row_group.columns {
            match column {
                Column::Dictionary(column) => {
                    let (bytes, close) = column.finish(&mut self.zstd)?;
                    writer.append_column(&bytes, close)?;
                }
                Column::Other(column) => column.close()?.append_to_row_group(&mut writer)?,
            }
        }
        writer.close()?;
        Ok(())
    }

    /// About how long the file is, with what is still in memory.
    pub(super) fn size(&self) -> u64 {
        (self.writer.bytes_written() + self.row_group.as_ref().map_or(0, RowGroup::size)) as u64
    }

    /// How many row groups there are, not counting the one in memory.
    pub(super) fn row_groups(&self) -> usize {
        self.earlier.len() + self.writer.flushed_row_groups().len()
    }

    /// What the file is now, with all in the hands of the operating system: a row group that is large ends, the rows of
    /// one that is not go to the log.
    pub(super) fn cut(&mut self, log: &mut RowLog) -> Result<Cut> {
        if self.row_group.as_ref().is_some_and(RowGroup::is_large) {
            self.end_row_group().map_err(Error::parquet(&self.path))?;
        }
        let waiting = self.row_group.as_mut().map_or(Ok(None), |row_group| row_group.log(log))?;
        self.writer.flush().map_err(Error::io("write rows", &self.path))?;
        let footer = self.footer().map_err(Error::parquet(&self.path))?;
        Ok(Cut { len: self.writer.bytes_written() as u64, footer, waiting })
    }

    /// What makes the row groups so far a whole file; `None` where there are none.
    fn footer(&self) -> std::result::Result<Option<Vec<u8>>, ParquetError> {
        let row_groups = self.earlier.iter().chain(self.writer.flushed_row_groups()).cloned();
        let row_groups =
            (0..).zip(row_groups).map(|(ordinal, group)| group.into_builder().set_ordinal(ordinal).build());
        let row_groups = row_groups.collect::<std::result::Result<Vec<_>, _>>()?;
        let Some(first) = row_groups.first() else { return Ok(None) };
        let properties = self.writer.properties();
        let file = FileMetaData::new(
            properties.writer_version().as_num(),
            row_groups.iter().map(RowGroupMetaData::num_rows).sum(),
            Some(properties.created_by().to_owned()),
            properties.key_value_metadata().cloned(),
            first.schema_descr_ptr(),
            None,
        );
        let metadata = ParquetMetaData::new(file, row_groups);
        let mut footer = Vec::new();
        ParquetMetaDataWriter::new(&mut footer, &metadata).finish()?;
        Ok(Some(footer))
    }

    /// Begins with the row groups of a file of the same columns: its first `len` bytes, of which `footer` tells.
    pub(super) fn begin_with(&mut self, file: impl Read, len: u64, footer: &[u8]) -> Result<()> {
        self.earlier = metadata_of(footer).map_err(Error::parquet(&self.path))?.row_groups().to_vec();
        let io = |error| Error::io("copy rows", &self.path)(error);
        let mut file = file.take(len);
        // Both begin with the same magic.
        let mut magic = file.by_ref().take(self.writer.bytes_written() as u64);
        io::copy(&mut magic, &mut io::sink()).map_err(io)?;
        io::copy(&mut file, &mut Raw(&mut self.writer)).map_err(io)?;
        if self.writer.bytes_written() as u64 == len {
            Ok(())
        } else {
            Err(Error::corrupt(&self.path.display().to_string(), "file became shorter while being read"))
        }
    }

    /// Writes the footer and hands all to the operating system. Answers the file's length.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.end_row_group().map_err(Error::parquet(&self.path))?;
        let footer = self.footer().map_err(Error::parquet(&self.path))?.expect("no file is made without rows");
        let written = self.writer.write_all(&footer).and_then(|()| self.writer.flush());
        written.map_err(Error::io("write rows", &self.path))?;
        Ok(self.writer.bytes_written() as u64)
    }
}

/// Bytes straight into a file.
struct Raw<'a>(&'a mut SerializedFileWriter<Box<dyn DiskFile>>);

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What a footer says, by its bytes up to the end of the file.
fn metadata_of(footer: &[u8]) -> std::result::Result<ParquetMetaData, ParquetError> {
    let cut_short = || ParquetError::General("it is cut short".to_owned());
    let (rest, tail) = footer.split_last_chunk().ok_or_else(cut_short)?;
    let length = FooterTail::try_new(tail)?.metadata_length();
    let start = rest.len().checked_sub(length).ok_or_else(cut_short)?;
    // As they are, for they may be written again.
    let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
    ParquetMetaDataReader::decode_metadata_with_options(&rest[start..], Some(&options))
}

/// How many rows a whole Parquet file has.
///
/// # Errors
/// `Parquet` where it is none; `path` is where it is.
pub(super) fn rows_of(file: &[u8], path: &Path) -> Result<u64> {
    let metadata = metadata_of(file).map_err(Error::parquet(path))?;
    Ok(metadata.file_metadata().num_rows() as u64)
}

/// What a Parquet file says of its origin: nothing where wasmill did not write it.
///
/// # Errors
/// `Io` where `file`, which is at `path`, cannot be read; `Parquet` where it is no whole Parquet file.
pub fn origin_of(file: &mut (impl Read + Seek), path: &Path) -> Result<Origin> {
    let io = |error| Error::io("read the footer", path)(error);
    let length = file.seek(SeekFrom::End(0)).map_err(io)?;
    let cut_short = || Error::parquet(path)(ParquetError::General("it is cut short".to_owned()));
    let mut tail = [0; FOOTER_SIZE];
    let tail_start = length.checked_sub(FOOTER_SIZE as u64).ok_or_else(cut_short)?;
    file.seek(SeekFrom::Start(tail_start)).map_err(io)?;
    file.read_exact(&mut tail).map_err(io)?;
    let metadata = FooterTail::try_new(&tail).map_err(Error::parquet(path))?.metadata_length();
    let start = tail_start.checked_sub(metadata as u64).ok_or_else(cut_short)?;
    let mut footer = vec![0; metadata + FOOTER_SIZE];
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    file.read_exact(&mut footer).map_err(io)?;
    let metadata = metadata_of(&footer).map_err(Error::parquet(path))?;
    let entries = metadata.file_metadata().key_value_metadata().cloned().unwrap_or_default();
    Ok(entries.into_iter().filter_map(|entry| Some((entry.key, entry.value?))).collect())
}
