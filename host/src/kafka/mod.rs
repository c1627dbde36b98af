//! The Kafka door: the only room that knows rdkafka.
//!
//! Everything here blocks, and is meant for worker threads. wasmill assigns partitions itself, at offsets its own
//! checkpoints give: no consumer group ever rebalances, and group offsets are information for lag tools, never the
//! truth.
//!
//! * [`Settings`] say how to reach a topic; [`Admin`] waits for it, lists partitions and turns a [`Start`] into offsets.
//! * [`Source`] reads records of the partitions of one worker, a batch of one partition at a time.
//! * [`Lookout`] knows where partitions end, whatever the reader is given.
//! * [`Producer`] writes records: the generator's side.
//! * [`EmbeddedBroker`] is a broker inside this process, for demos and tests.

mod admin;
mod batch;
mod bell;
mod context;
mod embedded;
mod error;
mod feed;
mod look;
mod producer;
mod settings;
mod source;
mod start;
mod words;

pub use admin::Admin;
pub use bell::Waker;
pub use embedded::{EMBEDDED_PARTITION_BYTES, EmbeddedBroker};
pub use error::Error;
pub use look::{Look, Looker, Lookout, Sight};
pub use producer::{Ack, Delivered, Producer, ProducerSettings};
pub use settings::{Settings, is_secret, masked};
pub use source::{Poll, Source};
pub use start::Start;

/// The result of what this room does.
pub type Result<T> = std::result::Result<T, Error>;
