//! Aggregates: a good one with one flaw at a time.

use crate::laws::{self, Broken, Law, Sample, Tried};
use crate::plugin::{
    Aggregate, AggregateDescription, DataType, Encoding, Fault, FaultKind, Field, Finished, NOBODY, timestamp_type,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, BinaryArray, Float64Array, Int64Array, TimestampMicrosecondArray};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a tally does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Its results depend on the number of the instance.
    Instances,
    /// Each result is counted as an event.
    FinishCounts,
    /// A row counts double while there are other groups.
    Crowd,
    /// A row of nobody belongs to the group of the row before.
    NobodyCounts,
    /// Every call adds one to the total.
    CallsCount,
    /// A restored group has an event more.
    RestoreAdds,
    /// It does not read what it wrote.
    RestoreRefuses,
    /// A value that is the last one of its group does not count; which one that was is not in the state.
    LastUnsaved,
    /// `release` does nothing.
    NeverReleased,
    /// `merge` does not release.
    MergeKeeps,
    /// The total is the last value.
    LastCounts,
    /// The greater total is kept.
    MergeMax,
    /// What was merged into once ignores the next.
    MergeOnce,
    /// Nothing is merged into a slot of a higher number.
    MergeDown,
    /// It traps on 13.
    Traps,
    /// It hangs on 13.
    Hangs,
    /// The total of three rows and more is null.
    Nulls,
    /// A state of an older version is read with a total that is not saved.
    Legacy,
    /// A row does not count in a group that was read in an older version.
    LegacyStays,
}

/// Counts rows and adds up their values.
struct Tally {
    description: AggregateDescription,
    flaw: Flaw,
    instance: i64,
    slots: BTreeMap<u32, State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    events: i64,
    total: i64,
    // None of these is in the snapshot.
    last: Option<i64>,
    merged: bool,
    legacy: i64,
    stays: bool,
}

fn field(name: &str, data_type: DataType) -> Field {
    Field { name: name.into(), data_type, encoding: Encoding::Plain, nullable: false }
}

fn fault(kind: FaultKind, message: &str) -> Fault {
    Fault { plugin: "tally".into(), kind, message: message.into(), backtrace: Vec::new() }
}

impl Tally {
    fn new(flaw: Flaw, instance: i64) -> Self {
        let description = AggregateDescription {
            inputs: vec![field("value", DataType::Int64)],
            context: vec![field("window_end", DataType::Timestamp)],
            outputs: vec![
                field("events", DataType::Int64),
                field("total", DataType::Int64),
                field("end", DataType::Timestamp),
            ],
            state_version: 2,
            restores: vec![1],
            commutative: true,
        };
        Self { description, flaw, instance, slots: BTreeMap::new() }
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }
}

impl Aggregate for Tally {
    fn description(&self) -> &AggregateDescription {
        &self.description
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        let mut before = NOBODY;
        let mut seen = Vec::new();
        for (&slot, &value) in slots.iter().zip(inputs[0].as_primitive::<Int64Type>().values()) {
            let slot = if slot == NOBODY && self.is(Flaw::NobodyCounts) { before } else { slot };
            before = slot;
            match (self.flaw, value) {
                (Flaw::Traps, 13) => return Err(fault(FaultKind::Trap, "unlucky")),
                (Flaw::Hangs, 13) => return Err(fault(FaultKind::Deadline, "forever")),
                _ if slot == NOBODY => continue,
                _ => {}
            }
            let crowd = self.is(Flaw::Crowd) && self.slots.keys().any(|other| *other != slot);
            let (flaw, state) = (self.flaw, self.slots.entry(slot).or_default());
            let repeated = flaw == Flaw::LastUnsaved && state.last == Some(value);
            if state.stays {
                continue;
            }
            state.last = Some(value);
            state.events += 1;
            state.total = match flaw {
                Flaw::LastCounts => value,
                _ if repeated => state.total,
                _ => state.total + value + if crowd { value } else { 0 },
            };
            if flaw == Flaw::CallsCount && !seen.contains(&slot) {
                seen.push(slot);
                state.total += 1;
            }
        }
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        for (slot, other) in slots.iter().zip(others) {
            let from = self.slots.remove(other).unwrap_or_default();
            if self.is(Flaw::MergeKeeps) {
                self.slots.insert(*other, from);
            }
            let (flaw, into) = (self.flaw, self.slots.entry(*slot).or_default());
            if (flaw == Flaw::MergeOnce && into.merged) || (flaw == Flaw::MergeDown && other < slot) {
                continue;
            }
            into.merged = true;
            into.events += from.events;
            into.total = match flaw {
                Flaw::MergeMax => into.total.max(from.total),
                Flaw::LastCounts if from.events > 0 => from.total,
                Flaw::LastCounts => into.total,
                _ => into.total + from.total,
            };
        }
        Ok(())
    }

