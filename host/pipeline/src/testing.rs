//! Native plugins and the batch oracle: what a pipeline must give, computed in the plainest way from all records.

pub mod calendar;
mod trust;
mod versions;

pub use self::trust::{Told, watermarks};
pub use self::versions::{Call, Tagged, Version, untagged};

use crate::dead_letter::Reason;
use crate::plugin::{
    Aggregate, AggregateDescription, DataType, Encoding, Fault, FaultKind, Field, Finished, NOBODY, Parsed, Parser,
    ParserDescription, Reject, timestamp_type,
};
use crate::record::RawBatch;
use crate::spec::{AggregateSpec, PipelineSpec, TimeSpec, Window};
use crate::window::{Calendar, Even, Grid, Zone};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BinaryArray, Int64Array, StringArray, TimestampMicrosecondArray};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn field(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field { name: name.into(), data_type, encoding: Encoding::Plain, nullable }
}

/// A record of the test format: `user time value`. The time may be `-` (none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestRecord {
    /// A good one.
    Event {
        /// Who.
        user: String,
        /// When, if it says so.
        time: Option<i64>,
        /// How much.
        value: i64,
    },
    /// One the parser rejects.
    Bad,
    /// One that makes the parser trap.
    Poison,
    /// A tombstone.
    Null,
}

impl TestRecord {
    /// Its payload.
    pub fn payload(&self) -> Option<Vec<u8>> {
        match self {
            Self::Event { user, time, value } => {
                let time = time.map_or("-".into(), |t| t.to_string());
                Some(format!("{user} {time} {value}").into_bytes())
            }
            Self::Bad => Some(b"bad".to_vec()),
            Self::Poison => Some(b"poison".to_vec()),
            Self::Null => None,
        }
    }

    fn parse(payload: Option<&[u8]>) -> Self {
        let Some(payload) = payload else { return Self::Null };
        if payload == b"poison" {
            return Self::Poison;
        }
        let event = || {
            let mut words = std::str::from_utf8(payload).ok()?.split(' ');
            let user = words.next()?.to_string();
            let time = match words.next()? {
                "-" => None,
                time => Some(time.parse().ok()?),
            };
            Some(Self::Event { user, time, value: words.next()?.parse().ok()? })
        };
        event().unwrap_or(Self::Bad)
    }
}

/// The partition of test topics whose broker's timestamps are of the broker's own clock.
pub const APPENDED: i32 = 2;

/// Records as a batch of one partition, with offsets from `first_offset` on. Each has its broker's time.
pub fn raw_batch(partition: i32, first_offset: i64, records: &[(TestRecord, i64)]) -> RawBatch {
    RawBatch {
        partition,
        offsets: (first_offset..).take(records.len()).collect(),
        broker_times_us: records.iter().map(|(_, time)| *time).collect(),
        appended: vec![partition == APPENDED; records.len()],
        values: records.iter().map(|(record, _)| record.payload()).collect(),
        keys: BinaryArray::new_null(records.len()),
    }
}

/// The parser of the test format.
pub struct TestParser(ParserDescription);

impl Default for TestParser {
    fn default() -> Self {
        let outputs = vec![
            field("user", DataType::Utf8, false),
            field("time", DataType::Timestamp, true),
            field("value", DataType::Int64, false),
        ];
        Self(ParserDescription { outputs, event_time: Some(1), rescue: None })
    }
}

impl Parser for TestParser {
    fn description(&self) -> &ParserDescription {
        &self.0
    }

