//! The numbers of a running pipeline, as the page, the API, the metrics and the terminal show them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::control::ShadowReport;

/// What the job is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Loading plugins, recovering state.
    #[default]
    Starting,
    /// For something outside: a topic, a broker, a lock.
    Waiting,
    /// Reading a backlog.
    CatchingUp,
    /// Reading what comes.
    Running,
    /// Not reading until something outside is better: a full disk.
    Paused,
    /// Writing the last checkpoint.
    Draining,
    /// Done.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Waiting => "waiting",
            Self::CatchingUp => "catching up",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        })
    }
}

/// A pipeline at one moment. Totals count from the first checkpoint on, over all restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The pipeline's name.
    pub pipeline: String,
    /// The isolated run, if it is one.
    pub run: Option<String>,
    /// wasmill's version.
    pub version: String,
    /// The process's generation.
    pub generation: u64,
    /// What it is doing.
    pub state: State,
    /// More about that, to follow the state's word: `for topic clicks`, `disk full`. May be empty.
    pub detail: String,
    /// Since when the process runs, µs since the Unix epoch.
    pub since_us: i64,
    /// The moment that this is of, µs since the Unix epoch.
    pub now_us: i64,
    /// Why the process does not work any more: a worker died. `None` while it works.
    pub failure: Option<String>,
    /// Whether partitions are assigned.
    pub assigned: bool,
    /// Records read, filtered ones included.
    pub records: u64,
    /// Rows parsed.
    pub rows: u64,
    /// Records that are no events: tombstones.
    pub filtered: u64,
    /// Records set aside, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Faults of plugins in this process, by what became of their capsules.
    pub fault_capsules: BTreeMap<String, u64>,
    /// Rows that took the broker's time for want of their own.
    pub broker_time_rows: u64,
    /// Records per second, over the last seconds.
    pub events_per_second: f64,
    /// Each aggregate, in the pipeline's order.
    pub aggregates: Vec<Aggregate>,
    /// The most memory that their open state may take together; `None` = any amount.
    pub state_budget_bytes: Option<u64>,
    /// Each assigned partition, ascending.
    pub partitions: Vec<Partition>,
    /// What has held the watermark for longer than a partition without records would, in words.
    pub holding: Vec<String>,
    /// The pipeline's watermark, µs since the Unix epoch.
    pub watermark_us: Option<i64>,
    /// Checkpoints made by this process.
    pub checkpoints: u64,
    /// How often there should be one, µs; 0 where that is not known.
    pub checkpoint_interval_us: i64,
    /// The newest one.
    pub checkpoint: Option<Checkpoint>,
    /// Files committed, by output.
    pub files: BTreeMap<String, u64>,
    /// Whether every record is where it belongs.
    pub accounting: Accounting,
    /// What is wrong with so much of the input that somebody should look.
    pub alarms: Vec<Alarm>,
    /// The plugins at work.
    pub plugins: Vec<Plugin>,
    /// Versions that are being tried, to be put in or refused.
    pub trials: Vec<Trial>,
    /// What became of swaps that were asked for in this process, by plugin and outcome.
    pub swaps: BTreeMap<String, BTreeMap<String, u64>>,
    /// How long the last swap, or other change of versions, held up the pipeline, µs; `None` = this process made none.
    pub swap_pause_us: Option<i64>,
}

/// A version under trial.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trial {
    /// The plugin's name.
    pub plugin: String,
    /// The version's digest, or its beginning.
    pub digest: String,
    /// Who asked for it.
    pub who: String,
    /// Since when it is tried, µs since the Unix epoch.
    pub since_us: i64,
}

/// One aggregate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aggregate {
    /// Its name.
    pub name: String,
    /// Rows counted.
    pub counted: u64,
    /// Rows that came too late.
    pub late: u64,
    /// Rows set aside: its plugin failed on them, or was out of service.
    pub set_aside: u64,
    /// Why it is out of service until it is swapped or the next start, if it is.
    pub out_of_service: Option<String>,
    /// Groups open now.
    pub open_groups: u64,
    /// What they take in memory.
    pub state_bytes: u64,
    /// Rows written.
    pub rows_out: u64,
}

/// One partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Partition {
    /// Its number.
    pub partition: i32,
    /// The next offset to read.
    pub next_offset: i64,
    /// The offset after its last record, as far as the broker told.
    pub high: Option<i64>,
    /// Offsets not read yet, those behind open transactions included, as far as is known.
    pub lag: Option<u64>,
    /// Its watermark, µs since the Unix epoch.
    pub watermark_us: Option<i64>,
    /// Whether it is left out of the minimum for giving nothing.
    pub idle: bool,
    /// Records read.
    pub records: u64,
    /// Rows parsed.
    pub rows: u64,
    /// Rows that took the broker's time for want of their own.
    pub broker_time_rows: u64,
    /// Those of them whose own time is there and cannot be read.
    pub unreadable_times: u64,
    /// Rows that claimed a time far ahead of all before them, and that the next rows refuted.
    pub suspect_rows: u64,
    /// Records set aside, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Since when records of it wait for an open transaction to end, as far as is known, µs since the Unix epoch.
    pub behind_transaction_since_us: Option<i64>,
}

