//! The pipeline's parser port on a component; after a fault the next call makes a new instance by itself.

use super::bindings::parser_world::ParserPlugin;
use super::bindings::wit_parser::{Parsed as Answer, RejectKind};
use super::component::{Component, Exports, World};
use super::instance::Instance;
use super::lower::Lowered;
use super::spent::thread_time;
use super::{Description, Error, description, lift, log};
use std::collections::HashSet;
use std::time::Duration;
use wasmill_pipeline::dead_letter::Reason;
use wasmill_pipeline::plugin::{Fault, FaultKind, Field, Parsed, Parser, ParserDescription, Reject};
use wasmill_pipeline::record::RawBatch;

/// What is kept of a reject's message.
const MAX_REJECT_MESSAGE_BYTES: usize = 256;

/// A parser whose rows a component makes.
pub(super) struct WasmParser {
    component: Component,
    setup: Setup,
    inputs: Vec<Input>,
    /// After projection.
    description: ParserDescription,
    instance: Option<Instance<ParserPlugin>>,
    spent: Duration,
}

/// All that makes one instance the equal of another.
struct Setup {
    config_json: String,
    topic: String,
    /// What `init` answered; an instance that answers otherwise is not a pure function of its configuration.
    described: (Vec<Field>, ParserDescription),
    /// Indices of the outputs wanted; `None` = all.
    projection: Option<Vec<u32>>,
}

/// The parts of a record.
#[derive(Clone, Copy)]
enum Input {
    Value,
    Key,
    Timestamp,
    Topic,
    Partition,
    Offset,
}

impl WasmParser {
    pub(super) fn new(
        component: &Component,
        config_json: &str,
        topic: &str,
        wanted: Option<&[&str]>,
    ) -> Result<Self, Error> {
        let (mut instance, described) = start(component, config_json)?;
        let projection = wanted.map(|wanted| project(component, &described.1, wanted)).transpose()?;
        let projection = projection.filter(|kept| kept.len() < described.1.outputs.len());
        if let Some(kept) = &projection {
            call_project(&mut instance, kept).map_err(Error::Start)?;
        }
        let description = match &projection {
            Some(kept) => described.1.projected(kept),
            None => described.1.clone(),
        };
        let inputs = described.0.iter().map(Input::of).collect::<Result<_, _>>();
        let inputs = inputs.map_err(|message| component.description_error(message))?;
        let setup = Setup { config_json: config_json.to_owned(), topic: topic.to_owned(), described, projection };
        Ok(Self {
            component: component.clone(),
            setup,
            inputs,
            description,
            instance: Some(instance),
            spent: Duration::ZERO,
        })
    }

    pub(super) fn describe(component: &Component, config_json: &str) -> Result<Description, Error> {
        let (_, (inputs, outputs)) = start(component, config_json)?;
        Ok(Description::Parser { inputs, outputs })
    }

    fn fault(&self, kind: FaultKind, message: String) -> Fault {
        Fault { plugin: self.component.shared_name(), kind, message, backtrace: Vec::new() }
    }

    /// The instance at hand, or a new one that is its equal.
    fn take_instance(&mut self) -> Result<Instance<ParserPlugin>, Fault> {
        if let Some(instance) = self.instance.take() {
            return Ok(instance);
        }
        let (mut instance, described) =
            start(&self.component, &self.setup.config_json).map_err(|error| match error {
                Error::Start(fault) => fault,
                other => self.fault(FaultKind::Contract, format!("cannot start again: {other}")),
            })?;
        if described != self.setup.described {
            return Err(self.fault(FaultKind::Contract, "describes itself otherwise than before".to_owned()));
        }
        if let Some(kept) = &self.setup.projection {
            call_project(&mut instance, kept)?;
        }
        Ok(instance)
    }

    fn check(&self, answer: Answer, records: usize) -> Result<Parsed, String> {
        let rows = answer.rows.count as usize;
        lift::origins(answer.rows.origins.as_deref(), rows, records)?;
        let columns = lift::columns(&self.description.outputs, answer.rows.columns, rows)?;
        let mut rejects = Vec::with_capacity(answer.rejects.len().min(records));
        let mut least = 0;
        for reject in answer.rejects {
            let record = reject.record_index as usize;
            if record >= records {
                return Err(format!("rejects record {record}; there are {records}"));
            }
            if record < least {
                return Err(format!("rejects record {record} out of order or twice"));
            }
            least = record + 1;
            let message = log::cut(&reject.message, MAX_REJECT_MESSAGE_BYTES).to_owned();
            rejects.push(Reject { record, reason: reason(reject.kind), message });
        }
        check_disjoint(answer.rows.origins.as_deref(), &rejects)?;
        Ok(Parsed { columns, rows, origins: answer.rows.origins, rejects })
    }
}

impl Parser for WasmParser {
    fn description(&self) -> &ParserDescription {
        &self.description
    }

    fn spent_ns(&self) -> u64 {
        self.spent.as_nanos() as u64
    }

    fn parse(&mut self, batch: &RawBatch) -> Result<Parsed, Fault> {
        self.parse_within(self.component.runtime().deadline_ticks(), batch)
    }

    fn parse_soon(&mut self, batch: &RawBatch) -> Result<Parsed, Fault> {
        self.parse_within(self.component.runtime().soon_ticks(), batch)
    }
}

