//! Answers what people ask of the plugins: all that a change takes is made ready here, beside the running pipeline, and
//! tried; the coordinator only puts it in. What needs no trial is answered at once, whatever is being tried.

mod generator;
mod shadows;
mod trial;
mod trials;

pub use generator::Generating;
use trials::Trials;

use crate::admin::control::{Answer, Ask, Candidate, Outcome, Policy, Refusal, RefusalKind, Reply, Request};
use crate::assembly::{Assembly, BesideVersion, Versions, chain};
use crate::catalog::{policy, reads};
use crate::chronicle::of_action;
use crate::plugin::{self, Component, Permit};
use crate::run::View;
use crate::shared::lock;
use crate::store::history::{Action as Deed, Outcome as Happened};
use crate::store::{self, BesideRole, PluginStore};
use crate::switch::{Action, Order, Origin, Pin, Prepared};
use crossbeam_channel::{Receiver, Sender, after, never, select};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
    /// How long it may take to compile and try a version.
    pub trial_limit: Duration,
}

/// What became of a request.
enum Done {
    /// It is answered here.
    Answer(Box<Answer>),
    /// It is done here, if nothing has come in between.
    Then(Box<dyn FnOnce() -> Answer + Send>),
    /// It is ready for the coordinator, which answers.
    Put(Box<Prepared>),
    /// The coordinator has it, and answers.
    Left,
}

