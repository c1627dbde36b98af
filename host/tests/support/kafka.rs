//! A real Kafka for one test: on a free port, with its data in a temporary folder, gone when dropped.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use tempfile::TempDir;
use wasmill::kafka::{Admin, Settings};

/// Held while a process is started, and while an embedded broker goes away: librdkafka's mock binds its port anew at
/// once, which fails, and ends the test process, while a child that is not exec'ed yet has a copy of the old socket.
pub(crate) static STARTING: Mutex<()> = Mutex::new(());

/// A running broker. Dropping it kills it and removes its data.
pub(crate) struct RealKafka {
    port: u16,
    dir: TempDir,
}

impl RealKafka {
    /// Starts a broker; about four seconds. `None`, with a line that says why, where there is no Java or Maven.
    ///
    /// # Panics
    /// Where it does not start although `CI` is set: there it must.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(|_, _| String::new())
    }

    /// The same with more settings, given its port and the folder of its data.
    pub(crate) fn start_with(more: impl Fn(u16, &Path) -> String) -> Option<Self> {
        let mut message = String::new();
        // Another process may take the port between the look for it and the broker's start: then once more.
        for _ in 0..2 {
            let dir = tempfile::Builder::new().prefix("wasmill-kafka-").tempdir().unwrap();
            let broker = Self { port: free_ports(), dir };
            std::fs::write(broker.dir.path().join("more.properties"), more(broker.port, broker.dir.path())).unwrap();
            let output = broker.script("up", &[]);
            if output.status.success() {
                return Some(broker);
            }
            String::from_utf8_lossy(&output.stderr).trim().clone_into(&mut message);
        }
        assert!(std::env::var_os("CI").is_none(), "a real broker is needed: {message}");
        println!("left out, no real broker: {message}");
        None
    }

    /// `host:port` for clients.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// For questions about a topic of this broker, and its making.
    pub(crate) fn admin(&self, topic: &str) -> Admin {
        let settings = Settings {
            bootstrap: self.bootstrap(),
            topic: topic.into(),
            group_id: String::new(),
            client_id: "test".into(),
            passthrough: BTreeMap::new(),
        };
        Admin::new(&settings).unwrap()
    }

    /// Stops the broker as an operator would; its data stays.
    pub(crate) fn stop(&self) {
        assert!(self.script("down", &[]).status.success());
    }

    /// Kills it; its data stays.
    pub(crate) fn kill(&self) {
        assert!(self.script("down", &["--now"]).status.success());
    }

    /// Where its data is.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it again on the same port and data.
    pub(crate) fn start_again(&self) {
        let output = self.script("up", &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn script(&self, command: &str, more: &[&str]) -> Output {
        let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/kafka.sh"));
        script.args([command, "--port", &self.port.to_string(), "--dir"]).arg(self.dir.path()).args(more);
        script.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = {
            let _alone = STARTING.lock().unwrap();
            script.spawn().unwrap()
        };
        child.wait_with_output().unwrap()
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        self.script("down", &["--now"]);
    }
}

/// A port that is free, and the one after it too: the broker's and its controller's.
fn free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}
