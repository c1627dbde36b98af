//! The state budget: how much memory open state may take, and what is said when that is not enough.

use crate::failure::Failure;
use crate::shared::{Standing, lock};
use anyhow::anyhow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use wasmill_pipeline::error::Class;

/// Of the budget, in percent, from which on there is a warning.
const WARN_FROM: u64 = 80;

/// How much memory the open state of all aggregates and workers may take together.
#[derive(Debug)]
pub struct StateBudget {
    bytes: Option<u64>,
    warned: AtomicBool,
}

/// What one aggregate holds, in all workers.
#[derive(Debug, Default)]
struct Held {
    groups: u64,
    bytes: u64,
}

impl StateBudget {
    /// Of so many bytes; `None` = any number.
    pub fn new(bytes: Option<u64>) -> Self {
        Self { bytes, warned: AtomicBool::new(false) }
    }

    /// Looks at what the workers hold, by their own word. Warns once when the budget is nearly used up.
    ///
    /// # Errors
    /// A failure of class Config when it is exceeded: this configuration does not fit the data.
    pub fn check(&self, names: &[String], standings: &[Mutex<Standing>]) -> Result<(), Failure> {
        let Some(budget) = self.bytes else { return Ok(()) };
        let mut held: Vec<Held> = names.iter().map(|_| Held::default()).collect();
        for standing in standings {
            let standing = lock(standing);
            for (held, (groups, bytes)) in held.iter_mut().zip(standing.open_groups.iter().zip(&standing.state_bytes)) {
                held.groups += groups;
                held.bytes += bytes;
            }
        }
        let all: u64 = held.iter().map(|held| held.bytes).sum();
        let largest = names.iter().zip(&held).max_by_key(|(_, held)| held.bytes);
        let Some((name, Held { groups, bytes })) = largest else { return Ok(()) };
        let facts = format!(
            "aggregate={name} open_groups={groups} state_bytes={bytes} all_state_bytes={all} budget_bytes={budget}"
        );
        if all > budget {
            return Err(Failure::new(
                Class::Config,
                anyhow!(
                    "the open state has outgrown its memory; raise limits.state if the machine has more, or keep less \
                     open: shorter windows, session gaps and lateness, keys with fewer values; all up to the last \
                     checkpoint is safe, and the next run goes on from there {facts}"
                ),
            ));
        }
        if all.saturating_mul(100) >= budget.saturating_mul(WARN_FROM) && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the open state takes {WARN_FROM} % of its memory; beyond limits.state the run ends {facts}"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(open_groups: [u64; 2], state_bytes: [u64; 2]) -> Mutex<Standing> {
        Mutex::new(Standing { open_groups: open_groups.into(), state_bytes: state_bytes.into(), ..Standing::default() })
    }

    fn check(budget: &StateBudget, bytes: u64) -> Result<(), Failure> {
        let names = ["pages".to_owned(), "sessions".to_owned()];
        budget.check(&names, &[worker([1, 30], [10, bytes]), worker([2, 40], [20, 100])])
    }

    #[test]
    fn the_sum_over_aggregates_and_workers_may_reach_the_budget_and_not_exceed_it() {
        let budget = StateBudget::new(Some(1_000));
        assert!(check(&budget, 870).is_ok());
        let failure = check(&budget, 871).unwrap_err();
        assert_eq!(failure.class, Class::Config);
        let facts = "aggregate=sessions open_groups=70 state_bytes=971 all_state_bytes=1001 budget_bytes=1000";
        assert!(failure.error.to_string().ends_with(facts), "{}", failure.error);
    }

    #[test]
    fn four_fifths_of_the_budget_are_worth_a_warning() {
        let budget = StateBudget::new(Some(1_000));
        check(&budget, 669).unwrap();
        assert!(!budget.warned.load(Ordering::Relaxed));
        check(&budget, 670).unwrap();
        assert!(budget.warned.load(Ordering::Relaxed));
    }

    #[test]
    fn without_a_budget_any_state_is_fine() {
        assert!(check(&StateBudget::new(None), u64::MAX / 2).is_ok());
    }
}
