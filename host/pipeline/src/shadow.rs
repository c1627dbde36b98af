//! How a next version of an aggregate compares with the one in force, window by window and key by key.

use crate::plan::AggregatePlan;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

/// How many differences are kept for a person to look at.
const EXAMPLES: usize = 10;

/// Rows of closed windows.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The rows, by window start and key.
    pub rows: RecordBatch,
    /// Whose they are, where somebody compares.
    pub groups: Vec<ClosedGroup>,
}

/// A window of a key, or a session, that was closed.
#[derive(Clone, Debug)]
pub struct ClosedGroup {
    /// Its start.
    pub start_us: i64,
    /// Its end.
    pub end_us: i64,
    /// The key's bytes.
    pub key: Box<[u8]>,
    /// Their hash.
    pub hash: u64,
    /// Its rows.
    pub rows: Range<usize>,
}

/// By how much a column may differ, by its name, relative to the larger value; all others must be equal.
pub type Tolerance = BTreeMap<String, f64>;

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Windows of keys compared.
    pub compared: u64,
    /// Those with the same rows.
    pub equal: u64,
    /// Those with other rows.
    pub different: u64,
    /// Those to which only the version in force gave rows.
    pub only_current: u64,
    /// Those to which only the shadow gave rows.
    pub only_shadow: u64,
    /// The first that differ.
    pub examples: Vec<Example>,
    /// Why the shadow does not run any more, if it does not.
    pub failed: Option<String>,
}

/// A window of a key in which the two differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The window's start.
    pub start_us: i64,
    /// Its end.
    pub end_us: i64,
    /// The key, by column.
    pub key: BTreeMap<String, String>,
    /// The column that differs first; `None` where the number of rows does.
    pub column: Option<String>,
    /// What the version in force has there.
    pub current: Option<String>,
    /// What the shadow has there.
    pub shadow: Option<String>,
}

impl Comparison {
    /// Adds what another worker found.
    pub fn add(&mut self, other: &Self) {
        self.compared += other.compared;
        self.equal += other.equal;
        self.different += other.different;
        self.only_current += other.only_current;
        self.only_shadow += other.only_shadow;
        let room = EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
        self.failed = self.failed.take().or_else(|| other.failed.clone());
    }

    /// Compares what both closed at the same watermark.
    pub(crate) fn compare(&mut self, pair: &Pair<'_>, current: &[Closed], shadow: &[Closed]) {
        let taken = |(_, group): &(&RecordBatch, &ClosedGroup)| {
            pair.shadow.starts.contain(group.start_us) && pair.shadow.role.takes(group.hash)
        };
        let mut current = groups(current).filter(taken).peekable();
        let mut shadow = groups(shadow).peekable();
        loop {
            let order = match (current.peek(), shadow.peek()) {
                (Some((_, a)), Some((_, b))) => (a.start_us, &a.key).cmp(&(b.start_us, &b.key)),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return,
            };
            let left = if order == Ordering::Greater { None } else { current.next() };
            let right = if order == Ordering::Less { None } else { shadow.next() };
            self.compare_group(pair, left, right);
        }
    }

    fn compare_group(&mut self, pair: &Pair<'_>, current: Option<Of<'_>>, shadow: Option<Of<'_>>) {
        let count = |of: Option<Of<'_>>| of.map_or(0, |(_, group)| group.rows.len());
        let counts = (count(current), count(shadow));
        let column = match (current, shadow) {
            (Some(current), Some(shadow)) if counts.0 == counts.1 => pair.first_difference(current, shadow),
            _ if counts == (0, 0) => None,
            _ => Some(Difference::rows(counts)),
        };
        self.compared += 1;
        let Some(difference) = column else {
            self.equal += 1;
            return;
        };
        match counts {
            (_, 0) => self.only_current += 1,
            (0, _) => self.only_shadow += 1,
            _ => self.different += 1,
        }
        let with_rows = [current, shadow].into_iter().flatten().find(|(_, group)| !group.rows.is_empty());
        if self.examples.len() < EXAMPLES
            && let Some(of) = with_rows
        {
            self.examples.push(pair.example(of, difference));
        }
    }
}

