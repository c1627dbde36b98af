//! A dictionary column of a Parquet row group, from Arrow's codes straight to pages: each distinct text is looked at
//! once per batch, and of every row only its code is packed.
//!
//! # Source
//! Apache Parquet format: "Data Pages", "Dictionary Encoding" and "Run Length Encoding / Bit-Packing Hybrid".

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::BooleanBufferBuilder;
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use std::collections::HashMap;

/// Rows in a page.
const PAGE_ROWS: usize = 20_000;
/// The longest value that is told as a least or greatest one: these stand in every footer.
const LONGEST_BOUND: usize = 64;
/// A text of the batch that the row group has no code for yet.
const UNSEEN: u32 = u32::MAX;

/// One column of the row group in the making.
pub(super) struct DictionaryColumn {
    descriptor: ColumnDescPtr,
    codes_of: HashMap<Box<[u8]>, u32>,
    /// The distinct values in the order of their codes, as the dictionary page has them.
    dictionary: Vec<u8>,
    page: PageInProgress,
    /// Pages that are full, compressed.
    pages: Vec<DataPage>,
    nulls: u64,
    rows: u64,
    /// For each value of the batch its code in the row group.
    codes: Vec<u32>,
}

/// The rows since the last page.
struct PageInProgress {
    /// Of the rows that are not null.
    codes: Vec<u32>,
    valid: BooleanBufferBuilder,
    nulls: usize,
}

struct DataPage {
    bytes: Vec<u8>,
    uncompressed: usize,
    rows: usize,
}