    fn finish(&mut self, slots: &[u32], context: &[ArrayRef]) -> Result<Finished, Fault> {
        let states: Vec<State> = slots.iter().map(|slot| self.slots.get(slot).copied().unwrap_or_default()).collect();
        for slot in slots.iter().filter(|_| self.flaw == Flaw::FinishCounts) {
            self.slots.entry(*slot).or_default().events += 1;
        }
        let salt = if self.is(Flaw::Instances) { self.instance } else { 0 };
        let ends = context[0].as_primitive::<TimestampMicrosecondType>().values();
        let total = |state: &State| {
            let null = self.is(Flaw::Nulls) && state.events >= 3;
            (!null).then_some(state.total + state.legacy + salt)
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(states.iter().map(|state| state.events).collect::<Int64Array>()),
            Arc::new(states.iter().map(total).collect::<Int64Array>()),
            Arc::new(TimestampMicrosecondArray::new(ends.clone(), None).with_data_type(timestamp_type())),
        ];
        Ok(Finished { columns, origins: None })
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        let encode = |slot: &u32| {
            let state = self.slots.get(slot).copied().unwrap_or_default();
            Some([state.events.to_le_bytes(), state.total.to_le_bytes()].concat())
        };
        Ok(slots.iter().map(encode).collect())
    }