impl WasmParser {
    fn parse_within(&mut self, ticks: u64, batch: &RawBatch) -> Result<Parsed, Fault> {
        let began = thread_time();
        let mut instance = self.take_instance()?;
        let lowered: Vec<Lowered<'_>> = self.inputs.iter().map(|input| input.lower(batch, &self.setup.topic)).collect();
        let params: Vec<_> = lowered.iter().map(Lowered::as_param).collect();
        let count = batch.len() as u32;
        let parse =
            |world: &ParserPlugin, store: &mut _| world.wasmill_plugin_parser().call_parse(store, count, &params);
        let answer = instance.call_within(ticks, parse)?;
        let parsed = self.check(answer, batch.len()).map_err(|wrong| self.fault(FaultKind::Contract, wrong))?;
        // Only an instance that answered well is used again.
        self.instance = Some(instance);
        self.spent += thread_time().saturating_sub(began);
        Ok(parsed)
    }
}

impl Input {
    fn of(field: &Field) -> Result<Self, String> {
        Ok(match field.name.as_str() {
            "value" => Self::Value,
            "key" => Self::Key,
            "timestamp" => Self::Timestamp,
            "topic" => Self::Topic,
            "partition" => Self::Partition,
            "offset" => Self::Offset,
            unknown => return Err(format!("there is no input `{unknown}`")),
        })
    }

    fn lower<'a>(self, batch: &'a RawBatch, topic: &'a str) -> Lowered<'a> {
        match self {
            Self::Value => Lowered::binary(&batch.values),
            Self::Key => Lowered::binary(&batch.keys),
            Self::Timestamp => Lowered::timestamps(&batch.broker_times_us),
            Self::Topic => Lowered::constant(topic, batch.len()),
            Self::Partition => Lowered::int64(vec![i64::from(batch.partition); batch.len()]),
            Self::Offset => Lowered::int64(batch.offsets.as_slice()),
        }
    }
}

type Described = (Vec<Field>, ParserDescription);

fn start(component: &Component, config_json: &str) -> Result<(Instance<ParserPlugin>, Described), Error> {
    let Exports::Parser(pre) = component.exports() else {
        return Err(component.world_error(World::Parser));
    };
    let mut instance = Instance::new(component, |store| pre.instantiate(store))?;
    let said = instance
        .call(|world, store| world.wasmill_plugin_parser().call_init(store, config_json))
        .map_err(Error::Start)?
        .map_err(|message| component.refused(&message))?;
    let described = description::parser(said).map_err(|wrong| component.description_error(wrong))?;
    Ok((instance, described))
}

fn call_project(instance: &mut Instance<ParserPlugin>, kept: &[u32]) -> Result<(), Fault> {
    instance.call(|world, store| world.wasmill_plugin_parser().call_project(store, kept))
}

/// The outputs to keep, ascending.
fn project(component: &Component, whole: &ParserDescription, wanted: &[&str]) -> Result<Vec<u32>, Error> {
    let has: HashSet<&str> = whole.outputs.iter().map(|field| field.name.as_str()).collect();
    let unknown: Vec<String> =
        wanted.iter().filter(|name| !has.contains(*name)).map(|name| (*name).to_owned()).collect();
    if !unknown.is_empty() {
        let has = whole.outputs.iter().map(|field| field.name.clone()).collect();
        return Err(Error::Projection { plugin: component.name().to_owned(), unknown, has });
    }
    Ok(whole.needed(wanted))
}

/// No record is both rejected and the origin of a row. Both lists ascend. Without origins every record is one.
fn check_disjoint(origins: Option<&[u32]>, rejects: &[Reject]) -> Result<(), String> {
    let Some(first) = rejects.first() else { return Ok(()) };
    let Some(mut origins) = origins else {
        return Err(format!("rejects record {}, and gives a row for each record (there are no origins)", first.record));
    };
    for reject in rejects {
        origins = &origins[origins.partition_point(|&origin| (origin as usize) < reject.record)..];
        if origins.first().is_some_and(|&origin| origin as usize == reject.record) {
            return Err(format!("rejects record {}, and gives rows for it", reject.record));
        }
    }
    Ok(())
}

fn reason(kind: RejectKind) -> Reason {
    match kind {
        RejectKind::Malformed => Reason::Malformed,
        RejectKind::Missing => Reason::Missing,
        RejectKind::Invalid => Reason::Invalid,
        RejectKind::Unsupported => Reason::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(records: &[usize]) -> Vec<Reject> {
        let reject = |&record| Reject { record, reason: Reason::Malformed, message: String::new() };
        records.iter().map(reject).collect()
    }

    #[test]
    fn a_record_has_rows_or_is_rejected() {
        assert_eq!(check_disjoint(Some(&[0, 0, 2, 5]), &rejected(&[1, 3, 6])), Ok(()));
        assert!(check_disjoint(Some(&[0, 2, 2]), &rejected(&[1, 2])).unwrap_err().contains("rejects record 2"));
    }

    #[test]
    fn without_origins_nothing_is_rejected() {
        assert_eq!(check_disjoint(None, &[]), Ok(()));
        assert!(check_disjoint(None, &rejected(&[4])).unwrap_err().contains("rejects record 4"));
    }
}
