//! Whose turn it is: several processes in threads of their own, of which exactly one runs at a time, so that a seed
//! decides how they interleave down to single operations on the disk.

use std::sync::{Condvar, Mutex, MutexGuard};

/// The order in which processes run.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    current: usize,
    running: Vec<bool>,
}

impl Turns {
    /// The first of so many processes begins.
    pub(crate) fn new(processes: usize) -> Self {
        Self { state: Mutex::new(State { current: 0, running: vec![true; processes] }), changed: Condvar::new() }
    }

    /// Lets the others run until it is this process's turn again.
    pub(crate) fn pass(&self, me: usize) {
        let mut state = self.state.lock().expect("nobody dies while holding it");
        let next = state.next(me);
        if next != me {
            state.current = next;
            self.changed.notify_all();
            self.wait(state, me);
        }
    }

    /// Waits until it is this process's turn for the first time; it ends when the answer is dropped.
    pub(crate) fn begin(&self, me: usize) -> impl Drop + '_ {
        self.wait(self.state.lock().expect("nobody dies while holding it"), me);
        Ended { turns: self, me }
    }

    fn wait(&self, state: MutexGuard<'_, State>, me: usize) {
        drop(self.changed.wait_while(state, |state| state.current != me).expect("nobody dies while holding it"));
    }
}

impl State {
    /// The next process after this one that has not ended; itself where there is none.
    fn next(&self, me: usize) -> usize {
        let count = self.running.len();
        (1..count).map(|step| (me + step) % count).find(|&other| self.running[other]).unwrap_or(me)
    }
}

/// Passes the turn on for good, also where its process panicked.
struct Ended<'t> {
    turns: &'t Turns,
    me: usize,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.turns.state.lock() {
            state.running[self.me] = false;
            state.current = state.next(self.me);
            self.turns.changed.notify_all();
        }
    }
}
