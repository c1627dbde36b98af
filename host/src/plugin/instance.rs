//! One instance of a component: its store, and calls with a deadline whose failures are told apart.

use super::bindings::wit_log::{self, Level};
use super::bindings::{wit, wit_generator_types};
use super::component::Component;
use super::limits::{Ceiling, Denied};
use super::log::{Log, cut, printable};
use super::{Error, backtrace};
use crate::parts::caught;
use std::sync::Arc;
use wasmill_pipeline::plugin::{Fault, FaultKind};
use wasmtime::{Store, Trap, WasmBacktrace};

/// Cut of a fault's message, which goes into dead letters and logs.
const MAX_MESSAGE_BYTES: usize = 512;

/// What the host keeps beside an instance.
pub(super) struct Context {
    ceiling: Ceiling,
    log: Log,
}

impl wit_log::Host for Context {
    fn log(&mut self, level: Level, message: String) {
        self.log.write(level, &message);
    }
}

impl wit::Host for Context {}
impl wit_generator_types::Host for Context {}

/// An instance whose exports are `W`. After a fault it is of no use: wasmtime refuses to enter it again.
pub(super) struct Instance<W> {
    store: Store<Context>,
    exports: W,
    component: Component,
}

impl<W> Instance<W> {
    /// A new instance; nothing of it has been called yet but what runs at instantiation.
    ///
    /// # Errors
    /// [`Error::Shape`] if its exports have other types than the contract, [`Error::Start`] if it failed.
    pub(super) fn new(
        component: &Component,
        instantiate: impl FnOnce(&mut Store<Context>) -> wasmtime::Result<W>,
    ) -> Result<Self, Error> {
        if let Some(fault) = component.over() {
            return Err(Error::Start(fault));
        }
        let runtime = component.runtime();
        let limits = runtime.limits();
        let log = Log::new(component.shared_name(), limits.log_lines_per_second, runtime.ticker().ticks().clone());
        let mut ceiling = Ceiling::new(limits.memory_bytes, component.account().clone());
        let fits = ceiling.take(component.instance_bytes());
        let context = Context { ceiling, log };
        let mut store = Store::new(runtime.engine(), context);
        store.limiter(|context| &mut context.ceiling);
        store.set_hostcall_fuel(limits.answer_bytes);
        if !fits {
            let denied = store.data_mut().ceiling.take_denied();
            let source = wasmtime::format_err!("no memory is left for an instance");
            return Err(Error::Start(fault(&mut store, component.shared_name(), denied, &source)));
        }
        let _ticking = runtime.ticker().call();
        store.set_epoch_deadline(runtime.deadline_ticks());
        let instantiated = caught(|| instantiate(&mut store))
            .map_err(|message| Error::Start(panicked(component.shared_name(), &message)))?;
        match instantiated {
            Ok(exports) => Ok(Self { store, exports, component: component.clone() }),
            Err(source) => {
                let ran = source.is::<Trap>() || source.is::<WasmBacktrace>();
                let denied = store.data_mut().ceiling.take_denied();
                if ran || denied.is_some() {
                    Err(Error::Start(fault(&mut store, component.shared_name(), denied, &source)))
                } else {
                    Err(component.shape_error(source))
                }
            }
        }
    }

    /// What it takes, which grows and never shrinks.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.store.data().ceiling.used_bytes() as u64
    }

    /// Calls one export. The answer has not been checked beyond what its types say.
    ///
    /// # Errors
    /// A fault, and then the instance is to be dropped.
    pub(super) fn call<T>(
        &mut self,
        export: impl FnOnce(&W, &mut Store<Context>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        self.call_within(self.component.runtime().deadline_ticks(), export)
    }

    /// The same within so many ticks.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub(super) fn call_within<T>(
        &mut self,
        ticks: u64,
        export: impl FnOnce(&W, &mut Store<Context>) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        if let Some(fault) = self.component.over() {
            return Err(fault);
        }
        let runtime = self.component.runtime();
        let _ticking = runtime.ticker().call();
        self.store.set_epoch_deadline(ticks);
        let answer = caught(|| export(&self.exports, &mut self.store))
            .map_err(|message| panicked(self.component.shared_name(), &message))?;
        answer.map_err(|error| {
            let denied = self.store.data_mut().ceiling.take_denied();
            fault(&mut self.store, self.component.shared_name(), denied, &error)
        })
    }
}

/// A panic of the library below a call, which leaves an instance that is thrown away.
fn panicked(plugin: Arc<str>, message: &str) -> Fault {
    let mut message = format!("the WebAssembly library panicked: {}", printable(message));
    message.truncate(cut(&message, MAX_MESSAGE_BYTES).len());
    Fault { plugin, kind: FaultKind::Trap, message, backtrace: Vec::new() }
}

/// Tells the ways to fail apart. A guest that was refused memory mostly aborts, so that comes before the trap; an error
/// without a guest frame comes from reading the answer, so the answer was wrong.
fn fault(store: &mut Store<Context>, plugin: Arc<str>, denied: Option<Denied>, error: &wasmtime::Error) -> Fault {
    let last_words = store.data_mut().log.take_last_error();
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let trap = error.downcast_ref::<Trap>();
    let kind = match trap {
        Some(Trap::Interrupt) => FaultKind::Deadline,
        _ if denied.is_some() => FaultKind::Memory,
        None if backtrace.is_none() => FaultKind::Contract,
        _ => FaultKind::Trap,
    };
    let mut message = match trap {
        Some(trap) => trap.to_string(),
        None => printable(&error.root_cause().to_string()),
    };
    if denied == Some(Denied::Version) {
        message.insert_str(0, "all instances of this version together (limits.version_memory): ");
    }
    if let Some(function) = backtrace.and_then(|trace| trace.frames().first()?.func_name()) {
        message.push_str(" in ");
        message.push_str(&backtrace::plain(function));
    }
    if let Some(words) = last_words {
        message.push_str("; the plugin's last error: ");
        message.push_str(&words);
    }
    message.truncate(cut(&message, MAX_MESSAGE_BYTES).len());
    Fault { plugin, kind, message, backtrace: backtrace.map(backtrace::lines).unwrap_or_default() }
}
