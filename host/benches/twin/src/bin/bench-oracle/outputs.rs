//! The outputs of the reference job as digests: expected, and as the committed files have them.

use crate::digest::Digest;
use crate::oracle::Expected;
use crate::rows::{each_of_csv, each_of_parquet, files};
use std::collections::BTreeMap;
use std::path::Path;

/// By output.
pub(crate) type Digests = BTreeMap<String, Digest>;

/// The columns that tell which record a dead letter was.
const ORIGIN: [&str; 2] = ["partition", "offset"];
/// The columns that tell which row came too late for which window, and by how much.
const MISSED: [&str; 5] = ["partition", "offset", "window_start", "window_end", "late_by_us"];

/// What all outputs must hold.
pub(crate) fn expected(expected: Expected) -> Digests {
    let outputs = [
        ("events_raw", expected.events_raw),
        ("page_metrics", expected.page_metrics),
        ("geo_metrics", expected.geo_metrics),
        ("sessions", expected.sessions),
        ("_dead_letters", expected.dead_letters),
    ];
    let outputs = outputs.into_iter().map(|(name, rows)| (name.to_owned(), rows));
    let late = expected.late.into_iter().map(|(name, rows)| (format!("_late/{name}"), rows));
    outputs.chain(late).map(|(name, rows)| (name, Digest::of(&rows))).collect()
}

/// `NAME=LIKE`.
pub(crate) fn twin(text: &str) -> Result<(String, String), String> {
    let (name, like) = text.split_once('=').ok_or("wanted NAME=LIKE")?;
    Ok((name.to_owned(), like.to_owned()))
}

