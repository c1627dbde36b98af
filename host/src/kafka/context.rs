//! What librdkafka says besides records: logs, outages, watermarks and failed commits.

use super::Settings;
use super::words::{plain, without_a_reason};
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wasmill_pipeline::time::reach::End;

/// How often an outage that goes on is told again.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// After so many reports of librdkafka's statistics (one a second) without a connection it counts as an outage.
const SILENT_REPORTS: u32 = 2;

/// The context of a client that reads one topic, or only asks questions.
#[derive(Debug)]
pub(super) struct Context {
    topic: String,
    /// The addresses of the settings.
    bootstrap: String,
    known: Mutex<Known>,
    commit_failed: AtomicBool,
    /// How many of librdkafka's events were served.
    events: AtomicU64,
    /// How many times the topic was seen to be another one of the same name.
    made_anew: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    /// The last thing that librdkafka complained about, in plain words.
    complaint: Option<String>,
    down: bool,
    silent_reports: u32,
    told: Option<Instant>,
    /// Where each partition's reader met an end, and what it could not go beyond, as of the last statistics.
    ends: BTreeMap<i32, End>,
    /// How many statistics came.
    reports: u64,
    /// How many reports in a row said of a partition that it has no leader.
    leaderless: BTreeMap<i32, u32>,
}

impl Context {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            topic: settings.topic.clone(),
            bootstrap: settings.bootstrap.clone(),
            known: Mutex::default(),
            commit_failed: AtomicBool::new(false),
            events: AtomicU64::new(0),
            made_anew: AtomicU64::new(0),
        }
    }

    /// What is wrong between this client and the brokers, at most once every few seconds. `local` is a trouble of one
    /// partition, told when the brokers as such are there.
    pub(super) fn outage(&self, local: Option<&str>) -> Option<String> {
        let mut known = self.lock();
        if !known.down && local.is_none() {
            known.told = None;
            return None;
        }
        if known.told.is_some_and(|told| told.elapsed() < TELL_AGAIN) {
            return None;
        }
        known.told = Some(Instant::now());
        Some(match local {
            Some(local) if !known.down => local.to_owned(),
            _ => known.complaint.clone().unwrap_or_else(|| format!("no broker of {} answers", self.bootstrap)),
        })
    }

    /// The last thing that librdkafka complained about.
    pub(super) fn complaint(&self) -> Option<String> {
        self.lock().complaint.clone()
    }

    /// The ends that readers had met by the last statistics, where those are newer than the number in `known`.
    pub(super) fn ends(&self, known: &mut u64) -> BTreeMap<i32, End> {
        let told = self.lock();
        if std::mem::replace(known, told.reports) == told.reports { BTreeMap::new() } else { told.ends.clone() }
    }

    /// Whether the partition has had no leader for a while: nothing can be read of it, and librdkafka says nothing.
    pub(super) fn leaderless(&self, partition: i32) -> bool {
        self.lock().leaderless.get(&partition).is_some_and(|reports| *reports >= SILENT_REPORTS)
    }

    /// How many of librdkafka's events were served so far.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// How many times so far the topic was seen to be another one of the same name.
    pub(super) fn made_anew(&self) -> u64 {
        self.made_anew.load(Ordering::Relaxed)
    }

    /// Whether a line of librdkafka's log says that the topic has another id than before. There is no other way to
    /// learn of it: librdkafka 2.12 goes on reading the new topic at the old offset.
    fn tells_of_another_topic(&self, message: &str) -> bool {
        let of = format!("Topic {} changed id from ", self.topic);
        let Some((_, ids)) = message.split_once(&of) else { return false };
        let (old, _) = ids.split_once(" to ").unwrap_or((ids, ""));
        // The first id that is heard of replaces one of all zeros.
        old.bytes().any(|byte| byte != b'A' && byte != b'=')
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts of librdkafka's `STATISTICS.md` that are of use here.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    brokers: BTreeMap<String, BrokerStatistics>,
    #[serde(default)]
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct BrokerStatistics {
    state: String,
}

#[derive(Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: BTreeMap<i32, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    eof_offset: i64,
    ls_offset: i64,
    leader: i32,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.fetch_add(1, Ordering::Relaxed);
        if self.tells_of_another_topic(message) {
            self.made_anew.fetch_add(1, Ordering::Relaxed);
        }
        log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let statistics: Statistics = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => return tracing::debug!(%error, "librdkafka's statistics cannot be read"),
        };
        let mut known = self.lock();
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            known.down = false;
            known.silent_reports = 0;
        } else {
            known.silent_reports += 1;
            known.down |= known.silent_reports >= SILENT_REPORTS;
        }
        known.reports += 1;
        known.ends.clear();
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        for (partition, offsets) in &topic.partitions {
            // -1001 before it has met an end.
            if *partition >= 0 && offsets.eof_offset >= 0 {
                known.ends.insert(*partition, End { met: offsets.eof_offset, stable: offsets.ls_offset });
            }
            let reports = known.leaderless.entry(*partition).or_default();
            *reports = if offsets.leader < 0 { reports.saturating_add(1) } else { 0 };
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let code = error.rdkafka_error_code();
        // These concern one partition, and its queue tells them.
        if matches!(code, Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::AutoOffsetReset)) {
            return;
        }
        tracing::debug!(%error, reason, "kafka client");
        let mut known = self.lock();
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            known.down = true;
            // The complaint before it says more.
            known.complaint.get_or_insert_with(|| without_a_reason(&self.bootstrap));
        } else {
            known.complaint = Some(plain(reason, &self.bootstrap));
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        self.events.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(()) => self.commit_failed.store(false, Ordering::Relaxed),
            Err(error) if self.commit_failed.swap(true, Ordering::Relaxed) => {
                tracing::debug!(%error, "group offsets not committed");
            }
            Err(error) => tracing::warn!(%error, "group offsets not committed: lag tools will not see progress"),
        }
    }
}

