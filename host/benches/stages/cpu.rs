//! Time on a CPU in place of time by the clock, so that a machine with other work tells the same; and ns per event.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Bencher, BenchmarkGroup, Criterion, SamplingMode, Throughput};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// How long this thread was on a CPU.
pub(crate) struct CpuTime;

/// This thread's time on a CPU so far.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Both are never negative, and the second is below a thousand millions.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The time on a CPU of all threads of this process that live, but for those of these names: the first number of
/// Linux's schedstat, ns.
pub(crate) fn time_of_all_but(names: &[&str]) -> Duration {
    let mut all = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        // A thread may end between the look at the folder and the one at its files.
        let (Ok(name), Ok(times)) =
            (std::fs::read_to_string(task.join("comm")), std::fs::read_to_string(task.join("schedstat")))
        else {
            continue;
        };
        if !names.contains(&name.trim()) {
            all += Duration::from_nanos(times.split_whitespace().next().unwrap().parse().unwrap());
        }
    }
    all
}

/// Benches of a stage that work on so many events (or groups, or rows) in each iteration.
pub(crate) fn stage<'a>(c: &'a mut Criterion<CpuTime>, name: &str, each: u64) -> BenchmarkGroup<'a, CpuTime> {
    let mut group = c.benchmark_group(name);
    // An iteration is a whole stream: there are few of them, and no two samples need differ in how many.
    group.throughput(Throughput::Elements(each)).sampling_mode(SamplingMode::Flat);
    group
}

/// Measures `work` as often as asked, each time after `prepare`, which is not measured.
pub(crate) fn measure<T>(
    bencher: &mut Bencher<'_, CpuTime>,
    mut prepare: impl FnMut() -> T,
    mut work: impl FnMut(T) -> Duration,
) {
    bencher.iter_custom(|times| (0..times).map(|_| work(prepare())).sum());
}

/// How long `work` takes on a CPU.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let began = thread_time();
    let made = std::hint::black_box(work());
    let took = thread_time().saturating_sub(began);
    drop(made);
    took
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        thread_time()
    }

    fn end(&self, began: Duration) -> Duration {
        thread_time().saturating_sub(began)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Formatter
    }
}

/// As criterion shows times; what it calls a throughput is the time that one element takes.
struct Formatter;

impl ValueFormatter for Formatter {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let Throughput::Elements(elements) = throughput else {
            return WallTime.formatter().scale_throughputs(typical, throughput, values);
        };
        for value in values {
            *value /= *elements as f64;
        }
        "ns each"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
