//! A lane: one partition's way from bytes to rows that are ready for their shards.

mod apart;
mod counts;
mod times;

pub use self::apart::{Piece, parse_apart};
pub use self::counts::{LaneCounts, PartitionCounts};
use self::times::row_times;
use crate::dead_letter::{DeadLetter, Reason};
use crate::error::Error;
use crate::event::{Encoded, EventBatch, LateRows, Origins, Times};
use crate::exchange::{Rows, divide};
use crate::fault::{Breaker, FaultReport, FaultRules, FaultyCall, PluginFailure, Service, Treatment};
use crate::key::Keys;
use crate::plan::{AggregatePlan, Plan};
use crate::plugin::{Fault, FaultKind, Parsed, Parser};
use crate::record::RawBatch;
use crate::spec::Window;
use crate::time::ending::Newest;
use crate::time::lateness::{too_late_for_session, window_is_over};
use crate::time::trust::Trusted;
use crate::version::{ALL_KEYS, Role};
use crate::window::{Finder, Span};
use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use std::collections::HashMap;
use std::sync::Arc;

/// What a lane made of records.
#[derive(Debug, Default)]
pub struct LaneOutput {
    /// Events, as the raw output has them.
    pub raw: Vec<RecordBatch>,
    /// Records set aside.
    pub dead_letters: Vec<DeadLetter>,
    /// Rows too late, by aggregate.
    pub late: Vec<(usize, RecordBatch)>,
    /// Rows for the shards, by worker.
    pub rows: Vec<(usize, Rows)>,
    /// Records that make the parser fail.
    pub faults: Vec<FaultReport>,
}

/// One partition's lane: its place in event time, and where the next record is.
#[derive(Debug)]
pub struct Lane {
    plan: Arc<Plan>,
    partition: i32,
    trusted: Trusted,
    next_offset: i64,
    newest: Newest,
    breaker: Breaker,
    /// The first offset that the breaker does not know of.
    unseen: i64,
    /// How many records it knows of that are still to be taken in.
    left: u64,
}

impl Lane {
    /// A lane that continues where a checkpoint or the start option says.
    pub fn new(plan: Arc<Plan>, partition: i32, next_offset: i64, trusted: Trusted) -> Self {
        let (newest, breaker) = (Newest::Nothing, Breaker::default());
        Self { plan, partition, trusted, next_offset, newest, breaker, unseen: next_offset, left: 0 }
    }

    /// The partition's watermark.
    pub fn watermark(&self) -> i64 {
        self.trusted.watermark_us
    }

    /// How far the partition is trusted to have come.
    pub fn trusted(&self) -> Trusted {
        self.trusted
    }

    /// The first offset not read yet.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The newest broker timestamp of the records read.
    pub fn newest(&self) -> Newest {
        self.newest
    }

    /// Takes up the newest broker timestamp that a checkpoint knows.
    pub fn recall(&mut self, newest: Newest) {
        self.newest = self.newest.max(newest);
    }

    /// Goes on by another plan.
    pub(crate) fn follow(&mut self, plan: Arc<Plan>) {
        self.plan = plan;
    }

    /// Raises the watermark: windows up to there were closed while the partition was idle.
    pub fn raise(&mut self, watermark: i64) {
        self.trusted.raise(watermark);
    }

    /// Notes that the partition gives nothing more for now: its watermark goes by what there is.
    pub fn settle(&mut self) {
        self.trusted.settle(&self.plan.time);
    }

    /// Skips to an offset, where the records before it are gone.
    pub fn skip_to(&mut self, offset: i64) {
        (self.next_offset, self.unseen, self.left) = (offset, offset, 0);
    }

    /// Notes that a cut was made: faults are counted anew.
    pub(crate) fn begin_interval(&mut self) {
        self.breaker.reset(self.left);
    }

