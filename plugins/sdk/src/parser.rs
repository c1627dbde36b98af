//! A parser: one record in; one row, a reject or nothing out.

use crate::bindings::parser::exports::wasmill::plugin::parser as wit;
use crate::bindings::types::{Column, DataType, Encoding, Field, Rows};
use crate::config::Config;
use crate::input::{Cell, RowIn};
use crate::output::{Projection, RowOut};
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub use wit::{Description, Parsed, RejectKind};

/// Why a record becomes no row: it goes to the dead letters.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    /// What kind of fault it is.
    pub kind: RejectKind,
    /// For people; the host keeps 256 bytes.
    pub message: Cow<'static, str>,
}

impl Reject {
    /// The bytes are not the format at all.
    #[cold]
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RejectKind::Malformed, message: message.into() }
    }

    /// A field that must be there is not.
    #[cold]
    pub fn missing(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RejectKind::Missing, message: message.into() }
    }

    /// A field is there with a value that cannot be.
    #[cold]
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RejectKind::Invalid, message: message.into() }
    }

    /// Well formed, but a version or kind that this plugin does not know.
    #[cold]
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: RejectKind::Unsupported, message: message.into() }
    }

    /// The same, naming the field.
    #[cold]
    #[must_use]
    pub fn at_field(self, field: &str) -> Self {
        Self { kind: self.kind, message: format!("{field}: {}", self.message).into() }
    }
}

/// A record of the topic. Tombstones never come here: the SDK filters them.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a, M = ()> {
    /// The payload.
    pub value: &'a [u8],
    /// What else the parser asked for.
    pub meta: M,
}

impl<'a, M> Record<'a, M> {
    /// The payload as text.
    ///
    /// # Errors
    /// Malformed: not UTF-8.
    #[inline]
    pub fn text(&self) -> Result<&'a str, Reject> {
        utf8(self.value)
    }
}

pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Reject> {
    str::from_utf8(bytes).map_err(|error| Reject::malformed(format!("not UTF-8 from byte {}", error.valid_up_to())))
}

/// Turns records into rows. A pure function of its settings and the record.
pub trait Parser: Sized + Send + 'static {
    /// What it makes of a record: a `row_out!`.
    type Row<'a>: RowOut;
    /// What it wants to know besides the payload: a `row_in!` of `key` (`Option<&[u8]>`), `timestamp` (`Timestamp`),
    /// `topic` (`Symbol<&str>`), `partition` and `offset` (`i64`); or `()`.
    type Meta<'a>: RowIn<'a>;
    /// The output that is the time of the event.
    const EVENT_TIME: Option<&'static str> = None;
    /// The output that holds what no other does: the field after the dots of `json_row!`.
    const RESCUE: Option<&'static str> = None;

    /// Makes the parser; settings that it does not take are refused.
    ///
    /// # Errors
    /// A message for the author of the pipeline file.
    fn new(config: &mut Config<'_>) -> Result<Self, String>;

    /// The row of a record; `None` filters it out.
    ///
    /// # Errors
    /// The record goes to the dead letters.
    fn parse<'a>(&mut self, record: Record<'a, Self::Meta<'a>>) -> Result<Option<Self::Row<'a>>, Reject>;
}

/// What the exported functions do, for any parser; tests call it natively.
#[derive(Debug)]
pub struct Host<P> {
    parser: P,
    wanted: Projection,
}

impl<P: Parser> Host<P> {
    /// Makes the parser of its settings, a JSON object.
    ///
    /// # Errors
    /// A message for the author of the pipeline file.
    pub fn init(config: &str) -> Result<(Self, Description), String> {
        let outputs = <P::Row<'static> as RowOut>::fields();
        let place = |name| outputs.iter().position(|field| field.name == name).map(|index| index as u32);
        let event_time = P::EVENT_TIME.map(|name| place(name).expect("EVENT_TIME names an output"));
        let rescue = P::RESCUE.map(|name| place(name).expect("RESCUE names an output"));
        let value =
            Field { name: "value".into(), data_type: DataType::Binary, encoding: Encoding::Plain, nullable: true };
        let inputs = core::iter::once(value).chain(<P::Meta<'static> as RowIn>::fields()).collect();
        let host = Self { parser: Config::make(config, P::new)?, wanted: Projection::default() };
        Ok((host, Description { inputs, outputs, event_time, rescue }))
    }

    /// From now on only these outputs are made: indices, ascending.
    pub fn project(&mut self, outputs: Vec<u32>) {
        self.wanted = Projection(Some(outputs));
    }

    /// Parses a batch of `count` records.
    pub fn parse(&mut self, count: u32, inputs: &[Column]) -> Parsed {
        let (value, meta) = inputs.split_first().expect("the host sends the column value");
        let values = <Option<&[u8]> as Cell>::bind(value);
        let meta = <P::Meta<'_> as RowIn>::bind(meta);
        let mut builders = <P::Row<'_> as RowOut>::builders(count as usize, &self.wanted);
        let mut rejects = Vec::new();
        let mut rows = 0;
        // Named from the first record on that does not become a row.
        let mut origins: Option<Vec<u32>> = None;
        for index in 0..count {
            let row = match <Option<&[u8]> as Cell>::at(&values, index as usize) {
                Some(value) => {
                    self.parser.parse(Record { value, meta: <P::Meta<'_> as RowIn>::at(&meta, index as usize) })
                }
                None => Ok(None),
            };
            if let Ok(Some(row)) = row {
                row.put(&mut builders);
                rows += 1;
                if let Some(origins) = &mut origins {
                    origins.push(index);
                }
                continue;
            }
            origins.get_or_insert_with(|| (0..index).collect());
            if let Err(Reject { kind, message }) = row {
                rejects.push(wit::Reject { record_index: index, kind, message: message.into_owned() });
            }
        }
        let columns = <P::Row<'_> as RowOut>::columns(builders);
        Parsed { rows: Rows { count: rows, origins, columns }, rejects }
    }
}

/// Makes `$plugin` this component's parser.
#[macro_export]
macro_rules! export_parser {
    ($plugin:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::parser::exports::wasmill::plugin::parser as wit;
            use $crate::bindings::types::Column;
            use $crate::prelude::{String, Vec};

            static HOST: $crate::guest::Instance<$crate::parser::Host<$plugin>> = $crate::guest::Instance::new();

            struct Component;

            impl wit::Guest for Component {
                fn init(config: String) -> Result<wit::Description, String> {
                    $crate::guest::report_panics();
                    let (host, description) = $crate::parser::Host::init(&config)?;
                    HOST.set(host);
                    Ok(description)
                }

                fn project(outputs: Vec<u32>) {
                    HOST.with(|host| host.project(outputs));
                }

                fn parse(count: u32, inputs: Vec<Column>) -> wit::Parsed {
                    HOST.with(|host| host.parse(count, &inputs))
                }
            }

    $crate::bindings::parser::export_parser_world!(Component with_types_in $crate::bindings::parser);
        };
    };
}
