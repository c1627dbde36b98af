//! One bell for many queues: a worker sleeps until any of its partitions has records, or somebody wakes it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Rung by librdkafka's threads when an empty queue gets something.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rung: bool,
    woken: bool,
}

impl Bell {
    /// A queue has something. Called under librdkafka's locks: calls nothing of it.
    pub(super) fn ring(&self) {
        self.lock().rung = true;
        self.changed.notify_one();
    }

    /// Sleeps until rung, woken or `timeout` has passed; rings from before the call count. Whether it was woken.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let state = self.lock();
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, timeout, |state| !state.rung && !state.woken)
            .unwrap_or_else(PoisonError::into_inner);
        state.rung = false;
        std::mem::take(&mut state.woken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the current or next wait of one [`Source`](super::Source), from any thread.
#[derive(Clone, Debug)]
pub struct Waker(pub(super) Arc<Bell>);

impl Waker {
    /// Makes the source's `poll` come back at once, with what is there.
    pub fn wake(&self) {
        self.0.lock().woken = true;
        self.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_wait_is_not_lost() {
        let bell = Bell::default();
        bell.ring();
        assert!(!bell.wait(Duration::from_hours(1)));
        assert!(!bell.wait(Duration::ZERO));
    }

    #[test]
    fn a_wake_ends_a_wait_on_another_thread() {
        let bell = Arc::new(Bell::default());
        let waker = Waker(Arc::clone(&bell));
        let sleeper = std::thread::spawn(move || bell.wait(Duration::from_hours(1)));
        waker.wake();
        assert!(sleeper.join().unwrap());
    }
}