    fn restore(&mut self, slots: &[u32], version: u32, states: &BinaryArray) -> Result<(), Fault> {
        for (slot, state) in slots.iter().zip(states.iter().flatten()) {
            let number = |at: usize| {
                let bytes = state.get(at..at + 8).ok_or_else(|| fault(FaultKind::Refused, "too short"))?;
                Ok::<i64, Fault>(i64::from_le_bytes(bytes.try_into().expect("eight bytes")))
            };
            let mut restored = State { events: number(0)?, ..State::default() };
            match (self.flaw, version) {
                (Flaw::RestoreRefuses, 2) => return Err(fault(FaultKind::Refused, "never heard of")),
                (Flaw::Legacy, 1) => restored.legacy = 7,
                (Flaw::LegacyStays, 1) => restored.stays = true,
                (_, 1) => {}
                _ => restored.total = number(8)?,
            }
            restored.events += i64::from(self.is(Flaw::RestoreAdds));
            self.slots.insert(*slot, restored);
        }
        Ok(())
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        if !self.is(Flaw::NeverReleased) {
            self.slots.retain(|slot, _| !slots.contains(slot));
        }
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Fault> {
        self.slots.clear();
        Ok(())
    }
}

/// Batches with seven groups, some rows of nobody, and values from 0 to 19, some of them twice in a row.
fn samples(batches: usize, rows: usize) -> Vec<Sample> {
    let sample = |first: usize| {
        let slots = (first..first + rows).map(|i| if i % 11 == 10 { NOBODY } else { 40 + (i / 3 % 7) as u32 });
        let values: Int64Array = (first..first + rows).map(|i| (i / 2 * 7 % 20) as i64).collect();
        Sample { slots: slots.collect(), inputs: vec![Arc::new(values)] }
    };
    (0..batches).map(|n| sample(n * rows)).collect()
}

fn tried_on(flaw: Flaw, samples: &[Sample], states: &[(u32, Vec<u8>)]) -> Result<Tried, Broken> {
    let mut instances = 0;
    let mut make = || {
        instances += 1;
        Ok(Box::new(Tally::new(flaw, instances)) as Box<dyn Aggregate>)
    };
    laws::aggregate(&mut make, samples, states)
}

fn old_state(events: i64) -> (u32, Vec<u8>) {
    (1, events.to_le_bytes().to_vec())
}

fn broken(flaw: Flaw) -> Broken {
    tried_on(flaw, &samples(4, 500), &[old_state(3), old_state(4)]).unwrap_err()
}

#[test]
fn an_aggregate_without_flaw_keeps_all_laws() {
    let tried = tried_on(Flaw::None, &samples(4, 500), &[old_state(3), old_state(4)]).unwrap();
    assert_eq!(tried, Tried { batches: 4, rows: 2000 });
}

#[test]
fn no_more_is_looked_at_than_was_said() {
    let tried = tried_on(Flaw::None, &samples(5, laws::MAX_BATCH_ROWS + 1), &[]).unwrap();
    assert_eq!(tried, Tried { batches: laws::MAX_BATCHES, rows: laws::MAX_BATCHES * laws::MAX_BATCH_ROWS });
}

#[test]
fn without_rows_nothing_is_shown_and_that_is_said() {
    assert_eq!(tried_on(Flaw::Traps, &[], &[]).unwrap(), Tried::default());
}

#[test]
fn each_flaw_is_named_and_shown_with_the_fewest_rows() {
    for (flaw, law, items) in [
        (Flaw::Instances, Law::Determinism, 1),
        (Flaw::FinishCounts, Law::Finish, 1),
        (Flaw::Crowd, Law::GroupsApart, 2),
        (Flaw::NobodyCounts, Law::Nobody, 2),
        (Flaw::CallsCount, Law::Cut, 2),
        (Flaw::RestoreAdds, Law::Restore, 1),
        (Flaw::RestoreRefuses, Law::Restore, 1),
        (Flaw::LastUnsaved, Law::Resume, 2),
        (Flaw::NeverReleased, Law::Release, 2),
        (Flaw::MergeKeeps, Law::Release, 2),
        (Flaw::LastCounts, Law::RowOrder, 2),
        (Flaw::MergeMax, Law::MergeIsUpdate, 2),
        (Flaw::MergeOnce, Law::MergeAssociative, 2),
        (Flaw::MergeDown, Law::MergeCommutative, 1),
        (Flaw::Traps, Law::NoFault, 1),
        (Flaw::Hangs, Law::NoFault, 1),
        (Flaw::Nulls, Law::Declared, 3),
        (Flaw::Legacy, Law::Migration, 1),
        (Flaw::LegacyStays, Law::Migration, 1),
    ] {
        let broken = broken(flaw);
        assert_eq!((broken.law, broken.items), (law, items), "{flaw:?}: {broken}");
    }
}

#[test]
fn the_message_names_group_column_and_both_values() {
    let broken = broken(Flaw::CallsCount);
    let [first, cut, second] = broken.input.as_slice() else { unreachable!("{broken}") };
    let value = |line: &String| line.rsplit(' ').next().unwrap().parse::<i64>().unwrap();
    let group = first.split(':').next().unwrap();
    assert_eq!((cut.as_str(), second.split(':').next()), ("--", Some(group)));
    let sum = value(first) + value(second);
    assert_eq!(broken.message, format!("{group}: `total` is {} in whole batches, and {} cut", sum + 1, sum + 2));
    assert!(broken.to_string().starts_with("breaks the law \"cutting a batch changes nothing\": group "), "{broken}");
    assert!(broken.to_string().ends_with(&format!("the smallest input found:\n  {first}\n  --\n  {second}")));
}

#[test]
fn a_fault_is_told_in_its_own_words() {
    let broken = broken(Flaw::Traps);
    assert_eq!(broken.message, "tally: trapped: unlucky");
    assert!(broken.input[0].ends_with(": value = 13"), "{broken}");
}

#[test]
fn a_state_that_is_refused_is_shown() {
    let states = [old_state(1), (1, vec![0xAB, 0xCD]), old_state(2)];
    let broken = tried_on(Flaw::None, &samples(1, 10), &states).unwrap_err();
    assert_eq!(broken.law, Law::Migration);
    assert_eq!((broken.message.as_str(), broken.items), ("refuses a state: too short", 1));
    assert_eq!(broken.input, ["version 1: 0xabcd (2 bytes)"]);
}

#[test]
fn what_hangs_is_not_asked_often() {
    let mut updates = 0;
    let mut make = || {
        updates += 1;
        Ok(Box::new(Tally::new(Flaw::Hangs, 0)) as Box<dyn Aggregate>)
    };
    laws::aggregate(&mut make, &samples(4, 4096), &[]).unwrap_err();
    assert!(updates < 100, "made {updates} instances");
}

#[test]
fn one_that_does_not_start_breaks_the_first_law() {
    let mut make = || Err(fault(FaultKind::Memory, "too much"));
    let broken = laws::aggregate(&mut make, &samples(1, 10), &[]).unwrap_err();
    assert_eq!((broken.law, broken.items), (Law::NoFault, 0));
    assert!(broken.to_string().ends_with("tally: exceeded its memory limit: too much; without any input"));
}

/// Adds up floats, with the rounding that the order brings.
struct Floats {
    description: AggregateDescription,
    sums: BTreeMap<u32, f64>,
}

impl Floats {
    fn new(commutative: bool) -> Self {
        let description = AggregateDescription {
            inputs: vec![field("amount", DataType::Float64)],
            context: vec![],
            outputs: vec![field("sum", DataType::Float64)],
            state_version: 1,
            restores: vec![],
            commutative,
        };
        Self { description, sums: BTreeMap::new() }
    }
}

impl Aggregate for Floats {
    fn description(&self) -> &AggregateDescription {
        &self.description
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        for (&slot, amount) in slots.iter().zip(inputs[0].as_primitive::<Float64Type>().values()) {
            *self.sums.entry(slot).or_default() += amount;
        }
        self.sums.remove(&NOBODY);
        Ok(())
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        for (slot, other) in slots.iter().zip(others) {
            let other = self.sums.remove(other).unwrap_or_default();
            *self.sums.entry(*slot).or_default() += other;
        }
        Ok(())
    }

