//! One process of the world: attempts from the last checkpoint on, each a pipeline with real writers, the real store
//! and the real checkpoint protocol, until it stops, is fenced off or dies.

mod changes;
mod cuts;
mod silence;
mod surroundings;

use self::changes::Parts;
use self::silence::Quiet;
use crate::disk::{Death, SimDisk};
use crate::platter::Trouble;
use crate::random::Random;
use crate::setup::Setup;
use crate::turns::Turns;
use crate::versions;
use crate::world::{CHECKPOINTS, OUTPUT, World};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use wasmill::checkpointer::Checkpointer;
use wasmill::chronicle::of_swap;
use wasmill::coordinator::worker_of;
use wasmill::disk::Disk;
use wasmill::failure::Failure;
use wasmill::recovery::{Beginning, Job, begin_anew, compare, go_back, must_go_back, recover_files, take_over};
use wasmill::sink::{FileNaming, LEDGER, Writers, dead_letter_batch, run_of};
use wasmill::store::history::{Action, Entry, Outcome};
use wasmill::store::{LocalStore, Swapped};
use wasmill_pipeline::change::Change;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::fault::{FaultRules, Treatment};
use wasmill_pipeline::pipeline::{Pipeline, Written};
use wasmill_pipeline::testing::TestParser;
use wasmill_pipeline::worker::{Effect, Worker};

/// The pipeline's name.
pub(crate) const PIPELINE: &str = "simulated";

/// The topic's.
pub(crate) const TOPIC: &str = "events";

/// What files say of their origin.
fn provenance() -> [(String, String); 2] {
    [("topic", TOPIC), ("pipeline", PIPELINE)].map(|(name, value)| (format!("wasmill.{name}"), value.to_owned()))
}

/// Calls to plugins that no history makes.
const NEVER: usize = usize::MAX / 2;

/// Why an attempt ended before its time.
pub(crate) enum Broken {
    /// As attempts may.
    Failed(Failure),
    /// A promise was broken.
    Promise(String),
}

impl<E: Into<Failure>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// One process.
pub(crate) struct Process<'w> {
    world: &'w World,
    turns: Arc<Turns>,
    seat: usize,
    disk: SimDisk,
    random: Random,
    troubled: bool,
    /// Whether the swap on probation is to be taken back.
    go_back: bool,
    /// Whether a swap is on probation.
    on_probation: bool,
    /// How often it has taken a checkpoint over.
    taken_over: u32,
}

impl<'w> Process<'w> {
    /// A process to which anything may happen.
    pub(crate) fn new(world: &'w World, turns: &Arc<Turns>, seat: usize, random: &mut Random) -> Self {
        let death = if random.percent(50) { Death::Kill } else { Death::PowerLoss };
        let end =
            random.percent(world.rules.deadly).then(|| (random.below([40, 150, 600][random.clone().below(3)]), death));
        let disk = SimDisk::new(&world.platter, turns, seat, random.fork(), end);
        let troubled = random.percent(world.rules.troubled);
        world.tell(format_args!("process {} begins", disk.process()));
        Self {
            world,
            turns: turns.clone(),
            seat,
            disk,
            random: random.fork(),
            troubled,
            go_back: false,
            on_probation: false,
            taken_over: 0,
        }
    }

    /// A process to which nothing happens.
    pub(crate) fn lucky(world: &'w World, random: &mut Random) -> Self {
        let turns = Arc::new(Turns::new(1));
        let disk = SimDisk::new(&world.platter, &turns, 0, random.fork(), None);
        world.tell(format_args!("process {} begins, the last", disk.process()));
        Self {
            world,
            turns,
            seat: 0,
            disk,
            random: random.fork(),
            troubled: false,
            go_back: false,
            on_probation: false,
            taken_over: 0,
        }
    }

    /// Its way to the disk.
    pub(crate) fn disk(&self) -> SimDisk {
        self.disk.clone()
    }

