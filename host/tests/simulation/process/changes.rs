//! Changes of versions in an attempt: in between two checkpoints, or taken back.

use super::{Attempt, Broken, NEVER};
use crate::plugins::Trapping;
use crate::setup::{Entry, Kind, Origin, Setup};
use crate::versions;
use crate::world::Fresh;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use wasmill::failure::Failure;
use wasmill::sink::SinkCut;
use wasmill::store::{Probation, Swapped};
use wasmill_pipeline::change::{Change, Heir, instant_after};
use wasmill_pipeline::checkpoint::Cut;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::plugin::Aggregate;
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::version::ALL_KEYS;

/// All workers' parts of a cut.
pub(super) type Parts = BTreeMap<usize, (Cut, SinkCut)>;

impl Attempt<'_, '_> {
    /// Somebody wants other versions, or those before.
    pub(super) fn change_something(&mut self) -> Result<(), Broken> {
        if self.checkpointer.probation().is_some() {
            if self.random().percent(35) {
                self.tell("is asked to go back");
                self.process.go_back = true;
                return Err(Failure::new(Class::Plugin, anyhow::anyhow!("the swap is taken back")).into());
            }
            return Ok(());
        }
        let mut of = self.random().below(3);
        let kind = match self.random().below(12) {
            0 | 1 => Kind::Migrate,
            2..5 => Kind::Pin,
            5 if self.process.world.rules.fresh => Kind::Fresh,
            6..9 => {
                let (next, same) = (self.random().percent(50), self.random().percent(50));
                let (keys, odd) =
                    ([ALL_KEYS, ALL_KEYS, ALL_KEYS / 2][self.random().below(3)], self.random().percent(20));
                Kind::Shadow { keys, next, same, odd, trap: None }
            }
            9 => Kind::Promote,
            10 => Kind::Discard,
            _ => {
                of = self.done.first().copied().unwrap_or(of);
                Kind::Retire
            }
        };
        let possible = self.setup.change(kind, of, 0, 0).is_some();
        if possible && (!matches!(kind, Kind::Retire) || self.done.contains(&of)) {
            self.change(kind, of)
        } else {
            Ok(())
        }
    }

    fn change(&mut self, kind: Kind, of: usize) -> Result<(), Broken> {
        let world = self.process.world;
        while self.parts.is_some() {
            self.advance_cut(false)?;
        }
        let parts = self.stand_still()?;
        let cuts = || parts.values().map(|(cut, _)| cut);
        let marks = cuts().flat_map(|cut| &cut.partitions).map(|partition| partition.trusted);
        let instant = instant_after(marks, world.spec.time.watermark_delay_us);
        let failed = |cut: &Cut| cut.comparisons.get(&of).is_some_and(|found| found.failed.is_some());
        let refused = matches!(kind, Kind::Promote) && cuts().any(failed);
        let tag = {
            let mut now = world.now();
            now.tags += 1;
            now.tags
        };
        let before = self.setup.clone();
        let (setup, origins) = match self.setup.change(kind, of, instant, tag) {
            Some(next) if !refused => next,
            _ => (before.clone(), (0..before.entries.len()).map(Origin::Same).collect()),
        };
        if matches!(kind, Kind::Fresh) {
            let offsets = cuts().flat_map(|cut| &cut.partitions).map(|p| (p.partition, p.next_offset)).collect();
            let floor = cuts().map(|cut| cut.closed_up_to_us).min().expect("there are workers");
            world.now().fresh.insert(tag, Fresh { of, offsets, floor });
        }
        world.tell(format_args!("{}: {kind:?} of {of} at {instant}, tag {tag}", self.process.disk.process()));
        let plan = setup.plan(self.workers);
        for worker in 0..self.workers {
            let shards = self.heirs(&setup, &origins);
            let treatment = super::treatment();
            self.standing[worker] = Some(Change { plan: plan.clone(), parser: None, shards, treatment });
        }
        self.setup = setup;
        // Some go on before the boundary is a checkpoint, and some later.
        self.bustle()?;
        let boundary = self.publish(parts)?;
        self.bustle()?;
        for worker in 0..self.workers {
            self.go_on(worker)?;
        }
        let swap = |setup: &Setup| versions::digest(setup.entries[of].version);
        let (from, to) = (swap(&before), swap(&self.setup));
        let checkpoints = [0, 1, 3, 6][self.random().below(4)];
        let probation = Probation {
            swaps: vec![Swapped {
                plugin: world.spec.aggregates[of].name.clone(),
                from,
                to,
                policy: Some(format!("{kind:?}")),
                who: "simulated".into(),
            }],
            boundary,
            until: boundary + 1 + checkpoints,
            recoveries: 0,
        };
        let is_swap = matches!(kind, Kind::Migrate | Kind::Pin | Kind::Fresh | Kind::Promote) && !refused;
        let probation = (is_swap && checkpoints > 0).then_some(probation);
        let (plugins, beside) =
            (versions::plugins(&self.setup, &world.spec), versions::beside(&self.setup, &world.spec));
        self.checkpointer.change(plugins, beside, probation);
        self.named = self.setup.clone();
        self.process.on_probation = self.checkpointer.probation().is_some();
        self.pipeline.next_cut();
        self.parts = Some(BTreeMap::new());
        Ok(())
    }

