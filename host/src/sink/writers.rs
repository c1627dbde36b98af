//! All files that one worker has open, and the rows' way into them.

use super::csv_file::{self, CsvFile};
use super::error::{Error, Result};
use super::origin::Origin;
use super::parquet_file::{self, ParquetFile};
use super::partition::{self, Partition};
use super::row_log::{RowLog, log_name};
use super::staged::{Format, OpenFile, STAGING, SinkCut, StagedFile};
use super::{ByDate, FileNaming, OutputSpec};
use crate::disk::Disk;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use wasmill_pipeline::checkpoint::Boundary;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::window::Zone;

/// Dates that one output has open at a time; beyond, the one written to longest ago is finished. Each costs file
/// handles and up to a row group of memory, and a stream in order touches two.
const MAX_PARTITIONS: usize = 32;
/// Row groups in a file, before it is finished at the next checkpoint: the footer is in every manifest.
const MAX_ROW_GROUPS: usize = 64;

/// All files that one worker has open.
///
/// Any error stops them: every later call answers `Error::Stopped`. The driver drops all workers' writers and starts
/// again from the last checkpoint, so nothing that an error left half done is ever listed.
pub struct Writers {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    naming: FileNaming,
    outputs: Vec<Output>,
    /// What all files opened from now on say of their origin.
    provenance: Vec<(String, String)>,
    /// The last checkpoint, as far as these writers know.
    since: Option<Boundary>,
    seq: u64,
    rolled: Vec<StagedFile>,
    stopped: Option<Class>,
}

/// One output's open files.
struct Output {
    specs: Arc<[OutputSpec]>,
    index: usize,
    /// Below the root, with a `/` after it.
    folder: String,
    /// The time column, and the zone whose date makes folders.
    partition_by: Option<(usize, Zone)>,
    parts: Vec<Part>,
}

/// The rows of one stretch, in each of the output's formats.
struct Part {
    partition: Partition,
    rows: u64,
    opened: Instant,
    written: Instant,
    files: Vec<PartFile>,
}

struct PartFile {
    file: StagedFile,
    encoder: Encoder,
}

enum Encoder {
    Parquet(Box<ParquetFile>, RowLog),
    Csv(Box<CsvFile>),
}

impl Writers {
    /// Writers without a file; files are made when rows come.
    ///
    /// `provenance` is part of the [`Origin`] of every file opened from now on, as are the digests of its output's
    /// plugins and the last checkpoint that these writers know of.
    ///
    /// # Errors
    /// `Config` when an output cannot be: a column type without a form, a folder outside of `root`, a partition column
    /// that is not a time, limits of 0, a run whose name cannot be part of a file name.
    pub fn new(
        disk: Arc<dyn Disk>,
        outputs: &Arc<[OutputSpec]>,
        root: impl Into<PathBuf>,
        naming: FileNaming,
        provenance: &[(String, String)],
    ) -> Result<Self> {
        let root = root.into();
        naming.check()?;
        let outputs = (0..outputs.len()).map(|index| Output::new(outputs, index, &root));
        let outputs = outputs.collect::<Result<_>>()?;
        let provenance = provenance.to_vec();
        Ok(Self { disk, root, naming, outputs, provenance, since: None, seq: 0, rolled: Vec::new(), stopped: None })
    }

    /// Goes on with other outputs, right after a cut that closed all files.
    ///
    /// # Errors
    /// As for [`Self::new`]; `Config` also where files are open.
    pub fn set_outputs(&mut self, outputs: &Arc<[OutputSpec]>) -> Result<()> {
        self.unless_stopped(|writers| {
            if let Some(output) = writers.outputs.iter().find(|output| !output.parts.is_empty()) {
                let problem = "its files must be closed before its columns change".to_owned();
                return Err(Error::Config { output: output.spec().name.clone(), problem });
            }
            let outputs = (0..outputs.len()).map(|index| Output::new(outputs, index, &writers.root));
            writers.outputs = outputs.collect::<Result<_>>()?;
            Ok(())
        })
    }

    /// Tells of the last checkpoint: files opened from now on hold rows that came after it.
    pub fn set_checkpoint(&mut self, last: Boundary) {
        self.since = Some(last);
    }

