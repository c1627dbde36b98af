//! The engine, its settings, and the ticker that makes deadlines pass.

use super::cache::Cache;
use super::component::{Component, World};
use super::{Error, Limits};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::{Config, Engine, OptLevel, WasmBacktraceDetails};

/// How often the deadline ticker ticks: what a deadline may be late by, against 200 wake-ups a second.
const TICK: Duration = Duration::from_millis(5);
/// Ticks in a second.
pub(super) const TICKS_PER_SECOND: u64 = 200;
/// Stack for guest code: a worker thread's 2 MiB, less what the host needs.
const GUEST_STACK_BYTES: usize = 1 << 20;

/// Where plugins run: one per process, shared by all threads.
pub struct Runtime {
    engine: Engine,
    limits: Limits,
    cache: Option<Cache>,
    ticker: Ticker,
}

impl Runtime {
    /// A runtime whose plugins stay within `limits`. Compiled code is kept below `cache_dir`, if given; a folder that
    /// cannot be used, or that others may write to, is warned about and left alone.
    ///
    /// # Errors
    /// [`Error::Engine`] or [`Error::Ticker`], when the machine does not give what it takes.
    pub fn new(cache_dir: Option<&Path>, limits: Limits) -> Result<Arc<Self>, Error> {
        Self::with(WasmBacktraceDetails::Disable, cache_dir, limits)
    }

    /// The same, but faults name files and lines too, where components have line tables. That makes each of them cost
    /// milliseconds, which a topic full of poison would pay a thousand times.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_lines(cache_dir: Option<&Path>, limits: Limits) -> Result<Arc<Self>, Error> {
        Self::with(WasmBacktraceDetails::Enable, cache_dir, limits)
    }

    fn with(details: WasmBacktraceDetails, cache_dir: Option<&Path>, limits: Limits) -> Result<Arc<Self>, Error> {
        let engine = Engine::new(config().wasm_backtrace_details(details)).map_err(Error::Engine)?;
        let ticker = Ticker::start(engine.clone()).map_err(Error::Ticker)?;
        let cache = cache_dir.and_then(|dir| Cache::open(dir, &engine));
        Ok(Arc::new(Self { engine, limits, cache, ticker }))
    }

    /// Reads, compiles (or takes from the cache) and checks the component in `path`. `name` is what the pipeline file
    /// calls it: for messages only.
    ///
    /// # Errors
    /// Says what the file has and what is wanted, when it is not a component of that world and of this contract.
    pub fn load(self: &Arc<Self>, name: &str, path: &Path, world: World) -> Result<Component, Error> {
        Component::load(self, name, path, world)
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    pub(super) fn ticks(&self) -> &Ticks {
        &self.ticker.ticks
    }

    /// The deadline of a call in ticks from now: never shorter than the limit, by at most two ticks longer.
    pub(super) fn deadline_ticks(&self) -> u64 {
        let ticks = self.limits.deadline.as_nanos().div_ceil(TICK.as_nanos());
        u64::try_from(ticks).unwrap_or(u64::MAX / 2).min(u64::MAX / 2) + 1
    }
}

/// Same input, same output, on every machine: NaNs canonical, relaxed SIMD exact, no threads. Beyond that, the
/// features that today's compilers use, and no others.
fn config() -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .shared_memory(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES);
    config
}

/// How many ticks have passed: the room's own coarse clock, so that it needs no other.
#[derive(Clone, Default)]
pub(super) struct Ticks(Arc<AtomicU64>);

impl Ticks {
    /// Ticks since the runtime was made.
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The thread that moves the engine's epoch on, until it is dropped.
struct Ticker {
    ticks: Ticks,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let ticks = Ticks::default();
        let (stop, stopped) = bounded::<()>(0);
        let counter = ticks.clone();
        let thread = std::thread::Builder::new().name("plugin-deadline".into()).spawn(move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
                counter.0.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        Ok(Self { ticks, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked; and if it had, nobody is left to be told.
            let _ = thread.join();
        }
    }
}
