//! Which day of a zone each row belongs to, and a batch's rows day by day.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take_record_batch;
use chrono::{NaiveDate, TimeDelta};
use wasmill_pipeline::window::{Calendar, Finder, Grid, Zone};

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
    fn of(day: i64) -> Self {
        match day {
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

/// The rows of `batch` by the day, in `zone`, of its column `column` (`Timestamp(µs)`), days ascending, the order of rows
/// kept. A day is the window of a day: where a clock is set back over midnight, a minute may belong to the day after.
pub(super) fn by_day(
    batch: &RecordBatch,
    column: usize,
    zone: Zone,
) -> Result<Vec<(Partition, RecordBatch)>, ArrowError> {
    let times = batch.column(column).as_primitive::<TimestampMicrosecondType>();
    let calendar = Calendar::days(zone);
    let grid = Grid::Calendar(calendar);
    let mut finder = Finder::new(&grid, 0);
    let mut of = |time: i64| Partition::of(calendar.date_at(finder.window(time).start));
    // The usual case is found in one pass over the times: all rows have the same day.
    let values = times.values().iter().copied();
    if times.null_count() == 0
        && let (Some(low), Some(high)) = (values.clone().min(), values.max())
        && of(low) == of(high)
    {
        return Ok(vec![(of(low), batch.clone())]);
    }
    let day = |row: usize| if times.is_null(row) { Partition::Undated } else { of(times.value(row)) };
    let mut rows: Vec<(Partition, u32)> = (0..times.len()).map(day).zip(0..).collect();
    rows.sort_unstable();
    rows.chunk_by(|a, b| a.0 == b.0)
        .map(|same| {
            let indices: UInt32Array = same.iter().map(|&(_, row)| row).collect();
            Ok((same[0].0, take_record_batch(batch, &indices)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, TimestampMicrosecondArray};
    use std::sync::Arc;
    use wasmill_pipeline::window::DAY_US;

    fn batch(times: Vec<Option<i64>>) -> RecordBatch {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
        RecordBatch::try_from_iter_with_nullable([("t", times, true)]).unwrap()
    }

    fn folders(times: Vec<Option<i64>>) -> Vec<(String, usize)> {
        folders_in(Zone::UTC, times)
    }

    fn folders_in(zone: Zone, times: Vec<Option<i64>>) -> Vec<(String, usize)> {
        let days = by_day(&batch(times), 0, zone).unwrap();
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
    fn a_day_of_a_zone_begins_at_its_midnight() {
        let at = |text: &str| Some(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros());
        let times = ["2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z"];
        assert_eq!(
            folders_in(Zone::named("Europe/Berlin").unwrap(), times.map(at).into()),
            [("dt=2026-03-28/".into(), 1), ("dt=2026-03-29/".into(), 2), ("dt=2026-03-30/".into(), 1)]
        );
        let apia = ["2011-12-30T09:59:59Z", "2011-12-30T10:00:00Z"];
        assert_eq!(
            folders_in(Zone::named("Pacific/Apia").unwrap(), apia.map(at).into()),
            [("dt=2011-12-29/".into(), 1), ("dt=2011-12-31/".into(), 1)]
        );
    }

    #[test]
    fn a_batch_of_one_day_is_not_copied() {
        let batch = batch(vec![Some(1), Some(2)]);
        let days = by_day(&batch, 0, Zone::UTC).unwrap();
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
