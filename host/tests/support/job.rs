//! The reference job as processes of the `wasmill` binary: one topic, one folder for outputs and checkpoints.

use super::oracle::Expected;
use super::rows::{assert_same, columns, csv, files, parquet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

/// The aggregates' names.
pub(crate) const AGGREGATES: [&str; 3] = ["page_metrics", "geo_metrics", "sessions"];

/// The command, knowing nothing of this process's environment.
pub(crate) fn wasmill(arguments: &[&str]) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_wasmill"));
    let target = binary.parent().and_then(Path::parent).unwrap();
    let plugins = target.join("wasm32-wasip2/plugin");
    assert!(plugins.join("sessions.wasm").exists(), "the plugins are missing: `make plugins` builds them");
    let mut command = Command::new(binary);
    command.args(arguments).env_clear();
    command.env("PLUGIN_PATH", plugins).env("CACHE_PATH", Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache"));
    command
}

/// Where the pipeline file is.
fn pipeline_file() -> String {
    format!("{}/pipelines/clickstream.toml", env!("CARGO_MANIFEST_DIR"))
}

/// A process that is killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn spawn(mut command: Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// As kill(1) does.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The same, unless it has ended.
    pub(crate) fn signal_if_running(&mut self, name: &str) {
        if self.is_running() {
            self.signal(name);
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        poll_until("the process ends", || self.child.try_wait().unwrap());
        (self.child.wait().unwrap(), self.log())
    }

    /// All it has written to the terminal so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Most have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- the process said:\n{}", self.log());
        }
    }
}

/// Waits until `look` finds something.
pub(crate) fn poll_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("gave up waiting until {what}");
}

/// The job on a topic, with a folder of its own.
pub(crate) struct Job {
    bootstrap: String,
    topic: String,
    settings: Vec<String>,
    dir: TempDir,
}

impl Job {
    /// Nothing is started yet. `settings` are as `--set` takes them. An empty `bootstrap` = the embedded broker.
    pub(crate) fn new(bootstrap: &str, topic: &str, settings: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("wasmill-job-").tempdir().unwrap();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Self { bootstrap: bootstrap.to_owned(), topic: topic.to_owned(), settings, dir }
    }

    /// Starts it.
    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        self.start_in(&[], arguments)
    }

    /// Starts it with more in its environment.
    pub(crate) fn start_in(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Process {
        let mut command = wasmill(&["run", "-c", &pipeline_file()]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
            .args(arguments)
            .env("KAFKA_BOOTSTRAP_SERVERS", &self.bootstrap)
            .env("KAFKA_TOPIC", &self.topic)
            .env("OUTPUT_PATH", self.outputs())
            .env("CHECKPOINT_PATH", self.checkpoints())
            .env("HTTP_LISTEN", "off")
            .envs(environment.iter().copied());
        Process::spawn(command, self.dir.path().join("log"))
    }

    /// Runs it to its end, which must be a good one; what it wrote to the terminal.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let (status, log) = self.start(arguments).wait();
        assert!(status.success(), "{status}:\n{log}");
        assert!(log.contains("the accounting closes"), "{log}");
        log
    }

    /// All that its processes have written to the terminal so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// What `wasmill history` shows.
    pub(crate) fn history(&self) -> Vec<serde_json::Value> {
        let folder = self.checkpoints();
        let mut command = wasmill(&["history", "--json", "-n", "0", "--checkpoint"]);
        let output = command.arg(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn outputs(&self) -> PathBuf {
        self.dir.path().join("output")
    }

    fn checkpoints(&self) -> PathBuf {
        self.dir.path().join("checkpoints")
    }

    /// The rows committed to an output so far.
    pub(crate) fn rows(&self, output: &str) -> Vec<String> {
        parquet(&self.outputs().join(output).join("parquet"), None)
    }

    /// The number of the last checkpoint; 0 = none.
    pub(crate) fn checkpoint(&self) -> u64 {
        let names = files(&self.checkpoints(), "json").into_iter();
        let number = |path: PathBuf| path.file_stem()?.to_str()?.strip_prefix("manifest-")?.parse().ok();
        names.filter_map(number).max().unwrap_or(0)
    }

    /// Every output holds exactly what the oracle says, in all its formats, and nothing else is left.
    pub(crate) fn assert_equals(&self, expected: &Expected) {
        let raw = self.rows("events_raw");
        assert_same("events_raw", &expected.events_raw, &raw);
        let aggregates = [&expected.page_metrics, &expected.geo_metrics, &expected.sessions];
        for (name, expected) in AGGREGATES.into_iter().zip(aggregates) {
            assert_same(name, expected, &self.rows(name));
            let mut as_csv = expected.clone();
            as_csv.sort_unstable();
            assert_same(&format!("{name} as csv"), &as_csv, &csv(&self.outputs().join(name).join("csv")));
        }
        let origins = ["partition", "offset"];
        let missed = ["partition", "offset", "window_start", "window_end", "late_by_us"];
        let dead = parquet(&self.outputs().join("_dead_letters"), Some(&origins));
        assert_same("_dead_letters", &expected.dead_letters, &dead);
        assert_eq!(expected.records, raw.len() + dead.len() + expected.filtered, "records = rows + dead letters");
        for (name, late) in &expected.late {
            let found = parquet(&self.outputs().join("_late").join(name), Some(&missed));
            assert_same(&format!("_late/{name}"), late, &found);
            assert_eq!(raw.len() as u64, self.counted(name) + found.len() as u64, "{name}: rows = counted + late");
        }
        let staged = files(&self.outputs().join("_staging"), "tmp");
        assert!(staged.is_empty(), "left behind: {staged:?}");
    }

    /// Of the aggregates only what has been committed so far: nothing that is not expected, and nothing twice.
    pub(crate) fn assert_no_more_than(&self, expected: &Expected) {
        let all = [&expected.page_metrics, &expected.geo_metrics, &expected.sessions, &expected.events_raw];
        for (name, expected) in AGGREGATES.into_iter().chain(["events_raw"]).zip(all) {
            let rows = self.rows(name);
            let wrong = rows.iter().find(|row| expected.binary_search(row).is_err());
            assert_eq!(wrong, None, "{name}: a row that should not be");
            let twice = rows.windows(2).find(|pair| pair[0] == pair[1]);
            assert_eq!(twice, None, "{name}: a row twice");
        }
    }

    /// How many rows went into what the aggregate has given out.
    fn counted(&self, aggregate: &str) -> u64 {
        let folder = self.outputs().join(aggregate).join("parquet");
        assert!(columns(&folder).iter().any(|name| name == "events"));
        let events = parquet(&folder, Some(&["events"]));
        events.iter().map(|row| row.trim_end_matches('\u{1f}').parse::<u64>().unwrap()).sum()
    }
}
