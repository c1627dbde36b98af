//! `wasmill generate`: the generator component's records into a topic or a file.

use super::{Classed, Exit, check::refuse, classed, environment, kafka_settings, mistakes};
use crate::assembly;
use crate::cli::GenerateArgs;
use crate::clock;
use crate::config::{GenerateConfig, Loader};
use crate::generate::{self, Destination, Options, Pacing, RecordSource};
use crate::generator::GeneratorSlot;
use crate::kafka::{Admin, Producer, ProducerSettings};
use crate::plugin::{Runtime, World};
use anyhow::Context;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wasmill_pipeline::error::Class;

/// Up to this rate every 10th acknowledgement is shown.
const DEMO_RATE: f64 = 1_000.0;

/// Signals this close together are one: a terminal, `make` and `timeout` may each pass the same one on.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Makes records until the count is reached or somebody stops it.
///
/// # Errors
/// Mistakes of the configuration, a plugin's fault, a broker that refuses.
pub fn generate(args: &GenerateArgs) -> anyhow::Result<Exit> {
    let env = environment(args.env_file.as_deref())?;
    let overrides = args.overrides();
    let loader = Loader { env: &env, overrides: &overrides, check_files: true };
    let config = loader.generator(args.config.as_deref()).map_err(|found| refuse(&found))?;
    crate::telemetry::init_logging(&config.log_level).map_err(|error| mistakes(&[error.to_string()]))?;
    let runtime = assembly::plugin_runtime(config.cache_path.clone(), &config.limits)?;
    let mut source = records(&runtime, &config)?;
    let options = Options {
        rate: config.generator.rate,
        count: args.count,
        first: args.first,
        start_time_us: None,
        span: args.span,
    };
    let stop = stop_on_signal()?;
    match &args.to_file {
        Some(path) if path.as_os_str() == "-" => {
            let mut out = io::stdout().lock();
            produce(&mut source, &mut Destination::Lines(&mut out), &options, None, &stop)?;
        }
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("the file cannot be made path={}", path.display()))?;
            let mut out = BufWriter::new(file);
            produce(&mut source, &mut Destination::Lines(&mut out), &options, None, &stop)?;
            out.flush().with_context(|| format!("the file cannot be written path={}", path.display()))?;
        }
        None => {
            let Some(bootstrap) = config.source.bootstrap_servers.as_deref() else {
                return Err(mistakes(&[
                    "source.bootstrap_servers: there is no broker to generate into; set KAFKA_BOOTSTRAP_SERVERS or \
                     --bootstrap-servers, or write to a file with --to-file (the embedded broker lives inside \
                     `wasmill run`)"
                        .to_owned(),
                ]));
            };
            wait_for_topic(&config, bootstrap, args.create, &stop)?;
            let demo = (0.0..=DEMO_RATE).contains(&config.generator.rate) && config.generator.rate > 0.0;
            let producer = producer(&config, bootstrap, if demo { 10 } else { 0 })?;
            produce(&mut source, &mut Destination::Topic(&producer), &options, None, &stop)?;
        }
    }
    Ok(Exit::Done)
}

/// Makes records until told to stop, and says what came of it.
pub(super) fn produce(
    source: &mut dyn RecordSource,
    destination: &mut Destination<'_>,
    options: &Options,
    pacing: Option<&Pacing<'_>>,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let mut tell = |line: &str| tracing::info!("{line}");
    let report = generate::run(source, destination, options, pacing, &clock::now_us, stop, &mut tell)?;
    tracing::info!(records = report.records, bytes = report.bytes, next = report.next, "generated");
    anyhow::ensure!(report.failed == 0, "the broker did not take all records failed={}", report.failed);
    Ok(())
}

/// The generator of a configuration.
pub(super) fn records(runtime: &Arc<Runtime>, config: &GenerateConfig) -> anyhow::Result<Arc<GeneratorSlot>> {
    let plugin = &config.generator.plugin;
    let component = runtime.load("generator", &plugin.path, World::Generator).context(Classed(Class::Config))?;
    let generator =
        component.generator(&plugin.config_json(), config.generator.seed).context(Classed(Class::Config))?;
    Ok(GeneratorSlot::new(component, generator))
}

