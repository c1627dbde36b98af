//! Facts about writing: rows in are rows out, in files of the right names and sizes.

use super::*;
use crate::disk::RealDisk;
use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use wasmill_pipeline::checkpoint::Boundary;
use wasmill_pipeline::dead_letter::{DeadLetter, Reason};
use wasmill_pipeline::error::Class;
use wasmill_pipeline::plugin::timestamp_type;

pub(super) const HOUR_US: i64 = 3_600_000_000;

/// An output root, a time that stands still, and one output named `events`.
pub(super) struct World {
    folder: tempfile::TempDir,
    pub(super) now: Instant,
    pub(super) spec: OutputSpec,
}

/// Folders by the date of a column in UTC.
pub(super) fn by_date(column: &str) -> ByDate {
    ByDate { column: column.to_owned(), zone: Zone::UTC }
}

impl World {
    pub(super) fn new(formats: &[Format]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = OutputSpec {
            name: "events".into(),
            folder: folder.path().join("events"),
            schema: schema(),
            formats: formats.to_vec(),
            partition_by: None,
            roll: Roll { max_rows: 1_000_000, max_bytes: u64::MAX, max_age: Duration::from_mins(1) },
            plugins: BTreeMap::new(),
        };
        Self { folder, now: Instant::now(), spec }
    }

    pub(super) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn try_writers(&self) -> Result<Writers> {
        let naming = FileNaming { run: "a-1".into(), generation: 7, worker: 0 };
        Writers::new(
            Arc::new(RealDisk),
            &[self.spec.clone()].into(),
            self.root(),
            naming,
            &[("wasmill.digest".into(), "d1".into())],
        )
    }

    pub(super) fn writers(&self) -> Writers {
        self.try_writers().unwrap()
    }

    /// Closes all and makes it final.
    fn commit_all(&self, writers: &mut Writers) -> Vec<StagedFile> {
        let cut = writers.cut(self.now, true).unwrap();
        assert!(cut.open.is_empty());
        sync(&RealDisk, self.root(), &cut).unwrap();
        commit(&RealDisk, self.root(), &cut.finished).unwrap();
        cut.finished
    }

    /// All files below the root, relative, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        let (mut found, mut folders) = (Vec::new(), vec![self.root().to_path_buf()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(self.root()).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// Column `n` of all files that a reader would find, sorted.
    pub(super) fn rows(&self) -> Vec<i64> {
        let mut rows = Vec::new();
        for file in self.files() {
            match Path::new(&file).extension().unwrap().to_str().unwrap() {
                "parquet" => read(&self.root().join(file)).iter().for_each(|batch| {
                    let numbers = batch.column_by_name("n").unwrap();
                    rows.extend(numbers.as_primitive::<Int64Type>().values());
                }),
                "csv" => {
                    let mut reader = csv::Reader::from_path(self.root().join(file)).unwrap();
                    rows.extend(reader.records().map(|row| row.unwrap()[2].parse::<i64>().unwrap()));
                }
                _ => {}
            }
        }
        rows.sort_unstable();
        rows
    }
}

fn schema() -> SchemaRef {
    let word = DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("event_ts", timestamp_type(), true),
        Field::new("page", word, true),
        Field::new("n", DataType::Int64, false),
        Field::new("user", DataType::Utf8, true),
        Field::new("revenue", DataType::Float64, true),
        Field::new("new", DataType::Boolean, true),
    ]))
}

