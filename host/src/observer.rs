//! What people see of a running pipeline: the numbers of all its threads, put together.

use crate::accounting::Totals;
use crate::admin::control::{DifferentRow, ShadowOptions, ShadowReport};
use crate::admin::{self, Accounting, Checkpoint, State, Status};
use crate::alarms::InputAlarms;
use crate::assembly::Assembly;
use crate::capsule::Capsules;
use crate::clock;
use crate::config::Config;
use crate::coordinator::{End, Progress};
use crate::plugin::Component;
use crate::run::View;
use crate::shared::{Cost, Place, Shared, Standing, lock};
use crate::store::BesideRole;
use crate::telemetry::Rate;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use wasmill_pipeline::dead_letter::Reason;
use wasmill_pipeline::shadow::Example;
use wasmill_pipeline::time::NOTHING_SEEN;

/// A pipeline that is further behind than this many records is catching up.
const BEHIND: u64 = 10_000;

/// Brokers are asked every second; that none of them has answered for this long is no hiccup, µs.
const UNANSWERED_US: i64 = 10_000_000;

/// Puts the numbers together.
pub struct Observer {
    view: Arc<View>,
    capsules: Arc<Capsules>,
    files: Arc<Assembly>,
    names: Vec<String>,
    still: Status,
    rate: Mutex<Rate>,
    failure: Mutex<Option<String>>,
    alarms: Mutex<InputAlarms>,
}

impl Observer {
    /// Of a pipeline that is about to run.
    pub fn new(config: &Config, assembly: &Arc<Assembly>, view: Arc<View>) -> Self {
        let still = Status {
            pipeline: config.name.clone(),
            run: config.run.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since_us: clock::now_us(),
            checkpoint_interval_us: config.checkpoint.interval.as_micros() as i64,
            state_budget_bytes: config.limits.state_bytes,
            ..Status::default()
        };
        let names = assembly.outputs.in_force().to_vec();
        let capsules = assembly.capsules.clone();
        let has_event_time = assembly.plan.event_time.is_some();
        let topic = config.source.topic.clone();
        let alarms = InputAlarms::new(config.alarms.clone(), names.clone(), topic, has_event_time, Instant::now());
        Self {
            view,
            capsules,
            files: assembly.clone(),
            names,
            still,
            rate: Mutex::default(),
            failure: Mutex::default(),
            alarms: Mutex::new(alarms),
        }
    }

    /// Looks whether something is wrong with the input, and tells what is new. Call it a few times a second.
    pub fn watch(&self, now: Instant) {
        let Some(shared) = lock(&self.view.latest).clone() else { return };
        let partitions = partitions(&Totals::default(), &shared.standings(), Some(&*shared));
        let unread = partitions.iter().filter_map(|partition| partition.lag).sum();
        lock(&self.alarms).look(now, &shared, unread);
    }

    /// What is wrong with the input of the run as a whole, a sentence each.
    pub fn verdict(&self) -> Vec<String> {
        let Some(shared) = lock(&self.view.latest).clone() else { return Vec::new() };
        let totals = lock(&self.view.progress).totals.clone();
        lock(&self.alarms).verdict(&totals, &shared)
    }

    /// Notes that the pipeline ended, and why if it failed.
    pub fn ended(&self, failure: Option<String>) {
        lock(&self.view.progress).phase = "stopped";
        *lock(&self.failure) = failure;
    }

