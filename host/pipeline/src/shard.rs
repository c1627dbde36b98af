//! A shard: one aggregate's groups of one range of keys, from rows to closed windows.

mod poison;

use crate::error::Error;
use crate::exchange::Rows;
use crate::fault::{Breaker, Cause, FaultRules, PluginFailure, Suspects};
use crate::key;
use crate::plan::{AggregatePlan, Bound, Plan};
use crate::plugin::{Aggregate, Fault, timestamp_type};
use crate::spec::Window;
use crate::state::delta::{GroupEntry, StateDelta};
use crate::state::group::Groups;
use crate::state::session::Sessions;
use crate::state::windowed::Windowed;
use crate::window::Grid;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use std::sync::Arc;

pub use self::poison::Poison;

/// How many slots one call to a plugin concerns at most, so that no call comes near its deadline.
const SLOTS_PER_CALL: usize = 8_192;

/// One aggregate's groups of one worker's keys.
pub struct Shard {
    plan: Arc<Plan>,
    aggregate: usize,
    plugin: Box<dyn Aggregate>,
    books: Books,
    slots: Vec<u32>,
    counted: u64,
    set_aside: u64,
    closed: u64,
    rules: FaultRules,
    breaker: Breaker,
    /// Where the aggregate is out of service: how many groups its state has.
    resting: Option<usize>,
}

/// What the host knows of the groups.
#[derive(Clone)]
struct Books {
    groups: Groups,
    open: Open,
}

