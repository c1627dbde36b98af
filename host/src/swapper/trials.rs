//! Versions under trial: each plugin has one at most, in a thread of its own, so that nobody waits for another's.

use super::{Asked, Done, Swapper, conflict, not_found, unacceptable};
use crate::admin::Trial as Shown;
use crate::admin::control::{Answer, Outcome, Refusal, RefusalKind};
use crate::clock;
use crate::parts::caught;
use crate::plugin::Permit;
use crate::shared::lock;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmill_pipeline::time::text::span;

/// What came of a plugin's trial.
pub(super) type Ended = (String, Result<Done, Refusal>);

/// The trials under way.
pub(super) struct Trials {
    by_plugin: BTreeMap<String, Trial>,
    ended: (Sender<Ended>, Receiver<Ended>),
}

/// One of them.
struct Trial {
    asked: Asked,
    began: Instant,
    began_us: i64,
    permit: Arc<Permit>,
    /// Whether its end was told already, and its thread has still to notice.
    over: bool,
}

impl Trials {
    pub(super) fn new() -> Self {
        Self { by_plugin: BTreeMap::new(), ended: unbounded() }
    }

    /// What came of trials.
    pub(super) fn ended(&self) -> &Receiver<Ended> {
        &self.ended.1
    }

    /// How long until one of them has lasted for so long.
    pub(super) fn left(&self, longest: Duration) -> Option<Duration> {
        let under_way = self.by_plugin.values().filter(|trial| !trial.over);
        under_way.map(|trial| longest.saturating_sub(trial.began.elapsed())).min()
    }

    fn shown(&self) -> Vec<Shown> {
        let under_way = self.by_plugin.iter().filter(|(_, trial)| !trial.over);
        let shown = |(plugin, trial): (&String, &Trial)| Shown {
            plugin: plugin.clone(),
            digest: trial.asked.digest.clone(),
            who: trial.asked.who.clone(),
            since_us: trial.began_us,
        };
        under_way.map(shown).collect()
    }
}

impl Swapper {
    /// Tries a candidate in a thread of its own, unless one for the same plugin is tried already.
    pub(super) fn try_out(
        self: &Arc<Self>,
        trials: &mut Trials,
        asked: Asked,
        consider: impl FnOnce(&Self, &Arc<Permit>) -> Result<Done, Refusal> + Send + 'static,
    ) {
        if let Some(trial) = trials.by_plugin.get(&asked.plugin) {
            return self.settle(&asked, Err(conflict(trial.to_string())));
        }
        let permit = Arc::<Permit>::default();
        let (swapper, ended, permitted) = (self.clone(), trials.ended.0.clone(), permit.clone());
        let plugin = asked.plugin.clone();
        let work = move || {
            let tried = caught(|| consider(&swapper, &permitted));
            let message = "wasmill panicked over it, which is a mistake of wasmill's; the log has where";
            let panicked = |_| Err(Refusal { kind: RefusalKind::Failed, message: message.to_owned() });
            // Nobody is left to hear of it when the pipeline has ended.
            let _ = ended.send((plugin, tried.unwrap_or_else(panicked)));
        };
        if let Err(error) = std::thread::Builder::new().name("trial".into()).spawn(work) {
            let message = format!("a thread cannot be started: {error}");
            return self.settle(&asked, Err(Refusal { kind: RefusalKind::Failed, message }));
        }
        let (began, began_us) = (Instant::now(), clock::now_us());
        trials.by_plugin.insert(asked.plugin.clone(), Trial { asked, began, began_us, permit, over: false });
        self.show(trials);
    }

    /// Puts in what was tried, or tells why not.
    pub(super) fn conclude(&self, trials: &mut Trials, (plugin, done): Ended) {
        if let Some(trial) = trials.by_plugin.remove(&plugin)
            && trial.permit.take()
        {
            self.settle(&trial.asked, done);
        }
        self.show(trials);
    }

    /// Ends trials that have lasted for too long.
    pub(super) fn expire(&self, trials: &mut Trials) {
        let longest = self.trial_limit;
        for trial in trials.by_plugin.values_mut().filter(|trial| trial.began.elapsed() >= longest) {
            let limit = span(i64::try_from(longest.as_micros()).unwrap_or(i64::MAX));
            self.end(trial, format!("to compile and try it takes longer than swap.trial_limit={limit}"));
        }
        self.show(trials);
    }

    /// Ends a plugin's trial.
    pub(super) fn cancel(&self, trials: &mut Trials, plugin: &str, who: &str) -> Result<Answer, Refusal> {
        let Some(trial) = trials.by_plugin.get_mut(plugin).filter(|trial| !trial.over) else {
            return Err(not_found(format!(
                "no version of {plugin} is being tried; one that is in already is taken back by wasmill rollback {plugin}"
            )));
        };
        self.end(trial, format!("its trial was cancelled by {who}"));
        let answer = Answer {
            outcome: Outcome::Cancelled,
            plugin: plugin.to_owned(),
            from: self.digest_in_force(plugin).unwrap_or_default(),
            to: trial.asked.digest.clone(),
            policy: None,
            message: "its trial is over, and nothing has changed".to_owned(),
            difference: Vec::new(),
            boundary: None,
        };
        self.show(trials);
        Ok(answer)
    }

    /// Ends a trial, and tells whoever asked for it.
    fn end(&self, trial: &mut Trial, why: String) {
        if !std::mem::replace(&mut trial.over, true) {
            trial.permit.withdraw();
            self.settle(&trial.asked, Err(unacceptable(why)));
        }
    }

    fn show(&self, trials: &Trials) {
        *lock(&self.view.trials) = trials.shown();
    }
}

/// Why another of the plugin has to wait.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { plugin, digest, .. } = &self.asked;
        let digest = digest.get(..12).unwrap_or(digest);
        if self.over {
            return write!(f, "the trial of {digest} for {plugin} is coming to its end; ask again in a moment");
        }
        let since = clock::text(self.began_us);
        write!(
            f,
            "{digest} is being tried for {plugin} since {since}; ask again when that is over, or end it: wasmill cancel {plugin}"
        )
    }
}