/// The newest checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Checkpoint {
    /// Its number.
    pub number: u64,
    /// When it was made, µs since the Unix epoch.
    pub created_at_us: i64,
    /// From the cut to the manifest, µs.
    pub duration_us: i64,
    /// How long the cut held up the pipeline, µs.
    pub pause_us: i64,
    /// What was written for it.
    pub bytes: u64,
}

/// Whether records read = rows + dead letters + filtered, and rows = counted + late for every aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accounting {
    /// Whether it does.
    pub closed: bool,
    /// What does not, or what was compared.
    pub message: String,
}

impl Default for Accounting {
    fn default() -> Self {
        Self { closed: true, message: String::new() }
    }
}

/// Something that is wrong with the input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alarm {
    /// What: `dead_letters`, `late` and so on, as in the settings.
    pub kind: String,
    /// For which aggregate, where it is not for all.
    pub aggregate: Option<String>,
    /// Since when, µs since the Unix epoch.
    pub since_us: i64,
    /// How much, where, and an example.
    pub message: String,
    /// Whether the job is not ready for it.
    pub unready: bool,
}

impl fmt::Display for Alarm {
    /// Its kind and aggregate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        self.aggregate.iter().try_for_each(|aggregate| write!(f, " {aggregate}"))
    }
}

/// A plugin at work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plugin {
    /// Its name in the pipeline file.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// Where it was loaded from.
    pub path: String,
    /// The checkpoint after which it is in force, while it is on probation.
    pub since_checkpoint: Option<u64>,
    /// The checkpoint with which its probation ends, while it is on probation.
    pub probation_until: Option<u64>,
    /// The digest of the version before, while that one ends the windows that it began.
    pub retiring: Option<String>,
    /// How the version beside it compares, if there is one.
    pub shadow: Option<ShadowReport>,
}

impl Status {
    /// What it is doing, in words: `waiting for topic clicks`, `paused: disk full`.
    pub fn doing(&self) -> String {
        match (self.state, self.detail.as_str()) {
            (state, "") => state.to_string(),
            (State::Waiting, detail) => format!("waiting {detail}"),
            (state, detail) => format!("{state}: {detail}"),
        }
    }

    /// Records not read yet, over the partitions of which that is known; `None` when it is of none.
    pub fn lag(&self) -> Option<u64> {
        self.partitions.iter().filter_map(|partition| partition.lag).reduce(u64::saturating_add)
    }

    /// Dead letters of all reasons.
    pub fn dead(&self) -> u64 {
        self.dead_letters.values().sum()
    }

    /// Late rows of all aggregates.
    pub fn late(&self) -> u64 {
        self.aggregates.iter().map(|aggregate| aggregate.late).sum()
    }

    /// Open groups of all aggregates.
    pub fn open_groups(&self) -> u64 {
        self.aggregates.iter().map(|aggregate| aggregate.open_groups).sum()
    }

    /// What the open state of all aggregates takes in memory.
    pub fn state_bytes(&self) -> u64 {
        self.aggregates.iter().map(|aggregate| aggregate.state_bytes).sum()
    }

    /// Committed files of all outputs.
    pub fn committed_files(&self) -> u64 {
        self.files.values().sum()
    }

