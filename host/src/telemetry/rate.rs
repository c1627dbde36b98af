//! How fast a count grows, over the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back the rate looks: long enough to be steady, short enough to be now.
const WINDOW: Duration = Duration::from_secs(5);

/// The rate of a growing count.
#[derive(Debug, Default)]
pub struct Rate {
    seen: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Takes the count of this moment and says by how much it grew per second over the last five seconds.
    ///
    /// 0 for the first one. A count that went back, as a rollback to a checkpoint makes it, starts afresh.
    pub fn observe(&mut self, now: Instant, count: u64) -> f64 {
        if self.seen.back().is_some_and(|(_, last)| *last > count) {
            self.seen.clear();
        }
        self.seen.push_back((now, count));
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.seen.pop_front();
        }
        let Some((from, first)) = self.seen.front() else { return 0.0 };
        let seconds = now.saturating_duration_since(*from).as_secs_f64();
        if seconds > 0.0 { (count - first) as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(counts: &[(u64, u64)]) -> Vec<f64> {
        let (start, mut rate) = (Instant::now(), Rate::default());
        counts.iter().map(|(second, count)| rate.observe(start + Duration::from_secs(*second), *count)).collect()
    }

    fn assert_near(found: &[f64], wanted: &[f64]) {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?} {wanted:?}");
    }

    #[test]
    fn the_rate_is_of_the_last_five_seconds() {
        assert_near(&rates(&[(0, 0), (1, 100), (5, 100), (6, 100), (10, 100)]), &[0.0, 100.0, 20.0, 0.0, 0.0]);
    }

    #[test]
    fn a_count_that_goes_back_starts_afresh() {
        assert_near(&rates(&[(0, 500), (1, 100), (2, 160)]), &[0.0, 0.0, 60.0]);
    }
}
