//! An aggregate: rows are added to states, states are merged, a state gives a result.

use crate::bindings::aggregate::exports::wasmill::plugin::aggregate as wit;
use crate::bindings::types::{Column, DataType, Encoding, Field, Rows, Values, Varlen};
use crate::codec::{Broken, Codec, Reader};
use crate::config::Config;
use crate::input::RowIn;
use crate::output::{Projection, RowOut};
use crate::slots::Slots;
use crate::time::Timestamp;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub use wit::Description;

/// The window of a group, `[start, end)`; of a session, from its first event to its last plus the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Inclusive.
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
}

/// Computes one number or several per group.
///
/// The host decides which rows belong together (window, key, session) and when a group is finished. Three laws hold
/// (`testing::aggregate_laws` checks them): cutting a batch changes nothing; merging is updating; a restored state is
/// the state that was saved, byte for byte.
pub trait Aggregate: Sized + Send + 'static {
    /// What it wants of each row: a `row_in!`, or `()`.
    type Row<'a>: RowIn<'a>;
    /// What it keeps per group: a `state!`, whose version is that of the aggregate's states.
    type State: Codec + Default + Send;
    /// What it makes of a group: a `row_out!`.
    type Output: RowOut;
    /// The older versions that `migrate` reads; those that `State` reads by itself need not be named.
    const RESTORES: &'static [u32] = &[];
    /// Whether the order of rows and merges is without influence, to the last bit.
    const COMMUTATIVE: bool = false;
    /// Whether `finish_window` wants to know the window.
    const WANTS_WINDOW: bool = false;
    /// A typical state in bytes; 0 = unknown.
    const TYPICAL_STATE_BYTES: u32 = 0;

    /// Makes the aggregate; settings that it does not take are refused.
    ///
    /// # Errors
    /// A message for the author of the pipeline file.
    fn new(config: &mut Config<'_>) -> Result<Self, String>;

    /// Adds a row to its group.
    fn add(&self, state: &mut Self::State, row: Self::Row<'_>);

    /// Adds what another state of the same group holds.
    fn merge(&self, state: &mut Self::State, other: Self::State);

    /// The group's result.
    fn finish(&self, state: &Self::State) -> Self::Output;

    /// The group's result, knowing its window; called instead of `finish` where `WANTS_WINDOW`.
    fn finish_window(&self, state: &Self::State, window: Window) -> Self::Output {
        let _ = window;
        self.finish(state)
    }

    /// Reads a state of an older version, one of `RESTORES`, where a default for each new field is not enough.
    ///
    /// `Self::State::decode(from)` does what would be done without: it may come first, or not at all.
    ///
    /// # Errors
    /// The bytes are not such a state.
    fn migrate(&self, version: u32, from: &mut Reader<'_>) -> Result<Self::State, Broken> {
        let _ = version;
        Self::State::decode(from)
    }
}

/// What the exported functions do, for any aggregate: the states of all slots. Tests call it natively.
#[derive(Debug)]
pub struct Groups<A: Aggregate> {
    aggregate: A,
    states: Slots<A::State>,
}

impl<A: Aggregate> Groups<A> {
    /// Makes the aggregate of its settings, a JSON object.
    ///
    /// # Errors
    /// A message for the author of the pipeline file.
    pub fn init(config: &str) -> Result<(Self, Description), String> {
        let instant = |name: &str| Field {
            name: name.into(),
            data_type: DataType::Timestamp,
            encoding: Encoding::Plain,
            nullable: false,
        };
        let context =
            if A::WANTS_WINDOW { [instant("window_start"), instant("window_end")].into() } else { Vec::new() };
        let description = Description {
            inputs: <A::Row<'static> as RowIn>::fields(),
            context,
            outputs: A::Output::fields(),
            state_version: A::State::VERSION,
            restores: Self::restores(),
            commutative: A::COMMUTATIVE,
            typical_state_bytes: A::TYPICAL_STATE_BYTES,
        };
        Ok((Self { aggregate: Config::make(config, A::new)?, states: Slots::new() }, description))
    }

    /// The older versions whose states are read, ascending.
    fn restores() -> Vec<u32> {
        let mut versions: Vec<u32> = (A::State::OLDEST..A::State::VERSION).chain(A::RESTORES.iter().copied()).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    /// Adds row `i` to `slots[i]`, or to nobody where that is `u32::MAX`.
    pub fn update(&mut self, slots: &[u32], inputs: &[Column]) {
        self.states.reach(slots);
        let columns = <A::Row<'_> as RowIn>::bind(inputs);
        for (row, slot) in slots.iter().enumerate() {
            if let Some(state) = self.states.get_mut(*slot) {
                self.aggregate.add(state, <A::Row<'_> as RowIn>::at(&columns, row));
            }
        }
    }

    /// Adds what `others[i]` holds to `slots[i]` and releases `others[i]`, in order.
    pub fn merge(&mut self, slots: &[u32], others: &[u32]) {
        self.states.reach(slots);
        self.states.reach(others);
        for (slot, other) in slots.iter().zip(others) {
            if slot != other {
                let other = core::mem::take(&mut self.states[*other]);
                self.aggregate.merge(&mut self.states[*slot], other);
            }
        }
    }

    /// The result of each slot: one row per slot.
    pub fn finish(&mut self, slots: &[u32], context: &[Column]) -> Rows {
        self.states.reach(slots);
        let mut builders = A::Output::builders(slots.len(), &Projection::default());
        let windows = A::WANTS_WINDOW.then(|| windows(context));
        for (row, slot) in slots.iter().enumerate() {
            let state = &self.states[*slot];
            let output = match windows {
                Some((starts, ends)) => {
                    let window = Window { start: Timestamp(starts[row]), end: Timestamp(ends[row]) };
                    self.aggregate.finish_window(state, window)
                }
                None => self.aggregate.finish(state),
            };
            output.put(&mut builders);
        }
        Rows { count: slots.len() as u32, origins: None, columns: A::Output::columns(builders) }
    }

    /// The encoded state of each slot.
    pub fn snapshot(&mut self, slots: &[u32]) -> Varlen {
        self.states.reach(slots);
        let mut states = Varlen { offsets: Vec::with_capacity(slots.len() + 1), bytes: Vec::new() };
        states.offsets.push(0);
        for slot in slots {
            self.states[*slot].encode(&mut states.bytes);
            states.offsets.push(states.bytes.len() as u32);
        }
        states
    }

    /// Gives each slot the state encoded in `version`.
    ///
    /// # Errors
    /// A message: another version, or bytes that are not a state.
    pub fn restore(&mut self, slots: &[u32], version: u32, states: &Varlen) -> Result<(), String> {
        let (own, older) = (A::State::VERSION, Self::restores());
        if version != own && !older.contains(&version) {
            let known = if older.is_empty() { String::new() } else { format!(" and of {older:?}") };
            return Err(format!("states of version {version} are not read, only those of version {own}{known}"));
        }
        self.states.reach(slots);
        for (i, slot) in slots.iter().enumerate() {
            let bytes = states.offsets.get(i..i + 2).and_then(|cut| states.bytes.get(cut[0] as usize..cut[1] as usize));
            let state = bytes.ok_or("has no bytes").and_then(|bytes| self.decode(version, bytes));
            self.states[*slot] = state.map_err(|broken| format!("state {i} of {}: {broken}", slots.len()))?;
        }
        Ok(())
    }

    fn decode(&self, version: u32, bytes: &[u8]) -> Result<A::State, Broken> {
        let mut reader = Reader::of_version(version, bytes);
        let state = if A::RESTORES.contains(&version) {
            self.aggregate.migrate(version, &mut reader)?
        } else {
            A::State::decode(&mut reader)?
        };
        if reader.rest().is_empty() { Ok(state) } else { Err("has bytes left over") }
    }

    /// Forgets these slots.
    pub fn release(&mut self, slots: &[u32]) {
        for slot in slots {
            if let Some(state) = self.states.get_mut(*slot) {
                *state = A::State::default();
            }
        }
    }
}

fn windows(context: &[Column]) -> (&[i64], &[i64]) {
    match context {
        [Column { values: Values::Timestamp(starts), .. }, Column { values: Values::Timestamp(ends), .. }] => {
            (starts, ends)
        }
        _ => unreachable!("the host sends the context it was asked for"),
    }
}

/// Makes `$plugin` this component's aggregate.
#[macro_export]
macro_rules! export_aggregate {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::aggregate::exports::wasmill::plugin::aggregate as wit;
            use $crate::bindings::types::{Column, Rows, Varlen};
            use $crate::prelude::{String, Vec};

            static GROUPS: $crate::guest::Instance<$crate::aggregate::Groups<$plugin>> = $crate::guest::Instance::new();

            struct Component;

            impl wit::Guest for Component {
                fn init(config: String) -> Result<wit::Description, String> {
                    $crate::guest::report_panics();
                    let (groups, description) = $crate::aggregate::Groups::init(&config)?;
                    GROUPS.set(groups);
                    Ok(description)
                }

                fn update(slots: Vec<u32>, inputs: Vec<Column>) {
                    GROUPS.with(|groups| groups.update(&slots, &inputs));
                }

                fn merge(slots: Vec<u32>, others: Vec<u32>) {
                    GROUPS.with(|groups| groups.merge(&slots, &others));
                }

                fn finish(slots: Vec<u32>, context: Vec<Column>) -> Rows {
                    GROUPS.with(|groups| groups.finish(&slots, &context))
                }

                fn snapshot(slots: Vec<u32>) -> Varlen {
                    GROUPS.with(|groups| groups.snapshot(&slots))
                }

                fn restore(slots: Vec<u32>, version: u32, states: Varlen) -> Result<(), String> {
                    GROUPS.with(|groups| groups.restore(&slots, version, &states))
                }

                fn release(slots: Vec<u32>) {
                    GROUPS.with(|groups| groups.release(&slots));
                }
            }

    $crate::bindings::aggregate::export_aggregate_world!(Component with_types_in $crate::bindings::aggregate);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{aggregate_laws, migrated, migration_laws, state_of};
    use crate::{row_in, row_out, state};

    row_in! { struct Row { amount: i64 } }
    row_out! { struct Sum { total: i64 } }
    state! { struct First { rows: u64 } }
    state! { struct Second { rows: u64 } since 2 { total: i64 } }
    state! { struct Third since 3 { total: i64, rows: u64, before: u64 } }

    macro_rules! sums {
        ($($name:ident = $state:ty, |$into:ident, $amount:ident| $add:expr, |$to:ident, $other:ident| $merge:expr,
            { $($more:item)* })*) => {$(
            struct $name;

            impl Aggregate for $name {
                type Row<'a> = Row;
                type State = $state;
                type Output = Sum;
                const COMMUTATIVE: bool = true;
                $($more)*

                fn new(_: &mut Config<'_>) -> Result<Self, String> {
                    Ok(Self)
                }

                fn add(&self, $into: &mut $state, row: Row) {
                    let $amount = row.amount;
                    $into.rows += 1;
                    $add;
                }

                fn merge(&self, $to: &mut $state, $other: $state) {
                    $to.rows += $other.rows;
                    $merge;
                }

                fn finish(&self, state: &$state) -> Sum {
                    Sum { total: state.rows as i64 }
                }
            }
        )*};
    }

    sums! {
        Counts = First, |_state, _amount| {}, |_state, _other| {}, {}
        Totals = Second, |state, amount| state.total += amount, |state, other| state.total += other.total, {}
        ByHand = Third, |state, amount| state.total += amount,
            |state, other| { state.total += other.total; state.before += other.before },
            {
                const RESTORES: &'static [u32] = &[1];

                fn migrate(&self, _: u32, from: &mut Reader<'_>) -> Result<Third, Broken> {
                    let First { rows } = First::decode(from)?;
                    Ok(Third { total: 0, rows, before: rows })
                }
            }
        Forgetful = Second, |state, amount| state.total = amount, |state, other| state.total += other.total, {}
    }

    fn rows() -> Vec<Row> {
        (0..60).map(|amount| Row { amount }).collect()
    }

    fn versions<A: Aggregate>() -> (u32, Vec<u32>) {
        let description = Groups::<A>::init("{}").unwrap().1;
        (description.state_version, description.restores)
    }

    #[test]
    fn the_versions_are_those_of_the_state_and_of_what_is_read_by_hand() {
        assert_eq!(versions::<Counts>(), (1, [].into()));
        assert_eq!(versions::<Totals>(), (2, [1].into()));
        assert_eq!(versions::<ByHand>(), (3, [1].into()));
    }

    #[test]
    fn a_field_that_is_new_is_empty_in_old_states() {
        aggregate_laws::<Totals>("{}", &rows());
        migration_laws::<Counts, Totals>("{}", &rows(), &rows());
    }

    #[test]
    fn an_old_state_is_read_by_hand_where_a_default_is_not_enough() {
        migration_laws::<Counts, ByHand>("{}", &rows(), &rows());
        let old = state_of::<Counts>("{}", &rows());
        assert_eq!(migrated::<ByHand>("{}", 1, &old), Ok([0, 60, 60].into()));
        let error = migrated::<ByHand>("{}", 2, &old).unwrap_err();
        assert_eq!(error, "states of version 2 are not read, only those of version 3 and of [1]");
    }

    #[test]
    #[should_panic(expected = "going on is merging what comes after")]
    fn a_new_version_that_forgets_what_was_is_found() {
        migration_laws::<Totals, Forgetful>("{}", &rows(), &rows());
    }
}
