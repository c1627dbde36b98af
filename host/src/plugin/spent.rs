//! What a call costs: time of the processor, not of the clock, so that others on the machine do not count.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// How much this thread has had of the processor so far.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Both are never negative, and the second is below a thousand millions.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}
