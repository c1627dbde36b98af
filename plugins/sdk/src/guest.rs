//! Living inside a component without the standard library: the log, panics, memory, and one place for the plugin.

use alloc::format;

#[cfg(all(target_arch = "wasm32", not(feature = "std")))]
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Tells the host's log what the panic said, then traps: the host drops the instance.
#[cfg(all(target_arch = "wasm32", not(feature = "std")))]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    error(format!("{info}"));
    core::arch::wasm32::unreachable()
}

/// Sees to it that a panic's message reaches the host's log before the trap. Called by the export macros, first of all.
pub fn report_panics() {
    #[cfg(all(target_arch = "wasm32", feature = "std"))]
    std::panic::set_hook(alloc::boxed::Box::new(|info| error(format!("{info}"))));
}

/// The one instance of a plugin in its component, made by `init`.
///
/// A component has one thread and the host never calls it while a call is under way, so the lock is never waited for.
#[derive(Debug)]
pub struct Instance<T>(spin::Mutex<Option<T>>);

impl<T> Instance<T> {
    /// An empty place.
    #[must_use]
    pub const fn new() -> Self {
        Self(spin::Mutex::new(None))
    }

    /// Puts the plugin there.
    pub fn set(&self, plugin: T) {
        *self.0.lock() = Some(plugin);
    }

    /// Calls `f` with the plugin.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(self.0.lock().as_mut().expect("the host calls init first"))
    }
}

impl<T> Default for Instance<T> {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! levels {
    ($($(#[$doc:meta])* $name:ident = $level:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(message: impl AsRef<str>) {
            #[cfg(target_arch = "wasm32")]
            crate::bindings::log::log(crate::bindings::log::Level::$level, message.as_ref());
            #[cfg(not(target_arch = "wasm32"))]
            let _ = format!("{:?} {}", crate::bindings::log::Level::$level, message.as_ref());
        }
    )*};
}

levels! {
    /// Writes a line to the host's log at level debug. Natively it goes nowhere.
    debug = Debug;
    /// Writes a line to the host's log at level info. Natively it goes nowhere.
    info = Info;
    /// Writes a line to the host's log at level warn. Natively it goes nowhere.
    warn = Warn;
    /// Writes a line to the host's log at level error. Natively it goes nowhere.
    error = Error;
}
