//! Which versions an attempt works with: those that the last checkpoint names, or those before a swap that is taken back.

use super::Attempt;
use crate::admin::control::{Outcome, Refusal, RefusalKind};
use crate::assembly::{Assembly, chain};
use crate::catalog::{Catalog, start_with_files};
use crate::chronicle::{of_action, of_swap};
use crate::clock;
use crate::failure::Failure;
use crate::plugin;
use crate::recovery::{go_back, must_go_back};
use crate::shared::lock;
use crate::sink;
use crate::store::history::{Action as Deed, Outcome as Happened};
use crate::store::{LocalStore, Manifest, PluginStore, Swapped};
use crate::switch::{UnderWay, refuse};
use std::sync::Arc;

/// How long the ledger has a file that is not where it was put: whoever moved it may ask where it came from.
const LEDGER_DAYS: i64 = 30;
const DAY_US: i64 = 86_400_000_000;
/// How many files of the ledger a start looks at, for each purpose: a second's work.
const MOST_LEDGER_FILES: usize = 10_000;

impl Attempt<'_> {
    /// The checkpoint to go on from: the one before the swap on probation, if that is to be taken back.
    pub(super) fn unless_taken_back(&self, store: &LocalStore, manifest: Manifest) -> Result<Manifest, Failure> {
        let why = self.go_back.map(str::to_owned).or_else(|| must_go_back(&manifest));
        let (Some(why), Some(probation)) = (why, &manifest.probation) else { return Ok(manifest) };
        let under_way = self.view.switchboard.end();
        let who = under_way.as_ref().map(|under_way| &under_way.action).filter(|action| action.kind == Deed::Rollback);
        let who = who.map_or("host", |action| &action.who);
        let event = |swap: &Swapped, boundary| {
            let (from, to) = (swap.to.clone(), swap.from.clone());
            let back = Swapped { from, to, policy: None, who: who.to_owned(), plugin: swap.plugin.clone() };
            of_swap(&back, Deed::Rollback, Happened::RolledBack, boundary, &why)
        };
        let back = go_back(store, &manifest, event)?;
        let boundary = back.boundary();
        for swap in &probation.swaps {
            let (plugin, digest, checkpoint) = (&swap.plugin, &swap.to, back.checkpoint);
            tracing::error!(plugin, digest, checkpoint, "{why}; {} is in force again", swap.from);
        }
        back.events.iter().for_each(|event| self.view.history.note(event));
        if let Some(UnderWay { action, reply: Some(reply) }) = under_way {
            let reply_with = if action.kind == Deed::Rollback {
                Ok(action.answer(Outcome::RolledBack, Some(boundary)))
            } else {
                Err(Refusal { kind: RefusalKind::Failed, message: why })
            };
            // Whoever asked may be gone.
            let _ = reply.send(reply_with);
        }
        Ok(back)
    }

    /// Whoever waits for a swap that an attempt began, and that no checkpoint names, waits in vain.
    pub(super) fn answer_who_waits(&self, manifest: Option<&Manifest>) {
        let Some(UnderWay { action, reply }) = self.view.switchboard.end() else { return };
        let plugins = manifest.map(|manifest| &manifest.plugins);
        let done =
            plugins.and_then(|plugins| plugins.get(&action.plugin)) == Some(&action.to) && action.to != action.from;
        let why = self.go_back.unwrap_or("the attempt ended before it was in force");
        if !done {
            tracing::error!(plugin = action.plugin, digest = action.to, "{} failed: {why}", action.kind);
            self.view.history.note(&of_action(&action, Happened::Failed, None, why));
        }
        let message = if done { "it is in force; the attempt that put it in has ended since" } else { why };
        // Where it was not the new version's doing, it may be asked for again.
        let kind = if self.go_back.is_some() { RefusalKind::Failed } else { RefusalKind::Conflict };
        refuse(reply.as_ref(), kind, message.to_owned());
    }

    /// Removes what nobody needs any more: components that no checkpoint and no output file names, and what the ledger has
    /// of files that are gone. Where that fails it is told, and the next start tries again.
    fn clean(&self, store: &LocalStore, kept: &PluginStore, at_work: &Assembly) {
        let (disk, root) = (self.disk.as_ref(), &self.options.output_root);
        let swept = || -> Result<Vec<String>, Failure> {
            let mut named = store.plugins()?;
            let versions = at_work.versions.all().chain(self.files.versions.all());
            named.extend(versions.map(|component| component.digest().to_owned()));
            let others = kept.list()?.into_iter().filter(|digest| !named.contains(digest)).collect();
            named.extend(sink::plugins_of_files(disk, root, &others, MOST_LEDGER_FILES)?);
            Ok(kept.sweep(&named)?)
        };
        match swept() {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => tracing::info!("removed components that no checkpoint and no file names: {}", gone.join(", ")),
            Err(failure) => tracing::warn!("components that nothing names are not removed: {:#}", failure.error),
        }
        let before_us = clock::now_us() - LEDGER_DAYS * DAY_US;
        match sink::clean_ledger(disk, root, before_us, MOST_LEDGER_FILES) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed from the ledger what is of files that are gone"),
            Err(error) => tracing::warn!("the ledger is not cleaned: {}", chain(&error)),
        }
    }

    /// The versions at work: those that the checkpoint names, or those of the files where there is no checkpoint yet.
    pub(super) fn in_force(
        &self,
        store: &LocalStore,
        manifest: Option<Manifest>,
    ) -> Result<(Arc<Assembly>, Option<Manifest>), Failure> {
        let path = &self.options.checkpoint_path;
        let kept = PluginStore::open(self.disk.clone(), path, plugin::digest);
        let catalog = Catalog { files: self.files, kept };
        catalog.keep(&self.files.versions)?;
        let (assembly, manifest) = match manifest {
            None => (self.files.clone(), None),
            Some(manifest) => {
                let before = lock(&self.view.in_force).clone();
                let assembly = catalog.in_force(&manifest, before.as_ref())?;
                let (assembly, manifest) =
                    start_with_files(store, self.files, &assembly, manifest, &self.options.swap, &self.view.history)?;
                (assembly, Some(manifest))
            }
        };
        if lock(&self.view.in_force).is_none() {
            // Nobody can put a version in yet.
            self.clean(store, &catalog.kept, &assembly);
        }
        let mut faults = lock(&self.view.faults);
        faults.fit(&assembly, None);
        let on_probation = manifest.iter().flat_map(|manifest| &manifest.probation).flat_map(|p| &p.swaps);
        let place = |plugin: &String| assembly.outputs.in_force().iter().position(|name| name == plugin);
        faults.set_probation(on_probation.map(|swap| place(&swap.plugin)).collect());
        drop(faults);
        *lock(&self.view.in_force) = Some(assembly.clone());
        Ok((assembly, manifest))
    }
}
