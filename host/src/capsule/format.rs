//! What a capsule holds, and how it becomes a file's bytes and back.

use super::call::{Call, json};
use crate::files;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use wasmill_pipeline::plugin::FaultKind;
use xxhash_rust::xxh3::xxh3_64;

/// How every capsule starts; its format and checksum are next.
const MAGIC: &str = "wasmill capsule ";

/// The format of the capsules written here, and the only one read.
const FORMAT: &str = "1";

/// The largest file that is read: any single record fits with its state, as JSON.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// A fault and all that led to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Capsule {
    /// The release that wrote it.
    pub wasmill: String,
    /// When it was written, µs since the Unix epoch.
    pub written_us: i64,
    /// The pipeline's name.
    pub pipeline: String,
    /// Who failed.
    pub plugin: Plugin,
    /// On what.
    pub origin: Origin,
    /// How.
    pub fault: Told,
    /// What the plugin was allowed.
    pub limits: Limits,
    /// What it was asked.
    pub input: Input,
}

/// A plugin, and how it was set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name in the pipeline file.
    pub name: String,
    /// The interface that it exports: its world and the contract's version.
    pub interface: String,
    /// Where its component was.
    pub path: String,
    /// The SHA-256 of its component, 64 hexadecimal digits.
    pub digest: String,
    /// Its configuration, JSON.
    pub config: Secret,
    /// Of a parser, the columns it was to make; `None` = all.
    pub wanted: Option<Vec<String>>,
}

/// The record that the fault is pinned on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// The fault as it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its kind.
    pub kind: FaultKind,
    /// What was said, some of it by the plugin.
    pub message: Secret,
    /// Where the plugin was, the innermost call first.
    pub backtrace: Vec<String>,
}

/// What one instance was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory.
    pub memory_bytes: u64,
    /// Time per call, µs.
    pub deadline_us: u64,
}

/// Text that may say something about somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// As it is.
    Open(String),
    /// Redacted.
    Hidden(Part),
}

/// The call, or why it is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The whole call.
    Whole(Call),
    /// Only what it consisted of.
    LeftOut {
        /// Why.
        why: LeftOut,
        /// Which call it was.
        call: String,
        /// Its parts.
        parts: Vec<Part>,
    },
}

/// Why a call is not in its capsule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// `faults.redact` is set.
    Redacted,
    /// It is larger than `faults.capsule_bytes`.
    TooLarge,
}

/// What is left of something: whether two are the same can be told from it, and how much it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it was.
    pub name: String,
    /// How long.
    pub bytes: u64,
    /// Its XXH3-64, 16 hexadecimal digits.
    pub xxh3: String,
}

impl Part {
    fn of(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), bytes: bytes.len() as u64, xxh3: checksum(bytes) }
    }
}

impl Secret {
    fn hide(&mut self, name: &str) {
        if let Self::Open(text) = self {
            *self = Self::Hidden(Part::of(name, text.as_bytes()));
        }
    }

    /// The text, unless it is hidden.
    pub fn open(&self) -> Option<&str> {
        match self {
            Self::Open(text) => Some(text),
            Self::Hidden(_) => None,
        }
    }
}

impl Input {
    /// What the call is called in the contract.
    pub fn call(&self) -> &str {
        match self {
            Self::Whole(call) => call.name(),
            Self::LeftOut { call, .. } => call,
        }
    }
}

/// Why a file is no capsule that can be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system does not give it.
    #[error("cannot be read")]
    Unreadable(#[source] io::Error),
    /// It is something else.
    #[error("is not a fault capsule: it does not start with {MAGIC:?}")]
    Foreign,
    /// Another release wrote it.
    #[error("is a capsule of another format; this release reads {FORMAT}; format={found}")]
    Format {
        /// Its format.
        found: String,
    },
    /// It was cut off or changed.
    #[error("is damaged: it was cut off or changed after it was written; checksum={found} expected={expected}")]
    Damaged {
        /// What its bytes give.
        found: String,
        /// What it says they give.
        expected: String,
    },
    /// Its checksum is right, and still it is not what wasmill writes.
    #[error("is not what wasmill writes: {0}")]
    Nonsense(String),
}

impl Capsule {
    /// Reads a file.
    ///
    /// # Errors
    /// What the system says, or what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::decode(&files::read(path, MAX_FILE_BYTES).map_err(Error::Unreadable)?)
    }

    /// The capsule without anything that came from records or configuration; the numbers tell equal from different.
    pub fn redact(&mut self) {
        self.leave_out(LeftOut::Redacted);
        self.plugin.config.hide("config");
        self.fault.message.hide("message");
    }

    /// The capsule without its call.
    pub fn leave_out(&mut self, why: LeftOut) {
        if let Input::Whole(call) = &self.input {
            let parts = call.parts().iter().map(|(name, bytes)| Part::of(name, bytes)).collect();
            self.input = Input::LeftOut { why, call: call.name().to_owned(), parts };
        }
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let json = json(self);
        let mut file = format!("{MAGIC}{FORMAT} {}\n", checksum(&json)).into_bytes();
        file.extend(json);
        file
    }

    /// Reads a file, which may hold anything.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(file: &[u8]) -> Result<Self, Error> {
        let rest = file.strip_prefix(MAGIC.as_bytes()).ok_or(Error::Foreign)?;
        // A format and a checksum, no more.
        let end = rest.iter().take(64).position(|&byte| byte == b'\n').ok_or(Error::Foreign)?;
        let (line, rest) = rest.split_at(end);
        let json = rest.get(1..).unwrap_or_default();
        let line = str::from_utf8(line).map_err(|_| Error::Foreign)?;
        let (format, expected) = line.split_once(' ').ok_or(Error::Foreign)?;
        if format != FORMAT {
            return Err(Error::Format { found: format.escape_debug().to_string() });
        }
        let found = checksum(json);
        if found != expected {
            return Err(Error::Damaged { found, expected: expected.escape_debug().to_string() });
        }
        serde_json::from_slice(json).map_err(|error| Error::Nonsense(error.to_string()))
    }
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", xxh3_64(bytes))
}
