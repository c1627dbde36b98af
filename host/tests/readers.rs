//! What people's readers see in committed files: DuckDB, pandas, Polars, pyarrow and Spark, Parquet against CSV.
//!
//! Python's packages are needed (`make readers` installs them): with CI set they must be there.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::UInt32Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmill::disk::RealDisk;
use wasmill::sink::{self, FileNaming, Format, OutputSpec, Roll, SinkCut, Writers};

/// Texts that some reader takes for something else, or for the end of something.
const TEXTS: [&str; 40] = [
    "/a",
    "",
    " ",
    " /b ",
    "NA",
    "N/A",
    "null",
    "NULL",
    "None",
    "nan",
    "NaN",
    "true",
    "007",
    "1e5",
    "-5",
    "inf",
    "2026-03-10",
    "2026-03-10T12:00:00Z",
    "12:30",
    "=1+1",
    "@cmd",
    "a,b",
    "a;b",
    "a|b",
    "tab\there",
    "say \"hi\"",
    "\"",
    "line\nbreak",
    "cr\rhere",
    "crlf\r\nx",
    "\u{1f600}",
    "e\u{301}",
    "\u{feff}bom",
    "nul\0in",
    "#hash",
    "'",
    "\\",
    "\\N",
    "\u{2028}",
    "\\\"",
];

const TIMES: [i64; 8] = [
    0,
    -1,
    1_773_188_639_123_456,
    // The years 1, 1582, 1850 and 1899, where calendars and zones changed.
    -62_135_596_800_000_000,
    -12_219_292_800_000_000,
    -3_774_124_800_000_000,
    -2_209_161_600_000_000,
    253_402_300_799_999_999,
];

const FLOATS: [f64; 12] = [
    0.1,
    0.2,
    0.300_000_000_000_000_04,
    1e16,
    1e300,
    5e-324,
    f64::MAX,
    -0.0,
    123_456_789.123_456_79,
    1e21,
    100.0,
    1.0 / 3.0,
];

/// Rows with all types of columns; a name begins with the letter of its type.
fn rows<T: AsRef<str>>(texts: &[Option<T>]) -> RecordBatch {
    let texts: Vec<Option<&str>> = texts.iter().map(|text| text.as_ref().map(AsRef::as_ref)).collect();
    let count = texts.len();
    let at = |index: usize| index % 5 != 4;
    let mut words = StringDictionaryBuilder::<UInt32Type>::new();
    texts.iter().rev().for_each(|text| words.append_option(*text));
    let times: TimestampMicrosecondArray = (0..count).map(|i| at(i + 3).then(|| TIMES[i % TIMES.len()])).collect();
    let bytes = (0..count).map(|i| at(i + 2).then(|| vec![i as u8; i % 4]));
    let columns: [(&str, ArrayRef); 8] = [
        ("i_row", Arc::new((0..count as i64).collect::<Int64Array>())),
        ("t_time", Arc::new(times.with_timezone("UTC"))),
        ("s_text", Arc::new(texts.iter().copied().collect::<StringArray>())),
        ("s_word", Arc::new(words.finish())),
        ("f_number", Arc::new((0..count).map(|i| at(i).then(|| FLOATS[i % FLOATS.len()])).collect::<Float64Array>())),
        ("b_yes", Arc::new((0..count).map(|i| at(i + 1).then_some(i % 2 == 0)).collect::<BooleanArray>())),
        ("i_count", Arc::new((0..count).map(|i| at(i).then_some(i as i64 * 7)).collect::<Int64Array>())),
        ("x_bytes", Arc::new(bytes.collect::<BinaryArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, name != "i_row"))).unwrap()
}

/// Only texts, one of them in two lines, and one row: what sniffers have the least to go by.
fn one_row() -> RecordBatch {
    let texts = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    RecordBatch::try_from_iter([("s_page", texts("two\nlines")), ("s_user", texts("ann"))]).unwrap()
}

/// Writes rows as a run does: a cut after each sixth, commits, and a crash with a recovery in place of the end.
fn write(root: &Path, name: &str, all: &RecordBatch, crash: bool) {
    let spec = OutputSpec {
        name: name.to_owned(),
        folder: root.join(name),
        schema: all.schema(),
        formats: vec![Format::Parquet, Format::Csv],
        partition_by: None,
        roll: Roll { max_rows: 1_000_000, max_bytes: 1 << 30, max_age: Duration::from_hours(1) },
        plugins: BTreeMap::new(),
    };
    let naming = FileNaming { run: name.to_owned(), generation: 1, worker: 0 };
    let mut writers = Writers::new(Arc::new(RealDisk), &[spec].into(), root, naming, &[]).unwrap();
    let (now, mut last) = (Instant::now(), SinkCut::default());
    let step = all.num_rows().div_ceil(6);
    for from in (0..all.num_rows()).step_by(step) {
        writers.write(0, &all.slice(from, step.min(all.num_rows() - from)), now).unwrap();
        last = writers.cut(now, false).unwrap();
    }
    if !crash {
        last = writers.cut(now, true).unwrap();
    }
    drop(writers);
    sink::sync(&RealDisk, root, &last).unwrap();
    let completed = sink::complete(&RealDisk, root, &last.open).unwrap();
    sink::recover(&RealDisk, root, &last.finished, &completed).unwrap();
}

/// The Python that has the packages: `PYTHON`, the one that `make readers` made, or the usual one.
fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/readers/bin/python");
    let named = std::env::var_os("PYTHON").map(PathBuf::from);
    named.unwrap_or_else(|| if own.exists() { own } else { "python3".into() })
}

#[test]
fn every_reader_sees_the_same_values_in_parquet_and_csv() {
    let packages = Command::new(python()).args(["-c", "import duckdb, pandas, polars, pyarrow"]).output();
    if !packages.is_ok_and(|answer| answer.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "Python's packages are missing: make readers");
        eprintln!("left out: what readers see of files (Python's packages are missing: make readers)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let texts: Vec<Option<&str>> = TEXTS.into_iter().map(Some).chain([None]).collect();
    let lookalikes = ["1", "", "2.5", "true"].map(Some);
    write(folder.path(), "all", &rows(&texts), false);
    write(folder.path(), "recovered", &rows(&texts), true);
    write(folder.path(), "lookalikes", &rows(&lookalikes), false);
    write(folder.path(), "nulls", &rows(&[None::<&str>; 9]), false);
    let many: Vec<_> = (0..10_000).map(|i| (i % 7 != 3).then(|| format!("{}{i}", "x".repeat(i % 13)))).collect();
    write(folder.path(), "many", &rows(&many), false);
    write(folder.path(), "empty", &rows(&[Some("")]), false);
    write(folder.path(), "one_row", &one_row(), false);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers/readers.py");
    let answer = Command::new(python()).arg(script).arg(folder.path()).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    assert!(answer.status.success(), "{said}{wrong}");
    println!("{said}");
}
