//! Versions of one aggregate that tell themselves apart, and fail when they are told to.

use super::{CountAndSum, Row};
use crate::plugin::{Aggregate, AggregateDescription, Fault, FaultKind, Finished};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, BinaryArray, Int64Array};

/// What a version adds to a total for each unit of its tag: more than any total of a test.
const UNIT: i64 = 1_000_000;

/// What one version of [`Tagged`] is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Tells its rows from those of others.
    pub tag: i64,
    /// The version of its states; it reads all that are not newer.
    pub state_version: u32,
    /// Whether it adds one to totals that are a multiple of three.
    pub odd: bool,
    /// The call on which it traps, and how many of these go well before.
    pub trap: Option<(Call, u32)>,
}

/// A call to an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `update`.
    Update,
    /// `merge`.
    Merge,
    /// `finish`.
    Finish,
    /// `snapshot`.
    Snapshot,
    /// `restore`.
    Restore,
    /// `release`.
    Release,
}

/// As [`CountAndSum`], in one of many versions.
pub struct Tagged {
    inner: CountAndSum,
    version: Version,
    left: Option<(Call, u32)>,
}

impl Version {
    /// One that does nothing wrong.
    pub fn new(tag: i64, state_version: u32) -> Self {
        Self { tag, state_version, odd: false, trap: None }
    }

    /// What it says of itself.
    pub fn description(self) -> AggregateDescription {
        let restores = (1..self.state_version).collect();
        AggregateDescription { state_version: self.state_version, restores, ..CountAndSum::default().description }
    }

    /// What it makes of a total.
    fn finish(self, total: i64) -> i64 {
        total + UNIT * self.tag + i64::from(self.odd && total % 3 == 0)
    }
}

impl Tagged {
    /// An instance of a version.
    pub fn new(version: Version) -> Self {
        let inner = CountAndSum { description: version.description(), ..CountAndSum::default() };
        Self { inner, version, left: version.trap }
    }

    fn call(&mut self, call: Call) -> Result<(), Fault> {
        match &mut self.left {
            Some((of, 0)) if *of == call => {
                let message = format!("{call:?} of version {}", self.version.tag);
                Err(Fault { plugin: "tagged".into(), kind: FaultKind::Trap, message, backtrace: Vec::new() })
            }
            Some((of, left)) if *of == call => {
                *left -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The tag of the version that made a row, and the row as one without tag makes it.
pub fn untagged(row: &Row) -> (i64, Row) {
    let tag = (row.4 + UNIT / 2).div_euclid(UNIT);
    (tag, (row.0, row.1, row.2.clone(), row.3, row.4 - UNIT * tag))
}

impl Aggregate for Tagged {
    fn description(&self) -> &AggregateDescription {
        self.inner.description()
    }

    fn update(&mut self, slots: &[u32], inputs: &[ArrayRef]) -> Result<(), Fault> {
        self.call(Call::Update)?;
        self.inner.update(slots, inputs)
    }

    fn merge(&mut self, slots: &[u32], others: &[u32]) -> Result<(), Fault> {
        self.call(Call::Merge)?;
        self.inner.merge(slots, others)
    }

    fn finish(&mut self, slots: &[u32], context: &[ArrayRef]) -> Result<Finished, Fault> {
        self.call(Call::Finish)?;
        let Finished { mut columns, origins } = self.inner.finish(slots, context)?;
        let totals = columns[1].as_primitive::<Int64Type>().values().iter();
        let totals: Int64Array = totals.map(|&total| self.version.finish(total)).collect();
        columns[1] = std::sync::Arc::new(totals);
        Ok(Finished { columns, origins })
    }

    fn snapshot(&mut self, slots: &[u32]) -> Result<BinaryArray, Fault> {
        self.call(Call::Snapshot)?;
        self.inner.snapshot(slots)
    }

    fn restore(&mut self, slots: &[u32], state_version: u32, states: &BinaryArray) -> Result<(), Fault> {
        self.call(Call::Restore)?;
        assert!(state_version <= self.version.state_version, "states of a newer version are not given to an older one");
        self.inner.restore(slots, state_version, states)
    }

    fn release(&mut self, slots: &[u32]) -> Result<(), Fault> {
        self.call(Call::Release)?;
        self.inner.release(slots)
    }

    fn renew(&mut self) -> Result<(), Fault> {
        self.inner.renew()
    }
}