    /// Whether the process works.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn health(&self) -> Result<(), String> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Whether the job does what it is there for: it works, reads, every aggregate is in service, its checkpoints are at
    /// most three intervals apart, and there is no alarm, where alarms are to count.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn readiness(&self) -> Result<(), String> {
        self.health()?;
        if !matches!(self.state, State::Running | State::CatchingUp) {
            return Err(self.doing());
        }
        if !self.assigned {
            return Err("no partitions are assigned yet".into());
        }
        if let Some((name, why)) = self.aggregates.iter().find_map(|a| Some((&a.name, a.out_of_service.as_ref()?))) {
            return Err(format!("aggregate {name} is out of service: {why}"));
        }
        if let Some(alarm) = self.alarms.iter().find(|alarm| alarm.unready) {
            return Err(format!("alarm {alarm}: {}", alarm.message));
        }
        if !self.holding.is_empty() {
            return Err(self.holding.join("; "));
        }
        let last = self.checkpoint.as_ref().map_or(self.since_us, |checkpoint| checkpoint.created_at_us);
        // A restart finds a checkpoint as old as the outage: count from the later of the two.
        let age_us = self.now_us.saturating_sub(last.max(self.since_us));
        if self.checkpoint_interval_us > 0 && age_us > self.checkpoint_interval_us.saturating_mul(3) {
            return Err(format!("the last checkpoint is {}s old", age_us / 1_000_000));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::control::{DifferentRow, ShadowOptions};
    use super::*;

    /// A job in the middle of its work.
    pub(crate) fn running() -> Status {
        Status {
            pipeline: "clickstream".into(),
            version: "0.1.0".into(),
            generation: 3,
            state: State::Running,
            since_us: 0,
            now_us: 1_700_000_010_000_000,
            assigned: true,
            records: 1000,
            rows: 990,
            dead_letters: BTreeMap::from([("malformed".into(), 10)]),
            aggregates: vec![Aggregate {
                name: "sessions".into(),
                counted: 986,
                late: 3,
                set_aside: 1,
                open_groups: 123,
                state_bytes: 65_536,
                rows_out: 50,
                ..Aggregate::default()
            }],
            partitions: vec![Partition {
                partition: 0,
                next_offset: 1000,
                high: Some(2024),
                lag: Some(1024),
                suspect_rows: 8,
                dead_letters: BTreeMap::from([("malformed".into(), 10)]),
                ..Partition::default()
            }],
            state_budget_bytes: Some(1 << 20),
            watermark_us: Some(1_700_000_000_000_000),
            checkpoints: 12,
            checkpoint_interval_us: 10_000_000,
            checkpoint: Some(Checkpoint {
                number: 12,
                created_at_us: 1_700_000_007_000_000,
                duration_us: 20_000,
                pause_us: 1500,
                bytes: 4096,
            }),
            files: BTreeMap::from([("sessions".into(), 34)]),
            plugins: vec![Plugin {
                name: "sessions".into(),
                digest: "5e55".into(),
                path: "sessions.wasm".into(),
                since_checkpoint: Some(11),
                probation_until: Some(13),
                retiring: Some("01d0".into()),
                shadow: Some(shadow()),
            }],
            swaps: BTreeMap::from([("sessions".into(), BTreeMap::from([("on_probation".into(), 1)]))]),
            swap_pause_us: Some(12_000),
            ..Status::default()
        }
    }

    /// A shadow that has found a difference.
    pub(crate) fn shadow() -> ShadowReport {
        let example = DifferentRow {
            window_start_us: 1_699_999_970_000_000,
            window_end_us: 1_700_000_000_000_000,
            key: BTreeMap::from([("user_id".into(), "u7".into())]),
            column: Some("events".into()),
            current: Some("5".into()),
            shadow: Some("6".into()),
        };
        ShadowReport {
            plugin: "sessions".into(),
            current: "5e55".into(),
            shadow: "5bad".into(),
            since_checkpoint: 12,
            options: ShadowOptions { key_sample: Some(0.1), ..ShadowOptions::default() },
            compared: 100_000,
            equal: 99_998,
            different: 1,
            only_current: 1,
            examples: vec![example],
            current_ns_per_row: 100.0,
            shadow_ns_per_row: 120.0,
            ..ShadowReport::default()
        }
    }

    #[test]
    fn a_running_job_is_healthy_and_ready() {
        assert_eq!((running().health(), running().readiness()), (Ok(()), Ok(())));
    }

    #[test]
    fn a_dead_worker_is_neither() {
        let status = Status { failure: Some("worker 1 died".into()), ..running() };
        assert_eq!(status.health(), Err("worker 1 died".into()));
        assert_eq!(status.readiness(), Err("worker 1 died".into()));
    }

    #[test]
    fn a_waiting_job_is_healthy_but_not_ready_and_says_why() {
        let status = Status { state: State::Waiting, detail: "for topic clicks".into(), ..running() };
        assert_eq!((status.health(), status.readiness()), (Ok(()), Err("waiting for topic clicks".into())));
    }

    #[test]
    fn a_job_with_an_aggregate_out_of_service_is_healthy_but_not_ready() {
        let mut status = running();
        status.aggregates[0].out_of_service = Some("it trapped".into());
        assert_eq!(status.health(), Ok(()));
        assert_eq!(status.readiness(), Err("aggregate sessions is out of service: it trapped".into()));
    }

    /// An alarm on dead letters.
    pub(crate) fn alarm(unready: bool) -> Alarm {
        let message = "10 of 1000 records in the last 1m are dead letters".into();
        Alarm { kind: "dead_letters".into(), message, unready, ..Alarm::default() }
    }

    #[test]
    fn a_job_with_an_alarm_is_not_ready_where_alarms_are_to_count() {
        let status = |unready| Status { alarms: vec![alarm(unready)], ..running() };
        assert_eq!(status(false).readiness(), Ok(()));
        let why = "alarm dead_letters: 10 of 1000 records in the last 1m are dead letters";
        assert_eq!((status(true).health(), status(true).readiness()), (Ok(()), Err(why.into())));
    }

    #[test]
    fn a_job_whose_watermark_is_held_is_healthy_but_not_ready() {
        let why = "partition 1 waits behind an open transaction since 2026-03-10T12:05:10Z".to_owned();
        let status = Status { holding: vec![why.clone()], ..running() };
        assert_eq!((status.health(), status.readiness()), (Ok(()), Err(why)));
    }

    #[test]
    fn an_old_checkpoint_is_not_ready_after_three_intervals() {
        let mut status = running();
        status.now_us += 27_000_000;
        assert_eq!(status.readiness(), Ok(()));
        status.now_us += 1;
        assert_eq!(status.readiness(), Err("the last checkpoint is 30s old".into()));
    }

    #[test]
    fn a_status_reads_back_from_json_and_missing_numbers_are_none() {
        let json = serde_json::to_string(&running()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), running());
        assert_eq!(serde_json::from_str::<Status>("{}").unwrap(), Status::default());
    }
}
