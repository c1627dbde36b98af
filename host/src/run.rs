//! Runs a pipeline: builds its parts from the last checkpoint, lets them work, and starts again where that may help.

mod standing;
mod topic;
mod versions;

use crate::accounting::Totals;
use crate::admin::Trial;
use crate::assembly::Assembly;
use crate::budget::StateBudget;
use crate::checkpointer::Identity;
use crate::chronicle::Chronicle;
use crate::clock;
use crate::config::Swap;
use crate::coordinator::{Allowance, Coordinator, End, Progress, worker_of};
use crate::disk::{Disk, RealDisk};
use crate::driver::{Driver, Reading, Watch};
use crate::failpoint;
use crate::failure::Failure;
use crate::faults::{Faults, Verdict};
use crate::kafka::{self, Admin, Looker, Lookout, Settings, Source, Start, Waker};
use crate::parts::Parts;
use crate::provenance;
use crate::recovery::{Beginning, recover_files, take_over};
use crate::shared::{INBOX, LOWER, Samples, Shared, Standing, Wires, lock};
use crate::sink::{self, FileNaming, Writers};
use crate::store::history::History;
use crate::store::{LocalStore, Manifest};
use crate::switch::{GoBack, Switchboard};
use crate::tap::Taps;
use anyhow::{Context, anyhow};
use crossbeam_channel::{bounded, unbounded};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wasmill_pipeline::error::{Class, Error};
use wasmill_pipeline::record::Anchor;
use wasmill_pipeline::spec::TimeSpec;
use wasmill_pipeline::time::NOTHING_SEEN;
use wasmill_pipeline::time::silence::AnsweredTime;
use wasmill_pipeline::time::text::{instant, span};
use wasmill_pipeline::time::trust::Trusted;
use wasmill_pipeline::worker::Worker;

/// The first and the longest wait before the next attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// How many attempts in a row may fail for a reason of the pipeline's own without a checkpoint in between.
const MOST_FAILURES: u32 = 3;

/// What a run is to do.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a decision of its own")]
pub struct Options {
    /// The pipeline's name.
    pub pipeline: String,
    /// The isolated run, if it is one.
    pub run: Option<String>,
    /// The digest of the configuration in effect, its secrets masked.
    pub config_digest: String,
    /// How the topic is reached.
    pub kafka: Settings,
    /// Where reading starts when there is no checkpoint.
    pub start: Start,
    /// Whether removed records end the run.
    pub fail_on_data_loss: bool,
    /// How long a run that ends by itself waits for open transactions when nothing else is left; `None` = any time.
    pub wait_for_transactions: Option<Duration>,
    /// How long such a run waits for brokers, or for the topic; `None` = any time.
    pub wait_for_broker: Option<Duration>,
    /// The most records read between two checkpoints.
    pub max_records: Option<u64>,
    /// The most memory that open state may take; `None` = any amount.
    pub state_bytes: Option<u64>,
    /// How event time moves.
    pub time: TimeSpec,
    /// Worker threads.
    pub workers: usize,
    /// Where checkpoints go.
    pub checkpoint_path: PathBuf,
    /// The time between two.
    pub checkpoint_interval: Duration,
    /// Where outputs go.
    pub output_root: PathBuf,
    /// Stop at the end offsets seen at the start.
    pub until_caught_up: bool,
    /// Close everything then.
    pub drain: bool,
    /// Where the watermark of the last checkpoint is set back to, if it is.
    pub lower_watermark_us: Option<i64>,
    /// Put what was committed aside and read everything again, where the checkpoint is gone or older than that.
    pub begin_anew: bool,
    /// How plugins are replaced.
    pub swap: Swap,
}

/// What people see of a run, whichever attempt is under way.
#[derive(Default)]
pub struct View {
    /// Checkpoints.
    pub progress: Arc<Mutex<Progress>>,
    /// The threads of the current attempt.
    pub shared: Mutex<Option<Arc<Shared>>>,
    /// Those of the last attempt, also when it is over.
    pub latest: Mutex<Option<Arc<Shared>>>,
    /// What earlier attempts and runs had counted when this attempt began.
    pub base: Mutex<Totals>,
    /// The generation of the current attempt.
    pub generation: Mutex<u64>,
    /// What is waited for, if anything is.
    pub waiting: Mutex<Option<String>>,
    /// The plugins' faults.
    pub faults: Arc<Mutex<Faults>>,
    /// The versions at work; `None` before the first attempt knows them.
    pub in_force: Arc<Mutex<Option<Arc<Assembly>>>>,
    /// What is to be changed.
    pub switchboard: Arc<Switchboard>,
    /// Versions that are being tried.
    pub trials: Mutex<Vec<Trial>>,
    /// What became of swaps and shadows.
    pub history: Arc<Chronicle>,
    /// The threads that live as long as the process does.
    pub parts: Arc<Parts>,
}

