//! The parts of the process that live as long as it does, and what becomes of a panic in one: a panic of a library is a
//! fault of this process, never the end of a part that nobody notices.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Does something in which a library may panic, and gives what the panic said.
///
/// What `work` was changing is to be thrown away after a panic, or to be such that it does not matter.
///
/// # Errors
/// What the panic said.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| said(panic.as_ref()))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a word").to_owned()
}

/// Which parts have died.
#[derive(Debug, Default)]
pub struct Parts(Mutex<BTreeMap<&'static str, String>>);

impl Parts {
    /// Starts a part, a thread of this name. When it panics it is told, and from then on it is one of the [`dead`](Self::dead).
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        self: &Arc<Self>,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let parts = self.clone();
        Builder::new().name(name.into()).spawn(move || {
            if let Err(why) = caught(work) {
                tracing::error!(part = name, "a part of the process panicked, and does not work any more: {why}");
                parts.all().insert(name, why);
            }
        })
    }

    /// The parts that do not work any more, a sentence each.
    pub fn dead(&self) -> Vec<String> {
        self.all().iter().map(|(name, why)| format!("the {name} thread panicked: {why}; restart the process")).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_said_is_told() {
        assert_eq!(caught(|| 5), Ok(5));
        assert_eq!(caught(|| -> u8 { panic!("two memories") }), Err("two memories".to_owned()));
        let seven = 7;
        assert_eq!(caught(|| -> u8 { panic!("{seven} memories") }), Err("7 memories".to_owned()));
        assert_eq!(caught(|| -> u8 { std::panic::panic_any(7) }), Err("without a word".to_owned()));
    }

    #[test]
    fn a_part_that_panics_is_dead_and_one_that_ends_is_not() {
        let parts = Arc::new(Parts::default());
        parts.start("watch", || {}).unwrap().join().unwrap();
        assert_eq!(parts.dead(), Vec::<String>::new());
        parts.start("watch", || panic!("no file")).unwrap().join().unwrap();
        assert_eq!(parts.dead(), ["the watch thread panicked: no file; restart the process"]);
    }
}
