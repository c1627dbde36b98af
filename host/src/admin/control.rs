//! What people may ask of a running pipeline's plugins, and what they are answered: one path for all doors.
//!
//! The HTTP API, `wasmill swap` and its like, and a changed file each make a [`Request`]; whoever runs the pipeline
//! answers it.

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How long whoever asks waits for the answer: a swap compiles, is tried on records that have to come first, and goes
/// in at a checkpoint. Minutes are far more than that takes, and less than people wait for.
pub const ANSWER_WITHIN: Duration = Duration::from_mins(5);

/// The largest component that is taken: what `plugin` loads of a file.
pub const MAX_COMPONENT_BYTES: usize = 128 << 20;

/// How many digits of a digest are enough to name one in the plugin store.
pub const MIN_DIGEST_DIGITS: usize = 8;

pub use wasmill_pipeline::checkpoint::Boundary;

/// Something that somebody asks.
#[derive(Debug)]
pub struct Request {
    /// What.
    pub ask: Ask,
    /// Who: `token:<name>`, `user:<name>`, or `file` for a changed file.
    pub who: String,
    /// Where the answer goes; whoever asked may be gone.
    pub reply: Sender<Reply>,
}

/// What is asked. `plugin` is the name in the pipeline file: an aggregate's, `parser` or `generator`.
#[derive(Debug)]
pub enum Ask {
    /// Replace a plugin.
    Swap {
        /// Which.
        plugin: String,
        /// By what.
        component: Candidate,
        /// What becomes of its state; `None` = as the pipeline file says.
        policy: Option<Policy>,
        /// Only say what would happen.
        dry_run: bool,
    },
    /// Take back a swap that is on probation.
    Rollback {
        /// Of which plugin.
        plugin: String,
    },
    /// Run a next version of an aggregate beside it.
    Shadow {
        /// Of which aggregate.
        plugin: String,
        /// Which version.
        component: Candidate,
        /// How.
        options: ShadowOptions,
    },
    /// Make the shadow the version in force.
    Promote {
        /// Of which aggregate.
        plugin: String,
    },
    /// End the shadow.
    Discard {
        /// Of which aggregate.
        plugin: String,
    },
    /// End the trial of a version that is to be swapped in, or to be a shadow.
    Cancel {
        /// Of which plugin.
        plugin: String,
    },
}

impl Ask {
    /// The plugin that it is about.
    pub fn plugin(&self) -> &str {
        match self {
            Self::Swap { plugin, .. }
            | Self::Rollback { plugin }
            | Self::Shadow { plugin, .. }
            | Self::Promote { plugin }
            | Self::Discard { plugin }
            | Self::Cancel { plugin } => plugin,
        }
    }
}

/// A component that is to be put in.
#[derive(Clone, Debug)]
pub enum Candidate {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// The digest, or an unambiguous beginning of it of at least 8 digits, of one that the plugin store keeps.
    Digest(String),
}

/// What becomes of an aggregate's open state at a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The new version reads the old one's state.
    Migrate,
    /// Open windows end on the old version, later ones begin on the new.
    Pin,
    /// It is dropped.
    Fresh,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Migrate, Self::Pin, Self::Fresh];

    /// The policy of this word.
    ///
    /// # Errors
    /// What would be one.
    pub fn parse(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|policy| policy.as_str().eq_ignore_ascii_case(word));
        found.ok_or_else(|| format!("{word:?} is not a policy; write migrate, pin or fresh"))
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Migrate => "migrate",
            Self::Pin => "pin",
            Self::Fresh => "fresh",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a shadow runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShadowOptions {
    /// The share of keys compared, above 0 and up to 1; `None` = all.
    pub key_sample: Option<f64>,
    /// Begin with windows that open next, even where the version can read the current one's state.
    pub next_windows: bool,
    /// By how much a column may differ, by its name, relative to the larger value; all others must be equal.
    pub tolerance: BTreeMap<String, f64>,
}

