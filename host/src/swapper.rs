//! Answers what people ask of the plugins: all that a change takes is made ready here, beside the running pipeline, and
//! tried; the coordinator only puts it in.

mod generator;
mod trial;

pub use generator::Generating;

use crate::admin::control::{
    Answer, Ask, Candidate, Outcome, Policy, Refusal, RefusalKind, Reply, Request, ShadowOptions,
};
use crate::assembly::{Assembly, BesideVersion, Versions, chain};
use crate::catalog::{policy, reads};
use crate::chronicle::of_action;
use crate::plugin::{self, Component};
use crate::run::View;
use crate::shared::lock;
use crate::store::history::{Action as Deed, Outcome as Happened};
use crate::store::{self, BesideRole, PluginStore};
use crate::switch::{Action, Order, Origin, Pin, Prepared};
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use wasmill_pipeline::shadow::Comparison;

/// Who answers.
pub struct Swapper {
    /// What is asked, by all doors.
    pub requests: Receiver<Request>,
    /// The pipeline, whichever attempt is under way.
    pub view: Arc<View>,
    /// Where components are kept.
    pub kept: PluginStore,
    /// The generator, where the pipeline has one.
    pub generator: Option<Generating>,
}

/// What became of a request.
enum Done {
    /// It is answered here.
    Answer(Box<Answer>),
    /// The coordinator answers.
    Left,
}

/// What somebody wants of an aggregate or the parser.
struct Wish<'a> {
    base: Arc<Assembly>,
    /// The aggregate's place in the plan; `None` = the parser.
    place: Option<usize>,
    who: &'a str,
}

impl Swapper {
    /// Answers until nobody can ask any more.
    pub fn run(self) {
        for Request { ask, who, reply } in &self.requests {
            let (plugin, kind, digest) = (ask.plugin().to_owned(), kind_of(&ask), digest_of(&ask));
            match self.consider(ask, &who, &reply) {
                Ok(Done::Left) => {}
                // Whoever asked may be gone.
                Ok(Done::Answer(answer)) => drop(reply.send(Ok(*answer))),
                Err(refusal) => {
                    self.note_refusal(kind, &who, &plugin, digest.unwrap_or_default(), &refusal);
                    drop(reply.send(Err(refusal)));
                }
            }
        }
    }

    /// A component that is not acceptable is not asked for again by the file that holds it, not at the next start either.
    fn note_refusal(&self, kind: Deed, who: &str, plugin: &str, digest: String, refusal: &Refusal) {
        if refusal.kind != RefusalKind::Unacceptable {
            return;
        }
        // A law is shown with an input, line by line; an entry of the log is one line.
        let message = refusal.message.lines().map(str::trim).collect::<Vec<_>>().join(" | ");
        tracing::warn!(plugin, digest, who, "{kind} refused: {message}");
        let in_force = lock(&self.view.in_force).as_ref().and_then(|at_work| {
            let component = at_work.versions.all().find(|component| component.name() == plugin)?;
            Some(component.digest().to_owned())
        });
        let action = Action {
            kind,
            who: who.to_owned(),
            plugin: plugin.to_owned(),
            from: in_force.unwrap_or_default(),
            to: digest.clone(),
            policy: None,
            message: String::new(),
            difference: Vec::new(),
            file: false,
        };
        self.view.history.note(&of_action(&action, Happened::Refused, None, &refusal.message));
        if who == "file" {
            // Where another order waits, the file is looked at once more at the next start: that is all.
            let _ = self.view.switchboard.leave(Order::See { plugin: plugin.to_owned(), digest });
        }
    }

