//! The ports to plugins: what the pipeline asks of a parser and of an aggregate, whoever implements them.
//!
//! In production these are WebAssembly components behind `host/src/plugin`; in tests they are plain Rust. Columns are
//! Arrow arrays. An implementation has already checked everything a guest answered (lengths, offsets, UTF-8, types,
//! row counts, origins), so the pipeline may rely on what the documentation of each field says.

use crate::dead_letter::Reason;
use crate::record::RawBatch;
use arrow_array::{ArrayRef, BinaryArray};
use arrow_schema as arrow;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// Arrow `Boolean`.
    Boolean,
    /// Arrow `Int64`.
    Int64,
    /// Arrow `Float64`.
    Float64,
    /// Arrow `Timestamp(Microsecond, "UTC")`.
    Timestamp,
    /// Arrow `Utf8`, or `Dictionary(UInt32, Utf8)`.
    Utf8,
    /// Arrow `Binary`, or `Dictionary(UInt32, Binary)`.
    Binary,
}

/// How the values of a column travel between host and plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One value per row.
    Plain,
    /// Distinct values once per batch, and an index per row: Arrow `Dictionary(UInt32, _)`.
    Dictionary,
    /// XXH3-64 (seed 0) of each value's bytes: Arrow `UInt64`. Host to plugin only.
    Hash,
}

/// One column of a plugin's input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The column's name.
    pub name: String,
    /// What it holds.
    pub data_type: DataType,
    /// How it travels.
    pub encoding: Encoding,
    /// Whether rows may be null.
    pub nullable: bool,
}

impl Field {
    /// The Arrow type of arrays of this field.
    pub fn arrow_type(&self) -> arrow::DataType {
        let plain = match self.data_type {
            DataType::Boolean => arrow::DataType::Boolean,
            DataType::Int64 => arrow::DataType::Int64,
            DataType::Float64 => arrow::DataType::Float64,
            DataType::Timestamp => timestamp_type(),
            DataType::Utf8 => arrow::DataType::Utf8,
            DataType::Binary => arrow::DataType::Binary,
        };
        match self.encoding {
            Encoding::Plain => plain,
            Encoding::Dictionary => arrow::DataType::Dictionary(Box::new(arrow::DataType::UInt32), Box::new(plain)),
            Encoding::Hash => arrow::DataType::UInt64,
        }
    }

    /// The Arrow field of the same name, type and nullability.
    pub fn arrow_field(&self) -> arrow::Field {
        arrow::Field::new(&self.name, self.arrow_type(), self.nullable)
    }
}

/// The Arrow type of every instant: `Timestamp(Microsecond, "UTC")`.
pub fn timestamp_type() -> arrow::DataType {
    arrow::DataType::Timestamp(arrow::TimeUnit::Microsecond, Some("UTC".into()))
}

/// What went wrong in a call to a plugin. The instance is of no use afterwards, unless the kind is `Refused`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{plugin}: {kind}: {message}")]
pub struct Fault {
    /// The plugin's name in the pipeline file.
    pub plugin: Arc<str>,
    /// What kind of fault it was.
    pub kind: FaultKind,
    /// For people.
    pub message: String,
    /// Where the guest was, the innermost call first, a line each: the function, and file and line where they were asked
    /// for and its component has them. Empty where no guest code was under way.
    pub backtrace: Vec<String>,
}

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The guest trapped: a panic, an out-of-bounds access, a stack overflow.
    Trap,
    /// The call took longer than the deadline.
    Deadline,
    /// The guest asked for more memory than its limit.
    Memory,
    /// The answer breaks the contract: lengths, offsets, types, UTF-8.
    Contract,
    /// The guest said no, in words (`restore` of a state it cannot read).
    Refused,
}

impl std::fmt::Display for FaultKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Trap => "trapped",
            Self::Deadline => "missed its deadline",
            Self::Memory => "exceeded its memory limit",
            Self::Contract => "broke its contract",
            Self::Refused => "refused",
        })
    }
}

/// What a parser says of itself, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParserDescription {
    /// The columns it makes, after projection, in this order.
    pub outputs: Vec<Field>,
    /// The index in `outputs` of the time of the event, if there is one. Such a field is a `Timestamp`.
    pub event_time: Option<usize>,
    /// The index in `outputs` of what no other column holds: plain, nullable `Utf8`, a JSON object of the left over
    /// fields. Where the event time is null and the object has a member of its name, there was one that could not be read.
    pub rescue: Option<usize>,
}

impl ParserDescription {
    /// The indices of the outputs that are needed where these are wanted, ascending: besides them those that the host
    /// itself looks at, the event time and the rescue.
    #[must_use]
    pub fn needed(&self, wanted: &[&str]) -> Vec<u32> {
        let kept = |(index, field): &(u32, &Field)| {
            let own = [self.event_time, self.rescue].contains(&Some(*index as usize));
            own || wanted.contains(&field.name.as_str())
        };
        (0..).zip(&self.outputs).filter(kept).map(|(index, _)| index).collect()
    }

