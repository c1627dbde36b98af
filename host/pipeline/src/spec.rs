//! The validated description of a pipeline: what is computed, not where it is read from or written to.

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
    /// `[offset + n * size, offset + (n + 1) * size)`.
    Tumbling {
        /// Length, µs, above 0.
        size_us: i64,
        /// Shift from the Unix epoch, µs, `0 <= offset < size`.
        offset_us: i64,
    },
    /// `[offset + n * slide, offset + n * slide + size)`.
    Sliding {
        /// Length, µs; a multiple of `slide`.
        size_us: i64,
        /// Distance between two starts, µs, `0 < slide <= size`.
        slide_us: i64,
        /// Shift from the Unix epoch, µs, `0 <= offset < slide`.
        offset_us: i64,
    },
    /// Per key: `[first, last + gap)`, where no two events are more than `gap` apart.
    Session {
        /// The longest silence inside a session, µs, above 0.
        gap_us: i64,
    },
}