/// A producer for the topic that shows every `ack_every`th acknowledgement; 0 = none.
pub(super) fn producer(config: &GenerateConfig, bootstrap: &str, ack_every: u64) -> anyhow::Result<Producer> {
    let settings = ProducerSettings {
        bootstrap: bootstrap.to_owned(),
        topic: config.source.topic.clone(),
        client_id: "wasmill-generate".to_owned(),
        acks: config.generator.acks.as_str().to_owned(),
        compression: config.generator.compression.as_str().to_owned(),
        passthrough: for_producers(&config.source.kafka),
    };
    let on_ack = |ack: crate::kafka::Ack<'_>| tracing::info!("[ack] {}:{}@{}", ack.topic, ack.partition, ack.offset);
    Producer::new(&settings, ack_every, on_ack).map_err(|error| classed(error.class(), error.into()))
}

/// The pass-through settings that say how the broker is reached: the others are the consumer's.
fn for_producers(
    passthrough: &std::collections::BTreeMap<String, String>,
) -> std::collections::BTreeMap<String, String> {
    let shared = ["security.", "sasl.", "ssl.", "socket.", "broker.", "client.", "reconnect.", "https."];
    let is_shared = |key: &str| shared.iter().any(|prefix| key.starts_with(prefix));
    passthrough.iter().filter(|(key, _)| is_shared(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn wait_for_topic(config: &GenerateConfig, bootstrap: &str, create: bool, stop: &AtomicBool) -> anyhow::Result<()> {
    let admin = Admin::new(&kafka_settings(&config.source, bootstrap)).map_err(|e| classed(e.class(), e.into()))?;
    let mut tell = |what: &str| tracing::warn!("waiting for kafka: {what}");
    if create {
        loop {
            match admin.create_topic(config.generator.partitions, 1) {
                Ok(_) => break,
                Err(error @ crate::kafka::Error::Unavailable { .. }) if !stop.load(Ordering::SeqCst) => {
                    tell(&assembly::chain(&error));
                    std::thread::sleep(Duration::from_secs(1));
                }
                Err(error) => return Err(classed(error.class(), error.into())),
            }
        }
    }
    admin.wait_for_topic(None, &mut tell, stop).map(|_| ()).map_err(|error| classed(error.class(), error.into()))
}

/// `SIGXFSZ` as Linux numbers it: a file would grow beyond the process's limit. Once it is received it no longer kills
/// the process, and the write fails, which is dealt with as a full disk is.
const FILE_TOO_LARGE: tokio::signal::unix::SignalKind = tokio::signal::unix::SignalKind::from_raw(25);

/// A flag that the first SIGTERM or Ctrl-C sets; the second ends the process at once.
pub(super) fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let all = [SignalKind::terminate(), SignalKind::interrupt(), FILE_TOO_LARGE].map(signal);
            let [mut terminate, mut interrupt, _ignored] = match all {
                [Ok(terminate), Ok(interrupt), Ok(ignored)] => [terminate, interrupt, ignored],
                [Err(error), _, _] | [_, Err(error), _] | [_, _, Err(error)] => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            let _ = ready.send(Ok(()));
            let mut first: Option<Instant> = None;
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if first.is_some_and(|first| first.elapsed() < SAME_SIGNAL) {
                    continue;
                }
                if first.is_some() {
                    // The last checkpoint stands; what came after it is read again by the next run.
                    #[expect(clippy::disallowed_methods, reason = "asked to stop at once: nothing waits for anything")]
                    std::process::exit(130);
                }
                tracing::info!("stopping; a second signal stops at once");
                flag.store(true, Ordering::SeqCst);
                first = Some(Instant::now());
            }
        });
    })?;
    is_ready.recv().context("the thread for signals ended")?.context("signals cannot be received")?;
    Ok(stop)
}
