//! What each section of a pipeline file means, key by key, and what of it does not fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::{path::PathBuf, time::Duration};

use wasmill_pipeline::fault::{FaultPolicy, FaultRules};
use wasmill_pipeline::spec::{AggregateSpec, TimeSpec, TrustRule, Unreadable};

use super::alarms;
use super::duration::us;
use super::load::Loader;
use super::section::Section;
use super::servers::servers;
use super::start::{self, parse_start};
use super::tree::{Node, Value};
use super::value::{self, Read, one_of};
use super::window::{window, zone};
use super::{
    Acks, Aggregate, Capsules, Checkpoint, Compression, Config, Format, GenerateConfig, Generator, Limits, OnDataLoss,
    Output, PartitionBy, Plugin, Roll, Source, Start, Swap, SwapPolicy,
};

/// More threads than any machine has cores.
const MAX_WORKERS: u64 = 1024;

/// Kafka's own limit is far higher; this one catches a rate written in the wrong place.
const MAX_PARTITIONS: u64 = 10_000;

/// A probation is held in files that nobody sees yet: more checkpoints than this is a mistake.
const MAX_PROBATION: u64 = 1000;

/// Rows in a row that agree about the time: a partition that gives fewer than this in a day never would.
const MAX_CONFIRM: u64 = 10_000;

/// The words of `time.trust`.
pub(super) const TRUST: [(&str, TrustRule); 2] = [("claims", TrustRule::Claims), ("any", TrustRule::Any)];

/// The words of `time.unreadable`.
pub(super) const UNREADABLE: [(&str, Unreadable); 2] =
    [("broker", Unreadable::Broker), ("dead-letter", Unreadable::DeadLetter)];

/// Kafka ends the transactions of producers that died after a minute by their default (`transaction.timeout.ms`), and
/// looks for such every ten seconds: what is still open after two has been given more time by somebody.
const WAIT_FOR_TRANSACTIONS: Duration = Duration::from_mins(2);

/// How long a run that ends by itself waits for brokers and the topic: far longer than a broker takes to start.
const WAIT_FOR_BROKER: Duration = Duration::from_mins(2);

/// A whole pipeline file.
pub(super) fn pipeline(root: &mut Section<'_>, loader: &Loader<'_>) -> Config {
    let mut section = root.section("pipeline");
    let name = section.required("name", "name = \"clickstream\"", value::name);
    let run = section.optional("run", value::file_name);
    let workers = section.optional("workers", value::count_in(1, MAX_WORKERS)).map(|workers| workers as usize);
    section.finish();

    let source = source(root, &name);
    let mut section = root.section("parser");
    let parser = plugin(&mut section, loader);
    section.finish();
    let time = time(root);

    let mut section = root.section("output");
    let output_path = section.or("path", PathBuf::from("data/output"), value::path);
    let defaults = Output {
        folder: String::new(),
        formats: vec![Format::Parquet],
        partition_by: PartitionBy::None,
        partition_zone: None,
        roll: Roll { rows: 1_000_000, bytes: 128_000_000, age: Duration::from_mins(1) },
    };
    let defaults = output(&mut section, &defaults);
    section.finish();

    let mut folders = BTreeMap::new();
    let raw = raw(root, &defaults, &mut folders);
    let mut section = root.section("faults");
    let faults = fault_rules(&mut section, FaultRules::default());
    // An aggregate's records are found otherwise: its own section has no such key.
    let longest = Duration::from_micros(faults.breaker_time_us.unsigned_abs());
    let breaker_time_us = us(section.or("breaker_time", longest, value::positive));
    let faults = FaultRules { breaker_time_us, ..faults };
    let capsules = capsules(&mut section);
    section.finish();
    let aggregates = aggregates(root, loader, &defaults, faults, &mut folders);

    let mut section = root.section("checkpoint");
    let mut path = section.or("path", output_path.join("_checkpoints"), value::path);
    let interval = section.or("interval", Duration::from_secs(10), value::positive);
    let is_output = |folder: &String| path.starts_with(output_path.join(folder));
    if path == output_path || folders.keys().any(is_output) {
        section
            .note("path", format!("{:?} is an output's folder; write a folder of its own", path.display().to_string()));
    }
    if let Some(run) = &run {
        path.push(run);
    }
    section.finish();

    let mut section = root.section("http");
    let listen = section.or("listen", Some(([127, 0, 0, 1], 8080).into()), value::listen);
    let tokens = tokens(&mut section);
    section.finish();
    let generator_section = root.section("generator");
    let generator = generator_section.is_present().then(|| generator(generator_section, loader));
    Config {
        name,
        run,
        workers,
        source,
        parser,
        time,
        aggregates,
        output_path,
        raw,
        roll: defaults.roll,
        checkpoint: Checkpoint { path, interval },
        limits: limits(root),
        faults,
        alarms: alarms::read(root),
        capsules,
        swap: swap(root),
        cache_path: cache_path(root),
        listen,
        tokens,
        log_level: log_level(root),
        generator,
    }
}