    /// Appends rows to the output of that index.
    ///
    /// The batch has the columns of the output's schema in their order; text and bytes may be plain where the schema
    /// says dictionary, and the other way round. A batch without rows leaves no trace.
    ///
    /// # Errors
    /// `Rows` when the columns are others; else what the file system says. Either stops these writers.
    pub fn write(&mut self, output: usize, batch: &RecordBatch, now: Instant) -> Result<()> {
        self.unless_stopped(|writers| writers.append(output, batch, now))
    }

    /// The part of a checkpoint that is about files: all rows written so far, and none written later.
    ///
    /// Files whose time has come (all, with `close_all`) are finished; the others are flushed and stay open. Nothing is
    /// synced yet: that is `sync`'s, beside the running pipeline.
    ///
    /// # Errors
    /// What the file system says. It stops these writers.
    pub fn cut(&mut self, now: Instant, close_all: bool) -> Result<SinkCut> {
        self.unless_stopped(|writers| {
            let mut open = Vec::new();
            for output in &mut writers.outputs {
                let roll = &output.specs[output.index].roll;
                let due = |part: &mut Part| {
                    let age = now.saturating_duration_since(part.opened);
                    close_all || age >= roll.max_age || part.row_groups() >= MAX_ROW_GROUPS
                };
                for part in output.parts.extract_if(.., due) {
                    writers.rolled.extend(part.finish()?);
                }
                for part in &mut output.parts {
                    open.extend(part.cut()?);
                }
            }
            Ok(SinkCut { finished: std::mem::take(&mut writers.rolled), open })
        })
    }

    /// How many files are open now.
    pub fn open_files(&self) -> usize {
        self.outputs.iter().flat_map(|output| &output.parts).map(|part| part.files.len()).sum()
    }

    fn unless_stopped<T>(&mut self, action: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(class) = self.stopped {
            return Err(Error::Stopped(class));
        }
        action(self).inspect_err(|error| self.stopped = Some(error.class()))
    }

    fn append(&mut self, output: usize, batch: &RecordBatch, now: Instant) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let output = self.outputs.get(output).ok_or_else(|| Error::Rows {
            output: format!("#{output}"),
            problem: "there is no such output".to_owned(),
        })?;
        let index = output.index;
        let batch = conform(batch, output.spec())?;
        let Some((column, zone)) = output.partition_by else {
            return self.append_to(index, Partition::Whole, batch, now);
        };
        let days = partition::by_day(&batch, column, zone)
            .map_err(|error| Error::Rows { output: output.spec().name.clone(), problem: error.to_string() })?;
        days.into_iter().try_for_each(|(day, rows)| self.append_to(index, day, rows, now))
    }

    /// Appends to one partition, in as many files as `max_rows` asks for.
    fn append_to(&mut self, output: usize, partition: Partition, mut batch: RecordBatch, now: Instant) -> Result<()> {
        while batch.num_rows() > 0 {
            let at = self.part_of(output, partition, now)?;
            let output = &mut self.outputs[output];
            let (max_rows, max_bytes) = (output.spec().roll.max_rows, output.spec().roll.max_bytes);
            let part = &mut output.parts[at];
            let fit = usize::try_from(max_rows - part.rows).unwrap_or(usize::MAX).min(batch.num_rows());
            part.append(&batch.slice(0, fit), now)?;
            batch = batch.slice(fit, batch.num_rows() - fit);
            if part.rows >= max_rows || part.size() >= max_bytes {
                let full = output.parts.swap_remove(at);
                self.rolled.extend(full.finish()?);
            }
        }
        Ok(())
    }

    /// The place of the open part for this partition, which is opened when there is none.
    fn part_of(&mut self, output: usize, partition: Partition, now: Instant) -> Result<usize> {
        let parts = &mut self.outputs[output].parts;
        if let Some(at) = parts.iter().position(|part| part.partition == partition) {
            return Ok(at);
        }
        if parts.len() >= MAX_PARTITIONS {
            let oldest = (0..parts.len()).min_by_key(|&at| parts[at].written);
            let oldest = parts.swap_remove(oldest.expect("a full table has a first entry"));
            self.rolled.extend(oldest.finish()?);
        }
        let part = self.open(output, partition, now)?;
        let parts = &mut self.outputs[output].parts;
        parts.push(part);
        Ok(parts.len() - 1)
    }

    /// Makes the files of a new part, under a number that none has.
    fn open(&mut self, output: usize, partition: Partition, now: Instant) -> Result<Part> {
        let output = &self.outputs[output];
        loop {
            let name = self.naming.file_stem(self.seq);
            self.seq += 1;
            let mut files = output.file_names(partition, &name);
            // Left by an earlier attempt of the same generation.
            let names = files.iter().flat_map(|file| [file.staged.clone(), file.path.clone(), log_name(&file.staged)]);
            if names.map(|name| self.root.join(name)).any(|path| matches!(self.disk.length(&path), Ok(Some(_)))) {
                continue;
            }
            for file in &mut files {
                file.origin = Origin::new(&self.provenance, &output.spec().plugins, self.since.as_ref(), &file.path);
            }
            let create = |file| output.create(&self.disk, &self.root, file);
            let files = files.into_iter().map(create).collect::<Result<_>>()?;
            return Ok(Part { partition, rows: 0, opened: now, written: now, files });
        }
    }
}

