//! The versions that checkpoints name: where they are kept, and how a pipeline is put together of them.

use crate::admin::control::Policy;
use crate::assembly::{Assembly, BesideVersion, Versions, chain};
use crate::chronicle::{Chronicle, of_swap};
use crate::config::{self, Config, Swap, SwapPolicy};
use crate::disk::{Disk, RealDisk};
use crate::failpoint;
use crate::failure::Failure;
use crate::instances::Instantiate;
use crate::plugin::{self, Component, Runtime, World};
use crate::store::history::{Action, Outcome};
use crate::store::{
    Beside, BesideRole, LocalStore, Manifest, PartitionState, PluginStore, Probation, Swapped, latest_in,
};
use anyhow::anyhow;
use std::collections::BTreeMap;
use std::path::Path;
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

/// What the newest checkpoint says of plugins, for a start that does not know yet what is in the files: a version that is in
/// force goes on, whatever lies at its path now.
pub struct Active<'a> {
    config: &'a Config,
    manifest: Manifest,
    kept: PluginStore,
}

/// A plugin at a start.
struct Found {
    component: Component,
    /// What is no change any more when its file is looked at: the digest in force, or of a file that was dealt with.
    known: String,
    /// The version in force, where the one above is another.
    before: Option<Component>,
}

impl<'a> Active<'a> {
    /// Looks at the newest checkpoint; `None` where there is none, or none that can be read: the start says why.
    pub fn look(config: &'a Config) -> Option<Self> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let manifest = latest_in(disk.as_ref(), &config.checkpoint.path).ok()??;
        let kept = PluginStore::open(disk, &config.checkpoint.path, plugin::digest);
        Some(Self { config, manifest, kept })
    }

    /// Puts the pipeline together: of the versions in force, and of files that have changed where these will do. Gives the
    /// digests, too, that are no change when the files are looked at again.
    ///
    /// A changed file that will not do is told, and is looked at once more by whoever watches files; the version in force
    /// goes on.
    ///
    /// # Errors
    /// Every mistake, a sentence each, where there is nothing in force to go on with either.
    pub fn assemble(
        &self,
        runtime: &Arc<Runtime>,
        workers: usize,
        instantiate: &Arc<dyn Instantiate>,
    ) -> Result<(Assembly, BTreeMap<String, String>), Vec<String>> {
        let mut mistakes = Vec::new();
        let aggregates = self.config.aggregates.iter().map(|of| (of.spec.name.as_str(), &of.plugin, World::Aggregate));
        let all = std::iter::once(("parser", &self.config.parser, World::Parser)).chain(aggregates);
        let mut find = |(name, plugin, world): (&str, &config::Plugin, World)| {
            self.find(runtime, name, &plugin.path, world)
                .map_err(|error| mistakes.push(format!("{name}: {}", chain(&error))))
                .ok()
        };
        let found: Option<Vec<Found>> = all.map(&mut find).collect::<Vec<_>>().into_iter().collect();
        let Some(found) = found else { return Err(mistakes) };
        let fit = |components: Vec<Component>| {
            let mut components = components.into_iter();
            let parser = components.next().expect("the parser comes first");
            let versions = Versions { parser, aggregates: components.collect(), beside: Vec::new() };
            Assembly::of(self.config, versions, workers, instantiate)
        };
        let known = |found: Vec<Found>| {
            found.into_iter().map(|found| (found.component.name().to_owned(), found.known)).collect::<BTreeMap<_, _>>()
        };
        match fit(found.iter().map(|found| found.component.clone()).collect()) {
            Ok(assembly) => Ok((assembly, known(found))),
            Err(wrong) if found.iter().all(|found| found.before.is_none()) => Err(wrong),
            Err(wrong) => {
                let in_force = |found: Found| match found.before {
                    Some(before) => Found { known: before.digest().to_owned(), component: before, before: None },
                    None => found,
                };
                let found: Vec<Found> = found.into_iter().map(in_force).collect();
                // Where the versions in force do not fit either, the files are what is to be mended.
                let components = found.iter().map(|found| found.component.clone()).collect();
                let assembly = fit(components).map_err(|_| wrong.clone())?;
                for wrong in wrong {
                    tracing::warn!("the changed files are not taken, and the versions in force go on: {wrong}");
                }
                Ok((assembly, known(found)))
            }
        }
    }

    fn find(
        &self,
        runtime: &Arc<Runtime>,
        name: &str,
        path: &Path,
        world: World,
    ) -> Result<Found, crate::plugin::Error> {
        let in_force = self.manifest.plugins.get(name).and_then(|digest| {
            let kept = self.kept.path(digest).ok().flatten()?;
            Some((digest, kept))
        });
        let load = |path: &Path| {
            let component = runtime.load(name, path, world)?;
            let known = component.digest().to_owned();
            Ok(Found { component, known, before: None })
        };
        let Some((digest, kept)) = in_force else { return load(path) };
        let file = plugin::file_digest(path);
        if file.as_ref().is_ok_and(|file| file == digest) {
            return load(path).or_else(|_| load(&kept));
        }
        match (file, load(&kept)) {
            (Ok(file), Ok(before)) if self.manifest.seen.get(name) == Some(&file) => {
                tracing::info!(plugin = name, digest = file, "its file was dealt with before; {digest} is in force");
                Ok(Found { known: file, ..before })
            }
            (_, Ok(before)) => match load(path) {
                Ok(changed) => Ok(Found { before: Some(before.component), ..changed }),
                Err(error) => {
                    let why = chain(&error);
                    tracing::warn!(
                        plugin = name,
                        "its file is not taken, and {digest} goes on, which is in force: {why}"
                    );
                    Ok(before)
                }
            },
            // The start says what is wrong with the one that is kept.
            (_, Err(_)) => load(path),
        }
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
        let seen = stands_in(store, file) || manifest.seen.get(file.name()).is_none_or(|seen| seen == file.digest());
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
        seen: dealt_with(&manifest, &swaps),
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

/// Whether it stands in for a file that was not taken: it is one of those kept, and may have been taken back since.
fn stands_in(store: &LocalStore, component: &Component) -> bool {
    component.path().starts_with(PluginStore::folder_in(store.dir()))
}

/// The files that were dealt with, those of these swaps included: one that waits, or that was refused, is none of them.
fn dealt_with(manifest: &Manifest, swaps: &[Swapped]) -> BTreeMap<String, String> {
    let mut seen = manifest.seen.clone();
    seen.extend(swaps.iter().map(|swap| (swap.plugin.clone(), swap.to.clone())));
    seen
}

/// An instant that no record before the checkpoint comes to.
fn instant_after(manifest: &Manifest, at_work: &Assembly) -> i64 {
    change::instant_after(manifest.partitions.iter().map(PartitionState::trusted), at_work.plan.time.watermark_delay_us)
}