/// Rows numbered `numbers`, an hour apart.
pub(super) fn batch(numbers: Range<i64>) -> RecordBatch {
    let times: TimestampMicrosecondArray = numbers.clone().map(|n| Some(n * HOUR_US)).collect();
    let mut pages = StringDictionaryBuilder::<UInt32Type>::new();
    for n in numbers.clone() {
        pages.append_option((n % 5 != 0).then(|| format!("/p{}", n % 3)));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        Arc::new(pages.finish()),
        Arc::new(numbers.clone().collect::<Int64Array>()),
        Arc::new(numbers.clone().map(|n| (n % 7 != 0).then(|| format!("user,\"{n}\"\n"))).collect::<StringArray>()),
        Arc::new(numbers.clone().map(|n| (n % 2 == 0).then_some(n as f64 / 10.0)).collect::<Float64Array>()),
        Arc::new(numbers.map(|n| Some(n % 2 == 0)).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn read(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.map(|batch| batch.unwrap()).collect()
}

#[test]
fn what_is_written_is_read_back() {
    let world = World::new(&[Format::Parquet]);
    let mut writers = world.writers();
    writers.write(0, &batch(0..1000), world.now).unwrap();
    let files = world.commit_all(&mut writers);
    assert_eq!(files[0].path, "events/parquet/part-a-1-7-w0-0.parquet");
    assert_eq!(files[0].rows, 1000);
    let back = read(&world.root().join(&files[0].path));
    let plain = arrow_cast::cast(batch(0..1000).column(1), &DataType::Utf8).unwrap();
    assert_eq!(back[0].column(0), batch(0..1000).column(0));
    assert_eq!(back[0].column(1), &plain);
    for column in 2..6 {
        assert_eq!(back[0].column(column), batch(0..1000).column(column));
    }
}

#[test]
fn readers_see_plain_text_and_utc_times() {
    let world = World::new(&[Format::Parquet]);
    let mut writers = world.writers();
    writers.write(0, &batch(0..10), world.now).unwrap();
    let files = world.commit_all(&mut writers);
    let file = File::open(world.root().join(&files[0].path)).unwrap();
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).unwrap();
    let types: Vec<_> = metadata.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types[..4], [timestamp_type(), DataType::Utf8, DataType::Int64, DataType::Utf8]);
}

#[test]
fn a_file_says_what_made_it_and_from_where_on() {
    let mut world = World::new(&[Format::Parquet, Format::Csv]);
    world.spec.plugins = BTreeMap::from([("parser".to_owned(), "ab12".to_owned())]);
    let mut writers = world.writers();
    writers.set_checkpoint(boundary(3));
    writers.write(0, &batch(0..10), world.now).unwrap();
    // What comes later is no matter of a file that is open.
    writers.set_checkpoint(boundary(4));
    let open = writers.cut(world.now, false).unwrap().open;
    writers.write(0, &batch(10..20), world.now).unwrap();
    let finished = world.commit_all(&mut writers);
    for (open, file) in open.iter().zip(&finished) {
        assert_eq!(file.origin, open.file.origin);
        assert_eq!(file.origin.since(), Some(boundary(3)));
        assert_eq!(file.origin.plugins(), world.spec.plugins);
        assert_eq!(file.origin.get("digest"), Some("d1"), "as the writers were told");
        assert_eq!(file.origin.get("path"), Some(file.path.as_str()));
    }
    let path = world.root().join(&finished[0].path);
    assert_eq!(origin_of(&mut File::open(&path).unwrap(), &path).unwrap(), finished[0].origin);
    writers.write(0, &batch(20..30), world.now).unwrap();
    assert_eq!(world.commit_all(&mut writers)[0].origin.since(), Some(boundary(4)), "the next file");
}

fn boundary(checkpoint: u64) -> Boundary {
    Boundary { checkpoint, offsets: BTreeMap::from([(0, 7), (1, 0)]), watermark_us: Some(1_700_000_000_000_000) }
}

#[test]
fn the_origin_of_what_is_no_parquet_file_is_an_error_that_names_it() {
    let path = Path::new("some.parquet");
    for bytes in [&b""[..], b"PAR1", b"PAR1PAR1", b"\xff\xff\xff\x7fPAR1", b"\x02\0\0\0PAR1", b"day,hour\n1,2\n"] {
        let error = origin_of(&mut std::io::Cursor::new(bytes), path).unwrap_err();
        assert!(error.to_string().contains("some.parquet"), "{error}");
    }
}

#[test]
fn nothing_has_a_final_name_before_the_commit() {
    let world = World::new(&[Format::Parquet, Format::Csv]);
    let mut writers = world.writers();
    writers.write(0, &batch(0..100), world.now).unwrap();
    let cut = writers.cut(world.now, true).unwrap();
    sync(&RealDisk, world.root(), &cut).unwrap();
    assert_eq!(
        world.files(),
        ["_staging/events/csv/part-a-1-7-w0-0.csv.tmp", "_staging/events/parquet/part-a-1-7-w0-0.parquet.tmp"]
    );
    commit(&RealDisk, world.root(), &cut.finished).unwrap();
    assert_eq!(world.files(), ["events/csv/part-a-1-7-w0-0.csv", "events/parquet/part-a-1-7-w0-0.parquet"]);
}

#[test]
fn no_rows_make_no_file() {
    let world = World::new(&[Format::Parquet, Format::Csv]);
    let mut writers = world.writers();
    writers.write(0, &batch(0..0), world.now).unwrap();
    assert_eq!(writers.cut(world.now, true).unwrap(), SinkCut::default());
    assert!(world.files().is_empty());
}

#[test]
fn no_file_has_more_rows_than_it_may() {
    let mut world = World::new(&[Format::Parquet, Format::Csv]);
    world.spec.roll.max_rows = 30;
    let mut writers = world.writers();
    for start in [0, 25, 50, 75] {
        writers.write(0, &batch(start..start + 25), world.now).unwrap();
    }
    let files = world.commit_all(&mut writers);
    let parquet = files.iter().filter(|file| file.format == Format::Parquet);
    assert_eq!(parquet.map(|file| file.rows).collect::<Vec<_>>(), [30, 30, 30, 10]);
    let twice: Vec<i64> = (0..100).flat_map(|n| [n, n]).collect();
    assert_eq!(world.rows(), twice);
}

#[test]
fn a_file_that_is_long_enough_is_finished() {
    let mut world = World::new(&[Format::Parquet]);
    world.spec.roll.max_bytes = 1;
    let mut writers = world.writers();
    writers.write(0, &batch(0..10), world.now).unwrap();
    assert_eq!(writers.open_files(), 0);
    writers.write(0, &batch(10..20), world.now).unwrap();
    assert_eq!(writers.cut(world.now, false).unwrap().finished.len(), 2);
}

#[test]
fn a_file_is_finished_at_the_checkpoint_that_finds_it_old() {
    let world = World::new(&[Format::Parquet]);
    let mut writers = world.writers();
    writers.write(0, &batch(0..10), world.now).unwrap();
    let young = writers.cut(world.now + Duration::from_secs(59), false).unwrap();
    assert_eq!((young.finished.len(), young.open.len()), (0, 1));
    let old = writers.cut(world.now + Duration::from_mins(1), false).unwrap();
    assert_eq!((old.finished.len(), old.open.len()), (1, 0));
}

/// More rows than a cut leaves in the log.
const MANY: i64 = 40_000;

#[test]
fn however_many_cuts_there_are_a_file_of_few_rows_has_one_row_group() {
    let written = |cuts: i64| {
        let world = World::new(&[Format::Parquet]);
        let mut writers = world.writers();
        for from in (0..1_200).step_by(1_200 / cuts as usize) {
            writers.write(0, &batch(from..from + 1_200 / cuts), world.now).unwrap();
            writers.cut(world.now, false).unwrap();
        }
        let file = world.commit_all(&mut writers).remove(0);
        assert_eq!(row_groups(&world.root().join(&file.path)), [1_200]);
        assert_eq!(world.rows(), (0..1_200).collect::<Vec<_>>());
        file.bytes
    };
    let (at_once, in_100_cuts) = (written(1), written(100));
    assert!(in_100_cuts <= at_once + at_once / 10, "{in_100_cuts} bytes instead of {at_once}");
}

/// What a file's footer says.
pub(super) fn metadata(path: &Path) -> Arc<ParquetMetaData> {
    Arc::clone(ArrowReaderMetadata::load(&File::open(path).unwrap(), ArrowReaderOptions::new()).unwrap().metadata())
}

/// The rows of each row group.
pub(super) fn row_groups(path: &Path) -> Vec<i64> {
    metadata(path).row_groups().iter().map(RowGroupMetaData::num_rows).collect()
}

#[test]
fn a_cut_writes_what_is_new_since_the_last_one() {
    let world = World::new(&[Format::Parquet]);
    let mut writers = world.writers();
    let mut waiting = |rows: Range<i64>| {
        writers.write(0, &batch(rows), world.now).unwrap();
        writers.cut(world.now, false).unwrap().open[0].waiting.unwrap()
    };
    let (first, second, none) = (waiting(0..1_000), waiting(1_000..1_010), waiting(0..0));
    assert_eq!((first.rows, second.rows, none), (1_000, 1_010, second));
    assert_eq!(first.from, second.from);
    assert!(second.to - first.to < first.to / 4, "{first:?} {second:?}");
}

#[test]
fn a_large_row_group_ends_at_a_cut_and_what_comes_next_waits() {
    let world = World::new(&[Format::Parquet]);
    let mut writers = world.writers();
    writers.write(0, &batch(0..MANY), world.now).unwrap();
    let large = writers.cut(world.now, false).unwrap().open.remove(0);
    assert!(large.footer.is_some() && large.waiting.is_none());
    writers.write(0, &batch(MANY..MANY + 10), world.now).unwrap();
    let next = writers.cut(world.now, false).unwrap().open.remove(0);
    assert_eq!((next.len, next.footer, next.waiting.unwrap().rows), (large.len, large.footer, 10));
    let file = world.commit_all(&mut writers).remove(0);
    assert_eq!(row_groups(&world.root().join(&file.path)), [MANY, 10]);
}

#[test]
fn a_file_of_many_row_groups_is_finished() {
    let mut world = World::new(&[Format::Parquet]);
    world.spec.roll.max_rows = u64::MAX;
    let mut writers = world.writers();
    let (rows, mut finished) = (batch(0..MANY), 0);
    for _ in 0..65 {
        writers.write(0, &rows, world.now).unwrap();
        finished += writers.cut(world.now, false).unwrap().finished.len();
    }
    assert_eq!(finished, 1);
}

#[test]
fn the_footer_of_an_open_file_is_the_one_that_finishing_writes() {
    let world = World::new(&[Format::Parquet]);
    let mut writers = world.writers();
    writers.write(0, &batch(0..MANY), world.now).unwrap();
    writers.cut(world.now, false).unwrap();
    writers.write(0, &batch(0..MANY), world.now).unwrap();
    let open = writers.cut(world.now, false).unwrap().open.remove(0);
    let finished = writers.cut(world.now, true).unwrap().finished.remove(0);
    assert_eq!(open.file, finished);
    let bytes = std::fs::read(world.root().join(&finished.staged)).unwrap();
    assert_eq!(&bytes[open.len as usize..], open.footer.unwrap());
}

#[test]
fn a_file_says_by_which_calendar_its_times_are_to_spark() {
    let world = World::new(&[Format::Parquet]);
    let mut writers = world.writers();
    writers.write(0, &batch(0..1), world.now).unwrap();
    let file = world.commit_all(&mut writers).remove(0);
    let metadata = metadata(&world.root().join(file.path));
    let entries = metadata.file_metadata().key_value_metadata().unwrap();
    let version = entries.iter().find(|entry| entry.key == "org.apache.spark.version").unwrap();
    // Spark compares them as text.
    assert!(version.value.as_deref().unwrap() >= "3.1.0");
}

#[test]
fn text_is_in_an_encoding_that_spark_reads_right() {
    let world = World::new(&[Format::Parquet]);
    let mut writers = world.writers();
    writers.write(0, &batch(0..10), world.now).unwrap();
    let file = world.commit_all(&mut writers).remove(0);
    let metadata = metadata(&world.root().join(file.path));
    let encodings: Vec<_> = metadata.row_group(0).column(3).encodings().collect();
    assert!(!encodings.contains(&parquet::basic::Encoding::DELTA_LENGTH_BYTE_ARRAY), "{encodings:?}");
}

#[test]
fn rows_go_to_the_folder_of_their_day() {
    let mut world = World::new(&[Format::Parquet]);
    world.spec.partition_by = Some(by_date("event_ts"));
    let mut writers = world.writers();
    writers.write(0, &batch(20..30), world.now).unwrap();
    writers.write(0, &batch(0..10), world.now).unwrap();
    let mut files = world.commit_all(&mut writers);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files[0].path.starts_with("events/parquet/dt=1970-01-01/part-"), "{}", files[0].path);
    assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [14, 6]);
    assert_eq!(world.rows(), (0..10).chain(20..30).collect::<Vec<_>>());
}