    fn consider(&self, ask: Ask, who: &str, reply: &Sender<Reply>) -> Result<Done, Refusal> {
        match ask {
            Ask::Swap { plugin, component, policy, dry_run } if plugin == "generator" => {
                let generating = self.generator.as_ref().ok_or_else(|| not_found("this pipeline has no generator"))?;
                if policy.is_some() {
                    return Err(unacceptable("a generator has no state, so there is no policy for it"));
                }
                self.swap_generator(generating, &component, dry_run, who)
            }
            Ask::Rollback { plugin } if plugin == "generator" => {
                let generating = self.generator.as_ref().ok_or_else(|| not_found("this pipeline has no generator"))?;
                Self::roll_generator_back(generating, who)
            }
            Ask::Swap { plugin, component, policy, dry_run } => {
                let wish = self.wish(&plugin, who)?;
                self.swap(&wish, &component, policy, dry_run, reply)
            }
            Ask::Rollback { plugin } => {
                self.wish(&plugin, who)?;
                self.leave(Order::GoBack { plugin, who: who.to_owned(), reply: reply.clone() })
            }
            Ask::Shadow { plugin, component, options } => {
                let wish = self.wish(&plugin, who)?;
                self.shadow(&wish, &component, &options, reply)
            }
            Ask::Promote { plugin } => {
                let wish = self.wish(&plugin, who)?;
                self.promote(&wish, reply)
            }
            Ask::Discard { plugin } => {
                let wish = self.wish(&plugin, who)?;
                self.discard(&wish, reply)
            }
        }
    }

