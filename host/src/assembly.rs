//! From a valid configuration to parts that fit: plugins loaded, columns matched, outputs laid out.

use crate::capsule::{self, Capsules};
use crate::config::{Config, Format, Output, PartitionBy, Roll};
use crate::plugin::{Component, Limits, Runtime, World};
use crate::sink;
use anyhow::Context;
use arrow_schema::SchemaRef;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wasmill_pipeline::error::Error;
use wasmill_pipeline::plan::Plan;
use wasmill_pipeline::plugin::{Aggregate, AggregateDescription, Field, Parser};
use wasmill_pipeline::spec::Window;

/// The parts of a pipeline, ready to run.
pub struct Assembly {
    /// How they fit together.
    pub plan: Arc<Plan>,
    /// Which output is which.
    pub outputs: Arc<Outputs>,
    /// All outputs' folders, schemas and formats.
    pub output_specs: Arc<[sink::OutputSpec]>,
    /// The parser.
    pub parser: Component,
    /// The aggregates, in the order of the pipeline file.
    pub aggregates: Vec<Component>,
    /// What keeps the plugins' faults.
    pub capsules: Arc<Capsules>,
    configs: Vec<String>,
    parser_config: String,
    wanted: Option<Vec<String>>,
}

/// One worker's plugins.
pub struct Instances {
    /// The parser.
    pub parser: Box<dyn Parser>,
    /// The aggregates, in the order of the pipeline file.
    pub aggregates: Vec<Box<dyn Aggregate>>,
}

/// Which of the outputs is which, by its place in [`Assembly::output_specs`].
#[derive(Debug)]
pub struct Outputs {
    /// The topic, as it stands in dead letters.
    pub topic: String,
    /// The digest of the parser, as it stands in dead letters.
    pub parser_digest: String,
    /// The digests of the aggregates.
    pub digests: Vec<String>,
    /// The aggregates' names.
    pub names: Vec<String>,
    /// The events, unless they are not written.
    pub raw: Option<usize>,
    /// The dead letters.
    pub dead_letters: usize,
    /// Each aggregate's rows.
    pub aggregates: Vec<usize>,
    /// Each aggregate's late rows.
    pub late: Vec<usize>,
}

impl Outputs {
    /// The digest of an aggregate's plugin; `None` = of the parser's.
    pub fn digest(&self, aggregate: Option<usize>) -> &str {
        aggregate.map_or(&self.parser_digest, |index| &self.digests[index])
    }

    /// An aggregate's name and the digest of its plugin; `None` = the parser's, which has no name.
    pub fn plugin(&self, aggregate: Option<usize>) -> (Option<&str>, &str) {
        (aggregate.map(|index| self.names[index].as_str()), self.digest(aggregate))
    }
}

/// The runtime that the configuration's plugins share.
///
/// # Errors
/// Where the engine cannot be made.
pub fn runtime(config: &Config) -> anyhow::Result<Arc<Runtime>> {
    plugin_runtime(config.cache_path.clone(), &config.limits)
}

/// The runtime for plugins with these limits.
///
/// # Errors
/// Where the engine cannot be made.
pub fn plugin_runtime(cache: Option<PathBuf>, limits: &crate::config::Limits) -> anyhow::Result<Arc<Runtime>> {
    let limits = plugin_limits(limits);
    Runtime::new(cache.or_else(default_cache).as_deref(), limits).context("the plugin runtime cannot start")
}

/// The runtime for looking at faults: they name files and lines.
///
/// # Errors
/// Where the engine cannot be made.
pub fn replay_runtime(limits: &crate::config::Limits) -> anyhow::Result<Arc<Runtime>> {
    Runtime::with_lines(default_cache().as_deref(), plugin_limits(limits)).context("the plugin runtime cannot start")
}

fn plugin_limits(limits: &crate::config::Limits) -> Limits {
    Limits {
        memory_bytes: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
        deadline: limits.deadline,
        ..Limits::default()
    }
}

/// The user's cache folder, where there is one.
pub fn default_cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    base.is_absolute().then(|| base.join("wasmill"))
}

