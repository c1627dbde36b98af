//! A shard: one aggregate's groups of one range of keys, from rows to closed windows.

mod poison;
mod sliding;

use crate::error::Error;
use crate::exchange::Rows;
use crate::fault::{Breaker, Cause, FaultRules, PluginFailure, Suspects};
use crate::key;
use crate::mutation::{self, Mutation};
use crate::plan::{AggregatePlan, Bound, Plan};
use crate::plugin::{Aggregate, Fault, timestamp_type};
use crate::shadow::{Closed, ClosedGroup};
use crate::spec::Window;
use crate::state::delta::{GroupEntry, GroupId, StateDelta};
use crate::state::group::{Groups, Over};
use crate::state::pane::Panes;
use crate::state::session::Sessions;
use crate::state::windowed::Windowed;
use crate::version::Role;
use crate::window::{DATA_VERSION, Grid};
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
    counts: ShardCounts,
    /// Rows given to the plugin since the shard was made.
    given: u64,
    rules: FaultRules,
    breaker: Breaker,
    /// Where the aggregate is out of service: its state, as the checkpoint has it.
    resting: Option<Vec<Resting>>,
    /// Whether somebody compares what it closes.
    observed: bool,
}

/// Groups of an aggregate out of service.
struct Resting {
    state_version: u32,
    entries: Vec<GroupEntry>,
    states: BinaryArray,
}

/// What a shard did since its worker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardCounts {
    /// Rows taken in.
    pub counted: u64,
    /// Rows set aside.
    pub set_aside: u64,
    /// Rows given out.
    pub closed: u64,
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
    Sliding(Panes),
    Sessions(Sessions),
}

impl Books {
    /// Of nothing yet. Here it is decided which windows share panes.
    fn new(plan: &AggregatePlan) -> Self {
        let (lateness, starts) = (plan.spec.allowed_lateness_us, plan.starts);
        let open = match plan.spec.window {
            Window::Grid(Grid::Even(even)) if plan.commutative && Panes::suit(&even) => {
                Open::Sliding(Panes::new(even, lateness, starts))
            }
            Window::Grid(grid) => Open::Windowed(Windowed::new(grid, lateness, starts)),
            Window::Session { gap_us } => Open::Sessions(Sessions::new(gap_us, lateness)),
        };
        Self { groups: Groups::default(), open }
    }
}

impl Shard {
    /// An empty shard of the plan's aggregate number `aggregate`.
    pub fn new(plan: Arc<Plan>, aggregate: usize, plugin: Box<dyn Aggregate>) -> Self {
        let observed = is_observed(&plan, aggregate);
        let books = Books::new(&plan.aggregates[aggregate]);
        Self {
            plan,
            aggregate,
            plugin,
            books,
            slots: Vec::new(),
            counts: ShardCounts::default(),
            given: 0,
            rules: FaultRules::default(),
            breaker: Breaker::default(),
            resting: None,
            observed,
        }
    }

    /// Has another place in another plan from now on, with the same plugin.
    pub(crate) fn move_to(&mut self, plan: Arc<Plan>, aggregate: usize) {
        let starts = plan.aggregates[aggregate].starts;
        match &mut self.books.open {
            Open::Windowed(windowed) => windowed.set_starts(starts),
            Open::Sliding(panes) => panes.set_starts(starts),
            Open::Sessions(_) => {}
        }
        self.observed = is_observed(&plan, aggregate);
        (self.plan, self.aggregate) = (plan, aggregate);
    }

    /// The groups that the last cut has of it.
    pub(crate) fn persisted(&self) -> Vec<GroupId> {
        let resting = self.resting.iter().flatten().flat_map(|resting| &resting.entries);
        resting.map(|entry| entry.id.clone()).chain(self.books.groups.persisted()).collect()
    }

    /// Forgets all groups; their end is what changed since the last cut.
    pub(crate) fn forget(&mut self) -> StateDelta {
        let plan = &self.plan.aggregates[self.aggregate];
        let deletes = self.persisted();
        self.books = Books::new(plan);
        StateDelta { deletes, ..StateDelta::new(plan.state_name(), plan.state_version) }
    }

    /// Notes everything as changed; `renamed` = as if no cut had ever seen it.
    pub(crate) fn touch_all(&mut self, renamed: bool) {
        self.books.groups.touch_all(renamed);
    }