    fn parse(&mut self, batch: &RawBatch) -> Result<Parsed, Fault> {
        let (mut users, mut times, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let (mut origins, mut rejects) = (Vec::new(), Vec::new());
        for (record, payload) in batch.values.iter().enumerate() {
            match TestRecord::parse(payload) {
                TestRecord::Event { user, time, value } => {
                    users.push(user);
                    times.push(time);
                    values.push(value);
                    origins.push(record as u32);
                }
                TestRecord::Bad => rejects.push(Reject { record, reason: Reason::Malformed, message: "bad".into() }),
                TestRecord::Poison => {
                    let message = "poison".into();
                    return Err(Fault { plugin: "test".into(), kind: FaultKind::Trap, message, backtrace: Vec::new() });
                }
                TestRecord::Null => {}
            }
        }
        let rows = origins.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(users)),
            Arc::new(TimestampMicrosecondArray::from(times).with_data_type(timestamp_type())),
            Arc::new(Int64Array::from(values)),
        ];
        Ok(Parsed { columns, rows, origins: Some(origins), rejects })
    }
}

/// Counts rows and sums their values.
pub struct CountAndSum {
    description: AggregateDescription,
    slots: BTreeMap<u32, (i64, i64)>,
}

impl Default for CountAndSum {
    fn default() -> Self {
        let description = AggregateDescription {
            inputs: vec![field("value", DataType::Int64, false)],
            context: vec![],
            outputs: vec![field("events", DataType::Int64, false), field("total", DataType::Int64, false)],
            state_version: 1,
            restores: vec![],
            commutative: true,
        };
        Self { description, slots: BTreeMap::new() }
    }
}

impl Aggregate for CountAndSum {
    fn description(&self) -> &AggregateDescription {
        &self.description
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        let values = inputs[0].as_primitive::<Int64Type>().values();
        assert_eq!(slots.len(), values.len(), "one slot per row");
        for (&slot, &value) in slots.iter().zip(values).filter(|(slot, _)| **slot != NOBODY) {
            let state = self.slots.entry(slot).or_default();
            *state = (state.0 + 1, state.1 + value);
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        for (slot, other) in slots.iter().zip(others) {
            let (events, total) = self.slots.remove(other).unwrap_or_default();
            let state = self.slots.entry(*slot).or_default();
            *state = (state.0 + events, state.1 + total);
        }
        Ok(())
    }

    fn finish(&mut self, slots: &[u32], _context: &[ArrayRef]) -> Result<Finished, Fault> {
        let states: Vec<(i64, i64)> = slots.iter().map(|s| self.slots.get(s).copied().unwrap_or_default()).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(states.iter().map(|s| s.0).collect::<Int64Array>()),
            Arc::new(states.iter().map(|s| s.1).collect::<Int64Array>()),
        ];
        Ok(Finished { columns, origins: None })
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        let encode = |slot: &u32| {
            let (events, total) = self.slots.get(slot).copied().unwrap_or_default();
            Some([events.to_le_bytes(), total.to_le_bytes()].concat())
        };
        Ok(slots.iter().map(encode).collect())
    }

    fn restore(&mut self, slots: &[u32], _state_version: u32, states: &BinaryArray) -> Result<(), Fault> {
        for (slot, state) in slots.iter().zip(states.iter().flatten()) {
            let (events, total) = state.split_at(8);
            let number = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().expect("eight bytes each"));
            let before = self.slots.insert(*slot, (number(events), number(total)));
            assert!(before.is_none(), "a slot is restored only while it is empty");
        }
        Ok(())
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        for slot in slots {
            self.slots.remove(slot);
        }
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Fault> {
        self.slots.clear();
        Ok(())
    }
}

/// The value on which [`Touchy`] traps.
pub const POISON: i64 = 13;

/// As [`CountAndSum`], but it traps on rows whose value is [`POISON`], with the rows before them added already. From
/// then on it is of no use until it is renewed.
#[derive(Default)]
pub struct Touchy {
    inner: CountAndSum,
    trapped: bool,
    unmergeable: bool,
    calls: Arc<AtomicU64>,
}

impl Touchy {
    /// One whose calls of `update` are counted; it traps on every `merge`, too, where it is to be `unmergeable`.
    pub fn counting(calls: Arc<AtomicU64>, unmergeable: bool) -> Self {
        Self { unmergeable, calls, ..Self::default() }
    }

    fn working(&mut self) -> Result<&mut CountAndSum, Fault> {
        if self.trapped { Err(Self::trap()) } else { Ok(&mut self.inner) }
    }

