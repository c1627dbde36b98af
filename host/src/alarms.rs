//! Alarms in words: what is counted of a running pipeline is shown to the machine, and what it says becomes sentences.

use crate::accounting::Totals;
use crate::admin;
use crate::clock;
use crate::config::format_duration;
use crate::shared::{Letter, Shared, Standing};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmill_pipeline::alarm::{AlarmRules, Alarms, Change, Counts, Kind, Ongoing, Subject, Tally, Word};
use wasmill_pipeline::lane::PartitionCounts;

/// A sentence names so many partitions and reasons at most: those with the most that is wrong.
const MOST: usize = 3;

/// What may be said of a pipeline's input, and the last examples.
pub struct InputAlarms {
    machine: Alarms,
    /// The names of the aggregates in force, in the order of the counts.
    names: Vec<String>,
    topic: String,
    /// Whether events have a time of their own at all.
    has_event_time: bool,
    began: Instant,
    /// The attempt that was looked at last.
    attempt: Option<Arc<Shared>>,
    /// What had been counted before this process.
    before: Option<Totals>,
    letters: BTreeMap<String, Letter>,
}

impl InputAlarms {
    /// Of a pipeline whose aggregates have these names.
    pub fn new(rules: AlarmRules, names: Vec<String>, topic: String, has_event_time: bool, now: Instant) -> Self {
        let (machine, letters) = (Alarms::new(rules), BTreeMap::new());
        Self { machine, names, topic, has_event_time, began: now, attempt: None, before: None, letters }
    }

    /// Looks at an attempt, and tells what is new. Call it a few times a second.
    pub fn look(&mut self, now: Instant, shared: &Arc<Shared>, unread: u64) {
        let now_us = self.at(now);
        if self.attempt.as_ref().is_none_or(|attempt| !Arc::ptr_eq(attempt, shared)) {
            self.attempt = Some(shared.clone());
            self.before.get_or_insert_with(|| shared.base.clone());
            self.machine.begin(now_us, &self.counts(&shared.base));
        }
        let standings = shared.standings();
        self.keep_examples(&standings);
        let totals = shared.totals(&self.names, &standings);
        let mut words = self.machine.look(now_us, &self.counts(&totals));
        words.extend(self.machine.look_at_reading(now_us, totals.records, unread));
        for word in words {
            let (subject, sentence) = (&word.subject, self.sentence(&word));
            match &word.change {
                Change::Begun => tracing::warn!("alarm {subject}: {sentence}"),
                Change::GoesOn { for_us, before } => {
                    let (long, before) = (span(*for_us), percent(before.share()));
                    tracing::warn!("alarm {subject} goes on for {long}, {before} % before: {sentence}");
                }
                Change::Over => tracing::info!("alarm {subject} is over: {}", how_many(&word)),
            }
        }
    }

    /// The alarms that are on.
    pub fn on(&self, now: Instant) -> Vec<admin::Alarm> {
        let (now_us, wall_us) = (self.at(now), clock::now_us());
        let alarm = |(subject, on): (&Subject, &Ongoing)| {
            let (counts, within_us) = (on.counts.clone(), Some(on.within_us));
            let word = Word { subject: subject.clone(), change: Change::Begun, counts, within_us };
            admin::Alarm {
                kind: subject.kind.as_str().to_owned(),
                aggregate: subject.aggregate.clone(),
                since_us: wall_us - (now_us - on.since_us),
                message: self.sentence(&word),
                unready: self.machine.rules().unready,
            }
        };
        self.machine.on().map(alarm).collect()
    }

    /// What is to be said at the end of a run that has counted this since the first checkpoint, and whose last attempt
    /// this was.
    pub fn verdict(&mut self, totals: &Totals, shared: &Shared) -> Vec<String> {
        self.keep_examples(&shared.standings());
        let before = self.counts(self.before.as_ref().unwrap_or(&shared.base));
        let mut counts = self.counts(totals);
        for (subject, counts) in &mut counts {
            *counts = counts.since(before.get(subject).unwrap_or(&Counts::default()));
        }
        self.machine.verdict(&counts).iter().map(|word| self.sentence(word)).collect()
    }

    fn at(&self, now: Instant) -> i64 {
        now.saturating_duration_since(self.began).as_micros() as i64
    }

    fn keep_examples(&mut self, standings: &[Standing]) {
        self.letters.extend(standings.iter().flat_map(|standing| standing.letters.clone()));
    }

    fn counts(&self, totals: &Totals) -> BTreeMap<Subject, Counts> {
        let by_partition = |tally: &dyn Fn(&PartitionCounts) -> Tally| {
            let tally = |(&partition, counts): (&i32, &PartitionCounts)| (partition, tally(counts));
            totals.partitions.iter().map(tally).collect::<BTreeMap<i32, Tally>>()
        };
        let all = |count: &dyn Fn(&PartitionCounts) -> u64| totals.partitions.values().map(count).sum();
        let mut found = BTreeMap::new();
        let dead = |counts: &PartitionCounts| Tally { wrong: counts.dead_letters.iter().sum(), all: counts.records };
        let dead_letters = Counts {
            total: Tally { wrong: totals.all_dead_letters(), all: totals.records },
            partitions: by_partition(&dead),
            reasons: totals.dead_letters.clone(),
        };
        found.insert(Subject::of_all(Kind::DeadLetters), dead_letters);
        let mut note = |subject, wrong, all, partitions| {
            found.insert(subject, Counts { total: Tally { wrong, all }, partitions, ..Counts::default() });
        };
        note(Subject::of_all(Kind::Filtered), totals.filtered, totals.records, BTreeMap::new());
        if self.has_event_time {
            let partitions = by_partition(&|counts| Tally { wrong: counts.broker_time, all: counts.rows });
            note(Subject::of_all(Kind::BrokerTime), totals.broker_time_rows, totals.rows, partitions);
            let partitions = by_partition(&|counts| Tally { wrong: counts.unreadable, all: counts.rows });
            note(Subject::of_all(Kind::Unreadable), all(&|counts| counts.unreadable), totals.rows, partitions);
            let partitions = by_partition(&|counts| Tally { wrong: counts.suspects, all: counts.rows });
            note(Subject::of_all(Kind::Suspects), all(&|counts| counts.suspects), totals.rows, partitions);
        }
        for name in &self.names {
            // One that has counted nothing yet is there, too, so that its first interval begins with the attempt.
            let of = totals.aggregates.get(name).cloned().unwrap_or_default();
            note(Subject::of(Kind::Late, name), of.late, totals.rows, BTreeMap::new());
            note(Subject::of(Kind::SetAside, name), of.set_aside, totals.rows, BTreeMap::new());
        }
        found
    }

