//! Named places between two effects, where a test can end the process as a power cut would.
//!
//! With the feature `testing`, `WASMILL_FAILPOINT=name:n` makes the process kill itself the n-th time it comes to that
//! place: with SIGKILL, so that nothing is cleaned up. Without the feature there is nothing of this in the program.

/// Comes to a place; the names are unique, so that a test can find them all in the source.
#[cfg(not(feature = "testing"))]
#[inline]
pub const fn reach(_name: &str) {}

#[cfg(feature = "testing")]
pub use armed::reach;

#[cfg(feature = "testing")]
mod armed {
    use std::process::Command;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The place to die at.
    struct Armed {
        name: String,
        /// How many more times the process comes there; the last is the end.
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let setting = std::env::var("WASMILL_FAILPOINT").ok()?;
        let (name, times) = setting.rsplit_once(':').expect("WASMILL_FAILPOINT is name:n");
        let times = times.parse().expect("WASMILL_FAILPOINT ends with a number");
        Some(Armed { name: name.to_owned(), left: AtomicU64::new(times) })
    });

    /// Comes to a place; the names are unique, so that a test can find them all in the source.
    pub fn reach(name: &str) {
        if let Some(armed) = ARMED.as_ref()
            && armed.name == name
            && armed.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            die(name);
        }
    }

    /// Never returns: the signal may come a moment later, and until then this thread does nothing more.
    fn die(name: &str) {
        tracing::warn!(name, "killed at a failpoint");
        let killed = Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill(1) is there");
        loop {
            std::thread::park();
        }
    }
}
