//! The engine, its settings and its limits.

use super::cache::Cache;
use super::component::{Component, World};
use super::ticker::{TICK, TICKS_PER_SECOND, Ticker};
use super::{Error, Limits};
use std::path::Path;
use std::sync::Arc;
use wasmtime::{Config, Engine, OptLevel, WasmBacktraceDetails};

/// Stack for guest code: a worker thread's 2 MiB, less what the host needs.
const GUEST_STACK_BYTES: usize = 1 << 20;

/// Where plugins run: one per process, shared by all threads.
pub struct Runtime {
    engine: Engine,
    /// Whether faults name files and lines.
    lines: bool,
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
        Self::with(false, cache_dir, limits)
    }

    /// The same, but faults name files and lines too, where components have line tables. That makes each of them cost
    /// milliseconds, which a topic full of poison would pay a thousand times.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_lines(cache_dir: Option<&Path>, limits: Limits) -> Result<Arc<Self>, Error> {
        Self::with(true, cache_dir, limits)
    }

    fn with(lines: bool, cache_dir: Option<&Path>, limits: Limits) -> Result<Arc<Self>, Error> {
        let engine = Engine::new(&config(lines)).map_err(Error::Engine)?;
        let epoch = engine.clone();
        let ticker = Ticker::start(move || epoch.increment_epoch()).map_err(Error::Ticker)?;
        let cache = cache_dir.and_then(|dir| Cache::open(dir, &engine));
        Ok(Arc::new(Self { engine, lines, limits, cache, ticker }))
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

    pub(super) fn lines(&self) -> bool {
        self.lines
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// The deadline of a call in ticks from now: never shorter than the limit, by at most two ticks longer.
    pub(super) fn deadline_ticks(&self) -> u64 {
        let ticks = self.limits.deadline.as_nanos().div_ceil(TICK.as_nanos());
        u64::try_from(ticks).unwrap_or(u64::MAX / 2).min(u64::MAX / 2) + 1
    }

    /// The same for a call that others wait for: a tenth of it, 1 s by default, where batches take some 3 ms; but not so
    /// little that a busy machine alone would use it up.
    pub(super) fn soon_ticks(&self) -> u64 {
        (self.deadline_ticks() / 10).max(TICKS_PER_SECOND / 5).min(self.deadline_ticks())
    }
}

/// An engine that only compiles, on one core, for one of these settings.
pub(super) fn compiler(lines: bool) -> wasmtime::Result<Engine> {
    Engine::new(config(lines).parallel_compilation(false))
}

/// Same input, same output, on every machine: NaNs canonical, relaxed SIMD exact, no threads. Beyond that, the
/// features that today's compilers use, and no others.
fn config(lines: bool) -> Config {
    let mut config = Config::new();
    config
        .wasm_backtrace_details(if lines { WasmBacktraceDetails::Enable } else { WasmBacktraceDetails::Disable })
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        // Components that are made of several have a memory in each, and what goes between them sees both.
        .wasm_multi_memory(true)
        .shared_memory(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES);
    config
}