    /// How much is wrong, with an example, where, and what to do.
    fn sentence(&self, word: &Word) -> String {
        let Word { subject, counts, .. } = word;
        let mut text = how_many(word);
        if let Some(example) = self.example(counts) {
            let _ = write!(text, " ({example})");
        }
        if let Some(&share) = self.machine.rules().shares.get(&subject.kind) {
            let (found, limit) = (percent(counts.total.share()), percent(share));
            let _ = write!(text, ", {found} % where {limit} % is an alarm");
        }
        let reasons = most(counts.reasons.iter().map(|(reason, &count)| (count, format!("{reason} {count}"))));
        if reasons.len() > 1 {
            let _ = write!(text, "; {}", reasons.join(", "));
        }
        let partition = |(partition, tally): (&i32, &Tally)| {
            (tally.wrong, format!("{} of {} in partition {partition}", tally.wrong, tally.all))
        };
        if counts.partitions.len() > 1 {
            let _ = write!(text, "; {}", most(counts.partitions.iter().map(partition)).join(", "));
        }
        text + &advice(subject)
    }

    /// The last dead letter of the reason that most have.
    fn example(&self, counts: &Counts) -> Option<String> {
        let (reason, _) = counts.reasons.iter().filter(|(_, count)| **count > 0).max_by_key(|(_, count)| **count)?;
        let Letter { partition, offset, message } = self.letters.get(reason)?;
        Some(format!("{reason}: {message} topic={} partition={partition} offset={offset}", self.topic))
    }
}

/// `40 of 60 records in the last 1m are dead letters`.
fn how_many(word: &Word) -> String {
    let Tally { wrong, all } = word.counts.total;
    let within = word.within_us.map(span);
    if word.subject.kind == Kind::Unread {
        return match word.change {
            Change::Over => "records are read again, or none is there".to_owned(),
            _ => format!("no record was read for {}, though {wrong} are there", within.unwrap_or_default()),
        };
    }
    let within = within.map(|within| format!(" in the last {within}")).unwrap_or_default();
    let aggregate = word.subject.aggregate.as_deref().unwrap_or_default();
    let (of, what) = match word.subject.kind {
        Kind::DeadLetters => ("records", "are dead letters".to_owned()),
        Kind::Filtered | Kind::Unread => ("records", "are no events: tombstones, or left out by the parser".to_owned()),
        Kind::BrokerTime => ("rows", "have no event time that can be read, and took the broker's".to_owned()),
        Kind::Unreadable => ("rows", "have an event time that cannot be read".to_owned()),
        Kind::Suspects => {
            ("rows", "claimed a time far ahead of all before them, and the next rows refuted that".to_owned())
        }
        Kind::Late => ("rows", format!("came too late for {aggregate}")),
        Kind::SetAside => ("rows", format!("are kept from {aggregate}, as its plugin fails")),
    };
    format!("{wrong} of {all} {of}{within} {what}")
}

/// Where to look, and what may help.
fn advice(subject: &Subject) -> String {
    let aggregate = subject.aggregate.as_deref().unwrap_or_default();
    match subject.kind {
        Kind::DeadLetters => "; they are in _dead_letters with their bytes".to_owned(),
        Kind::Filtered => String::new(),
        Kind::BrokerTime => "; events_raw has them, and wasmill run --tap raw shows records".to_owned(),
        Kind::Unreadable => "; the column rescue of events_raw has their texts".to_owned(),
        Kind::Suspects => {
            "; some clock is wrong: these rows count in windows of their own times, and move no watermark".to_owned()
        }
        Kind::Late => format!(
            "; they are in _late/{aggregate}; a longer time.watermark_delay, or allowed_lateness of the aggregate, \
             takes them"
        ),
        Kind::SetAside => {
            format!("; they are in _dead_letters, and wasmill status says what is wrong with {aggregate}")
        }
        Kind::Unread => "; wasmill status says which partitions they are in, and what it waits for".to_owned(),
    }
}

/// The texts with the greatest counts, at most [`MOST`] and none of 0, greatest first.
fn most(texts: impl Iterator<Item = (u64, String)>) -> Vec<String> {
    let mut texts: Vec<(u64, String)> = texts.filter(|(count, _)| *count > 0).collect();
    texts.sort_by(|(a, x), (b, y)| b.cmp(a).then(x.cmp(y)));
    texts.into_iter().take(MOST).map(|(_, text)| text).collect()
}

/// A share as a number of hundredths: short, and no small one is nothing.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = if percent >= 0.1 { 10.0 } else { 10_000.0 };
    format!("{}", (percent * decimals).round() / decimals)
}

/// A time in whole seconds.
fn span(us: i64) -> String {
    let seconds = Duration::from_micros(us.unsigned_abs()).as_secs_f64().round() as u64;
    format_duration(Duration::from_secs(seconds))
}