impl Output {
    fn new(specs: &Arc<[OutputSpec]>, index: usize, root: &Path) -> Result<Self> {
        let spec = &specs[index];
        let refuse = |problem: String| Error::Config { output: spec.name.clone(), problem };
        let folder = folder_below(root, &spec.folder)
            .ok_or_else(|| refuse(format!("folder `{}` is not inside the output root", spec.folder.display())))?;
        if spec.roll.max_rows == 0 || spec.roll.max_bytes == 0 {
            return Err(refuse("files of no rows or no bytes cannot be".to_owned()));
        }
        let distinct: BTreeSet<&str> = spec.formats.iter().map(|format| format.as_str()).collect();
        if distinct.is_empty() || distinct.len() != spec.formats.len() {
            return Err(refuse("formats must be named, and each once".to_owned()));
        }
        if spec.schema.fields().is_empty() {
            return Err(refuse("there are no columns".to_owned()));
        }
        for field in spec.schema.fields() {
            if !csv_file::supports(field.data_type()) {
                return Err(refuse(format!("column `{}` has type {}", field.name(), field.data_type())));
            }
        }
        let partition_by = match &spec.partition_by {
            None => None,
            Some(ByDate { column: name, zone }) => match spec.schema.column_with_name(name) {
                Some((column, field)) if is_time(field.data_type()) => Some((column, *zone)),
                Some(_) => return Err(refuse(format!("column `{name}` of `partition_by` is not a time"))),
                None => return Err(refuse(format!("column `{name}` of `partition_by` is not among the columns"))),
            },
        };
        Ok(Self { specs: Arc::clone(specs), index, folder, partition_by, parts: Vec::new() })
    }

    fn spec(&self) -> &OutputSpec {
        &self.specs[self.index]
    }

    /// One file per format. Outputs of the host itself (`_late/…`, `_dead_letters`) have no folders for formats.
    fn file_names(&self, partition: Partition, stem: &str) -> Vec<StagedFile> {
        let (spec, dt) = (self.spec(), partition.folder());
        let name = |&format: &Format| {
            let extension = format.as_str();
            let formats = if spec.name.starts_with('_') { String::new() } else { format!("{extension}/") };
            StagedFile::new(&spec.name, format, format!("{}{formats}{dt}{stem}.{extension}", self.folder))
        };
        spec.formats.iter().map(name).collect()
    }

    fn create(&self, disk: &Arc<dyn Disk>, root: &Path, file: StagedFile) -> Result<PartFile> {
        file.check()?;
        let path = root.join(&file.staged);
        let folder = path.parent().unwrap_or(root);
        disk.make_folders(folder).map_err(Error::io("create folder", folder))?;
        let handle = disk.create_new(&path).map_err(Error::io("create file", &path))?;
        let schema = &self.spec().schema;
        let encoder = match file.format {
            Format::Parquet => {
                let properties = parquet_file::properties(schema, &file.origin);
                let encoder = ParquetFile::new(handle, &path, SchemaRef::clone(schema), properties)?;
                let log = RowLog::new(Arc::clone(disk), root.join(log_name(&file.staged)));
                Encoder::Parquet(Box::new(encoder), log)
            }
            Format::Csv => Encoder::Csv(Box::new(CsvFile::new(handle, &path, schema))),
        };
        Ok(PartFile { file, encoder })
    }
}

