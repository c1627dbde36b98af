//! A pipeline to swap plugins of: a parser, an aggregate in tumbling windows, one in sessions, and one that is left alone.

use crate::job::{BROKER_TIME_MS, Finished, Job, Running, files, plugin, until, write};
use crate::patch::{patchable, patched};
use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use wasmill::admin::client::Client;
use wasmill::admin::control::{Answer, Ask, Candidate, Outcome, Policy, Refusal, RefusalKind, Reply, ShadowOptions};
use wasmill::admin::{Plugin, Status};
use wasmill::disk::RealDisk;
use wasmill::kafka::EmbeddedBroker;
use wasmill::plugin::digest;
use wasmill::store::history::{Entry, History};
use wasmill::store::{Manifest, latest_in};

const TOPIC: &str = "clicks";
const PARTITIONS: usize = 2;
const TOKEN: &str = "0123456789abcdef";

/// What lies at the paths of the pipeline file.
const BASE: [(&str, &str); 3] = [("parser", "tag:parser"), ("counts", "tag:counts"), ("visits", "tag:visits")];

/// The aggregates that are swapped: in tumbling windows, and in sessions.
pub(crate) const AGGREGATES: [&str; 2] = ["counts", "visits"];

/// Every policy of an aggregate.
pub(crate) const POLICIES: [Policy; 3] = Policy::ALL;

/// Which of the swapped plugins, and what becomes of its state: all that there is.
pub(crate) fn roles() -> Vec<(&'static str, Option<Policy>)> {
    let aggregates = AGGREGATES.into_iter().flat_map(|name| POLICIES.map(|policy| (name, Some(policy))));
    std::iter::once(("parser", None)).chain(aggregates).collect()
}

/// The roles, each with its policies.
pub(crate) fn by_plugin() -> Vec<(&'static str, Vec<Option<Policy>>)> {
    let mut all: Vec<(&str, Vec<_>)> = Vec::new();
    for (plugin, policy) in roles() {
        match all.iter_mut().find(|(name, _)| *name == plugin) {
            Some((_, policies)) => policies.push(policy),
            None => all.push((plugin, vec![policy])),
        }
    }
    all
}

/// A probation that ends long after a test has seen what it wants to see.
pub(crate) const LONG: [&str; 2] = ["--set", "swap.probation=1000"];

/// The columns that all versions write, by output.
pub(crate) const COLUMNS: [(&str, &[&str]); 7] = [
    ("events_raw", &["event_id", "user_id", "page", "revenue", "event_ts"]),
    ("counts", &["window_start", "window_end", "page", "events", "amount", "ids"]),
    ("visits", &["session_start", "session_end", "user_id", "events", "amount", "ids"]),
    ("geo", &["window_start", "window_end", "country", "events"]),
    ("_dead_letters", &["partition", "offset", "reason", "message"]),
    ("_late/counts", &["partition", "offset"]),
    ("_late/visits", &["partition", "offset"]),
];

/// How long a window and the gap between sessions are, and how long the watermark waits, in seconds, which is as often
/// as there is an event.
pub(crate) const WINDOW: usize = 10;
pub(crate) const DELAY: usize = 10;
pub(crate) const GAP: usize = 5;

/// A component and its digest.
type Version = Arc<(Vec<u8>, String)>;

/// Each version, made once: what patches and digests them is not optimised in tests.
static VERSIONS: Mutex<BTreeMap<String, Version>> = Mutex::new(BTreeMap::new());

fn version(behaviour: &str) -> Version {
    let mut versions = VERSIONS.lock().unwrap();
    let made = versions.entry(behaviour.to_owned()).or_insert_with(|| {
        let bytes = patched(&patchable(), behaviour);
        let digest = digest(&bytes);
        Arc::new((bytes, digest))
    });
    made.clone()
}

/// A component of this behaviour.
pub(crate) fn component(behaviour: &str) -> Vec<u8> {
    version(behaviour).0.clone()
}

