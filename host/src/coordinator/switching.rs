//! How the coordinator puts other versions in, and takes them back.

use super::{Coordinator, Parts};
use crate::admin::control::{Boundary, Outcome, RefusalKind, Reply};
use crate::assembly::Assembly;
use crate::chronicle::{of_action, of_swap};
use crate::failpoint;
use crate::failure::Failure;
use crate::shared::{Command, Cost, Report, lock};
use crate::store::history::{Action as Deed, Outcome as Happened};
use crate::store::{Probation, Swapped};
use crate::switch::{Action, GoBack, Order, Origin, Pin, Prepared, UnderWay, refuse};
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wasmill_pipeline::change::instant_after;
use wasmill_pipeline::error::Class;

/// Below so many rows a version's cost says nothing.
const FEWEST_ROWS: u64 = 1_000;

/// Below so much time it says nothing either.
const LEAST_TIME: Duration = Duration::from_millis(20);

/// More memory than this, at least, is too much: an instance takes some that has nothing to do with rows.
const MEMORY_GRANULE: u64 = 64 << 20;

impl Coordinator {
    /// Carries out what is ordered, between two checkpoints.
    pub(super) fn obey(&mut self) -> Result<(), Failure> {
        if let Some(aggregate) = self.retired.take() {
            self.retire(aggregate)?;
        }
        match self.switchboard.take() {
            None => Ok(()),
            Some(Order::See { plugin, digest }) => {
                self.checkpointer.see(&plugin, &digest);
                Ok(())
            }
            Some(Order::Put(prepared)) => self.put(*prepared),
            Some(Order::GoBack { plugin, who, reply }) => self.go_back(&plugin, who, reply),
        }
    }

    /// Takes the swap on probation back where that is waited for: it counts from when it was asked, and a checkpoint that
    /// would make the swap final has not begun to be written.
    pub(super) fn obey_before_the_last(&mut self) -> Result<(), Failure> {
        if self.checkpointer.confirms_next()
            && let Some(Order::GoBack { plugin, who, reply }) = self.switchboard.take_back()
        {
            return self.go_back(&plugin, who, reply);
        }
        Ok(())
    }

    fn go_back(&mut self, plugin: &str, who: String, reply: Sender<Reply>) -> Result<(), Failure> {
        let swap = |probation: &Probation| probation.swaps.iter().find(|swap| swap.plugin == plugin).cloned();
        let Some(swap) = self.checkpointer.probation().and_then(swap) else {
            let message = format!(
                "{plugin} is not on probation: what is in force is for good; a version before is swapped in like any \
                 other, by its digest: see `wasmill history`"
            );
            refuse(Some(&reply), RefusalKind::Conflict, message);
            return Ok(());
        };
        let action = rollback(swap, &who);
        self.switchboard.begin(UnderWay { action, reply: Some(reply) });
        let why = format!("asked by {who}");
        Err(Failure::new(Class::Plugin, GoBack { why, who: Some(who) }))
    }

    /// Puts other versions in, at a boundary of their own, and makes the first checkpoint of theirs.
    fn put(&mut self, mut prepared: Prepared) -> Result<(), Failure> {
        let reply = prepared.reply.take();
        if let Some(why) = self.why_not(&prepared) {
            refuse(reply.as_ref(), RefusalKind::Conflict, why);
            return Ok(());
        }
        let (action, swapped, place) = (prepared.action.clone(), prepared.swapped(), prepared.place());
        let (is_swap, checkpoints) = (prepared.probation.is_some(), prepared.probation.unwrap_or(0));
        self.switchboard.begin(UnderWay { action: action.clone(), reply });
        let number = self.checkpointer.checkpoint() + 1;
        self.shared.stand_at.store(number, Ordering::SeqCst);
        let parts = self.collect()?;
        failpoint::reach("all-stand-still");
        if action.kind == Deed::Promote && has_failed(&parts, place) {
            return self
                .go_on_as_before(parts, "the shadow has failed meanwhile; see `wasmill shadow`, and discard it");
        }
        let cost_before = self.cost(place);
        let treatment = {
            let mut faults = lock(&self.faults);
            faults.fit(&prepared.assembly, is_swap.then_some(place));
            faults.set_probation(if is_swap { vec![place] } else { Vec::new() });
            faults.treatment()
        };
        let from_us = self.instant_after(&parts);
        if let (Deed::Shadow, Some(of)) = (action.kind, place) {
            prepared.assembly.begin_shadow(of, number);
        }
        let (assembly, upgrades) = prepared.upgrades(from_us, &treatment);
        for ((commands, waker), upgrade) in self.commands.iter().zip(&self.wakers).zip(upgrades) {
            commands.send(Command::GoOn(Some(Box::new(upgrade)))).map_err(|_| self.workers_gone())?;
            waker.wake();
        }
        failpoint::reach("upgrades-sent");
        let boundary = self.publish(parts)?.boundary;
        failpoint::reach("boundary-published");
        let pause = self.wait_until_all_go_on()?;
        let until = number + 1 + checkpoints;
        let probation = || Probation { swaps: vec![swapped], boundary: number, until, recoveries: 0 };
        let probation = (checkpoints > 0).then(probation);
        let on_probation = probation.is_some();
        self.checkpointer.change(assembly.versions.digests(), assembly.versions.beside(), probation);
        if action.file {
            self.checkpointer.see(&action.plugin, &action.to);
        }
        let detail = if on_probation { format!("on probation until checkpoint {until}") } else { String::new() };
        let (outcome, happened) = outcomes(action.kind, on_probation);
        self.checkpointer.tell(of_action(&action, happened, Some(boundary.clone()), &detail));
        self.cost_before = on_probation.then_some(cost_before);
        self.work_with(assembly);
        failpoint::reach("versions-changed");
        self.cut()?;
        failpoint::reach("versions-in-force");
        lock(&self.progress).switch_pause = Some(pause);
        if !on_probation {
            self.end_probation()?;
        }
        self.tell_done(&action, outcome, &detail, boundary, pause);
        Ok(())
    }

