//! How a configuration is shown: as a pipeline file with every value in effect, its secrets masked.

use std::{collections::BTreeMap, fmt, time::Duration};

use toml::{Table, Value};
use wasmill_pipeline::fault::{FaultPolicy, FaultRules};
use wasmill_pipeline::spec::TimeSpec;
use wasmill_pipeline::time::text::instant;

use super::alarms;
use super::duration::format_us;
use super::read::{TRUST, UNREADABLE};
use super::window;
use super::{Config, Format, Generator, OnDataLoss, Output, PartitionBy, Plugin, Source, format_duration, format_size};

/// What stands for a secret.
const MASK: &str = "********";

/// Whether the value of `key` is nobody's business.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace(['.', '-'], "_");
    ["password", "passphrase", "secret", "token", "credential", "key_pem", "jaas", "api_key", "apikey", "private_key"]
        .iter()
        .any(|word| key.contains(word))
}

impl Config {
    /// The configuration in effect as TOML, defaults included and secrets masked.
    pub fn redacted(&self) -> String {
        let mut root = Table::new();
        let mut pipeline = Table::new();
        pipeline.insert("name".into(), self.name.clone().into());
        pipeline.insert("run".into(), self.run.clone().unwrap_or_default().into());
        pipeline.extend(self.workers.map(|workers| ("workers".into(), (workers as i64).into())));
        root.insert("pipeline".into(), pipeline.into());
        root.insert("source".into(), source(&self.source).into());
        root.insert("parser".into(), plugin(&self.parser).into());
        root.insert("time".into(), time(&self.time).into());
        root.insert("aggregate".into(), Value::Array(self.aggregates.iter().map(aggregate).collect()));
        let mut raw = table([("enabled", self.raw.is_some().into())]);
        raw.extend(self.raw.as_ref().map(|raw| ("output".into(), output(raw).into())));
        root.insert("raw".into(), raw.into());
        let path = |path: &std::path::Path| Value::from(path.display().to_string());
        root.insert("output".into(), table([("path", path(&self.output_path)), ("roll", roll(&self.roll))]).into());
        let interval = format_duration(self.checkpoint.interval).into();
        root.insert("checkpoint".into(), table([("path", path(&self.checkpoint.path)), ("interval", interval)]).into());
        let deadline = format_duration(self.limits.deadline).into();
        let memory = format_size(self.limits.memory_bytes).into();
        let state = self.limits.state_bytes.map_or("off".into(), |bytes| format_size(bytes).into());
        let limits = table([
            ("memory", memory),
            ("version_memory", format_size(self.limits.version_bytes).into()),
            ("compile_memory", format_size(self.limits.compile_bytes).into()),
            ("compile_time", format_duration(self.limits.compile_time).into()),
            ("deadline", deadline),
            ("state", state),
        ]);
        root.insert("limits".into(), limits.into());
        let mut faults = fault_rules(&self.faults);
        let longest = Duration::from_micros(self.faults.breaker_time_us.unsigned_abs());
        faults.extend(table([
            ("breaker_time", format_duration(longest).into()),
            ("capsules", self.capsules.enabled.into()),
            ("capsule_bytes", format_size(self.capsules.capsule_bytes).into()),
            ("capsules_bytes", format_size(self.capsules.capsules_bytes).into()),
            ("redact", self.capsules.redact.into()),
        ]));
        root.insert("faults".into(), faults.into());
        root.insert("alarms".into(), alarms::show(&self.alarms).into());
        root.insert("swap".into(), swap(&self.swap).into());
        if let Some(cache) = &self.cache_path {
            root.insert("cache".into(), table([("path", path(cache))]).into());
        }
        let listen = self.listen.map_or("off".into(), |listen| listen.to_string());
        let mut http = table([("listen", listen.into())]);
        if !self.tokens.is_empty() {
            // Shorter than any token, so that what is shown does not load as one that everybody knows.
            let masked: Table = self.tokens.keys().map(|name| (name.clone(), MASK.into())).collect();
            http.insert("tokens".into(), masked.into());
        }
        root.insert("http".into(), http.into());
        root.insert("log".into(), table([("level", self.log_level.clone().into())]).into());
        root.extend(self.generator.as_ref().map(|one| ("generator".into(), generator(one).into())));
        toml::to_string(&root).unwrap_or_else(|error| format!("# it cannot be shown: {error}\n"))
    }
}

impl fmt::Display for Config {
    /// As [`Config::redacted`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

// Derived, these would write secrets into logs.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", source(self))
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({})", plugin(self))
    }
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn micros(us: i64) -> Value {
    format_us(us).into()
}

fn time(time: &TimeSpec) -> Table {
    table([
        ("watermark_delay", micros(time.watermark_delay_us)),
        ("idle_timeout", time.idle_timeout_us.map_or("off".into(), micros)),
        ("max_ahead", time.max_ahead_us.map_or("off".into(), micros)),
        ("min", time.min_us.map_or("off".into(), |us| instant(us).into())),
        ("clock_skew", micros(time.clock_skew_us)),
        ("max_jump", micros(time.max_jump_us)),
        ("confirm", i64::from(time.confirm).into()),
        ("trust", word(&TRUST, time.trust)),
        ("unreadable", word(&UNREADABLE, time.unreadable)),
    ])
}

