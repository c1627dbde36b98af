//! What a row costs a plugin, measured: to be compared with another version on the same machine, minutes apart.

use super::{Component, laws};
use std::time::{Duration, Instant};
use wasmill_pipeline::laws::Sample;
use wasmill_pipeline::plugin::Fault;
use wasmill_pipeline::record::RawBatch;

/// Measurements, of which the middle one counts: others on the machine spoil some.
const RUNS: usize = 7;
/// Rows of one measurement, at least: at 20 ns for a row a third of a millisecond.
const RUN_ROWS: usize = 16_384;
/// No measurement begins after so much time; one is always made.
const MAX_TIME: Duration = Duration::from_secs(1);

/// What `update` takes for a row of `samples`, in ns; `None` if there are no rows.
///
/// # Errors
/// The plugin fails.
pub fn update_ns_per_row(component: &Component, config_json: &str, samples: &[Sample]) -> Result<Option<f64>, Fault> {
    let rows = samples.iter().map(|sample| sample.slots.len()).sum();
    let pass = || {
        let mut aggregate = component.aggregate(config_json).map_err(|error| laws::fault(component, error))?;
        Ok(move || samples.iter().try_for_each(|sample| aggregate.update(&sample.slots, &sample.inputs)))
    };
    measure(rows, pass)
}

/// What `parse` takes for a record of `samples`, which are of `topic`, in ns, making the `wanted` columns; `None` if
/// there are no records.
///
/// # Errors
/// The plugin fails.
pub fn parse_ns_per_record(
    component: &Component,
    config_json: &str,
    topic: &str,
    wanted: Option<&[&str]>,
    samples: &[RawBatch],
) -> Result<Option<f64>, Fault> {
    let rows = samples.iter().map(RawBatch::len).sum();
    let pass = || {
        let parser = component.parser(config_json, topic, wanted);
        let mut parser = parser.map_err(|error| laws::fault(component, error))?;
        Ok(move || samples.iter().try_for_each(|batch| parser.parse(batch).map(drop)))
    };
    measure(rows, pass)
}

/// Ns per row of passes over `rows` rows. `start` makes a new instance, and what runs a pass over it.
fn measure<P: FnMut() -> Result<(), Fault>>(
    rows: usize,
    mut start: impl FnMut() -> Result<P, Fault>,
) -> Result<Option<f64>, Fault> {
    if rows == 0 {
        return Ok(None);
    }
    let passes = RUN_ROWS.div_ceil(rows);
    let began = Instant::now();
    let mut taken = Vec::with_capacity(RUNS);
    while taken.len() < RUNS && (taken.is_empty() || began.elapsed() < MAX_TIME) {
        let mut pass = start()?;
        // The first one grows memory and warms caches.
        pass()?;
        let began = Instant::now();
        for _ in 0..passes {
            pass()?;
        }
        taken.push(began.elapsed());
    }
    taken.sort_unstable();
    let middle = taken.get(taken.len() / 2).copied().unwrap_or_default();
    Ok(Some(middle.as_nanos() as f64 / (passes * rows) as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use wasmill_pipeline::plugin::FaultKind;

    #[test]
    fn small_samples_are_run_often_enough_to_be_measured() {
        let (instances, passes) = (Cell::new(0), Cell::new(0));
        let start = || {
            instances.set(instances.get() + 1);
            Ok(|| {
                passes.set(passes.get() + 1);
                Ok(())
            })
        };
        assert!(measure(10, start).unwrap().is_some_and(|ns| ns > 0.0));
        assert_eq!(instances.get(), RUNS);
        assert_eq!(passes.get(), RUNS * (1 + RUN_ROWS.div_ceil(10)));
    }

    #[test]
    fn without_rows_nothing_is_measured() {
        assert_eq!(measure(0, || Ok(|| Ok(()))).unwrap(), None);
    }

    #[test]
    fn a_fault_ends_the_measurement() {
        let fault = Fault { plugin: "p".into(), kind: FaultKind::Trap, message: "no".into(), backtrace: Vec::new() };
        assert_eq!(measure(1, || Ok(|| Err(fault.clone()))).unwrap_err(), fault);
    }
}
