//! ns of processor time per event of each stage, with the reference job's components.
//!
//! `make plugins && cargo bench --bench stages`, or `cargo bench --bench stages -- parse` for some of them. In the
//! output, `thrpt` is the time that one event takes (in `close` and `cut`, one group; in `files`, one row). All are
//! times on a CPU, not by the clock; what waits for a disk or another thread costs nothing here.
//!
//! | stage | what is measured |
//! |---|---|
//! | fetch | a client's whole work from its start to the last record, on all its threads; the broker's is left out |
//! | parse | the parser: as a component, with the way in and out; natively, through the SDK |
//! | lane | parse, event time, lateness, keys, and dividing rows among workers |
//! | exchange | one worker sends its rows and wakes the other, which receives them |
//! | group, session | coding keys; finding each row's group or session, while windows close as the watermark moves |
//! | update | the aggregates: as components, with the way in; natively, through the SDK |
//! | close | 10,000 groups at once: sort, finish, decode keys |
//! | cut | 10,000 groups that changed: the worker's pause; writing the segment beside it |
//! | files | 131,072 raw events, a row group; the 10,000 rows of closed windows |

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod aggregate;
mod cpu;
mod files;
mod hollow;
mod job;
mod kafka;
mod native;
mod parse;

use criterion::Criterion;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(cpu::CpuTime)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let job = job::Job::new();
    kafka::benches(&job, &mut criterion);
    parse::benches(&job, &mut criterion);
    aggregate::benches(&job, &mut criterion);
    files::benches(&job, &mut criterion);
    criterion.final_summary();
}
