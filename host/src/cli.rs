//! What is typed after `wasmill`: arguments only, nothing is done here. The help texts are the manual.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::admin::control::{MIN_DIGEST_DIGITS, Policy};
use crate::config::{Overrides, parse_duration, parse_instant};
use crate::plugin::{Allowed, COMPILE_COMMAND};

/// A stream processor whose logic is WebAssembly components: Kafka in, exactly-once Parquet and CSV files out.
///
/// Values come from flags first, then from the pipeline file, which takes the environment through `${VAR:-default}`,
/// then from defaults. `wasmill check FILE` shows what came of it.
///
/// Exit codes: 0 = done, 1 = failed, 2 = wrong arguments or pipeline file, 3 = another process took the checkpoint over,
/// 4 = a run that ends by itself left records unread.
#[derive(Debug, Parser)]
#[command(name = "wasmill", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a pipeline until it is stopped
    ///
    /// SIGTERM and Ctrl-C write a final checkpoint and exit with 0; a second one exits at once, and nothing is lost
    /// either way: the next run goes on from the last checkpoint.
    Run(RunArgs),
    /// Check a pipeline file and its plugins, and say all that is wrong at once
    ///
    /// Prints the configuration in effect (secrets masked) when nothing is wrong, else one line per mistake with its
    /// line in the file and what would be right, and exits with 2. Needs no broker.
    Check(CheckArgs),
    /// Make events with the generator plugin, into the topic or a file
    ///
    /// Waits for the broker and the topic. At demo rates it prints `[ack] topic:partition@offset` for every 10th event.
    /// The same seed makes the same events, wherever they go.
    Generate(GenerateArgs),
    /// Show what a running wasmill is doing
    ///
    /// Exits with 0 when it is healthy, else with 1.
    Status(StatusArgs),
    /// Replace a plugin of a running wasmill, between two checkpoints
    ///
    /// The new version is compiled, checked and tried on live records beside the one in force; a refusal says why, and
    /// nothing has changed. Shows what is different between the two, and where the new one begins. For some checkpoints
    /// (`swap.probation`) a fault of it, or `wasmill rollback`, makes everything as if it had never been.
    ///
    /// Who may: the user who runs that wasmill on the same machine, or whoever has one of its tokens in `WASMILL_TOKEN`
    /// (`http.tokens` of its pipeline file). Exits with 0 when it is done, and with 1 when it is refused.
    Swap(SwapArgs),
    /// Take back a swap that is on probation: the rows are as if it had never been
    Rollback(PluginArgs),
    /// Run a next version of an aggregate beside the one in force, and compare their rows; without a file, show how they do
    ///
    /// The shadow gets the same records, with state of its own; its rows are compared and not written, and its faults are
    /// its own affair. `wasmill promote` makes it the version in force, `wasmill discard` ends it.
    Shadow(ShadowArgs),
    /// Make the shadow of an aggregate the version in force
    Promote(PluginArgs),
    /// End the shadow of an aggregate
    Discard(PluginArgs),
    /// End the trial of a version that is to be swapped in, or to be a shadow
    ///
    /// Whoever asked for it is told that it was cancelled. One that is in already is taken back by `wasmill rollback`.
    Cancel(PluginArgs),
    /// Make a plugin's fault happen again, from its capsule, outside of the pipeline
    ///
    /// Needs the capsule and the component only, no broker. Says what happened then and what happens now, with the guest's
    /// backtrace by function, file and line (as far as the component has debug information).
    ///
    /// Exits with 0 when there is no fault any more, with 1 when there is one, and with 2 when the capsule cannot be
    /// replayed: it is damaged, its input was left out (too large, or redacted), or its component is not there.
    Replay(ReplayArgs),
    /// Compile the component on standard input: what `wasmill` starts by itself, within limits
    #[command(name = COMPILE_COMMAND, hide = true)]
    Compile(CompileArgs),
    /// Show what was done to a pipeline's plugins: swaps, rollbacks, shadows; newest last
    ///
    /// Reads the checkpoint folder, whether or not the pipeline runs.
    History(HistoryArgs),
    /// Say what made an output file: plugins, offsets, watermark, configuration
    ///
    /// Parquet files say it themselves, CSV files have a line in `<output>/_files`. Says where each plugin's component is
    /// kept. Exits with 2 when nothing is known of the file.
    Explain(ExplainArgs),
}

/// What `run` and `check` take in place of the file's values.
#[derive(Args, Clone, Debug, Default)]
pub struct FileArgs {
    /// Take the plugin of an aggregate, of `parser` or of `generator` from PATH; repeatable
    #[arg(long = "plugin", value_name = "NAME=PATH", value_parser = plugin)]
    pub plugins: Vec<(String, PathBuf)>,

