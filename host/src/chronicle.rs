//! What became of swaps, rollbacks and shadows: for the history, and counted for metrics.

use crate::admin::control::{Boundary, Outcome};
use crate::shared::lock;
use crate::store::Swapped;
use crate::switch::Action;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Something that happened to a plugin.
#[derive(Clone, Debug)]
pub struct Event {
    /// `swap`, `confirm`, `rollback`, `shadow`, `promote`, `discard` or `retire`.
    pub action: String,
    /// Who asked.
    pub who: String,
    /// The plugin's name.
    pub plugin: String,
    /// The digest before.
    pub from: String,
    /// The digest after.
    pub to: String,
    /// What became of the state.
    pub policy: Option<String>,
    /// Between which records.
    pub boundary: Option<Boundary>,
    /// What came of it.
    pub outcome: String,
    /// More about that; may be empty.
    pub detail: String,
}

impl Event {
    /// What became of a swap that a checkpoint names.
    pub fn of(swap: &Swapped, action: &str, outcome: &str, boundary: Option<Boundary>, detail: &str) -> Self {
        Self {
            action: action.to_owned(),
            who: swap.who.clone(),
            plugin: swap.plugin.clone(),
            from: swap.from.clone(),
            to: swap.to.clone(),
            policy: swap.policy.clone(),
            boundary,
            outcome: outcome.to_owned(),
            detail: detail.to_owned(),
        }
    }

    /// What became of something asked.
    pub fn of_action(action: &Action, outcome: Outcome, boundary: Option<Boundary>, detail: &str) -> Self {
        let outcome = match outcome {
            Outcome::WouldBeAccepted => "would_be_accepted",
            Outcome::Unchanged => "unchanged",
            Outcome::InForce => "in_force",
            Outcome::OnProbation => "on_probation",
            Outcome::RolledBack => "rolled_back",
            Outcome::Shadowing => "shadowing",
            Outcome::Discarded => "discarded",
        };
        Self {
            action: action.name.to_owned(),
            who: action.who.clone(),
            plugin: action.plugin.clone(),
            from: action.from.clone(),
            to: action.to.clone(),
            policy: action.policy.map(|policy| policy.to_string()),
            boundary,
            outcome: outcome.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

/// Writes events down, and counts them.
#[derive(Default)]
pub struct Chronicle {
    counts: Mutex<BTreeMap<String, BTreeMap<String, u64>>>,
}

impl Chronicle {
    /// Notes an event.
    pub fn note(&self, event: &Event) {
        let mut counts = lock(&self.counts);
        *counts.entry(event.plugin.clone()).or_default().entry(event.outcome.clone()).or_default() += 1;
    }

    /// How many events there were in this process, by plugin and outcome.
    pub fn counts(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        lock(&self.counts).clone()
    }
}
