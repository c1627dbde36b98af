//! `wasmill run`: the pipeline, and around it the embedded broker, the generator, the web page and the status line.

use super::check::{refuse, settings_mistakes};
use super::generate::{produce, producer, records, stop_on_signal};
use super::{Exit, classed, environment, kafka_settings, mistakes, token_folders};
use crate::admin;
use crate::admin::control::Request;
use crate::admin::local_token::LocalToken;
use crate::assembly::{self, Assembly};
use crate::catalog::Active;
use crate::cli::RunArgs;
use crate::clock;
use crate::config::{self, Config, GenerateConfig, OnDataLoss};
use crate::coordinator::End;
use crate::disk::{RealDisk, most_open_files};
use crate::faults::Faults;
use crate::generate::{Destination, Options as GenerateOptions, Pacing};
use crate::instances::Instantiate;
use crate::kafka::{EmbeddedBroker, Start};
use crate::observer::Observer;
use crate::plugin;
use crate::run::{self, Options, View};
use crate::shared::lock;
use crate::store::PluginStore;
use crate::swapper::{Generating, Swapper};
use crate::tap::Taps;
use crate::telemetry::{Screen, StatusReporter, init_logging};
use crate::watch::{Watcher, watch};
use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the status line is refreshed.
const REFRESH: Duration = Duration::from_millis(500);

/// How often a pipe gets a line.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What the generator may be ahead of the pipeline, with the embedded broker: it keeps about 5 MB a partition.
const EMBEDDED_AHEAD_BYTES: usize = 2 << 20;

/// How many changes may wait for their turn: they are made one after the other, and people ask for few.
const MOST_REQUESTS: usize = 16;

