//! The config door: from a pipeline file, the environment and flags to one validated [`Config`], or all mistakes.
//!
//! Flags beat the file's values, and the file takes the environment through `${VAR:-default}`. Variables are expanded
//! after the TOML is parsed, inside text values only, so that no value of a variable can change the file's structure.
//! Numbers, switches, durations and lists may be written as text for that reason. A value that is empty after
//! expansion counts as not given. Relative paths are relative to the current folder, like those of flags and `.env`.

mod alarms;
mod dotenv;
mod duration;
mod expand;
mod instant;
mod load;
mod mistake;
mod overrides;
mod read;
mod section;
mod servers;
mod show;
mod size;
mod start;
#[cfg(test)]
mod tests;
mod tree;
mod value;
mod window;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use wasmill_pipeline::alarm::AlarmRules;
use wasmill_pipeline::fault::FaultRules;
use wasmill_pipeline::spec::{AggregateSpec, PipelineSpec, TimeSpec};
use wasmill_pipeline::window::Zone;

pub use self::{
    dotenv::DotEnv,
    duration::{format_duration, parse_duration},
    instant::parse_instant,
    load::Loader,
    mistake::{Mistake, Mistakes, Place},
    overrides::Overrides,
    size::{format_size, parse_size},
    start::Start,
    window::format_window,
};

/// A validated pipeline file. What only plugins know (columns, types) is not checked yet.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// The pipeline's name: of its checkpoints, metrics and consumer group.
    pub name: String,
    /// The run, which isolates checkpoints; `None` = the stable one. Letters, digits, `.`, `_` and `-`.
    pub run: Option<String>,
    /// Worker threads; `None` = one per core.
    pub workers: Option<usize>,
    /// Where records come from.
    pub source: Source,
    /// What turns records into rows.
    pub parser: Plugin,
    /// How event time moves.
    pub time: TimeSpec,
    /// What is computed. Names are unique, and so are the outputs' folders.
    pub aggregates: Vec<Aggregate>,
    /// The folder that all outputs are below.
    pub output_path: PathBuf,
    /// The output of the parsed rows; `None` = they are not written.
    pub raw: Option<Output>,
    /// How the files of late rows and dead letters, which are always Parquet, are rolled.
    pub roll: Roll,
    /// Where and how often progress is made durable.
    pub checkpoint: Checkpoint,
    /// What a plugin may use.
    pub limits: Limits,
    /// What is done about faults of the parser.
    pub faults: FaultRules,
    /// When something is so wrong with the input that it is said.
    pub alarms: AlarmRules,
    /// What is kept of each fault.
    pub capsules: Capsules,
    /// How plugins are replaced.
    pub swap: Swap,
    /// Where compiled plugins are kept; `None` = the host's choice.
    pub cache_path: Option<PathBuf>,
    /// Where the web page, the API and the metrics listen; `None` = nowhere.
    pub listen: Option<SocketAddr>,
    /// Who may change the running pipeline through the API: tokens by their names. Secrets, all different.
    pub tokens: BTreeMap<String, String>,
    /// What is logged: `info`, or a filter such as `info,wasmill=debug`. Lower case.
    pub log_level: String,
    /// What makes records; `None` = the file has no generator.
    pub generator: Option<Generator>,
}

/// How plugins are replaced in a running pipeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swap {
    /// Whether a changed plugin file is swapped in.
    pub watch: bool,
    /// How many checkpoints a swap can be taken back; 0 = not at all, and nothing is delayed.
    pub probation: u64,
    /// What becomes of the state (`swap.state`); `None` = migrate where the versions allow it, else pin.
    pub policy: Option<SwapPolicy>,
    /// How many times slower per row a new version may be on probation, 1 or more; `None` = any number of times.
    pub most_time: Option<f64>,
    /// How many times more memory it may take, 1 or more; `None` = any number of times.
    pub most_memory: Option<f64>,
    /// How long it may take to compile and try a version.
    pub trial_limit: Duration,
}

impl Default for Swap {
    fn default() -> Self {
        Self {
            watch: true,
            probation: 2,
            policy: None,
            most_time: Some(10.0),
            most_memory: Some(10.0),
            // The largest plugins take some seconds; whoever asks waits for no more than a few minutes.
            trial_limit: Duration::from_mins(2),
        }
    }
}

/// What becomes of an aggregate's open state at a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapPolicy {
    /// The new version reads the old one's state.
    Migrate,
    /// Open windows end on the old version, later ones begin on the new.
    Pin,
    /// It is dropped.
    Fresh,
}

impl SwapPolicy {
    /// All of them, with the words for them.
    const WORDS: [(&str, Self); 3] = [("migrate", Self::Migrate), ("pin", Self::Pin), ("fresh", Self::Fresh)];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Migrate => "migrate",
            Self::Pin => "pin",
            Self::Fresh => "fresh",
        }
    }
}

/// Where records come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// The brokers, `host:port` with commas; `None` = the embedded broker.
    pub bootstrap_servers: Option<String>,
    /// The topic.
    pub topic: String,
    /// Where reading starts when there is no checkpoint.
    pub start: Start,
    /// What to do when the broker has removed records that were not read.
    pub on_data_loss: OnDataLoss,
    /// How long a run that ends by itself waits for open transactions when nothing else is left; `None` = any time.
    pub wait_for_transactions: Option<Duration>,
    /// How long such a run waits for brokers and the topic; `None` = any time.
    pub wait_for_broker: Option<Duration>,
    /// The most records read in a checkpoint interval; `None` = no limit. Above 0.
    pub max_offsets_per_trigger: Option<u64>,
    /// The group whose offsets show the progress to lag tools.
    pub group_id: String,
    /// Settings passed through to librdkafka. May hold secrets.
    pub kafka: BTreeMap<String, String>,
}

