//! How a worker closes windows and sessions, and compares what a shadow makes of them.

use super::{Effect, Worker};
use crate::error::Error;
use crate::shadow::{Closed, Pair};
use crate::version::Role;

impl Worker {
    pub(super) fn close_up_to(&mut self, watermark: i64, effects: &mut Vec<Effect>) -> Result<(), Error> {
        let mut closed: Vec<Vec<Closed>> = self.shards.iter().map(|_| Vec::new()).collect();
        for index in self.closing_order() {
            if self.has_failed(index) {
                continue;
            }
            let plan = &self.plan.aggregates[index];
            let before = if plan.role == Role::Current { self.plan.retiring(index) } else { Some(plan.of) };
            let done = match before.filter(|&before| before != index && plan.role != Role::Retiring) {
                Some(before) => match self.shards.get_disjoint_mut([index, before]) {
                    Ok([shard, before]) => shard.close(watermark, Some(before), &mut closed[index]),
                    Err(_) => Err(Error::Bug("a version has no place".into())),
                },
                None => self.shards[index].close(watermark, None, &mut closed[index]),
            };
            self.unless_shadow(index, done)?;
        }
        self.compare(&closed);
        for (index, closed) in closed.into_iter().enumerate() {
            if !self.plan.aggregates[index].role.is_shadow() {
                let rows = closed.into_iter().map(|closed| closed.rows).filter(|rows| rows.num_rows() > 0);
                effects.extend(rows.map(|rows| Effect::Closed(index, rows)));
            }
        }
        Ok(())
    }

    /// First those that look into the sessions of others, which are still open then.
    fn closing_order(&self) -> Vec<usize> {
        let rank = |&index: &usize| match self.plan.aggregates[index].role {
            Role::Shadow { .. } => 0,
            Role::Current => 1,
            Role::Retiring => 2,
        };
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        order.sort_by_key(rank);
        order
    }

    /// Compares what shadows closed with what the versions in force did.
    fn compare(&mut self, closed: &[Vec<Closed>]) {
        for (index, shadow) in self.plan.aggregates.iter().enumerate().filter(|(_, plan)| plan.role.is_shadow()) {
            if self.has_failed(index) {
                continue;
            }
            let current = &self.plan.aggregates[shadow.of];
            let pair = Pair { current, shadow, tolerance: &shadow.tolerance };
            self.comparisons.entry(shadow.of).or_default().compare(&pair, &closed[shadow.of], &closed[index]);
        }
    }

    /// Whether it is a shadow that failed: it gets nothing and is asked nothing any more.
    pub(super) fn has_failed(&self, index: usize) -> bool {
        let plan = &self.plan.aggregates[index];
        plan.role.is_shadow() && self.comparisons.get(&plan.of).is_some_and(|found| found.failed.is_some())
    }

    /// A failure of a shadow is part of what is found, and nobody else's.
    pub(super) fn unless_shadow<T: Default>(&mut self, index: usize, done: Result<T, Error>) -> Result<T, Error> {
        let plan = &self.plan.aggregates[index];
        match done {
            Err(Error::Plugin(failure)) if plan.role.is_shadow() => {
                self.comparisons.entry(plan.of).or_default().failed = Some(failure.to_string());
                Ok(T::default())
            }
            done => done,
        }
    }

    /// A shadow that failed before is not asked anything.
    pub fn give_up_shadow(&mut self, aggregate: usize, why: &str) {
        self.comparisons.entry(aggregate).or_default().failed = Some(why.to_owned());
    }
}