    /// Takes in the next records of the partition. Where the parser fails on a batch it is halved until the record
    /// that makes it fail stands alone; that one becomes a dead letter.
    ///
    /// # Errors
    /// [`Error::Plugin`] where the parser fails and its rules ask to stop, or on too many records. [`Error::Bug`] for records of another partition or already seen, or where columns do not fit the plan.
    pub fn process(
        &mut self,
        parser: &mut dyn Parser,
        raw: &RawBatch,
        treatment: &Treatment,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<(), Error> {
        let mut taken = self.process_soon(parser, raw, treatment, counts, out)?;
        while taken < raw.len() {
            let rest = raw.slice(taken, raw.len());
            let pieces = parse_apart(parser, &rest);
            taken += self.take_pieces(&rest, pieces, treatment, counts, out)?;
            taken += self.process_soon(parser, &raw.slice(taken, raw.len()), treatment, counts, out)?;
        }
        Ok(())
    }

    /// The same, but only as far as the parser does not take too long: how many records were taken in. The others are to
    /// be parsed beside, by [`parse_apart`], and no record after them comes before they are taken in.
    ///
    /// # Errors
    /// As for [`process`](Self::process).
    pub fn process_soon(
        &mut self,
        parser: &mut dyn Parser,
        raw: &RawBatch,
        treatment: &Treatment,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<usize, Error> {
        let Some(next) = raw.next_offset() else { return Ok(0) };
        self.check_place(raw)?;
        let new = raw.offsets.len() - raw.offsets.partition_point(|&offset| offset < self.unseen);
        self.breaker.see(new);
        self.left += new as u64;
        self.unseen = self.unseen.max(next);
        self.parse(parser, raw, treatment, counts, out)?;
        Ok(raw.offsets.partition_point(|&offset| offset < self.next_offset))
    }

    /// Takes in the first of these records, as they were parsed beside: how many.
    ///
    /// # Errors
    /// As for [`process`](Self::process).
    pub fn take_pieces(
        &mut self,
        raw: &RawBatch,
        pieces: Vec<Piece>,
        treatment: &Treatment,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<usize, Error> {
        self.check_place(raw)?;
        let mut taken = 0;
        for Piece { records, parsed } in pieces {
            let part = raw.slice(taken, taken + records);
            match parsed {
                Ok(parsed) => self.take_in(&part, parsed, treatment, counts, out)?,
                Err(fault) => self.found(&part, fault, treatment, counts, out)?,
            }
            taken += records;
        }
        Ok(taken)
    }

    /// Notes the time, µs, that it took to find a record that makes the parser miss its deadline.
    ///
    /// # Errors
    /// [`Error::Plugin`] where that is too much.
    pub(crate) fn lose(&mut self, fault: &Fault, time_us: i64, rules: &FaultRules) -> Result<(), Error> {
        match self.breaker.lose(rules, time_us) {
            Some(cause) => Err(PluginFailure { aggregate: None, fault: fault.clone(), cause }.into()),
            None => Ok(()),
        }
    }

    fn check_place(&self, raw: &RawBatch) -> Result<(), Error> {
        if raw.partition != self.partition || raw.offsets.first().is_some_and(|&first| first < self.next_offset) {
            return Err(Error::Bug(format!(
                "records out of place partition={} offset={:?} expected_partition={} expected_offset={}",
                raw.partition,
                raw.offsets.first(),
                self.partition,
                self.next_offset
            )));
        }
        Ok(())
    }

    /// Whether all were taken in; else the parser takes too long from the next offset on.
    fn parse(
        &mut self,
        parser: &mut dyn Parser,
        raw: &RawBatch,
        treatment: &Treatment,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<bool, Error> {
        match parser.parse_soon(raw) {
            Ok(parsed) => self.take_in(raw, parsed, treatment, counts, out).map(|()| true),
            Err(fault) if fault.kind == FaultKind::Deadline => Ok(false),
            Err(fault) if raw.len() == 1 => self.found(raw, fault, treatment, counts, out).map(|()| true),
            Err(_) => {
                let half = raw.len() / 2;
                Ok(self.parse(parser, &raw.slice(0, half), treatment, counts, out)?
                    && self.parse(parser, &raw.slice(half, raw.len()), treatment, counts, out)?)
            }
        }
    }

    /// Notes that these records are done with.
    fn pass(&mut self, raw: &RawBatch) {
        self.next_offset = raw.next_offset().unwrap_or(self.next_offset);
        self.left = self.left.saturating_sub(raw.len() as u64);
        self.newest = self.newest.max(raw.newest(&self.plan.time.plausible_us));
    }

    /// Sets aside the one record that makes the parser fail.
    fn found(
        &mut self,
        raw: &RawBatch,
        fault: Fault,
        treatment: &Treatment,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<(), Error> {
        let origin = (self.partition, raw.offsets[0]);
        let call = FaultyCall::Parse { record: raw.clone() };
        out.faults.push(FaultReport { fault: fault.clone(), aggregate: None, origin, call });
        if let Some(cause) = self.breaker.fault(&treatment.parser, origin) {
            return Err(PluginFailure { aggregate: None, fault, cause }.into());
        }
        counts.records += 1;
        counts.of(self.partition).records += 1;
        set_aside(raw, 0, Reason::PluginFault, fault.to_string(), counts, out);
        self.pass(raw);
        Ok(())
    }

    fn take_in(
        &mut self,
        raw: &RawBatch,
        parsed: Parsed,
        treatment: &Treatment,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<(), Error> {
        self.pass(raw);
        counts.records += raw.len() as u64;
        counts.of(self.partition).records += raw.len() as u64;
        let rejected = parsed.rejects.len();
        for reject in parsed.rejects {
            set_aside(raw, reject.record, reject.reason, reject.message, counts, out);
        }
        let mut rows = OriginRows { columns: parsed.columns, origins: parsed.origins, rows: parsed.rows };
        let (mut times, refused) = row_times(&self.plan, &rows, raw);
        let set_asides = refused.len();
        if !refused.is_empty() {
            let is_kept =
                |&row: &u32| refused.binary_search_by_key(&rows.record(row as usize), |&(record, ..)| record).is_err();
            let keep: Vec<u32> = (0..rows.rows as u32).filter(is_kept).collect();
            times = keep.iter().map(|&row| times[row as usize]).collect();
            rows = rows.take(&keep)?;
            for (record, reason, message) in refused {
                set_aside(raw, record, reason, message, counts, out);
            }
        }
        let parsed = rows.records();
        counts.parsed += parsed as u64;
        counts.filtered += (raw.len() - rejected - set_asides - parsed) as u64;
        counts.rows += rows.rows as u64;
        counts.of(self.partition).rows += rows.rows as u64;
        if rows.rows == 0 {
            return Ok(());
        }
        let offsets = (0..rows.rows).map(|row| raw.offsets[rows.record(row)]).collect();
        let times = Arc::new(self.advance(times, &rows, raw, counts));
        let origins = Arc::new(Origins { partition: self.partition, offsets });
        let batch = EventBatch { columns: rows.columns, times, origins };
        self.distribute(&batch, raw, treatment, counts, out)
    }

    fn distribute(
        &self,
        batch: &EventBatch,
        raw: &RawBatch,
        treatment: &Treatment,
        counts: &mut LaneCounts,
        out: &mut LaneOutput,
    ) -> Result<(), Error> {
        let mut encoded = Encoded::new(batch);
        let mut keys: HashMap<&[usize], Arc<Keys>> = HashMap::new();
        let mut records: Option<Arc<RawBatch>> = None;
        for (index, aggregate) in self.plan.aggregates.iter().enumerate() {
            let (mut on_time, late) = judge(aggregate, &batch.times, &mut counts.late_windows[index]);
            // A row that is late for one version is late for all; it is told once.
            if !late.rows.is_empty() && aggregate.role == Role::Current {
                counts.late[index] += late.rows.len() as u64;
                counts.late_within_gap[index] += within_gap(&aggregate.spec.window, &late);
                out.late.push((index, batch.to_late(&self.plan, &late)?));
            }
            let service = treatment.service(index);
            if let Service::Out(why) = service {
                let letters = kept_from(index, batch, raw, on_time.as_deref(), why);
                counts.set_aside[index] += letters.len() as u64;
                out.dead_letters.extend(letters);
                continue;
            }
            let keys = keys.entry(&aggregate.keys).or_insert_with(|| {
                let columns: Vec<&ArrayRef> = aggregate.keys.iter().map(|&k| &batch.columns[k]).collect();
                Arc::new(Keys::of(&columns, batch.rows()))
            });
            leave_out(aggregate.role, keys, batch.rows(), &mut on_time);
            let watched = service.is_careful_with(raw);
            let all = Rows {
                aggregate: index,
                rows: None,
                times: batch.times.clone(),
                origins: batch.origins.clone(),
                keys: keys.clone(),
                inputs: encoded.inputs(aggregate)?,
                records: watched.then(|| records.get_or_insert_with(|| Arc::new(raw.clone())).clone()),
            };
            out.rows.extend(divide(all, on_time.as_deref(), self.plan.workers)?);
        }
        out.raw.push(batch.to_raw(&self.plan)?);
        Ok(())
    }
}

/// Leaves out the rows of keys that a version does not get.
fn leave_out(role: Role, keys: &Keys, rows: usize, on_time: &mut Option<Vec<bool>>) {
    if matches!(role, Role::Shadow { keys } if keys < ALL_KEYS) {
        let taken = on_time.get_or_insert_with(|| vec![true; rows]);
        for (row, taken) in taken.iter_mut().enumerate() {
            *taken &= role.takes(keys.hash(keys.code(row)));
        }
    }
}

/// The rows that an aggregate would take, were it in service.
fn kept_from(
    aggregate: usize,
    batch: &EventBatch,
    raw: &RawBatch,
    on_time: Option<&[bool]>,
    why: &str,
) -> Vec<DeadLetter> {
    let offsets = batch.origins.offsets.iter().enumerate();
    let taken = offsets.filter(|(row, _)| on_time.is_none_or(|on_time| on_time[*row]));
    taken.map(|(_, &offset)| DeadLetter::of_row(raw, offset, aggregate, format!("out of service: {why}"))).collect()
}

/// Which rows an aggregate takes (`None` = all), and those that come too late for it.
fn judge(aggregate: &AggregatePlan, times: &Times, late_windows: &mut u64) -> (Option<Vec<bool>>, LateRows) {
    let lateness = aggregate.spec.allowed_lateness_us;
    match aggregate.spec.window {
        Window::Grid(grid) => {
            let mut finder = Finder::new(&grid, 0);
            sift(times, |time, watermark| {
                let window = finder.window(time);
                if window_is_over(window.end, lateness, watermark) {
                    return Some((window, watermark.saturating_sub(window.end.saturating_add(lateness))));
                }
                *late_windows += finder.windows_missed(lateness, watermark) as u64;
                None
            })
        }
        Window::Session { gap_us } => sift(times, |time, watermark| {
            let own = Span { start: time, end: time.saturating_add(gap_us) };
            let late_by = watermark.saturating_sub(time.saturating_add(lateness));
            too_late_for_session(time, lateness, watermark).then_some((own, late_by))
        }),
    }
}

/// How many rows came too late for a session by less than its gap.
fn within_gap(window: &Window, late: &LateRows) -> u64 {
    let Window::Session { gap_us } = window else { return 0 };
    late.late_by_us.iter().filter(|late_by| *late_by < gap_us).count() as u64
}

/// Divides rows by what `missed` says of a time and its watermark: nothing where it takes the row, else the window that
/// the row is too late for, and by how much, µs.
fn sift(times: &Times, mut missed: impl FnMut(i64, i64) -> Option<(Span, i64)>) -> (Option<Vec<bool>>, LateRows) {
    let mut late = LateRows::default();
    let mut on_time: Option<Vec<bool>> = None;
    for (row, (&time, &watermark)) in times.events.iter().zip(&times.watermarks).enumerate() {
        let Some((window, late_by)) = missed(time, watermark) else { continue };
        late.rows.push(row as u32);
        late.window_starts.push(window.start);
        late.window_ends.push(window.end);
        late.late_by_us.push(late_by);
        on_time.get_or_insert_with(|| vec![true; times.events.len()])[row] = false;
    }
    (on_time, late)
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

fn set_aside(
    raw: &RawBatch,
    record: usize,
    reason: Reason,
    message: String,
    counts: &mut LaneCounts,
    out: &mut LaneOutput,
) {
    counts.dead_letters[reason as usize] += 1;
    counts.of(raw.partition).dead_letters[reason as usize] += 1;
    out.dead_letters.push(DeadLetter::new(raw, record, reason, message));
}

#[cfg(test)]
mod tests;
