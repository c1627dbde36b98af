//! How a worker goes on with other versions.

use super::Worker;
use crate::change::{Change, Heir};
use crate::error::Error;
use crate::mutation::{self, Mutation};
use crate::plan::AggregatePlan;
use crate::shard::{Shard, ShardCounts};
use crate::state::delta::StateDelta;

impl Worker {
    /// Puts other versions in the places of the plan before, or beside them.
    pub(super) fn change(&mut self, change: Change) -> Result<(), Error> {
        let Change { plan, parser, shards: heirs, treatment } = change;
        let state_name = |index: usize| self.plan.aggregates[index].state_name();
        let counts: Vec<ShardCounts> = (0..self.plan.in_force()).map(|index| self.counts_of(index)).collect();
        // Of which aggregates the shadow stays.
        let shadow_stays = |(index, heir): (usize, &Heir)| match heir {
            Heir::Same(from) if self.plan.aggregates[*from].role.is_shadow() => {
                let to = &plan.aggregates[index];
                to.role.is_shadow().then_some(Ok(to.of)).or_else(|| self.has_failed(*from).then_some(Err(to.of)))
            }
            _ => None,
        };
        let staying_shadows: Result<Vec<usize>, usize> = heirs.iter().enumerate().filter_map(shadow_stays).collect();
        let staying_shadows = staying_shadows.map_err(|of| {
            Error::Bug(format!("a shadow that failed is to be in force aggregate={}", plan.aggregates[of].spec.name))
        })?;
        // Whose state goes on under its name.
        let named = |(index, heir): (usize, &Heir)| {
            heir.of().filter(|&of| state_name(of) == plan.aggregates[index].state_name())
        };
        let keeps_name: Vec<Option<usize>> = heirs.iter().enumerate().map(named).collect();
        for (index, shard) in self.shards.iter().enumerate() {
            let deletes = if keeps_name.contains(&Some(index)) { Vec::new() } else { shard.persisted() };
            if !deletes.is_empty() && !mutation::on(Mutation::FarewellForgotten) {
                let version = self.plan.aggregates[index].state_version;
                self.farewells.push(StateDelta { deletes, ..StateDelta::new(state_name(index), version) });
            }
        }
        let mut old: Vec<Option<Shard>> = std::mem::take(&mut self.shards).into_iter().map(Some).collect();
        let mut new: Vec<Option<Shard>> = heirs.iter().map(|_| None).collect();
        let nobody = || Error::Bug("a version inherits from a place where nobody is".into());
        let mut staying = Vec::new();
        let mut failed = Vec::new();
        for (index, heir) in heirs.into_iter().enumerate() {
            let renamed = keeps_name[index].is_none();
            let shard = match heir {
                Heir::Same(of) => {
                    staying.push((index, of, renamed));
                    continue;
                }
                Heir::Empty(plugin) => Shard::new(plan.clone(), index, plugin),
                Heir::Migrated(of, plugin) => {
                    let mut shard = Shard::new(plan.clone(), index, plugin);
                    let inherited = shard.inherit(old.get_mut(of).and_then(Option::as_mut).ok_or_else(nobody)?);
                    shard.touch_all(renamed);
                    let AggregatePlan { role, of, .. } = plan.aggregates[index];
                    match inherited {
                        Err(Error::Plugin(failure)) if role.is_shadow() && failure.aggregate == Some(index) => {
                            failed.push((of, failure.to_string()));
                        }
                        inherited => inherited?,
                    }
                    shard
                }
            };
            new[index] = Some(shard);
        }
        // Last, as others may have inherited from them.
        for (index, of, renamed) in staying {
            let mut shard = old.get_mut(of).and_then(Option::take).ok_or_else(nobody)?;
            shard.move_to(plan.clone(), index);
            if renamed && !mutation::on(Mutation::RenamedForgotten) {
                shard.touch_all(true);
            }
            new[index] = Some(shard);
        }
        self.shards = new.into_iter().map(|shard| shard.ok_or_else(nobody)).collect::<Result<_, _>>()?;
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let counts = counts.get(index).filter(|_| !mutation::on(Mutation::CountsForgotten));
            shard.set_counts(counts.copied().unwrap_or_default());
        }
        if let Some(parser) = parser {
            (self.parser, self.given) = (parser, 0);
        }
        for lane in self.lanes.values_mut() {
            lane.follow(plan.clone());
        }
        self.counts.resize(plan.aggregates.len());
        self.comparisons.retain(|of, _| staying_shadows.contains(of));
        for (of, why) in failed {
            self.give_up_shadow(of, &why);
        }
        self.plan = plan;
        self.treat(treatment);
        Ok(())
    }
}
