//! The generator, which has neither state nor checkpoints: another one makes the next batch.

use super::{Done, Swapper, answer, conflict, load, trial, unacceptable};
use crate::admin::control::{Candidate, Outcome, Refusal};
use crate::assembly::chain;
use crate::chronicle::of_action;
use crate::generator::GeneratorSlot;
use crate::plugin::Permit;
use crate::store::history::{Action as Deed, Outcome as Happened};
use crate::switch::Action;
use std::sync::Arc;

/// The generator of the pipeline.
pub struct Generating {
    /// Where it is.
    pub slot: Arc<GeneratorSlot>,
    /// Its section of the pipeline file.
    pub config_json: String,
    /// Its seed.
    pub seed: u64,
}

impl Swapper {
    pub(super) fn swap_generator(
        &self,
        generating: &Generating,
        component: &Candidate,
        dry_run: bool,
        who: &str,
        permit: &Arc<Permit>,
    ) -> Result<Done, Refusal> {
        let old = generating.slot.component();
        let (digest, path) = self.find(component)?;
        let message = "records from the next batch on are made by the new version; where it fails in its first batches, the \
                       one before goes on";
        let mut action = Action {
            kind: Deed::Swap,
            who: who.to_owned(),
            plugin: "generator".to_owned(),
            from: old.digest().to_owned(),
            to: digest,
            policy: None,
            message: message.to_owned(),
            difference: Vec::new(),
            file: who == "file",
        };
        if action.to == old.digest() {
            return Ok(answer(&action, Outcome::Unchanged));
        }
        let new = load(&old, component, &path, permit)?;
        action.difference = trial::generator(generating, &old, &new)?;
        if dry_run {
            return Ok(answer(&action, Outcome::WouldBeAccepted));
        }
        self.keep(&new)?;
        let instance = new.generator(&generating.config_json, generating.seed);
        let instance = instance.map_err(|error| unacceptable(chain(&error)))?;
        let (history, swapped) = (self.view.history.clone(), action.clone());
        let taken_back = move |why: &str| {
            let Action { from, to, .. } = swapped.clone();
            let back = Action { kind: Deed::Rollback, who: "host".to_owned(), from: to, to: from, ..swapped };
            history.note(&of_action(&back, Happened::RolledBack, None, why));
        };
        let (slot, history) = (generating.slot.clone(), self.view.history.clone());
        Ok(Done::Then(Box::new(move || {
            slot.replace(new, instance, Box::new(taken_back));
            history.note(&of_action(&action, Happened::InForce, None, ""));
            action.answer(Outcome::InForce, None)
        })))
    }

    pub(super) fn roll_generator_back(generating: &Generating, who: &str) -> Result<Done, Refusal> {
        let from = generating.slot.component().digest().to_owned();
        if !generating.slot.take_back(&format!("asked by {who}")) {
            return Err(conflict("the generator is not on trial: swap the version before in, by its digest"));
        }
        let action = Action {
            kind: Deed::Rollback,
            who: who.to_owned(),
            plugin: "generator".to_owned(),
            from,
            to: generating.slot.component().digest().to_owned(),
            policy: None,
            message: "the generator before goes on with the next batch".to_owned(),
            difference: Vec::new(),
            file: false,
        };
        Ok(answer(&action, Outcome::RolledBack))
    }
}