impl View {
    fn wait(&self, what: &str) {
        tracing::warn!("{what}");
        *lock(&self.waiting) = Some(what.to_owned());
    }

    fn go_on(&self) {
        *lock(&self.waiting) = None;
    }
}

/// Runs until somebody sets `stop`, everything is read (where that is asked for), or nothing more can be done.
/// `files` are the plugins that lie at the paths of the pipeline file.
///
/// # Errors
/// The failure that ended it, with its class.
pub fn run(
    files: &Arc<Assembly>,
    options: &Options,
    view: &Arc<View>,
    taps: &Taps,
    stop: &Arc<AtomicBool>,
) -> Result<End, Failure> {
    let ended = attempts(files, options, view, taps, stop);
    view.switchboard.close("the pipeline has stopped");
    ended
}

fn attempts(
    files: &Arc<Assembly>,
    options: &Options,
    view: &Arc<View>,
    taps: &Taps,
    stop: &Arc<AtomicBool>,
) -> Result<End, Failure> {
    let mut backoff = BACKOFF.0;
    let mut failures = 0;
    let mut go_back = None;
    // Since when Kafka does not give what is needed to begin.
    let mut away_since: Option<Instant> = None;
    loop {
        let made = lock(&view.progress).made;
        let disk = Arc::new(RealDisk);
        let since = *away_since.get_or_insert_with(Instant::now);
        let wait = options.wait_for_broker.filter(|_| options.until_caught_up);
        let left = wait.map(|wait| wait.saturating_sub(since.elapsed()));
        let result = Attempt { disk, files, options, view, taps, stop, go_back: go_back.as_deref(), wait: left }.run();
        if lock(&view.shared).take().is_some() {
            away_since = None;
        }
        let failure = match result {
            Ok(end) => return Ok(end),
            Err(failure) if stop.load(Ordering::SeqCst) => {
                tracing::warn!("no final checkpoint, the next run goes on from the one before: {:#}", failure.error);
                return Ok(End::Interrupted);
            }
            Err(failure) => failure,
        };
        if lock(&view.progress).made > made {
            (backoff, failures, go_back) = (BACKOFF.0, 0, None);
        }
        let at_work = lock(&view.in_force).clone();
        let at_work = at_work.as_ref().unwrap_or(files);
        let verdict = match failure.error.downcast_ref::<Error>() {
            Some(Error::Plugin(plugin)) => lock(&view.faults).judge(plugin, &at_work.outputs),
            _ if failure.error.is::<GoBack>() => Verdict::GoBack,
            _ => Verdict::Retry,
        };
        match verdict {
            Verdict::Replay => continue,
            Verdict::Stop => return Err(tell_digest(failure, at_work)),
            Verdict::GoBack => {
                go_back = Some(format!("{:#}", failure.error));
                lock(&view.faults).set_probation(Vec::new());
                continue;
            }
            Verdict::Retry => {}
        }
        failures += 1;
        let over = away_since.zip(wait).is_some_and(|(since, wait)| since.elapsed() >= wait);
        if over && failure.error.is::<kafka::Error>() && failure.class == Class::Unavailable {
            return Ok(End::Away(format!("{:#}", failure.error)));
        }
        match failure.class {
            Class::Unavailable => {}
            Class::Plugin | Class::Bug if failures < MOST_FAILURES => {}
            _ => return Err(failure),
        }
        view.wait(&format!("paused, trying again in {backoff:?}: {:#}", failure.error));
        lock(&view.progress).phase = "paused";
        sleep_unless(stop, backoff);
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

/// A plugin's failure, with the digest of the plugin.
fn tell_digest(failure: Failure, assembly: &Assembly) -> Failure {
    let Some(Error::Plugin(plugin)) = failure.error.downcast_ref::<Error>() else { return failure };
    let digest = assembly.outputs.digest(plugin.aggregate);
    let error = anyhow!("{plugin} digest={digest}; nothing since the last checkpoint was committed");
    Failure { error, ..failure }
}

/// How many records of a topic that began empty have been read: offsets count over attempts.
pub fn records_read(shared: &Shared) -> u64 {
    let read = |standing: &Standing| standing.partitions.values().map(|p| p.next_offset.max(0) as u64).sum::<u64>();
    shared.standing.iter().map(|standing| read(&lock(standing))).sum()
}

fn sleep_unless(stop: &AtomicBool, time: Duration) {
    let until = Instant::now() + time;
    while !stop.load(Ordering::SeqCst) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50).min(time));
    }
}

