//! Counts events, whatever they are grouped by.
#![cfg_attr(target_arch = "wasm32", no_std)]

use wasmill_sdk::prelude::*;

state! {
    /// What is kept per group.
    pub struct Count { events: u64 }
}
row_out! {
    /// What comes of it.
    #[derive(Debug, PartialEq)]
    pub struct Metrics { events: u64 }
}

/// The aggregate.
pub struct GeoMetrics;

impl Aggregate for GeoMetrics {
    type Row<'a> = ();
    type State = Count;
    type Output = Metrics;
    const COMMUTATIVE: bool = true;
    const TYPICAL_STATE_BYTES: u32 = 8;

    fn new(_: &mut Config<'_>) -> Result<Self, String> {
        Ok(Self)
    }

    fn add(&self, count: &mut Count, (): ()) {
        count.events += 1;
    }

    fn merge(&self, count: &mut Count, other: Count) {
        count.events += other.events;
    }

    fn finish(&self, count: &Count) -> Metrics {
        Metrics { events: count.events }
    }
}
export_aggregate!(GeoMetrics);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::testing::{aggregate_laws, result_of};

    #[test]
    fn the_laws_hold() {
        aggregate_laws::<GeoMetrics>("{}", &[(); 100]);
    }

    #[test]
    fn every_event_counts_once() {
        assert_eq!(result_of::<GeoMetrics>("{}", &[(); 17]), Metrics { events: 17 });
    }
}