/// What to do when the broker has removed records that were not read. Both count and report the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDataLoss {
    /// Go on at the first record there is.
    Skip,
    /// Stop.
    Fail,
}

/// A plugin and its section of the file.
#[derive(Clone, PartialEq)]
pub struct Plugin {
    /// The component.
    pub path: PathBuf,
    /// Where it is named.
    pub named: Named,
    /// Its section of the file. May hold secrets.
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// Where a value stands, as messages begin: `job.toml:12: parser.plugin: `. Two of them are equal, wherever they are: it is
/// no part of what a pipeline does.
#[derive(Clone, Debug, Default)]
pub struct Named(String);

impl PartialEq for Named {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Plugin {
    /// The section as the plugin's `init` gets it: a JSON object.
    pub fn config_json(&self) -> String {
        serde_json::Value::Object(self.config.clone()).to_string()
    }
}

/// One aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// What the pipeline knows of it.
    pub spec: AggregateSpec,
    /// Its logic.
    pub plugin: Plugin,
    /// Its files.
    pub output: Output,
    /// What is done about its faults.
    pub faults: FaultRules,
}

/// Files of one output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its folder below [`Config::output_path`]: one file name. Unique.
    pub folder: String,
    /// The formats, at least one, each once.
    pub formats: Vec<Format>,
    /// How files are spread over folders.
    pub partition_by: PartitionBy,
    /// The zone of a folder's date; `None` = that of the windows, UTC where they have none.
    pub partition_zone: Option<Zone>,
    /// When a file is closed and the next begun.
    pub roll: Roll,
}

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header line.
    Csv,
}

/// How files are spread over folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionBy {
    /// Not at all.
    None,
    /// `dt=YYYY-MM-DD`: the date of the window's start, or of the event time of a parsed row.
    Date,
}

/// When a file is closed and the next begun: at the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roll {
    /// The most rows in a file, above 0.
    pub rows: u64,
    /// The size, above 0, at which a file is closed; it may end up a little larger.
    pub bytes: u64,
    /// The age at which a file is closed, above zero, seen at checkpoints.
    pub age: Duration,
}

/// Where and how often progress is made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The folder, the run's own if there is a run.
    pub path: PathBuf,
    /// The time between two checkpoints, above zero.
    pub interval: Duration,
}

/// What plugins and their state may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most memory of one instance: its memories and tables, and what the host keeps for it.
    pub memory_bytes: u64,
    /// The most memory of one version of a plugin: its file, code and data, and all its instances.
    pub version_bytes: u64,
    /// The most memory that compiling a plugin may take.
    pub compile_bytes: u64,
    /// The most processor time that it may take, at least a second.
    pub compile_time: Duration,
    /// The most memory that the open state of all aggregates may take together; `None` = any amount.
    pub state_bytes: Option<u64>,
    /// The longest that a call may take, above zero.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            version_bytes: 4 << 30,
            compile_bytes: 2 << 30,
            compile_time: Duration::from_mins(1),
            state_bytes: None,
            deadline: Duration::from_secs(10),
        }
    }
}

/// Fault capsules, to make a plugin's fault happen again elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capsules {
    /// Whether each fault leaves one.
    pub enabled: bool,
    /// The largest capsule with its input, above 0.
    pub capsule_bytes: u64,
    /// All capsules together, above 0.
    pub capsules_bytes: u64,
    /// Whether capsules hold nothing that came from records or configuration.
    pub redact: bool,
}

/// What makes records.
#[derive(Clone, Debug, PartialEq)]
pub struct Generator {
    /// Its logic.
    pub plugin: Plugin,
    /// Events per second, finite; 0 = as many as the broker takes.
    pub rate: f64,
    /// The same seed makes the same events.
    pub seed: u64,
    /// Whose acknowledgement is waited for.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// The partitions of the topic when it has to be created, above 0.
    pub partitions: i32,
}

/// Whose acknowledgement a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nobody's.
    None,
    /// The partition's leader's.
    Leader,
    /// Every in-sync replica's.
    All,
}

impl Acks {
    /// The value of librdkafka's `acks`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::Leader => "1",
            Self::All => "all",
        }
    }
}

/// How a producer compresses batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The value of librdkafka's `compression.codec`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What `wasmill generate` needs of a pipeline file; the rest of the file is not looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateConfig {
    /// The topic, and how its broker is reached.
    pub source: Source,
    /// What makes the records.
    pub generator: Generator,
    /// What a plugin may use.
    pub limits: Limits,
    /// Where compiled plugins are kept; `None` = the host's choice.
    pub cache_path: Option<PathBuf>,
    /// What is logged.
    pub log_level: String,
}

impl Config {
    /// What the pipeline crate is built from.
    pub fn spec(&self) -> PipelineSpec {
        PipelineSpec {
            time: self.time.clone(),
            aggregates: self.aggregates.iter().map(|aggregate| aggregate.spec.clone()).collect(),
        }
    }
}
