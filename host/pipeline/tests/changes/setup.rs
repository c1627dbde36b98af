//! Which versions are at work, and what becomes of them in a change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wasmill_pipeline::change::Heir;
use wasmill_pipeline::checkpoint::Cut;
use wasmill_pipeline::plan::{Beside, Plan};
use wasmill_pipeline::plugin::{Aggregate, Parser};
use wasmill_pipeline::shadow::Tolerance;
use wasmill_pipeline::spec::PipelineSpec;
use wasmill_pipeline::testing::{Call, TestParser, Version};
use wasmill_pipeline::version::{ALL_KEYS, Role};

/// One entry of the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) of: usize,
    pub(crate) role: Role,
    pub(crate) version: Version,
}

/// The versions at work.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// What is computed.
    pub(crate) spec: PipelineSpec,
    pub(crate) entries: Vec<Entry>,
    /// Where a retiring version's windows end, by aggregate.
    pub(crate) pins: BTreeMap<usize, i64>,
    /// Where a shadow's windows begin that has not seen all, by aggregate.
    pub(crate) from: BTreeMap<usize, i64>,
}

/// What is to be changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Another version takes up the state.
    Migrate,
    /// Another version takes the windows to come.
    Pin,
    /// Another version begins without state.
    Fresh,
    /// Another version runs beside.
    Shadow {
        /// With this share of keys,
        keys: u64,
        /// only the windows to come,
        next: bool,
        /// the same as the version in force,
        same: bool,
        /// but for some rows,
        odd: bool,
        /// and traps there.
        trap: Option<(Call, u32)>,
    },
    /// The shadow comes into force.
    Promote,
    /// The shadow goes.
    Discard,
    /// The retiring version goes.
    Retire,
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    Same(usize),
    Migrated(usize),
    Empty,
}

impl Setup {
    /// The first versions of all aggregates.
    pub(crate) fn first(spec: &PipelineSpec) -> Self {
        let entry = |of| Entry { of, role: Role::Current, version: Version::new(0, 1) };
        let entries = (0..spec.aggregates.len()).map(entry).collect();
        Self { spec: spec.clone(), entries, pins: BTreeMap::new(), from: BTreeMap::new() }
    }

    pub(crate) fn plan(&self, workers: usize) -> Arc<Plan> {
        let (spec, parser) = (&self.spec, TestParser::default());
        let descriptions: Vec<_> = self.entries[..3].iter().map(|entry| entry.version.description()).collect();
        let beside = self.entries[3..].iter().map(|entry| Beside {
            of: entry.of,
            role: entry.role,
            tolerance: Tolerance::default(),
            description: entry.version.description(),
        });
        let beside: Vec<_> = beside.collect();
        let mut plan = Plan::with(spec, "events", parser.description(), &descriptions, &beside, workers).unwrap();
        for (&of, &before) in &self.pins {
            plan.pin(of, before);
        }
        for (&of, &from) in &self.from {
            plan.observe(of, Some(from));
        }
        Arc::new(plan)
    }

    pub(crate) fn shadow(&self, of: usize) -> Option<usize> {
        self.entries.iter().position(|entry| entry.of == of && entry.role.is_shadow())
    }

    pub(crate) fn retiring(&self, of: usize) -> Option<usize> {
        self.entries.iter().position(|entry| entry.of == of && entry.role == Role::Retiring)
    }

    /// The tag that the rows of a window with this start have.
    pub(crate) fn tag(&self, of: usize, start: i64) -> i64 {
        let theirs = self.retiring(of).filter(|_| self.pins.get(&of).is_some_and(|&before| start < before));
        self.entries[theirs.unwrap_or(of)].version.tag
    }

    /// The versions after a change, and where they come from; `None` where there is nothing to change.
    /// `tag` is one that nobody has.
    pub(crate) fn change(&self, kind: Kind, of: usize, instant: i64, tag: i64) -> Option<(Self, Vec<Origin>)> {
        let mut next = self.clone();
        let mut origins: Vec<Origin> = (0..self.entries.len()).map(Origin::Same).collect();
        let current = self.entries[of].version;
        let newer = Version::new(tag, current.state_version + (tag % 2) as u32);
        let (shadow, retiring) = (self.shadow(of), self.retiring(of));
        let alone = shadow.is_none() && retiring.is_none();
        match kind {
            Kind::Migrate if alone => {
                next.entries[of].version = newer;
                origins[of] = Origin::Migrated(of);
            }
            Kind::Fresh if alone => {
                next.entries[of].version = newer;
                origins[of] = Origin::Empty;
            }
            Kind::Pin if alone => {
                next.entries[of].version = newer;
                origins[of] = Origin::Empty;
                next.entries.push(Entry { of, role: Role::Retiring, version: current });
                origins.push(Origin::Same(of));
                next.pins.insert(of, instant);
            }
            Kind::Shadow { keys, next: only_next, same, odd, trap } if alone => {
                let version = Version { tag: if same { current.tag } else { tag }, odd, trap, ..newer };
                next.entries.push(Entry { of, role: Role::Shadow { keys }, version });
                origins.push(if only_next { Origin::Empty } else { Origin::Migrated(of) });
                next.from.extend(only_next.then_some((of, instant)));
            }
            Kind::Promote => {
                let shadow = shadow?;
                let Entry { role, version, .. } = self.entries[shadow];
                if version.odd || version.trap.is_some() || role != (Role::Shadow { keys: ALL_KEYS }) {
                    return None;
                }
                next.entries[of].version = version;
                origins[of] = Origin::Same(shadow);
                if next.from.remove(&of).is_some() {
                    next.entries[shadow] = Entry { of, role: Role::Retiring, version: current };
                    origins[shadow] = Origin::Same(of);
                    next.pins.insert(of, instant);
                } else {
                    next.entries.remove(shadow);
                    origins.remove(shadow);
                }
            }
            Kind::Discard => {
                next.entries.remove(shadow?);
                origins.remove(shadow?);
                next.from.remove(&of);
            }
            Kind::Retire => {
                next.entries.remove(retiring?);
                origins.remove(retiring?);
                next.pins.remove(&of);
            }
            _ => return None,
        }
        Some((next, origins))
    }

    /// Aggregates whose retiring version has nothing left to do, by the cuts of all workers.
    pub(crate) fn done(&self, cuts: &[&Cut]) -> BTreeSet<usize> {
        let done = |&(&of, &before): &(&usize, &i64)| {
            let spec = &self.spec.aggregates[of];
            let over = spec.window.last_end(before).saturating_add(spec.allowed_lateness_us);
            cuts.iter().all(|cut| cut.closed_up_to_us > over && cut.retiring_groups.get(&of) == Some(&0))
        };
        self.pins.iter().filter(done).map(|(&of, _)| of).collect()
    }

    /// One worker's heirs.
    pub(crate) fn heirs(&self, origins: &[Origin], instance: impl Fn(&Entry) -> Box<dyn Aggregate>) -> Vec<Heir> {
        let heir = |(entry, origin): (&Entry, &Origin)| match *origin {
            Origin::Same(place) => Heir::Same(place),
            Origin::Migrated(place) => Heir::Migrated(place, instance(entry)),
            Origin::Empty => Heir::Empty(instance(entry)),
        };
        self.entries.iter().zip(origins).map(heir).collect()
    }
}
