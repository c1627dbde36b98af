//! What is different between two versions of a plugin, line by line, for a person.

use super::{Component, Description, World};
use wasmill_pipeline::plugin::{AggregateDescription, DataType, Encoding, Field, ParserDescription};

/// The digits of a digest that are shown: enough to tell files apart, and short enough to compare by eye.
const DIGEST_DIGITS: usize = 12;

/// One of the two versions.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    world: World,
    digest: &'a str,
    size_bytes: u64,
    imports: &'a [String],
    stubbed_imports: &'a [String],
    description: &'a Description,
    cost_ns: Option<f64>,
}

impl<'a> Side<'a> {
    /// A component, what it says of itself with its configuration, and what a row was measured to cost it.
    pub fn new(component: &'a Component, description: &'a Description, cost_ns: Option<f64>) -> Self {
        Self {
            world: component.world(),
            digest: component.digest(),
            size_bytes: component.size_bytes(),
            imports: component.imports(),
            stubbed_imports: component.stubbed_imports(),
            description,
            cost_ns,
        }
    }
}

/// The digests, and then what is different, a line each, from what matters most for the state and the output to what
/// matters least.
pub fn difference(old: &Side<'_>, new: &Side<'_>) -> Vec<String> {
    let mut lines = vec![match (short(old.digest), short(new.digest)) {
        (same, other) if same == other => format!("digest: {same} (the same file)"),
        (old, new) => format!("digest: {old} → {new}"),
    }];
    change(&mut lines, "world", &old.world, &new.world);
    match (old.description, new.description) {
        (
            Description::Aggregate { description: old, typical_state_bytes: old_bytes },
            Description::Aggregate { description: new, typical_state_bytes: new_bytes },
        ) => {
            aggregates(&mut lines, old, new);
            change(&mut lines, "typical state", &bytes(u64::from(*old_bytes)), &bytes(u64::from(*new_bytes)));
        }
        (
            Description::Parser { inputs: old_inputs, outputs: old },
            Description::Parser { inputs: new_inputs, outputs: new },
        ) => {
            fields(&mut lines, "output", &old.outputs, &new.outputs);
            order(&mut lines, &old.outputs, &new.outputs);
            change(&mut lines, "event time", &event_time(old), &event_time(new));
            change(&mut lines, "rescue", &rescue(old), &rescue(new));
            fields(&mut lines, "input", old_inputs, new_inputs);
        }
        // Generators have nothing to say, and two worlds nothing in common.
        _ => {}
    }
    imports(&mut lines, old, new);
    if old.size_bytes != new.size_bytes {
        let (mut one, mut other) = (kilobytes(old.size_bytes), kilobytes(new.size_bytes));
        if one == other {
            (one, other) = (bytes(old.size_bytes), bytes(new.size_bytes));
        }
        lines.push(format!("size: {one} → {other}"));
    }
    if let (Some(old), Some(new)) = (old.cost_ns, new.cost_ns) {
        change(&mut lines, "cost per row", &duration(old), &duration(new));
    }
    lines
}

fn aggregates(lines: &mut Vec<String>, old: &AggregateDescription, new: &AggregateDescription) {
    let reads = |of: &AggregateDescription| {
        let mut versions = of.restores.clone();
        versions.sort_unstable();
        let versions: Vec<String> = versions.iter().map(u32::to_string).collect();
        if versions.is_empty() { "no other".to_owned() } else { versions.join(", ") }
    };
    if old.state_version == new.state_version {
        change(lines, "state versions read besides its own", &reads(old), &reads(new));
    } else {
        lines.push(format!("state version: {} → {} (reads {})", old.state_version, new.state_version, reads(new)));
    }
    fields(lines, "output", &old.outputs, &new.outputs);
    order(lines, &old.outputs, &new.outputs);
    fields(lines, "input", &old.inputs, &new.inputs);
    fields(lines, "context", &old.context, &new.context);
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    change(lines, "commutative", yes(old.commutative), yes(new.commutative));
}

