//! Facts about rows on which an aggregate fails: what is kept, what is set aside, what it costs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmill_pipeline::dead_letter::{DeadLetter, Reason};
use wasmill_pipeline::error::{Class, Error};
use wasmill_pipeline::fault::{Cause, FaultPolicy, FaultReport, FaultRules, FaultyCall, Service, Suspects, Treatment};
use wasmill_pipeline::lane::parse_apart;
use wasmill_pipeline::plan::Plan;
use wasmill_pipeline::plugin::{Aggregate, Fault, FaultKind, Parsed, Parser, ParserDescription};
use wasmill_pipeline::record::RawBatch;
use wasmill_pipeline::spec::{AggregateSpec, PipelineSpec, TimeSpec, Window};
use wasmill_pipeline::testing::{POISON, TestParser, TestRecord, Touchy, raw_batch};
use wasmill_pipeline::time::trust::Trusted;
use wasmill_pipeline::worker::{Effect, Worker};

const PATIENT: FaultRules = FaultRules { policy: FaultPolicy::DeadLetter, breaker: 1.0, breaker_time_us: 50_000_000 };

const WATCHED: Service = Service::Watched(None);

/// One worker whose only aggregate makes sessions with a gap of 15 µs.
struct World {
    worker: Worker,
    next: i64,
    calls: Arc<AtomicU64>,
}

impl World {
    fn new(rules: FaultRules, service: Service) -> Self {
        Self::of(rules, service, false)
    }

    fn of(rules: FaultRules, service: Service, unmergeable: bool) -> Self {
        Self::with(Box::new(TestParser::default()), rules, service, unmergeable)
    }

    fn with(parser: Box<dyn Parser>, rules: FaultRules, service: Service, unmergeable: bool) -> Self {
        let calls = Arc::new(AtomicU64::new(0));
        let spec = PipelineSpec {
            time: TimeSpec {
                watermark_delay_us: 1_000_000,
                idle_timeout_us: None,
                max_ahead_us: None,
                ..TimeSpec::default()
            },
            aggregates: vec![AggregateSpec {
                name: "sessions".into(),
                window: Window::Session { gap_us: 15 },
                keys: vec!["user".into()],
                allowed_lateness_us: 0,
            }],
        };
        let touchy = Touchy::counting(calls.clone(), unmergeable);
        let descriptions = [touchy.description().clone()];
        let plan = Plan::new(&spec, "events", TestParser::default().description(), &descriptions, 1).unwrap();
        let mut worker = Worker::new(Arc::new(plan), 0, parser, vec![Box::new(touchy)]);
        worker.treat(Treatment { parser: rules, aggregates: vec![(rules, service)] });
        worker.assign(0, 0, Trusted::default());
        Self { worker, next: 0, calls }
    }

    /// Reads events of one user: (time, value).
    fn read(&mut self, events: &[(i64, i64)]) -> (Result<(), Error>, Seen) {
        let event = |&(time, value): &(i64, i64)| TestRecord::Event { user: "ann".into(), time: Some(time), value };
        let records: Vec<(TestRecord, i64)> = events.iter().map(|one| (event(one), 0)).collect();
        self.read_records(&records)
    }

    fn read_records(&mut self, records: &[(TestRecord, i64)]) -> (Result<(), Error>, Seen) {
        let mut effects = Vec::new();
        let read = self.worker.read(&raw_batch(0, self.next, records), &mut effects);
        self.next += records.len() as i64;
        (read, Seen::of(effects))
    }

    /// The sessions, once all are closed: (events, sum of values).
    fn sessions(mut self) -> Vec<(i64, i64)> {
        let mut effects = Vec::new();
        if let Some(last) = self.worker.last_close() {
            self.worker.drain(last, &mut effects).unwrap();
        }
        Seen::of(effects).closed
    }

    /// Rows counted, and rows set aside.
    fn accounts(&self) -> (u64, u64) {
        let shard = &self.worker.shards()[0];
        (shard.counts().counted, shard.counts().set_aside + self.worker.counts().set_aside[0])
    }
}

/// What a worker wanted written.
#[derive(Default)]
struct Seen {
    letters: Vec<DeadLetter>,
    reports: Vec<FaultReport>,
    closed: Vec<(i64, i64)>,
}

impl Seen {
    fn of(effects: Vec<Effect>) -> Self {
        let mut seen = Self::default();
        for effect in effects {
            match effect {
                Effect::DeadLetters(letters) => seen.letters.extend(letters),
                Effect::Fault(report) => seen.reports.push(*report),
                Effect::Closed(_, rows) => seen.closed.extend(numbers(&rows)),
                _ => {}
            }
        }
        seen
    }
}

