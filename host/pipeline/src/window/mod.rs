//! Which windows an event falls into. Ends are exclusive.

use crate::spec::Window;

/// The start of the last window, on a grid of `step` shifted by `offset`, that starts at or before `time`.
///
/// ```
/// use wasmill_pipeline::window::last_start;
/// assert_eq!(last_start(59, 60, 0), 0);
/// assert_eq!(last_start(60, 60, 0), 60);
/// assert_eq!(last_start(-1, 60, 0), -60);
/// assert_eq!(last_start(14, 60, 15), -45);
/// ```
pub fn last_start(time: i64, step: i64, offset: i64) -> i64 {
    time.saturating_sub(time.saturating_sub(offset).rem_euclid(step))
}

/// A grid of windows of one length: tumbling windows are sliding ones whose step is their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// A window's length, µs.
    pub size: i64,
    /// The distance between two starts, µs; divides `size`.
    pub step: i64,
    /// Shift from the Unix epoch, µs.
    pub offset: i64,
}

impl Grid {
    /// The grid of a tumbling or sliding window; `None` for sessions.
    pub fn of(window: &Window) -> Option<Self> {
        match *window {
            Window::Tumbling { size_us, offset_us } => Some(Self { size: size_us, step: size_us, offset: offset_us }),
            Window::Sliding { size_us, slide_us, offset_us } => {
                Some(Self { size: size_us, step: slide_us, offset: offset_us })
            }
            Window::Session { .. } => None,
        }
    }

    /// In how many windows each event falls.
    pub fn windows_per_event(&self) -> i64 {
        self.size / self.step
    }

    /// The start of the newest window that holds `time`; the others start one step earlier each.
    pub fn newest_start(&self, time: i64) -> i64 {
        last_start(time, self.step, self.offset)
    }

    /// The start of the oldest window that holds what the window from `newest` on is the newest for.
    pub fn oldest_start(&self, newest: i64) -> i64 {
        newest.saturating_sub(self.size - self.step)
    }

    /// The exclusive end of the window that starts at `start`.
    pub fn end(&self, start: i64) -> i64 {
        start.saturating_add(self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_event_lies_in_exactly_size_over_step_windows(time in -1_000_000i64..1_000_000, step in 1i64..500, n in 1i64..6, shift in 0i64..500) {
            let grid = Grid { size: step * n, step, offset: shift % step };
            let newest = grid.newest_start(time);
            let holding = (-1..=n).map(|k| newest - k * step).filter(|&s| s <= time && time < grid.end(s)).count() as i64;
            prop_assert_eq!(holding, n);
            prop_assert!((newest - grid.offset).rem_euclid(step) == 0);
        }
    }
}
