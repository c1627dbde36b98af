//! What became of swaps, rollbacks and shadows: written into the history, and counted for metrics.

use crate::clock;
use crate::shared::lock;
use crate::store::history::{Action, Entry, History, Outcome};
use crate::store::{Swapped, history};
use crate::switch;
use std::collections::BTreeMap;
use std::sync::Mutex;
use wasmill_pipeline::checkpoint::Boundary;

/// What happened to a swap that a checkpoint names.
pub fn of_swap(swap: &Swapped, action: Action, outcome: Outcome, boundary: Boundary, detail: &str) -> Entry {
    Entry {
        id: Entry::id_of(action, outcome, &swap.plugin, boundary.checkpoint, &swap.to),
        time_us: clock::now_us(),
        who: swap.who.clone(),
        action,
        plugin: swap.plugin.clone(),
        from: swap.from.clone(),
        to: swap.to.clone(),
        policy: swap.policy.clone(),
        boundary: Some(boundary),
        outcome,
        detail: detail.to_owned(),
    }
}

/// What happened to something asked, at a boundary if at any.
pub fn of_action(action: &switch::Action, outcome: Outcome, boundary: Option<Boundary>, detail: &str) -> Entry {
    let time_us = clock::now_us();
    // What happened at no checkpoint happens once at a time.
    let at = boundary.as_ref().map_or(time_us.unsigned_abs(), |boundary| boundary.checkpoint);
    Entry {
        id: Entry::id_of(action.kind, outcome, &action.plugin, at, &action.to),
        time_us,
        who: action.who.clone(),
        action: action.kind,
        plugin: action.plugin.clone(),
        from: action.from.clone(),
        to: action.to.clone(),
        policy: action.policy.map(|policy| policy.to_string()),
        boundary,
        outcome,
        detail: detail.to_owned(),
    }
}

/// Writes entries down, and counts them.
#[derive(Default)]
pub struct Chronicle {
    history: Mutex<Option<History>>,
    counts: Mutex<BTreeMap<String, BTreeMap<String, u64>>>,
}

impl Chronicle {
    /// Goes on in this history.
    pub fn open(&self, history: History) {
        *lock(&self.history) = Some(history);
    }

    /// Notes what has happened.
    pub fn note(&self, entry: &Entry) {
        let outcome = entry.outcome.to_string().replace(' ', "_");
        *lock(&self.counts).entry(entry.plugin.clone()).or_default().entry(outcome).or_default() += 1;
        self.write(entry);
    }

    /// Notes what a checkpoint says has happened, unless whoever made it came to that.
    pub fn recover(&self, entries: &[Entry]) {
        for entry in entries {
            self.write(entry);
        }
    }

    /// The pipeline does not stop for want of a line in its history.
    fn write(&self, entry: &history::Entry) {
        if let Some(history) = lock(&self.history).as_ref()
            && let Err(error) = history.append_once(entry)
        {
            tracing::error!(%error, id = entry.id, "the history has not this entry");
        }
    }

    /// What happened in this process, by plugin and outcome.
    pub fn counts(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        lock(&self.counts).clone()
    }
}
