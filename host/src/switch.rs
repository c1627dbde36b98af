//! A change of versions on its way into a running pipeline: prepared beside it, put in between two checkpoints.
//!
//! ```text
//! boundary cut: all files closed, all workers stand still ─▶ each goes on with the change ─▶ the boundary is published
//!      (the versions before, to the last byte)                                            ─▶ next cut: the new ones are in force
//! ```
//! Until that next checkpoint exists, a crash or a fault leaves the versions before in force.

use crate::admin::control::{Answer, Boundary, Outcome, Policy, Refusal, RefusalKind, Reply};
use crate::assembly::Assembly;
use crate::plugin;
use crate::shared::{Upgrade, lock};
use crate::store::{BesideRole, Swapped, history};
use crossbeam_channel::Sender;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use wasmill_pipeline::change::{Change, Heir};
use wasmill_pipeline::fault::Treatment;
use wasmill_pipeline::plugin::{Aggregate, Parser};

/// Why an attempt ends that is to begin again at the checkpoint before the swap.
#[derive(Debug, thiserror::Error)]
#[error("the swap is taken back: {why}")]
pub struct GoBack {
    /// In a sentence.
    pub why: String,
    /// Who asked; `None` = nobody, it was the new version's own doing.
    pub who: Option<String>,
}

/// What somebody wants of the coordinator.
pub enum Order {
    /// Put this in.
    Put(Box<Prepared>),
    /// Take back the swap of this plugin.
    GoBack {
        /// Its name.
        plugin: String,
        /// Who asks.
        who: String,
        /// Who waits for it.
        reply: Sender<Reply>,
    },
    /// The file at this plugin's path has been dealt with.
    See {
        /// The plugin's name.
        plugin: String,
        /// The file's digest.
        digest: String,
    },
}

/// Where an entry of the plan to come is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The entry at this place, as it is.
    Same(usize),
    /// A new instance, with the state of the entry at this place.
    Migrated(usize),
    /// A new instance without state.
    Empty,
}

/// Which windows depend on the instant that nothing read so far has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// None.
    No,
    /// This aggregate's retiring version ends those before it, the new one begins with those after.
    Retiring(usize),
    /// This aggregate's shadow begins with those after it.
    Shadow(usize),
}

/// What is done, for the history and whoever asked.
#[derive(Clone, Debug)]
pub struct Action {
    /// What.
    pub kind: history::Action,
    /// Who asked.
    pub who: String,
    /// The plugin's name.
    pub plugin: String,
    /// The digest of the version in force before.
    pub from: String,
    /// The digest of the version that comes, or of the shadow that ends.
    pub to: String,
    /// What becomes of the state.
    pub policy: Option<Policy>,
    /// What becomes of it, in sentences.
    pub message: String,
    /// What is different, line by line.
    pub difference: Vec<String>,
    /// Whether the file at the plugin's path is the one that comes.
    pub file: bool,
}

/// A change that is ready.
pub struct Prepared {
    /// What is done.
    pub action: Action,
    /// The pipeline as it is to be.
    pub assembly: Assembly,
    /// Which windows depend on the instant of the change.
    pub pin: Pin,
    /// For how many checkpoints it can be taken back, where it is a swap.
    pub probation: Option<u64>,
    /// Who waits for it.
    pub reply: Option<Sender<Reply>>,
    base: Arc<Assembly>,
    origins: Vec<Origin>,
    instances: Vec<Parts>,
}

/// New instances for one worker.
struct Parts {
    parser: Option<Box<dyn Parser>>,
    aggregates: Vec<Option<Box<dyn Aggregate>>>,
}