    /// Lets all workers go on with what they had, and makes the boundary an ordinary checkpoint.
    fn go_on_as_before(&mut self, parts: Parts, why: &str) -> Result<(), Failure> {
        self.tell_all(|| Command::GoOn(None))?;
        self.publish(parts)?;
        self.wait_until_all_go_on()?;
        let reply = self.switchboard.end().and_then(|under_way| under_way.reply);
        refuse(reply.as_ref(), RefusalKind::Conflict, why.to_owned());
        Ok(())
    }

    /// Why this cannot be put in just now.
    fn why_not(&self, prepared: &Prepared) -> Option<String> {
        if let Some(probation) = self.checkpointer.probation() {
            return Some(probation.to_string());
        }
        let stale = !Arc::ptr_eq(prepared.base(), &self.assembly);
        stale.then(|| "the versions at work have changed meanwhile; ask again".to_owned())
    }

    /// The versions at work from now on.
    fn work_with(&mut self, assembly: Arc<Assembly>) {
        *lock(&self.in_force) = Some(assembly.clone());
        self.assembly = assembly;
    }

    fn wait_until_all_go_on(&mut self) -> Result<Duration, Failure> {
        let (mut waiting, mut longest) = (self.commands.len(), Duration::ZERO);
        while waiting > 0 {
            match self.reports.recv().map_err(|_| self.workers_gone())? {
                Report::WentOn { pause } => {
                    waiting -= 1;
                    longest = longest.max(pause);
                }
                other => self.hear(other)?,
            }
        }
        Ok(longest)
    }

    /// An instant that no record read before the cut comes to.
    fn instant_after(&self, parts: &Parts) -> i64 {
        let delay = self.assembly.plan.time.watermark_delay_us;
        let partitions = parts.cuts.iter().flat_map(|cut| &cut.partitions);
        instant_after(partitions.map(|partition| partition.trusted), delay)
    }

    /// What a plugin has cost in all workers since it was put in; `None` = the parser.
    fn cost(&self, place: Option<usize>) -> Cost {
        let of = |standing: &crate::shared::Standing| match place {
            Some(place) => standing.costs.0.get(place).copied().unwrap_or_default(),
            None => standing.costs.1,
        };
        self.shared.standing.iter().map(|standing| of(&lock(standing))).fold(Cost::default(), Cost::and)
    }

    /// Takes a version on probation back that costs more than it may.
    pub(super) fn check_allowance(&self) -> Result<(), Failure> {
        let (Some(probation), Some(before)) = (self.checkpointer.probation(), self.cost_before) else { return Ok(()) };
        let Some(swap) = probation.swaps.first() else { return Ok(()) };
        let place = self.assembly.outputs.in_force().iter().position(|name| *name == swap.plugin);
        let now = self.cost(place);
        let telling = |cost: &Cost| cost.rows >= FEWEST_ROWS && cost.spent_ns > 0;
        let time = self.allowance.time.filter(|most| {
            telling(&before)
                && telling(&now)
                && u128::from(now.spent_ns) >= LEAST_TIME.as_nanos()
                && now.ns_per_row() > most * before.ns_per_row()
        });
        let memory = self.allowance.memory.filter(|most| {
            now.memory_bytes > before.memory_bytes + MEMORY_GRANULE
                && now.memory_bytes as f64 > most * before.memory_bytes as f64
        });
        let why = if let Some(most) = time {
            let (was, is) = (before.ns_per_row(), now.ns_per_row());
            format!(
                "a row takes it {is:.0} ns, and took the version before {was:.0} ns: more than {most} times as much"
            )
        } else if let Some(most) = memory {
            let (was, is) = (before.memory_bytes >> 20, now.memory_bytes >> 20);
            format!(
                "it takes {is} MiB of memory, and the version before took {was} MiB: more than {most} times as much"
            )
        } else {
            return Ok(());
        };
        Err(Failure::new(Class::Plugin, GoBack { why, who: None }))
    }

