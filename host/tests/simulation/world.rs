//! What a seed makes: a topic, a disk, rules of the day; and what is known of the checkpoints that exist.

use crate::meddling::Meddling;
use crate::platter::{Kind, Platter, Seen};
use crate::process::{PIPELINE, TOPIC};
use crate::random::Random;
use crate::setup::Setup;
use crate::versions;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use wasmill::checkpointer::Identity;
use wasmill::sink::{Format, LEDGER, OutputSpec, REPLACED, Roll, dead_letter_schema};
use wasmill::store::Manifest;
use wasmill_pipeline::record::{NO_TIMESTAMP, RawBatch};
use wasmill_pipeline::spec::PipelineSpec;
use wasmill_pipeline::testing::{TestRecord, on_the_calendar, raw_batch, spec_of_all_windows, spec_on_the_calendar};

/// Where outputs go.
pub(crate) const OUTPUT: &str = "/data/output";

/// Where checkpoints go.
pub(crate) const CHECKPOINTS: &str = "/state/checkpoints";

/// Records of each partition with their broker's times.
pub(crate) type Topic = Vec<Vec<(TestRecord, i64)>>;

/// One seed's world.
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) topic: Topic,
    /// The topic as the oracle has it: nothing where readers get no record.
    pub(crate) committed: Topic,
    /// Offsets of each partition at which readers of committed records get none: of transactions that are aborted, and
    /// their marks.
    unread: Vec<BTreeSet<usize>>,
    pub(crate) spec: PipelineSpec,
    pub(crate) outputs: Arc<[OutputSpec]>,
    pub(crate) platter: Arc<Platter>,
    /// When the history began; time is counted from here.
    began: Instant,
    log: Arc<Log>,
    now: Mutex<Now>,
}

/// What may happen in this history.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own")]
pub(crate) struct Rules {
    /// Idle partitions, partitions that come later and runs that end in between: what is too late depends on time then.
    pub(crate) timed: bool,
    /// How many processes fight for the checkpoint path.
    pub(crate) processes: usize,
    /// Whether locks keep all but one of them out.
    pub(crate) locks: bool,
    /// Steps until the end.
    pub(crate) steps: usize,
    /// In how many of a hundred lives something goes wrong with the disk, or with a plugin.
    pub(crate) troubled: usize,
    /// In how many of a hundred lives the process ends at an operation on the disk.
    pub(crate) deadly: usize,
    /// Readers take committed files away.
    pub(crate) taken: bool,
    /// The checkpoint folder is lost, or an older copy takes its place.
    pub(crate) meddled: bool,
    /// Another pipeline has files in the output.
    pub(crate) shared: bool,
    /// In how many of a hundred steps versions change, or are to.
    pub(crate) changing: usize,
    /// Whether versions may begin without state.
    pub(crate) fresh: bool,
    /// Windows are days of a time zone, and its clock changes.
    pub(crate) calendar: bool,
    /// Whether partitions are there before their first record.
    pub(crate) empty: bool,
    /// In how many of a hundred growths a transaction is left open.
    pub(crate) transactions: usize,
}

/// How far the world has come.
#[derive(Debug)]
pub(crate) struct Now {
    /// How many records of each partition there are by now; a partition with none is not there yet.
    pub(crate) there: Vec<usize>,
    /// The last stable offsets: what is behind waits for an open transaction to end.
    pub(crate) stable: Vec<usize>,
    /// The time by which partitions are idle, µs.
    pub(crate) clock_us: i64,
    /// How often brokers were away, or all processes frozen, so far.
    pub(crate) outages: u64,
    /// Steps left.
    pub(crate) steps: usize,
    /// Virtual time since the beginning.
    pub(crate) elapsed: Duration,
    /// What readers took away.
    pub(crate) taken: Vec<(PathBuf, Vec<u8>)>,
    /// What was done to the checkpoint folder.
    pub(crate) meddling: Meddling,
    /// The tag of the newest version.
    pub(crate) tags: i64,
    /// Where versions that began without state did so, by their tags.
    pub(crate) fresh: BTreeMap<i64, Fresh>,
}