impl Assembly {
    /// Loads the plugins and fits everything together.
    ///
    /// # Errors
    /// Every mistake, a sentence each.
    pub fn new(config: &Config, runtime: &Arc<Runtime>, workers: usize) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut load = |name: &str, plugin: &crate::config::Plugin, world| {
            let loaded = runtime.load(name, &plugin.path, world);
            loaded.map_err(|error| mistakes.push(format!("{name}: {}", chain(&error)))).ok()
        };
        let parser = load("parser", &config.parser, World::Parser);
        let aggregates: Vec<Option<Component>> =
            config.aggregates.iter().map(|a| load(&a.spec.name, &a.plugin, World::Aggregate)).collect();
        let parser_config = config.parser.config_json();
        let configs: Vec<String> = config.aggregates.iter().map(|a| a.plugin.config_json()).collect();
        let topic = &config.source.topic;
        let full = parser.as_ref().and_then(|parser| {
            parser.parser(&parser_config, topic, None).map_err(|error| mistakes.push(chain(&error))).ok()
        });
        let mut descriptions = Vec::new();
        for (component, json) in aggregates.iter().zip(&configs) {
            if let Some(component) = component {
                match component.aggregate(json) {
                    Ok(instance) => descriptions.push(instance.description().clone()),
                    Err(error) => mistakes.push(chain(&error)),
                }
            }
        }
        let (Some(parser), Some(full), true) = (parser, full, mistakes.is_empty()) else { return Err(mistakes) };
        let spec = config.spec();
        let full_plan = Plan::new(&spec, topic, full.description(), &descriptions, workers).map_err(sentences)?;
        let wanted = config.raw.is_none().then(|| used_columns(&full_plan));
        let names: Option<Vec<&str>> = wanted.as_ref().map(|names| names.iter().map(String::as_str).collect());
        let projected = parser.parser(&parser_config, topic, names.as_deref()).map_err(|error| vec![chain(&error)])?;
        let plan = Plan::new(&spec, topic, projected.description(), &descriptions, workers).map_err(sentences)?;
        let aggregates: Vec<Component> = aggregates.into_iter().flatten().collect();
        let (outputs, output_specs) = lay_out(config, &plan, parser.digest(), &aggregates);
        let mut guests = vec![guest(&parser, &parser_config, wanted.clone(), None)];
        let described = aggregates.iter().zip(&configs).zip(&descriptions);
        guests
            .extend(described.map(|((component, json), description)| guest(component, json, None, Some(description))));
        Ok(Self {
            plan: Arc::new(plan),
            outputs: Arc::new(outputs),
            output_specs: output_specs.into(),
            parser,
            aggregates,
            capsules: Arc::new(capsules(config, guests)),
            configs,
            parser_config,
            wanted,
        })
    }

    /// New instances of the plugins, for one worker.
    ///
    /// # Errors
    /// What `init` says.
    pub fn instances(&self) -> Result<Instances, crate::plugin::Error> {
        let wanted: Option<Vec<&str>> = self.wanted.as_ref().map(|names| names.iter().map(String::as_str).collect());
        let parser = self.parser.parser(&self.parser_config, &self.plan.topic, wanted.as_deref())?;
        let aggregates = self.aggregates.iter().zip(&self.configs).map(|(component, json)| component.aggregate(json));
        Ok(Instances { parser, aggregates: aggregates.collect::<Result<_, _>>()? })
    }

    /// Digest of each plugin, by its name.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let all = std::iter::once(&self.parser).chain(&self.aggregates);
        all.map(|component| (component.name().to_owned(), component.digest().to_owned())).collect()
    }

    /// What makes a checkpoint another's: the topic, aggregates, their windows and keys.
    pub fn fingerprint(&self) -> String {
        let aggregate = |a: &wasmill_pipeline::plan::AggregatePlan| {
            let window = match a.spec.window {
                Window::Tumbling { size_us, offset_us } => format!("tumbling {size_us}us +{offset_us}"),
                Window::Sliding { size_us, slide_us, offset_us } => {
                    format!("sliding {size_us}us/{slide_us} +{offset_us}")
                }
                Window::Session { gap_us } => format!("session {gap_us}us"),
            };
            let keys: Vec<String> =
                a.spec.keys.iter().zip(&a.key_types).map(|(name, kind)| format!("{name}:{kind:?}")).collect();
            format!("{}({window}; {}; late {}us)", a.spec.name, keys.join(" "), a.spec.allowed_lateness_us)
        };
        let aggregates: Vec<String> = self.plan.aggregates.iter().map(aggregate).collect();
        // Offsets of one topic mean nothing in another.
        format!("topic {}: {}", self.plan.topic, aggregates.join(", "))
    }
}