/// Its digest.
pub(crate) fn digest_of(behaviour: &str) -> String {
    version(behaviour).1.clone()
}

/// The digest of the version at the path of the pipeline file.
pub(crate) fn base(plugin: &str) -> String {
    digest_of(BASE.iter().find(|(name, _)| *name == plugin).unwrap().1)
}

/// The pages, one after the other.
pub(crate) fn page(n: usize) -> &'static str {
    ["/a", "/b"][n / 2 % 2]
}

/// The user of event `n`: each comes for one session.
fn user(n: usize) -> usize {
    n / 24
}

/// Event `n`, `n` seconds after the first one.
fn event(n: usize) -> Vec<u8> {
    let time_us = BROKER_TIME_MS * 1000 + n as i64 * 1_000_000;
    let time = chrono::DateTime::from_timestamp_micros(time_us).unwrap().to_rfc3339();
    let country = if n.is_multiple_of(2) { "DE" } else { "FR" };
    let json = serde_json::json!({
        "event_id": format!("e{n}"), "event_time": time, "user_id": format!("u{}", user(n)), "event_type": "click",
        "page": page(n), "country": country, "revenue": n as f64 / 100.0,
    });
    json.to_string().into_bytes()
}

/// A broker, a pipeline file and its plugins.
pub(crate) struct Lab {
    broker: EmbeddedBroker,
    pub(crate) job: Job,
    settings: Vec<String>,
    written: Cell<usize>,
}

/// The pipeline as it runs.
pub(crate) struct Live {
    pub(crate) running: Running,
    pub(crate) client: Client,
}

impl Lab {
    /// With these arguments of each `wasmill run`.
    pub(crate) fn new(settings: &[&str]) -> Self {
        let broker = EmbeddedBroker::start(TOPIC, PARTITIONS as i32).unwrap();
        let job = job(&broker);
        Self { broker, job, settings: settings.iter().map(|&text| text.to_owned()).collect(), written: Cell::new(0) }
    }

    /// How many events there are.
    pub(crate) fn written(&self) -> usize {
        self.written.get()
    }

    /// Writes the next so many events.
    pub(crate) fn write(&self, count: usize) {
        let from = self.written.get();
        for partition in 0..PARTITIONS {
            let payloads: Vec<_> =
                (from..from + count).filter(|n| n % PARTITIONS == partition).map(|n| Some(event(n))).collect();
            write(self.broker.bootstrap(), TOPIC, partition as i32, &payloads);
        }
        self.written.set(from + count);
    }

    /// Puts another version at a plugin's path, at once.
    pub(crate) fn put_file(&self, plugin: &str, behaviour: &str) -> String {
        let folder = self.job.file().parent().unwrap().to_owned();
        let next = folder.join("next");
        std::fs::write(&next, component(behaviour)).unwrap();
        std::fs::rename(next, folder.join(format!("{plugin}.wasm"))).unwrap();
        digest_of(behaviour)
    }

    /// Starts the pipeline.
    pub(crate) fn start(&self, args: &[&str]) -> Live {
        Live::of(self.running(args, None))
    }

    /// Starts it, to die at a failpoint when it comes there for the n-th time.
    pub(crate) fn running(&self, args: &[&str], failpoint: Option<&str>) -> Running {
        let all: Vec<&str> = self.settings.iter().map(String::as_str).chain(args.iter().copied()).collect();
        let mut command = self.job.command(&all);
        command.envs(failpoint.map(|name| ("WASMILL_FAILPOINT", name)));
        Running::start(command)
    }

    /// Runs it to the end of all there is.
    pub(crate) fn drain(&self) -> Finished {
        self.running(&["--drain"], None).finish().expect(0)
    }

    /// Starts it, with some events read already.
    pub(crate) fn after(&self, count: usize, args: &[&str]) -> Live {
        self.write(count);
        let live = self.start(args);
        live.settle(self.written());
        live
    }

    /// The newest checkpoint.
    pub(crate) fn manifest(&self) -> Manifest {
        latest_in(&RealDisk, &self.job.checkpoints()).unwrap().expect("there is a checkpoint")
    }