    /// Takes up the groups of another, whose states this one's plugin reads.
    ///
    /// # Errors
    /// The fault of either plugin.
    pub(crate) fn inherit(&mut self, from: &mut Self) -> Result<(), Error> {
        let role = self.plan.aggregates[self.aggregate].role;
        for Resting { state_version, entries, states } in from.resting.iter().flatten() {
            let mine = |entry: &GroupEntry| role.takes(key::hash(&entry.id.key));
            let numbers: Vec<u32> = (0..).zip(entries).filter(|(_, entry)| mine(entry)).map(|(i, _)| i).collect();
            let entries: Vec<GroupEntry> = entries.iter().filter(|entry| mine(entry)).cloned().collect();
            let states = arrow_select::take::take(states, &UInt32Array::from(numbers), None)?;
            self.restore(*state_version, &entries, arrow_array::cast::AsArray::as_binary::<i32>(&states))?;
        }
        let slots = from.books.groups.slots();
        let version = from.plan.aggregates[from.aggregate].state_version;
        for slots in slots.chunks(SLOTS_PER_CALL) {
            let mine: Vec<u32> =
                slots.iter().copied().filter(|&slot| role.takes(from.books.groups.get(slot).hash)).collect();
            let states = from.plugin.snapshot(&mine).map_err(from.failure_in("snapshot"))?;
            let entries: Vec<GroupEntry> = mine.iter().map(|&slot| from.books.groups.entry(slot)).collect();
            self.restore(version, &entries, &states)?;
        }
        Ok(())
    }

    /// What it did so far.
    pub fn counts(&self) -> ShardCounts {
        self.counts
    }

    /// Goes on counting from there.
    pub(crate) fn set_counts(&mut self, counts: ShardCounts) {
        self.counts = counts;
    }

    /// Sets what is done about the plugin's faults.
    pub fn set_rules(&mut self, rules: FaultRules) {
        self.rules = rules;
    }

    /// Takes the aggregate out of service before it has any state: the plugin is not called, and what would be
    /// restored stays as the checkpoint has it.
    pub fn take_out_of_service(&mut self) {
        self.resting.get_or_insert_default();
    }