fn numbers(rows: &RecordBatch) -> Vec<(i64, i64)> {
    let column = |name: &str| rows[name].as_primitive::<Int64Type>().values().to_vec();
    column("events").into_iter().zip(column("total")).collect()
}

fn cause(read: Result<(), Error>) -> Cause {
    let error = read.unwrap_err();
    assert_eq!(error.class(), Class::Plugin);
    match error {
        Error::Plugin(failure) => failure.cause,
        other => panic!("{other}"),
    }
}

#[test]
fn a_trusted_aggregate_that_fails_says_on_which_records() {
    let mut world = World::new(PATIENT, Service::Trusted);
    world.read(&[(100, 1)]).0.unwrap();
    let (read, _) = world.read(&[(100, 1), (101, POISON), (102, 1)]);
    assert_eq!(cause(read), Cause::Records(Suspects { partition: 0, first: 1, last: 3 }));
}

#[test]
fn only_suspect_records_are_tried_before_they_count() {
    let suspects = Suspects { partition: 0, first: 2, last: 3 };
    let mut world = World::new(PATIENT, Service::Watched(Some(suspects)));
    world.read(&[(100, 1), (100, 1)]).0.unwrap();
    let (read, seen) = world.read(&[(100, POISON)]);
    read.unwrap();
    assert_eq!(seen.letters.len(), 1);
    world.read(&[(100, 1), (100, 1)]).0.unwrap();
    let (read, _) = world.read(&[(100, POISON)]);
    assert_eq!(cause(read), Cause::Records(Suspects { partition: 0, first: 5, last: 5 }));
}

#[test]
fn a_poison_row_costs_twice_the_logarithm_of_its_batch() {
    let mut world = World::new(PATIENT, WATCHED);
    let mut events = vec![(100, 1); 4_096];
    events[1_234].1 = POISON;
    let (read, seen) = world.read(&events);
    read.unwrap();
    assert_eq!(seen.letters.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [1_234]);
    assert_eq!(world.calls.load(Ordering::Relaxed), 1 + 2 * 12, "one call for the whole, two for each halving");
    assert_eq!(world.accounts(), (4_095, 1));
    assert_eq!(world.sessions(), [(4_095, 4_095)]);
}

#[test]
fn a_row_set_aside_neither_opens_nor_merges_nor_grows_a_session() {
    let mut world = World::new(PATIENT, WATCHED);
    world.read(&[(100, 1), (120, 2)]).0.unwrap();
    let (read, seen) = world.read(&[(110, POISON), (200, POISON), (125, POISON), (101, 4)]);
    read.unwrap();
    assert_eq!(seen.letters.len(), 3);
    assert_eq!(world.worker.shards()[0].open_groups(), 2);
    assert_eq!(world.worker.last_close(), Some(120 + 15 + 1), "no session ends later than its own events say");
    assert_eq!(world.sessions(), [(2, 5), (1, 2)]);
}

#[test]
fn a_row_that_would_merge_sessions_that_cannot_be_merged_is_set_aside() {
    let mut world = World::of(PATIENT, WATCHED, true);
    let (read, seen) = world.read(&[(100, 1), (120, 2), (110, 4), (101, 8)]);
    read.unwrap();
    assert_eq!(seen.letters.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [2]);
    assert_eq!(world.sessions(), [(2, 9), (1, 2)]);
}

#[test]
fn a_report_has_all_that_it_takes_to_see_the_fault_again() {
    let mut world = World::new(PATIENT, WATCHED);
    world.read(&[(100, 7)]).0.unwrap();
    let (read, seen) = world.read(&[(101, POISON), (500, POISON)]);
    read.unwrap();
    let letter = &seen.letters[0];
    assert_eq!((letter.aggregate, letter.reason, letter.offset), (Some(0), Reason::PluginFault, 1));
    assert_eq!(letter.message, "touchy: trapped: poison");
    assert_eq!(letter.value.as_deref(), Some("ann 101 13".as_bytes()));
    let FaultyCall::Update { state, inputs } = &seen.reports[0].call else { panic!("{:?}", seen.reports[0]) };
    assert_eq!(*state, Some((1, [1i64.to_le_bytes(), 7i64.to_le_bytes()].concat())), "its slot before the row");
    assert_eq!(inputs[0].as_primitive::<Int64Type>().values().to_vec(), [POISON]);
    assert_eq!((seen.reports[0].origin, seen.reports[0].aggregate), ((0, 1), Some(0)));
    assert!(matches!(seen.reports[1].call, FaultyCall::Update { state: None, .. }), "a session of its own is new");
}