/// A group and the batch that has its rows.
type Of<'a> = (&'a RecordBatch, &'a ClosedGroup);

fn groups(closed: &[Closed]) -> impl Iterator<Item = Of<'_>> {
    closed.iter().flat_map(|closed| closed.groups.iter().map(|group| (&closed.rows, group)))
}

/// The two that are compared.
pub(crate) struct Pair<'a> {
    pub(crate) current: &'a AggregatePlan,
    pub(crate) shadow: &'a AggregatePlan,
    pub(crate) tolerance: &'a Tolerance,
}

/// Where two groups differ first.
struct Difference {
    column: Option<String>,
    current: String,
    shadow: String,
}

impl Difference {
    fn rows((current, shadow): (usize, usize)) -> Self {
        let rows = |count: usize| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
        Self { column: None, current: rows(current), shadow: rows(shadow) }
    }
}

impl Pair<'_> {
    /// Compares the columns that both make, in the order of the version in force.
    fn first_difference(&self, current: Of<'_>, shadow: Of<'_>) -> Option<Difference> {
        let own = 2 + self.current.keys.len();
        for (a, b) in current.1.rows.clone().zip(shadow.1.rows.clone()) {
            for (index, field) in self.current.schema.fields().iter().enumerate().skip(own) {
                let Some(other) = self.shadow.schema.index_of(field.name()).ok().filter(|&other| other >= own) else {
                    continue;
                };
                let values = (value(current.0.column(index), a), value(shadow.0.column(other), b));
                let tolerance = self.tolerance.get(field.name()).copied().unwrap_or(0.0);
                if !values.0.is_near(&values.1, tolerance) {
                    let (current, shadow) = (values.0.to_string(), values.1.to_string());
                    return Some(Difference { column: Some(field.name().clone()), current, shadow });
                }
            }
        }
        None
    }

    fn example(&self, (rows, group): Of<'_>, difference: Difference) -> Example {
        let key = self.current.schema.fields().iter().enumerate().skip(2).take(self.current.keys.len());
        let key =
            key.map(|(index, field)| (field.name().clone(), value(rows.column(index), group.rows.start).to_string()));
        Example {
            start_us: group.start_us,
            end_us: group.end_us,
            key: key.collect(),
            column: difference.column,
            current: Some(difference.current),
            shadow: Some(difference.shadow),
        }
    }
}

/// One value of a column.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Time(i64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    fn is_near(&self, other: &Self, tolerance: f64) -> bool {
        match (*self, *other) {
            (Self::Float(a), Self::Float(b)) => near(a, b, tolerance),
            (Self::Integer(a), Self::Integer(b)) if tolerance > 0.0 => near(a as f64, b as f64, tolerance),
            (Self::Integer(a), Self::Float(b)) | (Self::Float(b), Self::Integer(a)) => near(a as f64, b, tolerance),
            (a, b) => a == b,
        }
    }
}

/// Equal to the last bit, or near enough.
fn near(a: f64, b: f64, tolerance: f64) -> bool {
    a.to_bits() == b.to_bits() || (a - b).abs() <= tolerance * a.abs().max(b.abs())
}

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Time(value) => write!(f, "{value}us"),
            Self::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
        }
    }
}

/// The value of a row; the types are those that plugins and the host make.
fn value(column: &dyn Array, row: usize) -> Value<'_> {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => Value::Boolean(column.as_boolean().value(row)),
        DataType::Int64 => Value::Integer(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::Float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Timestamp(..) => Value::Time(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Utf8 => Value::Bytes(column.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => Value::Bytes(column.as_binary::<i32>().value(row)),
        DataType::Dictionary(..) => {
            let dictionary = column.as_dictionary::<UInt32Type>();
            value(dictionary.values().as_ref(), dictionary.keys().value(row) as usize)
        }
        other => unreachable!("plugins and keys have no columns of {other}"),
    }
}
