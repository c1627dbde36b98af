//! The real binary on a small pipeline in a temporary folder; nothing of it is left when dropped.
#![allow(dead_code, reason = "each test file uses a part of it")]

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use wasmill::kafka::{EmbeddedBroker, Producer, ProducerSettings};

/// The longest that anything here may take: far more than it does, for a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The broker time of every record written here, ms since the Unix epoch: 2023-11-14T22:13:20Z.
pub(crate) const BROKER_TIME_MS: i64 = 1_700_000_000_000;

/// Held while a process is started, and while a broker goes away: librdkafka's mock binds its port anew at once, which
/// fails, and ends the test process, while a child that is not exec'ed yet has a copy of the old socket.
static STARTING: Mutex<()> = Mutex::new(());

/// Starts a process.
fn spawn(command: &mut Command) -> Child {
    let _alone = STARTING.lock().unwrap();
    command.spawn().unwrap()
}

/// Runs a process, and says whether it succeeded.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    spawn(Command::new(program).args(args)).wait().unwrap().success()
}

/// Takes a broker away.
pub(crate) fn take_away(broker: &EmbeddedBroker) {
    let _alone = STARTING.lock().unwrap();
    broker.set_reachable(false);
}

/// The file of a plugin that `make plugins` builds.
pub(crate) fn plugin(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/wasm32-wasip2/plugin/{name}.wasm"));
    assert!(path.exists(), "run make plugins first; missing {}", path.display());
    path
}

/// A pipeline file in a folder of its own, below which its outputs and checkpoints are.
pub(crate) struct Job {
    dir: TempDir,
    bootstrap: String,
}

impl Job {
    /// The clickstream parser, and its rows counted by page.
    pub(crate) fn clicks(bootstrap: &str, topic: &str) -> Self {
        Self::of(bootstrap, topic, "clickstream_parser", "page")
    }

    /// A parser, and its rows counted by a column in windows of ten seconds.
    pub(crate) fn of(bootstrap: &str, topic: &str, parser: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[pipeline]\nname = \"job\"\nworkers = 2\n\
             [source]\nbootstrap_servers = \"${{KAFKA_BOOTSTRAP_SERVERS:-}}\"\ntopic = \"{topic}\"\n\
             [parser]\nplugin = \"{}\"\n\
             [time]\nwatermark_delay = \"10s\"\nmax_ahead = \"1h\"\ntrust = \"any\"\n\
             [output]\npath = \"{out}\"\nformats = [\"parquet\"]\n\
             [[aggregate]]\nname = \"counts\"\nplugin = \"{}\"\nwindow = {{ tumbling = \"10s\" }}\nkeys = [\"{key}\"]\n\
             [checkpoint]\npath = \"{out}/_checkpoints\"\ninterval = \"300ms\"\n\
             [cache]\npath = \"{}/plugins\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n",
            plugin(parser).display(),
            plugin("geo_metrics").display(),
            env!("CARGO_TARGET_TMPDIR"),
            out = dir.path().join("out").display(),
        );
        std::fs::write(dir.path().join("job.toml"), text).unwrap();
        Self { dir, bootstrap: bootstrap.to_owned() }
    }

    /// The pipeline file.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("job.toml")
    }

    /// Where its outputs are; `_checkpoints` is below.
    pub(crate) fn output(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Where its checkpoints are.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.output().join("_checkpoints")
    }

    /// The newest checkpoint's manifest.
    pub(crate) fn manifest(&self) -> PathBuf {
        let manifests = files(&self.checkpoints()).into_iter();
        let newest = manifests.filter(|path| path.extension().is_some_and(|end| end == "json")).max();
        newest.expect("there is a checkpoint")
    }

    /// `wasmill run` with more arguments, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = wasmill(&["run", "-c"]);
        command.arg(self.file()).args(args).env("KAFKA_BOOTSTRAP_SERVERS", &self.bootstrap);
        command
    }

    /// Starts `wasmill run` with more arguments.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// `wasmill run` until it ends by itself.
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        self.start(args).finish()
    }

    /// All rows of an output's committed Parquet files.
    pub(crate) fn rows(&self, output: &str) -> Vec<RecordBatch> {
        let folder = self.output().join(output);
        let mut batches = Vec::new();
        for path in files(&folder).iter().filter(|path| path.extension().is_some_and(|end| end == "parquet")) {
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
            batches.extend(reader.map(Result::unwrap));
        }
        batches
    }

    /// How many rows an output has.
    pub(crate) fn count(&self, output: &str) -> usize {
        self.rows(output).iter().map(RecordBatch::num_rows).sum()
    }

    /// The values of a column of an output, in plain text.
    pub(crate) fn column(&self, output: &str, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        for batch in self.rows(output) {
            let column = batch.column_by_name(name).unwrap();
            let texts = ArrayFormatter::try_new(column, &FormatOptions::default()).unwrap();
            values.extend((0..batch.num_rows()).map(|row| texts.value(row).to_string()));
        }
        values
    }

    /// The values of a binary column of an output.
    pub(crate) fn bytes(&self, output: &str, name: &str) -> Vec<Option<Vec<u8>>> {
        use arrow_array::cast::AsArray;
        let mut values = Vec::new();
        for batch in self.rows(output) {
            let column = arrow_cast::cast(batch.column_by_name(name).unwrap(), &arrow_schema::DataType::LargeBinary);
            values.extend(column.unwrap().as_binary::<i64>().iter().map(|value| value.map(<[u8]>::to_vec)));
        }
        values
    }

    /// How many events the aggregate counted, over all its groups and windows.
    pub(crate) fn counted(&self) -> u64 {
        self.column("counts", "events").iter().map(|events| events.parse::<u64>().unwrap()).sum()
    }
}