impl Now {
    /// All records come in, and every transaction has ended.
    pub(crate) fn complete(&mut self, topic: &Topic) {
        self.there = topic.iter().map(Vec::len).collect();
        self.stable.clone_from(&self.there);
    }
}

/// Where a version began without state.
#[derive(Clone, Debug)]
pub(crate) struct Fresh {
    /// Of which aggregate.
    pub(crate) of: usize,
    /// The first offsets that it got.
    pub(crate) offsets: BTreeMap<i32, i64>,
    /// The least watermark up to which a worker had closed by then.
    pub(crate) floor: i64,
}

/// What the watch on the disk has seen.
pub(crate) struct Log {
    spec: PipelineSpec,
    told: bool,
    seen: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The output files of each manifest that exists.
    checkpoints: BTreeMap<u64, Files>,
    /// The output files of checkpoints that are lost, or that nobody goes on from.
    once: BTreeSet<PathBuf>,
    /// Files that readers see although no checkpoint has them.
    violations: Vec<String>,
    /// All that was done, as one number.
    digest: u64,
    done: u64,
}

impl Log {
    /// Prints what is done, where that was asked for, and counts it.
    #[expect(clippy::print_stdout, reason = "that is what SEED asks for")]
    pub(crate) fn tell(&self, what: &dyn std::fmt::Display) {
        let mut seen = self.seen.lock().expect("the log does not panic");
        seen.done += 1;
        if self.told {
            println!("{what}");
        }
    }

    /// One number for all that was done.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let seen = self.seen.lock().expect("the log does not panic");
        (seen.done, seen.digest)
    }

    /// What must never be and was.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.seen.lock().expect("the log does not panic").violations.clone()
    }

    /// The checkpoints that exist or existed, and the files of each.
    pub(crate) fn checkpoints(&self) -> BTreeMap<u64, Files> {
        self.seen.lock().expect("the log does not panic").checkpoints.clone()
    }

    /// From now on only the checkpoints exist that are among these files.
    pub(crate) fn only_of(&self, files: &[(PathBuf, Vec<u8>)]) {
        let newest = files.iter().filter_map(|(path, _)| checkpoint_of(path)).max().unwrap_or(0);
        let mut known = self.seen.lock().expect("the log does not panic");
        let lost = known.checkpoints.split_off(&(newest + 1));
        known.once.extend(lost.into_values().flat_map(|files| files.finished.into_iter().chain(files.open)));
    }

    /// These checkpoints exist again.
    pub(crate) fn put_back(&self, checkpoints: BTreeMap<u64, Files>) {
        self.seen.lock().expect("the log does not panic").checkpoints = checkpoints;
    }

    fn see(&self, seen: &Seen<'_>) {
        match seen {
            Seen::Done(what) => self.tell(what),
            Seen::Named(path, bytes) => {
                let mut known = self.seen.lock().expect("the log does not panic");
                known.digest =
                    known.digest.rotate_left(5) ^ wasmill_pipeline::key::hash(path.as_os_str().as_encoded_bytes());
                if let Some(number) = checkpoint_of(path) {
                    known.see_checkpoint(number, &self.spec, bytes);
                }
                known.check(path);
            }
            Seen::Left(names) => {
                let mut known = self.seen.lock().expect("the log does not panic");
                let newest = names.iter().filter_map(|path| checkpoint_of(path)).max().unwrap_or(0);
                known.checkpoints.retain(|number, _| *number <= newest);
                names.iter().for_each(|path| known.check(path));
            }
        }
    }
}

