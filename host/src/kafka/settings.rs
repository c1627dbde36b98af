//! How to reach a topic: settings, what may be passed through to librdkafka, and what must not be shown.

use super::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;
use std::fmt;

/// How to reach a topic. `Debug` masks secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `host:port`, several with commas between.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// The group that offsets are committed to, for lag tools. Empty = none are committed.
    pub group_id: String,
    /// The name the broker knows this client by.
    pub client_id: String,
    /// librdkafka's own settings, by its names: the `[source.kafka]` table.
    pub passthrough: BTreeMap<String, String>,
}

/// Settings that are wasmill's to make, and why.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set `bootstrap` instead"),
    ("metadata.broker.list", "set `bootstrap` instead"),
    ("group.id", "set `group_id` instead"),
    ("group.instance.id", "wasmill assigns partitions itself, no group does"),
    ("group.protocol", "wasmill assigns partitions itself, no group does"),
    ("group.remote.assignor", "wasmill assigns partitions itself, no group does"),
    ("partition.assignment.strategy", "wasmill assigns partitions itself, no group does"),
    ("enable.auto.commit", "offsets are committed by checkpoints alone"),
    ("auto.commit.enable", "offsets are committed by checkpoints alone"),
    ("auto.commit.interval.ms", "offsets are committed by checkpoints alone"),
    ("enable.auto.offset.store", "offsets are committed by checkpoints alone"),
    ("offset.store.method", "offsets are committed by checkpoints alone"),
    ("auto.offset.reset", "a removed range must show as data loss: set `start` and `on_data_loss` instead"),
    ("enable.partition.eof", "it tells wasmill when a partition is caught up"),
    ("statistics.interval.ms", "it tells wasmill how far behind a partition is"),
    ("plugin.library.paths", "it loads native code into the process"),
    ("test.mock.num.brokers", "leave the bootstrap address empty for the embedded broker"),
];

impl Settings {
    /// Checks everything that can be checked without a broker.
    ///
    /// # Errors
    /// `Config` with every mistake, one sentence each; no sentence repeats a secret.
    pub fn check(&self) -> Result<()> {
        let mut mistakes = Vec::new();
        if self.bootstrap.trim().is_empty() {
            mistakes.push("`bootstrap` is empty: give `host:port` of a broker".to_owned());
        }
        if !legal_topic(&self.topic) {
            mistakes.push(format!(
                "topic is not a name that kafka takes (1 to 249 of a-z A-Z 0-9 . _ -): topic={:?}",
                self.topic
            ));
        }
        mistakes.extend(passthrough_mistakes(&self.passthrough));
        if mistakes.is_empty() {
            // Some settings only show together that they cannot work. Without an address no connection is attempted.
            let mut config = self.consumer();
            config.remove("bootstrap.servers").remove("group.id");
            if let Err(error) = BaseConsumer::from_config(&config) {
                mistakes.push(client_message(&error));
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(Error::Config(mistakes)) }
    }

    /// Every setting that decides how the broker is spoken to, ready to be shown: secrets masked.
    pub fn shown(&self) -> Vec<(String, String)> {
        let own = [
            ("bootstrap", &self.bootstrap),
            ("topic", &self.topic),
            ("group_id", &self.group_id),
            ("client_id", &self.client_id),
        ];
        let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.clone()));
        own.chain(self.passthrough.iter().map(|(key, value)| (key.clone(), masked(key, value).to_owned()))).collect()
    }

    /// For a client that only asks questions.
    pub(super) fn base(&self) -> ClientConfig {
        self.over(ClientConfig::new())
    }

    /// What every client gets, over other settings.
    fn over(&self, mut config: ClientConfig) -> ClientConfig {
        config.set("client.id", &self.client_id);
        // After an outage go on within seconds, not within librdkafka's default of ten.
        config.set("reconnect.backoff.max.ms", "2000");
        config.set("socket.nagle.disable", "true");
        config.set("topic.metadata.refresh.interval.ms", "10000");
        for (key, value) in &self.passthrough {
            config.set(key, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// For a client that reads.
    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            // A record is delivered as soon as it is there; an idle partition costs ten requests a second and shows
            // within 100 ms that it is caught up.
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "200")
            // The default of a second makes a full queue run dry before it is filled again.
            .set("fetch.queue.backoff.ms", "5")
            // A backlog comes in few, large responses; a single larger record comes all the same (KIP-74).
            .set("fetch.message.max.bytes", "4194304")
            .set("check.crcs", "true")
            // Measurements for the broker's operator (KIP-714), taken under a lock for every record.
            .set("enable.metrics.push", "false")
            .set("isolation.level", "read_committed");
        let mut config = self.over(config);
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            .set("statistics.interval.ms", "1000")
            // librdkafka's high-level consumer wants a name, and commits only when asked to.
            .set("group.id", if self.group_id.is_empty() { "wasmill" } else { &self.group_id });
        config
    }

    /// For a client that reads for long: it also tells when the topic is made anew, in librdkafka's log of topics.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.consumer();
        let debug = self.passthrough.get("debug").map_or("topic".to_owned(), |asked| format!("{asked},topic"));
        config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
        config
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

/// Whether the value of this setting must never be shown.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "passphrase", "secret", "jaas", "key.pem", "private.key", "token", "credential"]
        .iter()
        .any(|word| key.contains(word))
        // The keytab command and the OAuth settings carry secrets as parts of a longer text.
        || key == "sasl.oauthbearer.config"
        || key == "sasl.kerberos.kinit.cmd"
}