    /// A fault is from now on one like any other, to the workers too.
    fn end_probation(&self) -> Result<(), Failure> {
        let treatment = {
            let mut faults = lock(&self.faults);
            faults.set_probation(Vec::new());
            Arc::new(faults.treatment())
        };
        self.tell_all(|| Command::Treat(treatment.clone()))
    }

    /// A swap is for good.
    pub(super) fn confirm(&mut self, confirmed: &Probation, boundary: &Boundary) -> Result<(), Failure> {
        failpoint::reach("swap-confirmed");
        self.cost_before = None;
        self.end_probation()?;
        for swap in &confirmed.swaps {
            tracing::info!(plugin = swap.plugin, digest = swap.to, "the swap is for good");
            self.history.note(&of_swap(swap, Deed::Swap, Happened::Confirmed, boundary.clone(), ""));
        }
        Ok(())
    }

    /// Tells whoever asked.
    fn tell_done(&self, action: &Action, outcome: Outcome, detail: &str, boundary: Boundary, pause: Duration) {
        let Action { kind, plugin, from, to, message, .. } = action;
        tracing::info!(plugin, from, to, checkpoint = boundary.checkpoint, ?pause, "{kind}: {message}");
        if let Some(UnderWay { action: mut done, reply: Some(reply) }) = self.switchboard.end() {
            if !detail.is_empty() {
                done.message = format!("{message}; {detail}");
            }
            // Whoever asked may be gone.
            let _ = reply.send(Ok(done.answer(outcome, Some(boundary))));
        }
    }

    /// Lets a version go that has ended all it began.
    fn retire(&mut self, aggregate: usize) -> Result<(), Failure> {
        if self.checkpointer.probation().is_some() {
            self.retired = Some(aggregate);
            return Ok(());
        }
        let mut versions = self.assembly.versions.clone();
        let Some(retiring) = versions.retiring(aggregate).map(|version| version.component.digest().to_owned()) else {
            return Ok(());
        };
        let gone = self.assembly.plan.retiring(aggregate);
        versions.beside.retain(|version| version.of != aggregate || !version.is_retiring());
        let message = "the version before has ended the windows that it began".to_owned();
        let current = versions.aggregates[aggregate].digest().to_owned();
        let action = Action {
            kind: Deed::Retire,
            who: "wasmill".to_owned(),
            plugin: self.assembly.outputs.names[aggregate].clone(),
            from: retiring,
            to: current,
            policy: None,
            message,
            difference: Vec::new(),
            file: false,
        };
        let assembly = self.assembly.with(versions).map_err(|mistakes| {
            Failure::new(Class::Bug, anyhow::anyhow!("versions that fitted do not fit: {}", mistakes.join("; ")))
        })?;
        let places = 0..self.assembly.plan.aggregates.len();
        let origins = places.filter(|&place| Some(place) != gone).map(Origin::Same).collect();
        let prepared = Prepared::new(action, &self.assembly, assembly, origins, false, Pin::No);
        self.put(prepared.map_err(|error| Failure::new(Class::Plugin, error))?)
    }
}

/// Whether an aggregate's shadow failed before the cut.
fn has_failed(parts: &Parts, aggregate: Option<usize>) -> bool {
    let found = parts.cuts.iter().filter_map(|cut| cut.comparisons.get(&aggregate?));
    found.into_iter().any(|found| found.failed.is_some())
}

/// What whoever asked is told, and what the history says.
fn outcomes(kind: Deed, on_probation: bool) -> (Outcome, Happened) {
    match kind {
        Deed::Shadow => (Outcome::Shadowing, Happened::Shadowing),
        Deed::Discard => (Outcome::Discarded, Happened::Discarded),
        Deed::Retire => (Outcome::InForce, Happened::Retired),
        Deed::Swap | Deed::Promote | Deed::Rollback if on_probation => (Outcome::OnProbation, Happened::OnProbation),
        Deed::Swap | Deed::Promote | Deed::Rollback => (Outcome::InForce, Happened::InForce),
    }
}

fn rollback(swap: Swapped, who: &str) -> Action {
    Action {
        kind: Deed::Rollback,
        who: who.to_owned(),
        plugin: swap.plugin,
        from: swap.to,
        to: swap.from,
        policy: None,
        message: "the version before is in force again, as if there had been no other".to_owned(),
        difference: Vec::new(),
        file: false,
    }
}
