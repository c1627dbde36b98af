//! The versions that checkpoints name: where they are kept, and how a pipeline is put together of them.

use crate::admin::control::Policy;
use crate::assembly::{Assembly, BesideVersion, Versions, chain};
use crate::chronicle::{Chronicle, of_swap};
use crate::config::{Swap, SwapPolicy};
use crate::failpoint;
use crate::failure::Failure;
use crate::plugin::Component;
use crate::store::history::{Action, Outcome};
use crate::store::{Beside, BesideRole, LocalStore, Manifest, PartitionState, PluginStore, Probation, Swapped};
use anyhow::anyhow;
use std::sync::Arc;
use wasmill_pipeline::change;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::plugin::AggregateDescription;
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::version::Role;

/// Who asks for what lies in files when a pipeline starts.
const FILE: &str = "file";

/// Where versions are looked for.
pub struct Catalog<'a> {
    /// Those that lie at the paths of the pipeline file.
    pub files: &'a Arc<Assembly>,
    /// All that ever ran.
    pub kept: PluginStore,
}

impl Catalog<'_> {
    /// Keeps components, so that they can run again.
    ///
    /// # Errors
    /// What the store says.
    pub fn keep(&self, versions: &Versions) -> Result<(), Failure> {
        for component in std::iter::once(&versions.parser).chain(&versions.aggregates) {
            self.kept.keep(component.digest(), component.bytes())?;
        }
        Ok(())
    }

    /// The pipeline of the versions that a checkpoint names. `before` is the one that was at work last.
    ///
    /// # Errors
    /// `Corrupt` where a version is kept nowhere; `Config` where they do not fit together.
    pub fn in_force(&self, manifest: &Manifest, before: Option<&Arc<Assembly>>) -> Result<Arc<Assembly>, Failure> {
        // A checkpoint of a release that did not keep components is gone on from with what there is.
        let all_files = manifest.seen.is_empty();
        let known = before.into_iter().chain([self.files]);
        if let Some(known) = known.into_iter().find(|known| all_files || names(manifest, &known.versions)) {
            return Ok(known.clone());
        }
        let files = &self.files.versions;
        let find = |of: &Component| match manifest.plugins.get(of.name()) {
            Some(digest) => self.component(of, digest, before),
            None => Ok(of.clone()),
        };
        let aggregates: Vec<Component> = files.aggregates.iter().map(find).collect::<Result<_, _>>()?;
        let beside = |version: &Beside| {
            let of = aggregates.iter().position(|component| component.name() == version.aggregate);
            let of = of.ok_or_else(|| {
                let what = format!("the checkpoint names a version of an unknown aggregate {}", version.aggregate);
                Failure::new(Class::Corrupt, anyhow!(what))
            })?;
            let component = self.component(&aggregates[of], &version.digest, before)?;
            Ok::<_, Failure>(BesideVersion { of, role: version.role.clone(), component })
        };
        let beside = manifest.beside.iter().map(beside).collect::<Result<_, _>>()?;
        let versions = Versions { parser: find(&files.parser)?, aggregates, beside };
        Ok(Arc::new(fit(self.files, versions)?))
    }

    /// The version of a plugin with this digest.
    fn component(&self, of: &Component, digest: &str, before: Option<&Arc<Assembly>>) -> Result<Component, Failure> {
        let known = before.into_iter().chain([self.files]).flat_map(|known| known.versions.all());
        if let Some(known) = known.filter(|known| known.name() == of.name()).find(|known| known.digest() == digest) {
            return Ok(known.clone());
        }
        let Some(path) = self.kept.path(digest)? else {
            let (name, folder) = (of.name(), self.kept.folder().display());
            let what = format!(
                "the version in force is not there plugin={name} digest={digest} folder={folder}; put the component \
                 there as {digest}.wasm"
            );
            return Err(Failure::new(Class::Corrupt, anyhow!(what)));
        };
        let loaded = of.other(&path).map_err(|error| anyhow!("{}: {}", of.name(), chain(&error)));
        let loaded = loaded.map_err(|error| Failure::new(Class::Corrupt, error))?;
        if loaded.digest() == digest {
            return Ok(loaded);
        }
        let what = format!("file holds another component path={} digest={}", path.display(), loaded.digest());
        Err(Failure::new(Class::Corrupt, anyhow!(what)))
    }
}

/// Whether a checkpoint names just these.
fn names(manifest: &Manifest, versions: &Versions) -> bool {
    let plain = |version: &Beside| {
        let mut version = version.clone();
        if let BesideRole::Shadow { found, .. } = &mut version.role {
            *found = Comparison::default();
        }
        version
    };
    let beside = |all: &[Beside]| all.iter().map(plain).collect::<Vec<_>>();
    manifest.plugins == versions.digests() && beside(&manifest.beside) == beside(&versions.beside())
}

fn fit(like: &Assembly, versions: Versions) -> Result<Assembly, Failure> {
    like.with(versions).map_err(|mistakes| Failure::new(Class::Config, anyhow!("{}", mistakes.join("; "))))
}

/// What becomes of the state where nobody says: it is migrated where the new version reads it, else the old version ends
/// what it began.
pub fn policy(asked: Option<Policy>, configured: Option<SwapPolicy>, old: u32, new: &AggregateDescription) -> Policy {
    let configured = configured.map(|policy| match policy {
        SwapPolicy::Migrate => Policy::Migrate,
        SwapPolicy::Pin => Policy::Pin,
        SwapPolicy::Fresh => Policy::Fresh,
    });
    asked.or(configured).unwrap_or(if reads(new, old) { Policy::Migrate } else { Policy::Pin })
}

