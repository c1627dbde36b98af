//! Which windows an event falls into. Ends are exclusive.

mod calendar;
mod zone;

pub use self::calendar::{Calendar, Unit};
pub use self::zone::{DATA_VERSION, DAY_US, Zone};

use crate::time::lateness::window_is_over;

/// From an instant to another, which is not part of it, µs since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first instant.
    pub start: i64,
    /// The first instant after it.
    pub end: i64,
}

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

/// Where windows start: each is as long as one step from a start to the next, or as some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// All steps are equally long.
    Even(Even),
    /// Steps are days or months of a time zone.
    Calendar(Calendar),
}

/// A grid of windows of one length: tumbling windows are sliding ones whose step is their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Even {
    /// A window's length, µs, above 0.
    pub size: i64,
    /// The distance between two starts, µs, above 0; divides `size`.
    pub step: i64,
    /// Shift from the Unix epoch, µs, `0 <= offset < step`.
    pub offset: i64,
}

impl Grid {
    /// The step that holds `time`. It starts with the newest window that does, and ends with the oldest.
    pub fn step(&self, time: i64) -> Span {
        match self {
            Self::Even(even) => {
                let start = even.newest_start(time);
                Span { start, end: start.saturating_add(even.step) }
            }
            Self::Calendar(calendar) => calendar.step(time),
        }
    }

    /// In how many windows each event falls.
    pub fn windows_per_event(&self) -> i64 {
        match self {
            Self::Even(even) => even.windows_per_event(),
            Self::Calendar(calendar) => calendar.steps.into(),
        }
    }

    /// The exclusive end of the window that starts at `start`.
    pub fn end(&self, start: i64) -> i64 {
        match self {
            Self::Even(even) => even.end(start),
            Self::Calendar(calendar) => (0..calendar.steps).fold(start, |start, _| calendar.step(start).end),
        }
    }

    /// The start so many steps before another.
    pub fn start_before(&self, start: i64, steps: i64) -> i64 {
        match self {
            Self::Even(even) => start.saturating_sub(steps.saturating_mul(even.step)),
            Self::Calendar(calendar) => (0..steps).fold(start, |start, _| calendar.step(start.saturating_sub(1)).start),
        }
    }
}

impl Even {
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

/// Finds the windows of one event after the other. Events mostly come in the order of their times, so that most are in
/// the step of the one before, and nothing is computed for these.
#[derive(Debug)]
pub struct Finder<'g> {
    grid: &'g Grid,
    back: i64,
    step: Span,
    window: Span,
}

impl<'g> Finder<'g> {
    /// Finds of each event's windows the newest but `back`.
    pub fn new(grid: &'g Grid, back: i64) -> Self {
        let nowhere = Span { start: 0, end: 0 };
        Self { grid, back, step: nowhere, window: nowhere }
    }

    /// The window of an event at `time`.
    pub fn window(&mut self, time: i64) -> Span {
        if time < self.step.start || self.step.end <= time {
            self.step = self.grid.step(time);
            let start = self.grid.start_before(self.step.start, self.back);
            self.window = Span { start, end: self.grid.end(start) };
        }
        self.window
    }

    /// Of the windows that hold the event found last, how many are over.
    pub fn windows_missed(&self, allowed_lateness: i64, watermark: i64) -> i64 {
        let ends = std::iter::successors(Some(self.step.end), |&end| Some(self.grid.step(end).end));
        let over = ends.take_while(|&end| window_is_over(end, allowed_lateness, watermark));
        (0..self.grid.windows_per_event()).zip(over).count() as i64
    }
}

#[cfg(test)]
mod tests;
