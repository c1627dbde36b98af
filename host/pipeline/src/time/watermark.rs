//! Watermarks: one per partition, and the pipeline's as the minimum over the partitions that are not idle.
//!
//! Where all are idle it is the greatest of theirs, in whatever order they fell silent, and then moves on with the time
//! that passes: so the last windows close.

use super::NOTHING_SEEN;
use crate::mutation::{self, Mutation};
use std::collections::BTreeMap;

/// One partition's place in event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionWatermark {
    /// (largest event time seen) - delay, or the floor it was raised to; never decreases.
    pub watermark_us: i64,
    /// Whether it is left out of the minimum.
    pub idle: bool,
}

/// The watermarks of all assigned partitions.
///
/// The order of calls that keeps the law "a row that is not too late finds its window open":
/// rows are handed on before [`advance`](Self::advance) tells of them, and whoever closes windows reads
/// [`current`](Self::current) first and then takes in all rows handed on by then.
///
/// ```
/// use wasmill_pipeline::time::watermark::Watermarks;
/// let mut w = Watermarks::default();
/// w.assign(0, i64::MIN, false);
/// w.assign(1, i64::MIN, false);
/// w.advance(0, 100);
/// assert_eq!(w.current(), i64::MIN); // partition 1 has given nothing yet, and may still give anything
/// w.advance(1, 60);
/// assert_eq!(w.current(), 60);
/// w.set_idle(1);
/// assert_eq!(w.current(), 100);
/// assert_eq!(w.wake(1), 100); // what comes from it now is judged against the windows closed meanwhile
/// ```
#[derive(Clone, Debug)]
pub struct Watermarks {
    partitions: BTreeMap<i32, PartitionWatermark>,
    reached: i64,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self { partitions: BTreeMap::new(), reached: NOTHING_SEEN }
    }
}

impl Watermarks {
    /// Continues at a watermark the pipeline had reached before.
    pub fn starting_at(reached_us: i64) -> Self {
        Self { partitions: BTreeMap::new(), reached: reached_us }
    }

    /// Takes a partition in. One that is new to a running pipeline starts at the watermark reached, so that the
    /// pipeline's never goes back.
    pub fn assign(&mut self, partition: i32, watermark_us: i64, idle: bool) {
        let watermark_us = watermark_us.max(self.reached);
        self.partitions.insert(partition, PartitionWatermark { watermark_us, idle });
    }

    /// Gives a partition up: the topic does not have it any more.
    pub fn unassign(&mut self, partition: i32) {
        self.partitions.remove(&partition);
        self.settle();
    }

    /// A partition's watermark has come to `watermark_us`; its rows up to there were handed on.
    pub fn advance(&mut self, partition: i32, watermark_us: i64) {
        if let Some(p) = self.partitions.get_mut(&partition) {
            p.watermark_us = p.watermark_us.max(watermark_us);
        }
        self.settle();
    }

    /// Leaves a partition out of the minimum.
    pub fn set_idle(&mut self, partition: i32) {
        if let Some(p) = self.partitions.get_mut(&partition) {
            p.idle = true;
        }
        self.settle();
    }

    /// Takes a partition back into the minimum and gives the watermark that its next rows are judged against at
    /// least: windows up to there may be closed.
    pub fn wake(&mut self, partition: i32) -> i64 {
        let reached = self.reached;
        match self.partitions.get_mut(&partition) {
            Some(p) => {
                p.idle = false;
                p.watermark_us = p.watermark_us.max(reached);
                p.watermark_us
            }
            None => reached,
        }
    }

    /// While all partitions are idle, moves on by the processing time that passed. Otherwise, or when nothing was
    /// ever seen, does nothing.
    pub fn pass_idle_time(&mut self, elapsed_us: i64) {
        let all_idle = !self.partitions.is_empty() && self.partitions.values().all(|p| p.idle);
        if all_idle && self.reached != NOTHING_SEEN {
            self.reached = self.reached.saturating_add(elapsed_us.max(0));
        }
    }

    /// Raises the pipeline and every partition to at least `watermark_us`: all windows up to there were closed.
    pub fn raise(&mut self, watermark_us: i64) {
        self.reached = self.reached.max(watermark_us);
        for p in self.partitions.values_mut() {
            p.watermark_us = p.watermark_us.max(watermark_us);
        }
    }

    /// The pipeline's watermark.
    pub fn current(&self) -> i64 {
        self.reached
    }

    /// One partition's.
    pub fn partition(&self, partition: i32) -> Option<PartitionWatermark> {
        self.partitions.get(&partition).copied()
    }