impl Part {
    fn append(&mut self, batch: &RecordBatch, now: Instant) -> Result<()> {
        for part in &mut self.files {
            match &mut part.encoder {
                Encoder::Parquet(file, _) => file.write(batch)?,
                Encoder::Csv(file) => file.write(batch)?,
            }
        }
        self.rows += batch.num_rows() as u64;
        self.written = now;
        Ok(())
    }

    /// About how long its longest file is.
    fn size(&self) -> u64 {
        let size = |part: &PartFile| match &part.encoder {
            Encoder::Parquet(file, _) => file.size(),
            Encoder::Csv(file) => file.size(),
        };
        self.files.iter().map(size).max().unwrap_or(0)
    }

    fn row_groups(&self) -> usize {
        let row_groups = |part: &PartFile| match &part.encoder {
            Encoder::Parquet(file, _) => file.row_groups(),
            Encoder::Csv(_) => 0,
        };
        self.files.iter().map(row_groups).max().unwrap_or(0)
    }

    fn cut(&mut self) -> Result<Vec<OpenFile>> {
        let rows = self.rows;
        let cut = |part: &mut PartFile| {
            let parquet_file::Cut { len, footer, waiting } = match &mut part.encoder {
                Encoder::Parquet(file, log) => file.cut(log)?,
                Encoder::Csv(file) => parquet_file::Cut { len: file.flush()?, footer: None, waiting: None },
            };
            let bytes = len + footer.as_ref().map_or(0, |footer| footer.len() as u64);
            Ok(OpenFile { file: StagedFile { rows, bytes, ..part.file.clone() }, len, footer, waiting })
        };
        self.files.iter_mut().map(cut).collect()
    }

    fn finish(self) -> Result<Vec<StagedFile>> {
        let rows = self.rows;
        let finish = |part: PartFile| {
            let bytes = match part.encoder {
                Encoder::Parquet(file, _) => file.finish()?,
                Encoder::Csv(mut file) => file.flush()?,
            };
            Ok(StagedFile { rows, bytes, ..part.file })
        };
        self.files.into_iter().map(finish).collect()
    }
}

/// The folder relative to the root with a `/` after each name; `None` when it is not inside, or is the staging area.
fn folder_below(root: &Path, folder: &Path) -> Option<String> {
    let mut below = String::new();
    for part in folder.strip_prefix(root).ok()?.components() {
        let Component::Normal(name) = part else { return None };
        below.push_str(name.to_str().filter(|name| !name.contains('\\'))?);
        below.push('/');
    }
    (!below.is_empty() && !Path::new(&below).starts_with(STAGING)).then_some(below)
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// The batch with exactly the output's types: plain values become dictionaries, or dictionaries plain values.
fn conform(batch: &RecordBatch, spec: &OutputSpec) -> Result<RecordBatch> {
    let wrong = |problem: String| Error::Rows { output: spec.name.clone(), problem };
    let (wanted, given) = (spec.schema.fields(), batch.columns());
    if wanted.len() != given.len() {
        return Err(wrong(format!("{} columns instead of {}", given.len(), wanted.len())));
    }
    let mut columns = Vec::with_capacity(given.len());
    for (field, column) in wanted.iter().zip(given) {
        let (to, from) = (field.data_type(), column.data_type());
        columns.push(if to == from {
            Arc::clone(column)
        } else if plain(to) == plain(from) {
            arrow_cast::cast(column, to).map_err(|error| wrong(error.to_string()))?
        } else {
            return Err(wrong(format!("column `{}` is {from} instead of {to}", field.name())));
        });
    }
    RecordBatch::try_new(Arc::clone(&spec.schema), columns).map_err(|error| wrong(error.to_string()))
}

fn plain(data_type: &DataType) -> &DataType {
    if let DataType::Dictionary(_, values) = data_type { values } else { data_type }
}
