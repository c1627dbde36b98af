//! The parser: the columns of `clickstream-parser`, and from version 2 on `parser_version` besides.
//!
//! It does by itself what the SDK's macro does, as that would not let it lie.

use crate::behaviour::Behaviour;
use alloc::string::String;
use alloc::vec::Vec;
use wasmill_sdk::bindings::parser::exports::wasmill::plugin::parser::{self as wit, Description, Parsed};
use wasmill_sdk::bindings::types::{Column, DataType, Encoding, Field, Rows, Values};
use wasmill_sdk::input::{Cell, Hash64, Symbol};
use wasmill_sdk::json::Text;
use wasmill_sdk::output::{Projection, RowOut};
use wasmill_sdk::parser::Reject;
use wasmill_sdk::time::Timestamp;
use wasmill_sdk::{json_row, row_out};

row_out! {
    /// An event.
    #[derive(Clone, Debug, Default)]
    pub struct Click<'a> {
        event_id: Option<Text<'a>>,
        event_time: Option<Timestamp>,
        user_id: Text<'a>,
        session_id: Option<Text<'a>>,
        event_type: Option<Symbol<Text<'a>>>,
        page: Option<Symbol<Text<'a>>>,
        referrer: Option<Symbol<Text<'a>>>,
        device: Option<Symbol<Text<'a>>>,
        browser: Option<Symbol<Text<'a>>>,
        country: Option<Symbol<Text<'a>>>,
        campaign: Option<Symbol<Text<'a>>>,
        revenue: Option<f64>,
        rescue: Option<String>,
    }
}

impl<'a> Click<'a> {
    fn of(record: &'a [u8]) -> Result<Self, Reject> {
        let click = json_row!(
            record,
            Click {
                event_id: text,
                event_time: time,
                user_id: text_or_empty,
                session_id: text,
                event_type: required_symbol,
                page: required_symbol,
                referrer: symbol,
                device: symbol,
                browser: symbol,
                country: symbol,
                campaign: symbol,
                revenue: number,
                ..rescue
            }
        )?;
        match () {
            () if click.user_id.is_empty() => Err(Reject::missing("user_id")),
            () if click.event_type.is_none() => Err(Reject::missing("event_type")),
            () if click.page.is_none() => Err(Reject::missing("page")),
            () => Ok(click),
        }
    }
}

fn number(name: &str) -> Field {
    Field { name: name.into(), data_type: DataType::Int64, encoding: Encoding::Plain, nullable: false }
}

/// The parser.
#[derive(Debug)]
pub struct Clicks {
    behaviour: Behaviour,
    /// All that could be made.
    fields: Vec<Field>,
    /// Which of them it says that it makes.
    described: Vec<u32>,
    /// Which of those it is asked for.
    wanted: Vec<u32>,
}

impl Clicks {
    /// One that makes every column that it has.
    ///
    /// # Errors
    /// It is told to do what there is not, or to refuse.
    pub fn new() -> Result<Self, String> {
        let mut behaviour = Behaviour::of_this_file()?;
        behaviour.init()?;
        let mut fields = Click::fields();
        if behaviour.version() > 1 {
            fields.push(number("parser_version"));
        }
        if behaviour.is("other-schema") {
            for revenue in fields.iter_mut().filter(|field| field.name == "revenue") {
                revenue.data_type = DataType::Int64;
            }
        }
        let made = |(_, field): &(u32, &Field)| behaviour.text("without") != Some(&*field.name);
        let described: Vec<u32> = (0..).zip(&fields).filter(made).map(|(index, _)| index).collect();
        Ok(Self { wanted: described.clone(), behaviour, fields, described })
    }

    /// What it says of itself.
    #[must_use]
    pub fn description(&self) -> Description {
        let value =
            Field { name: "value".into(), data_type: DataType::Binary, encoding: Encoding::Plain, nullable: true };
        let mut inputs: Vec<Field> = [value].into();
        if self.behaviour.is("unfit-input") {
            inputs.push(number("wealth"));
        }
        let outputs: Vec<Field> = self.described.iter().map(|index| self.fields[*index as usize].clone()).collect();
        let place = |name| outputs.iter().position(|field| field.name == name).map(|index| index as u32);
        let (event_time, rescue) = (place("event_time"), place("rescue"));
        Description { inputs, outputs, event_time, rescue }
    }

    /// From now on only these are made.
    pub fn project(&mut self, outputs: &[u32]) {
        self.behaviour.called("project");
        self.wanted = outputs.iter().map(|output| self.described[*output as usize]).collect();
    }

    /// Parses a batch.
    pub fn parse(&mut self, count: u32, inputs: &[Column]) -> Parsed {
        self.behaviour.called("parse");
        let records = inputs.first().map(<Option<&[u8]> as Cell>::bind);
        let mut builders = Click::builders(count as usize, &Projection(Some(self.wanted.clone())));
        let (mut origins, mut rejects) = (Vec::new(), Vec::new());
        for index in 0..count {
            let record = records.as_ref().and_then(|records| <Option<&[u8]> as Cell>::at(records, index as usize));
            match record.map(Click::of) {
                Some(Ok(mut click)) => {
                    self.spoil(&mut click, origins.is_empty());
                    click.put(&mut builders);
                    origins.push(index);
                }
                Some(Err(Reject { kind, message })) => {
                    rejects.push(wit::Reject { record_index: index, kind, message: message.into_owned() });
                }
                None => {}
            }
        }
        let columns = self.finished(Click::columns(builders), origins.len());
        Parsed { rows: Rows { count: origins.len() as u32, origins: Some(origins), columns }, rejects }
    }

    /// Fails on an event, or makes it a wrong one, where it was told to.
    fn spoil(&self, click: &mut Click<'_>, is_first: bool) {
        let mut error = self.behaviour.error_on(click.event_id.as_ref().map(|id| Hash64::of(&id.to_cow())));
        if is_first && self.behaviour.is("cuts-matter") {
            error += 1;
        }
        if is_first && self.behaviour.is("random") {
            error += self.behaviour.calls("parse").cast_signed();
        }
        if error != 0 {
            click.revenue = Some(click.revenue.unwrap_or(0.0) + error as f64);
        }
    }

    /// The columns as they are promised, or not.
    fn finished(&self, mut columns: Vec<Column>, rows: usize) -> Vec<Column> {
        if self.wanted.iter().any(|index| *index as usize == Click::fields().len()) {
            let version = i64::from(self.behaviour.version());
            columns.push(Column { values: Values::Int64([version].repeat(rows)), validity: None });
        }
        for (column, index) in columns.iter_mut().zip(&self.wanted) {
            if self.fields[*index as usize].data_type == DataType::Int64
                && let Values::Float64(revenues) = &column.values
            {
                column.values = Values::Int64(revenues.iter().map(|revenue| *revenue as i64).collect());
            }
        }
        if self.behaviour.withholds_a_column("parse") {
            columns.pop();
        }
        columns
    }
}
