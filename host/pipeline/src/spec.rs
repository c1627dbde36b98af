//! The validated description of a pipeline: what is computed, not where it is read from or written to.

use crate::window::{Even, Grid, Zone};
use std::ops::Range;

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

/// How event time moves, and which times are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeSpec {
    /// How far a partition's watermark stays behind the largest event time believed there.
    pub watermark_delay_us: i64,
    /// After how much processing time without records a partition is left out of the minimum. `None` = never.
    pub idle_timeout_us: Option<i64>,
    /// How far an event time may lie after the broker's timestamp. `None` = any distance.
    pub max_ahead_us: Option<i64>,
    /// The earliest event time there may be. `None` = any.
    pub min_us: Option<i64>,
    /// By how much the clocks of producers and brokers differ: nothing else happens after the broker saw it.
    pub clock_skew_us: i64,
    /// How far an event time may be ahead of all before it in its partition and still move the watermark by itself.
    pub max_jump_us: i64,
    /// How many rows in a row must agree that time is further ahead, or that there is no time but the broker's. Above 0.
    pub confirm: u32,
    /// Which event times move the watermark.
    pub trust: TrustRule,
    /// What becomes of an event whose time cannot be read.
    pub unreadable: Unreadable,
    /// The broker's timestamps that can be meant as such; all others are as none.
    pub plausible_us: Range<i64>,
}

/// Which event times move the watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustRule {
    /// Those that [`Trusted`](crate::time::trust::Trusted) believes.
    Claims,
    /// All.
    Any,
}

/// What becomes of an event whose time cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It has the broker's.
    Broker,
    /// It is a dead letter.
    DeadLetter,
}

impl Default for TimeSpec {
    /// As where the pipeline file says nothing.
    fn default() -> Self {
        Self {
            watermark_delay_us: 10 * SECOND_US,
            idle_timeout_us: Some(60 * SECOND_US),
            max_ahead_us: Some(3600 * SECOND_US),
            // 1900-01-01: before it, readers of Parquet differ about the calendar.
            min_us: Some(-2_208_988_800 * SECOND_US),
            // Clocks kept by NTP differ by milliseconds; a second is far more than that, and costs nothing.
            clock_skew_us: SECOND_US,
            // Clocks that are wrong are wrong by time zones and years; streams that flow pause for less than this.
            max_jump_us: 600 * SECOND_US,
            // A batch of one device whose clock is wrong is rarely longer; streams that flow give eight rows at once.
            confirm: 8,
            trust: TrustRule::Claims,
            unreadable: Unreadable::Broker,
            // 2000-01-01, before there was Kafka: 0 and seconds for milliseconds lie before; and 2200-01-01:
            // microseconds for milliseconds lie behind.
            plausible_us: 946_684_800 * SECOND_US..7_258_118_400 * SECOND_US,
        }
    }
}

impl TimeSpec {
    /// A record's broker's timestamp, µs, unless it has none or one that cannot be meant as such.
    pub fn plausible(&self, broker_time_us: i64) -> Option<i64> {
        self.plausible_us.contains(&broker_time_us).then_some(broker_time_us)
    }
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