/// What keeps the faults of these plugins.
fn capsules(config: &Config, guests: Vec<capsule::Guest>) -> Capsules {
    let settings = capsule::Settings {
        enabled: config.capsules.enabled,
        folder: config.output_path.join("_faults"),
        capsule_bytes: config.capsules.capsule_bytes,
        capsules_bytes: config.capsules.capsules_bytes,
        redact: config.capsules.redact,
    };
    let limits = capsule::Limits {
        memory_bytes: config.limits.memory_bytes,
        deadline_us: u64::try_from(config.limits.deadline.as_micros()).unwrap_or(u64::MAX),
    };
    Capsules::new(settings, &config.name, &config.source.topic, limits, guests)
}

/// A plugin as its capsules have it; an aggregate with its description.
fn guest(
    component: &Component,
    config_json: &str,
    wanted: Option<Vec<String>>,
    description: Option<&AggregateDescription>,
) -> capsule::Guest {
    let path = std::path::absolute(component.path()).unwrap_or_else(|_| component.path().to_owned());
    let names = |fields: &[Field]| fields.iter().map(|field| field.name.clone()).collect();
    capsule::Guest {
        plugin: capsule::Plugin {
            name: component.name().to_owned(),
            interface: component.world().interface().to_owned(),
            path: path.display().to_string(),
            digest: component.digest().to_owned(),
            config: capsule::Secret::Open(config_json.to_owned()),
            wanted,
        },
        inputs: description.map(|d| names(&d.inputs)).unwrap_or_default(),
        context: description.map(|d| names(&d.context)).unwrap_or_default(),
    }
}

/// The parser's columns that some aggregate needs.
fn used_columns(plan: &Plan) -> Vec<String> {
    use wasmill_pipeline::plan::Source;
    let mut used: Vec<usize> = plan.aggregates.iter().flat_map(|a| a.keys.iter().copied()).collect();
    for (source, _) in plan.aggregates.iter().flat_map(|a| &a.inputs) {
        if let Source::Column(index) = source {
            used.push(*index);
        }
    }
    used.extend(plan.event_time);
    used.sort_unstable();
    used.dedup();
    used.into_iter().map(|index| plan.columns[index].name.clone()).collect()
}

fn lay_out(
    config: &Config,
    plan: &Plan,
    parser_digest: &str,
    aggregates: &[Component],
) -> (Outputs, Vec<sink::OutputSpec>) {
    let mut specs = Vec::new();
    let mut add = |spec| {
        specs.push(spec);
        specs.len() - 1
    };
    let raw = config.raw.as_ref().map(|output| add(data_output(config, output, &plan.raw_schema, "event_ts")));
    let dead_letters = add(side_output(config, "_dead_letters", &sink::dead_letter_schema()));
    let mut outputs = Outputs {
        topic: plan.topic.to_string(),
        parser_digest: parser_digest.to_owned(),
        digests: aggregates.iter().map(|component| component.digest().to_owned()).collect(),
        names: plan.aggregates.iter().map(|a| a.spec.name.clone()).collect(),
        raw,
        dead_letters,
        aggregates: Vec::new(),
        late: Vec::new(),
    };
    for (aggregate, planned) in config.aggregates.iter().zip(&plan.aggregates) {
        let start = planned.schema.field(0).name();
        outputs.aggregates.push(add(data_output(config, &aggregate.output, &planned.schema, start)));
        outputs.late.push(add(side_output(config, &format!("_late/{}", aggregate.spec.name), &plan.late_schema)));
    }
    (outputs, specs)
}

fn data_output(config: &Config, output: &Output, schema: &SchemaRef, date_of: &str) -> sink::OutputSpec {
    let formats = output.formats.iter().map(|format| match format {
        Format::Parquet => sink::Format::Parquet,
        Format::Csv => sink::Format::Csv,
    });
    sink::OutputSpec {
        name: output.folder.clone(),
        folder: config.output_path.join(&output.folder),
        schema: schema.clone(),
        formats: formats.collect(),
        partition_by: matches!(output.partition_by, PartitionBy::Date).then(|| date_of.to_owned()),
        roll: roll(&output.roll),
    }
}

fn side_output(config: &Config, name: &str, schema: &SchemaRef) -> sink::OutputSpec {
    sink::OutputSpec {
        name: name.to_owned(),
        folder: config.output_path.join(name),
        schema: schema.clone(),
        formats: vec![sink::Format::Parquet],
        partition_by: None,
        roll: roll(&config.roll),
    }
}

fn roll(roll: &Roll) -> sink::Roll {
    sink::Roll { max_rows: roll.rows, max_bytes: roll.bytes, max_age: roll.age.max(Duration::from_millis(1)) }
}

fn sentences(error: Error) -> Vec<String> {
    match error {
        Error::Config(mistakes) => mistakes,
        other => vec![other.to_string()],
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
