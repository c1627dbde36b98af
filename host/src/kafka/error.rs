//! What can go wrong between wasmill and Kafka, and of which class it is.

use super::words::plain_error;
use rdkafka::error::KafkaError;
use wasmill_pipeline::error::Class;

/// An error of the Kafka door.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot work; one sentence per mistake.
    #[error("kafka settings are not valid: {}", .0.join("; "))]
    Config(Vec<String>),
    /// Start offsets that the topic cannot have; one sentence per mistake.
    #[error("source.start does not fit the topic: {}", .0.join("; "))]
    Start(Vec<String>),
    /// The broker does not answer, or not with what is needed; it may later.
    #[error("kafka is not available: {doing}: {why}")]
    Unavailable {
        /// What was asked of it.
        doing: String,
        /// What is wrong, in plain words.
        why: String,
    },
    /// The broker answered no.
    #[error("kafka refused: {0}")]
    Refused(String),
    /// The caller's cancel flag ended a wait.
    #[error("waiting for kafka was cancelled")]
    Cancelled,
    /// The client can do nothing more; a new one is needed.
    #[error("the kafka client failed for good: {0}")]
    Fatal(String),
}

impl Error {
    /// What the driver does about it. A cancelled wait counts as unavailable: whoever cancelled it knows better.
    pub fn class(&self) -> Class {
        match self {
            Self::Config(_) | Self::Start(_) => Class::Config,
            Self::Unavailable { .. } | Self::Refused(_) | Self::Cancelled => Class::Unavailable,
            Self::Fatal(_) => Class::Bug,
        }
    }

    /// For `map_err`: the broker did not do what was asked of it.
    pub(super) fn unavailable(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        move |error| {
            tracing::debug!(%error, "{doing}");
            Self::Unavailable { doing, why: plain_error(&error) }
        }
    }
}
