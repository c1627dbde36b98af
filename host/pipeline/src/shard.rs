//! A shard: one aggregate's groups of one range of keys, from rows to closed windows.

use crate::error::Error;
use crate::exchange::Rows;
use crate::key;
use crate::plan::{AggregatePlan, Bound, Plan};
use crate::plugin::{Aggregate, timestamp_type};
use crate::spec::Window;
use crate::state::delta::{GroupEntry, StateDelta};
use crate::state::group::Groups;
use crate::state::session::Sessions;
use crate::state::windowed::Windowed;
use crate::window::Grid;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use std::sync::Arc;

/// How many slots one call to a plugin concerns at most, so that no call comes near its deadline.
const SLOTS_PER_CALL: usize = 8_192;

/// One aggregate's groups of one worker's keys.
pub struct Shard {
    plan: Arc<Plan>,
    aggregate: usize,
    plugin: Box<dyn Aggregate>,
    groups: Groups,
    open: Open,
    slots: Vec<u32>,
    counted: u64,
    closed: u64,
}

enum Open {
    Windowed(Windowed),
    Sessions(Sessions),
}

impl Shard {
    /// An empty shard of the plan's aggregate number `aggregate`.
    pub fn new(plan: Arc<Plan>, aggregate: usize, plugin: Box<dyn Aggregate>) -> Self {
        let spec = &plan.aggregates[aggregate].spec;
        let lateness = spec.allowed_lateness_us;
        let open = match (Grid::of(&spec.window), spec.window) {
            (Some(grid), _) => Open::Windowed(Windowed::new(grid, lateness)),
            (None, Window::Session { gap_us }) => Open::Sessions(Sessions::new(gap_us, lateness)),
            (None, _) => unreachable!("only sessions have no grid"),
        };
        let groups = Groups::default();
        Self { plan, aggregate, plugin, groups, open, slots: Vec::new(), counted: 0, closed: 0 }
    }

    /// Adds rows that are not too late.
    ///
    /// # Errors
    /// The plugin's fault; the shard is of no use afterwards.
    pub fn update(&mut self, rows: &Rows) -> Result<(), Error> {
        self.counted += rows.len() as u64;
        match &mut self.open {
            Open::Windowed(windowed) => {
                for round in 0..windowed.rounds() {
                    self.slots.clear();
                    let (times, keys) = (&rows.times, &rows.keys);
                    windowed.assign(&mut self.groups, round, rows.numbers(), times, keys, &mut self.slots);
                    self.plugin.update(&self.slots, &rows.inputs)?;
                }
            }
            Open::Sessions(sessions) => {
                self.slots.clear();
                let (times, keys) = (&rows.times, &rows.keys);
                let merges = sessions.assign(&mut self.groups, rows.numbers(), times, keys, &mut self.slots);
                self.plugin.update(&self.slots, &rows.inputs)?;
                if !merges.others.is_empty() {
                    self.plugin.merge(&merges.into, &merges.others)?;
                    for &slot in &merges.others {
                        self.groups.close(slot);
                    }
                }
            }
        }
        Ok(())
    }

    /// Closes every window and session that is over at the pipeline's watermark, and gives their rows sorted by
    /// window start and key.
    ///
    /// # Errors
    /// The plugin's fault; the shard is of no use afterwards.
    pub fn close(&mut self, watermark: i64, out: &mut Vec<RecordBatch>) -> Result<(), Error> {
        let over = match &mut self.open {
            Open::Windowed(windowed) => windowed.take_over(&self.groups, watermark),
            Open::Sessions(sessions) => sessions.take_over(&mut self.groups, watermark),
        };
        for slots in over.chunks(SLOTS_PER_CALL) {
            let batch = self.finish(slots)?;
            self.closed += batch.num_rows() as u64;
            if batch.num_rows() > 0 {
                out.push(batch);
            }
            self.plugin.release(slots)?;
            for &slot in slots {
                self.groups.close(slot);
            }
        }
        Ok(())
    }