/// A sentence for each output below the folder that does not hold what it must. Each of `twins` must hold what the
/// aggregate does that it is like.
pub(crate) fn differences(expected: &Digests, folder: &Path, twins: &[(String, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |output: &str, expected: &Digest, found: &Digest| {
        if expected != found {
            wrong.push(format!("{output}: expected {expected}, found {found}"));
        }
    };
    for (output, expected) in expected {
        let likes = twins.iter().filter(|(_, like)| *like == aggregate(output));
        let names = likes.map(|(name, like)| output.replace(like.as_str(), name));
        for output in std::iter::once(output.clone()).chain(names) {
            for (format, found) in found(&output, folder) {
                compare(&format!("{output}{format}"), expected, &found);
            }
        }
    }
    let left = files(&folder.join("_staging"), "tmp");
    if !left.is_empty() {
        wrong.push(format!("{} staged files are left behind", left.len()));
    }
    wrong
}

/// The aggregate whose rows, or late rows, an output has.
pub(crate) fn aggregate(output: &str) -> &str {
    output.strip_prefix("_late/").unwrap_or(output)
}

/// What the committed files of an output hold, in each of its formats.
fn found(output: &str, folder: &Path) -> Vec<(&'static str, Digest)> {
    let folder = folder.join(output);
    let parquet = |folder: &Path, columns: Option<&[&str]>| {
        let mut digest = Digest::default();
        each_of_parquet(folder, columns, |row| digest.add(row));
        digest
    };
    match output {
        "events_raw" => vec![("", parquet(&folder.join("parquet"), None))],
        "_dead_letters" => vec![("", parquet(&folder, Some(&ORIGIN)))],
        late if late.starts_with("_late/") => vec![("", parquet(&folder, Some(&MISSED)))],
        _ => {
            let mut csv = Digest::default();
            each_of_csv(&folder.join("csv"), |row| csv.add(row));
            vec![(" (parquet)", parquet(&folder.join("parquet"), None)), (" (csv)", csv)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use std::fs::{File, create_dir_all, write};
    use std::sync::Arc;
    use tempfile::TempDir;

    /// The pages of windows as the job writes them, in both formats, and a dead letter.
    fn job(pages: &[&str], csv: &[&str]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let texts: ArrayRef = Arc::new(StringArray::from(pages.to_vec()));
        let events: ArrayRef = Arc::new(Int64Array::from(vec![7; pages.len()]));
        put(&folder.path().join("page_metrics/parquet"), vec![("page", texts), ("events", events)]);
        let lines: String = csv.iter().map(|page| [page, ",7\n"].concat()).collect();
        create_dir_all(folder.path().join("page_metrics/csv")).unwrap();
        write(folder.path().join("page_metrics/csv/part-1.csv"), format!("page,events\n{lines}")).unwrap();
        let partition: ArrayRef = Arc::new(Int32Array::from(vec![3]));
        let (offset, reason): (ArrayRef, ArrayRef) =
            (Arc::new(Int64Array::from(vec![9])), Arc::new(StringArray::from(vec!["malformed"])));
        let letter = vec![("reason", reason), ("partition", partition), ("offset", offset)];
        put(&folder.path().join("_dead_letters"), letter);
        folder
    }

    fn put(folder: &Path, columns: Vec<(&str, ArrayRef)>) {
        create_dir_all(folder).unwrap();
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = File::create(folder.join("part-1.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    /// What those of [`job`] must hold.
    fn of_pages(pages: &[&str]) -> Digests {
        let pages = pages.iter().map(|page| format!("{page}\u{1f}7\u{1f}")).collect();
        let mut digests = self::expected(Expected {
            page_metrics: pages,
            dead_letters: vec!["3\u{1f}9\u{1f}".to_owned()],
            ..Expected::default()
        });
        digests.retain(|output, _| matches!(output.as_str(), "page_metrics" | "_dead_letters"));
        digests
    }

    #[test]
    fn files_with_the_expected_rows_pass_in_any_order() {
        let job = job(&["/a", "/b", "/c"], &["/c", "/a", "/b"]);
        assert_eq!(differences(&of_pages(&["/b", "/a", "/c"]), job.path(), &[]), Vec::<String>::new());
    }

    #[test]
    fn a_row_that_is_missing_twice_or_other_fails_in_either_format() {
        let expected = of_pages(&["/a", "/b", "/c"]);
        let all = ["/a", "/b", "/c"];
        for wrong in [&["/a", "/b"][..], &["/a", "/b", "/c", "/c"], &["/a", "/b", "/d"], &["/a", "/b", "/b"]] {
            let found = differences(&expected, job(wrong, &all).path(), &[]);
            assert!(found.len() == 1 && found[0].starts_with("page_metrics (parquet): expected 3 rows"), "{found:?}");
            let found = differences(&expected, job(&all, wrong).path(), &[]);
            assert!(found.len() == 1 && found[0].starts_with("page_metrics (csv): expected 3 rows"), "{found:?}");
        }
    }

    #[test]
    fn an_output_that_is_not_there_or_a_staged_file_fails() {
        let job = job(&["/a"], &["/a"]);
        std::fs::remove_dir_all(job.path().join("_dead_letters")).unwrap();
        create_dir_all(job.path().join("_staging")).unwrap();
        write(job.path().join("_staging/x.tmp"), "").unwrap();
        let found = differences(&of_pages(&["/a"]), job.path(), &[]);
        assert!(found.len() == 2 && found[0].starts_with("_dead_letters") && found[1].contains("staged"), "{found:?}");
    }

    #[test]
    fn an_aggregate_that_is_to_be_like_another_must_hold_the_same() {
        let job = job(&["/a"], &["/a"]);
        let twins = [twin("page_2=page_metrics").unwrap()];
        assert_eq!(differences(&of_pages(&["/a"]), job.path(), &twins).len(), 2);
        std::fs::rename(job.path().join("page_metrics"), job.path().join("page_2")).unwrap();
        let twins = [twin("page_2=page_metrics").unwrap()];
        let found = differences(&of_pages(&["/a"]), job.path(), &twins);
        assert!(found.len() == 2 && found.iter().all(|line| line.starts_with("page_metrics")), "{found:?}");
    }
}
