//! What plugins say of themselves: translated into the pipeline's words, and checked.

use super::bindings::{wit, wit_aggregate, wit_parser};
use super::log::{cut, printable};
use std::collections::HashSet;
use wasmill_pipeline::plugin::{AggregateDescription, DataType, Encoding, Field, ParserDescription};

/// The most columns in one list; the widest tables in the wild have some hundreds.
const MAX_COLUMNS: usize = 1024;
/// The longest column name: databases allow 63 or 128 bytes, Parquet and CSV any number.
const MAX_NAME_BYTES: usize = 128;
/// The most older state versions that a plugin can claim to read.
const MAX_RESTORES: usize = 1024;

/// What a plugin says of itself, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// A parser.
    Parser {
        /// What it wants of each record.
        inputs: Vec<Field>,
        /// What it makes: all of it, unprojected.
        outputs: ParserDescription,
    },
    /// An aggregate.
    Aggregate {
        /// What it wants and makes.
        description: AggregateDescription,
        /// A typical group's accumulator, in bytes. 0 = unknown.
        typical_state_bytes: u32,
    },
    /// A generator, which has nothing to say.
    Generator,
}

/// The inputs a parser can ask for: name, type, encoding, and whether it may be null (then the plugin must allow it).
pub const PARSER_INPUTS: [(&str, DataType, Encoding, bool); 6] = [
    ("value", DataType::Binary, Encoding::Plain, true),
    ("key", DataType::Binary, Encoding::Plain, true),
    ("timestamp", DataType::Timestamp, Encoding::Plain, false),
    ("topic", DataType::Utf8, Encoding::Dictionary, false),
    ("partition", DataType::Int64, Encoding::Plain, false),
    ("offset", DataType::Int64, Encoding::Plain, false),
];

/// The columns an aggregate can ask for in `finish`; both are instants.
const CONTEXT_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// A parser's inputs and outputs.
///
/// # Errors
/// A sentence that says what breaks the contract.
pub(super) fn parser(said: wit_parser::Description) -> Result<(Vec<Field>, ParserDescription), String> {
    let inputs = fields("input", said.inputs)?;
    for field in &inputs {
        check_parser_input(field)?;
    }
    let outputs = fields("output", said.outputs)?;
    check_outputs(&outputs)?;
    let event_time = said.event_time.map(|index| index as usize);
    if let Some(index) = event_time {
        match outputs.get(index) {
            None => return Err(format!("event-time is output {index}; there are {}", outputs.len())),
            Some(field) if field.data_type != DataType::Timestamp => {
                return Err(format!("event-time is `{}`, a {:?}; wanted a Timestamp", field.name, field.data_type));
            }
            Some(_) => {}
        }
    }
    let rescue = said.rescue.map(|index| index as usize);
    if let Some(index) = rescue {
        match outputs.get(index) {
            None => return Err(format!("rescue is output {index}; there are {}", outputs.len())),
            Some(Field { data_type: DataType::Utf8, encoding: Encoding::Plain, nullable: true, .. }) => {}
            Some(Field { name, data_type, encoding, nullable }) => {
                let null = if *nullable { "nullable" } else { "never null" };
                return Err(format!(
                    "rescue is `{name}`, {data_type:?}, {encoding:?}, {null}; wanted Utf8, Plain, nullable"
                ));
            }
        }
    }
    Ok((inputs, ParserDescription { outputs, event_time, rescue }))
}