#[test]
fn more_faults_than_the_breaker_allows_end_the_bisection() {
    let rules = FaultRules { breaker: 0.01, ..PATIENT };
    let mut world = World::new(rules, WATCHED);
    let few = vec![(100, POISON); 9];
    world.read(&few).0.unwrap();
    let many = vec![(100, POISON); 500];
    assert_eq!(cause(world.read(&many).0), Cause::TooMany { faults: 10, seen: 509 });
}

#[test]
fn faults_are_counted_anew_after_a_cut() {
    let rules = FaultRules { breaker: 0.01, ..PATIENT };
    let mut world = World::new(rules, WATCHED);
    for number in 1..=3 {
        world.read(&[(100, POISON); 9]).0.unwrap();
        world.worker.begin_cut(number, &mut Vec::new());
        world.worker.finish_cut().unwrap();
        world.worker.go_on(None).unwrap();
    }
    assert_eq!(world.accounts(), (0, 27));
}

#[test]
fn the_policy_stop_names_the_record_and_still_reports_it() {
    let rules = FaultRules { policy: FaultPolicy::Stop, ..PATIENT };
    let mut world = World::new(rules, WATCHED);
    let (read, seen) = world.read(&[(100, 1), (101, 1), (102, POISON), (103, 1)]);
    assert_eq!(cause(read), Cause::Record { partition: 0, offset: 2 });
    assert_eq!(seen.reports[0].origin, (0, 2));
}

#[test]
fn an_aggregate_out_of_service_is_not_called_and_its_rows_are_kept() {
    let mut world = World::new(PATIENT, Service::Out("it trapped".into()));
    let (read, seen) = world.read(&[(100, 1), (101, POISON)]);
    read.unwrap();
    assert_eq!(world.calls.load(Ordering::Relaxed), 0);
    assert_eq!((seen.letters.len(), world.accounts()), (2, (0, 2)));
    assert_eq!(seen.letters[0].message, "out of service: it trapped");
    assert_eq!(seen.letters[1].value.as_deref(), Some("ann 101 13".as_bytes()));
}

#[test]
fn a_parser_that_fails_too_often_ends_the_run() {
    let mut world = World::new(FaultRules { breaker: 0.5, ..PATIENT }, Service::Trusted);
    let (read, seen) = world.read_records(&vec![(TestRecord::Poison, 0); 16]);
    assert_eq!(cause(read), Cause::TooMany { faults: 10, seen: 16 });
    assert!(seen.reports.iter().all(|report| report.aggregate.is_none()));
    assert_eq!(seen.reports.len(), 10);
}

/// What the parser never ends on.
const HANGS: i64 = 666;

/// What the parser needs more time for than there is for calls that others wait for.
const SLOW: i64 = 333;

/// A parser that takes its time with some values; its calls that missed their deadline are counted: soon, and at last.
#[derive(Default)]
struct Slow {
    inner: TestParser,
    missed: [usize; 2],
}

impl Slow {
    fn within(&mut self, batch: &RawBatch, too_long: &[i64]) -> Result<Parsed, Fault> {
        let is_slow = |payload: Option<&[u8]>| {
            let payload = payload.unwrap_or_default();
            too_long.iter().any(|value| payload.ends_with(format!(" {value}").as_bytes()))
        };
        if batch.values.iter().any(is_slow) {
            let (kind, message) = (FaultKind::Deadline, "too long".into());
            return Err(Fault { plugin: "slow".into(), kind, message, backtrace: Vec::new() });
        }
        self.inner.parse(batch)
    }
}

impl Parser for Slow {
    fn description(&self) -> &ParserDescription {
        self.inner.description()
    }

    fn parse(&mut self, batch: &RawBatch) -> Result<Parsed, Fault> {
        let parsed = self.within(batch, &[HANGS]);
        self.missed[1] += usize::from(parsed.is_err());
        parsed
    }

    fn parse_soon(&mut self, batch: &RawBatch) -> Result<Parsed, Fault> {
        let parsed = self.within(batch, &[HANGS, SLOW]);
        self.missed[0] += usize::from(parsed.is_err());
        parsed
    }
}

fn slow_world() -> World {
    World::with(Box::new(Slow::default()), PATIENT, Service::Trusted, false)
}

fn slow_batch(partition: i32, first: i64, values: &[i64]) -> RawBatch {
    let event = |&value: &i64| (TestRecord::Event { user: "ann".into(), time: Some(100), value }, 0);
    raw_batch(partition, first, &values.iter().map(event).collect::<Vec<_>>())
}

/// Reads all of a batch, with a parser beside that took so long for each part; what is found, and whether all was well.
fn read_beside(world: &mut World, raw: &RawBatch, beside: &mut Slow, took_us: i64) -> (Result<(), Error>, Seen) {
    let mut effects = Vec::new();
    let mut read = |world: &mut World| {
        let mut taken = world.worker.read_soon(raw, &mut effects)?;
        while taken < raw.len() {
            let rest = raw.slice(taken, raw.len());
            let pieces = parse_apart(beside, &rest);
            taken += world.worker.read_apart(&rest, pieces, took_us, &mut effects)?;
            taken += world.worker.read_soon(&raw.slice(taken, raw.len()), &mut effects)?;
        }
        Ok(())
    };
    let read = read(world);
    (read, Seen::of(effects))
}

