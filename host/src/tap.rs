//! Taps: a sampled live view of records and rows on the terminal, never in the way of the data.

use crate::shown::shown;
use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use crossbeam_channel::{Sender, TrySendError, bounded};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use wasmill_pipeline::record::RawBatch;

/// How many rows each tap of each worker shows in a second.
const PER_SECOND: u32 = 5;

/// How long a shown value may be.
const LONGEST: usize = 400;

/// The taps of one worker.
#[derive(Clone)]
pub struct Taps {
    wanted: BTreeSet<String>,
    lines: Option<Sender<String>>,
    second: Instant,
    shown: std::collections::BTreeMap<String, u32>,
}

impl Taps {
    /// Taps of these names, and what receives their lines. Lines that are not taken in time are dropped.
    pub fn new(wanted: &[String]) -> (Self, crossbeam_channel::Receiver<String>) {
        let (sender, receiver) = bounded(256);
        let lines = (!wanted.is_empty()).then_some(sender);
        let taps = Self {
            wanted: wanted.iter().cloned().collect(),
            lines,
            second: Instant::now(),
            shown: std::collections::BTreeMap::new(),
        };
        (taps, receiver)
    }

    /// Shows some of these records, if somebody wants to see them.
    pub fn raw(&mut self, raw: &RawBatch) {
        let count = self.quota("raw", raw.len());
        for row in 0..count {
            let value = if raw.values.is_null(row) {
                "null".to_owned()
            } else {
                printable(&String::from_utf8_lossy(raw.values.value(row)))
            };
            self.show(format!("raw {}@{} {value}", raw.partition, raw.offsets[row]));
        }
    }

    /// Shows some of these rows, if somebody wants to see them.
    pub fn rows(&mut self, name: &str, rows: &RecordBatch) {
        let count = self.quota(name, rows.num_rows());
        if count == 0 {
            return;
        }
        let options = FormatOptions::default().with_null("null");
        let schema = rows.schema();
        let columns: Vec<_> = schema
            .fields()
            .iter()
            .zip(rows.columns())
            .filter_map(|(field, column)| Some((field.name(), ArrayFormatter::try_new(column, &options).ok()?)))
            .collect();
        let lines: Vec<String> = (0..count)
            .map(|row| {
                let values = columns
                    .iter()
                    .map(|(name, column)| format!("{name}={}", printable(&column.value(row).to_string())));
                format!("{name} {}", values.collect::<Vec<_>>().join(" "))
            })
            .collect();
        for line in lines {
            self.show(line);
        }
    }

    /// How many of `available` rows may be shown now.
    fn quota(&mut self, name: &str, available: usize) -> usize {
        if self.lines.is_none() || !self.wanted.contains(name) {
            return 0;
        }
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.second = Instant::now();
            self.shown.clear();
        }
        let shown = self.shown.entry(name.to_owned()).or_default();
        let count = (PER_SECOND.saturating_sub(*shown) as usize).min(available);
        *shown += count as u32;
        count
    }

    fn show(&mut self, line: String) {
        if let Some(Err(TrySendError::Disconnected(_))) = self.lines.as_ref().map(|lines| lines.try_send(line)) {
            self.lines = None;
        }
    }
}

/// Without control characters, which could play tricks on the terminal, and not too long.
fn printable(text: &str) -> String {
    let mut out = shown(&text.chars().take(LONGEST).collect::<String>());
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::BinaryArray;

    fn records(count: usize) -> RawBatch {
        RawBatch {
            partition: 3,
            offsets: (0..count as i64).collect(),
            broker_times_us: vec![0; count],
            appended: vec![false; count],
            values: BinaryArray::from_iter_values((0..count).map(|_| b"a\x1b[2Jb")),
            keys: BinaryArray::new_null(count),
        }
    }

    #[test]
    fn a_tap_shows_a_few_records_without_control_characters() {
        let (mut taps, lines) = Taps::new(&["raw".into()]);
        taps.raw(&records(100));
        let lines: Vec<String> = lines.try_iter().collect();
        assert_eq!(lines.len(), PER_SECOND as usize);
        assert_eq!(lines[0], "raw 3@0 a\\u{1b}[2Jb");
    }

    #[test]
    fn what_nobody_wants_is_not_shown() {
        let (mut taps, lines) = Taps::new(&["parsed".into()]);
        taps.raw(&records(1));
        assert!(lines.is_empty());
    }
}
