//! Too late or not: pure functions of a row, its window and its own partition's watermark.
//!
//! A row is judged against the watermark of the partition it came from, as it stood before the row. Windows close
//! by the pipeline's watermark, which is never ahead of any active partition's; so a row that is not too late
//! always finds its window open, however partitions were interleaved.

/// Whether a tumbling or sliding window that ends at `end` (exclusive) no longer takes rows of a partition whose
/// watermark is `watermark`. The same comparison, with the pipeline's watermark, closes the window.
///
/// ```
/// use wasmill_pipeline::time::lateness::window_is_over;
/// assert!(!window_is_over(1_000, 0, 999));
/// assert!(window_is_over(1_000, 0, 1_000));
/// assert!(!window_is_over(1_000, 500, 1_499));
/// ```
pub fn window_is_over(end: i64, allowed_lateness: i64, watermark: i64) -> bool {
    end.saturating_add(allowed_lateness) <= watermark
}

/// Whether an event at `time` is too late for any session, given its partition's watermark.
pub fn too_late_for_session(time: i64, allowed_lateness: i64, watermark: i64) -> bool {
    time.saturating_add(allowed_lateness) < watermark
}

/// Whether the session whose last event was at `last` closes at the pipeline's watermark. Strictly after its end:
/// an event exactly `gap` after the last one still joins.
pub fn session_is_over(last: i64, gap: i64, allowed_lateness: i64, watermark: i64) -> bool {
    last.saturating_add(gap).saturating_add(allowed_lateness) < watermark
}