    /// The numbers of this moment.
    pub fn status(&self) -> Status {
        let shared = lock(&self.view.shared).clone();
        let progress = lock(&self.view.progress).clone();
        let standings = shared.as_ref().map(|shared| shared.standings()).unwrap_or_default();
        let totals = match &shared {
            Some(shared) => shared.totals(&self.names, &standings),
            None => lock(&self.view.base).clone(),
        };
        let now = Instant::now();
        let mut status = Status {
            generation: *lock(&self.view.generation),
            now_us: clock::now_us(),
            failure: lock(&self.failure).clone().or_else(|| self.dead()),
            assigned: shared.is_some(),
            records: totals.records,
            rows: totals.rows,
            filtered: totals.filtered,
            dead_letters: totals.dead_letters.clone(),
            fault_capsules: self.capsules.outcomes().into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
            broker_time_rows: totals.broker_time_rows,
            events_per_second: lock(&self.rate).observe(now, totals.records),
            aggregates: self.aggregates(&totals, &standings),
            partitions: partitions(&totals, &standings, shared.as_deref()),
            checkpoints: progress.made,
            plugins: self.plugins(&progress, &standings),
            trials: lock(&self.view.trials).clone(),
            swaps: self.view.history.counts(),
            swap_pause_us: progress.switch_pause.map(|pause| pause.as_micros() as i64),
            files: progress.files.clone(),
            alarms: lock(&self.alarms).on(now),
            ..self.still.clone()
        };
        if let Some(shared) = &shared {
            status.watermark_us = Some(lock(&shared.watermarks).current()).filter(|&w| w != NOTHING_SEEN);
        }
        status.checkpoint = progress.completed.map(|completed| Checkpoint {
            number: progress.checkpoint,
            created_at_us: status.now_us - completed.elapsed().as_micros() as i64,
            duration_us: progress.took.as_micros() as i64,
            pause_us: progress.pause.as_micros() as i64,
            bytes: progress.bytes,
        });
        status.accounting = accounting(&progress);
        status.holding = holding(&standings, clock::now_us());
        (status.state, status.detail) = self.state(&progress, &standings, &status);
        status
    }

    /// The parts of the process that died, in a sentence.
    fn dead(&self) -> Option<String> {
        let dead = self.view.parts.dead();
        (!dead.is_empty()).then(|| dead.join("; "))
    }

    fn plugins(&self, progress: &Progress, standings: &[Standing]) -> Vec<admin::Plugin> {
        let at_work = lock(&self.view.in_force).clone();
        let at_work = at_work.as_ref().unwrap_or(&self.files);
        let swapped = |name: &str| {
            let probation = progress.probation.as_ref()?;
            let here = probation.swaps.iter().any(|swap| swap.plugin == name);
            here.then_some((probation.boundary, probation.until))
        };
        let plugin = |(place, component): (Option<usize>, &Component)| admin::Plugin {
            name: component.name().to_owned(),
            digest: component.digest().to_owned(),
            path: component.path().display().to_string(),
            since_checkpoint: swapped(component.name()).map(|(boundary, _)| boundary),
            probation_until: swapped(component.name()).map(|(_, until)| until),
            retiring: place
                .and_then(|place| at_work.versions.retiring(place))
                .map(|version| version.component.digest().to_owned()),
            shadow: place.and_then(|place| shadow(at_work, place, progress, standings)),
        };
        let aggregates = at_work.versions.aggregates.iter().enumerate().map(|(place, of)| (Some(place), of));
        std::iter::once((None, &at_work.versions.parser)).chain(aggregates).map(plugin).collect()
    }

    fn aggregates(&self, totals: &Totals, standings: &[Standing]) -> Vec<admin::Aggregate> {
        let aggregate = |(index, name): (usize, &String)| {
            let of = totals.aggregates.get(name).cloned().unwrap_or_default();
            let sum = |of: fn(&Standing) -> &Vec<u64>| standings.iter().filter_map(|s| of(s).get(index)).sum();
            admin::Aggregate {
                name: name.clone(),
                counted: of.counted,
                late: of.late,
                set_aside: of.set_aside,
                out_of_service: lock(&self.view.faults).out_of_service(index).map(|why| why.to_string()),
                open_groups: sum(|standing| &standing.open_groups),
                state_bytes: sum(|standing| &standing.state_bytes),
                rows_out: of.closed,
            }
        };
        self.names.iter().enumerate().map(aggregate).collect()
    }

    fn state(&self, progress: &Progress, standings: &[Standing], status: &Status) -> (State, String) {
        if let Some(what) = lock(&self.view.waiting).clone() {
            let state = if progress.phase == "paused" { State::Paused } else { State::Waiting };
            return (state, what.trim_start_matches("paused, ").trim_start_matches("waiting ").to_owned());
        }
        let silent = || lock(&self.view.shared).as_ref().and_then(|shared| unanswered(shared, status.now_us));
        if let Some(what) = standings.iter().find_map(|standing| standing.trouble.clone()).or_else(silent) {
            return (State::Waiting, format!("for kafka: {what}"));
        }
        let state = match progress.phase {
            "running" if status.lag().is_some_and(|lag| lag > BEHIND) => State::CatchingUp,
            "running" => State::Running,
            "draining" | "stopping" => State::Draining,
            "stopped" => State::Stopped,
            _ => State::Starting,
        };
        (state, status.holding.join("; "))
    }

