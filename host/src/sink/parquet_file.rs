//! One Parquet file being written, which at any flush knows the footer that would complete it.

use super::dictionary_column::{DictionaryColumn, Zstd};
use super::error::{Error, Result};
use super::origin::Origin;
use crate::disk::DiskFile;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, FieldRef, Schema, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    FileMetaData, FooterTail, KeyValue, ParquetMetaData, ParquetMetaDataReader, ParquetMetaDataWriter,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescPtr, ColumnPath};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows in a row group: what Spark and DuckDB use as a unit of parallel reading, and little enough to hold in memory.
const ROW_GROUP_ROWS: usize = 128 * 1024;
/// Bytes in a row group, which bounds memory when rows are large (dead letters).
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;
/// Rows that the encoder takes between two looks at the page size, where values may be megabytes: a page's length
/// is an `i32`, so 8 payloads of Kafka's usual largest size and even of 100 MB fit.
const BINARY_STEP_ROWS: usize = 8;

/// How the files of an output are encoded.
///
/// zstd level 1, statistics per column chunk and no page index (so that a footer stands alone); integers and
/// times delta-packed; text as lengths and bytes. Columns that arrive as dictionaries are [`DictionaryColumn`]'s. The
/// file's schema is Parquet's own, without Arrow's beside it: every reader sees plain strings, and times as
/// `TIMESTAMP(MICROS, UTC)`.
pub(super) fn properties(schema: &Schema, origin: &Origin) -> WriterProperties {
    let entries: Vec<_> =
        origin.entries().map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned())).collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_dictionary_enabled(false)
        .set_key_value_metadata((!entries.is_empty()).then_some(entries));
    for field in schema.fields() {
        let column = ColumnPath::from(field.name().as_str());
        properties = match field.data_type() {
            DataType::Utf8 => properties.set_column_encoding(column, Encoding::DELTA_LENGTH_BYTE_ARRAY),
            DataType::Binary | DataType::LargeBinary => properties
                .set_write_batch_size(BINARY_STEP_ROWS)
                .set_column_encoding(column.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY)
                .set_column_statistics_enabled(column, EnabledStatistics::None),
            DataType::Int32 | DataType::Int64 | DataType::Timestamp(..) => {
                properties.set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
            }
            _ => properties,
        };
    }
    properties.build()
}

/// A Parquet file being written. After an error it is of no more use.
pub(super) struct ParquetFile {
    writer: SerializedFileWriter<Box<dyn DiskFile>>,
    columns: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    row_group: Option<RowGroup>,
    zstd: Zstd,
    path: PathBuf,
}

/// The row group in the making.
struct RowGroup {
    columns: Vec<Column>,
    rows: usize,
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
        Ok(())
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
        Ok(Self { writer, columns, schema, row_group: None, zstd: Zstd::new()?, path: path.to_path_buf() })
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
        Ok(RowGroup { columns: columns.map(column).collect(), rows: 0 })
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
        self.writer.flushed_row_groups().len()
    }

    /// Ends the row group and hands all to the operating system. Answers the file's length, and the footer that after
    /// so many bytes makes it whole.
    pub(super) fn flush(&mut self) -> Result<(u64, Vec<u8>)> {
        self.end_row_group().map_err(Error::parquet(&self.path))?;
        self.writer.flush().map_err(Error::io("write rows", &self.path))?;
        let footer = self.footer().map_err(Error::parquet(&self.path))?;
        Ok((self.writer.bytes_written() as u64, footer))
    }

    fn footer(&self) -> std::result::Result<Vec<u8>, ParquetError> {
        let row_groups = self.writer.flushed_row_groups();
        let first = row_groups.first().ok_or_else(|| ParquetError::General("no rows".to_owned()))?;
        let properties = self.writer.properties();
        let file = FileMetaData::new(
            properties.writer_version().as_num(),
            row_groups.iter().map(parquet::file::metadata::RowGroupMetaData::num_rows).sum(),
            Some(properties.created_by().to_owned()),
            properties.key_value_metadata().cloned(),
            first.schema_descr_ptr(),
            None,
        );
        let metadata = ParquetMetaData::new(file, row_groups.to_vec());
        let mut footer = Vec::new();
        ParquetMetaDataWriter::new(&mut footer, &metadata).finish()?;
        Ok(footer)
    }

    /// Writes the footer and hands all to the operating system. Answers the file's length.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.end_row_group().map_err(Error::parquet(&self.path))?;
        self.writer.finish().map_err(Error::parquet(&self.path))?;
        Ok(self.writer.bytes_written() as u64)
    }
}

/// What a Parquet file says of its origin: nothing where wasmill did not write it.
///
/// # Errors
/// `Io` where `file`, which is at `path`, cannot be read; `Parquet` where it is no whole Parquet file.
pub fn origin_of(file: &mut (impl Read + Seek), path: &Path) -> Result<Origin> {
    let io = |error| Error::io("read the footer", path)(error);
    let length = file.seek(SeekFrom::End(0)).map_err(io)?;
    let cut_short = || Error::parquet(path)(ParquetError::General("it is cut short".to_owned()));
    let mut tail = [0; 8];
    file.seek(SeekFrom::Start(length.checked_sub(8).ok_or_else(cut_short)?)).map_err(io)?;
    file.read_exact(&mut tail).map_err(io)?;
    let footer = FooterTail::try_new(&tail).map_err(Error::parquet(path))?.metadata_length();
    let start = (length - 8).checked_sub(footer as u64).ok_or_else(cut_short)?;
    let mut bytes = vec![0; footer];
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    file.read_exact(&mut bytes).map_err(io)?;
    let metadata = ParquetMetaDataReader::decode_metadata(&bytes).map_err(Error::parquet(path))?;
    let entries = metadata.file_metadata().key_value_metadata().cloned().unwrap_or_default();
    Ok(entries.into_iter().filter_map(|entry| Some((entry.key, entry.value?))).collect())
}