    /// Works until it ends in some way, or the world does.
    ///
    /// # Errors
    /// A promise that was broken.
    pub(crate) fn live(mut self) -> Result<(), String> {
        while self.world.now().steps > 0 {
            self.take_step();
            let ended = self.attempt();
            if self.disk.is_dead() {
                return Ok(());
            }
            match ended {
                Ok(()) => return Ok(()),
                Err(Broken::Promise(what)) => return Err(what),
                Err(Broken::Failed(failure)) => {
                    self.world.tell(format_args!("{} fails: {:#}", self.disk.process(), failure.error));
                    match failure.class {
                        Class::Plugin if self.on_probation => self.go_back |= self.random.percent(70),
                        Class::Unavailable | Class::Plugin => {}
                        Class::Fenced => return Ok(()),
                        // What an older copy names may have been swept since.
                        Class::Corrupt if self.world.now().meddling.can_be_undone() => {
                            self.world.put_back();
                            return Ok(());
                        }
                        // Where locks do not work it may have been overtaken, and another works on its files.
                        _ if !self.world.rules.locks => return Ok(()),
                        _ => return Err(format!("{:?}: {:#}", failure.class, failure.error)),
                    }
                }
            }
        }
        // The world's end comes as a kill, or as loss of power.
        let death = if self.random.percent(50) { Death::Kill } else { Death::PowerLoss };
        self.disk.die(death);
        Ok(())
    }

    /// Reads all there is, closes everything and stops; then another start must change nothing.
    ///
    /// # Errors
    /// A promise that was broken, or what keeps it from finishing.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        let told = |broken: Broken| match broken {
            Broken::Promise(what) => what,
            Broken::Failed(failure) => format!("the last process fails: {:?}: {:#}", failure.class, failure.error),
        };
        let mut attempt = self.start().map_err(told)?;
        attempt.read_all().and_then(|()| attempt.drain()).and_then(|()| attempt.stop()).map_err(told)?;
        drop(attempt);
        self.start().map(drop).map_err(told)
    }

    /// A step of the world: others may have their turn.
    fn take_step(&mut self) {
        let mut now = self.world.now();
        now.steps = now.steps.saturating_sub(1);
        drop(now);
        if self.random.percent(20) {
            self.turns.pass(self.seat);
        }
    }

    fn attempt(&mut self) -> Result<(), Broken> {
        if self.troubled && self.random.percent(30) {
            self.make_trouble();
        }
        let mut attempt = self.start()?;
        attempt.let_readers_come();
        while attempt.process.world.now().steps > 0 {
            attempt.process.take_step();
            if attempt.process.disk.is_dead() || attempt.step()?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn make_trouble(&mut self) {
        let trouble = [Trouble::Full, Trouble::ReadOnly, Trouble::SyncFails][self.random.below(3)];
        let operations = self.random.between(1, 6);
        self.world.tell(format_args!("{trouble:?} for {operations} operations"));
        self.world.platter.trouble(trouble, operations);
    }

    /// From the last checkpoint to workers that are ready.
    fn start(&mut self) -> Result<Attempt<'_, 'w>, Broken> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (root, world) = (Path::new(OUTPUT), self.world);
        let bits = self.random.next();
        let mut store = LocalStore::open(disk.clone(), Path::new(CHECKPOINTS), bits, &mut |_| ControlFlow::Break(()))?;
        store.claim(&root.join(LEDGER), &mut |_| ControlFlow::Break(()))?;
        self.hold_against_output(&mut store)?;
        let first = world.identity(&Setup::first(&world.spec));
        let mut manifest = take_over(&store, &first.pipeline, &first.fingerprint, self.taken_over == 0)?;
        self.taken_over += 1;
        if let Some(newest) = manifest.as_ref().filter(|manifest| manifest.probation.is_some())
            && (self.go_back || must_go_back(newest).is_some())
        {
            world.tell(format_args!("{} goes back from {}", self.disk.process(), newest.checkpoint));
            let event = |swap: &Swapped, boundary| Entry {
                time_us: 0,
                ..of_swap(swap, Action::Rollback, Outcome::RolledBack, boundary, "as was asked")
            };
            manifest = Some(go_back(&store, newest, event)?);
        }
        self.on_probation = manifest.as_ref().is_some_and(|manifest| manifest.probation.is_some());
        let named = manifest.as_ref().map(|manifest| versions::setup(&world.spec, &manifest.plugins, &manifest.beside));
        let setup = named.unwrap_or_else(|| Setup::first(&world.spec));
        let recovered = recover_files(disk.as_ref(), root, &store, manifest.as_ref())?;
        let mut beginning = Beginning::of(manifest, recovered.held);
        for partition in world.partitions() {
            if !beginning.partitions.contains_key(&partition) {
                beginning.add(partition, 0);
            }
        }
        let states = beginning.states(&store)?;
        let workers = self.random.between(1, 3);
        let plan = setup.plan(workers);
        let calls = if self.troubled && self.random.percent(50) { self.random.below(150) } else { NEVER };
        let calls = Arc::new(AtomicUsize::new(calls));
        let failed: Vec<(usize, String)> = (0..)
            .zip(&world.spec.aggregates)
            .filter_map(|(of, aggregate)| {
                let found = beginning.found().remove(&aggregate.name)?;
                Some((of, found.failed?))
            })
            .collect();
        let mut machines = Vec::new();
        let mut writers = Vec::new();
        for number in 0..workers {
            let aggregates = setup.entries.iter().map(|entry| changes::instance(entry, &calls, NEVER)).collect();
            let mut machine = Worker::new(plan.clone(), number, Box::new(TestParser::default()), aggregates);
            machine.treat(treatment());
            for (of, why) in &failed {
                machine.give_up_shadow(*of, why);
            }
            for (&partition, &(offset, trusted)) in &beginning.partitions {
                if worker_of(partition, workers) == number {
                    machine.assign(partition, offset, trusted);
                    machine.lane_mut(partition).expect("it is assigned").recall(beginning.newest(partition));
                }
            }
            machine.restore(&states)?;
            machines.push(machine);
            let naming =
                FileNaming { run: run_of(PIPELINE, store.id()), generation: store.generation(), worker: number };
            writers.push(Writers::new(disk.clone(), &world.outputs, root, naming, &provenance())?);
        }
        world.tell(format_args!("{} works with {workers} from {:?}", self.disk.process(), beginning.partitions));
        let mut attempt = Attempt {
            pipeline: Pipeline::new(machines, beginning.watermarks()),
            writers,
            next: beginning.partitions.iter().map(|(&p, &(offset, _))| (p, offset as usize)).collect(),
            checkpointer: beginning.checkpointer(disk, store, root.to_owned(), world.identity(&setup)),
            workers,
            parts: None,
            named: setup.clone(),
            setup,
            done: BTreeSet::new(),
            standing: (0..workers).map(|_| None).collect(),
            calls,
            quiet: Quiet::default(),
            broken: None,
            process: self,
        };
        if attempt.checkpointer.checkpoint() == 0 {
            attempt.checkpoint(false)?;
        }
        world.accept();
        Ok(attempt)
    }

    /// Refuses to write rows a second time, as a start does; then an operator puts the newest folder back, or begins anew.
    fn hold_against_output(&mut self, store: &mut LocalStore) -> Result<(), Broken> {
        let (disk, world) = (self.disk.clone(), self.world);
        let job = Job {
            pipeline: PIPELINE.into(),
            run: None,
            topic: TOPIC.into(),
            folders: world.outputs.iter().map(|output| output.folder.clone()).collect(),
        };
        let ids = if let Some(ids) = store.is_beginning_anew()? {
            ids
        } else {
            let Some(found) = compare(&disk, Path::new(OUTPUT), &job, store)? else { return Ok(()) };
            world.tell(format_args!("{} is refused: {found}", disk.process()));
            if !world.now().meddling.is_under_way() {
                return Err(Broken::Promise(format!("a start is refused for nothing: {found}")));
            }
            let anew = world.now().meddling.anew;
            if !anew && self.random.percent(60) {
                world.put_back();
                return Err(Broken::Failed(Failure::new(Class::Fenced, anyhow::anyhow!("{found}"))));
            }
            world.decide_to_begin_anew();
            found.ids
        };
        begin_anew(&disk, Path::new(OUTPUT), &job, store, &ids, self.random.next())?;
        Ok(())
    }
}

