//! Whether a plugin keeps the laws of its contract, tried on batches of the stream before it is let in.
//!
//! [`aggregate()`] and [`parser()`] run a plugin behind its port on a few batches in two ways that must come to the same,
//! law by law, the plainest first. The first law that does not hold is answered with the smallest input found that
//! shows it: rows are taken away for as long as what is left still breaks the law. All of it is a function of the
//! arguments, and bounded in calls and rows rather than in time.

mod aggregate;
mod failure;
mod parser;
mod rows;
mod shrink;
#[cfg(test)]
mod tests;
mod text;

pub use aggregate::{Sample, aggregate};
pub use parser::parser;

use std::fmt;

/// The most batches looked at; what comes after them is left out.
pub const MAX_BATCHES: usize = 4;
/// The most rows of a batch looked at: the size of a full one.
pub const MAX_BATCH_ROWS: usize = 4096;

/// What a plugin promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// It neither traps nor hangs nor takes more memory than it may.
    NoFault,
    /// An answer has the rows, types and nulls that the description and the contract say.
    Declared,
    /// Another instance that is called the same way answers the same, to the last bit.
    Determinism,
    /// `update` of a batch is `update` of its parts, one after the other; a parser makes the same rows of the parts.
    Cut,
    /// A parser makes the same rows of a record whatever other records there are.
    RecordsApart,
    /// A group's state and result depend on its own rows alone.
    GroupsApart,
    /// A row whose slot is [`NOBODY`](crate::plugin::NOBODY) changes nothing.
    Nobody,
    /// `finish` and `snapshot` leave a state as it is, and answer for each slot whatever else is asked.
    Finish,
    /// What `restore` was given, `snapshot` gives back, byte for byte, and `finish` has the same result.
    Restore,
    /// Rows that come after a `restore` count as if there had been none.
    Resume,
    /// After `release`, and after it was merged into another, a slot is as if it had never been used.
    Release,
    /// The order of rows is without influence (only where the plugin says so: `commutative`).
    RowOrder,
    /// The state of some rows, merged into the state of those before them, is the state of all.
    MergeIsUpdate,
    /// Three states may be merged from the left or from the right.
    MergeAssociative,
    /// It does not matter which state is merged into which (only where the plugin says so: `commutative`).
    MergeCommutative,
    /// The states of the version in force can be read, and read once they stay what they are.
    Migration,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFault => "no call fails",
            Self::Declared => "answers are as declared",
            Self::Determinism => "the same calls give the same answers",
            Self::Cut => "cutting a batch changes nothing",
            Self::RecordsApart => "the rows of a record depend on that record alone",
            Self::GroupsApart => "the result of a group depends on its own rows alone",
            Self::Nobody => "rows of nobody are skipped",
            Self::Finish => "asking for results changes nothing",
            Self::Restore => "restore gives back what snapshot took",
            Self::Resume => "a restored state goes on as the one that was saved",
            Self::Release => "a released slot is empty",
            Self::RowOrder => "the order of rows is without influence",
            Self::MergeIsUpdate => "merging is updating",
            Self::MergeAssociative => "merging is associative",
            Self::MergeCommutative => "merging is commutative",
            Self::Migration => "restore reads the states of the version in force",
        })
    }
}

/// A law that does not hold, and what shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Broken {
    /// Which.
    pub law: Law,
    /// What is different, or what failed.
    pub message: String,
    /// How many rows, records or states the smallest input has.
    pub items: usize,
    /// The smallest input found that shows it, a line each, for a person; at most a screen. `--` is where it is cut.
    pub input: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "breaks the law \"{}\": {}", self.law, self.message)?;
        if self.input.is_empty() {
            return f.write_str("; without any input");
        }
        f.write_str("; the smallest input found:")?;
        self.input.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// How much a plugin was tried on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Batches.
    pub batches: usize,
    /// Their rows or records. 0 = there were none, so that next to nothing was shown.
    pub rows: usize,
}