    fn heirs(&mut self, setup: &Setup, origins: &[Origin]) -> Vec<Heir> {
        let left = if self.random().percent(25) { self.random().below(40) } else { NEVER };
        setup.heirs(origins, |entry| instance(entry, &self.calls, left))
    }

    /// A cut after which all workers stand still, with all files closed.
    fn stand_still(&mut self) -> Result<Parts, Broken> {
        let now = self.process.world.instant();
        self.pipeline.next_cut();
        let mut parts = Parts::new();
        while parts.len() < self.workers {
            let worker = self.any_worker();
            if parts.contains_key(&worker) {
                continue;
            }
            let mut written = Vec::new();
            if self.random().percent(50) {
                self.pipeline.begin_cut(worker, &mut written);
            }
            self.pipeline.deliver(worker, &mut written)?;
            self.write(written)?;
            if let Some(cut) = self.pipeline.finish_cut(worker)? {
                parts.insert(worker, (cut, self.writers[worker].cut(now, true)?));
            }
        }
        Ok(parts)
    }

    /// Workers go on, one by one, while others stand still.
    fn bustle(&mut self) -> Result<(), Broken> {
        for _ in 0..self.random().below(12) {
            let worker = self.any_worker();
            let mut written = Vec::new();
            match self.random().below(5) {
                0 => self.go_on(worker)?,
                1 | 2 => self.read(8)?,
                3 if self.standing[worker].is_none() => drop(self.pipeline.deliver(worker, &mut written)?),
                4 if self.standing[worker].is_none() => self.pipeline.close(worker, &mut written)?,
                _ => {}
            }
            self.write(written)?;
        }
        Ok(())
    }

    fn go_on(&mut self, worker: usize) -> Result<(), Broken> {
        if let Some(change) = self.standing[worker].take() {
            self.pipeline.go_on(worker, Some(change))?;
        }
        Ok(())
    }

    /// Both versions close the same windows, and a shadow that is the same as the version in force makes the same of them.
    pub(super) fn check_shadows(&self, found: &BTreeMap<String, Comparison>) -> Result<(), Broken> {
        for (name, found) in found.iter().filter(|(_, found)| found.failed.is_none()) {
            let of = self.process.world.spec.aggregates.iter().position(|aggregate| aggregate.name == *name);
            let shadow = of.and_then(|of| Some((self.named.entries[of], self.named.entries[self.named.shadow(of)?])));
            let Some((current, shadow)) = shadow else {
                return Err(Broken::Promise(format!("a shadow of {name} is compared that does not run")));
            };
            let same = current.version.tag == shadow.version.tag && !shadow.version.odd;
            if found.only_current + found.only_shadow > 0 || (same && found.different > 0) {
                return Err(Broken::Promise(format!("a shadow of {name} differs where it should not: {found:?}")));
            }
        }
        Ok(())
    }
}

/// An instance of a version. Those of shadows have their own calls `left`.
pub(super) fn instance(entry: &Entry, calls: &Arc<AtomicUsize>, left: usize) -> Box<dyn Aggregate> {
    let calls = if entry.role.is_shadow() { Arc::new(AtomicUsize::new(left)) } else { calls.clone() };
    Box::new(Trapping::new(entry.version, calls))
}
