//! `wasmill replay`: a fault from its capsule, made to happen again outside of the pipeline.

use super::{Exit, classed, shown};
use crate::assembly;
use crate::capsule::{Call, Capsule, Column, Input, LeftOut, Part, Secret, State};
use crate::cli::ReplayArgs;
use crate::config;
use crate::plugin::{Component, World};
use anyhow::{Context, anyhow, bail};
use arrow_array::{ArrayRef, BinaryArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;
use wasmill_pipeline::error::Class;
use wasmill_pipeline::plugin::{Aggregate, Fault, FaultKind, Field, Parsed, Parser};

/// How many rows of an answer are shown.
const SHOWN_ROWS: usize = 3;

/// The call's slot; it is alone in its instance.
const SLOT: [u32; 1] = [0];

/// Makes the fault happen again, and tells.
///
/// # Errors
/// Why it cannot be replayed.
pub fn replay(args: &ReplayArgs) -> anyhow::Result<Exit> {
    told(args).map_err(|error| classed(Class::Config, error.context("the capsule cannot be replayed")))
}

fn told(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let file = args.capsule.display();
    let capsule = Capsule::read(&args.capsule).with_context(|| format!("the file path={file}"))?;
    let mut out = std::io::stdout().lock();
    tell_what_was(&capsule, &mut out)?;
    let (Input::Whole(call), Some(captured)) = (&capsule.input, capsule.plugin.config.open()) else {
        bail!(why_not(&capsule.input));
    };
    let component = component(&capsule, args.plugin.as_ref())?;
    writeln!(out, "replayed with  {} sha256 {}", component.path().display(), component.digest())?;
    let config_json = args.config.as_deref().unwrap_or(captured);
    let happened = match call {
        Call::Parse(record) => {
            let mut parser = parser(&component, config_json, &capsule)?;
            parser.parse(&record.batch((capsule.origin.partition, capsule.origin.offset))).map(|parsed| {
                let fields = parser.description().outputs.clone();
                parsed_in_short(&fields, &parsed)
            })
        }
        Call::Update { state, inputs } => {
            let mut aggregate = component.aggregate(config_json).map_err(flat)?;
            let wanted = aggregate.description().inputs.clone();
            let (arrays, rows) = Column::arrays(inputs, &wanted).map_err(anyhow::Error::msg)?;
            let slots = vec![SLOT[0]; rows];
            restore(aggregate.as_mut(), state.as_ref())
                .and_then(|()| aggregate.update(&slots, &arrays))
                .map(|()| vec![format!("update took {rows} row(s) in")])
        }
        Call::Finish { state, context } => {
            let mut aggregate = component.aggregate(config_json).map_err(flat)?;
            let wanted = aggregate.description().context.clone();
            let (arrays, rows) = Column::arrays(context, &wanted).map_err(anyhow::Error::msg)?;
            if rows != SLOT.len() {
                bail!("a finish is of one slot; rows={rows}");
            }
            restore(aggregate.as_mut(), Some(state)).and_then(|()| aggregate.finish(&SLOT, &arrays)).map(|finished| {
                let fields = aggregate.description().outputs.clone();
                let rows = finished.columns.first().map_or(0, |column| column.len());
                let mut lines = vec![format!("finish gave {rows} row(s)")];
                lines.extend(rows_in_short(&fields, &finished.columns, rows));
                lines
            })
        }
    };
    tell_what_is(&capsule, happened, &mut out)
}

fn tell_what_was(capsule: &Capsule, out: &mut impl Write) -> std::io::Result<()> {
    let Capsule { plugin, origin, fault, limits, .. } = capsule;
    let written = chrono::DateTime::from_timestamp_micros(capsule.written_us);
    let written = written.map_or_else(|| "at no time".to_owned(), |at| at.to_rfc3339());
    writeln!(
        out,
        "capsule        {written}, wasmill {}, pipeline {}",
        shown(&capsule.wasmill),
        shown(&capsule.pipeline)
    )?;
    writeln!(
        out,
        "plugin         {} ({}) sha256 {}",
        shown(&plugin.name),
        shown(&plugin.interface),
        shown(&plugin.digest)
    )?;
    let (topic, partition, offset) = (shown(&origin.topic), origin.partition, origin.offset);
    writeln!(
        out,
        "call           {} of topic={topic} partition={partition} offset={offset}",
        shown(capsule.input.call())
    )?;
    let deadline = config::format_duration(Duration::from_micros(limits.deadline_us));
    writeln!(out, "limits         memory {}, deadline {deadline}", config::format_size(limits.memory_bytes))?;
    writeln!(out, "fault then     {}", kind_and_message(fault.kind, &fault.message))?;
    for line in &fault.backtrace {
        writeln!(out, "               in {}", shown(line))?;
    }
    if let Input::LeftOut { parts, .. } = &capsule.input {
        for Part { name, bytes, xxh3 } in parts {
            writeln!(out, "left out       {}: {bytes} bytes, xxh3 {}", shown(name), shown(xxh3))?;
        }
    }
    Ok(())
}

fn kind_and_message(kind: FaultKind, message: &Secret) -> String {
    match message {
        Secret::Open(message) => format!("{kind}: {}", shown(message)),
        Secret::Hidden(Part { bytes, xxh3, .. }) => {
            format!("{kind} (its message is redacted: {bytes} bytes, xxh3 {})", shown(xxh3))
        }
    }
}

fn why_not(input: &Input) -> &'static str {
    match input {
        Input::LeftOut { why: LeftOut::TooLarge, .. } => {
            "its input was larger than faults.capsule_bytes allows and is not in it; there is nothing to replay"
        }
        _ => "it was redacted (faults.redact) and holds no input; there is nothing to replay",
    }
}

