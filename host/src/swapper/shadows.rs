//! Shadows: next versions that run beside those in force.

use super::{Done, Swapper, Wish, conflict, load, not_found, put, trial, unacceptable};
use crate::admin::control::{Candidate, Refusal, ShadowOptions};
use crate::assembly::BesideVersion;
use crate::catalog::reads;
use crate::plugin::Permit;
use crate::shared::lock;
use crate::store::BesideRole;
use crate::store::history::Action as Deed;
use crate::switch::{Action, Origin, Pin, Prepared};
use std::sync::Arc;
use wasmill_pipeline::shadow::Comparison;

impl Swapper {
    pub(super) fn shadow(
        &self,
        wish: &Wish<'_>,
        component: &Candidate,
        options: &ShadowOptions,
        permit: &Arc<Permit>,
    ) -> Result<Done, Refusal> {
        let place = wish.aggregate()?;
        let (_, path) = self.find(component)?;
        self.nothing_on_probation()?;
        wish.nothing_beside()?;
        let base = &wish.base;
        options.check().map_err(unacceptable)?;
        let new = load(wish.old(), component, &path, permit)?;
        let role = BesideRole::Shadow {
            // The coordinator says from which instant and checkpoint on it is.
            from_us: None,
            since: 0,
            key_sample: options.key_sample.unwrap_or(1.0),
            tolerance: options.tolerance.clone(),
            found: Comparison::default(),
        };
        let mut versions = base.versions.clone();
        versions.beside.push(BesideVersion { of: place, role, component: new.clone() });
        let next = wish.with(versions)?;
        let at = base.plan.aggregates.len();
        let migrates =
            !options.next_windows && reads(&next.descriptions[at], base.plan.aggregates[place].state_version);
        let known = |column: &&String| next.plan.aggregates[place].schema.index_of(column).is_err();
        if let Some(unknown) = options.tolerance.keys().find(known) {
            return Err(unacceptable(format!("there is no column {unknown} to have a tolerance")));
        }
        let difference = trial::aggregate(base, place, &next, at, migrates, &self.samples())?;
        let (origin, pin, message) = if migrates {
            (Origin::Migrated(place), Pin::No, "it begins with the state of the version in force")
        } else {
            (Origin::Empty, Pin::Shadow(place), "it begins with the windows that open next")
        };
        let mut origins: Vec<Origin> = (0..at).map(Origin::Same).collect();
        origins.push(origin);
        let message = format!("{message}; its rows are compared, and not written");
        let action = Action { difference, ..wish.action(Deed::Shadow, &new, None, message) };
        put(Prepared::new(action, base, next, origins, false, pin), false)
    }

    pub(super) fn promote(&self, wish: &Wish<'_>) -> Result<Done, Refusal> {
        let place = wish.aggregate()?;
        self.nothing_on_probation()?;
        let (base, shadow) = (&wish.base, wish.shadow(place)?);
        let BesideRole::Shadow { from_us, key_sample, .. } = shadow.role else {
            return Err(not_found("there is no shadow"));
        };
        let found = lock(&self.view.progress).shadows.get(wish.old().name()).cloned().unwrap_or_default();
        if let Some(failed) = found.failed {
            return Err(conflict(format!("the shadow does not run any more: {failed}; discard it")));
        }
        if key_sample < 1.0 {
            return Err(conflict(format!(
                "the shadow has counted for {key_sample} of the keys only; discard it, and swap it in: wasmill swap {} \
                 --digest {}",
                wish.old().name(),
                shadow.component.digest()
            )));
        }
        let at = base.plan.shadow(place).ok_or_else(|| not_found("there is no shadow"))?;
        let mut versions = base.versions.clone();
        versions.beside.retain(|version| version.of != place);
        versions.aggregates[place] = shadow.component.clone();
        let mut origins: Vec<Origin> =
            (0..base.plan.aggregates.len()).filter(|&old| old != at).map(Origin::Same).collect();
        origins[place] = Origin::Same(at);
        let message = match from_us {
            None => "the shadow goes on with the state it has",
            Some(before_us) => {
                // It has not seen the windows before, and these may still be open.
                let role = BesideRole::Retiring { before_us };
                versions.beside.push(BesideVersion { of: place, role, component: wish.old().clone() });
                origins.push(Origin::Same(place));
                "the shadow goes on with the windows it has seen from their start, the version before ends the others"
            }
        };
        let next = wish.with(versions)?;
        let action = wish.action(Deed::Promote, &shadow.component, None, message.to_owned());
        put(Prepared::new(action, base, next, origins, false, Pin::No), true)
    }

    pub(super) fn discard(wish: &Wish<'_>) -> Result<Done, Refusal> {
        let place = wish.aggregate()?;
        let (base, shadow) = (&wish.base, wish.shadow(place)?);
        let at = base.plan.shadow(place).ok_or_else(|| not_found("there is no shadow"))?;
        let mut versions = base.versions.clone();
        versions.beside.retain(|version| version.of != place || !version.is_shadow());
        let next = wish.with(versions)?;
        let origins = (0..base.plan.aggregates.len()).filter(|&old| old != at).map(Origin::Same).collect();
        let action =
            wish.action(Deed::Discard, &shadow.component, None, "the shadow and its state are gone".to_owned());
        put(Prepared::new(action, base, next, origins, false, Pin::No), false)
    }
}
