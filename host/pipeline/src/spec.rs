//! The validated description of a pipeline: what is computed, not where it is read from or written to.

use crate::window::{Even, Grid, Zone};

/// µs in a second.
pub const SECOND_US: i64 = 1_000_000;

/// A pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineSpec {
    /// How event time moves.
    pub time: TimeSpec,
    /// What is computed. Names are unique.
    pub aggregates: Vec<AggregateSpec>,
}

/// How event time moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeSpec {
    /// How far a partition's watermark stays behind the largest event time seen there.
    pub watermark_delay_us: i64,
    /// After how much processing time without records a partition is left out of the minimum. `None` = never.
    pub idle_timeout_us: Option<i64>,
    /// How far an event time may lie after the broker's timestamp. `None` = any distance.
    pub max_ahead_us: Option<i64>,
}

/// One aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateSpec {
    /// Its name: of its outputs, metrics and messages.
    pub name: String,
    /// Its windows.
    pub window: Window,
    /// The parser's columns whose values make a group. May be empty: one group per window.
    pub keys: Vec<String>,
    /// How long after its end a window still takes rows.
    pub allowed_lateness_us: i64,
}

/// The kinds of window. Ends are exclusive everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Tumbling and sliding ones, of a length of time or of days, weeks and months: they start where a grid says.
    Grid(Grid),
    /// Per key: `[first, last + gap)`, where no two events are more than `gap` apart.
    Session {
        /// The longest silence inside a session, µs, above 0.
        gap_us: i64,
    },
}

impl Window {
    /// `[offset + n * size, offset + (n + 1) * size)`: all µs, `0 <= offset < size`.
    pub fn tumbling(size_us: i64, offset_us: i64) -> Self {
        Self::sliding(size_us, size_us, offset_us)
    }

    /// `[offset + n * slide, offset + n * slide + size)`: all µs, `size` a multiple of `slide`, `0 <= offset < slide`.
    pub fn sliding(size_us: i64, slide_us: i64, offset_us: i64) -> Self {
        Self::Grid(Grid::Even(Even { size: size_us, step: slide_us, offset: offset_us }))
    }

    /// The names of the columns of a start and an end.
    pub fn columns(&self) -> [&'static str; 2] {
        match self {
            Self::Grid(_) => ["window_start", "window_end"],
            Self::Session { .. } => ["session_start", "session_end"],
        }
    }

    /// The zone whose dates they start with; UTC where that is none's.
    pub fn zone(&self) -> Zone {
        match self {
            Self::Grid(Grid::Calendar(calendar)) => calendar.zone,
            _ => Zone::UTC,
        }
    }

    /// The latest end of a window that starts before `instant`; of a session of one event.
    pub fn last_end(&self, instant: i64) -> i64 {
        match self {
            Self::Grid(grid) => grid.end(grid.step(instant.saturating_sub(1)).start),
            Self::Session { gap_us } => instant.saturating_add(*gap_us),
        }
    }
}