/// One attempt: from the last checkpoint until the end or a failure.
struct Attempt<'p, 'w> {
    process: &'p mut Process<'w>,
    pipeline: Pipeline,
    writers: Vec<Writers>,
    checkpointer: Checkpointer,
    /// The offsets before which all was read, by partition.
    next: BTreeMap<i32, usize>,
    workers: usize,
    /// The parts of the cut under way.
    parts: Option<Parts>,
    /// The versions at work.
    setup: Setup,
    /// Those that the next checkpoint names.
    named: Setup,
    /// Aggregates whose retiring version has nothing left to do.
    done: BTreeSet<usize>,
    /// What the workers that stand still go on with.
    standing: Vec<Option<Change>>,
    /// Calls to plugins that go well.
    calls: Arc<AtomicUsize>,
    /// Which partitions are silent.
    quiet: Quiet,
    /// A promise that was broken in passing.
    broken: Option<String>,
}

/// However much poison chance puts into a topic, it is not given up.
fn treatment() -> Treatment {
    let rules = FaultRules { breaker: 1.0, ..FaultRules::default() };
    Treatment { parser: rules, ..Treatment::default() }
}

impl Attempt<'_, '_> {
    /// One thing that happens.
    fn step(&mut self) -> Result<ControlFlow<()>, Broken> {
        let timed = self.process.world.rules.timed;
        let changing = self.process.world.rules.changing;
        if changing > 0 && self.random().percent(changing) {
            return self.change_something().map(ControlFlow::Continue);
        }
        let worker = self.any_worker();
        let mut written = Vec::new();
        match self.random().below(100) {
            0..28 => self.read(8)?,
            28..43 => drop(self.pipeline.deliver(worker, &mut written)?),
            43..55 => self.pipeline.close(worker, &mut written)?,
            55..61 if self.parts.is_none() => {
                self.tell("a cut begins");
                self.pipeline.next_cut();
                self.parts = Some(BTreeMap::new());
            }
            61..71 if self.parts.is_some() => self.pipeline.begin_cut(worker, &mut written),
            71..81 => self.finish_cut(worker, false)?,
            81..84 => self.publish_if_whole()?,
            84..88 => self.let_time_pass(),
            88..92 => self.grow(),
            93 => return self.duplicate().map(ControlFlow::Continue),
            94 if timed => self.let_silence_pass(),
            95 if self.process.troubled => self.process.make_trouble(),
            96 if self.process.world.rules.taken => self.take_files(),
            97 if self.random().percent(30) => {
                self.stop()?;
                return Ok(ControlFlow::Break(()));
            }
            92 if timed && self.random().percent(40) && self.end_caught_up()? => return Ok(ControlFlow::Break(())),
            98 if timed && self.random().percent(30) => {
                self.drain()?;
                self.stop()?;
                return Ok(ControlFlow::Break(()));
            }
            99 if self.random().percent(30) => {
                let death = if self.random().percent(50) { Death::Kill } else { Death::PowerLoss };
                self.process.disk.die(death);
                return Ok(ControlFlow::Break(()));
            }
            _ => {}
        }
        self.write(written)?;
        if let Some(what) = self.broken.take() {
            return Err(Broken::Promise(what));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn random(&mut self) -> &mut Random {
        &mut self.process.random
    }

    fn any_worker(&mut self) -> usize {
        self.process.random.below(self.workers)
    }

    fn tell(&self, what: &str) {
        self.process.world.tell(format_args!("{}: {what}", self.process.disk.process()));
    }

    /// Reads some records of some partition, unless its worker is cutting.
    fn read(&mut self, most: usize) -> Result<(), Broken> {
        let partitions: Vec<i32> = self.next.keys().copied().collect();
        let count = self.random().between(1, most);
        let Some(&partition) = self.random().pick(&partitions) else { return Ok(()) };
        self.read_of(partition, count)
    }

    fn read_of(&mut self, partition: i32, count: usize) -> Result<(), Broken> {
        let world = self.process.world;
        let worker = worker_of(partition, self.workers);
        let from = self.next[&partition];
        let to = world.now().stable[partition as usize].min(from + count);
        if from >= to || self.pipeline.workers()[worker].is_cutting() || self.standing[worker].is_some() {
            return Ok(());
        }
        self.tell(&format!("reads {partition}@{from}..{to}"));
        self.next.insert(partition, to);
        let Some(raw) = world.batch(partition, from..to) else { return Ok(()) };
        let mut written = Vec::new();
        self.pipeline.read(worker, &raw, &mut written)?;
        self.quiet.end(partition);
        self.write(written)
    }

    /// Writes what workers want written.
    fn write(&mut self, written: Written) -> Result<(), Broken> {
        let now = self.process.world.instant();
        for (worker, effect) in written {
            let writers = &mut self.writers[worker];
            match effect {
                Effect::Raw(rows) => writers.write(0, &rows, now)?,
                Effect::DeadLetters(letters) => {
                    writers.write(1, &dead_letter_batch("events", |_| (None, "digest"), &letters), now)?;
                }
                Effect::Closed(place, rows) => writers.write(2 + 2 * self.setup.entries[place].of, &rows, now)?,
                Effect::Late(aggregate, rows) => writers.write(3 + 2 * aggregate, &rows, now)?,
                Effect::Fault(_) => {}
                Effect::Send(..) => return Err(Broken::Promise("the pipeline carries messages itself".into())),
            }
        }
        Ok(())
    }
}