impl Prepared {
    /// Makes all instances that the change takes from `base`, which is at work: `origins` is one per entry of the plan to
    /// come.
    ///
    /// # Errors
    /// What `init` says.
    pub fn new(
        action: Action,
        base: &Arc<Assembly>,
        assembly: Assembly,
        origins: Vec<Origin>,
        new_parser: bool,
        pin: Pin,
    ) -> Result<Self, plugin::Error> {
        let parts = |_| {
            let aggregate = |(index, origin): (usize, &Origin)| match origin {
                Origin::Same(_) => Ok(None),
                Origin::Migrated(_) | Origin::Empty => assembly.aggregate(index).map(Some),
            };
            let aggregates = origins.iter().enumerate().map(aggregate).collect::<Result<_, _>>()?;
            Ok(Parts { parser: new_parser.then(|| assembly.parser()).transpose()?, aggregates })
        };
        let instances = (0..assembly.plan.workers).map(parts).collect::<Result<_, plugin::Error>>()?;
        let base = base.clone();
        Ok(Self { action, assembly, pin, probation: None, reply: None, base, origins, instances })
    }

    /// The versions that it changes.
    pub fn base(&self) -> &Arc<Assembly> {
        &self.base
    }

    /// What each worker goes on with, where nothing read so far comes to the instant `from_us`.
    pub fn upgrades(self, from_us: i64, treatment: &Treatment) -> (Arc<Assembly>, Vec<Upgrade>) {
        let Self { mut assembly, pin, origins, instances, .. } = self;
        assembly.pin(pin, from_us);
        let assembly = Arc::new(assembly);
        let upgrade = |parts: Parts| {
            let heir = |(origin, instance): (&Origin, Option<Box<dyn Aggregate>>)| match (*origin, instance) {
                (Origin::Migrated(of), Some(instance)) => Heir::Migrated(of, instance),
                (Origin::Empty, Some(instance)) => Heir::Empty(instance),
                (Origin::Same(of) | Origin::Migrated(of), _) => Heir::Same(of),
                (Origin::Empty, None) => unreachable!("an instance was made for each that is new"),
            };
            let shards = origins.iter().zip(parts.aggregates).map(heir).collect();
            let change =
                Change { plan: assembly.plan.clone(), parser: parts.parser, shards, treatment: treatment.clone() };
            Upgrade { assembly: assembly.clone(), change }
        };
        let upgrades = instances.into_iter().map(upgrade).collect();
        (assembly, upgrades)
    }

    /// The swap, as checkpoints name it.
    pub fn swapped(&self) -> Swapped {
        let Action { plugin, from, to, policy, who, .. } = self.action.clone();
        Swapped { plugin, from, to, policy: policy.map(|policy| policy.to_string()), who }
    }

    /// Its place in the plan; `None` = it is the parser.
    pub fn place(&self) -> Option<usize> {
        self.assembly.outputs.in_force().iter().position(|name| *name == self.action.plugin)
    }
}

impl Action {
    /// The answer to whoever asked.
    pub fn answer(&self, outcome: Outcome, boundary: Option<Boundary>) -> Answer {
        Answer {
            outcome,
            plugin: self.plugin.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            policy: self.policy,
            message: self.message.clone(),
            difference: self.difference.clone(),
            boundary,
        }
    }
}

/// How many orders wait at most: the coordinator takes one after the other, and people ask for few.
const MOST_ORDERS: usize = 16;

/// Where orders wait for the coordinator, whichever attempt is under way; and what it has under way.
#[derive(Default)]
pub struct Switchboard {
    orders: Mutex<VecDeque<Order>>,
    under_way: Mutex<Option<UnderWay>>,
}

/// A change that was put in, until it is in force.
pub struct UnderWay {
    /// What is done.
    pub action: Action,
    /// Who waits for it.
    pub reply: Option<Sender<Reply>>,
}

impl Switchboard {
    /// Leaves an order, behind those that wait; who wants to go back is before all others.
    ///
    /// # Errors
    /// The order again, where too many wait.
    pub fn leave(&self, order: Order) -> Result<(), Box<Order>> {
        let mut orders = lock(&self.orders);
        if orders.len() >= MOST_ORDERS {
            return Err(Box::new(order));
        }
        match order {
            Order::GoBack { .. } => orders.push_front(order),
            Order::Put(_) | Order::See { .. } => orders.push_back(order),
        }
        Ok(())
    }

    /// Takes the first order that waits.
    pub fn take(&self) -> Option<Order> {
        lock(&self.orders).pop_front()
    }

