//! Facts about guests that keep the contract, and about those that do not.

mod behaviour;
mod laws;
mod reference;
mod refusals;

use super::{Limits, Runtime};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Limits that a test meets at once.
fn tight() -> Limits {
    Limits {
        memory_bytes: 8 << 20,
        version_bytes: 32 << 20,
        deadline: Duration::from_millis(50),
        answer_bytes: 64 << 10,
        log_lines_per_second: 10,
        ..Limits::default()
    }
}

fn runtime() -> Arc<Runtime> {
    Runtime::new(None, tight()).unwrap()
}

/// A file with the binary form of a component (or module) in text form.
fn write_wat(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("plugin.wasm");
    std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
    path
}