#[test]
fn hundreds_of_days_do_not_keep_hundreds_of_files_open() {
    let mut world = World::new(&[Format::Parquet]);
    world.spec.partition_by = Some(by_date("event_ts"));
    let mut writers = world.writers();
    writers.write(0, &batch(0..24 * 100), world.now).unwrap();
    assert_eq!(writers.open_files(), 32);
    world.commit_all(&mut writers);
    assert_eq!(world.rows(), (0..24 * 100).collect::<Vec<_>>());
}

#[test]
fn csv_quotes_text_and_the_header_and_leaves_nulls_empty() {
    let world = World::new(&[Format::Csv]);
    let mut writers = world.writers();
    writers.write(0, &batch(5..9), world.now).unwrap();
    let files = world.commit_all(&mut writers);
    let text = std::fs::read_to_string(world.root().join(&files[0].path)).unwrap();
    let expected = "\"event_ts\",\"page\",\"n\",\"user\",\"revenue\",\"new\"\n\
        1970-01-01T05:00:00.000000Z,,5,\"user,\"\"5\"\"\n\",,false\n\
        1970-01-01T06:00:00.000000Z,\"/p0\",6,\"user,\"\"6\"\"\n\",0.6,true\n\
        1970-01-01T07:00:00.000000Z,\"/p1\",7,,,false\n\
        1970-01-01T08:00:00.000000Z,\"/p2\",8,\"user,\"\"8\"\"\n\",0.8,true\n";
    assert_eq!(text, expected);
}

