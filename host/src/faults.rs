//! What a run remembers of its plugins' faults from one attempt to the next, and what it does about each.

use crate::assembly::{Assembly, Outputs};
use std::sync::Arc;
use wasmill_pipeline::fault::{Cause, FaultPolicy, FaultRules, PluginFailure, Service, Suspects, Treatment};

/// A call that concerns state and fails for the second time within so many checkpoints fails for good: with the default
/// interval about a quarter of an hour, in which what was overload has passed.
const CALM_CHECKPOINTS: u32 = 100;

/// The memory of a run.
#[derive(Debug, Default)]
pub struct Faults {
    parser: FaultRules,
    aggregates: Vec<Memory>,
    /// What is on probation, by its place in the plan; `None` = the parser.
    probation: Vec<Option<usize>>,
}

/// What is remembered of one aggregate.
#[derive(Debug)]
struct Memory {
    rules: FaultRules,
    watch: Option<Watch>,
    /// Checkpoints since a fault that no record explains.
    unexplained: Option<u32>,
    out: Option<Arc<str>>,
}

/// Since an aggregate failed on some record: rows are tried before they count, until all is well again.
#[derive(Debug)]
struct Watch {
    /// The records that it failed on last.
    suspects: Suspects,
    /// Whether the rows of all records are tried, as it failed on others again.
    all: bool,
    /// Rows set aside as of the last checkpoint.
    set_aside: Option<u64>,
}

/// What is done about a failure.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Read again from the last checkpoint at once: it cannot end in the same way again and again.
    Replay,
    /// Try the same again, as often as failures of other kinds.
    Retry,
    /// End the run.
    Stop,
    /// The new version is to be taken back.
    GoBack,
}

impl Faults {
    /// Of a run that begins.
    pub fn new(parser: FaultRules, aggregates: impl IntoIterator<Item = FaultRules>) -> Self {
        Self { parser, aggregates: aggregates.into_iter().map(Memory::of).collect(), probation: Vec::new() }
    }

    /// Goes on with these versions; what is remembered of the one that is new (`Some(None)` = the parser) is forgotten,
    /// and of all that run beside those in force.
    pub fn fit(&mut self, assembly: &Assembly, new: Option<Option<usize>>) {
        let outputs = &assembly.outputs;
        self.aggregates.truncate(outputs.in_force);
        if let Some(Some(place)) = new
            && let Some(memory) = self.aggregates.get_mut(place)
        {
            *memory = Memory::of(memory.rules);
        }
        for plan in assembly.plan.aggregates.iter().skip(outputs.in_force) {
            self.aggregates.push(Memory::of(self.aggregates[plan.of].rules));
        }
    }

    /// Sets what is on probation, by its place in the plan; `None` = the parser. Whatever it does wrong, it is taken back.
    pub fn set_probation(&mut self, places: Vec<Option<usize>>) {
        self.probation = places;
    }

    /// How the next attempt treats the plugins.
    pub fn treatment(&self) -> Treatment {
        let service = |memory: &Memory| match (&memory.out, &memory.watch) {
            (Some(why), _) => Service::Out(why.clone()),
            (None, Some(watch)) => Service::Watched((!watch.all).then_some(watch.suspects)),
            (None, None) => Service::Trusted,
        };
        let aggregates = self.aggregates.iter().map(|memory| (memory.rules, service(memory))).collect();
        let mut parser = self.parser;
        if self.probation.contains(&None) {
            parser.policy = FaultPolicy::Stop;
        }
        Treatment { parser, aggregates }
    }

    /// Why an aggregate is out of service, if it is.
    pub fn out_of_service(&self, aggregate: usize) -> Option<Arc<str>> {
        self.aggregates.get(aggregate).and_then(|memory| memory.out.clone())
    }

