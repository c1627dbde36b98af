//! From a valid configuration to parts that fit: plugins loaded, columns matched, outputs laid out.

use crate::capsule::{self, Capsules};
use crate::config::{Config, Format, Output, PartitionBy, Roll, format_duration, format_window};
use crate::instances::{Instances, Instantiate, Sandbox};
use crate::plugin::{self, Component, Limits, Runtime, World};
use crate::sink;
use crate::store::{self, Beside, BesideRole};
use anyhow::Context;
use arrow_schema::SchemaRef;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wasmill_pipeline::error::Error;
use wasmill_pipeline::plan::{self, AggregatePlan, Plan};
use wasmill_pipeline::plugin::{Aggregate, AggregateDescription, Field, Parser};
use wasmill_pipeline::version::{ALL_KEYS, Role};
use wasmill_pipeline::window::Zone;

/// The parts of a pipeline, ready to run.
#[derive(Clone)]
pub struct Assembly {
    /// How they fit together.
    pub plan: Arc<Plan>,
    /// Which output is which.
    pub outputs: Arc<Outputs>,
    /// All outputs' folders, schemas and formats.
    pub output_specs: Arc<[sink::OutputSpec]>,
    /// The plugins.
    pub versions: Versions,
    /// What keeps the plugins' faults.
    pub capsules: Arc<Capsules>,
    /// What the aggregates say of themselves, by their places in the plan.
    pub descriptions: Vec<AggregateDescription>,
    config: Arc<Config>,
    workers: usize,
    wanted: Option<Vec<String>>,
    instantiate: Arc<dyn Instantiate>,
}

/// The plugins of a pipeline.
#[derive(Clone)]
pub struct Versions {
    /// The parser.
    pub parser: Component,
    /// The aggregates in force, in the order of the pipeline file.
    pub aggregates: Vec<Component>,
    /// Versions beside these.
    pub beside: Vec<BesideVersion>,
}

/// A version that runs beside the one in force.
#[derive(Clone)]
pub struct BesideVersion {
    /// Of which aggregate, by its place.
    pub of: usize,
    /// What it is for.
    pub role: BesideRole,
    /// The plugin.
    pub component: Component,
}

impl Versions {
    /// Digest of each plugin in force, by its name.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let all = std::iter::once(&self.parser).chain(&self.aggregates);
        all.map(|component| (component.name().to_owned(), component.digest().to_owned())).collect()
    }

    /// The versions beside these, as a checkpoint names them.
    pub fn beside(&self) -> Vec<Beside> {
        let beside = |version: &BesideVersion| Beside {
            aggregate: self.aggregates[version.of].name().to_owned(),
            digest: version.component.digest().to_owned(),
            role: version.role.clone(),
        };
        self.beside.iter().map(beside).collect()
    }

    /// The one that is retiring from an aggregate.
    pub fn retiring(&self, aggregate: usize) -> Option<&BesideVersion> {
        self.beside.iter().find(|beside| beside.of == aggregate && beside.is_retiring())
    }

    /// An aggregate's shadow.
    pub fn shadow(&self, aggregate: usize) -> Option<&BesideVersion> {
        self.beside.iter().find(|beside| beside.of == aggregate && beside.is_shadow())
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Component> {
        std::iter::once(&self.parser).chain(self.entries())
    }

    /// The component of each entry of the plan.
    fn entries(&self) -> impl Iterator<Item = &Component> {
        self.aggregates.iter().chain(self.beside.iter().map(|beside| &beside.component))
    }
}

impl BesideVersion {
    /// Whether it ends what it began.
    pub fn is_retiring(&self) -> bool {
        matches!(self.role, BesideRole::Retiring { .. })
    }

    /// Whether it is compared, and not written.
    pub fn is_shadow(&self) -> bool {
        matches!(self.role, BesideRole::Shadow { .. })
    }

    fn plan(&self, description: AggregateDescription) -> plan::Beside {
        let (role, tolerance) = match &self.role {
            BesideRole::Retiring { .. } => (Role::Retiring, BTreeMap::new()),
            BesideRole::Shadow { key_sample, tolerance, .. } => {
                let keys = (key_sample.clamp(0.0, 1.0) * ALL_KEYS as f64) as u64;
                (Role::Shadow { keys }, tolerance.clone())
            }
        };
        plan::Beside { of: self.of, role, description, tolerance }
    }
}

