//! What groups came to, their states and results, and where two of these differ.

use super::super::failure::{Failure, check_declared};
use super::super::rows::Row;
use super::super::{Law, text};
use super::{Sample, window_of};
use crate::plugin::{Aggregate, AggregateDescription, timestamp_type};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, BinaryArray, TimestampMicrosecondArray, UInt32Array};
use std::ops::Range;
use std::sync::Arc;

/// How much a float may differ that was added up in another order, relative to what was added up.
const ROUNDING: f64 = 1e-6;

/// States and results of some groups, one after the other.
pub(super) struct Outcome {
    pub(super) states: BinaryArray,
    columns: Vec<ArrayRef>,
    /// The rows of each group.
    rows: Vec<Range<usize>>,
}

impl Outcome {
    /// Of `groups`, which are in `slots`.
    pub(super) fn of(
        aggregate: &mut dyn Aggregate,
        description: &AggregateDescription,
        slots: &[u32],
        groups: &[u32],
    ) -> Result<Self, Failure> {
        let states = aggregate.snapshot(slots)?;
        if states.len() != slots.len() || states.null_count() > 0 {
            let message = format!(
                "snapshot gives {} states, {} of them null; wanted {}",
                states.len(),
                states.null_count(),
                slots.len()
            );
            return Err(Failure::new(Law::Declared, message));
        }
        let finished = aggregate.finish(slots, &context(description, groups))?;
        let count = finished
            .origins
            .as_ref()
            .map_or_else(|| finished.columns.first().map_or(slots.len(), Array::len), Vec::len);
        let origins = finished.origins.as_deref();
        check_declared(&description.outputs, &finished.columns, count, origins, slots.len())?;
        let rows = match origins {
            None => (0..count).map(|row| row..row + 1).collect(),
            Some(origins) => (0..slots.len() as u32)
                .map(|slot| {
                    let before = |edge: u32| origins.partition_point(|origin| *origin < edge);
                    before(slot)..before(slot + 1)
                })
                .collect(),
        };
        Ok(Self { states, columns: finished.columns, rows })
    }

    /// The same of the same groups the other way round.
    pub(super) fn reversed(&self) -> Self {
        let groups: UInt32Array = (0..self.rows.len() as u32).rev().collect();
        let states = arrow_select::take::take(&self.states, &groups, None).expect("each group has a state");
        let (mut rows, mut order) = (Vec::new(), Vec::new());
        for range in self.rows.iter().rev() {
            rows.push(order.len()..order.len() + range.len());
            order.extend(range.clone().map(|row| row as u32));
        }
        let order = UInt32Array::from(order);
        let take =
            |column: &ArrayRef| arrow_select::take::take(column, &order, None).expect("rows are within the answer");
        Self { states: states.as_binary().clone(), columns: self.columns.iter().map(take).collect(), rows }
    }

    /// Where it differs from another of the same groups, as a sentence. `names` say which is which.
    pub(super) fn difference(
        &self,
        other: &Self,
        description: &AggregateDescription,
        groups: &[u32],
        names: (&str, &str),
    ) -> Option<String> {
        if self.states == other.states && self.columns == other.columns && self.rows == other.rows {
            return None;
        }
        let same = |column: usize, a: usize, b: usize| {
            self.columns[column].slice(a, 1).as_ref() == other.columns[column].slice(b, 1).as_ref()
        };
        let result = self.result_difference(other, description, groups, names, same);
        result.or_else(|| self.state_difference(other, groups, names))
    }

    /// As [`Self::difference`] of the results alone, where floats may be rounded otherwise. `magnitude` is the most
    /// that could have been added up.
    pub(super) fn difference_but_for_rounding(
        &self,
        other: &Self,
        description: &AggregateDescription,
        groups: &[u32],
        names: (&str, &str),
        magnitude: f64,
    ) -> Option<String> {
        let same = |column: usize, a: usize, b: usize| {
            let (one, other) = (self.columns[column].slice(a, 1), other.columns[column].slice(b, 1));
            if one.as_ref() == other.as_ref() {
                return true;
            }
            let (Some(one), Some(other)) =
                (one.as_primitive_opt::<Float64Type>(), other.as_primitive_opt::<Float64Type>())
            else {
                return false;
            };
            let (valid, one, other) = (one.is_valid(0) && other.is_valid(0), one.value(0), other.value(0));
            let allowed = ROUNDING * (one.abs() + other.abs() + magnitude);
            valid && (one - other).abs() <= allowed
        };
        self.result_difference(other, description, groups, names, same)
    }

    fn result_difference(
        &self,
        other: &Self,
        description: &AggregateDescription,
        groups: &[u32],
        (here, there): (&str, &str),
        same: impl Fn(usize, usize, usize) -> bool,
    ) -> Option<String> {
        for ((group, one), two) in groups.iter().zip(&self.rows).zip(&other.rows) {
            if one.len() != two.len() {
                return Some(format!("group {group} has {} rows {here}, and {} {there}", one.len(), two.len()));
            }
            for (a, b) in one.clone().zip(two.clone()) {
                for (column, field) in description.outputs.iter().enumerate() {
                    if !same(column, a, b) {
                        let shown = |columns: &[ArrayRef], row| text::value(&columns[column], row);
                        let (one, two) = (shown(&self.columns, a), shown(&other.columns, b));
                        return Some(format!("group {group}: `{}` is {one} {here}, and {two} {there}", field.name));
                    }
                }
            }
        }
        None
    }

    fn state_difference(&self, other: &Self, groups: &[u32], (here, there): (&str, &str)) -> Option<String> {
        let mut states = groups.iter().zip(self.states.iter().flatten().zip(other.states.iter().flatten()));
        let (group, (one, two)) = states.find(|(_, (one, two))| one != two)?;
        let at = one.iter().zip(two).take_while(|(a, b)| a == b).count();
        Some(format!(
            "group {group}: the result is the same, but its state has {} bytes {here}, and {} {there}; \
             they differ from byte {at} on",
            one.len(),
            two.len()
        ))
    }
}

/// The most that the floats of these rows could add up to.
pub(super) fn magnitude(samples: &[Sample], rows: &[Row]) -> f64 {
    let of = |row: &Row| {
        let floats = samples[row.sample as usize].inputs.iter().filter_map(|input| input.as_primitive_opt());
        let values = floats.filter(|array| array.is_valid(row.row as usize));
        let values = values.map(|array: &arrow_array::Float64Array| array.value(row.row as usize).abs());
        values.filter(|value| value.is_finite()).sum::<f64>()
    };
    rows.iter().map(of).sum()
}

/// The windows of the groups, as far as `finish` wants them.
fn context(description: &AggregateDescription, groups: &[u32]) -> Vec<ArrayRef> {
    let column = |end: bool| -> ArrayRef {
        let edge = |group: &u32| if end { window_of(*group).1 } else { window_of(*group).0 };
        let edges: TimestampMicrosecondArray = groups.iter().map(|group| Some(edge(group))).collect();
        Arc::new(edges.with_data_type(timestamp_type()))
    };
    description.context.iter().map(|field| column(field.name == "window_end")).collect()
}