    /// Judges a failure that ended an attempt.
    pub fn judge(&mut self, failure: &PluginFailure, outputs: &Outputs) -> Verdict {
        if self.probation.contains(&failure.aggregate) {
            return Verdict::GoBack;
        }
        let digest = outputs.digest(failure.aggregate);
        let Some((name, memory)) = failure.aggregate.and_then(|index| {
            let name = outputs.names.get(index)?;
            Some((name, self.aggregates.get_mut(index)?))
        }) else {
            if matches!(failure.cause, Cause::Record { .. }) && self.parser.policy != FaultPolicy::Stop {
                // It stopped as one on probation does, and has not heard yet that this is over.
                return Verdict::Replay;
            }
            // A parser's record was found already: there is nothing left to find out.
            return Verdict::Stop;
        };
        match failure.cause {
            Cause::Records(suspects) => {
                // Poison rarely comes alone: to be back at the beginning for each record would take for ever.
                let all = memory.watch.is_some();
                if memory.watch.as_ref().is_some_and(|watch| watch.all) {
                    return Verdict::Retry;
                }
                memory.watch = Some(Watch { suspects, all, set_aside: None });
                tracing::warn!(aggregate = name, digest, "{failure}; reading again to find which");
                Verdict::Replay
            }
            Cause::Record { .. } => Verdict::Stop,
            Cause::Call(_) if memory.unexplained.is_none() => {
                tracing::warn!(aggregate = name, digest, "{failure}; trying once more");
                memory.unexplained = Some(0);
                Verdict::Replay
            }
            Cause::Call(_) if memory.rules.policy == FaultPolicy::Stop => Verdict::Stop,
            Cause::TooMany { .. } | Cause::TooLong { .. } | Cause::Call(_) => memory.give_up(name, digest, failure),
        }
    }

    /// Notes a checkpoint, with each aggregate's rows set aside so far and the next offsets, and gives the aggregates
    /// that need not be watched any longer: past the records they failed on, a whole interval without a fault.
    pub fn note_checkpoint(&mut self, next_offset: impl Fn(i32) -> Option<i64>, set_aside: &[u64]) -> Vec<usize> {
        let mut trusted = Vec::new();
        for (index, (memory, &now)) in self.aggregates.iter_mut().zip(set_aside).enumerate() {
            memory.unexplained = memory.unexplained.map(|since| since + 1).filter(|&since| since < CALM_CHECKPOINTS);
            let Some(watch) = &mut memory.watch else { continue };
            let passed = next_offset(watch.suspects.partition).is_none_or(|next| next > watch.suspects.last);
            if passed && watch.set_aside == Some(now) {
                memory.watch = None;
                trusted.push(index);
            } else {
                watch.set_aside = Some(now);
            }
        }
        trusted
    }
}

impl Memory {
    fn of(rules: FaultRules) -> Self {
        Self { rules, watch: None, unexplained: None, out: None }
    }

