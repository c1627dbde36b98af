//! How much of the machine a guest may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::ResourceLimiter;

/// What a plugin may take. Every part has a default that a well-behaved plugin never meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What one instance may take: all its memories and tables, and what the host keeps for it.
    pub memory_bytes: usize,
    /// What one version may take: its file, its compiled code and data, and all its instances together.
    pub version_bytes: u64,
    /// What compiling may take, where that is done in a child: address space.
    pub compile_bytes: u64,
    /// Processor time, whole seconds; five times as long by the clock.
    pub compile_time: Duration,
    /// The longest one call may take.
    pub deadline: Duration,
    /// The most data one answer may carry to the host, shared parts counted each time they are named.
    pub answer_bytes: usize,
    /// Log lines a second; the others are dropped and counted.
    pub log_lines_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // 25,000 dense HyperLogLogs of 16 KiB are 400 MB; this leaves room for as much again, and some.
            memory_bytes: 1 << 30,
            // Three of the largest instances, and what they are instances of.
            version_bytes: 4 << 30,
            compile_bytes: 2 << 30,
            compile_time: Duration::from_mins(1),
            // A batch of 8,192 rows takes about 3 ms; a snapshot of 100,000 groups 23 ms.
            deadline: Duration::from_secs(10),
            // A parser's answer is about as large as its batch, which librdkafka caps near 64 MiB.
            answer_bytes: 256 << 20,
            log_lines_per_second: 100,
        }
    }
}

/// Core instances in one store; a component with the WASI adapter has about five.
pub(super) const MAX_INSTANCES: usize = 64;
/// Tables in one store; as for the instances.
const MAX_TABLES: usize = 64;
/// Memories in one store; a plugin has one, one that is made of several components one in each.
const MAX_MEMORIES: usize = 16;
/// An entry of a table: a pointer, and as much room again where the table may grow.
const TABLE_ENTRY_BYTES: usize = 16;

/// What one version of a plugin takes: it and all its instances.
#[derive(Debug)]
pub(super) struct Account {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl Account {
    /// An account of at most so many bytes, with nothing on it.
    pub(super) fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicU64::new(0) })
    }

    /// Takes so many bytes, or none where they are too many.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let sum = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.limit_bytes);
        self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The most that it may have.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }
}

/// Why an instance was refused memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// It would have more than an instance may.
    Instance,
    /// All instances of its version together would have more than they may.
    Version,
}

/// Keeps an instance inside its memory limit and that of its version, and remembers when it had to. What it took is
/// given back when this is dropped.
pub(super) struct Ceiling {
    memory_bytes: usize,
    used_bytes: usize,
    version: Arc<Account>,
    denied: Option<Denied>,
}

impl Ceiling {
    /// A ceiling of so many bytes, and of what is left on the version's account.
    pub(super) fn new(memory_bytes: usize, version: Arc<Account>) -> Self {
        Self { memory_bytes, used_bytes: 0, version, denied: None }
    }

    /// How many bytes the instance has now.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Why the instance was refused memory since the last time this was asked, if it was.
    pub(super) fn take_denied(&mut self) -> Option<Denied> {
        self.denied.take()
    }

    /// Takes so many bytes, or none where they are too many.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let Some(sum) = self.used_bytes.checked_add(bytes).filter(|&sum| sum <= self.memory_bytes) else {
            self.denied = Some(Denied::Instance);
            return false;
        };
        if !self.version.take(bytes as u64) {
            self.denied = Some(Denied::Version);
            return false;
        }
        self.used_bytes = sum;
        true
    }

    /// Takes what something needs that grows. What may not grow so far by its own type is refused, and takes nothing: the
    /// library would refuse it only later, and what was taken would not come back.
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>, unit_bytes: usize) -> bool {
        maximum.is_none_or(|maximum| desired <= maximum)
            && self.take(desired.saturating_sub(current).saturating_mul(unit_bytes))
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        self.version.give_back(self.used_bytes as u64);
    }
}

impl ResourceLimiter for Ceiling {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum, 1))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(current, desired, maximum, TABLE_ENTRY_BYTES))
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_of_an_instance_count_together() {
        let mut ceiling = Ceiling::new(1000, Account::new(10_000));
        assert!(ceiling.memory_growing(0, 500, None).unwrap());
        assert!(ceiling.table_growing(0, 500 / TABLE_ENTRY_BYTES, None).unwrap());
        assert!(!ceiling.table_growing(0, 1, None).unwrap());
        assert_eq!((ceiling.take_denied(), ceiling.take_denied()), (Some(Denied::Instance), None));
    }

    #[test]
    fn what_a_type_does_not_allow_takes_nothing() {
        let mut ceiling = Ceiling::new(1000, Account::new(1000));
        assert!(!ceiling.memory_growing(100, 300, Some(200)).unwrap());
        assert_eq!((ceiling.used_bytes(), ceiling.take_denied()), (0, None));
    }

    #[test]
    fn all_instances_of_a_version_share_its_account_and_give_back_what_they_took() {
        let version = Account::new(1000);
        assert!(version.take(100));
        let mut first = Ceiling::new(800, version.clone());
        let mut second = Ceiling::new(800, version.clone());
        assert!(first.memory_growing(0, 800, None).unwrap());
        assert!(!second.memory_growing(0, 101, None).unwrap());
        assert_eq!(second.take_denied(), Some(Denied::Version));
        drop(first);
        assert!(second.memory_growing(0, 800, None).unwrap());
        drop(second);
        assert!(version.take(900) && !version.take(1));
    }
}