    fn finish(&mut self, slots: &[u32]) -> Result<RecordBatch, Error> {
        let plan = &self.plan.aggregates[self.aggregate];
        let starts = instants(slots.iter().map(|&s| self.groups.get(s).start));
        let ends = instants(slots.iter().map(|&s| {
            let group = self.groups.get(s);
            match &self.open {
                Open::Windowed(windowed) => windowed.end(group.start),
                Open::Sessions(sessions) => sessions.end(group.last),
            }
        }));
        let context: Vec<ArrayRef> = plan
            .context
            .iter()
            .map(|bound| match bound {
                Bound::Start => starts.clone(),
                Bound::End => ends.clone(),
            })
            .collect();
        let finished = self.plugin.finish(slots, &context)?;
        let mut columns = vec![starts, ends];
        columns.extend(key::decode(&plan.key_types, slots.iter().map(|&s| &*self.groups.get(s).key))?);
        if let Some(origins) = finished.origins {
            let origins = UInt32Array::from(origins);
            for column in &mut columns {
                *column = arrow_select::take::take(column, &origins, None)?;
            }
        }
        columns.extend(finished.columns);
        make_batch(plan, columns)
    }

    /// What changed since the last cut.
    ///
    /// # Errors
    /// The plugin's fault; the shard is of no use afterwards.
    pub fn cut(&mut self) -> Result<StateDelta, Error> {
        let (deletes, puts, slots) = self.groups.take_changes();
        let mut parts = Vec::new();
        for slots in slots.chunks(SLOTS_PER_CALL) {
            parts.push(self.plugin.snapshot(slots)?);
        }
        let states = concat(&parts)?;
        let plan = &self.plan.aggregates[self.aggregate];
        Ok(StateDelta { aggregate: plan.spec.name.clone(), state_version: plan.state_version, deletes, puts, states })
    }

    /// Takes in groups as a checkpoint has them. `states` has one entry per group.
    ///
    /// # Errors
    /// The plugin's fault, where it cannot read the states.
    pub fn restore(&mut self, state_version: u32, entries: &[GroupEntry], states: &BinaryArray) -> Result<(), Error> {
        for from in (0..entries.len()).step_by(SLOTS_PER_CALL) {
            let count = SLOTS_PER_CALL.min(entries.len() - from);
            let slots: Vec<u32> = entries[from..from + count].iter().map(|entry| self.adopt(entry)).collect();
            self.plugin.restore(&slots, state_version, &states.slice(from, count))?;
        }
        Ok(())
    }

    fn adopt(&mut self, entry: &GroupEntry) -> u32 {
        let slot = self.groups.reopen(entry, key::hash(&entry.id.key));
        match &mut self.open {
            Open::Windowed(windowed) => windowed.adopt(&self.groups, slot),
            Open::Sessions(sessions) => sessions.adopt(&mut self.groups, slot),
        }
        slot
    }

    /// How many windows and sessions of keys are open.
    pub fn open_groups(&self) -> usize {
        self.groups.len()
    }

    /// What its open state takes in memory: the host's part, and all of the plugin's memory.
    pub fn state_bytes(&self) -> u64 {
        let found = match &self.open {
            Open::Windowed(windowed) => windowed.bytes(),
            Open::Sessions(sessions) => sessions.bytes(),
        };
        (self.groups.bytes() + found) as u64 + self.plugin.memory_bytes()
    }

    /// How many rows it has taken in.
    pub fn counted_rows(&self) -> u64 {
        self.counted
    }

    /// How many rows it has given out.
    pub fn closed_rows(&self) -> u64 {
        self.closed
    }

    /// The least watermark at which nothing is open any more; `None` where nothing is.
    pub fn last_close(&self) -> Option<i64> {
        match &self.open {
            Open::Windowed(windowed) => windowed.last_close(),
            Open::Sessions(sessions) => sessions.last_close(&self.groups),
        }
    }
}

fn instants(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_data_type(timestamp_type()))
}

fn make_batch(plan: &AggregatePlan, columns: Vec<ArrayRef>) -> Result<RecordBatch, Error> {
    Ok(RecordBatch::try_new(plan.schema.clone(), columns)?)
}

fn concat(parts: &[BinaryArray]) -> Result<BinaryArray, Error> {
    match parts {
        [] => Ok(BinaryArray::from_vec(vec![])),
        [one] => Ok(one.clone()),
        many => {
            let many: Vec<&dyn arrow_array::Array> = many.iter().map(|p| p as &dyn arrow_array::Array).collect();
            let all = arrow_select::concat::concat(&many)?;
            Ok(arrow_array::cast::AsArray::as_binary::<i32>(&all).clone())
        }
    }
}