/// One attempt: from the last checkpoint until the end or a failure.
struct Attempt<'a> {
    disk: Arc<dyn Disk>,
    files: &'a Arc<Assembly>,
    /// Why the swap on probation is to be taken back, if it is.
    go_back: Option<&'a str>,
    /// How long to wait for brokers and the topic; `None` = any time.
    wait: Option<Duration>,
    options: &'a Options,
    view: &'a Arc<View>,
    taps: &'a Taps,
    stop: &'a Arc<AtomicBool>,
}

impl Attempt<'_> {
    fn run(&self) -> Result<End, Failure> {
        lock(&self.view.progress).phase = "starting";
        let mut store = self.open_store()?;
        *lock(&self.view.generation) = store.generation();
        let newest = store.latest()?.map_or(0, |manifest| manifest.checkpoint);
        let made = lock(&self.view.progress).checkpoint;
        if newest < made {
            // To go on from an earlier one would make its output a second time.
            let path = self.options.checkpoint_path.display();
            let gone = anyhow!("the checkpoint that this process made is gone checkpoint={made} path={path}");
            return Err(Failure::new(Class::Corrupt, gone));
        }
        self.hold_against_output(&mut store)?;
        let new_process = lock(&self.view.in_force).is_none();
        let manifest = take_over(&store, &self.options.pipeline, &self.files.fingerprint(), new_process)?;
        self.view.history.open(History::open(self.disk.clone(), &self.options.checkpoint_path));
        if let Some(manifest) = &manifest {
            self.view.history.recover(&manifest.events);
        }
        let manifest = manifest.map(|manifest| self.unless_taken_back(&store, manifest)).transpose()?;
        let root = &self.options.output_root;
        let recovered = recover_files(self.disk.as_ref(), root, &store, manifest.as_ref())?;
        if recovered.swept > 0 {
            let removed = recovered.swept;
            tracing::info!(removed, "removed staged files that belong to no checkpoint; their records are read again");
        }
        let (assembly, manifest) = self.in_force(&store, manifest)?;
        self.answer_who_waits(manifest.as_ref());
        let admin = Admin::new(&self.options.kafka)?;
        let beginning = self.beginning(&admin, manifest, recovered.held)?;
        let mut looker = Looker::new(&self.options.kafka)?;
        let until = if self.options.until_caught_up { Some(topic::ends(&mut looker, &beginning)?) } else { None };
        let lookout = Lookout::start(looker, beginning.partitions.keys().copied())?;
        self.view.go_on();
        self.work(&assembly, store, admin, lookout, beginning, until.as_ref())
    }

    /// Whose checkpoints are made.
    fn identity(&self, assembly: &Assembly, manifest: Option<&Manifest>) -> Identity {
        let seen = manifest.map(|manifest| manifest.seen.clone()).filter(|seen| !seen.is_empty());
        Identity {
            pipeline: self.options.pipeline.clone(),
            run: self.options.run.clone(),
            fingerprint: assembly.fingerprint(),
            topic: assembly.outputs.topic.clone(),
            aggregates: assembly.outputs.in_force().to_vec(),
            plugins: assembly.versions.digests(),
            beside: assembly.versions.beside(),
            seen: seen.unwrap_or_else(|| self.files.versions.digests()),
        }
    }

    /// Sets the watermark back where that was asked for, until a checkpoint holds it; and says so where it lies ahead of
    /// the clock, and what can be done.
    fn mend(&self, beginning: &mut Beginning) {
        if let Some(to_us) = self.options.lower_watermark_us.filter(|_| lock(&self.view.progress).made == 0) {
            let (to, from) = (instant(to_us), beginning.closed_up_to_us);
            if beginning.lower(to_us) {
                let from = if from == NOTHING_SEEN { "its partitions' own".to_owned() } else { instant(from) };
                tracing::warn!(
                    "the watermark is set back from {from} to {to}, as was asked; a window that was closed after that \
                     gives a second row for what comes to it now. Leave --lower-watermark out of the next start"
                );
            } else {
                tracing::warn!("the watermark does not lie after {to}: --lower-watermark has nothing to set back");
            }
        }
        let now_us = clock::now_us();
        let most_us = self.options.time.max_ahead_us.unwrap_or(0).max(self.options.time.max_jump_us);
        for (partition, (_, trusted)) in &beginning.partitions {
            let ahead_us = trusted.watermark_us.saturating_sub(now_us);
            if trusted.watermark_us != NOTHING_SEEN && ahead_us > most_us {
                let (watermark, ahead) = (instant(trusted.watermark_us), span(ahead_us));
                tracing::warn!(
                    partition,
                    "the watermark of the checkpoint, {watermark}, lies {ahead} ahead of this machine's clock: rows \
                     before it are too late. {LOWER}"
                );
            }
        }
    }

    fn work(
        &self,
        assembly: &Arc<Assembly>,
        store: LocalStore,
        admin: Admin,
        lookout: Lookout,
        beginning: Beginning,
        until: Option<&BTreeMap<i32, i64>>,
    ) -> Result<End, Failure> {
        let workers = self.options.workers;
        let states = beginning.states(&store)?;
        failpoint::reach("state-loaded");
        let shared = Arc::new(Shared {
            base: beginning.totals(),
            watermarks: Mutex::new(beginning.watermarks()),
            lookout,
            budget: self.options.max_records.map(AtomicU64::new),
            state_budget: StateBudget::new(self.options.state_bytes),
            last_cut: AtomicU64::new(0),
            stand_at: AtomicU64::new(0),
            samples: Samples::new(workers),
            first_batch: Once::new(),
            abort: AtomicBool::new(false),
            standing: (0..workers).map(|_| Mutex::new(Standing::default())).collect(),
        });
        self.show(&beginning);
        let (reports_in, reports) = unbounded();
        let anchors = beginning.anchors();
        let sources = self.sources(&beginning.partitions, &anchors, workers)?;
        let wakers: Vec<Waker> = sources.iter().map(Source::waker).collect();
        let (peers, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| bounded(INBOX)).unzip();
        let mut commands = Vec::new();
        let mut drivers = Vec::new();
        for ((number, source), inbox) in sources.into_iter().enumerate().zip(inboxes) {
            let (command, orders) = unbounded();
            commands.push(command);
            let wires = Wires {
                commands: orders,
                inbox,
                peers: peers.clone(),
                wakers: wakers.clone(),
                reports: reports_in.clone(),
            };
            let mut worker = self.worker(assembly, number)?;
            for (aggregate, name) in assembly.outputs.in_force().iter().enumerate() {
                if let Some(why) = beginning.found().get(name).and_then(|found| found.failed.as_deref()) {
                    worker.give_up_shadow(aggregate, why);
                }
            }
            for (&partition, &(offset, trusted)) in &beginning.partitions {
                if worker_of(partition, workers) == number {
                    worker.assign(partition, offset, trusted);
                    if let Some(lane) = worker.lane_mut(partition) {
                        lane.recall(beginning.newest(partition));
                    }
                }
            }
            worker.restore(&states)?;
            let naming = self.naming(&store, number);
            let mut driver = self.driver(assembly, worker, source, wires, &shared, until, &naming, &anchors)?;
            driver.writers.set_checkpoint(beginning.boundary());
            drivers.push(driver);
        }
        drop((states, peers, reports_in));
        *lock(&self.view.shared) = Some(shared.clone());
        *lock(&self.view.latest) = Some(shared.clone());
        lock(&self.view.progress).phase = "running";
        let (discovered, discovery) = topic::discover(&self.view.parts, admin, until.is_some());
        let partitions = beginning.partitions.keys().copied().collect();
        let identity = self.identity(assembly, beginning.manifest.as_ref());
        let coordinator = Coordinator {
            checkpointer: beginning.checkpointer(self.disk.clone(), store, self.options.output_root.clone(), identity),
            interval: self.options.checkpoint_interval,
            max_records: self.options.max_records,
            drain: self.options.drain,
            shared: shared.clone(),
            commands,
            wakers,
            reports,
            discovered,
            stop: self.stop.clone(),
            progress: self.view.progress.clone(),
            partitions,
            caught_up: 0,
            waiting: None,
            wait_for_transactions: self.options.wait_for_transactions,
            wait_for_broker: self.options.wait_for_broker,
            idle_timeout_us: self.options.time.idle_timeout_us,
            answered: AnsweredTime::default(),
            faults: self.view.faults.clone(),
            assembly: assembly.clone(),
            in_force: self.view.in_force.clone(),
            switchboard: self.view.switchboard.clone(),
            allowance: Allowance { time: self.options.swap.most_time, memory: self.options.swap.most_memory },
            cost_before: None,
            history: self.view.history.clone(),
            retired: None,
            late_sessions_told: BTreeSet::new(),
        };
        let threads: Vec<JoinHandle<()>> = drivers.into_iter().map(spawn).collect::<Result<_, _>>()?;
        // Dropping the coordinator, at the end of its run, ends the workers: their command queues close.
        let result = coordinator.run();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
        drop(discovery);
        result
    }

    /// Tells people what earlier attempts and processes have counted and found.
    fn show(&self, beginning: &Beginning) {
        *lock(&self.view.base) = beginning.totals();
        let mut progress = lock(&self.view.progress);
        progress.shadows = beginning.found();
        progress.probation = beginning.manifest.as_ref().and_then(|manifest| manifest.probation.clone());
    }

    /// Each worker's reader of its partitions.
    fn sources(
        &self,
        partitions: &BTreeMap<i32, (i64, Trusted)>,
        anchors: &BTreeMap<i32, Anchor>,
        workers: usize,
    ) -> Result<Vec<Source>, Failure> {
        let read_by = |number| {
            let mine = partitions.iter().filter(|&(&partition, _)| worker_of(partition, workers) == number);
            let mine: Vec<(i32, i64)> = mine.map(|(&partition, &(next_offset, _))| (partition, next_offset)).collect();
            Ok(Source::new(&self.options.kafka, &mine, anchors)?)
        };
        (0..workers).map(read_by).collect()
    }

    fn worker(&self, assembly: &Assembly, number: usize) -> Result<Worker, Failure> {
        let made = assembly.instances().map_err(|error| Failure::new(Class::Plugin, error))?;
        let mut worker = Worker::new(assembly.plan.clone(), number, made.parser, made.aggregates);
        worker.treat(lock(&self.view.faults).treatment());
        Ok(worker)
    }

    fn naming(&self, store: &LocalStore, worker: usize) -> FileNaming {
        let name = self.options.run.as_deref().unwrap_or(&self.options.pipeline);
        FileNaming { run: sink::run_of(name, store.id()), generation: store.generation(), worker }
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one thread, named once, here")]
    fn driver(
        &self,
        assembly: &Arc<Assembly>,
        worker: Worker,
        source: Source,
        wires: Wires,
        shared: &Arc<Shared>,
        until: Option<&BTreeMap<i32, i64>>,
        naming: &FileNaming,
        anchors: &BTreeMap<i32, Anchor>,
    ) -> Result<Driver, Failure> {
        let Options { pipeline, run, config_digest, output_root, checkpoint_path, .. } = self.options;
        let (specs, topic) = (&assembly.output_specs, &assembly.outputs.topic);
        let by_calendar = assembly.goes_by_a_calendar();
        let run = run.as_deref();
        let provenance = provenance::of(pipeline, run, topic, config_digest, output_root, checkpoint_path, by_calendar);
        let writers = Writers::new(self.disk.clone(), specs, output_root, naming.clone(), &provenance)?;
        let idle_timeout = self.options.time.idle_timeout_us.map(|us| Duration::from_micros(us.unsigned_abs()));
        let anchors = source.partitions().into_iter().filter_map(|p| Some((p, *anchors.get(&p)?))).collect();
        let watches = source.partitions().into_iter().map(|p| (p, Watch::default())).collect();
        Ok(Driver {
            number: naming.worker,
            worker,
            source,
            writers,
            assembly: assembly.clone(),
            outputs: assembly.outputs.clone(),
            capsules: assembly.capsules.clone(),
            wires,
            shared: shared.clone(),
            reading: Reading {
                until: until.cloned(),
                fail_on_data_loss: self.options.fail_on_data_loss,
                // A run that ends by itself waits for nothing: no partition is idle in it.
                idle_timeout: if until.is_some() { None } else { idle_timeout },
            },
            taps: self.taps.clone(),
            outbox: VecDeque::new(),
            apart: BTreeMap::new(),
            beside: None,
            watches,
            anchors,
            troubled: None,
            standing_since: None,
            letters: BTreeMap::new(),
            told_ahead: BTreeSet::new(),
        })
    }
}

fn spawn(driver: Driver) -> Result<JoinHandle<()>, Failure> {
    let name = format!("worker-{}", driver.number);
    std::thread::Builder::new()
        .name(name)
        .spawn(move || driver.run())
        .context("a thread cannot be started")
        .map_err(|error| Failure { class: Class::Unavailable, error })
}