/// Runs the pipeline until it ends, with these instances of its plugins.
///
/// # Errors
/// Every mistake of the configuration at once, or the failure that ended it.
pub fn run(args: &RunArgs, instantiate: &Arc<dyn Instantiate>) -> anyhow::Result<Exit> {
    let env = environment(args.file.env_file.as_deref())?;
    let mut config = Config::load(&args.config, &env, &args.overrides()).map_err(|found| refuse(&found))?;
    let screen = init_logging(&config.log_level).map_err(|error| mistakes(&[error.to_string()]))?;
    // From here on no signal, not that of a file too large either, ends the process before it can say so.
    let stop = stop_on_signal()?;
    tracing::debug!(descriptors = most_open_files(), "files and sockets that may be open at once");
    isolate_embedded(&mut config);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = config.workers.unwrap_or(cores);
    let runtime = assembly::runtime(&config)?;
    let (assembly, known) = assemble(args, &config, &runtime, workers, instantiate)?;
    let broker = embedded_broker(&config)?;
    let bootstrap = match (&broker, &config.source.bootstrap_servers) {
        (Some(broker), _) => broker.bootstrap().to_owned(),
        (None, servers) => servers.clone().unwrap_or_default(),
    };
    let rules = config.aggregates.iter().map(|aggregate| aggregate.faults);
    let faults = Arc::new(Mutex::new(Faults::new(config.faults, rules)));
    let view = Arc::new(View { faults, ..View::default() });
    let (taps, tapped) = Taps::new(&args.taps);
    show_taps(&view, tapped, screen.clone())?;
    let observer = Arc::new(Observer::new(&config, &assembly, view.clone()));
    // What people ask of the running plugins, and whoever answers.
    let (requests_in, requests) = bounded::<Request>(MOST_REQUESTS);
    let web = serve(&config, &observer, requests_in.clone())?;
    let options = options(args, &config, &bootstrap, workers);
    let generator_stop = Arc::new(AtomicBool::new(false));
    let (generator, generating) = if broker.is_some() || args.generate {
        let (thread, at_work) =
            start_generator(&config, &runtime, &bootstrap, broker.is_some(), &view, &generator_stop)?;
        (Some(thread), Some(at_work))
    } else {
        (None, None)
    };
    let watching = watch_plugins(&config, &view, known, generating.as_ref(), requests_in)?;
    answer_requests(&config, requests, &view, generating)?;
    tracing::info!(pipeline = config.name, workers, output = %config.output_path.display(), "starting");
    let ended = {
        let pipeline = std::thread::Builder::new().name("coordinator".into());
        let (assembly, view, stop) = (assembly, view, stop.clone());
        let (at_work, over) = bounded::<()>(0);
        let thread = pipeline.spawn(move || {
            let _at_work = at_work;
            run::run(&assembly, &options, &view, &taps, &stop)
        })?;
        let mut reporter = StatusReporter::new(screen, LINE_EVERY);
        // Over when the thread lets go of its end, however it ends.
        loop {
            observer.watch(Instant::now());
            reporter.report(Instant::now(), observer.status());
            if over.recv_timeout(REFRESH) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        reporter.finish();
        thread.join().map_err(|_| anyhow::anyhow!("the coordinator panicked"))?
    };
    observer.ended(ended.as_ref().err().map(|failure| format!("{:#}", failure.error)));
    generator_stop.store(true, Ordering::SeqCst);
    if let Some(generator) = generator {
        let _ = generator.join();
    }
    drop(watching);
    drop(web);
    let end = ended.map_err(|failure| classed(failure.class, failure.error))?;
    tracing::info!("{}", observer.summary(&end));
    for wrong in observer.verdict() {
        tracing::warn!("{wrong}");
    }
    match end {
        End::Unread(unread) => {
            let unread: Vec<String> = unread.iter().map(ToString::to_string).collect();
            tracing::error!(
                "records behind open transactions were not read: {}; the next run goes on there, \
                 source.wait_for_transactions says how long a run waits for them",
                unread.join(", ")
            );
            Ok(Exit::Unread)
        }
        End::Away(why) => {
            tracing::error!(
                "kafka did not give all that is to be read: {why}; the next run goes on there, source.wait_for_broker says \
                 how long a run waits for brokers and the topic"
            );
            Ok(Exit::Unread)
        }
        End::Stopped | End::Interrupted | End::CaughtUp => Ok(Exit::Done),
    }
}

/// The embedded broker forgets everything with the process, so its checkpoints are a run's own, unless one is named.
fn isolate_embedded(config: &mut Config) {
    if config.source.bootstrap_servers.is_none() && config.run.is_none() {
        let run = format!("embedded-{}-{}", clock::now_us() / 1_000_000, std::process::id());
        config.checkpoint.path.push(&run);
        config.run = Some(run);
    }
}

fn assemble(
    args: &RunArgs,
    config: &Config,
    runtime: &Arc<crate::plugin::Runtime>,
    workers: usize,
    instantiate: &Arc<dyn Instantiate>,
) -> anyhow::Result<(Arc<Assembly>, BTreeMap<String, String>)> {
    let mut wrong = settings_mistakes(config);
    for tap in &args.taps {
        let known = matches!(tap.as_str(), "raw" | "parsed") || config.aggregates.iter().any(|a| a.spec.name == *tap);
        if !known {
            let names: Vec<&str> = config.aggregates.iter().map(|a| a.spec.name.as_str()).collect();
            wrong.push(format!(
                "--tap {tap}: there is no such thing to show; there are raw, parsed, {}",
                names.join(", ")
            ));
        }
    }
    if config.generator.is_none() && (args.generate || config.source.bootstrap_servers.is_none()) {
        wrong.push(
            "generator: the section is missing, and is needed with --generate and with the embedded broker".into(),
        );
    }
    // A run that begins anew has nothing in force.
    let active = if args.begin_anew { None } else { Active::look(config) };
    let assembled = match active {
        Some(active) => active.assemble(runtime, workers, instantiate),
        None => Assembly::with_instances(config, runtime, workers, instantiate).map(|assembly| {
            let known = assembly.versions.digests();
            (assembly, known)
        }),
    };
    match assembled {
        Ok((assembly, known)) if wrong.is_empty() => Ok((Arc::new(assembly), known)),
        Ok(_) => Err(mistakes(&wrong)),
        Err(found) => {
            wrong.extend(found);
            Err(mistakes(&wrong))
        }
    }
}

fn embedded_broker(config: &Config) -> anyhow::Result<Option<EmbeddedBroker>> {
    if config.source.bootstrap_servers.is_some() {
        return Ok(None);
    }
    let partitions = config.generator.as_ref().map_or(1, |generator| generator.partitions);
    let broker = EmbeddedBroker::start(&config.source.topic, partitions)?;
    tracing::info!(
        topic = config.source.topic,
        partitions,
        "no KAFKA_BOOTSTRAP_SERVERS: using the embedded broker, which forgets everything at the end"
    );
    Ok(Some(broker))
}

fn options(args: &RunArgs, config: &Config, bootstrap: &str, workers: usize) -> Options {
    Options {
        pipeline: config.name.clone(),
        run: config.run.clone(),
        config_digest: plugin::digest(config.redacted().as_bytes()),
        kafka: kafka_settings(&config.source, bootstrap),
        start: match &config.source.start {
            config::Start::Earliest => Start::Earliest,
            config::Start::Latest => Start::Latest,
            config::Start::Timestamp(us) => Start::Timestamp(*us),
            config::Start::Offsets(offsets) => Start::Offsets(offsets.clone()),
        },
        fail_on_data_loss: config.source.on_data_loss == OnDataLoss::Fail,
        wait_for_transactions: config.source.wait_for_transactions,
        wait_for_broker: config.source.wait_for_broker,
        max_records: config.source.max_offsets_per_trigger,
        state_bytes: config.limits.state_bytes,
        time: config.time.clone(),
        workers,
        checkpoint_path: config.checkpoint.path.clone(),
        checkpoint_interval: config.checkpoint.interval,
        output_root: config.output_path.clone(),
        until_caught_up: args.ends(),
        drain: args.drain,
        lower_watermark_us: args.lower_watermark,
        begin_anew: args.begin_anew,
        swap: config.swap,
    }
}

/// Prints what the taps give, on standard output.
fn show_taps(view: &View, lines: Receiver<String>, screen: Screen) -> anyhow::Result<()> {
    let print = move || {
        use std::io::Write;
        for line in lines {
            screen.show("");
            if writeln!(std::io::stdout().lock(), "{line}").is_err() {
                return;
            }
        }
    };
    view.parts.start("taps", print).context("a thread cannot be started")?;
    Ok(())
}

/// The web page, the API and the metrics, until the answer is dropped.
fn serve(config: &Config, observer: &Arc<Observer>, requests: Sender<Request>) -> anyhow::Result<Option<Web>> {
    let Some(listen) = config.listen else { return Ok(None) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let status = observer.clone();
    let shutdown = async {
        let _ = stopped.await;
    };
    let site = admin::Site {
        hosts: Vec::new(),
        status: Arc::new(move || status.status()),
        requests,
        tokens: config.tokens.clone(),
        token_folders: token_folders(),
    };
    let server = runtime
        .block_on(admin::serve(listen, site, shutdown))
        .with_context(|| {
            format!("cannot listen for the web page address={listen}; choose another with --listen, or off")
        })
        .map_err(|error| classed(wasmill_pipeline::error::Class::Config, error))?;
    tracing::info!("web page at http://{}", server.address);
    let local_token = server.local_token.map_err(|error| {
        let why = assembly::chain(&error);
        tracing::warn!("changes need a token of [http.tokens]; there is none for the user of this process: {why}");
    });
    Ok(Some(Web { _local_token: local_token.ok(), _stop: stop, _runtime: runtime }))
}

/// Answers what is asked of the plugins, until nobody can ask any more.
fn answer_requests(
    config: &Config,
    requests: Receiver<Request>,
    view: &Arc<View>,
    generator: Option<Generating>,
) -> anyhow::Result<()> {
    let kept = PluginStore::open(Arc::new(RealDisk), &config.checkpoint.path, plugin::digest);
    let swapper = Swapper { requests, view: view.clone(), kept, generator, trial_limit: config.swap.trial_limit };
    view.parts.start("swapper", move || swapper.run()).context("a thread cannot be started")?;
    Ok(())
}

/// Asks for a swap when a plugin's file changes, until the answer is dropped.
fn watch_plugins(
    config: &Config,
    view: &View,
    mut known: BTreeMap<String, String>,
    generator: Option<&Generating>,
    requests: Sender<Request>,
) -> anyhow::Result<Option<Sender<()>>> {
    if !config.swap.watch {
        return Ok(None);
    }
    let parser = std::iter::once(("parser", &config.parser));
    let aggregates = config.aggregates.iter().map(|aggregate| (aggregate.spec.name.as_str(), &aggregate.plugin));
    known.extend(generator.map(|at_work| ("generator".to_owned(), at_work.slot.component().digest().to_owned())));
    let generates = generator.is_some();
    let generator = config.generator.iter().filter(|_| generates).map(|generator| ("generator", &generator.plugin));
    let files = parser.chain(aggregates).chain(generator).map(|(name, plugin)| (name.to_owned(), plugin.path.clone()));
    // What was loaded from the files at the start is no change, whichever versions are in force: one that was swapped in by other
    // ways is not to be replaced by an old file at the next start.
    let watcher = Watcher::new(files.collect(), &known);
    let (stop, stopped) = bounded(0);
    let work = move || watch(watcher, &requests, &stopped);
    view.parts.start("watch", work).context("a thread cannot be started")?;
    Ok(Some(stop))
}

struct Web {
    _local_token: Option<LocalToken>,
    _stop: tokio::sync::oneshot::Sender<()>,
    _runtime: tokio::runtime::Runtime,
}

fn start_generator(
    config: &Config,
    runtime: &Arc<crate::plugin::Runtime>,
    bootstrap: &str,
    embedded: bool,
    view: &Arc<View>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<(std::thread::JoinHandle<()>, Generating)> {
    let generator = config.generator.clone().context("the pipeline file has no [generator]")?;
    let settings = GenerateConfig {
        source: config.source.clone(),
        limits: config.limits,
        cache_path: config.cache_path.clone(),
        log_level: config.log_level.clone(),
        generator,
    };
    let mut source = records(runtime, &settings)?;
    let at_work = Generating {
        slot: source.clone(),
        config_json: settings.generator.plugin.config_json(),
        seed: settings.generator.seed,
    };
    // The status line shows what arrives; acknowledgements are for `wasmill generate`.
    let producer = producer(&settings, bootstrap, 0)?;
    let options =
        GenerateOptions { rate: settings.generator.rate, count: None, first: 0, start_time_us: None, span: None };
    let (parts, view, stop) = (view.parts.clone(), view.clone(), stop.clone());
    let work = move || {
        let consumed = || lock(&view.shared).as_ref().map_or(0, |shared| run::records_read(shared));
        let pacing = Pacing { consumed: &consumed, most_bytes: EMBEDDED_AHEAD_BYTES };
        let pacing = embedded.then_some(&pacing);
        if let Err(error) = produce(&mut source, &mut Destination::Topic(&producer), &options, pacing, &stop) {
            tracing::error!("the generator stopped: {error:#}");
        }
    };
    let thread = parts.start("generator", work);
    Ok((thread.context("a thread cannot be started")?, at_work))
}