    fn wish<'a>(&self, plugin: &str, who: &'a str) -> Result<Wish<'a>, Refusal> {
        let base = lock(&self.view.in_force).clone();
        let base = base.ok_or_else(|| conflict("the pipeline is still starting; ask again in a moment"))?;
        let place = base.outputs.in_force().iter().position(|name| name == plugin);
        if place.is_none() && plugin != "parser" {
            let mut names = base.outputs.in_force().to_vec();
            names.extend(["parser".to_owned(), "generator".to_owned()]);
            return Err(not_found(format!("there is no plugin {plugin}; there are {}", names.join(", "))));
        }
        Ok(Wish { base, place, who })
    }

    fn swap(
        &self,
        wish: &Wish<'_>,
        component: &Candidate,
        asked: Option<Policy>,
        dry_run: bool,
        reply: &Sender<Reply>,
    ) -> Result<Done, Refusal> {
        let old = wish.old();
        let new = self.load(old, component)?;
        if new.digest() == old.digest() {
            let message = "this version is in force already".to_owned();
            return Ok(answer(&wish.action(Deed::Swap, &new, None, message), Outcome::Unchanged));
        }
        self.nothing_on_probation()?;
        wish.nothing_beside()?;
        match wish.place {
            None => self.swap_parser(wish, &new, asked, dry_run, reply),
            Some(place) => self.swap_aggregate(wish, place, &new, asked, dry_run, reply),
        }
    }

    fn swap_parser(
        &self,
        wish: &Wish<'_>,
        new: &Component,
        asked: Option<Policy>,
        dry_run: bool,
        reply: &Sender<Reply>,
    ) -> Result<Done, Refusal> {
        if asked.is_some() {
            return Err(unacceptable("a parser has no state, so there is no policy for it"));
        }
        let base = &wish.base;
        let versions = Versions { parser: new.clone(), ..base.versions.clone() };
        let next = wish.with(versions)?;
        if next.fingerprint() != base.fingerprint() {
            let changes = store::changes(&base.fingerprint(), &next.fingerprint(), ["now", "then"]).join(", ");
            return Err(unacceptable(format!(
                "its columns make other keys than those of the state: {changes}; start a pipeline of its own for it"
            )));
        }
        let difference = trial::parser(base, &next, &self.samples())?;
        let message = "records from the boundary on are parsed by the new version; all files are closed there";
        let action = Action { difference, ..wish.action(Deed::Swap, new, None, message.to_owned()) };
        if dry_run {
            return Ok(answer(&action, Outcome::WouldBeAccepted));
        }
        let origins = (0..next.plan.aggregates.len()).map(Origin::Same).collect();
        self.put(Prepared::new(action, base, next, origins, true, Pin::No), true, reply)
    }

    fn swap_aggregate(
        &self,
        wish: &Wish<'_>,
        place: usize,
        new: &Component,
        asked: Option<Policy>,
        dry_run: bool,
        reply: &Sender<Reply>,
    ) -> Result<Done, Refusal> {
        let base = &wish.base;
        let mut versions = base.versions.clone();
        versions.aggregates[place] = new.clone();
        let next = wish.with(versions.clone())?;
        let state_version = base.plan.aggregates[place].state_version;
        let configured = base.config().swap.policy;
        let policy = policy(asked, configured, state_version, &next.descriptions[place]);
        if policy == Policy::Migrate && !reads(&next.descriptions[place], state_version) {
            let own = next.descriptions[place].state_version;
            return Err(unacceptable(format!(
                "it cannot read the state of the version in force: its states are of version {own}, and it reads {:?}, not \
                 {state_version}; name {state_version} in what it restores, or take --policy pin or fresh",
                next.descriptions[place].restores
            )));
        }
        if policy == Policy::Pin
            && let Some(why) = lock(&self.view.faults).out_of_service(place)
        {
            return Err(unacceptable(format!(
                "the version in force is out of service ({why}), and cannot end what it began; take --policy fresh, or a \
                 version that reads its state"
            )));
        }
        let difference = trial::aggregate(base, place, &next, place, policy == Policy::Migrate, &self.samples())?;
        let message = match policy {
            Policy::Migrate => "open windows go on with what they have counted, read by the new version",
            Policy::Pin => {
                "windows that start before any event that has not come yet end on the version before, later ones begin on \
                 the new one"
            }
            Policy::Fresh => "what open windows have counted is dropped",
        };
        let message = format!("{message}; files are closed at the boundary, later ones have the new version's columns");
        let action = Action { difference, ..wish.action(Deed::Swap, new, Some(policy), message) };
        if dry_run {
            return Ok(answer(&action, Outcome::WouldBeAccepted));
        }
        let mut origins: Vec<Origin> = (0..base.plan.aggregates.len()).map(Origin::Same).collect();
        let (next, pin) = match policy {
            Policy::Migrate => {
                origins[place] = Origin::Migrated(place);
                (next, Pin::No)
            }
            Policy::Fresh => {
                origins[place] = Origin::Empty;
                (next, Pin::No)
            }
            Policy::Pin => {
                origins[place] = Origin::Empty;
                origins.push(Origin::Same(place));
                let role = BesideRole::Retiring { before_us: i64::MIN };
                versions.beside.push(BesideVersion { of: place, role, component: wish.old().clone() });
                (wish.with(versions)?, Pin::Retiring(place))
            }
        };
        self.put(Prepared::new(action, base, next, origins, false, pin), true, reply)
    }

    fn shadow(
        &self,
        wish: &Wish<'_>,
        component: &Candidate,
        options: &ShadowOptions,
        reply: &Sender<Reply>,
    ) -> Result<Done, Refusal> {
        let place = wish.aggregate()?;
        let new = self.load(wish.old(), component)?;
        self.nothing_on_probation()?;
        wish.nothing_beside()?;
        let base = &wish.base;
        options.check().map_err(unacceptable)?;
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
        self.put(Prepared::new(action, base, next, origins, false, pin), false, reply)
    }

    fn promote(&self, wish: &Wish<'_>, reply: &Sender<Reply>) -> Result<Done, Refusal> {
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
        self.put(Prepared::new(action, base, next, origins, false, Pin::No), true, reply)
    }

    fn discard(&self, wish: &Wish<'_>, reply: &Sender<Reply>) -> Result<Done, Refusal> {
        let place = wish.aggregate()?;
        let (base, shadow) = (&wish.base, wish.shadow(place)?);
        let at = base.plan.shadow(place).ok_or_else(|| not_found("there is no shadow"))?;
        let mut versions = base.versions.clone();
        versions.beside.retain(|version| version.of != place || !version.is_shadow());
        let next = wish.with(versions)?;
        let origins = (0..base.plan.aggregates.len()).filter(|&old| old != at).map(Origin::Same).collect();
        let action =
            wish.action(Deed::Discard, &shadow.component, None, "the shadow and its state are gone".to_owned());
        self.put(Prepared::new(action, base, next, origins, false, Pin::No), false, reply)
    }

    /// Loads a component for the place of another one, and keeps it.
    fn load(&self, old: &Component, candidate: &Candidate) -> Result<Component, Refusal> {
        let failed = |error: crate::store::Error| Refusal { kind: RefusalKind::Failed, message: chain(&error) };
        let path = match candidate {
            Candidate::Digest(beginning) => {
                let digest = self.kept.find(beginning).map_err(|error| not_found(chain(&error)))?;
                self.kept.path(&digest).map_err(failed)?.ok_or_else(|| not_found("it is not kept any more"))?
            }
            Candidate::Bytes(bytes) => self.kept.keep(&plugin::digest(bytes), bytes).map_err(failed)?,
        };
        old.other(&path).map_err(|error| unacceptable(format!("{}: {}", old.name(), chain(&error))))
    }

    fn nothing_on_probation(&self) -> Result<(), Refusal> {
        match &lock(&self.view.progress).probation {
            None => Ok(()),
            Some(probation) => Err(conflict(probation.to_string())),
        }
    }

    /// The last records read.
    fn samples(&self) -> trial::Samples {
        trial::Samples::of(|| lock(&self.view.shared).as_ref().map(|shared| shared.samples.all()).unwrap_or_default())
    }

    /// Leaves what is ready to the coordinator.
    fn put(
        &self,
        prepared: Result<Prepared, plugin::Error>,
        is_swap: bool,
        reply: &Sender<Reply>,
    ) -> Result<Done, Refusal> {
        let mut prepared = prepared.map_err(|error| unacceptable(chain(&error)))?;
        prepared.probation = is_swap.then(|| prepared.base().config().swap.probation);
        prepared.reply = Some(reply.clone());
        self.leave(Order::Put(Box::new(prepared)))
    }

    fn leave(&self, order: Order) -> Result<Done, Refusal> {
        let left = self.view.switchboard.leave(order);
        left.map_err(|_| conflict("another change waits to be put in; ask again in a moment"))?;
        Ok(Done::Left)
    }
}