/// An aggregate's description.
///
/// # Errors
/// A sentence that says what breaks the contract.
pub(super) fn aggregate(said: wit_aggregate::Description) -> Result<AggregateDescription, String> {
    let inputs = fields("input", said.inputs)?;
    let context = fields("context", said.context)?;
    for field in &context {
        if !CONTEXT_COLUMNS.contains(&field.name.as_str()) {
            return Err(format!("there is no context `{}`; there is {}", field.name, CONTEXT_COLUMNS.join(", ")));
        }
        if field.data_type != DataType::Timestamp {
            return Err(format!("context `{}` is declared {:?}; it is a Timestamp", field.name, field.data_type));
        }
    }
    let outputs = fields("output", said.outputs)?;
    check_outputs(&outputs)?;
    if said.restores.len() > MAX_RESTORES {
        return Err(format!("restores {} versions; at most {MAX_RESTORES}", said.restores.len()));
    }
    Ok(AggregateDescription {
        inputs,
        context,
        outputs,
        state_version: said.state_version,
        restores: said.restores,
        commutative: said.commutative,
    })
}

fn fields(role: &str, said: Vec<wit::Field>) -> Result<Vec<Field>, String> {
    if said.len() > MAX_COLUMNS {
        return Err(format!("has {} {role} columns; at most {MAX_COLUMNS}", said.len()));
    }
    let mut names = HashSet::new();
    let mut fields = Vec::with_capacity(said.len());
    for field in said {
        check_name(role, &field.name)?;
        if !names.insert(field.name.clone()) {
            return Err(format!("has two {role} columns named `{}`", field.name));
        }
        let field = Field {
            name: field.name,
            data_type: data_type(field.data_type),
            encoding: encoding(field.encoding),
            nullable: field.nullable,
        };
        if field.encoding != Encoding::Plain && !matches!(field.data_type, DataType::Utf8 | DataType::Binary) {
            return Err(format!(
                "{role} `{}` is {:?} in encoding {:?}, which is for Utf8 and Binary",
                field.name, field.data_type, field.encoding
            ));
        }
        fields.push(field);
    }
    Ok(fields)
}

/// Names become columns of Parquet and CSV files and labels in messages: letters, digits and underscores.
fn check_name(role: &str, name: &str) -> Result<(), String> {
    let mut chars = name.chars();
    let valid = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= MAX_NAME_BYTES;
    if valid {
        Ok(())
    } else {
        let shown = printable(cut(name, MAX_NAME_BYTES));
        Err(format!(
            "{role} name `{shown}` is not valid: wanted a letter or `_`, then letters, digits or `_`, \
             at most {MAX_NAME_BYTES} in all"
        ))
    }
}

fn check_outputs(outputs: &[Field]) -> Result<(), String> {
    match outputs.iter().find(|field| field.encoding == Encoding::Hash) {
        Some(field) => Err(format!("output `{}` has encoding Hash, which is for inputs only", field.name)),
        None => Ok(()),
    }
}

fn check_parser_input(field: &Field) -> Result<(), String> {
    let known = PARSER_INPUTS.iter().find(|(name, ..)| *name == field.name);
    let Some(&(name, data_type, encoding, nullable)) = known else {
        let names = PARSER_INPUTS.map(|(name, ..)| name).join(", ");
        return Err(format!("there is no input `{}`; there is {names}", field.name));
    };
    if (field.data_type, field.encoding) != (data_type, encoding) {
        return Err(format!(
            "input `{name}` is declared {:?}, {:?}; it is {data_type:?}, {encoding:?}",
            field.data_type, field.encoding
        ));
    }
    if nullable && !field.nullable {
        return Err(format!("input `{name}` may be null; it is declared never to be"));
    }
    Ok(())
}

fn data_type(said: wit::DataType) -> DataType {
    match said {
        wit::DataType::Boolean => DataType::Boolean,
        wit::DataType::Int64 => DataType::Int64,
        wit::DataType::Float64 => DataType::Float64,
        wit::DataType::Timestamp => DataType::Timestamp,
        wit::DataType::Utf8 => DataType::Utf8,
        wit::DataType::Binary => DataType::Binary,
    }
}

