//! What guests say: cut, escaped, rate-limited, and counted where dropped.

use super::bindings::wit_log::Level;
use super::ticker::{TICKS_PER_SECOND, Ticks};
use crate::shown::is_hidden;
use std::sync::Arc;

/// The most of one line that is kept.
const MAX_LINE_BYTES: usize = 1024;

/// The log of one instance.
pub(super) struct Log {
    plugin: Arc<str>,
    lines_per_second: u32,
    ticks: Ticks,
    second_began: u64,
    lines: u32,
    dropped: u64,
    last_error: Option<String>,
}

impl Log {
    /// A log for the plugin of this name.
    pub(super) fn new(plugin: Arc<str>, lines_per_second: u32, ticks: Ticks) -> Self {
        let second_began = ticks.now();
        Self { plugin, lines_per_second, ticks, second_began, lines: 0, dropped: 0, last_error: None }
    }

    /// Writes one line, or counts it as dropped.
    pub(super) fn write(&mut self, level: Level, message: &str) {
        let now = self.ticks.now();
        if now.saturating_sub(self.second_began) >= TICKS_PER_SECOND {
            self.report_dropped();
            self.second_began = now;
            self.lines = 0;
        }
        let within_rate = self.lines < self.lines_per_second;
        if !within_rate {
            self.dropped += 1;
        }
        if within_rate || matches!(level, Level::Error) {
            let line = printable(message);
            if within_rate {
                self.lines += 1;
                let plugin = &*self.plugin;
                match level {
                    Level::Debug => tracing::debug!(plugin, "{line}"),
                    Level::Info => tracing::info!(plugin, "{line}"),
                    Level::Warn => tracing::warn!(plugin, "{line}"),
                    Level::Error => tracing::error!(plugin, "{line}"),
                }
            }
            if matches!(level, Level::Error) {
                self.last_error = Some(line);
            }
        }
    }

    /// The last error line since this was last asked: a guest that panics says so before it traps.
    pub(super) fn take_last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    /// How many lines were dropped and not reported yet.
    #[cfg(test)]
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn report_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            tracing::warn!(plugin = &*self.plugin, "dropped {} log lines", with_thousands(dropped));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.report_dropped();
    }
}

/// A guest's text on one line: hidden characters escaped, cut at a character's boundary with a `…`.
pub(super) fn printable(text: &str) -> String {
    let kept = cut(text, MAX_LINE_BYTES);
    let mut line = String::with_capacity(kept.len() + 4);
    for c in kept.chars() {
        if is_hidden(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    if kept.len() < text.len() {
        line.push('…');
    }
    line
}

/// The longest start of `text` that has at most `max_bytes` bytes and ends between two characters.
pub(super) fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

fn with_thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters() {
        let line = printable(&"é".repeat(1000));
        assert!(line.len() <= MAX_LINE_BYTES + '…'.len_utf8());
        assert!(line.ends_with("é…"));
    }

    #[test]
    fn control_characters_cannot_forge_lines() {
        assert_eq!(printable("a\nERROR b\u{1b}[2J"), "a\\nERROR b\\u{1b}[2J");
    }

    #[test]
    fn lines_over_the_rate_are_counted() {
        let mut log = Log::new("p".into(), 2, Ticks::default());
        for _ in 0..5 {
            log.write(Level::Info, "x");
        }
        assert_eq!(log.dropped(), 3);
    }

    #[test]
    fn an_error_over_the_rate_is_still_remembered() {
        let mut log = Log::new("p".into(), 0, Ticks::default());
        log.write(Level::Error, "panicked at src/lib.rs:7");
        assert_eq!(log.take_last_error().as_deref(), Some("panicked at src/lib.rs:7"));
        assert_eq!(log.take_last_error(), None);
    }

    #[test]
    fn large_numbers_are_readable() {
        assert_eq!(with_thousands(1_234_567), "1,234,567");
        assert_eq!(with_thousands(12), "12");
    }
}