impl Wish<'_> {
    /// The version in force.
    fn old(&self) -> &Component {
        self.place.map_or(&self.base.versions.parser, |place| &self.base.versions.aggregates[place])
    }

    /// The pipeline with other versions.
    fn with(&self, versions: Versions) -> Result<Assembly, Refusal> {
        self.base.with(versions).map_err(|mistakes| unacceptable(mistakes.join("; ")))
    }

    fn aggregate(&self) -> Result<usize, Refusal> {
        self.place.ok_or_else(|| unacceptable("only an aggregate can have a shadow: the parser makes everybody's rows"))
    }

    fn shadow(&self, place: usize) -> Result<&BesideVersion, Refusal> {
        let name = self.old().name();
        self.base.versions.shadow(place).ok_or_else(|| not_found(format!("{name} has no shadow")))
    }

    /// Nobody else of this aggregate is at work.
    fn nothing_beside(&self) -> Result<(), Refusal> {
        let Some(place) = self.place else { return Ok(()) };
        let name = self.old().name();
        if self.base.versions.shadow(place).is_some() {
            return Err(conflict(format!("{name} has a shadow; promote or discard it first")));
        }
        if let Some(retiring) = self.base.versions.retiring(place) {
            let digest = &retiring.component.digest()[..12];
            return Err(conflict(format!(
                "the version before of {name} ({digest}) still ends the windows that it began; ask again when they are over"
            )));
        }
        Ok(())
    }

    fn action(&self, kind: Deed, new: &Component, policy: Option<Policy>, message: String) -> Action {
        Action {
            kind,
            who: self.who.to_owned(),
            plugin: new.name().to_owned(),
            from: self.old().digest().to_owned(),
            to: new.digest().to_owned(),
            policy,
            message,
            difference: Vec::new(),
            file: self.who == "file",
        }
    }
}

fn answer(action: &Action, outcome: Outcome) -> Done {
    Done::Answer(Box::new(action.answer(outcome, None)))
}

fn not_found(message: impl Into<String>) -> Refusal {
    Refusal { kind: RefusalKind::NotFound, message: message.into() }
}

fn conflict(message: impl Into<String>) -> Refusal {
    Refusal { kind: RefusalKind::Conflict, message: message.into() }
}

fn unacceptable(message: impl Into<String>) -> Refusal {
    Refusal { kind: RefusalKind::Unacceptable, message: message.into() }
}

fn kind_of(ask: &Ask) -> Deed {
    match ask {
        Ask::Swap { .. } => Deed::Swap,
        Ask::Rollback { .. } => Deed::Rollback,
        Ask::Shadow { .. } => Deed::Shadow,
        Ask::Promote { .. } => Deed::Promote,
        Ask::Discard { .. } => Deed::Discard,
    }
}

/// The digest of the component that is asked for.
fn digest_of(ask: &Ask) -> Option<String> {
    match ask {
        Ask::Swap { component, .. } | Ask::Shadow { component, .. } => match component {
            Candidate::Bytes(bytes) => Some(plugin::digest(bytes)),
            Candidate::Digest(digest) => Some(digest.clone()),
        },
        Ask::Rollback { .. } | Ask::Promote { .. } | Ask::Discard { .. } => None,
    }
}