    /// The digest that the newest checkpoint says is in force.
    pub(crate) fn in_force(&self, plugin: &str) -> String {
        self.manifest().plugins[plugin].clone()
    }

    /// What the history says.
    pub(crate) fn history(&self) -> Vec<Entry> {
        History::open(Arc::new(RealDisk), &self.job.checkpoints()).read().unwrap()
    }

    /// The committed files of all outputs.
    pub(crate) fn committed(&self) -> Vec<PathBuf> {
        let root = self.job.output();
        let mut all = files(&root);
        all.retain(|path| {
            let below = path.strip_prefix(&root).unwrap();
            path.extension().is_some_and(|end| end == "parquet") && !below.starts_with("_staging")
        });
        all
    }

    /// Those of them that a plugin of this digest had a part in.
    pub(crate) fn made_by(&self, digest: &str) -> Vec<PathBuf> {
        let names = |path: &PathBuf| {
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
            let pairs = reader.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
            pairs.iter().any(|pair| pair.value.as_ref().is_some_and(|value| value.contains(digest)))
        };
        let mut all = self.committed();
        all.retain(names);
        all
    }

    /// All rows of an output, in these columns, sorted. A column that a file does not have is `-`.
    pub(crate) fn rows(&self, output: &str, columns: &[&str]) -> Vec<String> {
        rows(&self.job, output, columns)
    }

    /// What a run without swaps makes of the events.
    fn plain(&self) -> Rows {
        let known = PLAIN.lock().unwrap().entry(self.written()).or_default().clone();
        let run = || {
            let plain = job(&self.broker);
            plain.run(&["--drain"]).expect(0);
            let of = |&(output, columns): &(&'static str, &[&str])| {
                for batch in plain.rows(output) {
                    assert!(columns.iter().all(|name| batch.column_by_name(name).is_some()), "{output}: {batch:?}");
                }
                (output, rows(&plain, output, columns))
            };
            COLUMNS.iter().map(of).collect()
        };
        known.get_or_init(run).clone()
    }

    /// Stops the pipeline, runs it to the end of all there is, and asserts that every output is as if there had never
    /// been another version than those at the paths.
    pub(crate) fn as_if_never_swapped(&self, live: Live) {
        live.running.stop().expect(0);
        self.drain().says(&["the accounting closes"]);
        self.equals_a_run_without_swaps(&COLUMNS.map(|(output, _)| output));
    }

