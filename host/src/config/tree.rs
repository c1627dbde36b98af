//! The raw pipeline file: TOML as a tree whose every value knows its place, expanded, with the flags laid over it.

use std::{collections::BTreeMap, ops::Range};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::expand::expand;
use super::mistake::{Mistake, Mistakes, Place, closest};
use super::overrides::Override;

/// The environment: a variable's value, if it is set.
type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A table, by key.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
    /// The environment variables whose values are in it.
    pub(super) variables: Vec<String>,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Its mistake is noted already: whoever reads it says nothing.
    Broken,
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Node>),
    Table(Table),
}

/// Reads a file's text into a tree. What is wrong is added to `mistakes`; what can be read is read.
pub(super) fn parse(file: &str, text: &str, env: &Env<'_>, mistakes: &mut Mistakes) -> Table {
    let mut reader = Reader { file, lines: line_starts(text), env: Some(env), mistakes };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = error.span().map_or(Place::File, |span| reader.place(&span));
        let text = format!("this is not TOML: {}", error.message().replace('\n', ", "));
        reader.mistakes.0.push(Mistake { file: file.to_owned(), place, key: String::new(), text });
    }
    // Values of a file that could not be read would only add mistakes that are none.
    if errors.is_empty() { reader.table("", table.get_ref()) } else { Table::new() }
}

struct Reader<'a> {
    file: &'a str,
    /// The index of each line's first byte.
    lines: Vec<usize>,
    /// `None` = variables are not expanded.
    env: Option<&'a Env<'a>>,
    mistakes: &'a mut Mistakes,
}

impl Reader<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        Place::Line(self.lines.partition_point(|start| *start <= span.start))
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) -> Table {
        let mut nodes = Table::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let place = self.place(&key.span());
            nodes.insert(name, self.node(&path, value.get_ref(), place));
        }
        nodes
    }

    fn node(&mut self, path: &str, value: &DeValue<'_>, place: Place) -> Node {
        let mut variables = Vec::new();
        let value = match value {
            DeValue::String(text) => match self.env.map(|env| expand(text, env)) {
                None => Value::Text(text.to_string()),
                Some(Ok(expanded)) => {
                    variables = expanded.variables;
                    Value::Text(expanded.text)
                }
                Some(Err(wrong)) => {
                    for text in wrong {
                        self.note(path, place.clone(), text);
                    }
                    Value::Broken
                }
            },
            DeValue::Integer(number) => {
                if let Ok(number) = i64::from_str_radix(number.as_str(), number.radix()) {
                    Value::Integer(number)
                } else {
                    self.note(path, place.clone(), format!("{number} is too large; write a number below 2^63"));
                    Value::Broken
                }
            }
            // The parser has checked the form; what overflows becomes infinite, which every reader refuses.
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(yes) => Value::Boolean(*yes),
            DeValue::Datetime(time) => Value::Text(time.to_string()),
            DeValue::Array(items) => Value::List(items.iter().map(|item| self.item(path, item)).collect()),
            DeValue::Table(table) => Value::Table(self.table(path, table)),
        };
        Node { value, place, variables }
    }

    fn item(&mut self, path: &str, item: &Spanned<DeValue<'_>>) -> Node {
        let place = self.place(&item.span());
        self.node(path, item.get_ref(), place)
    }

    fn note(&mut self, path: &str, place: Place, text: String) {
        self.mistakes.0.push(Mistake { file: self.file.to_owned(), place, key: path.to_owned(), text });
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1)).collect()
}

/// Lays one flag over the tree.
///
/// # Errors
/// What is wrong with its key.
pub(super) fn lay_over(root: &mut Table, with: &Override) -> Result<(), String> {
    let keys = split_key(&with.key)?;
    let place = Place::Flag(with.flag.clone());
    let mut value = parse_value(&with.value);
    place_everywhere(&mut value, &place);
    let mut keys = keys.iter().map(String::as_str).peekable();
    let mut table = root;
    while let Some(key) = keys.next() {
        if keys.peek().is_none() {
            table.insert(key.to_owned(), value);
            break;
        }
        let next = table.entry(key.to_owned()).or_insert_with(|| Node {
            value: Value::Table(Table::new()),
            place: place.clone(),
            variables: Vec::new(),
        });
        table = match &mut next.value {
            Value::Table(table) => table,
            Value::List(items) => named(items, keys.next().unwrap_or_default(), key)?,
            _ => return Err(format!("{key:?} is not a section")),
        };
    }
    Ok(())
}

/// The table of `items` whose `name` is this.
fn named<'t>(items: &'t mut [Node], name: &str, of: &str) -> Result<&'t mut Table, String> {
    let mut names = Vec::new();
    let mut found = None;
    for (i, item) in items.iter().enumerate() {
        if let Value::Table(table) = &item.value
            && let Some(Node { value: Value::Text(text), .. }) = table.get("name")
        {
            names.push(text.clone());
            if text == name {
                found = Some(i);
            }
        }
    }
    if let Some(Node { value: Value::Table(table), .. }) = found.and_then(|i| items.get_mut(i)) {
        return Ok(table);
    }
    let advice = match closest(name, names.iter().map(String::as_str)) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("there are: {}", names.join(", ")),
    };
    Err(format!("there is no {of} named {name:?}; {advice}"))
}

/// The keys of a dotted path; `[source.kafka]`'s own keys have dots, so what follows there is one key.
fn split_key(path: &str) -> Result<Vec<String>, String> {
    let mut keys: Vec<String> = match path.strip_prefix("source.kafka.") {
        Some(rest) => vec!["source".into(), "kafka".into(), rest.into()],
        None => path.split('.').map(str::to_owned).collect(),
    };
    for key in &mut keys {
        *key = key.trim_matches('"').to_owned();
    }
    if keys.iter().any(String::is_empty) || keys == ["aggregate"] {
        return Err(format!("{path:?} is not a key; write section.key=value or aggregate.NAME.key=value"));
    }
    Ok(keys)
}

/// A flag's value: TOML when it is TOML, else text as it is. Variables in it are the shell's affair.
fn parse_value(text: &str) -> Node {
    let mut ignored = Mistakes::default();
    let mut reader = Reader { file: "", lines: Vec::new(), env: None, mistakes: &mut ignored };
    let as_text = Node { value: Value::Text(text.to_owned()), place: Place::File, variables: Vec::new() };
    match DeValue::parse(text) {
        Ok(value) if !value.get_ref().is_datetime() => {
            let node = reader.node("", value.get_ref(), Place::File);
            if ignored.0.is_empty() { node } else { as_text }
        }
        _ => as_text,
    }
}

fn place_everywhere(node: &mut Node, place: &Place) {
    node.place = place.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| place_everywhere(item, place)),
        Value::Table(table) => table.values_mut().for_each(|item| place_everywhere(item, place)),
        _ => {}
    }
}