/// What `wasmill generate` needs of a pipeline file.
pub(super) fn generate(root: &mut Section<'_>, loader: &Loader<'_>) -> GenerateConfig {
    GenerateConfig {
        source: source(root, "generate"),
        generator: generator(root.section("generator"), loader),
        limits: limits(root),
        cache_path: cache_path(root),
        log_level: log_level(root),
    }
}

fn source(root: &mut Section<'_>, pipeline: &str) -> Source {
    let mut section = root.section("source");
    let topic = section.required("topic", "topic = \"events\"", value::topic);
    let source = Source {
        bootstrap_servers: section.optional("bootstrap_servers", servers),
        start: section.or("start", Start::Earliest, |node| start(node, &topic)),
        on_data_loss: section.or(
            "on_data_loss",
            OnDataLoss::Skip,
            one_of(&[("skip", OnDataLoss::Skip), ("fail", OnDataLoss::Fail)]),
        ),
        wait_for_transactions: section.or("wait_for_transactions", Some(WAIT_FOR_TRANSACTIONS), value::positive_or_off),
        wait_for_broker: section.or("wait_for_broker", Some(WAIT_FOR_BROKER), value::positive_or_off),
        max_offsets_per_trigger: section.optional("max_offsets_per_trigger", value::count).filter(|most| *most > 0),
        group_id: section.or("group_id", format!("wasmill-{pipeline}"), value::text),
        kafka: section.settings("kafka"),
        topic,
    };
    section.finish();
    source
}

fn start(node: &Node, topic: &str) -> Read<Start> {
    match &node.value {
        Value::Text(text) => parse_start(text, topic),
        Value::Table(_) => start::offsets(&value::json(node)?, topic).map(Start::Offsets),
        _ => Err(format!("{} is not a start; write {}", value::shown(node), start::EXAMPLES)),
    }
}

fn plugin(section: &mut Section<'_>, loader: &Loader<'_>) -> Plugin {
    let path = section.required("plugin", "plugin = \"path/of/component.wasm\"", value::path);
    if let Some(missing) = loader.missing(&path) {
        section.note("plugin", missing);
    }
    Plugin { path, named: section.named("plugin"), config: section.plugin_config("config") }
}

fn time(root: &mut Section<'_>) -> TimeSpec {
    let mut section = root.section("time");
    let defaults = TimeSpec::default();
    let time = TimeSpec {
        watermark_delay_us: us(section.or("watermark_delay", of_us(defaults.watermark_delay_us), value::duration)),
        idle_timeout_us: section
            .or("idle_timeout", defaults.idle_timeout_us.map(of_us), value::positive_or_off)
            .map(us),
        max_ahead_us: section.or("max_ahead", defaults.max_ahead_us.map(of_us), value::positive_or_off).map(us),
        min_us: section.or("min", defaults.min_us, value::instant_or_off),
        clock_skew_us: us(section.or("clock_skew", of_us(defaults.clock_skew_us), value::duration)),
        max_jump_us: us(section.or("max_jump", of_us(defaults.max_jump_us), value::positive)),
        confirm: section.or("confirm", u64::from(defaults.confirm), value::count_in(1, MAX_CONFIRM)) as u32,
        trust: section.or("trust", defaults.trust, one_of(&TRUST)),
        unreadable: section.or("unreadable", defaults.unreadable, one_of(&UNREADABLE)),
        ..defaults
    };
    section.finish();
    time
}

/// A duration of the defaults, which are not negative.
fn of_us(us: i64) -> Duration {
    Duration::from_micros(us.unsigned_abs())
}