/// All files below a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// What all files below a folder hold, to see that nothing changed.
pub(crate) fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(folder).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// The command line `wasmill …` in an environment that says nothing about the job.
pub(crate) fn wasmill(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmill"));
    command.args(args);
    for name in ["KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC", "RUN_ID", "LOG_LEVEL", "OUTPUT_PATH", "CHECKPOINT_PATH"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command line to its end.
pub(crate) fn run(args: &[&str]) -> Finished {
    Running::start(wasmill(args)).finish()
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Its exit code.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Asserts the exit code, and shows everything where it is another.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self:#?}");
        self
    }

    /// Asserts that standard error has all of these.
    pub(crate) fn says(&self, texts: &[&str]) {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not in\n{}", self.stderr);
        }
    }
}

/// A process under way. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    said: Arc<(Mutex<String>, Condvar)>,
    readers: Vec<std::thread::JoinHandle<String>>,
}

impl Running {
    /// Starts it, and reads what it says.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let said = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (mut stdout, stderr, hears) = (child.stdout.take().unwrap(), child.stderr.take().unwrap(), said.clone());
        let out = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let err = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { break };
                let mut all = hears.0.lock().unwrap();
                all.push_str(&line);
                all.push('\n');
                hears.1.notify_all();
            }
            String::new()
        });
        Self { child, said, readers: vec![out, err] }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard error so far.
    pub(crate) fn said(&self) -> String {
        self.said.0.lock().unwrap().clone()
    }

    /// Waits until it has said this on standard error, and gives the rest of that line.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_for_many(text, 1)
    }

    /// Waits until it has said this so many times.
    pub(crate) fn wait_for_many(&self, text: &str, times: usize) -> String {
        let missing = |said: &mut String| said.matches(text).count() < times;
        let (said, timeout) = self.said.1.wait_timeout_while(self.said.0.lock().unwrap(), PATIENCE, missing).unwrap();
        assert!(!timeout.timed_out(), "{text:?} was not said {times} times in\n{said}");
        let rest = said.split_once(text).map(|(_, rest)| rest.lines().next().unwrap_or_default());
        rest.unwrap_or_default().to_owned()
    }

    /// Where its web page is: `http://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        self.wait_for("web page at ").trim().to_owned()
    }

    /// Whether it still runs.
    pub(crate) fn is_up(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        assert!(succeeds("kill", &[&format!("-{name}"), &self.id().to_string()]));
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(self) -> Finished {
        self.signal("TERM");
        self.finish()
    }

    /// Waits until it ends.
    pub(crate) fn finish(mut self) -> Finished {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "the process does not end; it said\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        };
        let texts: Vec<String> = std::mem::take(&mut self.readers).into_iter().map(|t| t.join().unwrap()).collect();
        let stdout = texts.concat();
        Finished { status, stdout, stderr: self.said() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes payloads, in order, to one partition; `None` is a tombstone.
pub(crate) fn write(bootstrap: &str, topic: &str, partition: i32, payloads: &[Option<Vec<u8>>]) {
    write_keyed(bootstrap, topic, partition, None, payloads);
}

/// The same with a key.
pub(crate) fn write_keyed(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    key: Option<&[u8]>,
    payloads: &[Option<Vec<u8>>],
) {
    let settings = ProducerSettings {
        bootstrap: bootstrap.to_owned(),
        topic: topic.to_owned(),
        client_id: "test".into(),
        acks: "all".into(),
        compression: "none".into(),
        passthrough: std::collections::BTreeMap::new(),
    };
    let producer = Producer::new(&settings, 0, |_| {}).unwrap();
    for payload in payloads {
        assert!(producer.send(Some(partition), key, payload.as_deref(), BROKER_TIME_MS, PATIENCE).unwrap());
    }
    assert!(producer.flush(PATIENCE));
    assert_eq!(producer.delivered().failed, 0);
}

/// Event `n`: a click on a page, `seconds` after the records' broker time.
pub(crate) fn click(n: usize, page: &str, seconds: i64) -> Vec<u8> {
    let time_us = BROKER_TIME_MS * 1000 + seconds * 1_000_000;
    let time = chrono::DateTime::from_timestamp_micros(time_us).unwrap().to_rfc3339();
    let json = serde_json::json!({
        "event_id": format!("e{n}"), "event_time": time, "user_id": format!("u{n}"), "event_type": "click", "page": page,
    });
    json.to_string().into_bytes()
}

/// Clicks `from..to`, one each second.
pub(crate) fn clicks(from: usize, to: usize) -> Vec<Option<Vec<u8>>> {
    (from..to).map(|n| Some(click(n, "/a", n as i64))).collect()
}

/// The ids of the events that are committed, sorted.
pub(crate) fn events(job: &Job) -> Vec<String> {
    let mut ids = job.column("events_raw", "event_id");
    ids.sort();
    ids
}

/// Every click up to `count` is in the raw files once, and all are counted.
pub(crate) fn exactly_once(job: &Job, count: usize) {
    these_once(job, 0..count);
}

/// The same of these clicks.
pub(crate) fn these_once(job: &Job, clicks: impl IntoIterator<Item = usize>) {
    let mut wanted: Vec<String> = clicks.into_iter().map(|n| format!("e{n}")).collect();
    wanted.sort();
    assert_eq!(events(job), wanted);
    assert_eq!(job.counted(), wanted.len() as u64);
}

/// Whether some checkpoint in the folder has read partitions up to these offsets.
pub(crate) fn reads_to(checkpoints: &Path, next_offsets: &[i64]) -> bool {
    files(checkpoints).iter().any(|path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        next_offsets.iter().all(|offset| text.contains(&format!("\"next_offset\": {offset},")))
    })
}

/// Clicks `from..to` whose pages do not compress, about 2 KB each: they do not fit on a small disk.
pub(crate) fn noise(from: usize, to: usize) -> Vec<Option<Vec<u8>>> {
    let random = |n: usize| format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes()));
    let page = |n: usize| (0..60).map(|k| random(n * 60 + k)).collect::<String>();
    (from..to).map(|n| Some(click(n, &page(n), n as i64))).collect()
}