    /// Set a value of the file; repeatable
    ///
    /// As in `--set time.watermark_delay=5s`, `--set aggregate.sessions.keys='["user_id"]'` or
    /// `--set source.kafka.security.protocol=ssl`.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,

    /// Take variables that the environment does not set from this file of NAME=value lines
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// The arguments of `wasmill run`.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an argument of its own")]
pub struct RunArgs {
    /// The pipeline file
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,

    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,

    /// Stop at the end offsets seen at the start
    ///
    /// Writes a final checkpoint first. Windows that are open stay so, and go on in the next run.
    #[arg(long)]
    pub until_caught_up: bool,

    /// As --until-caught-up, and close, write and commit every open window
    ///
    /// Rows that come later for these windows are too late.
    #[arg(long)]
    pub drain: bool,

    /// Set the watermark of the last checkpoint back to TIME, for this start: a wrong clock had moved it ahead
    ///
    /// As in `--lower-watermark 2026-01-31T12:00:00Z`. Rows after TIME are not too late any more. The price: of a window
    /// that was closed meanwhile and gets such a row, a second row is written, which counts the new ones alone.
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    pub lower_watermark: Option<i64>,

    /// Where the checkpoint folder is lost, or older than what was committed: read everything again that the topic has
    ///
    /// Such a start is refused, as it would write rows a second time. With this, the files that the pipeline had committed
    /// are put aside first, to `_replaced` in the output, and its checkpoints to a folder beside them. Where checkpoint and
    /// output fit together it does nothing.
    #[arg(long)]
    pub begin_anew: bool,

    /// How long such a run waits for transactions that are open when nothing else is left to read
    /// [default: the file's]
    ///
    /// When that is over it makes a final checkpoint, says what it did not read, and exits with code 4. `off` = it waits
    /// as long as they are open.
    #[arg(long, value_name = "DURATION")]
    pub wait_for_transactions: Option<String>,

    /// How long such a run waits for brokers that do not answer, or for a topic that is not there [default: the file's]
    ///
    /// When that is over it says what is missing, and exits with code 4. `off` = it waits as long as that lasts.
    #[arg(long, value_name = "DURATION")]
    pub wait_for_broker: Option<String>,

    /// Show samples of the data on the terminal: raw, parsed, or an aggregate's rows; repeatable
    ///
    /// Never in the way of the data: what the terminal cannot take is left out.
    #[arg(long = "tap", value_name = "raw|parsed|NAME")]
    pub taps: Vec<String>,

    /// Run the generator in this process, too
    #[arg(long)]
    pub generate: bool,

    /// Events per second of --generate; 0 = as many as are read [default: the file's generator.rate]
    #[arg(long, value_name = "EVENTS/S", value_parser = rate, requires = "generate")]
    pub rate: Option<f64>,

    /// Where the web page, the API and /metrics listen, or "off" [default: the file's http.listen]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,

    /// error, warn, info, debug, trace, or a filter [default: the file's log.level]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// What is taken in place of the file's values.
    #[command(flatten)]
    pub file: FileArgs,
}

/// The arguments of `wasmill check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub config: PathBuf,

    /// What is taken in place of the file's values.
    #[command(flatten)]
    pub file: FileArgs,
}

/// The arguments of `wasmill generate`.
#[derive(Args, Clone, Debug)]
pub struct GenerateArgs {
    /// The pipeline file whose `[source]` and `[generator]` are used [default: the reference job's]
    ///
    /// The reference job takes its values from the environment: `KAFKA_BOOTSTRAP_SERVERS`, `KAFKA_TOPIC`,
    /// `KAFKA_TOPIC_PARTITIONS`, `MSGS_PER_SEC`, `MSG_ACKS`, `MSG_COMPRESSION`, `SEED`, `PLUGIN_PATH`.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The generator component [default: the file's generator.plugin]
    #[arg(long, value_name = "PATH")]
    pub plugin: Option<PathBuf>,

    /// Events per second; 0 = as many as the broker takes [default: the file's generator.rate]
    #[arg(long, value_name = "EVENTS/S", value_parser = rate)]
    pub rate: Option<f64>,

    /// Stop after this many events [default: never]
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,

    /// The number of the first event, to go on where an earlier run stopped
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub first: u64,

