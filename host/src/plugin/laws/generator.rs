//! The laws of a generator: a record is a function of configuration, seed, number and time, whatever else is asked.

use crate::plugin::{Generated, Generator};
use arrow_array::Array;
use std::ops::Range;
use wasmill_pipeline::laws::{Broken, Law, MAX_BATCH_ROWS, Tried};
use wasmill_pipeline::plugin::{Fault, FaultKind};

/// Records that are asked for one by one.
const SINGLES: usize = 64;
/// Tries to make an input smaller. Halving 4,096 records takes two dozen.
const MAX_TRIES: usize = 100;
/// Tries that may take as long as a call's deadline.
const MAX_SLOW_TRIES: usize = 8;
/// Records that are shown.
const MAX_LINES: usize = 20;

type Make<'a> = &'a mut dyn FnMut() -> Result<Box<dyn Generator>, Fault>;

/// A law that does not hold for some records.
struct Failure {
    law: Law,
    message: String,
    slow: bool,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let law = if fault.kind == FaultKind::Contract { Law::Declared } else { Law::NoFault };
        Self { law, message: fault.to_string(), slow: fault.kind == FaultKind::Deadline }
    }
}

/// Tries the generators that `make` makes, all with one seed, on the records from `first` on.
///
/// # Errors
/// The first law that does not hold.
pub(super) fn laws(make: Make<'_>, first: u64, times_us: &[i64]) -> Result<Tried, Broken> {
    let times = &times_us[..times_us.len().min(MAX_BATCH_ROWS)];
    let mut check = |range: &Range<usize>| check(make, first + range.start as u64, &times[range.clone()]);
    let Err(failure) = check(&(0..times.len())) else {
        return Ok(Tried { batches: usize::from(!times.is_empty()), rows: times.len() });
    };
    let (range, Failure { law, message, .. }) = smallest(times.len(), failure, |range| check(range).err());
    let items = range.len();
    let line = |at: usize| format!("record {} at time_us = {}", first + at as u64, times[at]);
    let mut input: Vec<String> = range.take(MAX_LINES).map(line).collect();
    if items > MAX_LINES {
        input.push(format!("and {} more", items - MAX_LINES));
    }
    Err(Broken { law, message, items, input })
}

/// Fails where a law does not hold for these records.
fn check(make: Make<'_>, first: u64, times: &[i64]) -> Result<(), Failure> {
    let mut one = make()?;
    let whole = one.generate(first, times)?;
    let other = make()?.generate(first, times)?;
    same(Law::Determinism, first, (&whole, "from one instance"), (&other, "from another"))?;
    let again = one.generate(first, times)?;
    same(Law::Determinism, first, (&whole, "the first time"), (&again, "the second"))?;
    let half = times.len() / 2;
    let singles = (0..times.len().min(SINGLES)).map(|at| at..at + 1);
    for part in [0..half, half..times.len()].into_iter().chain(singles).filter(|part| !part.is_empty()) {
        let first = first + part.start as u64;
        let alone = one.generate(first, &times[part.clone()])?;
        let among = Generated {
            values: whole.values.slice(part.start, part.len()),
            keys: whole.keys.as_ref().map(|keys| keys.slice(part.start, part.len())),
        };
        same(Law::Cut, first, (&among, "among others"), (&alone, "with fewer or none"))?;
    }
    Ok(())
}

/// Fails where two answers about the same records differ.
fn same(
    law: Law,
    first: u64,
    (one, here): (&Generated, &str),
    (other, there): (&Generated, &str),
) -> Result<(), Failure> {
    if one == other {
        return Ok(());
    }
    let value = (0..one.values.len()).find(|at| one.values.value(*at) != other.values.value(*at));
    let message = match (value, &one.keys, &other.keys) {
        (Some(at), ..) => {
            let text = |of: &Generated| shown(of.values.value(at));
            format!("the payload of record {} is {} {here}, and {} {there}", first + at as u64, text(one), text(other))
        }
        (None, Some(a), Some(b)) => {
            let at = (0..a.len()).find(|at| a.value(*at) != b.value(*at)).unwrap_or_default();
            let (a, b) = (shown(a.value(at)), shown(b.value(at)));
            format!("the key of record {} is {a} {here}, and {b} {there}", first + at as u64)
        }
        (None, ..) => format!("records have keys only {}", if one.keys.is_some() { here } else { there }),
    };
    Err(Failure { law, message, slow: false })
}