/// Columns that came, went or changed.
fn fields(lines: &mut Vec<String>, role: &str, old: &[Field], new: &[Field]) {
    let find = |among: &[Field], name: &str| among.iter().find(|field| field.name == name).map(kind);
    for field in old {
        let (name, before) = (&field.name, kind(field));
        match find(new, name) {
            None => lines.push(format!("{role}: - {name} {before}")),
            Some(after) if after != before => lines.push(format!("{role}: {name} {before} → {after}")),
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|field| find(old, &field.name).is_none());
    lines.extend(added.map(|field| format!("{role}: + {} {}", field.name, kind(field))));
}

/// The order of the output columns that both have.
fn order(lines: &mut Vec<String>, old: &[Field], new: &[Field]) {
    let common = |of: &[Field], others: &[Field]| {
        let names = of.iter().map(|field| field.name.as_str());
        let names: Vec<&str> = names.filter(|name| others.iter().any(|other| other.name == *name)).collect();
        names.join(", ")
    };
    change(lines, "order of outputs", &common(old, new), &common(new, old));
}

fn imports(lines: &mut Vec<String>, old: &Side<'_>, new: &Side<'_>) {
    let denied = |of: &Side<'_>, name: &String| {
        if of.stubbed_imports.contains(name) { " (denied when called)" } else { "" }
    };
    let only = |one: &Side<'_>, other: &Side<'_>, sign: &str| {
        let names = one.imports.iter().filter(|name| !other.imports.contains(name));
        names.map(|name| format!("import: {sign} {name}{}", denied(one, name))).collect::<Vec<_>>()
    };
    lines.extend(only(old, new, "-"));
    lines.extend(only(new, old, "+"));
}

fn change<T: std::fmt::Display + PartialEq + ?Sized>(lines: &mut Vec<String>, what: &str, old: &T, new: &T) {
    if old != new {
        lines.push(format!("{what}: {old} → {new}"));
    }
}

/// A column's type in the words of the contract.
fn kind(field: &Field) -> String {
    let data_type = match field.data_type {
        DataType::Boolean => "boolean",
        DataType::Int64 => "int64",
        DataType::Float64 => "float64",
        DataType::Timestamp => "timestamp",
        DataType::Utf8 => "utf8",
        DataType::Binary => "binary",
    };
    let encoding = match field.encoding {
        Encoding::Plain => "",
        Encoding::Dictionary => " dictionary",
        Encoding::Hash => " hash",
    };
    format!("{data_type}{encoding}{}", if field.nullable { " nullable" } else { "" })
}

fn event_time(of: &ParserDescription) -> String {
    let field = of.event_time.and_then(|index| of.outputs.get(index));
    field.map_or_else(|| "the broker's".to_owned(), |field| field.name.clone())
}

fn rescue(of: &ParserDescription) -> String {
    let field = of.rescue.and_then(|index| of.outputs.get(index));
    field.map_or_else(|| "none".to_owned(), |field| field.name.clone())
}

fn short(digest: &str) -> &str {
    digest.get(..DIGEST_DIGITS).unwrap_or(digest)
}

fn kilobytes(bytes: u64) -> String {
    format!("{} KB", bytes.div_ceil(1000))
}

fn bytes(count: u64) -> String {
    format!("{count} bytes")
}