#[test]
fn a_record_that_hangs_the_parser_costs_one_deadline_and_a_few_short_ones() {
    let (mut world, mut beside) = (slow_world(), Slow::default());
    let mut values = vec![1; 4_096];
    values[1_234] = HANGS;
    let (read, seen) = read_beside(&mut world, &slow_batch(0, 0, &values), &mut beside, 1);
    read.unwrap();
    assert_eq!(seen.letters.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [1_234]);
    assert_eq!(seen.reports[0].fault.kind, FaultKind::Deadline);
    assert!(beside.missed[0] <= 12 && beside.missed[1] == 1, "{:?}", beside.missed);
    assert_eq!(world.accounts(), (4_095, 0));
    assert_eq!(world.sessions(), [(4_095, 4_095)]);
}

#[test]
fn a_record_that_only_needs_its_time_is_a_row() {
    let (mut world, mut beside) = (slow_world(), Slow::default());
    let (read, seen) = read_beside(&mut world, &slow_batch(0, 0, &[1, SLOW, 1, SLOW, SLOW]), &mut beside, 1);
    read.unwrap();
    assert_eq!((seen.letters.len(), beside.missed[1]), (0, 0));
    assert_eq!(world.sessions(), [(5, 2 + 3 * SLOW)]);
}

#[test]
fn who_has_all_the_time_reads_the_same() {
    let mut values = [1, HANGS, SLOW, 2, HANGS];
    values.rotate_left(1);
    let (mut here, mut there) = (slow_world(), slow_world());
    let raw = slow_batch(0, 0, &values);
    let mut effects = Vec::new();
    here.worker.read(&raw, &mut effects).unwrap();
    let (read, seen) = read_beside(&mut there, &raw, &mut Slow::default(), 1);
    read.unwrap();
    let offsets = |seen: Seen| seen.letters.iter().map(|letter| letter.offset).collect::<Vec<_>>();
    assert_eq!((offsets(Seen::of(effects)), offsets(seen)), (vec![0, 3], vec![0, 3]));
    assert_eq!((here.accounts(), here.sessions()), (there.accounts(), there.sessions()));
}

#[test]
fn other_partitions_and_cuts_go_on_while_records_are_parsed_beside() {
    let mut world = slow_world();
    world.worker.assign(1, 0, Trusted::default());
    let (stuck, free) = (slow_batch(0, 0, &[1, 1, HANGS, 1]), slow_batch(1, 0, &[1, 1, 1]));
    let mut effects = Vec::new();
    assert_eq!(world.worker.read_soon(&stuck, &mut effects).unwrap(), 0);
    assert_eq!(world.worker.read_soon(&free, &mut effects).unwrap(), 3);
    world.worker.begin_cut(1, &mut Vec::new());
    let (_, cut) = world.worker.finish_cut().unwrap();
    assert_eq!(cut.partitions.iter().map(|of| of.next_offset).collect::<Vec<_>>(), [0, 3]);
    world.worker.go_on(None).unwrap();
    let pieces = parse_apart(&mut Slow::default(), &stuck);
    assert_eq!(world.worker.read_apart(&stuck, pieces, 1, &mut effects).unwrap(), 3);
    assert_eq!(world.worker.read_soon(&stuck.slice(3, 4), &mut effects).unwrap(), 1);
    assert_eq!(Seen::of(effects).letters.len(), 1);
    assert_eq!(world.sessions(), [(6, 6)]);
}

#[test]
fn records_that_hang_the_parser_for_too_long_in_intervals_in_a_row_end_the_run() {
    let mut world = slow_world();
    let mut number = 0;
    let mut interval = |world: &mut World, values: &[i64]| {
        let raw = slow_batch(0, world.next, values);
        world.next += values.len() as i64;
        let (read, _) = read_beside(world, &raw, &mut Slow::default(), 20_000_000);
        if read.is_ok() {
            number += 1;
            world.worker.begin_cut(number, &mut Vec::new());
            world.worker.finish_cut().unwrap();
            world.worker.go_on(None).unwrap();
        }
        read
    };
    for values in [&[HANGS][..], &[HANGS], &[1, SLOW], &[HANGS], &[HANGS, 1]] {
        interval(&mut world, values).unwrap();
    }
    assert_eq!(cause(interval(&mut world, &[1, HANGS])), Cause::TooLong { lost_us: 60_000_000 });
}