impl Known {
    /// Notes a manifest.
    fn see_checkpoint(&mut self, number: u64, spec: &PipelineSpec, bytes: &[u8]) {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
        let Ok(manifest) = Manifest::deserialize(&value["manifest"]) else { return };
        let files = self.checkpoints.entry(number).or_default();
        files.add(spec, &manifest);
        if manifest.probation.is_some() && manifest.files.as_array().is_some_and(|files| !files.is_empty()) {
            self.violations.push(format!("checkpoint {number} commits files on probation"));
        }
    }

    /// Notes a file that readers see and no checkpoint has.
    fn check(&mut self, path: &Path) {
        let root = Path::new(OUTPUT);
        let visible = path.starts_with(root)
            && !["_staging", LEDGER, REPLACED].iter().any(|own| path.starts_with(root.join(own)));
        let a_file = path.extension().is_some();
        if visible
            && a_file
            && !self.once.contains(path)
            && !self.checkpoints.values().any(|files| files.finished.contains(path) || files.open.contains(path))
        {
            self.violations.push(format!("a reader sees {}, which is of no checkpoint", path.display()));
        }
    }
}

/// The number of the checkpoint whose manifest this is.
fn checkpoint_of(path: &Path) -> Option<u64> {
    let name = path.strip_prefix(CHECKPOINTS).ok()?.to_str()?;
    name.strip_prefix("manifest-")?.strip_suffix(".json")?.parse().ok()
}

/// What a checkpoint says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// The files that its commit names.
    pub(crate) finished: BTreeSet<PathBuf>,
    /// Those that a recovery from it names.
    pub(crate) open: BTreeSet<PathBuf>,
    /// Those that stay staged.
    pub(crate) held: BTreeSet<PathBuf>,
    /// The versions that made all of these.
    pub(crate) setup: Option<Setup>,
}

impl Files {
    /// Whether the checkpoint names this file.
    pub(crate) fn name(&self, path: &Path) -> bool {
        [&self.finished, &self.open, &self.held].iter().any(|files| files.contains(path))
    }

    /// Takes in what a manifest says.
    fn add(&mut self, spec: &PipelineSpec, manifest: &Manifest) {
        let list = |list: &serde_json::Value| list.as_array().cloned().unwrap_or_default().into_iter();
        let path = |file: &serde_json::Value| Some(Path::new(OUTPUT).join(file["path"].as_str()?));
        self.finished.extend(list(&manifest.files).filter_map(|file| path(&file)));
        self.held.extend(list(&manifest.held).filter_map(|file| path(&file)));
        let open = list(&manifest.open_files).filter_map(|open| path(&open["file"]));
        if manifest.probation.is_some() { &mut self.held } else { &mut self.open }.extend(open);
        self.setup = Some(versions::setup(spec, &manifest.plugins, &manifest.beside));
    }
}