fn duration(ns: f64) -> String {
    if ns < 1000.0 { format!("{ns:.0} ns") } else { format!("{:.1} µs", ns / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1a2b3c4d5e6f77777777";
    const NEW: &str = "ffeeddccbbaa00000000";

    fn field(name: &str, data_type: DataType) -> Field {
        Field { name: name.into(), data_type, encoding: Encoding::Plain, nullable: false }
    }

    fn aggregate() -> AggregateDescription {
        AggregateDescription {
            inputs: vec![field("revenue", DataType::Float64)],
            context: vec![],
            outputs: vec![field("events", DataType::Int64), field("revenue", DataType::Float64)],
            state_version: 1,
            restores: vec![],
            commutative: true,
        }
    }

    fn described(description: AggregateDescription) -> Description {
        Description::Aggregate { description, typical_state_bytes: 16 }
    }

    fn side<'a>(digest: &'a str, description: &'a Description) -> Side<'a> {
        let world = World::Aggregate;
        Side { world, digest, size_bytes: 71_200, imports: &[], stubbed_imports: &[], description, cost_ns: None }
    }

    /// The lines after that of the digests.
    fn lines(old: AggregateDescription, new: AggregateDescription) -> Vec<String> {
        let (old, new) = (described(old), described(new));
        let mut lines = difference(&side(OLD, &old), &side(NEW, &new));
        assert_eq!(lines.remove(0), "digest: 1a2b3c4d5e6f → ffeeddccbbaa");
        lines
    }

    #[test]
    fn between_equals_there_is_the_digest_only() {
        let description = described(aggregate());
        let lines = difference(&side(OLD, &description), &side(OLD, &description));
        assert_eq!(lines, ["digest: 1a2b3c4d5e6f (the same file)"]);
        assert_eq!(super::tests::lines(aggregate(), aggregate()), Vec::<String>::new());
    }

    #[test]
    fn an_added_column_and_a_new_state_are_told() {
        let mut new = aggregate();
        new.outputs.push(field("avg_revenue", DataType::Float64));
        new.inputs.push(Field { encoding: Encoding::Dictionary, nullable: true, ..field("device", DataType::Utf8) });
        (new.state_version, new.restores) = (2, vec![1]);
        let wanted = [
            "state version: 1 → 2 (reads 1)",
            "output: + avg_revenue float64",
            "input: + device utf8 dictionary nullable",
        ];
        assert_eq!(lines(aggregate(), new), wanted);
    }

    #[test]
    fn what_goes_changes_or_moves_is_told() {
        let mut new = aggregate();
        new.outputs.reverse();
        new.outputs[0].data_type = DataType::Int64;
        new.inputs.clear();
        new.context.push(field("window_end", DataType::Timestamp));
        new.commutative = false;
        let wanted = [
            "output: revenue float64 → int64",
            "order of outputs: events, revenue → revenue, events",
            "input: - revenue float64",
            "context: + window_end timestamp",
            "commutative: yes → no",
        ];
        assert_eq!(lines(aggregate(), new), wanted);
    }

    #[test]
    fn a_version_that_reads_other_states_is_told() {
        let new = AggregateDescription { restores: vec![3, 0], ..aggregate() };
        assert_eq!(lines(aggregate(), new), ["state versions read besides its own: no other → 0, 3"]);
    }

    #[test]
    fn imports_size_and_cost_are_told() {
        let description = described(aggregate());
        let (log, clock) = (["wasmill:plugin/log@0.1.0".to_owned()], ["wasi:clocks/wall-clock@0.2.0".to_owned()]);
        let old = Side { imports: &log, cost_ns: Some(61.6), ..side(OLD, &description) };
        let new = Side {
            imports: &clock,
            stubbed_imports: &clock,
            size_bytes: 83_000,
            cost_ns: Some(1250.0),
            ..side(NEW, &description)
        };
        let wanted = [
            "import: - wasmill:plugin/log@0.1.0",
            "import: + wasi:clocks/wall-clock@0.2.0 (denied when called)",
            "size: 72 KB → 83 KB",
            "cost per row: 62 ns → 1.2 µs",
        ];
        assert_eq!(difference(&old, &new)[1..], wanted);
        let close = Side { size_bytes: 71_201, cost_ns: Some(62.4), ..old };
        assert_eq!(difference(&old, &close)[1..], ["size: 71200 bytes → 71201 bytes"]);
    }

    #[test]
    fn a_parser_may_change_its_event_time_and_a_plugin_its_world() {
        let outputs = vec![field("at", DataType::Timestamp)];
        let parser = |event_time| Description::Parser {
            inputs: vec![],
            outputs: ParserDescription { outputs: outputs.clone(), event_time, rescue: None },
        };
        let (with, without) = (parser(Some(0)), parser(None));
        let lines = difference(&side(OLD, &with), &side(NEW, &without));
        assert_eq!(lines[1..], ["event time: at → the broker's"]);
        let generator = Side { world: World::Generator, ..side(NEW, &Description::Generator) };
        assert_eq!(difference(&side(OLD, &with), &generator)[1..], ["world: an aggregate → a generator"]);
    }
}