/// Whether it reads states of that version.
pub fn reads(new: &AggregateDescription, version: u32) -> bool {
    new.state_version == version || new.restores.contains(&version)
}

/// Plugin files that changed while the pipeline did not run are swapped in before it reads anything: the checkpoint is
/// made once more, with the new versions and the state as the policy has it.
///
/// # Errors
/// `Config` where they do not fit; what the store says.
pub fn start_with_files(
    store: &LocalStore,
    files: &Arc<Assembly>,
    at_work: &Arc<Assembly>,
    manifest: Manifest,
    swap: &Swap,
    history: &Chronicle,
) -> Result<(Arc<Assembly>, Manifest), Failure> {
    let changed = |(of, file): (Option<usize>, &Component)| {
        let seen = manifest.seen.get(file.name()).is_none_or(|seen| seen == file.digest());
        let busy = of.is_some_and(|of| at_work.versions.beside.iter().any(|version| version.of == of));
        if !seen && busy {
            tracing::warn!(plugin = file.name(), "its file has changed; it waits, as two versions of it are at work");
        }
        let in_force = at_work.versions.digests().get(file.name()).is_some_and(|digest| digest == file.digest());
        (!seen && !busy && !in_force).then(|| (of, file.clone()))
    };
    let all = (0..).zip(&files.versions.aggregates).map(|(of, file)| (Some(of), file));
    let changed: Vec<_> = std::iter::once((None, &files.versions.parser)).chain(all).filter_map(changed).collect();
    if changed.is_empty() {
        return Ok((at_work.clone(), manifest));
    }
    if manifest.probation.is_some() {
        tracing::warn!("plugin files have changed; they wait for the next start, as a swap is on probation");
        return Ok((at_work.clone(), manifest));
    }
    let mut versions = at_work.versions.clone();
    let mut swaps = Vec::new();
    let mut states = None;
    for (of, file) in changed {
        let old = of.map_or_else(|| versions.parser.clone(), |of| versions.aggregates[of].clone());
        let policy = match of {
            None => {
                versions.parser = file.clone();
                None
            }
            Some(of) => {
                let version = at_work.plan.aggregates[of].state_version;
                let policy = policy(None, swap.policy, version, &files.descriptions[of]);
                versions.aggregates[of] = file.clone();
                let role = match policy {
                    Policy::Migrate => None,
                    Policy::Pin => {
                        let role = BesideRole::Retiring { before_us: instant_after(&manifest, at_work) };
                        versions.beside.push(BesideVersion { of, role, component: old.clone() });
                        Some(Some(Role::Retiring))
                    }
                    Policy::Fresh => Some(None),
                };
                if let Some(role) = role {
                    let loaded = states.map_or_else(|| store.load(&manifest.segments), Ok)?;
                    let renamed =
                        loaded.into_iter().filter_map(|mut delta: wasmill_pipeline::state::delta::StateDelta| {
                            if delta.aggregate == old.name() {
                                delta.aggregate = role?.state_name(old.name()).into_owned();
                            }
                            Some(delta)
                        });
                    states = Some(renamed.collect());
                }
                Some(policy)
            }
        };
        swaps.push(Swapped {
            plugin: old.name().to_owned(),
            from: old.digest().to_owned(),
            to: file.digest().to_owned(),
            policy: policy.map(|policy| policy.to_string()),
            who: FILE.to_owned(),
        });
    }
    let assembly = Arc::new(fit(at_work, versions)?);
    let number = manifest.checkpoint + 1;
    let segments = match states {
        Some(states) => vec![store.write_segment(number, &states)?],
        None => manifest.segments.clone(),
    };
    let probation = (swap.probation > 0).then(|| Probation {
        swaps: swaps.clone(),
        boundary: manifest.checkpoint,
        until: number + swap.probation,
        recoveries: 0,
    });
    let none = || serde_json::Value::Array(Vec::new());
    let boundary = manifest.boundary();
    let outcome = if probation.is_some() { Outcome::OnProbation } else { Outcome::InForce };
    let event = |swap| of_swap(swap, Action::Swap, outcome, boundary.clone(), "when the pipeline started");
    let manifest = Manifest {
        checkpoint: number,
        plugins: assembly.versions.digests(),
        beside: assembly.versions.beside(),
        segments,
        probation,
        // Recovery has given them their final names.
        files_of: number,
        files: none(),
        open_files: none(),
        seen: files.versions.digests(),
        events: swaps.iter().map(event).collect(),
        ..manifest
    };
    store.publish(&manifest)?;
    failpoint::reach("files-swapped-in");
    for swap in &swaps {
        let Swapped { plugin, from, to, .. } = swap;
        tracing::info!(plugin, from, to, checkpoint = boundary.checkpoint, "its file has changed: swapped");
    }
    manifest.events.iter().for_each(|event| history.note(event));
    Ok((assembly, manifest))
}

/// An instant that no record before the checkpoint comes to.
fn instant_after(manifest: &Manifest, at_work: &Assembly) -> i64 {
    change::instant_after(manifest.partitions.iter().map(PartitionState::trusted), at_work.plan.time.watermark_delay_us)
}
