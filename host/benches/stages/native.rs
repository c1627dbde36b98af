//! The reference job's plugins compiled for this machine and called through the SDK: what WebAssembly is compared with.

use super::aggregate::Replay;
use super::cpu::timed;
use super::hollow::Call;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, BinaryArray};
use arrow_schema::DataType;
use clickstream_parser::ClickstreamParser;
use std::time::Duration;
use wasmill_pipeline::record::RawBatch;
use wasmill_sdk::aggregate::{Aggregate, Groups};
use wasmill_sdk::bindings::types::{Column, Dictionary, Values, Varlen};
use wasmill_sdk::parser::{Host, Parsed};

/// The parser.
pub(crate) struct Parser(Host<ClickstreamParser>);

impl Parser {
    pub(crate) fn new() -> Self {
        Self(Host::init("{}").unwrap().0)
    }

    pub(crate) fn parse(&mut self, (records, payloads): &(u32, [Column; 1])) -> Parsed {
        self.0.parse(*records, payloads)
    }
}

/// A batch as the parser takes it.
pub(crate) fn payloads(batch: &RawBatch) -> (u32, [Column; 1]) {
    let column = Column { values: Values::Binary(varlen(&batch.values)), validity: None };
    (batch.len() as u32, [column])
}

/// A call with its columns as the SDK has them.
enum Native {
    Update(Vec<u32>, Vec<Column>),
    Merge(Vec<u32>, Vec<u32>),
    Release(Vec<u32>),
}

struct Calls<A: Aggregate> {
    groups: Groups<A>,
    calls: Vec<Native>,
}

/// The aggregate of that name, and what it is called with.
pub(crate) fn aggregate(name: &str, calls: &[Call]) -> Box<dyn Replay> {
    match name {
        "page_metrics" => Box::new(Calls::<page_metrics::PageMetrics>::new(calls)),
        "geo_metrics" => Box::new(Calls::<geo_metrics::GeoMetrics>::new(calls)),
        "sessions" => Box::new(Calls::<sessions::Sessions>::new(calls)),
        other => unreachable!("the reference job has no aggregate {other}"),
    }
}

impl<A: Aggregate> Calls<A> {
    fn new(calls: &[Call]) -> Self {
        let native = |call: &Call| match call {
            Call::Update(slots, inputs) => Native::Update(slots.clone(), inputs.iter().map(column).collect()),
            Call::Merge(slots, others) => Native::Merge(slots.clone(), others.clone()),
            Call::Release(slots) => Native::Release(slots.clone()),
        };
        Self { groups: Groups::init("{}").unwrap().0, calls: calls.iter().map(native).collect() }
    }
}

impl<A: Aggregate> Replay for Calls<A> {
    fn replay(&mut self) -> Duration {
        let Self { groups, calls } = self;
        let mut took = Duration::ZERO;
        for call in calls {
            match call {
                Native::Update(slots, columns) => took += timed(|| groups.update(slots, columns)),
                Native::Merge(slots, others) => took += timed(|| groups.merge(slots, others)),
                Native::Release(slots) => groups.release(slots),
            }
        }
        took
    }
}

/// A column of Arrow's as the SDK has it.
fn column(array: &ArrayRef) -> Column {
    let values = match array.data_type() {
        DataType::UInt64 => Values::Hash(array.as_primitive::<UInt64Type>().values().to_vec()),
        DataType::Int64 => Values::Int64(array.as_primitive::<Int64Type>().values().to_vec()),
        DataType::Float64 => Values::Float64(array.as_primitive::<Float64Type>().values().to_vec()),
        DataType::Timestamp(..) => {
            Values::Timestamp(array.as_primitive::<TimestampMicrosecondType>().values().to_vec())
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<UInt32Type>();
            let texts = dictionary.values().as_string::<i32>();
            let values = varlen(&BinaryArray::from_iter_values(texts.iter().flatten()));
            Values::Dictionary(Dictionary { indices: dictionary.keys().values().to_vec(), values })
        }
        other => unreachable!("the reference job's aggregates take no {other}"),
    };
    let validity = array.nulls().map(|nulls| nulls.inner().sliced().as_slice().to_vec());
    Column { values, validity }
}

fn varlen(array: &BinaryArray) -> Varlen {
    let offsets = array.value_offsets().iter().map(|&offset| offset as u32).collect();
    Varlen { offsets, bytes: array.value_data().to_vec() }
}