impl DictionaryColumn {
    /// Whether a column of this type is written so.
    pub(super) fn takes(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Dictionary(key, value)
            if **key == DataType::UInt32 && matches!(**value, DataType::Utf8 | DataType::Binary))
    }

    /// A column without rows.
    pub(super) fn new(descriptor: ColumnDescPtr) -> Self {
        Self {
            descriptor,
            codes_of: HashMap::new(),
            dictionary: Vec::new(),
            page: PageInProgress {
                codes: Vec::with_capacity(PAGE_ROWS),
                valid: BooleanBufferBuilder::new(PAGE_ROWS),
                nulls: 0,
            },
            pages: Vec::new(),
            nulls: 0,
            rows: 0,
            codes: Vec::new(),
        }
    }

    /// Appends the rows of an array that [`takes`](Self::takes) holds for.
    pub(super) fn write(&mut self, array: &ArrayRef, zstd: &mut Zstd) -> Result<()> {
        let array = array.as_dictionary::<UInt32Type>();
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        let mut from = 0;
        self.codes.clear();
        self.codes.resize(array.values().len(), UNSEEN);
        while from < array.len() {
            let to = array.len().min(from + PAGE_ROWS - self.page.valid.len());
            let keys = &array.keys().values()[from..to];
            match nulls.as_ref().map(|nulls| nulls.slice(from, to - from)) {
                None => {
                    self.page.valid.append_n(keys.len(), true);
                    for &key in keys {
                        let code = self.code(array.values(), key);
                        self.page.codes.push(code);
                    }
                }
                Some(nulls) => {
                    self.page.valid.append_buffer(nulls.inner());
                    self.page.nulls += nulls.null_count();
                    for row in nulls.valid_indices() {
                        let code = self.code(array.values(), keys[row]);
                        self.page.codes.push(code);
                    }
                }
            }
            if self.page.valid.len() == PAGE_ROWS {
                self.end_page(zstd)?;
            }
            from = to;
        }
        Ok(())
    }

    /// The row group's code of a value of the batch.
    #[inline]
    fn code(&mut self, values: &ArrayRef, key: u32) -> u32 {
        match self.codes[key as usize] {
            UNSEEN => self.new_code(values, key),
            code => code,
        }
    }

    #[cold]
    fn new_code(&mut self, values: &ArrayRef, key: u32) -> u32 {
        let value: &[u8] = match values.data_type() {
            DataType::Utf8 => values.as_string::<i32>().value(key as usize).as_bytes(),
            _ => values.as_binary::<i32>().value(key as usize),
        };
        let code = if let Some(&code) = self.codes_of.get(value) {
            code
        } else {
            let code = self.codes_of.len() as u32;
            self.dictionary.extend_from_slice(&(value.len() as u32).to_le_bytes());
            self.dictionary.extend_from_slice(value);
            self.codes_of.insert(value.into(), code);
            code
        };
        self.codes[key as usize] = code;
        code
    }

    /// About how long the column is, as far as there is anything of it.
    pub(super) fn size(&self) -> usize {
        let pages: usize = self.pages.iter().map(|page| page.bytes.len()).sum();
        pages + self.dictionary.len() + self.page.codes.len() * bit_width(self.codes_of.len()) / 8
    }

    fn end_page(&mut self, zstd: &mut Zstd) -> Result<()> {
        let PageInProgress { codes, valid, nulls } = &mut self.page;
        let rows = valid.len();
        if rows == 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        if self.descriptor.max_def_level() > 0 {
            let levels = definition_levels(valid, *nulls);
            bytes.extend_from_slice(&(levels.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&levels);
        }
        let width = bit_width(self.codes_of.len());
        bytes.push(width as u8);
        hybrid(codes, width, &mut bytes);
        self.pages.push(DataPage { uncompressed: bytes.len(), rows, bytes: zstd.compress(&bytes)? });
        self.nulls += *nulls as u64;
        self.rows += rows as u64;
        codes.clear();
        valid.truncate(0);
        *nulls = 0;
        Ok(())
    }

    /// Ends the column: its bytes, the dictionary first, and what the footer says of them.
    pub(super) fn finish(mut self, zstd: &mut Zstd) -> Result<(Bytes, ColumnCloseResult)> {
        self.end_page(zstd)?;
        let mut chunk = TrackedWrite::new(Vec::new());
        let mut writer = SerializedPageWriter::new(&mut chunk);
        let dictionary = Page::DictionaryPage {
            buf: zstd.compress(&self.dictionary)?.into(),
            num_values: self.codes_of.len() as u32,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        let spec = writer.write_page(CompressedPage::new(dictionary, self.dictionary.len()))?;
        let (mut uncompressed, mut compressed) = (spec.uncompressed_size, spec.compressed_size);
        let data_page_offset = spec.bytes_written;
        for page in std::mem::take(&mut self.pages) {
            let DataPage { bytes, uncompressed: size, rows } = page;
            let page = Page::DataPage {
                buf: bytes.into(),
                num_values: rows as u32,
                encoding: Encoding::RLE_DICTIONARY,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            };
            let spec = writer.write_page(CompressedPage::new(page, size))?;
            uncompressed += spec.uncompressed_size;
            compressed += spec.compressed_size;
        }
        let metadata = ColumnChunkMetaData::builder(self.descriptor.clone())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
            .set_num_values(self.rows as i64)
            .set_total_compressed_size(compressed as i64)
            .set_total_uncompressed_size(uncompressed as i64)
            .set_dictionary_page_offset(Some(0))
            .set_data_page_offset(data_page_offset as i64)
            .set_statistics(self.statistics())
            .build()?;
        let (bytes_written, rows_written) = (compressed as u64, self.rows);
        let close = ColumnCloseResult {
            bytes_written,
            rows_written,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        let chunk = chunk.into_inner()?;
        Ok((chunk.into(), close))
    }

    /// The least and the greatest value, if they are short, and how many rows are null.
    fn statistics(&self) -> Statistics {
        let values = || self.codes_of.keys().map(AsRef::as_ref);
        let bounds = values().min().zip(values().max());
        let bounds = bounds.filter(|(least, greatest)| least.len().max(greatest.len()) <= LONGEST_BOUND);
        let (least, greatest) =
            bounds.map(|(least, greatest)| (least.to_vec().into(), greatest.to_vec().into())).unzip();
        let statistics = ValueStatistics::<ByteArray>::new(least, greatest, None, Some(self.nulls), false);
        Statistics::ByteArray(statistics)
    }
}

/// Compresses pages, with one context for all of a file.
pub(super) struct Zstd(zstd::bulk::Compressor<'static>);

impl Zstd {
    /// At the level of all outputs.
    pub(super) fn new() -> Result<Self> {
        let level = ZstdLevel::default().compression_level();
        zstd::bulk::Compressor::new(level).map(Self).map_err(|error| ParquetError::External(error.into()))
    }

    fn compress(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.0.compress(bytes).map_err(|error| ParquetError::External(error.into()))
    }
}

/// How many bits the codes of so many values take.
fn bit_width(values: usize) -> usize {
    (usize::BITS - values.saturating_sub(1).leading_zeros()) as usize
}

/// One bit for each row: 1 = it has a value.
fn definition_levels(valid: &BooleanBufferBuilder, nulls: usize) -> Vec<u8> {
    let mut levels = Vec::new();
    if nulls == 0 {
        repeated(1, valid.len(), 1, &mut levels);
    } else {
        // Arrow's bitmap is what bit-packing by one bit gives.
        varint((valid.len().div_ceil(8) << 1 | 1) as u64, &mut levels);
        levels.extend_from_slice(&valid.as_slice()[..valid.len().div_ceil(8)]);
    }
    levels
}

/// Appends the codes in groups of eight: packed to `width` bits, or as a run where several groups are of one code.
fn hybrid(codes: &[u32], width: usize, out: &mut Vec<u8>) {
    /// From how many groups on a run is worth its header.
    const RUN: usize = 2;
    let (groups, _) = codes.as_chunks::<8>();
    let uniform = |group: &[u32; 8], code: u32| group.iter().fold(0, |all, other| all | (code ^ other)) == 0;
    let (mut from, mut at) = (0, 0);
    while at < groups.len() {
        let code = groups[at][0];
        let run = groups[at..].iter().take_while(|group| uniform(group, code)).count();
        if run >= RUN {
            packed(&codes[8 * from..8 * at], width, out);
            repeated(code, 8 * run, width, out);
            from = at + run;
        }
        at += run.max(1);
    }
    packed(&codes[8 * from..], width, out);
}

/// Appends a run of `count` times `code`.
fn repeated(code: u32, count: usize, width: usize, out: &mut Vec<u8>) {
    varint((count << 1) as u64, out);
    out.extend_from_slice(&code.to_le_bytes()[..width.div_ceil(8)]);
}

/// Appends groups of eight codes, the last filled up with zeros.
fn packed(codes: &[u32], width: usize, out: &mut Vec<u8>) {
    if codes.is_empty() {
        return;
    }
    let groups = codes.len().div_ceil(8);
    varint((groups << 1 | 1) as u64, out);
    let end = out.len() + groups * width;
    out.reserve(groups * width + 8);
    let (mut bits, mut count) = (0u64, 0);
    for &code in codes {
        bits |= u64::from(code) << count;
        count += width;
        if count >= 32 {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            count -= 32;
        }
    }
    out.extend_from_slice(&bits.to_le_bytes());
    out.resize(end, 0);
}

/// Appends an unsigned LEB128 number.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
