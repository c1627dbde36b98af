//! The hostile aggregate: it counts rows, until a row or its settings tell it otherwise.
//!
//! A word that starts with `!` and a letter is a crime committed in `update`, unless it is `mended`. The setting
//! `crime` is one committed in another call: `finish` and a letter, `snapshot short`, `snapshot trap`, `restore refuse`,
//! `release trap`, `merge trap`, `grow` (its states grow by 1 MiB a row), `fickle` (no two answers are the same).

use crate::{Column, Rows, column, deep, endless, flood, grow, lie, trap, words, words_column};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use wasmill_sdk::bindings::types::{Values, Varlen};

/// What a row adds to a state that grows.
const HOARD_BYTES: usize = 1 << 20;

/// How many bytes of a state are the count; the rest is hoarded.
const COUNT_BYTES: usize = 8;

/// Counts of slots, and what to do wrong.
pub struct Hostile {
    crime: String,
    mended: bool,
    states: BTreeMap<u32, State>,
    calls: i64,
}

#[derive(Default)]
struct State {
    events: i64,
    hoard: Vec<u8>,
}

impl Hostile {
    /// One with these settings.
    #[must_use]
    pub fn new(config: &str) -> Self {
        let crime = config.split_once("\"crime\":\"").and_then(|(_, rest)| rest.split('"').next());
        let crime = crime.unwrap_or_default().to_string();
        Self { crime, mended: config.contains("mended"), states: BTreeMap::new(), calls: 0 }
    }

    fn is(&self, crime: &str) -> bool {
        self.crime == crime
    }

    /// Counts a row, or fails on it.
    pub fn update(&mut self, slots: &[u32], inputs: &[Column]) {
        for (&slot, word) in slots.iter().zip(words(inputs)) {
            if slot == u32::MAX {
                continue;
            }
            let grows = self.is("grow");
            let state = self.states.entry(slot).or_default();
            state.events += 1;
            if grows {
                state.hoard.resize(state.hoard.len() + HOARD_BYTES, 1);
            }
            if let [b'!', crime, ..] = *word
                && !self.mended
            {
                commit(crime);
            }
        }
    }

    /// Adds the others' counts.
    pub fn merge(&mut self, slots: &[u32], others: &[u32]) {
        if self.is("merge trap") {
            trap();
        }
        for (&slot, other) in slots.iter().zip(others) {
            let other = self.states.remove(other).unwrap_or_default();
            self.states.entry(slot).or_default().events += other.events;
        }
    }

    /// A label, the count and a number that is none, of each slot.
    pub fn finish(&mut self, slots: &[u32]) -> Rows {
        self.calls += 1;
        let events = |slot: &u32| self.states.get(slot).map_or(0, |state| state.events);
        let mut events: Vec<i64> = slots.iter().map(events).collect();
        if self.is("fickle") {
            for events in &mut events {
                *events += self.calls;
            }
        }
        let labels: Vec<&[u8]> = slots.iter().map(|_| b"label".as_slice()).collect();
        let count = slots.len() as u32;
        let nan = column(Values::Float64(vec![f64::NAN; slots.len()]));
        let columns = vec![words_column(&labels), column(Values::Int64(events)), nan];
        let mut rows = Rows { count, origins: None, columns };
        if let Some(crime) = self.crime.strip_prefix("finish ").and_then(|crime| crime.bytes().next()) {
            commit(crime);
            lie(crime, 0, &mut rows);
        }
        rows
    }

    /// The counts.
    pub fn snapshot(&mut self, slots: &[u32]) -> Varlen {
        if self.is("snapshot trap") {
            trap();
        }
        let slots = if self.is("snapshot short") { slots.get(1..).unwrap_or_default() } else { slots };
        let mut states = Varlen { offsets: vec![0], bytes: Vec::new() };
        for slot in slots {
            if let Some(state) = self.states.get(slot) {
                states.bytes.extend_from_slice(&state.events.to_le_bytes());
                states.bytes.extend_from_slice(&state.hoard);
            }
            states.offsets.push(states.bytes.len() as u32);
        }
        states
    }

    /// Takes counts back.
    ///
    /// # Errors
    /// Where it was told to refuse, or the states are not its own.
    pub fn restore(&mut self, slots: &[u32], states: &Varlen) -> Result<(), String> {
        if self.is("restore refuse") {
            return Err("it remembers nothing of the kind".to_string());
        }
        for (&slot, ends) in slots.iter().zip(states.offsets.windows(2)) {
            let state = &states.bytes[ends[0] as usize..ends[1] as usize];
            let (count, hoard) = state.split_at_checked(COUNT_BYTES).ok_or("a state is too short")?;
            let events = i64::from_le_bytes(count.try_into().map_err(|_| "a count has eight bytes")?);
            self.states.insert(slot, State { events, hoard: hoard.to_vec() });
        }
        Ok(())
    }

    /// Forgets slots.
    pub fn release(&mut self, slots: &[u32]) {
        if self.is("release trap") {
            trap();
        }
        for slot in slots {
            self.states.remove(slot);
        }
    }
}

/// The crimes that never come back, and the one that is only a nuisance.
#[expect(clippy::panic, reason = "it is one of the crimes")]
fn commit(crime: u8) {
    match crime {
        b'T' => trap(),
        b'P' => panic!("the panic that was asked for"),
        b'L' => endless(),
        b'M' => grow(),
        b'S' => {
            black_box(deep(0));
        }
        b'F' => flood(),
        _ => {}
    }
}