    /// All partitions', by number.
    pub fn partitions(&self) -> impl Iterator<Item = (i32, PartitionWatermark)> + '_ {
        self.partitions.iter().map(|(&p, &w)| (p, w))
    }

    /// The least of the active partitions; where all are idle, the greatest of all: nothing more is known to come.
    fn settle(&mut self) {
        let active = self.partitions.values().filter(|p| !p.idle).map(|p| p.watermark_us);
        let all = self.partitions.values().map(|p| p.watermark_us);
        let of_all = if mutation::on(Mutation::AllIdleTakesLeast) { all.min() } else { all.max() };
        if let Some(watermark_us) = active.min().or(of_all) {
            self.reached = self.reached.max(watermark_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A call, by its number, with a partition and a time.
    fn call(w: &mut Watermarks, (what, partition, time): (u8, i32, i64)) {
        match what {
            0 => w.assign(partition, time, time % 2 == 0),
            1 => w.advance(partition, time),
            2 => w.set_idle(partition),
            3 => drop(w.wake(partition)),
            4 => w.pass_idle_time(time),
            5 => w.unassign(partition),
            _ => w.raise(time),
        }
    }

    proptest! {
        #[test]
        fn no_calls_take_the_watermark_back_or_ahead_of_an_active_partition(
            calls in prop::collection::vec((0u8..7, 0i32..4, prop_oneof![-50i64..500, Just(i64::MIN), Just(i64::MAX)]), 0..60)
        ) {
            let mut w = Watermarks::default();
            for one in calls {
                let before = (w.current(), w.clone());
                call(&mut w, one);
                prop_assert!(w.current() >= before.0, "the pipeline's never decreases: {one:?}");
                for (partition, mark) in w.partitions() {
                    let was = before.1.partition(partition).map_or(i64::MIN, |mark| mark.watermark_us);
                    // Assigned anew, a partition begins where its checkpoint says, but never behind the pipeline.
                    prop_assert!(one.0 == 0 || mark.watermark_us >= was, "a partition's never decreases: {one:?}");
                    prop_assert!(mark.idle || mark.watermark_us >= w.current(), "rows that are not too late are lost: {one:?}");
                }
            }
        }
    }

    #[test]
    fn an_idle_partition_that_returns_is_judged_against_what_was_closed_meanwhile() {
        let mut w = Watermarks::default();
        w.assign(0, NOTHING_SEEN, false);
        w.assign(1, NOTHING_SEEN, true);
        w.advance(0, 500);
        assert_eq!(w.current(), 500);
        assert_eq!(w.wake(1), 500);
    }

    #[test]
    fn time_passes_only_while_all_are_idle() {
        let mut w = Watermarks::default();
        w.assign(0, NOTHING_SEEN, false);
        w.assign(1, NOTHING_SEEN, false);
        w.advance(0, 10);
        w.advance(1, 20);
        w.pass_idle_time(5);
        assert_eq!(w.current(), 10);
        w.set_idle(0);
        w.set_idle(1);
        w.pass_idle_time(5);
        assert_eq!(w.current(), 25, "5 beyond the greatest");
    }

    #[test]
    fn all_silent_it_is_the_greatest_whatever_the_order_of_falling_silent() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let mut w = Watermarks::default();
            for (partition, watermark) in [(0, 10), (1, 300), (2, NOTHING_SEEN)] {
                w.assign(partition, NOTHING_SEEN, false);
                w.advance(partition, watermark);
            }
            for partition in order {
                w.set_idle(partition);
            }
            assert_eq!(w.current(), 300, "{order:?}");
            assert_eq!(w.wake(0), 300, "what comes now is judged by what was closed");
        }
    }

    #[test]
    fn a_restart_does_not_forget_the_greatest_of_silent_partitions() {
        let mut w = Watermarks::starting_at(10);
        w.assign(0, 10, false);
        w.assign(1, 300, false);
        assert_eq!(w.current(), 10, "nobody has been asked yet");
        w.set_idle(1);
        w.set_idle(0);
        assert_eq!(w.current(), 300);
    }

    #[test]
    fn nothing_seen_stays_nothing_seen_however_long_all_are_idle() {
        let mut w = Watermarks::default();
        w.assign(0, NOTHING_SEEN, true);
        w.pass_idle_time(1_000_000);
        assert_eq!(w.current(), NOTHING_SEEN);
    }

    #[test]
    fn a_partition_added_later_does_not_take_the_watermark_back() {
        let mut w = Watermarks::default();
        w.assign(0, NOTHING_SEEN, false);
        w.advance(0, 100);
        w.assign(1, NOTHING_SEEN, false);
        w.advance(0, 200);
        assert_eq!(w.current(), 100);
    }
}