fn output(section: &mut Section<'_>, defaults: &Output) -> Output {
    let format = one_of(&[("parquet", Format::Parquet), ("csv", Format::Csv)]);
    let mut formats = section.or("formats", defaults.formats.clone(), value::list(format));
    if formats.is_empty() && section.has("formats") {
        section.note("formats", "there is none; write [\"parquet\"], [\"csv\"] or both");
    }
    let mut seen = Vec::new();
    formats.retain(|format| {
        !seen.contains(format) && {
            seen.push(*format);
            true
        }
    });
    let partition_by = one_of(&[("dt", PartitionBy::Date), ("none", PartitionBy::None)]);
    let partition_by = section.or("partition_by", defaults.partition_by, partition_by);
    let partition_zone = section.optional("partition_zone", zone).or(defaults.partition_zone);
    let mut roll = section.section("roll");
    let rolled = Roll {
        rows: roll.or("rows", defaults.roll.rows, value::count_in(1, i64::MAX as u64)),
        bytes: roll.or("bytes", defaults.roll.bytes, value::bytes),
        age: roll.or("age", defaults.roll.age, value::positive),
    };
    roll.finish();
    Output { folder: String::new(), formats, partition_by, partition_zone, roll: rolled }
}

/// The folder of an output, which no other output has.
fn folder(section: &mut Section<'_>, default: &str, owner: &str, taken: &mut BTreeMap<String, String>) -> String {
    let folder = section.or("folder", default.to_owned(), value::file_name);
    if folder.starts_with('_') {
        section.note("folder", format!("{folder:?} is reserved; write one without _ in front"));
    } else if let Some(other) = taken.get(&folder).filter(|_| !folder.is_empty()) {
        section.note("folder", format!("{folder:?} is the folder of {other} already; write another one"));
    }
    taken.entry(folder.clone()).or_insert_with(|| owner.to_owned());
    folder
}

fn raw(root: &mut Section<'_>, defaults: &Output, folders: &mut BTreeMap<String, String>) -> Option<Output> {
    let mut section = root.section("raw");
    let enabled = section.or("enabled", true, value::switch);
    let mut output_section = section.section("output");
    let mut output = output(&mut output_section, defaults);
    if enabled {
        output.folder = folder(&mut output_section, "events_raw", "[raw]", folders);
    } else {
        output_section.optional("folder", value::file_name);
    }
    output_section.finish();
    section.finish();
    enabled.then_some(output)
}

fn aggregates(
    root: &mut Section<'_>,
    loader: &Loader<'_>,
    defaults: &Output,
    rules: FaultRules,
    folders: &mut BTreeMap<String, String>,
) -> Vec<Aggregate> {
    let mut aggregates: Vec<Aggregate> = Vec::new();
    let mut names = BTreeSet::new();
    for mut section in root.sections("aggregate") {
        let name = section.required("name", "name = \"page_metrics\"", value::name);
        let is_double = !name.is_empty() && !names.insert(name.clone());
        if is_double {
            section.note("name", format!("there is an aggregate named {name:?} already; write another name"));
        } else if matches!(name.as_str(), "parser" | "generator" | "raw" | "parsed") {
            section.note("name", format!("{name:?} is a word of wasmill's own; write another name"));
        }
        let plugin = plugin(&mut section, loader);
        let window = window(&mut section);
        let keys = section.or("keys", Vec::new(), value::list(value::text));
        let mut seen = BTreeSet::new();
        if let Some(key) = keys.iter().find(|key| !seen.insert(*key)) {
            section.note("keys", format!("{key:?} is there twice; write it once"));
        }
        if keys.iter().any(String::is_empty) {
            section.note("keys", "a name is empty; write names of the parser's columns: [\"page\"]");
        }
        let allowed_lateness_us = us(section.or("allowed_lateness", Duration::ZERO, value::duration));
        let mut output_section = section.section("output");
        let mut output = output(&mut output_section, defaults);
        // The names' own mistake is enough.
        let taken = if is_double || name.is_empty() { &mut BTreeMap::new() } else { &mut *folders };
        output.folder = folder(&mut output_section, &name, &format!("aggregate {name}"), taken);
        output_section.finish();
        let mut fault_section = section.section("faults");
        let faults = fault_rules(&mut fault_section, rules);
        fault_section.finish();
        section.finish();
        let spec = AggregateSpec { name, window, keys, allowed_lateness_us };
        aggregates.push(Aggregate { spec, plugin, output, faults });
    }
    aggregates
}