    /// Adds rows that are not too late. Where they come with their records, those on which the plugin fails are set
    /// aside, as `poison`, and all others are added.
    ///
    /// # Errors
    /// The plugin's fault; the shard is of no use afterwards.
    pub fn update(&mut self, rows: &Rows, poison: &mut Vec<Poison>) -> Result<(), Error> {
        self.breaker.see(rows.len());
        self.given += rows.len() as u64;
        if let Some(records) = &rows.records {
            return self.update_carefully(rows, records, poison);
        }
        let (partition, last) = (rows.origins.partition, rows.len().saturating_sub(1));
        self.apply(rows).map_err(|fault| {
            self.failure(fault, Cause::Records(Suspects { partition, first: rows.offset(0), last: rows.offset(last) }))
        })?;
        self.counts.counted += rows.len() as u64;
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
            Open::Sliding(panes) => {
                self.slots.clear();
                let singles = panes.assign(groups, rows.numbers(), times, keys, &mut self.slots);
                self.plugin.update(&self.slots, &rows.inputs)?;
                self.update_singles(&singles, rows)?;
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

    /// Closes every window and session that is over at the pipeline's watermark, and gives the rows of those that it
    /// answers for, sorted by window start and key. A session is another version's, `before`, if it began there
    /// earlier than this one answers for.
    ///
    /// # Errors
    /// The plugin's fault; the shard is of no use afterwards.
    pub fn close(&mut self, watermark: i64, before: Option<&Self>, out: &mut Vec<Closed>) -> Result<(), Error> {
        let Books { groups, open } = &mut self.books;
        let over = match open {
            Open::Windowed(windowed) => windowed.take_over(groups, watermark),
            Open::Sliding(_) => return self.close_sliding(watermark, out),
            Open::Sessions(sessions) => sessions.take_over(groups, watermark),
        };
        for slots in over.chunks(SLOTS_PER_CALL) {
            let mine = slots.iter().copied().filter(|&slot| self.answers_for(slot, before));
            let mine: Vec<Over> = mine.map(|slot| self.over(slot)).collect();
            self.give(&mine, out)?;
            self.plugin.release(slots).map_err(self.failure_in("release"))?;
            for &slot in slots {
                self.books.groups.close(slot);
            }
        }
        Ok(())
    }

    fn answers_for(&self, slot: u32, before: Option<&Self>) -> bool {
        let (starts, group) = (self.plan.aggregates[self.aggregate].starts, self.books.groups.get(slot));
        let theirs = before.and_then(|other| {
            let Open::Sessions(sessions) = &other.books.open else { return None };
            let around = sessions.around(&other.books.groups, &group.key, group.hash, group.start)?;
            Some(other.books.groups.get(around).start < starts.from_us)
        });
        starts.contain(group.start) && (theirs != Some(true) || mutation::on(Mutation::SessionsDivided))
    }

    /// A group that holds all of its window or session.
    fn over(&self, slot: u32) -> Over {
        let group = self.books.groups.get(slot);
        let end = match &self.books.open {
            Open::Windowed(windowed) => windowed.end(group.start),
            Open::Sliding(_) => unreachable!("the windows of panes are made of several groups"),
            Open::Sessions(sessions) => sessions.end(group.last),
        };
        Over { slot, of: slot, start: group.start, end }
    }

    /// Gives the rows of what is over, of as many slots as go into a call.
    fn give(&mut self, over: &[Over], out: &mut Vec<Closed>) -> Result<(), Error> {
        if over.is_empty() {
            return Ok(());
        }
        let closed = self.finish(over)?;
        self.counts.closed += closed.rows.num_rows() as u64;
        if closed.rows.num_rows() > 0 || self.observed {
            out.push(closed);
        }
        Ok(())
    }

    fn finish(&mut self, over: &[Over]) -> Result<Closed, Error> {
        let plan = &self.plan.aggregates[self.aggregate];
        let slots: Vec<u32> = over.iter().map(|over| over.slot).collect();
        let starts = instants(over.iter().map(|over| over.start));
        let ends = instants(over.iter().map(|over| over.end));
        let context: Vec<ArrayRef> = plan
            .context
            .iter()
            .map(|bound| match bound {
                Bound::Start => starts.clone(),
                Bound::End => ends.clone(),
            })
            .collect();
        let finished = self.plugin.finish(&slots, &context).map_err(self.failure_in("finish"))?;
        let mut columns = vec![starts, ends];
        columns.extend(key::decode(&plan.key_types, over.iter().map(|over| &*self.books.groups.get(over.of).key))?);
        let groups = if self.observed { self.closed_groups(over, finished.origins.as_deref()) } else { Vec::new() };
        if let Some(origins) = finished.origins {
            let origins = UInt32Array::from(origins);
            for column in &mut columns {
                *column = arrow_select::take::take(column, &origins, None)?;
            }
        }
        columns.extend(finished.columns);
        Ok(Closed { rows: make_batch(plan, columns)?, groups })
    }

    /// Which rows are whose.
    fn closed_groups(&self, over: &[Over], origins: Option<&[u32]>) -> Vec<ClosedGroup> {
        let mut from = 0;
        let group = |(index, over): (usize, &Over)| {
            let rows = origins.map_or(1, |all| all[from..].iter().take_while(|&&of| of as usize == index).count());
            from += rows;
            let group = self.books.groups.get(over.of);
            let (key, hash) = (group.key.clone(), group.hash);
            ClosedGroup { start_us: over.start, end_us: over.end, key, hash, rows: from - rows..from }
        };
        over.iter().enumerate().map(group).collect()
    }

    /// What changed since the last cut.
    ///
    /// # Errors
    /// The plugin's fault; the shard is of no use afterwards.
    pub fn cut(&mut self) -> Result<StateDelta, Error> {
        self.breaker.reset(0);
        // First what may fail: what changed is still known then.
        let states = concat(&self.snapshot(&self.books.groups.changed())?)?;
        let (deletes, puts) = self.books.groups.take_changes();
        let plan = &self.plan.aggregates[self.aggregate];
        Ok(StateDelta { aggregate: plan.state_name(), state_version: plan.state_version, deletes, puts, states })
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
        if let Some(resting) = &mut self.resting {
            resting.push(Resting { state_version, entries: entries.to_vec(), states: states.clone() });
            return Ok(());
        }
        let slots = self.adopt_all(entries)?;
        for (slots, from) in slots.chunks(SLOTS_PER_CALL).zip((0..).step_by(SLOTS_PER_CALL)) {
            let restored = self.plugin.restore(slots, state_version, &states.slice(from, slots.len()));
            restored.map_err(self.failure_in("restore"))?;
        }
        Ok(())
    }

    /// Takes in groups as a checkpoint has them, and gives their slots, of which the plugin knows nothing yet.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a group is in no window of the plan.
    pub(crate) fn adopt_all(&mut self, entries: &[GroupEntry]) -> Result<Vec<u32>, Error> {
        entries.iter().map(|entry| self.adopt(entry)).collect()
    }

    fn adopt(&mut self, entry: &GroupEntry) -> Result<u32, Error> {
        let Books { groups, open } = &mut self.books;
        let slot = groups.reopen(entry, key::hash(&entry.id.key));
        let fits = match open {
            Open::Windowed(windowed) => windowed.adopt(groups, slot),
            Open::Sliding(panes) => panes.adopt(groups, slot),
            Open::Sessions(sessions) => {
                sessions.adopt(groups, slot);
                Some(())
            }
        };
        fits.map(|()| slot).ok_or_else(|| self.of_no_window(entry))
    }

    /// What a state means that starts where no window does.
    fn of_no_window(&self, entry: &GroupEntry) -> Error {
        let spec = &self.plan.aggregates[self.aggregate].spec;
        let (name, start) = (&spec.name, entry.id.start_us);
        let zone = match spec.window {
            Window::Grid(Grid::Calendar(calendar)) => format!(
                ": the time zone data have changed since, so end these windows with the wasmill that began them \
                 (wasmill run --drain), or set RUN_ID to begin anew; zone={} data={DATA_VERSION}",
                calendar.zone
            ),
            _ => String::new(),
        };
        Error::Corrupt(format!("state of no window aggregate={name} start_us={start}{zone}"))
    }

    /// How many groups are open: sessions and windows of keys; of sliding windows that share panes, these.
    pub fn open_groups(&self) -> usize {
        self.resting_groups().unwrap_or_else(|| self.books.groups.len())
    }

    /// How many of them it answers for.
    pub fn own_groups(&self) -> usize {
        let Books { groups, open } = &self.books;
        let mine = |&slot: &u32| match open {
            Open::Sliding(panes) => panes.answers_for(groups, slot),
            _ => self.answers_for(slot, None),
        };
        self.resting_groups().unwrap_or_else(|| groups.slots().into_iter().filter(mine).count())
    }

    fn resting_groups(&self) -> Option<usize> {
        Some(self.resting.as_ref()?.iter().map(|resting| resting.entries.len()).sum())
    }

    /// What its open state takes in memory: the host's part, and all of the plugin's memory.
    pub fn state_bytes(&self) -> u64 {
        let found = match &self.books.open {
            Open::Windowed(windowed) => windowed.bytes(),
            Open::Sliding(panes) => panes.bytes(),
            Open::Sessions(sessions) => sessions.bytes(),
        };
        (self.books.groups.bytes() + found) as u64 + self.plugin.memory_bytes()
    }

    /// Rows given to its plugin since that was put in.
    pub fn given_rows(&self) -> u64 {
        self.given
    }

    /// All of its plugin's memory.
    pub fn memory_bytes(&self) -> u64 {
        self.plugin.memory_bytes()
    }

    /// What its plugin has spent in `update` so far, ns, where that is measured.
    pub fn spent_ns(&self) -> u64 {
        self.plugin.spent_ns()
    }

    /// The least watermark at which nothing is open any more; `None` where nothing is.
    pub fn last_close(&self) -> Option<i64> {
        match &self.books.open {
            Open::Windowed(windowed) => windowed.last_close(),
            Open::Sliding(panes) => panes.last_close(&self.books.groups),
            Open::Sessions(sessions) => sessions.last_close(&self.books.groups),
        }
    }
}

/// Whether what a version closes is compared.
fn is_observed(plan: &Plan, aggregate: usize) -> bool {
    let of = plan.aggregates[aggregate].of;
    plan.aggregates[aggregate].role != Role::Retiring && plan.shadow(of).is_some()
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