#[test]
fn in_csv_null_is_not_the_empty_text() {
    let world = World::new(&[Format::Csv]);
    let mut writers = world.writers();
    let mut columns = batch(0..3).columns().to_vec();
    let words = [None, Some(""), Some("null")];
    columns[1] = arrow_cast::cast(&StringArray::from_iter(words), batch(0..1).column(1).data_type()).unwrap();
    columns[3] = Arc::new(StringArray::from_iter(words));
    writers.write(0, &RecordBatch::try_new(schema(), columns).unwrap(), world.now).unwrap();
    let files = world.commit_all(&mut writers);
    let text = std::fs::read_to_string(world.root().join(&files[0].path)).unwrap();
    let cells: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    for (row, word) in cells.iter().zip(["", "\"\"", "\"null\""]) {
        assert_eq!((row[1], row[3]), (word, word), "{text}");
    }
}

#[test]
fn plain_text_may_stand_where_a_dictionary_is_expected() {
    let world = World::new(&[Format::Parquet]);
    let mut columns = batch(0..10).columns().to_vec();
    columns[1] = arrow_cast::cast(&columns[1], &DataType::Utf8).unwrap();
    let mut fields: Vec<_> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields[1] = Field::new("page", DataType::Utf8, true);
    let plain = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let mut writers = world.writers();
    writers.write(0, &plain, world.now).unwrap();
    writers.write(0, &batch(10..20), world.now).unwrap();
    world.commit_all(&mut writers);
    assert_eq!(world.rows(), (0..20).collect::<Vec<_>>());
}