/// The word for a value.
fn word<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> Value {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word).into()
}

fn source(source: &Source) -> Table {
    let on_data_loss = match source.on_data_loss {
        OnDataLoss::Skip => "skip",
        OnDataLoss::Fail => "fail",
    };
    let mut shown = table([
        ("bootstrap_servers", source.bootstrap_servers.clone().unwrap_or_default().into()),
        ("topic", source.topic.clone().into()),
        ("start", source.start.to_string().into()),
        ("on_data_loss", on_data_loss.into()),
        ("wait_for_transactions", or_off(source.wait_for_transactions)),
        ("wait_for_broker", or_off(source.wait_for_broker)),
        ("group_id", source.group_id.clone().into()),
    ]);
    shown.extend(source.max_offsets_per_trigger.map(|most| ("max_offsets_per_trigger".into(), (most as i64).into())));
    if !source.kafka.is_empty() {
        shown.insert("kafka".into(), settings(&source.kafka).into());
    }
    shown
}

fn or_off(wait: Option<Duration>) -> Value {
    wait.map_or("off".into(), |wait| format_duration(wait).into())
}

fn settings(settings: &BTreeMap<String, String>) -> Table {
    let mask = |key: &str, value: &str| if is_secret(key) { MASK.into() } else { value.into() };
    settings.iter().map(|(key, value)| (key.clone(), mask(key, value))).collect()
}

fn plugin(plugin: &Plugin) -> Table {
    let mut shown = table([("plugin", plugin.path.display().to_string().into())]);
    if !plugin.config.is_empty() {
        shown.insert("config".into(), from_json("", &plugin.config.clone().into()));
    }
    shown
}

/// JSON as TOML, which has no null: that becomes empty text.
fn from_json(key: &str, json: &serde_json::Value) -> Value {
    match json {
        _ if is_secret(key) => MASK.into(),
        serde_json::Value::Null => "".into(),
        serde_json::Value::Bool(yes) => (*yes).into(),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| number.as_f64().unwrap_or(f64::NAN).into(), Value::from)
        }
        serde_json::Value::String(text) => text.clone().into(),
        serde_json::Value::Array(items) => Value::Array(items.iter().map(|item| from_json("", item)).collect()),
        serde_json::Value::Object(entries) => {
            Value::Table(entries.iter().map(|(key, value)| (key.clone(), from_json(key, value))).collect())
        }
    }
}

fn aggregate(aggregate: &super::Aggregate) -> Value {
    let spec = &aggregate.spec;
    let mut shown = table([
        ("name", spec.name.clone().into()),
        ("keys", Value::Array(spec.keys.iter().map(|key| key.clone().into()).collect())),
        ("allowed_lateness", micros(spec.allowed_lateness_us)),
        ("window", window::show(&spec.window).into()),
        ("output", output(&aggregate.output).into()),
        ("faults", fault_rules(&aggregate.faults).into()),
    ]);
    shown.extend(plugin(&aggregate.plugin));
    shown.into()
}

fn output(output: &Output) -> Table {
    let format = |format: &Format| match format {
        Format::Parquet => "parquet".into(),
        Format::Csv => "csv".into(),
    };
    let partition_by = match output.partition_by {
        PartitionBy::None => "none",
        PartitionBy::Date => "dt",
    };
    let mut shown = table([
        ("folder", output.folder.clone().into()),
        ("formats", Value::Array(output.formats.iter().map(format).collect())),
        ("partition_by", partition_by.into()),
        ("roll", roll(&output.roll)),
    ]);
    shown.extend(output.partition_zone.map(|zone| ("partition_zone".into(), zone.name().into())));
    shown
}

fn fault_rules(rules: &FaultRules) -> Table {
    let policy = match rules.policy {
        FaultPolicy::DeadLetter => "dead-letter",
        FaultPolicy::Stop => "stop",
    };
    // A fraction reads back as it was; in percent it might not.
    table([("policy", policy.into()), ("breaker", rules.breaker.into())])
}

fn swap(swap: &super::Swap) -> Table {
    let factor = |factor: Option<f64>| factor.map_or("off".into(), Value::from);
    table([
        ("watch", swap.watch.into()),
        ("probation", (swap.probation as i64).into()),
        ("state", swap.policy.map_or("", super::SwapPolicy::as_str).into()),
        ("most_time", factor(swap.most_time)),
        ("most_memory", factor(swap.most_memory)),
        ("trial_limit", format_duration(swap.trial_limit).into()),
    ])
}

fn roll(roll: &super::Roll) -> Value {
    table([
        ("rows", (roll.rows as i64).into()),
        ("bytes", format_size(roll.bytes).into()),
        ("age", format_duration(roll.age).into()),
    ])
    .into()
}

fn generator(generator: &Generator) -> Table {
    let mut shown = plugin(&generator.plugin);
    shown.extend(table([
        ("rate", generator.rate.into()),
        ("seed", (generator.seed as i64).into()),
        ("acks", generator.acks.as_str().into()),
        ("compression", generator.compression.as_str().into()),
        ("partitions", i64::from(generator.partitions).into()),
    ]));
    shown
}