    /// The same seed makes the same events [default: the file's generator.seed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Spread the event times of --count events over this time up to now, as if they had happened then
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "count")]
    pub span: Option<Duration>,

    /// Who acknowledges: 0 = nobody, 1 = the partition's leader, all = every in-sync replica [default: the file's]
    #[arg(long, value_name = "0|1|all")]
    pub acks: Option<String>,

    /// none, gzip, snappy, lz4 or zstd [default: the file's generator.compression]
    #[arg(long, value_name = "CODEC")]
    pub compression: Option<String>,

    /// Create the topic if it is missing, instead of waiting for it
    #[arg(long)]
    pub create: bool,

    /// How many partitions --create gives the topic [default: the file's generator.partitions]
    #[arg(long, value_name = "N", requires = "create")]
    pub partitions: Option<NonZeroUsize>,

    /// Write one event per line to a file instead of the topic; "-" = standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["create", "acks", "compression"])]
    pub to_file: Option<PathBuf>,

    /// The topic [default: the file's source.topic]
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,

    /// The brokers, host:port with commas between [default: the file's]
    #[arg(long, value_name = "SERVERS")]
    pub bootstrap_servers: Option<String>,

    /// Set a value of the file; repeatable
    ///
    /// As in `--set generator.config.late_share=0.01`.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,

    /// Take variables that the environment does not set from this file of NAME=value lines
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// The arguments of `wasmill status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Where it listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,

    /// Print the API's JSON as it is
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,

    /// Print nothing: the exit code alone says it
    #[arg(short, long)]
    pub quiet: bool,
}

/// Which running wasmill is asked, and how the answer is shown.
#[derive(Args, Clone, Debug)]
pub struct LiveArgs {
    /// Where it listens
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,

    /// Print the API's JSON as it is
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `wasmill swap`.
#[derive(Args, Clone, Debug)]
pub struct SwapArgs {
    /// The plugin: an aggregate's name in the pipeline file, parser or generator
    #[arg(value_name = "NAME")]
    pub plugin: String,

    /// The component that takes its place
    #[arg(value_name = "FILE.wasm", required_unless_present = "digest", conflicts_with = "digest")]
    pub file: Option<PathBuf>,

    /// Take one that was there before: its digest, or the first 8 digits or more
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub digest: Option<String>,

    /// What becomes of open windows: the new version reads the state, they end on the old version, or they are dropped
    /// [default: the pipeline file's swap.state]
    #[arg(long, value_name = "migrate|pin|fresh", value_parser = Policy::parse)]
    pub policy: Option<Policy>,

    /// Only say what would happen
    #[arg(long)]
    pub dry_run: bool,

    /// Which wasmill.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// The arguments of `wasmill rollback`, `promote`, `discard` and `cancel`.
#[derive(Args, Clone, Debug)]
pub struct PluginArgs {
    /// The plugin's name in the pipeline file
    #[arg(value_name = "NAME")]
    pub plugin: String,

    /// Which wasmill.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// The arguments of `wasmill shadow`.
#[derive(Args, Clone, Debug)]
pub struct ShadowArgs {
    /// The aggregate's name in the pipeline file
    #[arg(value_name = "NAME")]
    pub plugin: String,

    /// The next version; without one, the report of the shadow that runs is shown
    #[arg(value_name = "FILE.wasm")]
    pub file: Option<PathBuf>,

    /// Compare this share of the keys only, above 0 and up to 1
    #[arg(long, value_name = "SHARE", requires = "file")]
    pub key_sample: Option<f64>,

    /// Begin with the windows that open next, even where the next version can read the state of the one in force
    #[arg(long, requires = "file")]
    pub next_windows: bool,

    /// How much a column may differ, relative to the larger value, as in revenue=1e-9; repeatable
    #[arg(long = "tolerance", value_name = "COLUMN=SHARE", value_parser = tolerance, requires = "file")]
    pub tolerances: Vec<(String, f64)>,

    /// Which wasmill.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// The arguments of `wasmill replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The capsule: a file below <output.path>/_faults
    #[arg(value_name = "CAPSULE")]
    pub capsule: PathBuf,

    /// Take another component, such as a mended one [default: the one that failed, where it was, and no other]
    #[arg(long, value_name = "PATH")]
    pub plugin: Option<PathBuf>,

    /// Give the plugin another configuration [default: the capsule's]
    #[arg(long, value_name = "JSON")]
    pub config: Option<String>,
}

/// What a `wasmill` that compiles may take.
#[derive(Args, Clone, Copy, Debug)]
pub struct CompileArgs {
    /// The most memory
    pub memory_bytes: u64,

    /// The most processor time, seconds
    pub seconds: u64,

    /// Keep line tables
    #[arg(long)]
    pub lines: bool,
}

/// The arguments that name a checkpoint folder.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckpointArgs {
    /// The pipeline file that says where the checkpoint folder is
    #[arg(short, long, value_name = "FILE", conflicts_with = "checkpoint")]
    pub config: Option<PathBuf>,

