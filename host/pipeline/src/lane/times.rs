//! The event times of a batch: which time each row has, what cannot be, and how far they move the watermark.

use super::{Lane, LaneCounts, OriginRows};
use crate::dead_letter::Reason;
use crate::event::Times;
use crate::plan::Plan;
use crate::record::RawBatch;
use crate::spec::Unreadable;
use crate::time::row::time_of;
use crate::time::trust::RowTime;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, PrimitiveArray};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use std::collections::BTreeMap;

/// A record that is set aside for its time: its index in the batch, why, and that for people.
pub(super) type Refused = (usize, Reason, String);

/// The time of each row, and the records that are set aside for theirs, ascending, each once. The times of their rows
/// mean nothing.
pub(super) fn row_times(plan: &Plan, rows: &OriginRows, raw: &RawBatch) -> (Vec<i64>, Vec<Refused>) {
    let own = own_times(plan, rows);
    let mut refused: Vec<Refused> = Vec::new();
    let mut refuse = |record: usize, reason, message| {
        if refused.last().is_none_or(|&(last, ..)| last < record) {
            refused.push((record, reason, message));
        }
    };
    let time = |row: usize| {
        let record = rows.record(row);
        let broker_us = plan.time.plausible(raw.broker_times_us[record]);
        let own_us = own.filter(|own| own.is_valid(row)).map(|own| own.value(row));
        if own_us.is_none()
            && plan.time.unreadable == Unreadable::DeadLetter
            && let Some(written) = unreadable::<Value>(plan, rows, row)
        {
            let written: String = written.to_string().chars().take(MOST_SHOWN).collect();
            refuse(
                record,
                Reason::UnreadableTime,
                format!("event time {written} cannot be read; time.unreadable is dead-letter"),
            );
            return 0;
        }
        time_of(own_us, broker_us, &plan.time).unwrap_or_else(|(reason, message)| {
            refuse(record, reason, message);
            0
        })
    };
    let times = (0..rows.rows).map(time).collect();
    (times, refused)
}

/// The column of the events' own times.
fn own_times<'r>(plan: &Plan, rows: &'r OriginRows) -> Option<&'r PrimitiveArray<TimestampMicrosecondType>> {
    let column = plan.event_time.and_then(|index| rows.columns.get(index));
    column.map(AsArray::as_primitive)
}

/// The most characters of a time that cannot be read in a message, which has 256 bytes.
const MOST_SHOWN: usize = 40;

/// What is written where the time of a row should be and cannot be read, as much of it as `T` keeps; `None` = nothing is.
fn unreadable<T: DeserializeOwned>(plan: &Plan, rows: &OriginRows, row: usize) -> Option<T> {
    let name = &plan.columns.get(plan.event_time?)?.name;
    let rescued = rows.columns.get(plan.rescue?)?.as_string::<i32>();
    let mut fields: BTreeMap<String, T> =
        rescued.is_valid(row).then(|| serde_json::from_str(rescued.value(row)).ok())??;
    fields.remove(name)
}

impl Lane {
    /// Moves the watermark on row by row, and notes where it stood before each.
    pub(super) fn advance(
        &mut self,
        times: Vec<i64>,
        rows: &OriginRows,
        raw: &RawBatch,
        counts: &mut LaneCounts,
    ) -> Times {
        let (plan, own) = (self.plan.clone(), own_times(&self.plan, rows));
        let (mut suspects, mut behind) = (0, 0);
        let watermarks = times.iter().enumerate().map(|(row, &time)| {
            let (before, record) = (self.trusted.watermark_us, rows.record(row));
            // Where the parser knows no time of events, the broker's is what the pipeline goes by.
            let is_own = own.is_none_or(|own| own.is_valid(row));
            let row = RowTime {
                own_us: is_own.then_some(time),
                broker_us: plan.time.plausible(raw.broker_times_us[record]),
                appended: raw.appended[record],
            };
            suspects += u64::from(self.trusted.take(row, &plan.time));
            behind += u64::from(time < before.saturating_sub(plan.time.max_jump_us));
            before
        });
        let watermarks = watermarks.collect();
        let untimed = own.map_or(rows.rows, Array::null_count) as u64;
        let without = (0..rows.rows).filter(|&row| own.is_some_and(|own| untimed > 0 && own.is_null(row)));
        let unreadable = without.filter(|&row| unreadable::<IgnoredAny>(&plan, rows, row).is_some()).count() as u64;
        counts.broker_time += untimed;
        let of_partition = counts.of(self.partition);
        of_partition.broker_time += untimed;
        of_partition.unreadable += unreadable;
        of_partition.suspects += suspects;
        of_partition.behind += behind;
        Times { events: times.into(), watermarks }
    }
}