impl Assembly {
    /// Whether windows or folders go by the calendar of a time zone.
    pub fn goes_by_a_calendar(&self) -> bool {
        let windows = self.plan.aggregates.iter().map(|aggregate| aggregate.spec.window.zone());
        let folders = self.output_specs.iter().filter_map(|spec| Some(spec.partition_by.as_ref()?.zone));
        windows.chain(folders).any(|zone| zone != Zone::UTC)
    }
}

/// Which of the outputs is which, by its place in [`Assembly::output_specs`].
#[derive(Debug)]
pub struct Outputs {
    /// The topic, as it stands in dead letters.
    pub topic: String,
    /// The digest of the parser, as it stands in dead letters.
    pub parser_digest: String,
    /// The digests of the aggregates, by their places in the plan.
    pub digests: Vec<String>,
    /// The names of the aggregates, by their places in the plan: those in force first.
    pub names: Vec<String>,
    /// How many are in force.
    pub in_force: usize,
    /// The events, unless they are not written.
    pub raw: Option<usize>,
    /// The dead letters.
    pub dead_letters: usize,
    /// The rows of each place in the plan; `None` = they are not written.
    pub aggregates: Vec<Option<usize>>,
    /// The late rows of each aggregate in force.
    pub late: Vec<usize>,
}

