//! How long a component that is tried may be called.

use std::sync::atomic::{AtomicU8, Ordering};

/// It is being tried.
const TRIED: u8 = 0;
/// It was taken: it may be called for good.
const TAKEN: u8 = 1;
/// Its trial is over: no call of it begins any more.
const OVER: u8 = 2;

/// Of a component that is tried.
#[derive(Debug, Default)]
pub struct Permit(AtomicU8);

impl Permit {
    /// The component is taken. `false` = its trial was over before that.
    pub fn take(&self) -> bool {
        self.end(TAKEN)
    }

    /// The trial is over: each call that comes fails at once, and one under way ends by its deadline.
    pub fn withdraw(&self) {
        self.end(OVER);
    }

    /// Whether calls fail.
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OVER
    }

    fn end(&self, how: u8) -> bool {
        let ended = self.0.compare_exchange(TRIED, how, Ordering::SeqCst, Ordering::SeqCst);
        ended.is_ok_and(|_| true) || ended == Err(how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_taken_or_its_trial_is_over_whichever_comes_first() {
        let (taken, over) = (Permit::default(), Permit::default());
        assert!(taken.take());
        taken.withdraw();
        assert!(!taken.is_over());
        over.withdraw();
        assert!(over.is_over() && !over.take() && over.is_over());
    }
}
