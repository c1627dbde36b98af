//! A running job that is asked for things: by the command `wasmill swap` and its like, as people ask.

use crate::support::job::{Job, Process, poll_until, wasmill};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use wasmill::admin::client::fetch_status;
use wasmill::admin::control::{Answer, Refusal, Reply, ShadowReport};
use wasmill::admin::{Plugin, Status};

/// What changes need.
const TOKEN: [(&str, &str); 1] = [("WASMILL_TOKEN", "0123456789abcdef")];

/// What the log says before the address.
const ADDRESS: &str = "web page at http://";

/// A job's process, and where it listens.
pub(crate) struct Live {
    process: Process,
    url: String,
}

impl Live {
    /// Starts the job, and waits until it works.
    pub(crate) fn start(job: &Job, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let starts = |log: &str| log.matches(ADDRESS).count();
        let before = starts(&job.log());
        let environment = [&TOKEN[..], &[("HTTP_LISTEN", "127.0.0.1:0")], environment].concat();
        let process = job.start_in(&environment, arguments);
        let url = poll_until("the web page's address is told", || {
            let log = process.log();
            let told = log.rsplit_once(ADDRESS).filter(|_| starts(&log) > before);
            let (address, _) = told?.1.split_once('\n')?;
            Some(format!("http://{}", address.trim()))
        });
        let live = Self { process, url };
        poll_until("it reads", || (live.status().records > 0).then_some(()));
        live
    }

    /// Asks with the command, and gives its JSON: an answer, or a refusal.
    fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, Refusal> {
        let output = wasmill(arguments).args(["--json", "--url", &self.url]).envs(TOKEN).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let context = || format!("{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            Ok(serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {}", context())))
        } else {
            Err(serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {}", context())))
        }
    }

    /// `wasmill swap`, `rollback`, `shadow`, `promote` or `discard`.
    pub(crate) fn change(&self, arguments: &[&str]) -> Reply {
        self.ask(arguments)
    }

    /// The same, which must be done.
    pub(crate) fn done(&self, arguments: &[&str]) -> Answer {
        self.change(arguments).unwrap_or_else(|refusal| panic!("{arguments:?}: {refusal:?}"))
    }

    /// How the aggregate's shadow compares, as `wasmill shadow NAME` shows it.
    pub(crate) fn shadow(&self, aggregate: &str) -> ShadowReport {
        self.ask(&["shadow", aggregate]).unwrap_or_else(|refusal| panic!("{aggregate}: {refusal:?}"))
    }

    pub(crate) fn status(&self) -> Status {
        fetch_status(&self.url).unwrap()
    }

    /// What the status says of a plugin.
    pub(crate) fn plugin(&self, name: &str) -> Plugin {
        self.status().plugins.into_iter().find(|plugin| plugin.name == name).unwrap()
    }

    /// Waits until the plugin's swap is for good, and the version before has nothing left to do.
    pub(crate) fn settle(&self, name: &str) -> Plugin {
        poll_until("it is for good", || {
            let plugin = self.plugin(name);
            (plugin.probation_until.is_none() && plugin.retiring.is_none()).then_some(plugin)
        })
    }

    /// Waits until everything there is has been read and has passed a checkpoint.
    pub(crate) fn catch_up(&self) {
        poll_until("it has read everything", || (self.status().lag() == Some(0)).then_some(()));
        let checkpoint = self.status().checkpoints;
        poll_until("that is in a checkpoint", || (self.status().checkpoints > checkpoint + 1).then_some(()));
    }

    /// All that it has written to the terminal so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Stops it, which must end well.
    pub(crate) fn stop(self) {
        self.process.signal("TERM");
        let (status, log): (ExitStatus, String) = self.process.wait();
        assert!(status.success(), "{status}: {log}");
    }
}

/// A plugin that `make plugins` builds.
pub(crate) fn built(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/wasm32-wasip2/plugin/{name}.wasm"))
}

/// The same plugin under another digest: a custom section with `tag` is added, which nobody reads.
pub(crate) fn twin(folder: &Path, name: &str, tag: &str) -> PathBuf {
    let mut bytes = std::fs::read(built(name)).unwrap();
    let section = [&[4], &b"twin"[..], tag.as_bytes()].concat();
    bytes.extend([0, u8::try_from(section.len()).unwrap()]);
    bytes.extend(section);
    let path = folder.join(format!("{name}-{tag}.wasm"));
    std::fs::write(&path, bytes).unwrap();
    path
}