impl Outputs {
    /// The names of the aggregates in force.
    pub fn in_force(&self) -> &[String] {
        &self.names[..self.in_force]
    }

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
        version_bytes: limits.version_bytes,
        compile_bytes: limits.compile_bytes,
        compile_time: limits.compile_time,
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
        Self::with_instances(config, runtime, workers, &(Arc::new(Sandbox) as _))
    }

    /// The same with instances from elsewhere.
    ///
    /// # Errors
    /// Every mistake, a sentence each.
    pub fn with_instances(
        config: &Config,
        runtime: &Arc<Runtime>,
        workers: usize,
        instantiate: &Arc<dyn Instantiate>,
    ) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let mut load = |name: &str, plugin: &crate::config::Plugin, world| {
            let loaded = runtime.load(name, &plugin.path, world);
            loaded.map_err(|error| mistakes.push(format!("{}{name}: {}", plugin.named, chain(&error)))).ok()
        };
        let parser = load("parser", &config.parser, World::Parser);
        let aggregates: Vec<Option<Component>> =
            config.aggregates.iter().map(|a| load(&a.spec.name, &a.plugin, World::Aggregate)).collect();
        let aggregates: Option<Vec<Component>> = aggregates.into_iter().collect();
        match (parser, aggregates) {
            (Some(parser), Some(aggregates)) => {
                Self::of(config, Versions { parser, aggregates, beside: Vec::new() }, workers, instantiate)
            }
            _ => Err(mistakes),
        }
    }

    /// Fits plugins together that are loaded.
    ///
    /// # Errors
    /// Every mistake, a sentence each.
    pub fn of(
        config: &Config,
        versions: Versions,
        workers: usize,
        instantiate: &Arc<dyn Instantiate>,
    ) -> Result<Self, Vec<String>> {
        Self::fit(&Arc::new(config.clone()), versions, workers, instantiate, None)
    }

    /// The same pipeline with other plugins.
    ///
    /// # Errors
    /// Every mistake, a sentence each.
    pub fn with(&self, versions: Versions) -> Result<Self, Vec<String>> {
        Self::fit(&self.config, versions, self.workers, &self.instantiate, Some(&self.capsules))
    }

    fn fit(
        config: &Arc<Config>,
        versions: Versions,
        workers: usize,
        instantiate: &Arc<dyn Instantiate>,
        before: Option<&Capsules>,
    ) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let topic = &config.source.topic;
        let parser_config = config.parser.config_json();
        let full = instantiate.parser(&versions.parser, &parser_config, topic, None);
        // A version that is to be swapped in is named elsewhere.
        let place = |plugin: &crate::config::Plugin| match before {
            None => plugin.named.to_string(),
            Some(_) => String::new(),
        };
        let full = full.map_err(|error| mistakes.push(format!("{}{}", place(&config.parser), chain(&error)))).ok();
        let mut describe = |of: usize, component: &Component| {
            let plugin = &config.aggregates[of].plugin;
            let instance = instantiate.aggregate(component, &plugin.config_json());
            let description = instance.map(|instance| instance.description().clone());
            description.map_err(|error| mistakes.push(format!("{}{}", place(plugin), chain(&error)))).ok()
        };
        let descriptions: Vec<Option<AggregateDescription>> =
            versions.aggregates.iter().enumerate().map(|(of, component)| describe(of, component)).collect();
        let beside: Vec<Option<plan::Beside>> = versions
            .beside
            .iter()
            .map(|version| Some(version.plan(describe(version.of, &version.component)?)))
            .collect();
        let descriptions: Option<Vec<AggregateDescription>> = descriptions.into_iter().collect();
        let beside: Option<Vec<plan::Beside>> = beside.into_iter().collect();
        let (Some(full), Some(descriptions), Some(beside)) = (full, descriptions, beside) else { return Err(mistakes) };
        let spec = config.spec();
        let plan = |parser: &dyn Parser| {
            Plan::with(&spec, topic, parser.description(), &descriptions, &beside, workers).map_err(sentences)
        };
        let full_plan = plan(full.as_ref())?;
        let wanted = config.raw.is_none().then(|| used_columns(&full_plan));
        let names: Option<Vec<&str>> = wanted.as_ref().map(|names| names.iter().map(String::as_str).collect());
        let projected = instantiate.parser(&versions.parser, &parser_config, topic, names.as_deref());
        let mut plan = plan(projected.map_err(|error| vec![chain(&error)])?.as_ref())?;
        for version in &versions.beside {
            match version.role {
                BesideRole::Retiring { before_us } => plan.pin(version.of, before_us),
                BesideRole::Shadow { from_us, .. } => plan.observe(version.of, from_us),
            }
        }
        let (outputs, output_specs) = lay_out(config, &plan, &versions);
        let mut guests = vec![guest(&versions.parser, &parser_config, wanted.clone(), None)];
        let described = descriptions.iter().chain(beside.iter().map(|beside| &beside.description));
        for ((plan, component), description) in plan.aggregates.iter().zip(versions.entries()).zip(described) {
            let json = config.aggregates[plan.of].plugin.config_json();
            guests.push(guest(component, &json, None, Some(description)));
        }
        Ok(Self {
            plan: Arc::new(plan),
            outputs: Arc::new(outputs),
            output_specs: output_specs.into(),
            capsules: Arc::new(
                before.map_or_else(|| capsules(config, guests.clone()), |before| before.with(guests.clone())),
            ),
            versions,
            descriptions: descriptions.into_iter().chain(beside.into_iter().map(|beside| beside.description)).collect(),
            config: config.clone(),
            workers,
            wanted,
            instantiate: instantiate.clone(),
        })
    }

    /// New instances of the plugins, for one worker.
    ///
    /// # Errors
    /// What `init` says.
    pub fn instances(&self) -> Result<Instances, plugin::Error> {
        let aggregates = (0..self.plan.aggregates.len()).map(|index| self.aggregate(index));
        Ok(Instances { parser: self.parser()?, aggregates: aggregates.collect::<Result<_, _>>()? })
    }

    /// A new instance of the parser.
    ///
    /// # Errors
    /// What `init` says.
    pub fn parser(&self) -> Result<Box<dyn Parser>, plugin::Error> {
        let wanted = self.wanted();
        let json = self.config.parser.config_json();
        self.instantiate.parser(&self.versions.parser, &json, &self.plan.topic, wanted.as_deref())
    }

    /// A new instance of what is at this place in the plan.
    ///
    /// # Errors
    /// What `init` says.
    pub fn aggregate(&self, index: usize) -> Result<Box<dyn Aggregate>, plugin::Error> {
        let json = self.config.aggregates[self.plan.aggregates[index].of].plugin.config_json();
        let component = self.versions.entries().nth(index);
        self.instantiate.aggregate(component.expect("each entry of the plan has a component"), &json)
    }

    /// The parser's columns that are wanted; `None` = all.
    pub fn wanted(&self) -> Option<Vec<&str>> {
        self.wanted.as_ref().map(|names| names.iter().map(String::as_str).collect())
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What makes a checkpoint another's, in the words of the pipeline file: the topic, aggregates, their windows and keys.
    pub fn fingerprint(&self) -> String {
        // Offsets of one topic mean nothing in another.
        let mut words = vec![("source.topic".to_owned(), format!("{:?}", self.plan.topic))];
        for AggregatePlan { spec, key_types, .. } in &self.plan.aggregates[..self.plan.in_force()] {
            let key = |of: &str| format!("aggregate.{}.{of}", spec.name);
            let lateness = format_duration(Duration::from_micros(spec.allowed_lateness_us.unsigned_abs()));
            words.push((key("window"), format_window(&spec.window)));
            words.push((key("keys"), format!("{:?}", spec.keys)));
            words.push((key("keys as the parser makes them"), format!("{key_types:?}")));
            words.push((key("allowed_lateness"), format!("{lateness:?}")));
        }
        store::fingerprint(words)
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

fn lay_out(config: &Config, plan: &Plan, versions: &Versions) -> (Outputs, Vec<sink::OutputSpec>) {
    let mut specs = Vec::new();
    let parser = || ("parser".to_owned(), versions.parser.digest().to_owned());
    let digest = |component: &Component| (component.name().to_owned(), component.digest().to_owned());
    let everyone: BTreeMap<_, _> = versions.aggregates.iter().map(digest).chain([parser()]).collect();
    let mut add = |spec: sink::OutputSpec, plugins: BTreeMap<String, String>| {
        specs.push(sink::OutputSpec { plugins, ..spec });
        specs.len() - 1
    };
    let raw = config.raw.as_ref().map(|output| {
        let rows = data_output(config, output, &plan.raw_schema, ("event_ts", Zone::UTC));
        add(rows, BTreeMap::from([parser()]))
    });
    let dead_letters = add(side_output(config, "_dead_letters", &sink::dead_letter_schema()), everyone);
    let mut outputs = Outputs {
        topic: plan.topic.to_string(),
        parser_digest: versions.parser.digest().to_owned(),
        digests: versions.entries().map(|component| component.digest().to_owned()).collect(),
        names: plan.aggregates.iter().map(|a| a.spec.name.clone()).collect(),
        in_force: plan.in_force(),
        raw,
        dead_letters,
        aggregates: Vec::new(),
        late: Vec::new(),
    };
    for (planned, component) in plan.aggregates.iter().zip(versions.entries()) {
        let [start, _] = planned.spec.window.columns();
        let output = &config.aggregates[planned.of].output;
        let plugins = BTreeMap::from([parser(), digest(component)]);
        let rows = data_output(config, output, &planned.schema, (start, planned.spec.window.zone()));
        outputs.aggregates.push((!planned.role.is_shadow()).then(|| add(rows, plugins.clone())));
        if planned.role == Role::Current {
            let late = side_output(config, &format!("_late/{}", planned.spec.name), &plan.late_schema);
            outputs.late.push(add(late, plugins));
        }
    }
    (outputs, specs)
}

/// An output for rows. `dated` are the column whose date makes folders, and the zone where the file names none.
fn data_output(config: &Config, output: &Output, schema: &SchemaRef, dated: (&str, Zone)) -> sink::OutputSpec {
    let formats = output.formats.iter().map(|format| match format {
        Format::Parquet => sink::Format::Parquet,
        Format::Csv => sink::Format::Csv,
    });
    sink::OutputSpec {
        name: output.folder.clone(),
        folder: config.output_path.join(&output.folder),
        schema: schema.clone(),
        formats: formats.collect(),
        partition_by: matches!(output.partition_by, PartitionBy::Date)
            .then(|| sink::ByDate { column: dated.0.to_owned(), zone: output.partition_zone.unwrap_or(dated.1) }),
        roll: roll(&output.roll),
        plugins: BTreeMap::new(),
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
        plugins: BTreeMap::new(),
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