fn encoding(said: wit::Encoding) -> Encoding {
    match said {
        wit::Encoding::Plain => Encoding::Plain,
        wit::Encoding::Dictionary => Encoding::Dictionary,
        wit::Encoding::Hash => Encoding::Hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, data_type: wit::DataType, encoding: wit::Encoding) -> wit::Field {
        wit::Field { name: name.to_owned(), data_type, encoding, nullable: true }
    }

    fn parser_of(
        inputs: Vec<wit::Field>,
        outputs: Vec<wit::Field>,
        event_time: Option<u32>,
    ) -> Result<ParserDescription, String> {
        let said = wit_parser::Description { inputs, outputs, event_time, rescue: None };
        parser(said).map(|(_, description)| description)
    }

    fn int(name: &str) -> wit::Field {
        field(name, wit::DataType::Int64, wit::Encoding::Plain)
    }

    #[test]
    fn names_are_words_of_letters_digits_and_underscores() {
        assert!(parser_of(vec![], vec![int("page_2")], None).is_ok());
        for name in ["", "2page", "a b", "a\nb", "../x", "é", &"x".repeat(129)] {
            assert!(parser_of(vec![], vec![int(name)], None).unwrap_err().contains("is not valid"));
        }
    }

    #[test]
    fn a_name_stands_for_one_column() {
        let twice = parser_of(vec![], vec![int("a"), int("a")], None);
        assert_eq!(twice.unwrap_err(), "has two output columns named `a`");
    }

    #[test]
    fn event_time_is_a_timestamp_among_the_outputs() {
        let time = field("at", wit::DataType::Timestamp, wit::Encoding::Plain);
        assert_eq!(parser_of(vec![], vec![int("a"), time], Some(1)).unwrap().event_time, Some(1));
        assert!(parser_of(vec![], vec![int("a")], Some(0)).unwrap_err().contains("wanted a Timestamp"));
        assert!(parser_of(vec![], vec![int("a")], Some(1)).unwrap_err().contains("there are 1"));
    }

    #[test]
    fn a_rescue_is_a_nullable_text_among_the_outputs() {
        let rescue = |outputs: Vec<wit::Field>, rescue| {
            let said = wit_parser::Description { inputs: vec![], outputs, event_time: None, rescue: Some(rescue) };
            parser(said).map(|(_, description)| description.rescue)
        };
        let text = field("rest", wit::DataType::Utf8, wit::Encoding::Plain);
        assert_eq!(rescue(vec![int("a"), text.clone()], 1), Ok(Some(1)));
        assert_eq!(rescue(vec![text.clone()], 1).unwrap_err(), "rescue is output 1; there are 1");
        let unfit = "rescue is `a`, Int64, Plain, nullable; wanted Utf8, Plain, nullable";
        assert_eq!(rescue(vec![int("a")], 0).unwrap_err(), unfit);
        for unfit in
            [wit::Field { nullable: false, ..text.clone() }, wit::Field { encoding: wit::Encoding::Dictionary, ..text }]
        {
            assert!(rescue(vec![unfit], 0).unwrap_err().contains("wanted Utf8, Plain, nullable"));
        }
    }

    #[test]
    fn hashes_are_for_inputs_and_dictionaries_for_bytes() {
        let hash = field("a", wit::DataType::Utf8, wit::Encoding::Hash);
        assert!(parser_of(vec![], vec![hash], None).unwrap_err().contains("for inputs only"));
        let dictionary = field("a", wit::DataType::Int64, wit::Encoding::Dictionary);
        assert!(parser_of(vec![], vec![dictionary], None).unwrap_err().contains("for Utf8 and Binary"));
    }

    #[test]
    fn a_parser_asks_for_parts_of_a_record_as_they_are() {
        let value = field("value", wit::DataType::Binary, wit::Encoding::Plain);
        assert!(parser_of(vec![value.clone()], vec![], None).is_ok());
        assert!(parser_of(vec![int("headers")], vec![], None).unwrap_err().contains("there is no input `headers`"));
        assert!(parser_of(vec![int("value")], vec![], None).unwrap_err().contains("it is Binary, Plain"));
        let never_null = wit::Field { nullable: false, ..value };
        assert!(parser_of(vec![never_null], vec![], None).unwrap_err().contains("may be null"));
    }
}