    fn trap() -> Fault {
        Fault { plugin: "touchy".into(), kind: FaultKind::Trap, message: "poison".into(), backtrace: Vec::new() }
    }
}

impl Aggregate for Touchy {
    fn description(&self) -> &AggregateDescription {
        self.inner.description()
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let values = inputs[0].as_primitive::<Int64Type>().values();
        let poison = slots.iter().zip(values).position(|(&slot, &value)| slot != NOBODY && value == POISON);
        let good = poison.unwrap_or(slots.len());
        self.working()?.update(&slots[..good], &[inputs[0].slice(0, good)])?;
        self.trapped = poison.is_some();
        if self.trapped { Err(Self::trap()) } else { Ok(()) }
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        self.trapped |= self.unmergeable;
        self.working()?.merge(slots, others)
    }

    fn finish(&mut self, slots: &[u32], context: &[ArrayRef]) -> Result<Finished, Fault> {
        self.working()?.finish(slots, context)
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        self.working()?.snapshot(slots)
    }

    fn restore(&mut self, slots: &[u32], state_version: u32, states: &BinaryArray) -> Result<(), Fault> {
        self.working()?.restore(slots, state_version, states)
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        self.working()?.release(slots)
    }

    fn renew(&mut self) -> Result<(), Fault> {
        self.trapped = false;
        self.inner.renew()
    }
}

/// Windows of all kinds; all times are multiples of 5, so that limits are met exactly.
pub fn spec_of_all_windows() -> PipelineSpec {
    let aggregate = |name: &str, window, allowed_lateness_us| AggregateSpec {
        name: name.into(),
        window,
        keys: vec!["user".into()],
        allowed_lateness_us,
    };
    PipelineSpec {
        time: TimeSpec {
            watermark_delay_us: 10,
            idle_timeout_us: None,
            max_ahead_us: Some(200),
            min_us: Some(-20),
            clock_skew_us: 5,
            max_jump_us: 60,
            confirm: 3,
            plausible_us: 0..i64::MAX,
            ..TimeSpec::default()
        },
        aggregates: vec![
            aggregate("tumbling", Window::tumbling(30, 5), 0),
            aggregate("sliding", Window::sliding(40, 10, 0), 5),
            aggregate("sessions", Window::Session { gap_us: 15 }, 0),
        ],
    }
}

/// A test's unit of time on the calendar, 12 minutes: five of them, the step between a test's times, are an hour.
const TICK_US: i64 = 720_000_000;

/// Where a test's times begin on the calendar, 2026-03-28T05:00Z: after 20 hours clocks in Berlin go forward.
const BEFORE_SUMMER_US: i64 = 1_774_674_000_000_000;

/// An instant of a test on the calendar.
pub fn on_the_calendar(time: i64) -> i64 {
    BEFORE_SUMMER_US + time * TICK_US
}

/// As [`spec_of_all_windows`], on the calendar: windows are days in Berlin, one and two, and a record's times are to be
/// [`on_the_calendar`].
pub fn spec_on_the_calendar() -> PipelineSpec {
    let mut spec = spec_of_all_windows();
    let TimeSpec { watermark_delay_us, idle_timeout_us, max_ahead_us, clock_skew_us, max_jump_us, .. } = &mut spec.time;
    let options = [idle_timeout_us, max_ahead_us].into_iter().flatten();
    options.chain([watermark_delay_us, clock_skew_us, max_jump_us]).for_each(|us| *us *= TICK_US);
    spec.time.min_us = spec.time.min_us.map(on_the_calendar);
    let days = Calendar::days(Zone::named("Europe/Berlin").expect("it is in the database"));
    for (steps, aggregate) in [1, 2, 0].into_iter().zip(&mut spec.aggregates) {
        aggregate.allowed_lateness_us *= TICK_US;
        aggregate.window = match aggregate.window {
            Window::Grid(_) => Window::Grid(Grid::Calendar(Calendar { steps, ..days })),
            Window::Session { gap_us } => Window::Session { gap_us: gap_us * TICK_US },
        };
    }
    spec
}