    /// How the run ended, in a sentence.
    pub fn summary(&self, end: &End) -> String {
        let totals = lock(&self.view.progress).totals.clone();
        let late: u64 = totals.aggregates.values().map(|a| a.late).sum();
        let (records, rows, filtered, untimed) =
            (totals.records, totals.rows, totals.filtered, totals.broker_time_rows);
        let dead = dead_letters(&totals);
        let books =
            if totals.mistakes().is_empty() { "the accounting closes" } else { "THE ACCOUNTING DOES NOT CLOSE" };
        let how = match end {
            End::Stopped => "stopped after the final checkpoint",
            End::Interrupted => "stopped without a final checkpoint",
            End::CaughtUp => "caught up after the final checkpoint",
            End::Unread(_) => "stopped after the final checkpoint with records unread",
            End::Away(_) => "stopped with records unread",
        };
        format!(
            "{how}: {records} records, {rows} rows ({untimed} with the broker's time), {dead}, {filtered} filtered, \
             {late} late{}; {books}{}",
            set_aside(&totals),
            self.out_of_service()
        )
    }

    /// `; OUT OF SERVICE: sessions (why)`, where that is so.
    fn out_of_service(&self) -> String {
        let faults = lock(&self.view.faults);
        let out = |(index, name): (usize, &String)| Some(format!("{name} ({})", faults.out_of_service(index)?));
        let out: Vec<String> = self.names.iter().enumerate().filter_map(out).collect();
        if out.is_empty() { String::new() } else { format!("; OUT OF SERVICE: {}", out.join(", ")) }
    }
}

/// `3 dead letters (malformed 2, missing 1)`: only the reasons that there were.
fn dead_letters(totals: &Totals) -> String {
    let of = totals.dead_letters.iter().filter(|&(_, &count)| count > 0);
    let reasons: Vec<String> = of.map(|(reason, count)| format!("{reason} {count}")).collect();
    let all = totals.all_dead_letters();
    if reasons.is_empty() {
        format!("{all} dead letters")
    } else {
        format!("{all} dead letters ({})", reasons.join(", "))
    }
}

/// `, 3 rows set aside (sessions 3)`, where there are any.
fn set_aside(totals: &Totals) -> String {
    let of = totals.aggregates.iter().filter(|(_, aggregate)| aggregate.set_aside > 0);
    let names: Vec<String> = of.map(|(name, aggregate)| format!("{name} {}", aggregate.set_aside)).collect();
    let all: u64 = totals.aggregates.values().map(|aggregate| aggregate.set_aside).sum();
    if names.is_empty() { String::new() } else { format!(", {all} rows set aside ({})", names.join(", ")) }
}

/// How an aggregate's shadow compares, if it has one.
fn shadow(at_work: &Assembly, place: usize, progress: &Progress, standings: &[Standing]) -> Option<ShadowReport> {
    let version = at_work.versions.shadow(place)?;
    let BesideRole::Shadow { from_us, since, key_sample, tolerance, .. } = &version.role else { return None };
    let name = at_work.versions.aggregates[place].name();
    let found = progress.shadows.get(name).cloned().unwrap_or_default();
    let cost = |at: Option<usize>| {
        let of = |standing: &Standing| standing.costs.0.get(at?).copied();
        standings.iter().filter_map(of).fold(Cost::default(), Cost::and).ns_per_row()
    };
    let example = |example: Example| DifferentRow {
        window_start_us: example.start_us,
        window_end_us: example.end_us,
        key: example.key,
        column: example.column,
        current: example.current,
        shadow: example.shadow,
    };
    Some(ShadowReport {
        plugin: name.to_owned(),
        current: at_work.versions.aggregates[place].digest().to_owned(),
        shadow: version.component.digest().to_owned(),
        since_checkpoint: *since,
        options: ShadowOptions {
            key_sample: (*key_sample < 1.0).then_some(*key_sample),
            next_windows: from_us.is_some(),
            tolerance: tolerance.clone(),
        },
        compared: found.compared,
        equal: found.equal,
        different: found.different,
        only_current: found.only_current,
        only_shadow: found.only_shadow,
        examples: found.examples.into_iter().map(example).collect(),
        current_ns_per_row: cost(Some(place)),
        shadow_ns_per_row: cost(at_work.plan.shadow(place)),
        failed: found.failed,
    })
}

