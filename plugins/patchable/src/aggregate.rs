//! The aggregate: how many events, the sum of their revenue in cents, and the sum of their ids' hashes.
//!
//! An event that is missing, or there twice, or in another group, shows in `ids`. Version 2 counts the events that it
//! has seen itself, too, as `newer`. It is written on the raw bindings, as the SDK would not let it lie.

use crate::behaviour::Behaviour;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use wasmill_sdk::bindings::aggregate::exports::wasmill::plugin::aggregate::Description;
use wasmill_sdk::bindings::types::{Column, DataType, Encoding, Field, Rows, Values, Varlen};
use wasmill_sdk::input::{Hash64, RowIn};
use wasmill_sdk::row_in;

row_in! {
    /// What is asked of each row.
    pub struct Event { event_id: Option<Hash64>, revenue: Option<f64> }
}

/// The sums of one slot.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    events: i64,
    amount: i64,
    ids: i64,
    newer: i64,
}

/// How many numbers a state of version 1 has; a newer one has `newer` besides.
const NUMBERS: usize = 3;

impl Tally {
    fn numbers(&self, version: u32) -> Vec<i64> {
        let mut numbers = vec![self.events, self.amount, self.ids];
        if version > 1 {
            numbers.push(self.newer);
        }
        numbers
    }

    fn of_numbers(version: u32, bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks();
        let numbers: Vec<i64> = numbers.iter().copied().map(i64::from_le_bytes).collect();
        match (version, rest, &numbers[..]) {
            (1, [], &[events, amount, ids]) => Some(Self { events, amount, ids, newer: 0 }),
            (2.., [], &[events, amount, ids, newer]) => Some(Self { events, amount, ids, newer }),
            _ => None,
        }
    }
}

/// The sums of all slots.
#[derive(Debug)]
pub struct Tallies {
    behaviour: Behaviour,
    tallies: BTreeMap<u32, Tally>,
}

impl Tallies {
    /// One without rows.
    ///
    /// # Errors
    /// It is told to do what there is not, or to refuse.
    pub fn new() -> Result<Self, String> {
        let mut behaviour = Behaviour::of_this_file()?;
        behaviour.init()?;
        Ok(Self { behaviour, tallies: BTreeMap::new() })
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> Description {
        let number = |name: &str| Field {
            name: name.into(),
            data_type: DataType::Int64,
            encoding: Encoding::Plain,
            nullable: false,
        };
        let version = self.behaviour.version();
        let mut inputs = Event::fields();
        if self.behaviour.is("unfit-input") {
            inputs.push(number("wealth"));
        }
        let mut outputs: Vec<Field> = ["events", "amount", "ids", "newer"].map(number).into();
        outputs.truncate(NUMBERS + usize::from(version > 1));
        if self.behaviour.is("other-schema") {
            outputs[0].data_type = DataType::Float64;
        }
        Description {
            inputs,
            context: Vec::new(),
            outputs,
            state_version: version,
            restores: if version == 2 { vec![1] } else { Vec::new() },
            commutative: true,
            typical_state_bytes: (NUMBERS * size_of::<i64>()) as u32,
        }
    }

    /// Counts rows.
    pub fn update(&mut self, slots: &[u32], inputs: &[Column]) {
        self.behaviour.called("update");
        let columns = Event::bind(inputs);
        let mut cut = i64::from(self.behaviour.is("cuts-matter"));
        for (row, slot) in slots.iter().enumerate().filter(|(_, slot)| **slot != u32::MAX) {
            let event = Event::at(&columns, row);
            let tally = self.tallies.entry(*slot).or_default();
            tally.events += 1;
            tally.newer += 1;
            tally.amount += event.revenue.map_or(0, cents) + self.behaviour.error_on(event.event_id) + cut;
            tally.ids = tally.ids.wrapping_add(event.event_id.map_or(0, |id| id.0.cast_signed()));
            cut = 0;
        }
    }

    /// Adds the others' sums.
    pub fn merge(&mut self, slots: &[u32], others: &[u32]) {
        self.behaviour.called("merge");
        for (slot, other) in slots.iter().zip(others).filter(|(slot, other)| slot != other) {
            let other = self.tallies.remove(other).unwrap_or_default();
            let tally = self.tallies.entry(*slot).or_default();
            tally.events += other.events;
            tally.newer += other.newer;
            tally.ids = tally.ids.wrapping_add(other.ids);
            if self.behaviour.is("merge-not-associative") {
                tally.amount = (tally.amount - other.amount).abs();
            } else if !self.behaviour.is("merge-not-commutative") {
                tally.amount += other.amount;
            }
        }
    }

    /// The sums.
    pub fn finish(&mut self, slots: &[u32]) -> Rows {
        self.behaviour.called("finish");
        let version = self.behaviour.version();
        let random = if self.behaviour.is("random") { self.behaviour.calls("finish").cast_signed() } else { 0 };
        let mut columns = vec![Vec::with_capacity(slots.len()); NUMBERS + usize::from(version > 1)];
        for slot in slots {
            let mut tally = self.tallies.get(slot).copied().unwrap_or_default();
            tally.amount += random;
            for (column, number) in columns.iter_mut().zip(tally.numbers(version)) {
                column.push(number);
            }
        }
        let mut columns: Vec<Values> = columns.into_iter().map(Values::Int64).collect();
        if self.behaviour.is("other-schema")
            && let Some(Values::Int64(events)) = columns.first()
        {
            columns[0] = Values::Float64(events.iter().map(|events| *events as f64).collect());
        }
        if self.behaviour.withholds_a_column("finish") {
            columns.pop();
        }
        let columns = columns.into_iter().map(|values| Column { values, validity: None }).collect();
        Rows { count: slots.len() as u32, origins: None, columns }
    }

    /// The sums, encoded.
    pub fn snapshot(&mut self, slots: &[u32]) -> Varlen {
        self.behaviour.called("snapshot");
        let mut states = Varlen { offsets: vec![0], bytes: Vec::new() };
        for slot in slots {
            let tally = self.tallies.get(slot).copied().unwrap_or_default();
            for number in tally.numbers(self.behaviour.version()) {
                states.bytes.extend_from_slice(&number.to_le_bytes());
            }
            states.offsets.push(states.bytes.len() as u32);
        }
        states
    }

    /// Takes sums back.
    ///
    /// # Errors
    /// It is told to refuse, or the states are none of this version.
    pub fn restore(&mut self, slots: &[u32], version: u32, states: &Varlen) -> Result<(), String> {
        self.behaviour.called("restore");
        if self.behaviour.is("refuse-restore") {
            return Err("it was told to refuse".into());
        }
        for (slot, ends) in slots.iter().zip(states.offsets.windows(2)) {
            let bytes = &states.bytes[ends[0] as usize..ends[1] as usize];
            let mut tally = Tally::of_numbers(version, bytes).ok_or("not a state of this version")?;
            if self.behaviour.is("restore-forgets") {
                tally.amount = 0;
            }
            self.tallies.insert(*slot, tally);
        }
        Ok(())
    }

    /// Forgets slots.
    pub fn release(&mut self, slots: &[u32]) {
        self.behaviour.called("release");
        for slot in slots {
            self.tallies.remove(slot);
        }
    }
}

/// A sum of money in whole cents.
fn cents(revenue: f64) -> i64 {
    let cents = revenue * 100.0;
    (if cents < 0.0 { cents - 0.5 } else { cents + 0.5 }) as i64
}