    /// Takes the first order that waits, if that is to go back.
    pub fn take_back(&self) -> Option<Order> {
        lock(&self.orders).pop_front_if(|order| matches!(order, Order::GoBack { .. }))
    }

    /// Notes what is put in.
    pub fn begin(&self, under_way: UnderWay) {
        *lock(&self.under_way) = Some(under_way);
    }

    /// Takes what was put in: it is in force, or failed.
    pub fn end(&self) -> Option<UnderWay> {
        lock(&self.under_way).take()
    }

    /// Answers everybody who still waits.
    pub fn close(&self, why: &str) {
        let mut waiting: Vec<Sender<Reply>> = self.end().and_then(|under_way| under_way.reply).into_iter().collect();
        while let Some(order) = self.take() {
            match order {
                Order::Put(prepared) => waiting.extend(prepared.reply),
                Order::GoBack { reply, .. } => waiting.push(reply),
                Order::See { .. } => {}
            }
        }
        for reply in waiting {
            refuse(Some(&reply), RefusalKind::Conflict, why.to_owned());
        }
    }
}

/// Tells whoever asked why not.
pub fn refuse(reply: Option<&Sender<Reply>>, kind: RefusalKind, message: String) {
    if let Some(reply) = reply {
        // Whoever asked may be gone.
        let _ = reply.send(Err(Refusal { kind, message }));
    }
}

impl Assembly {
    /// Sets the checkpoint at which an aggregate's shadow begins.
    pub fn begin_shadow(&mut self, aggregate: usize, checkpoint: u64) {
        for version in self.versions.beside.iter_mut().filter(|version| version.of == aggregate) {
            if let BesideRole::Shadow { since, .. } = &mut version.role {
                *since = checkpoint;
            }
        }
    }

    /// Sets the instant that windows depend on.
    pub fn pin(&mut self, pin: Pin, instant_us: i64) {
        let mut plan = self.plan.as_ref().clone();
        for version in &mut self.versions.beside {
            match (&mut version.role, pin) {
                (BesideRole::Retiring { before_us }, Pin::Retiring(of)) if version.of == of => {
                    *before_us = instant_us;
                    plan.pin(of, instant_us);
                }
                (BesideRole::Shadow { from_us, .. }, Pin::Shadow(of)) if version.of == of => {
                    *from_us = Some(instant_us);
                    plan.observe(of, Some(instant_us));
                }
                _ => {}
            }
        }
        self.plan = Arc::new(plan);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    fn back(plugin: &str) -> Order {
        Order::GoBack { plugin: plugin.into(), who: "token:x".into(), reply: bounded(1).0 }
    }

    fn see(plugin: &str) -> Order {
        Order::See { plugin: plugin.into(), digest: "d".into() }
    }

    fn plugin_of(order: Option<Order>) -> Option<String> {
        match order? {
            Order::GoBack { plugin, .. } | Order::See { plugin, .. } => Some(plugin),
            Order::Put(_) => None,
        }
    }

    #[test]
    fn who_wants_to_go_back_is_before_all_others_who_wait() {
        let board = Switchboard::default();
        assert!(board.leave(see("a")).is_ok() && board.leave(see("b")).is_ok());
        assert!(board.take_back().is_none(), "nobody wants to");
        assert!(board.leave(back("c")).is_ok());
        assert_eq!(plugin_of(board.take_back()).as_deref(), Some("c"));
        assert_eq!(["a", "b"].map(|_| plugin_of(board.take()).unwrap()), ["a", "b"]);
    }

    #[test]
    fn all_who_wait_at_the_end_are_answered() {
        let board = Switchboard::default();
        let (reply, replies) = bounded(MOST_ORDERS);
        for _ in 0..MOST_ORDERS {
            let order = Order::GoBack { plugin: "a".into(), who: "token:x".into(), reply: reply.clone() };
            assert!(board.leave(order).is_ok());
        }
        assert!(board.leave(see("b")).is_err(), "there is no end of them otherwise");
        board.close("the pipeline has stopped");
        assert_eq!(replies.try_iter().count(), MOST_ORDERS);
    }
}