impl World {
    pub(crate) fn new(seed: u64, told: bool) -> Self {
        let mut random = Random::new(seed);
        let timed = random.percent(50);
        let processes = if random.percent(30) { 2 } else { 1 };
        let mut rules = Rules {
            timed,
            processes,
            locks: true,
            steps: random.between(20, 250),
            troubled: [0, 30, 60][random.below(3)],
            deadly: [0, 40, 80][random.below(3)],
            taken: random.percent(25),
            meddled: processes == 1 && random.percent(30),
            shared: random.percent(20),
            changing: 0,
            fresh: false,
            calendar: false,
            empty: false,
            transactions: 0,
        };
        let kind = Kind { links: random.percent(85) || processes > 1, locks: processes == 1 || random.percent(50) };
        rules.locks = kind.locks;
        // What readers take matters most where a process may be overtaken.
        rules.taken |= !kind.locks && random.percent(50);
        let mut topic = topic(&mut random);
        rules.calendar = random.percent(25);
        let spec = if rules.calendar { spec_on_the_calendar() } else { spec_of_all_windows() };
        if rules.calendar {
            topic.iter_mut().flatten().for_each(put_on_the_calendar);
        }
        let roll = Roll {
            max_rows: [3, 20, 1_000][random.below(3)],
            max_bytes: [600, 1 << 30][random.below(2)],
            max_age: Duration::from_millis([1, 50, 10_000][random.below(3)]),
        };
        let outputs = outputs(&spec, roll, &mut random);
        rules.changing = [0, 4, 12][random.below(3)];
        rules.fresh = !timed && random.percent(30);
        rules.empty = timed && random.percent(50);
        rules.transactions = [0, 20, 50][random.below(3)];
        let unread: Vec<BTreeSet<usize>> =
            topic.iter().map(|records| unread(records.len(), rules.transactions, &mut random)).collect();
        let mut committed = topic.clone();
        for (records, unread) in committed.iter_mut().zip(&unread) {
            for &offset in unread {
                records[offset].0 = TestRecord::Null;
            }
        }
        let log = Arc::new(Log { told, spec: spec.clone(), seen: Mutex::default() });
        let watch = {
            let log = log.clone();
            Box::new(move |seen: Seen<'_>| log.see(&seen))
        };
        let platter = Platter::new(kind, random.fork(), watch);
        let there: Vec<usize> = topic.iter().enumerate().map(|(p, _)| usize::from(!timed || p == 0)).collect();
        log.tell(&format_args!("{rules:?} {kind:?} {roll:?}"));
        let now = Now {
            stable: there.clone(),
            there,
            clock_us: 0,
            outages: 0,
            steps: rules.steps,
            elapsed: Duration::ZERO,
            taken: Vec::new(),
            meddling: Meddling::default(),
            tags: 0,
            fresh: BTreeMap::new(),
        };
        let began = Instant::now();
        let world = Self { rules, topic, committed, unread, spec, outputs, platter, began, log, now: Mutex::new(now) };
        if world.rules.shared {
            world.share_output();
        }
        world
    }

    /// The records that readers get from a stretch of a partition, as a batch; `None` where there are none.
    pub(crate) fn batch(&self, partition: i32, offsets: Range<usize>) -> Option<RawBatch> {
        let (records, unread) = (&self.topic[partition as usize], &self.unread[partition as usize]);
        let read: Vec<usize> = offsets.filter(|offset| !unread.contains(offset)).collect();
        let raw = raw_batch(partition, 0, &read.iter().map(|&offset| records[offset].clone()).collect::<Vec<_>>());
        let offsets = read.into_iter().map(|offset| offset as i64).collect();
        (!raw.is_empty()).then_some(RawBatch { offsets, ..raw })
    }

    /// How many records readers get from a partition before an offset.
    pub(crate) fn records_before(&self, partition: i32, offset: usize) -> usize {
        offset - self.unread[partition as usize].range(..offset).count()
    }

    /// The partitions that there are by now.
    pub(crate) fn partitions(&self) -> Vec<i32> {
        let there = |(partition, records): (i32, &usize)| (self.rules.empty || *records > 0).then_some(partition);
        (0..).zip(&self.now().there).filter_map(there).collect()
    }

    pub(crate) fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().expect("a world does not panic")
    }

