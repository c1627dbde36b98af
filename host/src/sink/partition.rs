//! Which UTC day each row belongs to, and a batch's rows day by day.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take_record_batch;
use chrono::{NaiveDate, TimeDelta};

/// µs in a day of UTC.
const DAY_US: i64 = 86_400_000_000;
/// Days from the Unix epoch to 0000-01-01 and to 9999-12-31: outside a date has not four digits of year.
const FIRST_DAY: i64 = -719_528;
const LAST_DAY: i64 = 2_932_896;

/// The partition that rows go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Partition {
    /// The output is not partitioned.
    Whole,
    /// The time is null, or of a year that has not four digits.
    Undated,
    /// Days since the Unix epoch.
    Day(i32),
}

impl Partition {
    fn of(time_us: i64) -> Self {
        match time_us.div_euclid(DAY_US) {
            day @ FIRST_DAY..=LAST_DAY => Self::Day(day as i32),
            _ => Self::Undated,
        }
    }

    /// The folder of its files, Hive style, with a `/` after it; empty when the output is not partitioned.
    pub(super) fn folder(self) -> String {
        match self {
            Self::Whole => String::new(),
            Self::Undated => "dt=__HIVE_DEFAULT_PARTITION__/".to_owned(),
            Self::Day(day) => format!("dt={}/", NaiveDate::default() + TimeDelta::days(i64::from(day))),
        }
    }
}

/// The rows of `batch` by the UTC day of its column `column` (`Timestamp(µs)`), days ascending, the order of rows kept.
pub(super) fn by_day(batch: &RecordBatch, column: usize) -> Result<Vec<(Partition, RecordBatch)>, ArrowError> {
    let times = batch.column(column).as_primitive::<TimestampMicrosecondType>();
    if let Some(day) = single_day(times.values(), times.null_count()) {
        return Ok(vec![(day, batch.clone())]);
    }
    let day = |row: usize| if times.is_null(row) { Partition::Undated } else { Partition::of(times.value(row)) };
    let mut rows: Vec<(Partition, u32)> = (0..times.len()).map(|row| (day(row), row as u32)).collect();
    rows.sort_unstable();
    rows.chunk_by(|a, b| a.0 == b.0)
        .map(|same| {
            let indices: UInt32Array = same.iter().map(|&(_, row)| row).collect();
            Ok((same[0].0, take_record_batch(batch, &indices)?))
        })
        .collect()
}

/// The day, when all rows have the same: the usual case, found in one pass over the times.
fn single_day(times: &[i64], nulls: usize) -> Option<Partition> {
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for &time in times {
        low = low.min(time);
        high = high.max(time);
    }
    let day = Partition::of(low);
    (nulls == 0 && !times.is_empty() && day == Partition::of(high)).then_some(day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn batch(times: Vec<Option<i64>>) -> RecordBatch {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
        RecordBatch::try_from_iter_with_nullable([("t", times, true)]).unwrap()
    }

    fn folders(times: Vec<Option<i64>>) -> Vec<(String, usize)> {
        let days = by_day(&batch(times), 0).unwrap();
        days.into_iter().map(|(day, rows)| (day.folder(), rows.num_rows())).collect()
    }

    #[test]
    fn a_day_is_half_open() {
        assert_eq!(
            folders(vec![Some(DAY_US - 1), Some(DAY_US), Some(0), Some(-1)]),
            [("dt=1969-12-31/".into(), 1), ("dt=1970-01-01/".into(), 2), ("dt=1970-01-02/".into(), 1)]
        );
    }

    #[test]
    fn a_batch_of_one_day_is_not_copied() {
        let batch = batch(vec![Some(1), Some(2)]);
        let days = by_day(&batch, 0).unwrap();
        assert!(Arc::ptr_eq(batch.column(0), days[0].1.column(0)));
    }

    #[test]
    fn times_without_a_date_have_a_folder_of_their_own() {
        assert_eq!(
            folders(vec![None, Some(i64::MIN), Some(i64::MAX), Some(0)]),
            [("dt=__HIVE_DEFAULT_PARTITION__/".into(), 3), ("dt=1970-01-01/".into(), 1)]
        );
        assert_eq!(Partition::Day(FIRST_DAY as i32).folder(), "dt=0000-01-01/");
        assert_eq!(Partition::Day(LAST_DAY as i32).folder(), "dt=9999-12-31/");
    }
}