#[test]
fn rows_of_another_schema_stop_the_writers() {
    let world = World::new(&[Format::Parquet]);
    let mut writers = world.writers();
    let narrow = batch(0..10).project(&[0, 2]).unwrap();
    assert!(matches!(writers.write(0, &narrow, world.now), Err(Error::Rows { .. })));
    assert!(matches!(writers.write(0, &batch(0..10), world.now), Err(Error::Stopped(Class::Bug))));
    assert!(matches!(writers.cut(world.now, true), Err(Error::Stopped(_))));
}

#[test]
fn an_attempt_that_failed_leaves_the_next_one_free() {
    let world = World::new(&[Format::Parquet]);
    std::fs::write(world.root().join("_staging"), "in the way").unwrap();
    let mut failing = world.writers();
    assert_eq!(failing.write(0, &batch(0..10), world.now).unwrap_err().class(), Class::Unavailable);
    assert!(matches!(failing.cut(world.now, true), Err(Error::Stopped(Class::Unavailable))));
    std::fs::remove_file(world.root().join("_staging")).unwrap();
    let mut again = world.writers();
    again.write(0, &batch(0..10), world.now).unwrap();
    world.commit_all(&mut again);
    assert_eq!(world.rows(), (0..10).collect::<Vec<_>>());
}

