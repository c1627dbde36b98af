//! How much of the machine a guest may take.

use std::time::Duration;
use wasmtime::ResourceLimiter;

/// What one instance may take. Every part has a default that a well-behaved plugin never meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory, all memories of an instance together.
    pub memory_bytes: usize,
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
            // A batch of 8,192 rows takes about 3 ms; a snapshot of 100,000 groups 23 ms.
            deadline: Duration::from_secs(10),
            // A parser's answer is about as large as its batch, which librdkafka caps near 64 MiB.
            answer_bytes: 256 << 20,
            log_lines_per_second: 100,
        }
    }
}

/// Core instances in one store; a component with the WASI adapter has about five.
const MAX_INSTANCES: usize = 64;
/// Tables in one store; as for the instances.
const MAX_TABLES: usize = 64;
/// Memories in one store; a plugin has one.
const MAX_MEMORIES: usize = 8;
/// Entries in one table: function pointers, of which large programs have some ten thousand.
const MAX_TABLE_ELEMENTS: usize = 1 << 20;

/// Keeps an instance inside its memory limit, and remembers when it had to.
pub(super) struct Ceiling {
    memory_bytes: usize,
    used_bytes: usize,
    denied: bool,
}

impl Ceiling {
    /// A ceiling of so many bytes.
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self { memory_bytes, used_bytes: 0, denied: false }
    }

    /// How many bytes the instance has now.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Whether the instance was refused memory since the last time this was asked.
    pub(super) fn take_denied(&mut self) -> bool {
        std::mem::take(&mut self.denied)
    }
}

impl ResourceLimiter for Ceiling {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.used_bytes.saturating_add(desired.saturating_sub(current));
        let granted = wanted <= self.memory_bytes;
        if granted {
            self.used_bytes = wanted;
        } else {
            self.denied = true;
        }
        Ok(granted)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
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
