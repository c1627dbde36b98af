//! What a plugin says of itself, in the pipeline's words.

use wasmill_pipeline::plugin::{AggregateDescription, DataType, Encoding, Field, ParserDescription};
use wasmill_sdk::bindings::types as sdk;

pub(crate) fn parser(said: wasmill_sdk::parser::Description) -> ParserDescription {
    let place = |index: Option<u32>| index.map(|index| index as usize);
    ParserDescription { outputs: fields(said.outputs), event_time: place(said.event_time), rescue: place(said.rescue) }
}

pub(crate) fn aggregate(said: wasmill_sdk::aggregate::Description) -> AggregateDescription {
    AggregateDescription {
        inputs: fields(said.inputs),
        context: fields(said.context),
        outputs: fields(said.outputs),
        state_version: said.state_version,
        restores: said.restores,
        commutative: said.commutative,
    }
}

fn fields(said: Vec<sdk::Field>) -> Vec<Field> {
    let field = |field: sdk::Field| Field {
        name: field.name,
        data_type: match field.data_type {
            sdk::DataType::Boolean => DataType::Boolean,
            sdk::DataType::Int64 => DataType::Int64,
            sdk::DataType::Float64 => DataType::Float64,
            sdk::DataType::Timestamp => DataType::Timestamp,
            sdk::DataType::Utf8 => DataType::Utf8,
            sdk::DataType::Binary => DataType::Binary,
        },
        encoding: match field.encoding {
            sdk::Encoding::Plain => Encoding::Plain,
            sdk::Encoding::Dictionary => Encoding::Dictionary,
            sdk::Encoding::Hash => Encoding::Hash,
        },
        nullable: field.nullable,
    };
    said.into_iter().map(field).collect()
}