#[test]
fn writers_may_move_to_a_worker_thread() {
    fn moves<T: Send>() {}
    moves::<Writers>();
}

#[test]
fn a_name_that_an_earlier_attempt_took_is_not_used_again() {
    let world = World::new(&[Format::Parquet]);
    let mut first = world.writers();
    first.write(0, &batch(0..10), world.now).unwrap();
    world.commit_all(&mut first);
    let mut second = world.writers();
    second.write(0, &batch(10..20), world.now).unwrap();
    assert_eq!(world.commit_all(&mut second)[0].path, "events/parquet/part-a-1-7-w0-1.parquet");
    assert_eq!(world.rows(), (0..20).collect::<Vec<_>>());
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let spoil: [fn(&mut OutputSpec); 8] = [
        |spec| spec.schema = Arc::new(Schema::empty()),
        |spec| spec.folder = "/elsewhere".into(),
        |spec| spec.folder.push("../.."),
        |spec| spec.formats.clear(),
        |spec| spec.formats = vec![Format::Csv, Format::Csv],
        |spec| spec.roll.max_rows = 0,
        |spec| spec.partition_by = Some(by_date("page")),
        |spec| spec.schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Date32, true)])),
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        let mut world = World::new(&[Format::Parquet]);
        spoil(&mut world.spec);
        let refused = world.try_writers().err().map(|error| error.class());
        assert_eq!(refused, Some(Class::Config), "mistake {number}");
    }
}

#[test]
fn dead_letters_keep_the_bytes_as_they_came() {
    let mut world = World::new(&[Format::Parquet]);
    world.spec.name = "_dead_letters".into();
    world.spec.folder = world.root().join("_dead_letters");
    world.spec.schema = dead_letter_schema();
    let letter = |aggregate, offset, value| DeadLetter {
        aggregate,
        partition: 3,
        offset,
        broker_time_us: 1,
        reason: Reason::Malformed,
        message: "not json".into(),
        key: None,
        value,
    };
    let letters = [letter(None, 1, Some(vec![0xff; 5_000_000])), letter(Some(0), 2, None)];
    let plugin = |aggregate: Option<usize>| (aggregate.map(|_| "pages"), "d1");
    let mut writers = world.writers();
    writers.write(0, &dead_letter_batch("clicks", plugin, &letters), world.now).unwrap();
    let files = world.commit_all(&mut writers);
    assert_eq!(files[0].path, "_dead_letters/part-a-1-7-w0-0.parquet");
    let back = &read(&world.root().join(&files[0].path))[0];
    assert_eq!(back.column_by_name("reason").unwrap().as_string::<i32>().value(0), "malformed");
    let aggregates: Vec<_> = back.column_by_name("aggregate").unwrap().as_string::<i32>().iter().collect();
    assert_eq!(aggregates, [None, Some("pages")]);
    let values = back.column_by_name("value").unwrap().as_binary::<i32>();
    assert_eq!((values.iter().next(), values.iter().nth(1)), (Some(letters[0].value.as_deref()), Some(None)));
}