/// Hands librdkafka's log lines on.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        // Broken connections are told as outages, and failed commits by their callback, in time and once.
        _ if matches!(facility, "FAIL" | "COMMITFAIL") => tracing::debug!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        // Every look at the topic: see `Settings::reader`.
        RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(topic: &str) -> Context {
        Context::new(&Settings { topic: topic.to_owned(), ..Settings::default() })
    }

    fn statistics(state: &str) -> String {
        format!(
            r#"{{"brokers":{{"b":{{"state":"{state}"}}}},
               "topics":{{"t":{{"partitions":{{"0":{{"eof_offset":7,"ls_offset":7,"leader":1}},
                   "1":{{"eof_offset":-1001,"ls_offset":7,"leader":-1}},
                   "-1":{{"eof_offset":-1001,"ls_offset":-1001,"leader":-1}}}}}}}}}}"#
        )
    }

    #[test]
    fn an_outage_is_told_once_and_ends_with_a_connection() {
        let context = of("t");
        context.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "connection refused");
        assert_eq!(context.outage(None), None);
        context.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(context.outage(None).as_deref(), Some("connection refused"));
        assert_eq!(context.outage(None), None);
        context.stats_raw(statistics("UP").as_bytes());
        assert!(!context.lock().down);
    }

    #[test]
    fn brokers_that_stay_silent_are_an_outage() {
        let context = of("t");
        context.stats_raw(statistics("CONNECT").as_bytes());
        assert_eq!(context.outage(None), None);
        context.stats_raw(statistics("CONNECT").as_bytes());
        assert!(context.outage(None).is_some());
    }

    #[test]
    fn a_partition_without_a_leader_is_told_after_a_while() {
        let context = of("t");
        context.stats_raw(statistics("UP").as_bytes());
        assert!(!context.leaderless(1));
        context.stats_raw(statistics("UP").as_bytes());
        assert_eq!([0, 1, 2].map(|partition| context.leaderless(partition)), [false, true, false]);
    }

    #[test]
    fn a_topic_of_another_id_is_another_topic() {
        let context = of("t");
        let line = |from: &str| format!("[thrd:main]: Topic t changed id from {from} to Ed0GSzO6TA6t9QGv0LqQjQ");
        assert!(!context.tells_of_another_topic(&line("AAAAAAAAAAAAAAAAAAAAAA")));
        assert!(context.tells_of_another_topic(&line("9YCLLVWHQ3yXbEJ1GKBGaA")));
        assert!(!of("other").tells_of_another_topic(&line("9YCLLVWHQ3yXbEJ1GKBGaA")));
    }

    #[test]
    fn ends_that_were_met_are_told_once() {
        let (context, mut known) = (of("t"), 0);
        assert_eq!(context.ends(&mut known), BTreeMap::new());
        context.stats_raw(statistics("UP").as_bytes());
        assert_eq!(context.ends(&mut known), BTreeMap::from([(0, End { met: 7, stable: 7 })]));
        assert_eq!(context.ends(&mut known), BTreeMap::new());
    }
}
