//! A lane: one partition's way from bytes to rows that are ready for their shards.

use crate::dead_letter::{DeadLetter, Reason};
use crate::error::Error;
use crate::event::{Encoded, EventBatch, LateRows, Times};
use crate::exchange::{Rows, divide};
use crate::fault::{FaultReport, FaultyCall};
use crate::key::Keys;
use crate::plan::{AggregatePlan, Plan};
use crate::plugin::{Parsed, Parser};
use crate::record::RawBatch;
use crate::spec::Window;
use crate::time::lateness::{too_late_for_session, window_is_over};
use crate::window::Grid;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use std::collections::HashMap;
use std::sync::Arc;

/// What a lane made of records.
#[derive(Debug, Default)]
pub struct LaneOutput {
    /// Events, as the raw output has them.
    pub raw: Vec<RecordBatch>,
    /// Records set aside.
    pub dead_letters: Vec<DeadLetter>,
    /// The parser's faults, each pinned on one of them.
    pub faults: Vec<FaultReport>,
    /// Rows too late, by aggregate.
    pub late: Vec<(usize, RecordBatch)>,
    /// Rows for the shards, by worker.
    pub rows: Vec<(usize, Rows)>,
}

/// What a lane has seen, since the pipeline's beginning or since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Records read.
    pub records: u64,
    /// Records the parser made neither rows nor a reject of: tombstones and what it filters.
    pub filtered: u64,
    /// Records that became rows.
    pub parsed: u64,
    /// Rows made: those of the raw output.
    pub rows: u64,
    /// Rows whose event time is the broker's, as they had none or a bad one.
    pub broker_time: u64,
    /// Dead letters, in the order of [`Reason::ALL`].
    pub dead_letters: [u64; Reason::ALL.len()],
    /// Rows too late, by aggregate.
    pub late: Vec<u64>,
    /// Sliding windows missed by rows that still counted in others, by aggregate.
    pub late_windows: Vec<u64>,
}

/// One partition's lane: its place in event time, and where the next record is.
#[derive(Debug)]
pub struct Lane {
    plan: Arc<Plan>,
    partition: i32,
    watermark: i64,
    next_offset: i64,
}

impl Lane {
    /// A lane that continues where a checkpoint or the start option says.
    pub fn new(plan: Arc<Plan>, partition: i32, next_offset: i64, watermark: i64) -> Self {
        Self { plan, partition, watermark, next_offset }
    }

    /// The partition's watermark.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// The first offset not read yet.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Raises the watermark: windows up to there were closed while the partition was idle.
    pub fn raise(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }

    /// Skips to an offset, where the records before it are gone.
    pub fn skip_to(&mut self, offset: i64) {
        self.next_offset = offset;
    }

