//! Versions as checkpoints name them: a digest says here what the version is like.

use crate::setup::{Entry, Setup};
use std::collections::BTreeMap;
use wasmill::store::{Beside, BesideRole};
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::spec::PipelineSpec;
use wasmill_pipeline::testing::Version;
use wasmill_pipeline::version::{ALL_KEYS, Role};

/// The digest of a version.
pub(crate) fn digest(version: Version) -> String {
    format!("{}-{}-{}", version.tag, version.state_version, version.odd)
}

/// The version with this digest.
pub(crate) fn version(digest: &str) -> Version {
    let mut parts = digest.split('-');
    let mut part = || parts.next().expect("a digest has three parts");
    let number = |text: &str| text.parse().expect("a number stands there");
    let (tag, state_version, odd) = (number(part()), number(part()) as u32, part() == "true");
    Version { odd, ..Version::new(tag, state_version) }
}

/// The versions in force.
pub(crate) fn plugins(setup: &Setup, spec: &PipelineSpec) -> BTreeMap<String, String> {
    let entries = spec.aggregates.iter().zip(&setup.entries);
    entries.map(|(aggregate, entry)| (aggregate.name.clone(), digest(entry.version))).collect()
}

/// Those beside them.
pub(crate) fn beside(setup: &Setup, spec: &PipelineSpec) -> Vec<Beside> {
    let beside = |entry: &Entry| Beside {
        aggregate: spec.aggregates[entry.of].name.clone(),
        digest: digest(entry.version),
        role: match entry.role {
            Role::Shadow { keys } => BesideRole::Shadow {
                from_us: setup.from.get(&entry.of).copied(),
                since: 0,
                key_sample: keys as f64 / ALL_KEYS as f64,
                tolerance: BTreeMap::new(),
                found: Comparison::default(),
            },
            Role::Retiring | Role::Current => BesideRole::Retiring { before_us: setup.pins[&entry.of] },
        },
    };
    setup.entries[spec.aggregates.len()..].iter().map(beside).collect()
}

/// The versions that a checkpoint names.
pub(crate) fn setup(spec: &PipelineSpec, plugins: &BTreeMap<String, String>, beside: &[Beside]) -> Setup {
    let mut setup = Setup::first(spec);
    for (entry, aggregate) in setup.entries.iter_mut().zip(&spec.aggregates) {
        entry.version = version(&plugins[&aggregate.name]);
    }
    for Beside { aggregate, digest, role } in beside {
        let of = spec.aggregates.iter().position(|spec| spec.name == *aggregate).expect("it is of an aggregate");
        let role = match role {
            BesideRole::Retiring { before_us } => {
                setup.pins.insert(of, *before_us);
                Role::Retiring
            }
            BesideRole::Shadow { from_us, key_sample, .. } => {
                setup.from.extend(from_us.map(|from_us| (of, from_us)));
                Role::Shadow { keys: (key_sample * ALL_KEYS as f64) as u64 }
            }
        };
        setup.entries.push(Entry { of, role, version: version(digest) });
    }
    setup
}
