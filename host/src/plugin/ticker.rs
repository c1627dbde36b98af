//! The ticker that makes deadlines pass. It rests while no guest code runs, so that an idle pipeline sleeps.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the ticker ticks: what a deadline may be late by, against 200 wake-ups a second.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// Ticks in a second.
pub(super) const TICKS_PER_SECOND: u64 = 200;
/// Ticks in a row without a call after which it rests. Waking it costs a call some microseconds, so it goes on through
/// the gaps between the batches of a slow stream.
const TICKS_TO_REST: u32 = 40;

/// How many ticks have passed: the room's own coarse clock, so that it needs no other.
#[derive(Clone, Default)]
pub(super) struct Ticks(Arc<AtomicU64>);

impl Ticks {
    /// Ticks since the runtime was made.
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn pass(&self, ticks: u64) {
        self.0.fetch_add(ticks, Ordering::Relaxed);
    }
}

/// The thread that moves the engine's epoch on, until it is dropped.
pub(super) struct Ticker {
    ticks: Ticks,
    calls: Arc<Calls>,
    /// Wakes it; closed at the end.
    bell: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The calls of guest code under way, and whether the ticker rests.
#[derive(Default)]
struct Calls {
    under_way: AtomicUsize,
    resting: AtomicBool,
}

/// A call of guest code under way: its deadline passes as long as this lives.
pub(super) struct Ticking<'a>(&'a Calls);

impl Ticker {
    /// Starts the thread, which calls `tick` at each tick.
    pub(super) fn start(tick: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let (ticks, calls) = (Ticks::default(), Arc::<Calls>::default());
        let (bell, rung) = bounded(1);
        let work = {
            let (ticks, calls) = (ticks.clone(), calls.clone());
            move || run(&tick, &ticks, &calls, &rung)
        };
        let thread = std::thread::Builder::new().name("plugin-deadline".into()).spawn(work)?;
        Ok(Self { ticks, calls, bell: Some(bell), thread: Some(thread) })
    }

    pub(super) fn ticks(&self) -> &Ticks {
        &self.ticks
    }

    /// To be called before guest code is.
    pub(super) fn call(&self) -> Ticking<'_> {
        // Counted before the look, as the ticker looks at the count after it has said that it rests: one sees the other.
        self.calls.under_way.fetch_add(1, Ordering::SeqCst);
        if self.calls.resting.load(Ordering::SeqCst)
            && let Some(bell) = &self.bell
        {
            // A full bell rings already; a closed one has no ticker, and then this call has no deadline to wait for.
            let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) = bell.try_send(());
        }
        Ticking(&self.calls)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.bell.take());
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked; and if it had, nobody is left to be told.
            let _ = thread.join();
        }
    }
}

/// Ticks until the bell is closed, and rests after a while without calls until it is rung.
fn run(tick: &dyn Fn(), ticks: &Ticks, calls: &Calls, rung: &Receiver<()>) {
    let mut quiet = 0;
    loop {
        match rung.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => {
                tick();
                ticks.pass(1);
            }
            // Rung when it had woken by itself already.
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        quiet = if calls.under_way.load(Ordering::SeqCst) == 0 { quiet + 1 } else { 0 };
        if quiet < TICKS_TO_REST {
            continue;
        }
        calls.resting.store(true, Ordering::SeqCst);
        if calls.under_way.load(Ordering::SeqCst) == 0 {
            let since = Instant::now();
            if rung.recv().is_err() {
                return;
            }
            // The clock has gone on meanwhile; the deadlines of the calls that come now count from here.
            ticks.pass(u64::try_from(since.elapsed().as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX));
        }
        calls.resting.store(false, Ordering::SeqCst);
        quiet = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for something that another thread does, for as long as a slow machine may need.
    fn wait_for(what: impl Fn() -> bool) -> bool {
        let until = Instant::now() + Duration::from_secs(30);
        while !what() && Instant::now() < until {
            std::thread::yield_now();
        }
        what()
    }

    fn ticker() -> (Ticker, Arc<AtomicU64>) {
        let epoch = Arc::<AtomicU64>::default();
        let count = epoch.clone();
        let tick = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        (Ticker::start(tick).unwrap(), epoch)
    }

    fn rests(ticker: &Ticker) -> bool {
        wait_for(|| ticker.calls.resting.load(Ordering::SeqCst))
    }

    #[test]
    fn it_rests_without_calls_and_ticks_through_a_call_however_long() {
        let (ticker, epoch) = ticker();
        assert!(rests(&ticker));
        let call = ticker.call();
        let began = epoch.load(Ordering::SeqCst);
        let far = began + 2 * u64::from(TICKS_TO_REST);
        assert!(wait_for(|| epoch.load(Ordering::SeqCst) > far), "the deadline of a call passes");
        drop(call);
        assert!(rests(&ticker));
    }

    #[test]
    fn it_rests_only_when_the_last_of_several_calls_is_over() {
        let (ticker, epoch) = ticker();
        let (first, second) = (ticker.call(), ticker.call());
        drop(first);
        assert!(wait_for(|| epoch.load(Ordering::SeqCst) > 2 * u64::from(TICKS_TO_REST)));
        assert!(!ticker.calls.resting.load(Ordering::SeqCst));
        drop(second);
        assert!(rests(&ticker));
    }

    #[test]
    fn its_clock_goes_on_while_it_rests() {
        let (ticker, epoch) = ticker();
        assert!(rests(&ticker));
        let since = Instant::now();
        assert!(wait_for(|| since.elapsed() > 2 * TICK), "time passes in which it rests");
        drop(ticker.call());
        assert!(wait_for(|| ticker.ticks().now() > epoch.load(Ordering::SeqCst)), "it counts more ticks than it made");
    }
}
