//! The pipeline's parser port on a parser that is part of this program.

use crate::columns::{bits, lift, refill};
use crate::describe;
use arrow_array::{Array, BinaryArray};
use wasmill::plugin::Error;
use wasmill_pipeline::dead_letter::Reason;
use wasmill_pipeline::plugin::{Fault, FaultKind, Parsed, Parser, ParserDescription, Reject};
use wasmill_pipeline::record::RawBatch;
use wasmill_sdk::bindings::types::{Column, Dictionary, Values, Varlen};
use wasmill_sdk::parser::{Host, RejectKind};

/// A parser, and the columns it was given last: their memory is used again.
pub(crate) struct NativeParser<P> {
    name: String,
    host: Host<P>,
    description: ParserDescription,
    inputs: Vec<String>,
    columns: Vec<Column>,
    topic: String,
}

impl<P: wasmill_sdk::parser::Parser> NativeParser<P> {
    /// As [`wasmill::plugin::Component::parser`] has it.
    pub(crate) fn new(name: &str, config_json: &str, topic: &str, wanted: Option<&[&str]>) -> Result<Self, Error> {
        let refused = |message| Error::Refused { plugin: name.to_owned(), message };
        let (mut host, said) = Host::<P>::init(config_json).map_err(refused)?;
        let inputs: Vec<String> = said.inputs.iter().map(|field| field.name.clone()).collect();
        let columns = inputs.iter().map(|input| empty(input)).collect::<Result<_, _>>().map_err(refused)?;
        let mut description = describe::parser(said);
        if let Some(wanted) = wanted {
            let kept = description.needed(wanted);
            description = description.projected(&kept);
            host.project(kept);
        }
        Ok(Self { name: name.to_owned(), host, description, inputs, columns, topic: topic.to_owned() })
    }
}

impl<P: wasmill_sdk::parser::Parser> Parser for NativeParser<P> {
    fn description(&self) -> &ParserDescription {
        &self.description
    }

    fn parse(&mut self, batch: &RawBatch) -> Result<Parsed, Fault> {
        for (input, column) in self.inputs.iter().zip(&mut self.columns) {
            fill(column, input, batch, &self.topic);
        }
        let answer = self.host.parse(batch.len() as u32, &self.columns);
        let rows = answer.rows.count as usize;
        let (columns, origins) = lift(&self.description.outputs, answer.rows, batch.len()).map_err(|message| {
            Fault { plugin: self.name.as_str().into(), kind: FaultKind::Contract, message, backtrace: Vec::new() }
        })?;
        let reject = |reject: wasmill_sdk::bindings::parser::exports::wasmill::plugin::parser::Reject| Reject {
            record: reject.record_index as usize,
            reason: reason(reject.kind),
            message: reject.message,
        };
        Ok(Parsed { columns, rows, origins, rejects: answer.rejects.into_iter().map(reject).collect() })
    }
}

/// A column of an input's kind without rows.
fn empty(input: &str) -> Result<Column, String> {
    let varlen = Varlen { offsets: Vec::new(), bytes: Vec::new() };
    let values = match input {
        "value" | "key" => Values::Binary(varlen),
        "timestamp" => Values::Timestamp(Vec::new()),
        "topic" => Values::Dictionary(Dictionary { indices: Vec::new(), values: varlen }),
        "partition" | "offset" => Values::Int64(Vec::new()),
        unknown => return Err(format!("there is no input `{unknown}`")),
    };
    Ok(Column { values, validity: None })
}

/// The part of the records that an input is.
fn fill(column: &mut Column, input: &str, batch: &RawBatch, topic: &str) {
    match &mut column.values {
        Values::Binary(values) => {
            let array = if input == "key" { &batch.keys } else { &batch.values };
            refill(values, array);
            column.validity = validity(array);
        }
        Values::Timestamp(values) => batch.broker_times_us.clone_into(values),
        Values::Int64(values) if input == "offset" => batch.offsets.clone_into(values),
        Values::Int64(values) => *values = vec![i64::from(batch.partition); batch.len()],
        Values::Dictionary(Dictionary { indices, values }) => {
            *indices = vec![0; batch.len()];
            *values = Varlen { offsets: vec![0, topic.len() as u32], bytes: topic.as_bytes().to_vec() };
        }
        Values::Boolean(_) | Values::Float64(_) | Values::Utf8(_) | Values::Hash(_) => {
            unreachable!("no input is of this kind")
        }
    }
}

fn validity(array: &BinaryArray) -> Option<Vec<u8>> {
    array.nulls().filter(|nulls| nulls.null_count() > 0).map(|nulls| bits(nulls.inner()))
}

fn reason(kind: RejectKind) -> Reason {
    match kind {
        RejectKind::Malformed => Reason::Malformed,
        RejectKind::Missing => Reason::Missing,
        RejectKind::Invalid => Reason::Invalid,
        RejectKind::Unsupported => Reason::Unsupported,
    }
}
