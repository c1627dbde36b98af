//! `wasmill generate`: paces a generator and writes its records to a topic or a file.

use crate::kafka::{self, Producer};
use arrow_array::{Array, BinaryArray};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The most records that are made at once: what the plugin contract is measured with.
const BATCH: u64 = 4096;

/// At moderate rates a batch holds what is due in this time, so that records come evenly.
const TICK: Duration = Duration::from_millis(10);

/// The longest sleep without a look at the stop flag.
const NAP: Duration = Duration::from_millis(50);

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Makes records: a generator plugin, or code in tests.
///
/// Record n is a pure function of the generator's configuration and seed, n and its time, whatever batch it is in.
pub trait RecordSource {
    /// The payloads and, where they have keys, the keys of the records `first`, `first + 1`, ...: one for each of
    /// `times_us`, µs since the Unix epoch, never decreasing.
    ///
    /// # Errors
    /// What went wrong, for people.
    fn generate(&mut self, first: u64, times_us: &[i64]) -> Result<(BinaryArray, Option<BinaryArray>), String>;
}

/// Where the records go.
pub enum Destination<'a> {
    /// A topic, by key where there is one.
    Topic(&'a Producer),
    /// NDJSON: a payload a line. A payload with a line feed in it is refused: it would be two.
    Lines(&'a mut dyn Write),
}

/// How many records, when, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Records a second. 0 = as fast as they are taken.
    pub rate: f64,
    /// How many records to make; none = until stopped.
    pub count: Option<u64>,
    /// The index of the first record: where an earlier run stopped.
    pub first: u64,
    /// When record 0 happens, µs since the Unix epoch. None = so that the span ends now, or, without a span, each
    /// record happens when it is made.
    pub start_time_us: Option<i64>,
    /// Spreads the event times of the records `0..first + count` evenly over this time, for a backlog as it would have
    /// come in.
    pub span: Option<Duration>,
}

/// Keeps the writer from running ahead of the reader, for a broker that forgets what is not read in time.
pub struct Pacing<'a> {
    /// How many of the records written in this run were read, as of now.
    pub consumed: &'a dyn Fn() -> u64,
    /// How many bytes may be written but not yet read.
    pub most_bytes: usize,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records made and handed over.
    pub records: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Records that the broker never took. Always 0 for a file.
    pub failed: u64,
    /// The index to go on with: `--first` of the next run.
    pub next: u64,
}

/// What ended a run before its time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options do not fit together.
    #[error("{0}")]
    Options(String),
    /// The generator failed.
    #[error("generator failed: {0}")]
    Generator(String),
    /// The producer failed.
    #[error("records cannot be sent")]
    Kafka(#[from] kafka::Error),
    /// The file cannot be written.
    #[error("records cannot be written")]
    Write(#[from] io::Error),
}

/// Makes records until `count` is reached or `stop` is set, and waits until they are delivered.
///
/// `now_us` is the clock, µs since the Unix epoch. Progress and waits are told to `tell`, a line each.
///
/// # Errors
/// See [`Error`]. A broker that is away is not one: the run waits for it, and says so.
pub fn run(
    source: &mut dyn RecordSource,
    destination: &mut Destination<'_>,
    options: &Options,
    pacing: Option<&Pacing<'_>>,
    now_us: &dyn Fn() -> i64,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    let times = Times::new(options, now_us())?;
    let mut run = Run {
        destination,
        stop,
        tell,
        report: Report { next: options.first, ..Report::default() },
        told: Instant::now(),
    };
    let started = Instant::now();
    let mut unread = VecDeque::new();
    let mut times_us = Vec::new();
    while !run.stopped() {
        let left = options.count.map_or(u64::MAX, |count| count.saturating_sub(run.report.records));
        let due = due(options.rate, started.elapsed()).saturating_sub(run.report.records);
        if left == 0 {
            break;
        }
        run.tell_progress(options, started);
        if due == 0 || pacing.is_some_and(|pacing| bytes_unread(&mut unread, (pacing.consumed)()) >= pacing.most_bytes)
        {
            std::thread::sleep(if due == 0 {
                until_due(options.rate, run.report.records, started.elapsed())
            } else {
                Duration::from_millis(2)
            });
            continue;
        }
        // With pacing a batch is a small part of what may be in flight.
        let most = if pacing.is_some() { BATCH / 16 } else { BATCH };
        times.fill(&mut times_us, run.report.next, left.min(due).min(most), now_us());
        let (values, keys) = source.generate(run.report.next, &times_us).map_err(Error::Generator)?;
        check(&values, keys.as_ref(), times_us.len())?;
        let bytes = run.write(&values, keys.as_ref(), &times_us)?;
        unread.push_back((run.report.records, bytes));
    }
    run.finish()
}

/// A run under way.
struct Run<'a, 'b> {
    destination: &'a mut Destination<'b>,
    stop: &'a AtomicBool,
    tell: &'a mut dyn FnMut(&str),
    report: Report,
    told: Instant,
}

impl Run<'_, '_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Writes a batch, or its first records where the run is stopped meanwhile. How many bytes went out.
    fn write(&mut self, values: &BinaryArray, keys: Option<&BinaryArray>, times_us: &[i64]) -> Result<usize, Error> {
        let mut bytes = 0;
        for (row, time_us) in times_us.iter().enumerate() {
            let value = values.is_valid(row).then(|| values.value(row));
            match &mut self.destination {
                Destination::Topic(producer) => {
                    let key = keys.filter(|keys| keys.is_valid(row)).map(|keys| keys.value(row));
                    while !producer.send(None, key, value, time_us.div_euclid(1000), NAP)? {
                        if self.stop.load(Ordering::Relaxed) {
                            return Ok(bytes);
                        }
                        if self.told.elapsed() >= TELL_EVERY {
                            self.told = Instant::now();
                            let why = producer.take_complaint();
                            (self.tell)(&format!("waiting for the broker: {}", why.as_deref().unwrap_or("queue full")));
                        }
                    }
                }
                Destination::Lines(out) => {
                    let value = value.unwrap_or_default();
                    if value.contains(&b'\n') {
                        let index = self.report.next;
                        return Err(Error::Generator(format!("a payload has a line feed in it: record={index}")));
                    }
                    out.write_all(value)?;
                    out.write_all(b"\n")?;
                }
            }
            let length = value.map_or(0, <[u8]>::len);
            bytes += length;
            self.report.bytes += length as u64;
            self.report.records += 1;
            self.report.next += 1;
        }
        Ok(bytes)
    }

    fn tell_progress(&mut self, options: &Options, started: Instant) {
        if self.told.elapsed() < TELL_EVERY {
            return;
        }
        self.told = Instant::now();
        let rate = self.report.records as f64 / started.elapsed().as_secs_f64();
        let of = options.count.map_or_else(String::new, |count| format!(" of {count}"));
        (self.tell)(&format!("{}{of} records, {rate:.0} a second", self.report.records));
    }

    /// Waits until everything is delivered: as long as it takes, but no more than five seconds once stopped.
    fn finish(mut self) -> Result<Report, Error> {
        match self.destination {
            Destination::Lines(out) => out.flush()?,
            Destination::Topic(producer) => {
                let mut patience = 0;
                while !producer.flush(Duration::from_secs(1)) {
                    patience += 1;
                    if self.stop.load(Ordering::Relaxed) && patience >= 5 {
                        break;
                    }
                    if self.told.elapsed() >= TELL_EVERY {
                        self.told = Instant::now();
                        let why = producer.take_complaint();
                        let why = why.as_deref().unwrap_or("no answer yet");
                        (self.tell)(&format!("{} records are not delivered yet: {why}", producer.in_flight()));
                    }
                }
                self.report.failed = producer.delivered().failed + producer.in_flight();
            }
        }
        Ok(self.report)
    }
}

