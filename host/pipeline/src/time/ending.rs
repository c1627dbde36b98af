//! The end of a run that ends by itself: which partitions do not hold the watermark, by the topic alone.
//!
//! Such a run has no time to wait for silence. It is there to give the same rows whenever it runs, so it asks the brokers'
//! timestamps in the topic instead of the clock.

use super::watermark::Watermarks;
use crate::mutation::{self, Mutation};
use serde::{Deserialize, Serialize};

/// The newest broker timestamp among the records that were ever read of a partition; the later is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Newest {
    /// There were no records.
    #[default]
    Nothing,
    /// None of them had a plausible one.
    Untimed,
    /// µs since the Unix epoch.
    At(i64),
}

/// The partitions that do not hold the watermark at the end of a run, all being read to their ends: those without any
/// record, and those whose newest is by more than `idle_timeout_us` older than the newest of all.
///
/// ```
/// use wasmill_pipeline::time::ending::{Newest, left_behind};
/// let newest = [(0, Newest::At(100)), (1, Newest::At(60)), (2, Newest::At(69)), (3, Newest::Nothing)];
/// assert_eq!(left_behind(newest, 31), [1, 3]);
/// ```
pub fn left_behind(partitions: impl IntoIterator<Item = (i32, Newest)> + Clone, idle_timeout_us: i64) -> Vec<i32> {
    let of_all = partitions.clone().into_iter().map(|(_, newest)| newest).max().unwrap_or_default();
    let behind = |newest| match (newest, of_all) {
        (Newest::Nothing, _) => !mutation::on(Mutation::EmptyHolds),
        (Newest::At(own), Newest::At(newest)) => {
            newest.saturating_sub(own) > idle_timeout_us && !mutation::on(Mutation::EndingByRowsAlone)
        }
        _ => false,
    };
    partitions.into_iter().filter(|&(_, newest)| behind(newest)).map(|(partition, _)| partition).collect()
}

/// Leaves the partitions out of the minimum that do not hold it at the end of a run, all being read to their ends, and
/// gives the watermark that results. Without an `idle_timeout_us` all hold it.
pub fn end(watermarks: &mut Watermarks, newest: &[(i32, Newest)], idle_timeout_us: Option<i64>) -> i64 {
    for partition in idle_timeout_us.map(|timeout| left_behind(newest.iter().copied(), timeout)).unwrap_or_default() {
        watermarks.set_idle(partition);
    }
    // Those that gave nothing in this run stand where they stood before.
    let marks: Vec<_> = watermarks.partitions().collect();
    for (partition, mark) in marks {
        watermarks.advance(partition, mark.watermark_us);
    }
    watermarks.current()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_partition_that_fell_silent_no_longer_ago_than_the_timeout_holds() {
        assert!(left_behind([(0, Newest::At(100)), (1, Newest::At(70))], 30).is_empty());
        assert_eq!(left_behind([(0, Newest::At(100)), (1, Newest::At(69))], 30), [1]);
    }

    #[test]
    fn an_empty_partition_does_not_hold() {
        assert_eq!(left_behind([(0, Newest::At(100)), (1, Newest::Nothing)], 30), [1]);
        assert_eq!(left_behind([(0, Newest::Untimed), (1, Newest::Nothing)], 30), [1]);
    }

    #[test]
    fn a_partition_of_whose_timestamps_none_is_plausible_holds() {
        assert!(left_behind([(0, Newest::At(100)), (1, Newest::Untimed)], 30).is_empty());
    }

    #[test]
    fn a_run_that_read_nothing_ends_where_its_partitions_stood() {
        let mut watermarks = Watermarks::starting_at(10);
        watermarks.assign(0, 50, false);
        watermarks.assign(1, 20, false);
        let newest = [(0, Newest::At(100)), (1, Newest::At(60))];
        assert_eq!(end(&mut watermarks.clone(), &newest, None), 20);
        assert_eq!(end(&mut watermarks.clone(), &newest, Some(40)), 20);
        assert_eq!(end(&mut watermarks, &newest, Some(39)), 50);
    }

    proptest! {
        #[test]
        fn the_partition_with_the_newest_record_always_holds(
            times in prop::collection::vec(prop_oneof![
                Just(Newest::Nothing), Just(Newest::Untimed), (i64::MIN..=i64::MAX).prop_map(Newest::At)
            ], 1..6),
            timeout in 0i64..1_000,
        ) {
            let all = (0..).zip(times.iter().copied());
            let behind = left_behind(all.clone(), timeout);
            let newest = times.iter().max().copied();
            prop_assert!(all.filter(|&(_, at)| Some(at) == newest && at != Newest::Nothing).all(|(p, _)| !behind.contains(&p)));
        }
    }
}