    /// The same of these outputs, for a pipeline that has ended.
    pub(crate) fn equals_a_run_without_swaps(&self, outputs: &[&str]) {
        let plain = self.plain();
        for (output, columns) in COLUMNS.iter().filter(|(output, _)| outputs.contains(output)) {
            let (wanted, found) = (&plain[output], &self.rows(output, columns));
            let missing: Vec<_> = wanted.iter().filter(|row| !found.contains(row)).collect();
            let more: Vec<_> = found.iter().filter(|row| !wanted.contains(row)).collect();
            assert_eq!(wanted.len(), found.len(), "{output}: rows; missing {missing:#?}, too much {more:#?}");
            assert_eq!(wanted, found, "{output}: missing {missing:#?}, too much {more:#?}");
        }
        assert_eq!(self.rows("events_raw", &["event_id"]).len(), self.written(), "all events are there");
        let left = files(&self.job.output().join("_staging"));
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// The rows of each output.
type Rows = BTreeMap<&'static str, Vec<String>>;

/// What a run without swaps makes of so many events: they are the same in each test.
static PLAIN: Mutex<BTreeMap<usize, Arc<OnceLock<Rows>>>> = Mutex::new(BTreeMap::new());

/// A pipeline file in a folder of its own, with the plugins beside it.
fn job(broker: &EmbeddedBroker) -> Job {
    let job = Job::clicks(broker.bootstrap(), TOPIC);
    let file = job.file();
    let folder = file.parent().unwrap();
    for (name, behaviour) in BASE {
        std::fs::write(folder.join(format!("{name}.wasm")), component(behaviour)).unwrap();
    }
    let text = format!(
        "[pipeline]\nname = \"job\"\nworkers = 2\n\
         [source]\nbootstrap_servers = \"${{KAFKA_BOOTSTRAP_SERVERS:-}}\"\ntopic = \"{TOPIC}\"\n\
         [parser]\nplugin = \"{dir}/parser.wasm\"\n\
         [time]\nwatermark_delay = \"{DELAY}s\"\nmax_ahead = \"24h\"\ntrust = \"any\"\n\
         [output]\npath = \"{dir}/out\"\nformats = [\"parquet\"]\n\
         [[aggregate]]\nname = \"counts\"\nplugin = \"{dir}/counts.wasm\"\nwindow = {{ tumbling = \"{WINDOW}s\" }}\n\
         keys = [\"page\"]\n\
         [[aggregate]]\nname = \"visits\"\nplugin = \"{dir}/visits.wasm\"\nwindow = {{ session = \"{GAP}s\" }}\n\
         keys = [\"user_id\"]\n\
         [[aggregate]]\nname = \"geo\"\nplugin = \"{geo}\"\nwindow = {{ tumbling = \"{WINDOW}s\" }}\nkeys = [\"country\"]\n\
         [checkpoint]\npath = \"{dir}/out/_checkpoints\"\ninterval = \"100ms\"\n\
         [swap]\nwatch = false\n\
         [cache]\npath = \"{cache}/plugins\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[http.tokens]\ntest = \"{TOKEN}\"\n",
        dir = folder.display(),
        geo = plugin("geo_metrics").display(),
        cache = env!("CARGO_TARGET_TMPDIR"),
    );
    std::fs::write(&file, text).unwrap();
    job
}

fn rows(job: &Job, output: &str, columns: &[&str]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in job.rows(output) {
        let text = |name: &&str| values(&batch, name);
        let columns: Vec<Vec<String>> = columns.iter().map(text).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join(" ")),
        );
    }
    rows.sort();
    rows
}

fn values(batch: &RecordBatch, name: &str) -> Vec<String> {
    let Some(column) = batch.column_by_name(name) else { return vec!["-".to_owned(); batch.num_rows()] };
    // A time as a number: µs since the Unix epoch.
    let is_time = matches!(column.data_type(), DataType::Timestamp(..));
    let column = if is_time { arrow_cast::cast(column, &DataType::Int64).unwrap() } else { column.clone() };
    let texts = ArrayFormatter::try_new(&column, &FormatOptions::default()).unwrap();
    (0..batch.num_rows()).map(|row| texts.value(row).to_string()).collect()
}

impl Live {
    /// A process that has just been started.
    pub(crate) fn of(running: Running) -> Self {
        let client = Client::new(&running.url()).unwrap().with_token(Some(TOKEN.to_owned()));
        Self { running, client }
    }

    /// Waits until a line of what it said has all of these: it comes through a pipe, a moment after the answer.
    pub(crate) fn says(&self, texts: &[&str]) {
        until(&format!("a line has {texts:?}"), || has_line(&self.running.said(), texts));
    }

    /// Another one who asks.
    pub(crate) fn another_client(&self) -> Client {
        Client::new(&self.running.url()).unwrap().with_token(Some(TOKEN.to_owned()))
    }

    pub(crate) fn status(&self) -> Status {
        self.client.status().unwrap_or_else(|error| panic!("{error}: {}", self.running.said()))
    }

    /// What it says of a plugin.
    pub(crate) fn plugin(&self, name: &str) -> Plugin {
        self.status().plugins.into_iter().find(|plugin| plugin.name == name).unwrap()
    }

