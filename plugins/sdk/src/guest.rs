//! Living inside a component without the standard library: the log, panics, memory, and one place for the plugin.

use alloc::format;

#[cfg(all(target_arch = "wasm32", not(feature = "std")))]
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

// Without `std` nobody else links the C library, which has `memcpy` and its like on these targets.
#[cfg(all(target_os = "wasi", not(feature = "std")))]
#[expect(unsafe_code, reason = "the block declares nothing")]
#[link(name = "c")]
unsafe extern "C" {}

/// Where the host puts what it sends. `wit-bindgen` has it for the other targets; on wasip2 it counts on the C library's,
/// which would take memory from another allocator than the one that gives it back.
#[cfg(all(target_env = "p2", not(feature = "std")))]
#[expect(unsafe_code, reason = "the canonical ABI asks for raw memory")]
#[unsafe(no_mangle)]
extern "C" fn cabi_realloc(old: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    use alloc::alloc::{Layout, alloc, handle_alloc_error, realloc};
    let layout = |len| Layout::from_size_align(len, align).expect("the host asks for a power of two");
    if new_len == 0 {
        return core::ptr::without_provenance_mut(align);
    }
    // SAFETY: `new_len` is not 0, and `old` came from here with `old_len` and `align`, as the canonical ABI promises.
    let memory = unsafe { if old_len == 0 { alloc(layout(new_len)) } else { realloc(old, layout(old_len), new_len) } };
    if memory.is_null() {
        handle_alloc_error(layout(new_len));
    }
    memory
}

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