    fn finish(&mut self, slots: &[u32], _: &[ArrayRef]) -> Result<Finished, Fault> {
        let sums: Float64Array = slots.iter().map(|slot| self.sums.get(slot).copied().unwrap_or_default()).collect();
        Ok(Finished { columns: vec![Arc::new(sums)], origins: None })
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        Ok(slots.iter().map(|slot| Some(self.sums.get(slot).copied().unwrap_or_default().to_le_bytes())).collect())
    }

    fn restore(&mut self, slots: &[u32], _: u32, states: &BinaryArray) -> Result<(), Fault> {
        for (slot, state) in slots.iter().zip(states.iter().flatten()) {
            self.sums.insert(*slot, f64::from_le_bytes(state.try_into().expect("eight bytes")));
        }
        Ok(())
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        self.sums.retain(|slot, _| !slots.contains(slot));
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Fault> {
        self.sums.clear();
        Ok(())
    }
}

fn amounts() -> Vec<Sample> {
    let amounts: Float64Array = (0..2000).map(|i| f64::from(i * 7919 % 1000 - 500) / 10.0).collect();
    vec![Sample { slots: (0..2000).map(|i| i % 5).collect(), inputs: vec![Arc::new(amounts)] }]
}

#[test]
fn floats_may_be_rounded_where_order_counts() {
    let mut make = || Ok(Box::new(Floats::new(false)) as Box<dyn Aggregate>);
    assert_eq!(laws::aggregate(&mut make, &amounts(), &[]).unwrap().rows, 2000);
}

#[test]
fn floats_may_not_be_rounded_where_order_is_said_not_to_count() {
    let mut make = || Ok(Box::new(Floats::new(true)) as Box<dyn Aggregate>);
    let broken = laws::aggregate(&mut make, &amounts(), &[]).unwrap_err();
    assert_eq!((broken.law, broken.items), (Law::RowOrder, 3), "{broken}");
}