/// What was asked, for whoever answers it later.
struct Asked {
    kind: Deed,
    plugin: String,
    /// Of the candidate, where there is one.
    digest: String,
    who: String,
    reply: Sender<Reply>,
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
        let swapper = Arc::new(self);
        let mut trials = Trials::new();
        let ended = trials.ended().clone();
        loop {
            let left = trials.left(swapper.trial_limit).map_or_else(never, after);
            select! {
                recv(swapper.requests) -> request => match request {
                    Ok(request) => swapper.take(&mut trials, request),
                    Err(_) => return,
                },
                recv(ended) -> ended => {
                    if let Ok(ended) = ended {
                        swapper.conclude(&mut trials, ended);
                    }
                }
                recv(left) -> _ => swapper.expire(&mut trials),
            }
        }
    }

    fn take(self: &Arc<Self>, trials: &mut Trials, request: Request) {
        let Request { ask, who, reply } = request;
        let (kind, digest, plugin) = (kind_of(&ask), digest_of(&ask), ask.plugin().to_owned());
        let asked = Asked { kind, plugin: plugin.clone(), digest: digest.unwrap_or_default(), who, reply };
        let by = asked.who.clone();
        let done = match ask {
            Ask::Swap { component, policy, dry_run, .. } => {
                return self.try_out(trials, asked, move |swapper, permit| {
                    swapper.consider_swap((&plugin, &by), &component, policy, dry_run, permit)
                });
            }
            Ask::Shadow { component, options, .. } => {
                return self.try_out(trials, asked, move |swapper, permit| {
                    swapper.shadow(&swapper.wish(&plugin, &by)?, &component, &options, permit)
                });
            }
            Ask::Cancel { .. } => self.cancel(trials, &plugin, &by).map(|answer| Done::Answer(Box::new(answer))),
            Ask::Rollback { .. } => self.roll_back(&asked),
            Ask::Promote { .. } => self.wish(&plugin, &by).and_then(|wish| self.promote(&wish)),
            Ask::Discard { .. } => self.wish(&plugin, &by).and_then(|wish| Self::discard(&wish)),
        };
        self.settle(&asked, done);
    }

    fn roll_back(&self, asked: &Asked) -> Result<Done, Refusal> {
        let Asked { plugin, who, reply, .. } = asked;
        if plugin == "generator" {
            return Self::roll_generator_back(self.generating()?, who);
        }
        self.wish(plugin, who)?;
        self.leave(Order::GoBack { plugin: plugin.clone(), who: who.clone(), reply: reply.clone() })
    }

    /// Leaves what is ready to the coordinator, or tells whoever asked.
    fn settle(&self, asked: &Asked, done: Result<Done, Refusal>) {
        let done = match done {
            Ok(Done::Put(mut prepared)) => {
                prepared.reply = Some(asked.reply.clone());
                // A checkpoint may name it from the moment that the coordinator has it.
                let new = prepared.assembly.versions.all().find(|of| of.digest() == prepared.action.to);
                new.map_or(Ok(()), |new| self.keep(new)).and_then(|()| self.leave(Order::Put(prepared)))
            }
            done => done,
        };
        // Whoever asked may be gone.
        match done {
            Ok(Done::Left | Done::Put(_)) => {}
            Ok(Done::Answer(answer)) => drop(asked.reply.send(Ok(*answer))),
            Ok(Done::Then(act)) => drop(asked.reply.send(Ok(act()))),
            Err(refusal) => {
                self.note_refusal(asked, &refusal);
                drop(asked.reply.send(Err(refusal)));
            }
        }
    }

    /// A component that is not acceptable is not asked for again by the file that holds it, not at the next start either.
    fn note_refusal(&self, asked: &Asked, refusal: &Refusal) {
        let Asked { kind, plugin, digest, who, .. } = asked;
        if refusal.kind != RefusalKind::Unacceptable {
            return;
        }
        // A law is shown with an input, line by line; an entry of the log is one line.
        let message = refusal.message.lines().map(str::trim).collect::<Vec<_>>().join(" | ");
        tracing::warn!(plugin, digest, who, "{kind} refused: {message}");
        let action = Action {
            kind: *kind,
            who: who.clone(),
            plugin: plugin.clone(),
            from: self.digest_in_force(plugin).unwrap_or_default(),
            to: digest.clone(),
            policy: None,
            message: String::new(),
            difference: Vec::new(),
            file: false,
        };
        self.view.history.note(&of_action(&action, Happened::Refused, None, &refusal.message));
        if who == "file" {
            // Where too many orders wait, the file is looked at once more at the next start: that is all.
            let _ = self.view.switchboard.leave(Order::See { plugin: plugin.clone(), digest: digest.clone() });
        }
    }

    fn digest_in_force(&self, plugin: &str) -> Option<String> {
        if let Some(generating) = self.generator.as_ref().filter(|_| plugin == "generator") {
            return Some(generating.slot.component().digest().to_owned());
        }
        let in_force = lock(&self.view.in_force).clone()?;
        let component = in_force.versions.all().find(|component| component.name() == plugin)?;
        Some(component.digest().to_owned())
    }

    /// Compiles a version that is to take the place of another, and tries it.
    fn consider_swap(
        &self,
        (plugin, who): (&str, &str),
        component: &Candidate,
        policy: Option<Policy>,
        dry_run: bool,
        permit: &Arc<Permit>,
    ) -> Result<Done, Refusal> {
        if plugin != "generator" {
            return self.swap(&self.wish(plugin, who)?, component, policy, dry_run, permit);
        }
        let generating = self.generating()?;
        if policy.is_some() {
            return Err(unacceptable("a generator has no state, so there is no policy for it"));
        }
        self.swap_generator(generating, component, dry_run, who, permit)
    }

    fn generating(&self) -> Result<&Generating, Refusal> {
        self.generator.as_ref().ok_or_else(|| not_found("this pipeline has no generator"))
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
        permit: &Arc<Permit>,
    ) -> Result<Done, Refusal> {
        let old = wish.old();
        let (digest, path) = self.find(component)?;
        if digest == old.digest() {
            let message = "this version is in force already".to_owned();
            return Ok(answer(&wish.action(Deed::Swap, old, None, message), Outcome::Unchanged));
        }
        self.nothing_on_probation()?;
        wish.nothing_beside()?;
        let new = load(old, component, &path, permit)?;
        match wish.place {
            None => self.swap_parser(wish, &new, asked, dry_run),
            Some(place) => self.swap_aggregate(wish, place, &new, asked, dry_run),
        }
    }

    fn swap_parser(
        &self,
        wish: &Wish<'_>,
        new: &Component,
        asked: Option<Policy>,
        dry_run: bool,
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
        put(Prepared::new(action, base, next, origins, true, Pin::No), true)
    }

    fn swap_aggregate(
        &self,
        wish: &Wish<'_>,
        place: usize,
        new: &Component,
        asked: Option<Policy>,
        dry_run: bool,
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
        put(Prepared::new(action, base, next, origins, false, pin), true)
    }

    /// The digest of a candidate, and where it is kept, or is when it is accepted.
    fn find(&self, candidate: &Candidate) -> Result<(String, PathBuf), Refusal> {
        let failed = |error: store::Error| Refusal { kind: RefusalKind::Failed, message: chain(&error) };
        match candidate {
            Candidate::Digest(beginning) => {
                let digest = self.kept.find(beginning).map_err(|error| not_found(chain(&error)))?;
                let path = self.kept.path(&digest).map_err(failed)?;
                path.map(|path| (digest, path)).ok_or_else(|| not_found("it is not kept any more"))
            }
            Candidate::Bytes(bytes) => {
                let digest = plugin::digest(bytes);
                let path = self.kept.place(&digest);
                Ok((digest, path))
            }
        }
    }

    /// Keeps a component that is accepted.
    fn keep(&self, new: &Component) -> Result<(), Refusal> {
        new.cache();
        let kept = self.kept.keep(new.digest(), new.bytes());
        kept.map(drop).map_err(|error| Refusal { kind: RefusalKind::Failed, message: chain(&error) })
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

    fn leave(&self, order: Order) -> Result<Done, Refusal> {
        let left = self.view.switchboard.leave(order);
        left.map_err(|_| conflict("too many changes wait to be put in; ask again in a moment"))?;
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

/// Loads a component for the place of another one, whose calls fail when its trial is over.
fn load(old: &Component, candidate: &Candidate, path: &Path, permit: &Arc<Permit>) -> Result<Component, Refusal> {
    let new = match candidate {
        Candidate::Digest(_) => old.other(path),
        Candidate::Bytes(bytes) => old.other_bytes(bytes.clone(), path),
    };
    let new = new.map_err(|error| unacceptable(format!("{}: {}", old.name(), chain(&error))))?;
    new.allow(permit);
    Ok(new)
}

/// What is ready for the coordinator.
fn put(prepared: Result<Prepared, plugin::Error>, is_swap: bool) -> Result<Done, Refusal> {
    let mut prepared = prepared.map_err(|error| unacceptable(chain(&error)))?;
    prepared.probation = is_swap.then(|| prepared.base().config().swap.probation);
    Ok(Done::Put(Box::new(prepared)))
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
        // Of a trial that is cancelled nothing is noted but its own end.
        Ask::Swap { .. } | Ask::Cancel { .. } => Deed::Swap,
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
        Ask::Rollback { .. } | Ask::Promote { .. } | Ask::Discard { .. } | Ask::Cancel { .. } => None,
    }
}