/// Bytes as text, cut.
fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes).chars().take(200).collect::<String>())
}

/// The smallest range found of `0..len` for which `fails` still answers a failure of the same law.
fn smallest(
    len: usize,
    mut found: Failure,
    mut fails: impl FnMut(&Range<usize>) -> Option<Failure>,
) -> (Range<usize>, Failure) {
    let mut best = 0..len;
    let (mut tries, mut slow_tries) = (0, 0);
    let mut step = len.div_ceil(2);
    while step > 0 {
        let without_first = best.start + step.min(best.len())..best.end;
        let without_last = best.start..best.end - step.min(best.len());
        let mut smaller = false;
        for range in [without_first, without_last] {
            tries += 1;
            if tries > MAX_TRIES || slow_tries >= MAX_SLOW_TRIES || best.is_empty() {
                return (best, found);
            }
            let failure = fails(&range);
            slow_tries += usize::from(failure.as_ref().is_some_and(|failure| failure.slow));
            if let Some(failure) = failure.filter(|failure| failure.law == found.law) {
                (best, found, smaller) = (range, failure, true);
                break;
            }
        }
        if !smaller {
            step /= 2;
        }
    }
    (best, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::BinaryArray;

    /// What a generator does wrong.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Flaw {
        None,
        /// Its payloads have the number of the call.
        CountsCalls,
        /// The payload of record 40 has the number of the batch's first record.
        KnowsFirst,
        /// There are keys in batches of more than two.
        KeysOfMany,
        /// It traps on record 77.
        Traps,
    }

    struct Numbers {
        flaw: Flaw,
        calls: u64,
    }

    impl Generator for Numbers {
        fn generate(&mut self, first: u64, times_us: &[i64]) -> Result<Generated, Fault> {
            self.calls += 1;
            let records = first..first + times_us.len() as u64;
            if self.flaw == Flaw::Traps && records.contains(&77) {
                let message = "unlucky".into();
                return Err(Fault { plugin: "numbers".into(), kind: FaultKind::Trap, message, backtrace: Vec::new() });
            }
            let value = |record: u64| match self.flaw {
                Flaw::CountsCalls => format!("{record}/{}", self.calls),
                Flaw::KnowsFirst if record == 40 => format!("{record}/{first}"),
                _ => record.to_string(),
            };
            let values: BinaryArray = records.map(|record| Some(value(record))).collect();
            let keyed = self.flaw != Flaw::KeysOfMany || times_us.len() > 2;
            Ok(Generated { keys: keyed.then(|| values.clone()), values })
        }
    }

    fn tried(flaw: Flaw) -> Result<Tried, Broken> {
        let times: Vec<i64> = (0..1000).collect();
        laws(&mut || Ok(Box::new(Numbers { flaw, calls: 0 })), 10, &times)
    }

    #[test]
    fn a_generator_without_flaw_keeps_all_laws() {
        assert_eq!(tried(Flaw::None).unwrap(), Tried { batches: 1, rows: 1000 });
    }

    #[test]
    fn each_flaw_is_named_and_shown_with_the_fewest_records() {
        for (flaw, law, items, input) in [
            (Flaw::CountsCalls, Law::Determinism, 1, "record 1009 at time_us = 999"),
            (Flaw::KnowsFirst, Law::Cut, 2, "record 39 at time_us = 29"),
            (Flaw::KeysOfMany, Law::Cut, 3, "record 1007 at time_us = 997"),
            (Flaw::Traps, Law::NoFault, 1, "record 77 at time_us = 67"),
        ] {
            let broken = tried(flaw).unwrap_err();
            assert_eq!((broken.law, broken.items, broken.input[0].as_str()), (law, items, input), "{broken}");
        }
    }

    #[test]
    fn the_message_shows_both_payloads() {
        let broken = tried(Flaw::KnowsFirst).unwrap_err();
        let message = "the payload of record 40 is \"40/39\" among others, and \"40/40\" with fewer or none";
        assert_eq!(broken.message, message);
        assert!(tried(Flaw::KeysOfMany).unwrap_err().message.contains("have keys only among others"));
    }
}