    /// The same with these outputs only: indices, ascending.
    #[must_use]
    pub fn projected(&self, kept: &[u32]) -> Self {
        let place = |of: Option<usize>| of.and_then(|of| kept.iter().position(|&index| index as usize == of));
        let outputs = kept.iter().filter_map(|&index| self.outputs.get(index as usize).cloned()).collect();
        Self { outputs, event_time: place(self.event_time), rescue: place(self.rescue) }
    }
}

/// A record that became no rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Its index in the batch.
    pub record: usize,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// What a parser made of one batch.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// One array per output of the description, all with `rows` rows.
    pub columns: Vec<ArrayRef>,
    /// How many rows there are.
    pub rows: usize,
    /// For each row the record it came from, never decreasing and inside the batch. `None` = row i from record i.
    pub origins: Option<Vec<u32>>,
    /// In order of `record`, each at most once, none of them the origin of a row.
    pub rejects: Vec<Reject>,
}

/// Turns records into rows. A pure function of its configuration and arguments.
pub trait Parser: Send {
    /// What it makes.
    fn description(&self) -> &ParserDescription;

    /// The processor's time that `parse` has taken so far, ns; 0 where that is not measured.
    fn spent_ns(&self) -> u64 {
        0
    }

    /// Parses one batch.
    ///
    /// # Errors
    /// A fault: no row of the batch is to be used; the same call may be repeated (a new instance stands ready).
    fn parse(&mut self, batch: &RawBatch) -> Result<Parsed, Fault>;

    /// The same in a small part of the time that a call may take: many times what a batch needs, and short enough for
    /// others to wait.
    ///
    /// # Errors
    /// As for `parse`; a missed deadline is no fault, but says that there has to be more time for these records.
    fn parse_soon(&mut self, batch: &RawBatch) -> Result<Parsed, Fault> {
        self.parse(batch)
    }
}

/// What an aggregate says of itself, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateDescription {
    /// What `update` wants, in this order: columns of the parser by name, or `event_time`.
    pub inputs: Vec<Field>,
    /// What `finish` wants of each slot: `window_start`, `window_end`.
    pub context: Vec<Field>,
    /// The columns `finish` makes.
    pub outputs: Vec<Field>,
    /// The version of the states that `snapshot` makes.
    pub state_version: u32,
    /// The older versions that `restore` takes besides.
    pub restores: Vec<u32>,
    /// Whether order is without influence, to the last bit.
    pub commutative: bool,
}

/// What `finish` answered.
#[derive(Clone, Debug)]
pub struct Finished {
    /// One array per output of the description, all of the same length.
    pub columns: Vec<ArrayRef>,
    /// For each row the index of its slot in the question, never decreasing. `None` = one row per slot, in order.
    pub origins: Option<Vec<u32>>,
}

/// The slot of a row that belongs to nobody.
pub const NOBODY: u32 = u32::MAX;

/// Accumulates rows into slots. What it holds is a cache of what `restore` could give back.
pub trait Aggregate: Send {
    /// What it wants and makes.
    fn description(&self) -> &AggregateDescription;

    /// What the instance takes in memory, its accumulators above all; 0 where that is not known.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// The processor's time that `update` has taken so far, ns; 0 where that is not measured.
    fn spent_ns(&self) -> u64 {
        0
    }

    /// Adds row i of `inputs` to `slots[i]`, or to nobody where that is [`NOBODY`].
    ///
    /// # Errors
    /// A fault: the instance is to be dropped.
    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault>;

    /// For each i in order, adds what `others[i]` holds to `slots[i]` and releases `others[i]`.
    ///
    /// # Errors
    /// A fault: the instance is to be dropped.
    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault>;

    /// The result of each slot. `context` has one row per slot.
    ///
    /// # Errors
    /// A fault: the instance is to be dropped.
    fn finish(&mut self, slots: &[u32], context: &[ArrayRef]) -> Result<Finished, Fault>;

    /// The encoded state of each slot, in order, none null.
    ///
    /// # Errors
    /// A fault: the instance is to be dropped.
    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault>;

    /// Gives each slot, never used or released, its state back. `states` has one entry per slot.
    ///
    /// # Errors
    /// A fault: the instance is to be dropped.
    fn restore(&mut self, slots: &[u32], state_version: u32, states: &BinaryArray) -> Result<(), Fault>;

    /// Forgets these slots.
    ///
    /// # Errors
    /// A fault: the instance is to be dropped.
    fn release(&mut self, slots: &[u32]) -> Result<(), Fault>;

    /// Drops the instance, whatever its state, for a new one: of use, and empty.
    ///
    /// # Errors
    /// A fault: there is no instance now.
    fn renew(&mut self) -> Result<(), Fault>;
}