#[derive(Clone)]
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
        Self {
            plan,
            aggregate,
            plugin,
            books: Books { groups: Groups::default(), open },
            slots: Vec::new(),
            counted: 0,
            set_aside: 0,
            closed: 0,
            rules: FaultRules::default(),
            breaker: Breaker::default(),
            resting: None,
        }
    }

    /// Sets what is done about the plugin's faults.
    pub fn set_rules(&mut self, rules: FaultRules) {
        self.rules = rules;
    }

    /// Takes the aggregate out of service before it has any state: the plugin is not called, and what would be
    /// restored stays as the checkpoint has it.
    pub fn take_out_of_service(&mut self) {
        self.resting = Some(0);
    }

    /// Adds rows that are not too late. Where they come with their records, those on which the plugin fails are set
    /// aside, as `poison`, and all others are added.
    ///
    /// # Errors
    /// The plugin's fault; the shard is of no use afterwards.
    pub fn update(&mut self, rows: &Rows, poison: &mut Vec<Poison>) -> Result<(), Error> {
        self.breaker.see(rows.len());
        if let Some(records) = &rows.records {
            return self.update_carefully(rows, records, poison);
        }
        let (partition, last) = (rows.origins.partition, rows.len().saturating_sub(1));
        self.apply(rows).map_err(|fault| {
            self.failure(fault, Cause::Records(Suspects { partition, first: rows.offset(0), last: rows.offset(last) }))
        })?;
        self.counted += rows.len() as u64;
        Ok(())
    }

    /// Adds rows to groups and accumulators; after a fault both are left half done.
    fn apply(&mut self, rows: &Rows) -> Result<(), Fault> {
        let Books { groups, open } = &mut self.books;
        let (times, keys) = (&rows.times, &rows.keys);
        match open {
            Open::Windowed(windowed) => {
                for round in 0..windowed.rounds() {
                    self.slots.clear();
                    windowed.assign(groups, round, rows.numbers(), times, keys, &mut self.slots);
                    self.plugin.update(&self.slots, &rows.inputs)?;
                }
            }
            Open::Sessions(sessions) => {
                self.slots.clear();
                let merges = sessions.assign(groups, rows.numbers(), times, keys, &mut self.slots);
                self.plugin.update(&self.slots, &rows.inputs)?;
                if !merges.others.is_empty() {
                    self.plugin.merge(&merges.into, &merges.others)?;
                    for &slot in &merges.others {
                        groups.close(slot);
                    }
                }
            }
        }
        Ok(())
    }

    fn failure(&self, fault: Fault, cause: Cause) -> Error {
        PluginFailure { aggregate: Some(self.aggregate), fault, cause }.into()
    }

    /// The failure of a call that concerns state.
    fn failure_in(&self, call: &'static str) -> impl Fn(Fault) -> Error {
        let aggregate = Some(self.aggregate);
        move |fault| PluginFailure { aggregate, fault, cause: Cause::Call(call) }.into()
    }

    /// Closes every window and session that is over at the pipeline's watermark, and gives their rows sorted by
    /// window start and key.
    ///
    /// # Errors
    /// The plugin's fault; the shard is of no use afterwards.
    pub fn close(&mut self, watermark: i64, out: &mut Vec<RecordBatch>) -> Result<(), Error> {
        let Books { groups, open } = &mut self.books;
        let over = match open {
            Open::Windowed(windowed) => windowed.take_over(groups, watermark),
            Open::Sessions(sessions) => sessions.take_over(groups, watermark),
        };
        for slots in over.chunks(SLOTS_PER_CALL) {
            let batch = self.finish(slots)?;
            self.closed += batch.num_rows() as u64;
            if batch.num_rows() > 0 {
                out.push(batch);
            }
            self.plugin.release(slots).map_err(self.failure_in("release"))?;
            for &slot in slots {
                self.books.groups.close(slot);
            }
        }
        Ok(())
    }

    fn finish(&mut self, slots: &[u32]) -> Result<RecordBatch, Error> {
        let plan = &self.plan.aggregates[self.aggregate];
        let starts = instants(slots.iter().map(|&s| self.books.groups.get(s).start));
        let ends = instants(slots.iter().map(|&s| {
            let group = self.books.groups.get(s);
            match &self.books.open {
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
        let finished = self.plugin.finish(slots, &context).map_err(self.failure_in("finish"))?;
        let mut columns = vec![starts, ends];
        columns.extend(key::decode(&plan.key_types, slots.iter().map(|&s| &*self.books.groups.get(s).key))?);
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
        self.breaker.reset();
        let (deletes, puts, slots) = self.books.groups.take_changes();
        let states = concat(&self.snapshot(&slots)?)?;
        let plan = &self.plan.aggregates[self.aggregate];
        Ok(StateDelta { aggregate: plan.spec.name.clone(), state_version: plan.state_version, deletes, puts, states })
    }

    /// The states of slots, in parts of so many as go into a call.
    fn snapshot(&mut self, slots: &[u32]) -> Result<Vec<BinaryArray>, Error> {
        let parts = slots.chunks(SLOTS_PER_CALL).map(|slots| self.plugin.snapshot(slots)).collect::<Result<_, _>>();
        parts.map_err(self.failure_in("snapshot"))
    }

    /// Takes in groups as a checkpoint has them. `states` has one entry per group.
    ///
    /// # Errors
    /// The plugin's fault, where it cannot read the states.
    pub fn restore(&mut self, state_version: u32, entries: &[GroupEntry], states: &BinaryArray) -> Result<(), Error> {
        if let Some(groups) = &mut self.resting {
            *groups += entries.len();
            return Ok(());
        }
        for from in (0..entries.len()).step_by(SLOTS_PER_CALL) {
            let count = SLOTS_PER_CALL.min(entries.len() - from);
            let slots: Vec<u32> = entries[from..from + count].iter().map(|entry| self.adopt(entry)).collect();
            let restored = self.plugin.restore(&slots, state_version, &states.slice(from, count));
            restored.map_err(self.failure_in("restore"))?;
        }
        Ok(())
    }

    fn adopt(&mut self, entry: &GroupEntry) -> u32 {
        let Books { groups, open } = &mut self.books;
        let slot = groups.reopen(entry, key::hash(&entry.id.key));
        match open {
            Open::Windowed(windowed) => windowed.adopt(groups, slot),
            Open::Sessions(sessions) => sessions.adopt(groups, slot),
        }
        slot
    }

    /// How many windows and sessions of keys are open.
    pub fn open_groups(&self) -> usize {
        self.resting.unwrap_or_else(|| self.books.groups.len())
    }

    /// What its open state takes in memory: the host's part, and all of the plugin's memory.
    pub fn state_bytes(&self) -> u64 {
        let found = match &self.books.open {
            Open::Windowed(windowed) => windowed.bytes(),
            Open::Sessions(sessions) => sessions.bytes(),
        };
        (self.books.groups.bytes() + found) as u64 + self.plugin.memory_bytes()
    }

    /// How many rows it has taken in.
    pub fn counted_rows(&self) -> u64 {
        self.counted
    }

    /// How many rows it has set aside.
    pub fn set_aside_rows(&self) -> u64 {
        self.set_aside
    }

    /// How many rows it has given out.
    pub fn closed_rows(&self) -> u64 {
        self.closed
    }

    /// The least watermark at which nothing is open any more; `None` where nothing is.
    pub fn last_close(&self) -> Option<i64> {
        match &self.books.open {
            Open::Windowed(windowed) => windowed.last_close(),
            Open::Sessions(sessions) => sessions.last_close(&self.books.groups),
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