impl ShadowOptions {
    /// Whether they make sense.
    ///
    /// # Errors
    /// What does not, and what would.
    pub fn check(&self) -> Result<(), String> {
        if let Some(share) = self.key_sample.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            return Err(format!("{share} is not a share of keys; write above 0 and up to 1, such as 0.1"));
        }
        match self.tolerance.iter().find(|(_, tolerance)| !(tolerance.is_finite() && **tolerance >= 0.0)) {
            Some((column, tolerance)) => {
                Err(format!("{tolerance} is not a tolerance for {column:?}; write 0 or more, such as 1e-9"))
            }
            None => Ok(()),
        }
    }
}

/// What was done, or what would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What became of it.
    pub outcome: Outcome,
    /// The plugin's name.
    pub plugin: String,
    /// The digest of the version in force before.
    pub from: String,
    /// The digest of the version in force from now on, or of the shadow.
    pub to: String,
    /// What becomes of the state, where there is any.
    pub policy: Option<Policy>,
    /// In sentences, for a person: what happens to the state, the files and the columns.
    pub message: String,
    /// What is different between the two, line by line, for a person.
    pub difference: Vec<String>,
    /// Between which records it happened; `None` where nothing did.
    pub boundary: Option<Boundary>,
}

/// What became of what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing: it was only asked what would happen, and it would be accepted.
    WouldBeAccepted,
    /// Nothing: that version is in force already.
    Unchanged,
    /// The new version is in force, for good.
    InForce,
    /// The new version is in force, and is taken back at the first fault.
    OnProbation,
    /// The version before is in force again, as if there had been no other.
    RolledBack,
    /// The shadow runs.
    Shadowing,
    /// The shadow is over.
    Discarded,
    /// The trial is over, and the version was not put in.
    Cancelled,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WouldBeAccepted => "would be accepted",
            Self::Unchanged => "unchanged",
            Self::InForce => "in force",
            Self::OnProbation => "on probation",
            Self::RolledBack => "rolled back",
            Self::Shadowing => "shadowing",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Why something asked was not done. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of reason.
    pub kind: RefusalKind,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// There is no such plugin, shadow or digest.
    NotFound,
    /// Not now: another swap is on probation, a shadow runs, the pipeline is not running.
    Conflict,
    /// The component is not acceptable: of another contract, columns that do not fit, a law broken.
    Unacceptable,
    /// It was accepted and failed when it was put in; the version before is in force.
    Failed,
}

/// An answer, or why there is nothing to answer.
pub type Reply = Result<Answer, Refusal>;

/// How a shadow compares with the version in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShadowReport {
    /// The aggregate's name.
    pub plugin: String,
    /// The digest of the version in force.
    pub current: String,
    /// The digest of the shadow.
    pub shadow: String,
    /// The checkpoint at which it began.
    pub since_checkpoint: u64,
    /// How it runs.
    pub options: ShadowOptions,
    /// Windows of keys, or sessions, compared.
    pub compared: u64,
    /// Those with the same rows.
    pub equal: u64,
    /// Those with other rows.
    pub different: u64,
    /// Those to which only the version in force gave rows.
    pub only_current: u64,
    /// Those to which only the shadow gave rows.
    pub only_shadow: u64,
    /// Some of those that differ, the first ones.
    pub examples: Vec<DifferentRow>,
    /// What a row costs the version in force, ns.
    pub current_ns_per_row: f64,
    /// What a row costs the shadow, ns.
    pub shadow_ns_per_row: f64,
    /// Why the shadow does not run any more, if it does not.
    pub failed: Option<String>,
}

/// A window of a key in which the two versions differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DifferentRow {
    /// The window's start, µs since the Unix epoch.
    pub window_start_us: i64,
    /// Its end.
    pub window_end_us: i64,
    /// The key, by column.
    pub key: BTreeMap<String, String>,
    /// The column that differs first; `None` where one of the two has no row, or another number of rows.
    pub column: Option<String>,
    /// What the version in force has there.
    pub current: Option<String>,
    /// What the shadow has there.
    pub shadow: Option<String>,
}