    /// Waits for something, and shows what the process said where it does not come.
    pub(crate) fn wait(&self, what: &str, mut done: impl FnMut(&Status) -> bool) {
        let mut last = Status::default();
        let waiting = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(what, || {
                last = self.status();
                done(&last)
            });
        }));
        assert!(waiting.is_ok(), "{what}: {last:#?}\n{}", self.running.said());
    }

    /// Waits until so many events have been read, and are in a checkpoint.
    pub(crate) fn settle(&self, events: usize) {
        self.wait("all events are read", |status| status.records == events as u64);
        self.checkpoints(2);
    }

    /// Waits for so many more checkpoints.
    pub(crate) fn checkpoints(&self, more: u64) {
        let made = self.status().checkpoints;
        self.wait("there are more checkpoints", |status| status.checkpoints >= made + more);
    }

    /// Waits until nothing is on probation any more, and nothing retires.
    pub(crate) fn confirmed(&self) {
        self.wait("the swap is confirmed", |status| {
            status.plugins.iter().all(|plugin| plugin.probation_until.is_none())
        });
    }

    /// Waits until so many swaps of a plugin have been taken back.
    pub(crate) fn taken_back(&self, plugin: &str, times: u64) {
        self.wait("the swap is taken back", |status| {
            status.swaps.get(plugin).and_then(|counts| counts.get("rolled_back")) == Some(&times)
        });
    }

    pub(crate) fn ask(&self, ask: &Ask) -> Reply {
        self.client.ask(ask).unwrap_or_else(|error| panic!("{error}: {}", self.running.said()))
    }

    /// Asks for a swap.
    pub(crate) fn swap(&self, plugin: &str, behaviour: &str, policy: Option<Policy>) -> Reply {
        self.ask(&swap(plugin, behaviour, policy))
    }

    /// The same, which is to be done.
    pub(crate) fn swapped(&self, plugin: &str, behaviour: &str, policy: Option<Policy>) -> Answer {
        let reply = self.swap(plugin, behaviour, policy);
        let answer = reply.unwrap_or_else(|refusal| panic!("{behaviour}: {refusal:?}\n{}", self.running.said()));
        assert_eq!((answer.plugin.as_str(), &answer.to), (plugin, &digest_of(behaviour)));
        answer
    }

    /// The same, which goes on probation.
    pub(crate) fn on_probation(&self, plugin: &str, behaviour: &str, policy: Option<Policy>) -> Answer {
        let answer = self.swapped(plugin, behaviour, policy);
        assert_eq!(answer.outcome, Outcome::OnProbation, "{answer:?}");
        answer
    }

    pub(crate) fn shadow(&self, plugin: &str, behaviour: &str, next_windows: bool) -> Reply {
        let options = ShadowOptions { next_windows, ..ShadowOptions::default() };
        let component = Candidate::Bytes(component(behaviour));
        self.ask(&Ask::Shadow { plugin: plugin.into(), component, options })
    }

    pub(crate) fn rollback(&self, plugin: &str) -> Reply {
        self.ask(&Ask::Rollback { plugin: plugin.into() })
    }

    pub(crate) fn promote(&self, plugin: &str) -> Reply {
        self.ask(&Ask::Promote { plugin: plugin.into() })
    }
}

/// The request for a swap.
pub(crate) fn swap(plugin: &str, behaviour: &str, policy: Option<Policy>) -> Ask {
    let component = Candidate::Bytes(component(behaviour));
    Ask::Swap { plugin: plugin.into(), component, policy, dry_run: false }
}

/// Asserts that something asked was refused, as this kind and in these words.
#[track_caller]
pub(crate) fn refused(reply: Reply, kind: RefusalKind, words: &[&str]) {
    let Refusal { kind: found, message } = reply.expect_err("it is refused");
    assert_eq!(found, kind, "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message}");
    }
}

/// Whether a line of what a process said has all of these.
pub(crate) fn has_line(said: &str, texts: &[&str]) -> bool {
    said.lines().any(|line| texts.iter().all(|text| line.contains(text)))
}

/// Does all of these at once, each in a thread of its own: most of them wait most of the time.
pub(crate) fn at_once<T: Send>(all: Vec<T>, each: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(|| each(one))).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