    fn give_up(&mut self, name: &str, digest: &str, failure: &PluginFailure) -> Verdict {
        tracing::error!(
            aggregate = name,
            digest,
            "{failure}; out of service until it is swapped or the next start: its state stays as the last checkpoint has it, and its \
             rows become dead letters"
        );
        self.watch = None;
        self.out = Some(failure.to_string().into());
        Verdict::Replay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_pipeline::plugin::{Fault, FaultKind};

    fn outputs() -> Outputs {
        Outputs {
            topic: "t".into(),
            parser_digest: "p".into(),
            digests: vec!["d".into()],
            names: vec!["a".into()],
            in_force: 1,
            raw: None,
            dead_letters: 0,
            aggregates: vec![Some(1)],
            late: vec![2],
        }
    }

    fn failure(aggregate: Option<usize>, cause: Cause) -> PluginFailure {
        let fault =
            Fault { plugin: "a".into(), kind: FaultKind::Trap, message: "unreachable".into(), backtrace: Vec::new() };
        PluginFailure { aggregate, fault, cause }
    }

    const SUSPECTS: Suspects = Suspects { partition: 0, first: 5, last: 9 };

    fn records() -> Cause {
        Cause::Records(SUSPECTS)
    }

    fn faults(policy: FaultPolicy) -> Faults {
        let rules = FaultRules { policy, ..FaultRules::default() };
        Faults::new(rules, [rules])
    }

    fn service(faults: &Faults) -> Service {
        faults.treatment().service(0).clone()
    }

    #[test]
    fn an_aggregate_that_failed_on_records_is_watched_until_an_interval_is_calm() {
        let mut faults = faults(FaultPolicy::DeadLetter);
        assert_eq!(faults.judge(&failure(Some(0), records()), &outputs()), Verdict::Replay);
        assert_eq!(service(&faults), Service::Watched(Some(SUSPECTS)));
        let mut trusted = |next, set_aside| faults.note_checkpoint(|_| Some(next), &[set_aside]) == [0];
        assert!(!trusted(9, 0));
        assert!(!trusted(9, 0), "the records are not passed yet");
        assert!(!trusted(10, 1), "a row was set aside");
        assert!(trusted(20, 1));
        assert_eq!(service(&faults), Service::Trusted);
    }

    #[test]
    fn an_aggregate_that_fails_on_other_records_again_is_watched_on_all() {
        let mut faults = faults(FaultPolicy::DeadLetter);
        assert_eq!(faults.judge(&failure(Some(0), records()), &outputs()), Verdict::Replay);
        assert_eq!(faults.judge(&failure(Some(0), records()), &outputs()), Verdict::Replay);
        assert_eq!(service(&faults), Service::Watched(None));
        assert_eq!(faults.judge(&failure(Some(0), records()), &outputs()), Verdict::Retry, "that cannot be");
    }

    #[test]
    fn too_many_faults_take_an_aggregate_out_of_service() {
        let mut faults = faults(FaultPolicy::DeadLetter);
        let too_many = failure(Some(0), Cause::TooMany { faults: 10, seen: 20 });
        assert_eq!(faults.judge(&too_many, &outputs()), Verdict::Replay);
        assert_eq!(
            service(&faults),
            Service::Out("a: trapped: unreachable on too many records faults=10 records=20".into())
        );
        assert!(faults.note_checkpoint(|_| Some(1), &[0]).is_empty());
        assert!(faults.out_of_service(0).is_some(), "only a restart takes it back");
    }

    #[test]
    fn a_fault_that_no_record_explains_is_tried_once_more() {
        let mut faults = faults(FaultPolicy::DeadLetter);
        let finish = failure(Some(0), Cause::Call("finish"));
        for _ in 0..2 {
            assert_eq!(faults.judge(&finish, &outputs()), Verdict::Replay);
            assert_eq!(service(&faults), Service::Trusted);
            (0..CALM_CHECKPOINTS).for_each(|_| drop(faults.note_checkpoint(|_| None, &[0])));
        }
        assert_eq!(faults.judge(&finish, &outputs()), Verdict::Replay);
        faults.note_checkpoint(|_| None, &[0]);
        assert_eq!(faults.judge(&finish, &outputs()), Verdict::Replay);
        assert!(faults.out_of_service(0).is_some(), "a checkpoint in between changes nothing");
    }

    #[test]
    fn the_policy_stop_ends_the_run_and_gives_nothing_up() {
        let mut faults = faults(FaultPolicy::Stop);
        assert_eq!(faults.judge(&failure(Some(0), records()), &outputs()), Verdict::Replay, "to find the record");
        let found = Cause::Record { partition: 0, offset: 7 };
        assert_eq!(faults.judge(&failure(Some(0), found), &outputs()), Verdict::Stop);
        let finish = failure(Some(0), Cause::Call("finish"));
        assert_eq!(faults.judge(&finish, &outputs()), Verdict::Replay);
        assert_eq!(faults.judge(&finish, &outputs()), Verdict::Stop);
        assert_eq!(faults.out_of_service(0), None);
    }

    #[test]
    fn a_parser_that_stops_as_on_probation_just_after_it_goes_on_as_any_other() {
        let mut faults = faults(FaultPolicy::DeadLetter);
        let found = failure(None, Cause::Record { partition: 0, offset: 7 });
        faults.set_probation(vec![None]);
        assert_eq!(faults.judge(&found, &outputs()), Verdict::GoBack);
        faults.set_probation(Vec::new());
        assert_eq!(faults.judge(&found, &outputs()), Verdict::Replay);
    }

    #[test]
    fn a_parser_that_fails_too_often_ends_the_run() {
        let too_many = failure(None, Cause::TooMany { faults: 10, seen: 10 });
        assert_eq!(faults(FaultPolicy::DeadLetter).judge(&too_many, &outputs()), Verdict::Stop);
    }
}