/// The value of a setting as it may be shown.
pub fn masked<'a>(key: &str, value: &'a str) -> &'a str {
    if is_secret(key) && !value.is_empty() { "********" } else { value }
}

/// One sentence for each setting that may not be passed through, that librdkafka does not know or whose value it refuses.
pub(super) fn passthrough_mistakes(passthrough: &BTreeMap<String, String>) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (key, value) in passthrough {
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| refused == key) {
            mistakes.push(format!("`{key}` cannot be set: {why}"));
            continue;
        }
        let mut alone = ClientConfig::new();
        alone.set(key, value);
        if let Err(error) = alone.create_native_config() {
            mistakes.push(if is_secret(key) {
                format!("`{key}` has a value that is not valid")
            } else {
                format!("`{key}`: {}", client_message(&error))
            });
        }
    }
    mistakes
}

/// What librdkafka has against a configuration.
pub(super) fn client_message(error: &KafkaError) -> String {
    let text = match error {
        KafkaError::ClientConfig(_, text, _, _) | KafkaError::ClientCreation(text) => text.clone(),
        other => other.to_string(),
    };
    if text.contains("OpenSSL not available") || text.contains("recompile librdkafka") {
        let (what, _) = text.split_once(": ").unwrap_or((&text, ""));
        let build = "cargo build --release -p wasmill --features tls";
        return format!("{what}: this build of wasmill has neither TLS nor this way to log in; `{build}` makes one");
    }
    text
}

/// Kafka's own rule (`org.apache.kafka.common.internals.Topic.validate`).
pub(super) fn legal_topic(topic: &str) -> bool {
    (1..=249).contains(&topic.len())
        && topic != "."
        && topic != ".."
        && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(passthrough: &[(&str, &str)]) -> Settings {
        Settings {
            bootstrap: "127.0.0.1:1".into(),
            topic: "events".into(),
            group_id: "g".into(),
            client_id: "test".into(),
            passthrough: passthrough.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    fn mistakes(settings: &Settings) -> Vec<String> {
        match settings.check() {
            Ok(()) => Vec::new(),
            Err(Error::Config(mistakes)) => mistakes,
            Err(other) => panic!("not a configuration error: {other}"),
        }
    }

    #[test]
    fn ordinary_settings_pass() {
        assert_eq!(mistakes(&with(&[("fetch.wait.max.ms", "50"), ("client.id", "me")])), Vec::<String>::new());
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let mut settings = with(&[("enable.auto.commit", "true"), ("no.such", "1"), ("check.crcs", "maybe")]);
        settings.topic = "a b".into();
        let told = mistakes(&settings);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told.iter().any(|m| m.contains("No such configuration property")), "{told:?}");
        assert!(told.iter().any(|m| m.contains("checkpoints alone")), "{told:?}");
    }

    #[test]
    fn settings_that_fit_alone_but_not_together_are_refused() {
        let told = mistakes(&with(&[("fetch.max.bytes", "2000000"), ("message.max.bytes", "900000000")]));
        assert_eq!(told.len(), 1, "{told:?}");
    }

    #[test]
    fn secrets_are_masked_wherever_settings_are_shown() {
        let settings = with(&[("sasl.password", "hunter2"), ("ssl.key.pem", "hunter2"), ("sasl.username", "me")]);
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter2") && shown.contains("********") && shown.contains("me"), "{shown}");
        assert!(!format!("{:?}", mistakes(&settings)).contains("hunter2"));
    }

    #[test]
    fn secrets_reach_every_client_as_they_are() {
        let settings = with(&[("sasl.password", "hunter2")]);
        for config in [settings.base(), settings.consumer()] {
            assert_eq!(config.get("sasl.password"), Some("hunter2"));
        }
    }

    #[test]
    fn passed_settings_win_over_tuning_but_not_over_correctness() {
        let mut settings = with(&[("fetch.wait.max.ms", "7"), ("isolation.level", "read_uncommitted")]);
        settings.passthrough.insert("auto.offset.reset".into(), "latest".into());
        let config = settings.consumer();
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("isolation.level"), Some("read_uncommitted"));
        assert_eq!(config.get("auto.offset.reset"), Some("error"));
    }
}