/// A row of an aggregate over [`CountAndSum`]: start, end, user, events, total.
pub type Row = (i64, i64, String, i64, i64);

/// Everything a pipeline must give for a topic.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// (partition, offset, event time) of each row of the raw output, sorted.
    pub raw: Vec<(i32, i64, i64)>,
    /// (partition, offset) of each dead letter, sorted.
    pub dead_letters: Vec<(i32, i64)>,
    /// Each aggregate's rows, sorted.
    pub rows: Vec<Vec<Row>>,
    /// (partition, offset) of each aggregate's late rows, sorted.
    pub late: Vec<Vec<(i32, i64)>>,
}

/// What an aggregate over [`Touchy`] must give: its rows, and (partition, offset) of its late rows and of those set
/// aside, sorted.
pub struct ExpectedOfTouchy {
    /// Its rows.
    pub rows: Vec<Row>,
    /// Late rows.
    pub late: Vec<(i32, i64)>,
    /// Rows set aside.
    pub set_aside: Vec<(i32, i64)>,
}

/// As [`expected`], for one aggregate over [`Touchy`]: the rest without the rows it traps on.
pub fn expected_of_touchy(
    topic: &[Vec<(TestRecord, i64)>],
    time: &TimeSpec,
    aggregate: &AggregateSpec,
) -> ExpectedOfTouchy {
    let (_, judged) = judge(topic, time);
    let (poison, good): (Vec<_>, Vec<_>) = judged.into_iter().partition(|row| row.value == POISON);
    let (rows, mut late) = aggregate_all(&good, aggregate);
    let (_, late_poison) = aggregate_all(&poison, aggregate);
    let origins = poison.iter().map(|row| row.origin);
    let mut set_aside: Vec<_> = origins.filter(|origin| late_poison.binary_search(origin).is_err()).collect();
    set_aside.sort_unstable();
    late.extend(late_poison);
    late.sort_unstable();
    ExpectedOfTouchy { rows, late, set_aside }
}

/// The oracle: `topic[p]` are the records of partition p with their broker's times; keys are `user`.
pub fn expected(topic: &[Vec<(TestRecord, i64)>], time: &TimeSpec, aggregates: &[AggregateSpec]) -> Expected {
    let (mut expected, judged) = judge(topic, time);
    for aggregate in aggregates {
        let (rows, late) = aggregate_all(&judged, aggregate);
        expected.rows.push(rows);
        expected.late.push(late);
    }
    expected
}

/// The oracle where some rows, by (partition, offset) and aggregate, were too late for reasons that the topic does not
/// know: partitions that were idle, or came later. All others count in all their windows.
pub fn expected_but_for(
    topic: &[Vec<(TestRecord, i64)>],
    time: &TimeSpec,
    aggregates: &[AggregateSpec],
    late: &[Vec<(i32, i64)>],
) -> Expected {
    let (mut expected, judged) = judge(topic, time);
    expected.late = late.to_vec();
    for (aggregate, late) in aggregates.iter().zip(late) {
        let late: BTreeSet<_> = late.iter().collect();
        let counted = judged.iter().filter(|row| !late.contains(&row.origin));
        let counted: Vec<_> = counted.map(|row| Judged { watermark: i64::MIN, ..*row }).collect();
        expected.rows.push(aggregate_all(&counted, aggregate).0);
    }
    expected
}

/// An aggregate's rows where all before these offsets, by partition, count for nothing.
pub fn expected_rows_from(
    topic: &[Vec<(TestRecord, i64)>],
    time: &TimeSpec,
    aggregate: &AggregateSpec,
    from: &BTreeMap<i32, i64>,
) -> Vec<Row> {
    let (_, mut judged) = judge(topic, time);
    judged.retain(|row| from.get(&row.origin.0).is_none_or(|&from| row.origin.1 >= from));
    aggregate_all(&judged, aggregate).0
}