fn fault_rules(section: &mut Section<'_>, defaults: FaultRules) -> FaultRules {
    let policy = one_of(&[("dead-letter", FaultPolicy::DeadLetter), ("stop", FaultPolicy::Stop)]);
    FaultRules {
        policy: section.or("policy", defaults.policy, policy),
        breaker: section.or("breaker", defaults.breaker, value::share),
        ..defaults
    }
}

/// How many of the largest instances a version may have unless the file says otherwise. All states of an aggregate are
/// split among its instances, and few pipelines have so much.
const INSTANCES_OF_A_VERSION: u64 = 4;

fn limits(root: &mut Section<'_>) -> Limits {
    let mut section = root.section("limits");
    let defaults = Limits::default();
    let memory_bytes = section.or("memory", defaults.memory_bytes, value::bytes);
    let limits = Limits {
        memory_bytes,
        version_bytes: section.or("version_memory", memory_bytes.saturating_mul(INSTANCES_OF_A_VERSION), value::bytes),
        compile_bytes: section.or("compile_memory", defaults.compile_bytes, value::bytes),
        compile_time: section.or("compile_time", defaults.compile_time, value::positive),
        state_bytes: section.or("state", defaults.state_bytes, value::bytes_or_off),
        deadline: section.or("deadline", defaults.deadline, value::positive),
    };
    section.finish();
    limits
}

fn capsules(section: &mut Section<'_>) -> Capsules {
    Capsules {
        enabled: section.or("capsules", true, value::switch),
        capsule_bytes: section.or("capsule_bytes", 4 << 20, value::bytes),
        capsules_bytes: section.or("capsules_bytes", 64 << 20, value::bytes),
        redact: section.or("redact", false, value::switch),
    }
}

fn swap(root: &mut Section<'_>) -> Swap {
    let mut section = root.section("swap");
    let defaults = Swap::default();
    let swap = Swap {
        watch: section.or("watch", defaults.watch, value::switch),
        probation: section.or("probation", defaults.probation, value::count_in(0, MAX_PROBATION)),
        policy: section.optional("state", one_of(&SwapPolicy::WORDS)),
        most_time: section.or("most_time", defaults.most_time, value::factor_or_off),
        most_memory: section.or("most_memory", defaults.most_memory, value::factor_or_off),
        trial_limit: section.or("trial_limit", defaults.trial_limit, value::positive),
    };
    section.finish();
    swap
}

/// The named tokens of the API, which no two names share: a token says who it was.
fn tokens(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let mut tokens = section.secrets("tokens", value::token_name, value::token);
    let mut seen = BTreeMap::new();
    let doubles: Vec<(String, String)> = tokens
        .iter()
        .filter_map(|(name, token)| Some((name.clone(), seen.insert(token.clone(), name.clone())?)))
        .collect();
    for (name, other) in doubles {
        section.note("tokens", format!("{name} and {other} are the same token; write one of its own for each name"));
        tokens.remove(&name);
    }
    tokens
}

fn cache_path(root: &mut Section<'_>) -> Option<PathBuf> {
    let mut section = root.section("cache");
    let path = section.optional("path", value::path);
    section.finish();
    path
}

fn log_level(root: &mut Section<'_>) -> String {
    let mut section = root.section("log");
    let level = section.or("level", "info".to_owned(), |node| {
        let written = value::text(node)?.to_ascii_lowercase();
        let known = |part: &str| {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
            matches!(level, "error" | "warn" | "info" | "debug" | "trace" | "off")
        };
        match written.as_str() {
            // log4j's levels, as Spark has them.
            "all" => Ok("trace".into()),
            "fatal" => Ok("error".into()),
            filter if filter.split(',').all(|part| known(part.trim())) => Ok(written),
            _ => Err(format!("{written:?} is not a level; write error, warn, info, debug or trace")),
        }
    });
    section.finish();
    level
}

fn generator(mut section: Section<'_>, loader: &Loader<'_>) -> Generator {
    let acks = one_of(&[("0", Acks::None), ("1", Acks::Leader), ("all", Acks::All), ("-1", Acks::All)]);
    let compression = one_of(&[
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ]);
    let generator = Generator {
        plugin: plugin(&mut section, loader),
        rate: section.or("rate", 50.0, value::rate),
        seed: section.or("seed", 1, value::count),
        acks: section.or("acks", Acks::Leader, acks),
        compression: section.or("compression", Compression::None, compression),
        partitions: section.or("partitions", 4, value::count_in(1, MAX_PARTITIONS)) as i32,
    };
    section.finish();
    generator
}