    /// Takes in the next records of the partition. Where the parser fails on a batch it is halved until the record
    /// that makes it fail stands alone; that one becomes a dead letter.
    ///
    /// # Errors
    /// [`Error::Bug`] for records of another partition or already seen, or where columns do not fit the plan.
    pub fn process(
        &mut self,
        parser: &mut dyn Parser,
        raw: &RawBatch,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<(), Error> {
        let Some(next) = raw.next_offset() else { return Ok(()) };
        if raw.partition != self.partition || raw.offsets.first().is_some_and(|&first| first < self.next_offset) {
            return Err(Error::Bug(format!(
                "records out of place partition={} offset={:?} expected_partition={} expected_offset={}",
                raw.partition,
                raw.offsets.first(),
                self.partition,
                self.next_offset
            )));
        }
        self.parse(parser, raw, counts, out)?;
        self.next_offset = next;
        Ok(())
    }

    fn parse(
        &mut self,
        parser: &mut dyn Parser,
        raw: &RawBatch,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<(), Error> {
        match parser.parse(raw) {
            Ok(parsed) => self.take_in(raw, parsed, counts, out),
            Err(fault) if raw.len() == 1 => {
                counts.records += 1;
                set_aside(raw, 0, Reason::PluginFault, fault.to_string(), counts, out);
                let call = FaultyCall::Parse { record: raw.clone() };
                out.faults.push(FaultReport { fault, aggregate: None, origin: (raw.partition, raw.offsets[0]), call });
                Ok(())
            }
            Err(_) => {
                let half = raw.len() / 2;
                self.parse(parser, &raw.slice(0, half), counts, out)?;
                self.parse(parser, &raw.slice(half, raw.len()), counts, out)
            }
        }
    }

    fn take_in(
        &mut self,
        raw: &RawBatch,
        parsed: Parsed,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<(), Error> {
        counts.records += raw.len() as u64;
        let rejected = parsed.rejects.len();
        for reject in parsed.rejects {
            set_aside(raw, reject.record, reject.reason, reject.message, counts, out);
        }
        let mut rows = OriginRows { columns: parsed.columns, origins: parsed.origins, rows: parsed.rows };
        let (mut times, broker_times) = event_times(&self.plan, &rows, raw);
        let ahead = self.records_too_far_ahead(&rows, &times, raw);
        if !ahead.is_empty() {
            let keep: Vec<u32> =
                (0..rows.rows as u32).filter(|&row| ahead.binary_search(&rows.record(row as usize)).is_err()).collect();
            times = keep.iter().map(|&row| times[row as usize]).collect();
            rows = rows.take(&keep)?;
            for &record in &ahead {
                let message = "event time is more than max_ahead after the broker's timestamp".to_string();
                set_aside(raw, record, Reason::TooFarAhead, message, counts, out);
            }
        }
        let parsed = rows.records();
        counts.parsed += parsed as u64;
        counts.filtered += (raw.len() - rejected - ahead.len() - parsed) as u64;
        counts.rows += rows.rows as u64;
        counts.broker_time += broker_times;
        if rows.rows == 0 {
            return Ok(());
        }
        let offsets = (0..rows.rows).map(|row| raw.offsets[rows.record(row)]).collect();
        let times = Arc::new(self.advance(times));
        let batch = EventBatch { partition: self.partition, columns: rows.columns, times, offsets };
        self.distribute(&batch, counts, out)
    }

    /// Which records have an event time too far after the broker's; ascending.
    fn records_too_far_ahead(&self, rows: &OriginRows, times: &[i64], raw: &RawBatch) -> Vec<usize> {
        let Some(most) = self.plan.time.max_ahead_us else { return Vec::new() };
        let mut ahead: Vec<usize> = times
            .iter()
            .enumerate()
            .map(|(row, &time)| (rows.record(row), time))
            .filter(|&(record, time)| time > raw.broker_times_us[record].saturating_add(most))
            .map(|(record, _)| record)
            .collect();
        ahead.dedup();
        ahead
    }

    /// Moves the watermark on row by row, and notes where it stood before each.
    fn advance(&mut self, events: Vec<i64>) -> Times {
        let delay = self.plan.time.watermark_delay_us;
        let watermarks = events
            .iter()
            .map(|&time| {
                let before = self.watermark;
                self.watermark = before.max(time.saturating_sub(delay));
                before
            })
            .collect();
        Times { events: events.into(), watermarks }
    }

    fn distribute(&self, batch: &EventBatch, counts: &mut LaneCounts, out: &mut LaneOutput) -> Result<(), Error> {
        let mut encoded = Encoded::new(batch);
        let mut keys: HashMap<&[usize], Arc<Keys>> = HashMap::new();
        counts.late.resize(self.plan.aggregates.len(), 0);
        counts.late_windows.resize(self.plan.aggregates.len(), 0);
        for (index, aggregate) in self.plan.aggregates.iter().enumerate() {
            let (on_time, late) = judge(aggregate, &batch.times, &mut counts.late_windows[index]);
            if !late.rows.is_empty() {
                counts.late[index] += late.rows.len() as u64;
                out.late.push((index, batch.to_late(&self.plan, &late)?));
            }
            let keys = keys.entry(&aggregate.keys).or_insert_with(|| {
                let columns: Vec<&ArrayRef> = aggregate.keys.iter().map(|&k| &batch.columns[k]).collect();
                Arc::new(Keys::of(&columns, batch.rows()))
            });
            let inputs = encoded.inputs(aggregate)?;
            let parts = divide(index, &batch.times, keys, &inputs, on_time.as_deref(), self.plan.workers);
            out.rows.extend(parts?);
        }
        out.raw.push(batch.to_raw(&self.plan)?);
        Ok(())
    }
}

/// Which rows an aggregate takes (`None` = all), and those that come too late for it.
fn judge(aggregate: &AggregatePlan, times: &Times, late_windows: &mut u64) -> (Option<Vec<bool>>, LateRows) {
    let lateness = aggregate.spec.allowed_lateness_us;
    let mut late = LateRows::default();
    let mut on_time: Option<Vec<bool>> = None;
    for (row, (&time, &watermark)) in times.events.iter().zip(&times.watermarks).enumerate() {
        let (start, end) = match (Grid::of(&aggregate.spec.window), aggregate.spec.window) {
            (Some(grid), _) => {
                let newest = grid.newest_start(time);
                if !window_is_over(grid.end(newest), lateness, watermark) {
                    *late_windows += windows_missed(&grid, newest, lateness, watermark);
                    continue;
                }
                (newest, grid.end(newest))
            }
            (None, Window::Session { gap_us }) => {
                if !too_late_for_session(time, lateness, watermark) {
                    continue;
                }
                (time, time.saturating_add(gap_us))
            }
            (None, _) => unreachable!("only sessions have no grid"),
        };
        let last_moment = if matches!(aggregate.spec.window, Window::Session { .. }) { time } else { end };
        late.rows.push(row as u32);
        late.window_starts.push(start);
        late.window_ends.push(end);
        late.late_by_us.push(watermark.saturating_sub(last_moment.saturating_add(lateness)));
        on_time.get_or_insert_with(|| vec![true; times.events.len()])[row] = false;
    }
    (on_time, late)
}

/// Of the windows before the newest, how many are over for the row.
fn windows_missed(grid: &Grid, newest: i64, lateness: i64, watermark: i64) -> u64 {
    (1..grid.windows_per_event())
        .filter(|k| window_is_over(grid.end(newest - k * grid.step), lateness, watermark))
        .count() as u64
}

/// Rows and the records they came from.
struct OriginRows {
    columns: Vec<ArrayRef>,
    origins: Option<Vec<u32>>,
    rows: usize,
}

impl OriginRows {
    fn record(&self, row: usize) -> usize {
        self.origins.as_ref().map_or(row, |origins| origins[row] as usize)
    }

    /// How many records they came from.
    fn records(&self) -> usize {
        match &self.origins {
            None => self.rows,
            Some(origins) => {
                let changes = origins.windows(2).filter(|pair| pair[0] != pair[1]).count();
                changes + usize::from(!origins.is_empty())
            }
        }
    }

    fn take(&self, keep: &[u32]) -> Result<Self, Error> {
        let indices = UInt32Array::from(keep.to_vec());
        let columns =
            self.columns.iter().map(|c| arrow_select::take::take(c, &indices, None)).collect::<Result<_, _>>()?;
        let origins = keep.iter().map(|&row| self.record(row as usize) as u32).collect();
        Ok(Self { columns, origins: Some(origins), rows: keep.len() })
    }
}

/// The event time of each row, and how many of them are the broker's.
fn event_times(plan: &Plan, rows: &OriginRows, raw: &RawBatch) -> (Vec<i64>, u64) {
    let broker = |row: usize| raw.broker_times_us[rows.record(row)];
    let Some(column) = plan.event_time.and_then(|index| rows.columns.get(index)) else {
        return ((0..rows.rows).map(broker).collect(), rows.rows as u64);
    };
    let column = column.as_primitive::<TimestampMicrosecondType>();
    if column.null_count() == 0 {
        return (column.values().to_vec(), 0);
    }
    let times = (0..rows.rows).map(|row| if column.is_null(row) { broker(row) } else { column.value(row) }).collect();
    (times, column.null_count() as u64)
}

fn set_aside(
    raw: &RawBatch,
    record: usize,
    reason: Reason,
    message: String,
    counts: &mut LaneCounts,
    out: &mut LaneOutput,
) {
    counts.dead_letters[reason as usize] += 1;
    let bytes = |of: &arrow_array::BinaryArray| of.is_valid(record).then(|| of.value(record).to_vec());
    out.dead_letters.push(DeadLetter {
        partition: raw.partition,
        offset: raw.offsets[record],
        broker_time_us: raw.broker_times_us[record],
        reason,
        message,
        key: bytes(&raw.keys),
        value: bytes(&raw.values),
    });
}