    /// Take variables that the environment does not set from this file of NAME=value lines
    #[arg(long, value_name = "FILE", requires = "config", conflicts_with = "checkpoint")]
    pub env_file: Option<PathBuf>,

    /// The checkpoint folder itself
    #[arg(long, value_name = "PATH")]
    pub checkpoint: Option<PathBuf>,
}

/// The arguments of `wasmill history`.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("folder").required(true).args(["config", "checkpoint"])))]
pub struct HistoryArgs {
    /// Where the history is.
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,

    /// How many entries, the newest ones; 0 = all
    #[arg(short, value_name = "N", default_value_t = 20)]
    pub number: usize,

    /// Print the entries' JSON, one a line
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `wasmill explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The output file: .parquet or .csv
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Where the plugins are kept, if not where the file says.
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl From<CompileArgs> for Allowed {
    fn from(CompileArgs { memory_bytes, seconds, lines }: CompileArgs) -> Self {
        Self { memory_bytes, seconds, lines }
    }
}

impl FileArgs {
    /// What these flags say in place of the file's values.
    pub fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        set_all(&mut overrides, &self.settings);
        for (name, path) in &self.plugins {
            overrides.plugin(name, path);
        }
        overrides
    }
}

impl RunArgs {
    /// What the flags say in place of the file's values. A flag of its own beats `--set`.
    pub fn overrides(&self) -> Overrides {
        let mut overrides = self.file.overrides();
        set(&mut overrides, "--workers", "pipeline.workers", self.workers.as_ref());
        set(&mut overrides, "--rate", "generator.rate", self.rate.as_ref());
        set_text(&mut overrides, "--listen", "http.listen", self.listen.as_deref());
        set_text(&mut overrides, "--log-level", "log.level", self.log_level.as_deref());
        let wait = self.wait_for_transactions.as_deref();
        set_text(&mut overrides, "--wait-for-transactions", "source.wait_for_transactions", wait);
        set_text(&mut overrides, "--wait-for-broker", "source.wait_for_broker", self.wait_for_broker.as_deref());
        overrides
    }

    /// Whether the run ends at the end offsets seen at its start.
    pub fn ends(&self) -> bool {
        self.until_caught_up || self.drain
    }
}

impl GenerateArgs {
    /// What the flags say in place of the file's values. A flag of its own beats `--set`.
    pub fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        set_all(&mut overrides, &self.settings);
        if let Some(path) = &self.plugin {
            overrides.plugin("generator", path);
        }
        set(&mut overrides, "--rate", "generator.rate", self.rate.as_ref());
        set(&mut overrides, "--seed", "generator.seed", self.seed.as_ref());
        set(&mut overrides, "--partitions", "generator.partitions", self.partitions.as_ref());
        set_text(&mut overrides, "--acks", "generator.acks", self.acks.as_deref());
        set_text(&mut overrides, "--compression", "generator.compression", self.compression.as_deref());
        set_text(&mut overrides, "--topic", "source.topic", self.topic.as_deref());
        set_text(&mut overrides, "--bootstrap-servers", "source.bootstrap_servers", self.bootstrap_servers.as_deref());
        overrides
    }
}

fn set_all(overrides: &mut Overrides, settings: &[(String, String)]) {
    for (key, value) in settings {
        overrides.set("--set", key, value);
    }
}

fn set(overrides: &mut Overrides, flag: &str, key: &str, value: Option<&impl ToString>) {
    if let Some(value) = value {
        overrides.set(flag, key, value.to_string());
    }
}

fn set_text(overrides: &mut Overrides, flag: &str, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        overrides.set_text(flag, key, value);
    }
}

fn plugin(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), PathBuf::from(path))),
        _ => Err("write NAME=PATH, such as page_metrics=target/page_metrics.wasm".into()),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, such as time.watermark_delay=5s".into()),
    }
}

fn digest(text: &str) -> Result<String, String> {
    let known = (MIN_DIGEST_DIGITS..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if known { Ok(text.to_ascii_lowercase()) } else { Err("write 8 to 64 hexadecimal digits".into()) }
}

fn tolerance(text: &str) -> Result<(String, f64), String> {
    match text.rsplit_once('=').map(|(column, most)| (column, most.parse::<f64>())) {
        Some((column, Ok(most))) if !column.is_empty() => Ok((column.to_owned(), most)),
        _ => Err("write COLUMN=SHARE, such as revenue=1e-9".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err("write events per second, 0 or more".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
    }

    fn run(line: &str) -> RunArgs {
        match parse(line) {
            Ok(Command::Run(args)) => args,
            other => panic!("not a run: {other:?}"),
        }
    }

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_plugins_taps_and_settings_many_times() {
        let args = run(
            "wasmill run -c p.toml --plugin a=x.wasm --plugin parser=y.wasm --tap raw --tap a --set source.start=latest",
        );
        assert_eq!(args.file.plugins, [("a".into(), "x.wasm".into()), ("parser".into(), "y.wasm".into())]);
        assert_eq!(args.taps, ["raw", "a"]);
        assert_eq!(args.file.settings, [("source.start".into(), "latest".into())]);
        assert!(!args.ends());
    }

    #[test]
    fn drain_ends_a_run_and_so_does_until_caught_up() {
        assert!(run("wasmill run -c p.toml --drain").ends());
        assert!(run("wasmill run -c p.toml --until-caught-up").ends());
    }

    #[test]
    fn a_watermark_is_lowered_to_a_time_as_people_write_it() {
        assert_eq!(run("wasmill run -c p.toml --lower-watermark 1970-01-02").lower_watermark, Some(86_400_000_000));
        let wrong = parse("wasmill run -c p.toml --lower-watermark noon").unwrap_err().to_string();
        assert!(wrong.contains("is not a time; write 2026-01-31T12:00:00Z"), "{wrong}");
    }

    #[test]
    fn generate_takes_a_span_as_people_write_it() {
        let Ok(Command::Generate(args)) = parse("wasmill generate --count 1000 --span 1h30m --to-file -") else {
            panic!("it is a generate");
        };
        assert_eq!(args.span, Some(Duration::from_mins(90)));
        assert_eq!(args.to_file, Some("-".into()));
    }

    #[test]
    fn a_swap_is_by_a_file_or_by_a_digest() {
        let Ok(Command::Swap(args)) = parse("wasmill swap pages p.wasm --policy Pin --dry-run") else {
            panic!("it is a swap");
        };
        assert_eq!((args.plugin.as_str(), args.file, args.policy), ("pages", Some("p.wasm".into()), Some(Policy::Pin)));
        assert!(args.dry_run && args.digest.is_none());
        let Ok(Command::Swap(args)) = parse("wasmill swap pages --digest 0123ABCD") else { panic!("it is a swap") };
        assert_eq!(args.digest.as_deref(), Some("0123abcd"));
    }

    #[test]
    fn a_shadow_takes_a_tolerance_for_each_column() {
        let line = "wasmill shadow pages p.wasm --key-sample 0.1 --tolerance a=1e-9 --tolerance b=0";
        let Ok(Command::Shadow(args)) = parse(line) else { panic!("it is a shadow") };
        assert_eq!(args.tolerances, [("a".to_owned(), 1e-9), ("b".to_owned(), 0.0)]);
        assert_eq!((args.key_sample, args.next_windows), (Some(0.1), false));
    }

    #[test]
    fn a_history_is_that_of_a_pipeline_file_or_of_a_folder() {
        let Ok(Command::History(args)) = parse("wasmill history -c p.toml --env-file .env -n 5") else {
            panic!("it is a history");
        };
        assert_eq!((args.checkpoint.config, args.number), (Some("p.toml".into()), 5));
        let Ok(Command::History(args)) = parse("wasmill history --checkpoint data/checkpoints --json") else {
            panic!("it is a history");
        };
        assert_eq!((args.checkpoint.checkpoint, args.number, args.json), (Some("data/checkpoints".into()), 20, true));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "wasmill run",
            "wasmill run -c p.toml --workers 0",
            "wasmill run -c p.toml --plugin a",
            "wasmill run -c p.toml --set a",
            "wasmill run -c p.toml --rate 5",
            "wasmill run -c p.toml --generate --rate=-5",
            "wasmill generate --span 30x --count 5",
            "wasmill generate --span 30s",
            "wasmill generate --partitions 4",
            "wasmill check",
            "wasmill swap pages",
            "wasmill swap pages p.wasm --digest 0123abcd",
            "wasmill swap pages --digest 0123abc",
            "wasmill swap pages p.wasm --policy keep",
            "wasmill swap pages p.wasm --token secret",
            "wasmill shadow pages --key-sample 0.1",
            "wasmill shadow pages p.wasm --tolerance revenue",
            "wasmill rollback",
            "wasmill history",
            "wasmill history -c p.toml --checkpoint x",
            "wasmill history --checkpoint x --env-file .env",
            "wasmill explain",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn flags_that_are_not_given_override_nothing() {
        assert_eq!(run("wasmill run -c p.toml --drain").overrides(), Overrides::default());
    }
}
