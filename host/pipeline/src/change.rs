//! What changes between two cuts: other plugins, with the state that they take up.

use crate::fault::Treatment;
use crate::mutation::{self, Mutation};
use crate::plan::Plan;
use crate::plugin::{Aggregate, Parser};
use crate::time::NOTHING_SEEN;
use crate::time::trust::Trusted;
use std::sync::Arc;

/// The instant that no record read so far comes to, given where the partitions are at a cut: windows that begin there
/// have no row yet. [`NOTHING_SEEN`] where there was none.
pub fn instant_after(partitions: impl IntoIterator<Item = Trusted>, delay_us: i64) -> i64 {
    let latest = |Trusted { watermark_us, latest_us, .. }: Trusted| match watermark_us {
        _ if mutation::on(Mutation::PinTooEarly) => watermark_us,
        NOTHING_SEEN => latest_us,
        // Where it was raised without rows, windows up to there are closed besides.
        _ => latest_us.max(watermark_us.saturating_add(delay_us)),
    };
    let latest = partitions.into_iter().map(latest).filter(|&latest| latest != NOTHING_SEEN).max();
    latest.map_or(NOTHING_SEEN, |latest| latest.saturating_add(1))
}

/// What changes in one worker.
pub struct Change {
    /// How the parts fit together from now on.
    pub plan: Arc<Plan>,
    /// The parser, where it is another.
    pub parser: Option<Box<dyn Parser>>,
    /// Where each entry of the plan comes from.
    pub shards: Vec<Heir>,
    /// How the plugins are treated from now on.
    pub treatment: Treatment,
}

/// Where a shard of the plan to come comes from.
pub enum Heir {
    /// It is the one at this place, plugin, state and all.
    Same(usize),
    /// Another plugin reads the state of the one at this place.
    Migrated(usize, Box<dyn Aggregate>),
    /// Another plugin begins without state.
    Empty(Box<dyn Aggregate>),
}

impl Heir {
    /// The place of the one whose state it takes up.
    pub fn of(&self) -> Option<usize> {
        match self {
            Self::Same(place) | Self::Migrated(place, _) => Some(*place),
            Self::Empty(_) => None,
        }
    }
}