/// The rows of a topic with their watermarks, and what becomes of its records.
fn judge<'a>(topic: &'a [Vec<(TestRecord, i64)>], time: &TimeSpec) -> (Expected, Vec<Judged<'a>>) {
    let mut expected = Expected::default();
    let mut judged = Vec::new();
    for (partition, records) in (0..).zip(topic) {
        let (mut rows, mut told) = (Vec::new(), Vec::new());
        for (offset, (record, broker)) in (0i64..).zip(records) {
            let TestRecord::Event { user, time: own, value } = record else {
                if !matches!(record, TestRecord::Null) {
                    expected.dead_letters.push((partition, offset));
                }
                continue;
            };
            let broker = Some(*broker).filter(|broker| time.plausible_us.contains(broker));
            let at = own.or(broker).filter(|&at| {
                let too_far = broker.zip(time.max_ahead_us).is_some_and(|(broker, most)| at > broker + most);
                !too_far && time.min_us.is_none_or(|min| min <= at)
            });
            let Some(at) = at else {
                expected.dead_letters.push((partition, offset));
                continue;
            };
            expected.raw.push((partition, offset, at));
            told.push(Told { own: *own, broker, appended: partition == APPENDED });
            rows.push(Judged { origin: (partition, offset), user, at, value: *value, watermark: i64::MIN });
        }
        let before = watermarks(&told, time);
        judged.extend(rows.into_iter().zip(before).map(|(row, watermark)| Judged { watermark, ..row }));
    }
    (expected, judged)
}

struct Judged<'a> {
    origin: (i32, i64),
    user: &'a str,
    at: i64,
    value: i64,
    watermark: i64,
}

fn aggregate_all(rows: &[Judged<'_>], aggregate: &AggregateSpec) -> (Vec<Row>, Vec<(i32, i64)>) {
    let lateness = aggregate.allowed_lateness_us;
    let mut late = BTreeSet::new();
    let mut by_group: BTreeMap<(i64, i64, &str), (i64, i64)> = BTreeMap::new();
    let mut by_user: BTreeMap<&str, Vec<&Judged<'_>>> = BTreeMap::new();
    let times = || rows.iter().map(|row| row.at);
    let starts = match (aggregate.window, times().min(), times().max()) {
        (Window::Grid(Grid::Calendar(calendar)), Some(first), Some(last)) => calendar::starts(&calendar, first, last),
        _ => Vec::new(),
    };
    for row in rows {
        let windows: Vec<(i64, i64)> = match aggregate.window {
            Window::Grid(Grid::Even(Even { size, step, offset })) => {
                let newest = (row.at - offset).div_euclid(step) * step + offset;
                (0..size / step).map(|k| (newest - k * step, newest - k * step + size)).collect()
            }
            Window::Grid(Grid::Calendar(calendar)) => calendar::windows(&calendar, &starts, row.at),
            Window::Session { .. } => {
                if row.watermark != i64::MIN && row.at + lateness < row.watermark {
                    late.insert(row.origin);
                } else {
                    by_user.entry(row.user).or_default().push(row);
                }
                continue;
            }
        };
        let mut counted = false;
        for (start, end) in windows {
            if end + lateness > row.watermark {
                let state = by_group.entry((start, end, row.user)).or_default();
                *state = (state.0 + 1, state.1 + row.value);
                counted = true;
            }
        }
        if !counted {
            late.insert(row.origin);
        }
    }
    let mut out: Vec<Row> =
        by_group.into_iter().map(|((start, end, user), (n, sum))| (start, end, user.to_string(), n, sum)).collect();
    if let Window::Session { gap_us } = aggregate.window {
        for (user, mut rows) in by_user {
            rows.sort_by_key(|row| row.at);
            for session in rows.chunk_by(|a, b| b.at - a.at <= gap_us) {
                let (first, last) = (session[0].at, session[session.len() - 1].at);
                let total = session.iter().map(|row| row.value).sum();
                out.push((first, last + gap_us, user.to_string(), session.len() as i64, total));
            }
        }
    }
    out.sort();
    (out, late.into_iter().collect())
}