/// The component that failed, or the one asked for.
fn component(capsule: &Capsule, other: Option<&PathBuf>) -> anyhow::Result<Component> {
    let worlds = [World::Parser, World::Aggregate];
    let interface = &capsule.plugin.interface;
    let world = worlds
        .into_iter()
        .find(|world| world.interface() == interface)
        .ok_or_else(|| anyhow!("this release has no such plugins; interface={}", shown(interface)))?;
    if (world == World::Parser) != matches!(&capsule.input, Input::Whole(Call::Parse(_))) {
        bail!("{world} has no such call; call={}", shown(capsule.input.call()));
    }
    let limits = config::Limits {
        memory_bytes: capsule.limits.memory_bytes,
        deadline: Duration::from_micros(capsule.limits.deadline_us),
        ..config::Limits::default()
    };
    let runtime = assembly::replay_runtime(&limits)?;
    let digest = shown(&capsule.plugin.digest);
    let hint = || format!("name the component with --plugin PATH; the one that failed has sha256={digest}");
    let path = other.cloned().unwrap_or_else(|| PathBuf::from(&capsule.plugin.path));
    let component = runtime.load(&shown(&capsule.plugin.name), &path, world).map_err(flat).with_context(hint)?;
    if other.is_none() && component.digest() != capsule.plugin.digest {
        let (path, found) = (component.path().display().to_string(), component.digest());
        return Err(anyhow!("it is not the component that failed any more; path={} sha256={found}", shown(&path)))
            .with_context(hint);
    }
    Ok(component)
}

fn parser(component: &Component, config_json: &str, capsule: &Capsule) -> anyhow::Result<Box<dyn Parser>> {
    let wanted: Option<Vec<&str>> =
        capsule.plugin.wanted.as_ref().map(|names| names.iter().map(String::as_str).collect());
    component.parser(config_json, &capsule.origin.topic, wanted.as_deref()).map_err(flat)
}

/// An error whose chain is one line, as the pipeline's own checks tell it.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn flat(error: crate::plugin::Error) -> anyhow::Error {
    anyhow!("{}", assembly::chain(&error))
}

fn restore(aggregate: &mut dyn Aggregate, state: Option<&State>) -> Result<(), Fault> {
    let Some(State { version, bytes }) = state else { return Ok(()) };
    aggregate.restore(&SLOT, *version, &BinaryArray::from_iter_values([&bytes.0]))
}

fn parsed_in_short(fields: &[Field], parsed: &Parsed) -> Vec<String> {
    let mut lines = vec![format!("parse gave {} row(s) and {} reject(s)", parsed.rows, parsed.rejects.len())];
    lines.extend(rows_in_short(fields, &parsed.columns, parsed.rows));
    let reject = |reject: &wasmill_pipeline::plugin::Reject| {
        format!("rejected as {}: {}", reject.reason.as_str(), shown(&reject.message))
    };
    lines.extend(parsed.rejects.iter().map(reject));
    lines
}

fn rows_in_short(fields: &[Field], columns: &[ArrayRef], rows: usize) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let formatters = fields.iter().zip(columns).map(|(field, column)| {
        ArrayFormatter::try_new(column.as_ref(), &options).map(|values| (field.name.as_str(), values)).ok()
    });
    let formatters: Vec<_> = formatters.flatten().collect();
    let row = |row| {
        let values = formatters
            .iter()
            .map(|(name, values)| format!("{}={}", shown(name), shown(&values.value(row).to_string())));
        values.collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = (0..rows.min(SHOWN_ROWS)).map(row).collect();
    if rows > SHOWN_ROWS {
        lines.push(format!("and {} more", rows - SHOWN_ROWS));
    }
    lines
}

fn tell_what_is(capsule: &Capsule, happened: Result<Vec<String>, Fault>, out: &mut impl Write) -> anyhow::Result<Exit> {
    match happened {
        Ok(answer) => {
            writeln!(out, "now            no fault any more")?;
            for line in answer {
                writeln!(out, "               {line}")?;
            }
            Ok(Exit::Done)
        }
        Err(fault) => {
            let same = if is_same(capsule, &fault) { "the same fault" } else { "another fault" };
            writeln!(out, "now            {same}: {}: {}", fault.kind, shown(&fault.message))?;
            for line in &fault.backtrace {
                writeln!(out, "               in {}", shown(line))?;
            }
            Ok(Exit::Unhealthy)
        }
    }
}

/// Where a guest is when its time or memory runs out is a matter of chance.
fn is_same(capsule: &Capsule, now: &Fault) -> bool {
    let by_chance = matches!(now.kind, FaultKind::Deadline | FaultKind::Memory);
    now.kind == capsule.fault.kind && (by_chance || capsule.fault.message.open() == Some(now.message.as_str()))
}