fn partitions(totals: &Totals, standings: &[Standing], shared: Option<&Shared>) -> Vec<admin::Partition> {
    let mut all: BTreeMap<i32, Place> = BTreeMap::new();
    for standing in standings {
        all.extend(&standing.partitions);
    }
    let mark = |partition| shared.and_then(|shared| lock(&shared.watermarks).partition(partition));
    let partition = |(partition, place): (i32, Place)| {
        let mark = mark(partition);
        let counts = totals.partitions.get(&partition).copied().unwrap_or_default();
        let reasons = Reason::ALL.iter().zip(counts.dead_letters).filter(|&(_, count)| count > 0);
        admin::Partition {
            partition,
            next_offset: place.next_offset,
            high: place.high,
            lag: place.lag,
            watermark_us: mark.map(|mark| mark.watermark_us).filter(|&w| w != NOTHING_SEEN),
            idle: mark.is_some_and(|mark| mark.idle),
            records: counts.records,
            rows: counts.rows,
            broker_time_rows: counts.broker_time,
            unreadable_times: counts.unreadable,
            suspect_rows: counts.suspects,
            dead_letters: reasons.map(|(reason, count)| (reason.as_str().to_owned(), count)).collect(),
            behind_transaction_since_us: place.held.map(|held| held.since_us),
        }
    };
    all.into_iter().map(partition).collect()
}

/// How long records may take the parser before people are told that they hold the watermark, µs: to find one takes a few
/// deadlines.
const SLOW_US: i64 = 60_000_000;

/// Since when brokers have not answered, if that is long ago.
fn unanswered(shared: &Shared, now_us: i64) -> Option<String> {
    let silent_us = shared.lookout.now_us() - shared.lookout.last().asked_us;
    let since = clock::text(now_us - silent_us);
    (silent_us > UNANSWERED_US).then(|| format!("no answer from the brokers since {since}"))
}

/// The partitions that have waited for long, in words: for a transaction to end, or a record that takes the parser long.
fn holding(standings: &[Standing], now_us: i64) -> Vec<String> {
    let words = |(partition, place): (&i32, &Place)| {
        let slow = place.slow_since_us.filter(|since_us| now_us - since_us > SLOW_US);
        let (since_us, what) = match place.held.filter(|held| held.long) {
            Some(held) => (held.since_us, "waits behind an open transaction"),
            None => (slow?, "waits for records that take the parser too long"),
        };
        Some(format!("partition {partition} {what} since {}", clock::text(since_us)))
    };
    standings.iter().flat_map(|standing| &standing.partitions).filter_map(words).collect()
}

fn accounting(progress: &Progress) -> Accounting {
    let closed = progress.accounting.is_empty();
    let message = if closed {
        let t = &progress.totals;
        let (dead, filtered) = (t.all_dead_letters(), t.filtered);
        format!("{} records = {} parsed + {dead} dead letters + {filtered} filtered", t.records, t.parsed)
    } else {
        progress.accounting.join("; ")
    };
    Accounting { closed, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::AggregateTotals;

    #[test]
    fn dead_letters_are_told_by_reason() {
        let letters = [("missing", 1), ("malformed", 2), ("invalid", 0)].map(|(why, n)| (why.to_owned(), n)).into();
        let totals = Totals { dead_letters: letters, ..Totals::default() };
        assert_eq!(dead_letters(&totals), "3 dead letters (malformed 2, missing 1)");
        assert_eq!(dead_letters(&Totals::default()), "0 dead letters");
    }

    #[test]
    fn rows_set_aside_are_told_by_aggregate() {
        let sessions = AggregateTotals { set_aside: 3, ..AggregateTotals::default() };
        let aggregates = [("sessions".to_owned(), sessions), ("pages".to_owned(), AggregateTotals::default())].into();
        assert_eq!(set_aside(&Totals { aggregates, ..Totals::default() }), ", 3 rows set aside (sessions 3)");
        assert_eq!(set_aside(&Totals::default()), "");
    }
}