    /// The instant that files are told.
    pub(crate) fn instant(&self) -> Instant {
        self.began + self.now().elapsed
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Prints what is done, where that was asked for.
    pub(crate) fn tell(&self, what: std::fmt::Arguments<'_>) {
        self.log.tell(&what);
    }

    /// Whose checkpoints are made.
    pub(crate) fn identity(&self, setup: &Setup) -> Identity {
        Identity {
            pipeline: PIPELINE.into(),
            run: None,
            fingerprint: "simulated".into(),
            topic: TOPIC.into(),
            aggregates: self.spec.aggregates.iter().map(|aggregate| aggregate.name.clone()).collect(),
            plugins: versions::plugins(setup, &self.spec),
            beside: versions::beside(setup, &self.spec),
            seen: BTreeMap::new(),
        }
    }
}

/// Partitions whose event times move on, each at its own pace, with rows out of order and some too late, quiet nights,
/// wrong clocks and rows without a time.
fn topic(random: &mut Random) -> Topic {
    let partitions = random.between(1, 4);
    let users = ["ann", "bob", "cy", "dee"];
    let mut partition = || {
        let mut at = 5 * random.below(20) as i64;
        let pace = random.between(1, 4);
        // A clock that is wrong at the broker, too, and rows without a time come in stretches now and then.
        let (mut wrong, mut untimed) = (0, 0);
        let records = (0..random.between(5, 80)).map(|_| {
            at += 5 * random.below(pace + 1) as i64;
            if random.percent(2) {
                at += 500;
            }
            wrong = if random.percent(4) { random.between(1, 5) } else { wrong.max(1) - 1 };
            untimed = if random.percent(4) { random.between(1, 5) } else { untimed.max(1) - 1 };
            let time = at - if random.percent(30) { 5 * random.below(9) as i64 } else { 0 };
            let seen = at + 5 * random.below(4) as i64;
            let user = (*random.pick(&users).expect("there are users")).to_owned();
            let value = random.below(50) as i64;
            let event = |time| TestRecord::Event { user, time, value };
            match random.below(40) {
                0 => (TestRecord::Bad, seen),
                1 => (TestRecord::Poison, seen),
                2 => (TestRecord::Null, seen),
                3 => (event(Some(at + 400)), seen),
                4 => (event(Some(at + 150)), seen),
                5 => (event(None), NO_TIMESTAMP),
                6 => (event(Some(time)), NO_TIMESTAMP),
                _ if wrong > 0 => (event(Some(at + 800)), at + 800),
                _ if untimed > 0 => (event(None), seen),
                _ => (event(Some(time)), seen),
            }
        });
        records.collect()
    };
    (0..partitions).map(|_| partition()).collect()
}

/// Stretches of so many records that transactions abort, or leave their marks in.
fn unread(records: usize, transactions: usize, random: &mut Random) -> BTreeSet<usize> {
    let mut unread = BTreeSet::new();
    let mut offset = 0;
    while transactions > 0 && offset < records {
        let aborted = if random.percent(15) { random.between(1, 6) } else { 0 };
        unread.extend(offset..records.min(offset + aborted));
        offset += aborted + random.between(1, 8);
    }
    unread
}

/// Gives a record and its broker the times of the calendar that stand for theirs.
fn put_on_the_calendar((record, broker_time): &mut (TestRecord, i64)) {
    if *broker_time != NO_TIMESTAMP {
        *broker_time = on_the_calendar(*broker_time);
    }
    if let TestRecord::Event { time: Some(time), .. } = record {
        *time = on_the_calendar(*time);
    }
}

/// As an assembly lays them out: the events, the dead letters, then each aggregate's rows and late rows.
fn outputs(spec: &PipelineSpec, roll: Roll, random: &mut Random) -> Arc<[OutputSpec]> {
    let plan = Setup::first(spec).plan(1);
    let mut output = |name: String, schema: &arrow_schema::SchemaRef| OutputSpec {
        folder: Path::new(OUTPUT).join(&name),
        name,
        schema: schema.clone(),
        // Parquet costs ten times as much as CSV here.
        formats: vec![if random.percent(20) { Format::Parquet } else { Format::Csv }],
        partition_by: None,
        roll,
        plugins: BTreeMap::new(),
    };
    let mut outputs =
        vec![output("events_raw".into(), &plan.raw_schema), output("_dead_letters".into(), &dead_letter_schema())];
    for aggregate in &plan.aggregates {
        outputs.push(output(aggregate.spec.name.clone(), &aggregate.schema));
        outputs.push(output(format!("_late/{}", aggregate.spec.name), &plan.late_schema));
    }
    outputs.into()
}