/// When each record happens.
enum Times {
    /// When it is made.
    Now,
    /// Record n at `start_us + n * step_us`.
    Even { start_us: i64, step_us: f64 },
}

impl Times {
    fn new(options: &Options, now_us: i64) -> Result<Self, Error> {
        if !(options.rate.is_finite() && options.rate >= 0.0) {
            return Err(Error::Options(format!("rate is 0 or more: rate={}", options.rate)));
        }
        let span_us = options.span.map(|span| i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
        let step_us = match (span_us, options.count) {
            (Some(span_us), Some(count)) => span_us as f64 / (options.first.saturating_add(count)).max(1) as f64,
            (Some(_), None) => return Err(Error::Options("a span needs a count to spread over it".to_owned())),
            (None, _) if options.rate > 0.0 => 1e6 / options.rate,
            (None, _) => 0.0,
        };
        Ok(match (options.start_time_us, span_us) {
            (Some(start_us), _) => Self::Even { start_us, step_us },
            (None, Some(span_us)) => Self::Even { start_us: now_us.saturating_sub(span_us), step_us },
            (None, None) => Self::Now,
        })
    }

    fn fill(&self, times_us: &mut Vec<i64>, first: u64, count: u64, now_us: i64) {
        times_us.clear();
        match self {
            Self::Now => times_us.resize(count as usize, now_us),
            Self::Even { start_us, step_us } => times_us.extend(
                (first..first.saturating_add(count)).map(|n| start_us.saturating_add((n as f64 * step_us) as i64)),
            ),
        }
    }
}

/// How many records should have been made by now.
fn due(rate: f64, elapsed: Duration) -> u64 {
    if rate == 0.0 { u64::MAX } else { (rate * elapsed.as_secs_f64()) as u64 + 1 }
}

/// How long until the next record is due, or the next few where they come fast.
fn until_due(rate: f64, made: u64, elapsed: Duration) -> Duration {
    let next = Duration::try_from_secs_f64(made as f64 / rate).unwrap_or(NAP);
    next.saturating_sub(elapsed).clamp(TICK, NAP)
}

/// The bytes of batches that are not read whole. Each entry: how many records there were after it, and its bytes.
fn bytes_unread(batches: &mut VecDeque<(u64, usize)>, consumed: u64) -> usize {
    while batches.front().is_some_and(|(records, _)| *records <= consumed) {
        batches.pop_front();
    }
    batches.iter().map(|(_, bytes)| bytes).sum()
}

fn check(values: &BinaryArray, keys: Option<&BinaryArray>, wanted: usize) -> Result<(), Error> {
    let made = values.len();
    if made != wanted || keys.is_some_and(|keys| keys.len() != wanted) {
        let keys = keys.map_or(made, Array::len);
        return Err(Error::Generator(format!("wrong number of records: wanted={wanted} values={made} keys={keys}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
