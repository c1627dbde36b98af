//! `wasmill explain`: what made an output file.

use super::{Exit, checkpoint_folder, classed, json, shown, time};
use crate::cli::ExplainArgs;
use crate::disk::{Disk, RealDisk};
use crate::files;
use crate::plugin;
use crate::provenance::tidy;
use crate::sink::{self, Committed, Format, LEDGER, Origin};
use crate::store::PluginStore;
use crate::store::history::{Entry, History, Outcome};
use anyhow::{Context, anyhow};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmill_pipeline::checkpoint::Boundary;
use wasmill_pipeline::error::Class;

/// What is known of an output file.
#[derive(Debug, Serialize)]
struct Explanation {
    /// Its absolute path.
    file: PathBuf,
    /// How long it is.
    bytes: u64,
    /// Its line in the ledger.
    committed: Option<Committed>,
    /// What it says of itself, or the ledger of it.
    origin: Origin,
    /// The plugins that made its rows.
    plugins: Vec<Plugin>,
    /// The last checkpoint before it was opened.
    since: Option<Boundary>,
    /// The checkpoint folder looked into.
    checkpoint: Option<PathBuf>,
}

/// A plugin that made rows of the file.
#[derive(Debug, Serialize)]
struct Plugin {
    name: String,
    digest: String,
    /// Where its component is kept.
    component: Option<PathBuf>,
    /// How it came to be in force, if it was not from the start.
    swapped_in: Option<Entry>,
}

/// Says what made the file.
///
/// # Errors
/// Where nothing is known of it, with where it was looked for.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let explanation = explained(args)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json(&explanation)?)?;
    } else {
        tell(&explanation, &mut out)?;
    }
    Ok(Exit::Done)
}

fn explained(args: &ExplainArgs) -> anyhow::Result<Explanation> {
    let path = std::path::absolute(&args.file)?;
    let refuse = |what: &str| classed(Class::Config, anyhow!("{what} path={}", path.display()));
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => Format::Parquet,
        Some("csv") => Format::Csv,
        _ => return Err(refuse("no output has this name; name a .parquet or .csv file")),
    };
    let cannot = || format!("the file cannot be read path={}", path.display());
    let mut file = files::open(&path, u64::MAX).with_context(cannot).map_err(|error| classed(Class::Config, error))?;
    let bytes = file.metadata().with_context(cannot)?.len();
    let origin = match format {
        Format::Parquet => sink::origin_of(&mut file, &path).map_err(|error| classed(Class::Config, error.into()))?,
        Format::Csv => Origin::default(),
    };
    let ledger = in_ledger(&path, &origin)?;
    if ledger.line.is_none() && origin.is_empty() {
        return Err(refuse(&unknown(format, &ledger.searched)));
    }
    let origin = match &ledger.line {
        Some(line) if origin.is_empty() => line.origin.clone(),
        _ => origin,
    };
    let checkpoint = match checkpoint_folder(&args.checkpoint)? {
        Some(named) => Some(named),
        None => origin.get("checkpoints").zip(ledger.root).map(|(way, root)| tidy(&root.join(way))),
    };
    let since = origin.since();
    let plugins = plugins(&origin, since.as_ref(), checkpoint.as_deref())?;
    Ok(Explanation { file: path, bytes, committed: ledger.line, origin, plugins, since, checkpoint })
}

/// What the ledgers have of a file.
struct Found {
    line: Option<Committed>,
    /// The output root that the file belongs to.
    root: Option<PathBuf>,
    /// The ledgers that were looked into.
    searched: Vec<PathBuf>,
}

/// Looks for a file in the ledgers of all folders above it, the nearest first.
fn in_ledger(path: &Path, origin: &Origin) -> anyhow::Result<Found> {
    let mut searched = Vec::new();
    for root in path.ancestors().skip(1) {
        let ledger = root.join(LEDGER);
        if !matches!(RealDisk.length(&ledger), Ok(Some(_))) {
            continue;
        }
        let below: Vec<&str> = path.strip_prefix(root)?.iter().filter_map(|name| name.to_str()).collect();
        let line = sink::find_committed(&RealDisk, root, &below.join("/"))
            .map_err(|error| classed(error.class(), error.into()))?;
        searched.push(ledger);
        if line.is_some() {
            return Ok(Found { line, root: Some(root.to_owned()), searched });
        }
    }
    // Without a ledger the file may still be where it was put.
    let put = origin.get("path").map_or(0, |put| Path::new(put).iter().count());
    let is_there = |root: &&Path| origin.get("path").is_some_and(|put| root.join(put) == path);
    let root = path.ancestors().nth(put).filter(is_there).map(Path::to_owned);
    Ok(Found { line: None, root, searched })
}

/// Why nothing is known of a file.
fn unknown(format: Format, searched: &[PathBuf]) -> String {
    let ledgers: Vec<String> = searched.iter().map(|ledger| ledger.display().to_string()).collect();
    let ledgers = match ledgers.as_slice() {
        [] => format!("no folder above it has the ledger `{LEDGER}` of an output root"),
        ledgers => format!("it has no line in {}", ledgers.join(" nor in ")),
    };
    match format {
        Format::Parquet => format!("it is no output of wasmill: it says nothing of it itself, and {ledgers};"),
        Format::Csv => format!("it is no output of wasmill, or of a release before the ledger: {ledgers};"),
    }
}

fn plugins(origin: &Origin, since: Option<&Boundary>, checkpoint: Option<&Path>) -> anyhow::Result<Vec<Plugin>> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let store = checkpoint.map(|folder| PluginStore::open(disk.clone(), folder, plugin::digest));
    let history = match checkpoint.map(|folder| History::open(disk, folder).read()) {
        None => Vec::new(),
        Some(read) => read.map_err(|error| classed(error.class(), error.into()))?,
    };
    let plugin = |(name, digest): (String, String)| {
        let kept = store.as_ref().map_or(Ok(None), |store| store.path(&digest));
        let component = kept.map_err(|error| classed(error.class(), error.into()))?;
        let swapped_in = history.iter().rev().find(|entry| put_in(entry, &name, &digest, since)).cloned();
        Ok(Plugin { name, digest, component, swapped_in })
    };
    origin.plugins().into_iter().map(plugin).collect()
}

/// Whether this is how a version came in force.
fn put_in(entry: &Entry, name: &str, digest: &str, since: Option<&Boundary>) -> bool {
    let before = entry.boundary.as_ref().zip(since).is_none_or(|(at, since)| at.checkpoint <= since.checkpoint);
    let in_force = matches!(entry.outcome, Outcome::InForce | Outcome::OnProbation);
    before && in_force && entry.plugin == name && entry.to == digest
}

fn tell(explanation: &Explanation, out: &mut impl Write) -> std::io::Result<()> {
    let Explanation { file, bytes, committed, origin, plugins, since, checkpoint } = explanation;
    writeln!(out, "file           {}", shown(&file.display().to_string()))?;
    if let Some(line) = committed {
        let (output, format) = (shown(&line.output), line.format.as_str());
        writeln!(out, "output         {output}, {format}, {} rows, {} bytes", line.rows, line.bytes)?;
        if line.bytes != *bytes {
            writeln!(out, "               but it has {bytes} bytes: it is not as it was committed")?;
        }
        if !file.ends_with(&line.path) {
            writeln!(out, "               moved from {}", shown(&line.path))?;
        }
    }
    let said = |name| origin.get(name).map_or_else(|| "unknown".to_owned(), shown);
    let run = origin.get("run").map(|run| format!(", run {}", shown(run))).unwrap_or_default();
    writeln!(out, "written by     wasmill {}, pipeline {}{run}", said("version"), said("pipeline"))?;
    writeln!(out, "configuration  sha256 {}", said("config"))?;
    if let Some(data) = origin.get("time-zones") {
        writeln!(out, "time zones     IANA data {}, of windows or folders by a calendar", shown(data))?;
    }
    for plugin in plugins {
        writeln!(out, "plugin         {} sha256 {}", shown(&plugin.name), shown(&plugin.digest))?;
        match (&plugin.component, checkpoint) {
            (Some(component), _) => writeln!(out, "               kept as {}", component.display())?,
            (None, Some(folder)) => {
                let folder = folder.display();
                writeln!(out, "               not kept in {folder}; name another checkpoint folder with --checkpoint")?;
            }
            (None, None) => {
                writeln!(out, "               kept in the checkpoint folder; name it with --checkpoint")?;
            }
        }
        if let Some(Entry { action, time_us, who, boundary, .. }) = &plugin.swapped_in {
            let at = boundary.as_ref().map(|at| format!(" at checkpoint {}", at.checkpoint)).unwrap_or_default();
            writeln!(out, "               in force by a {action}{at}, {}, by {}", time(*time_us), shown(who))?;
        }
    }
    tell_range(committed.as_ref(), since.as_ref(), out)?;
    let of_events = plugins.iter().all(|plugin| plugin.name == "parser");
    if !of_events {
        writeln!(out, "               the rows came out between these offsets; events in them may be from before")?;
    }
    Ok(())
}

/// Between which records its rows came.
fn tell_range(committed: Option<&Committed>, since: Option<&Boundary>, out: &mut impl Write) -> std::io::Result<()> {
    let mut at = |title: &str, boundary: &Boundary, made: String| {
        let watermark = boundary.watermark_us.map_or_else(|| "none yet".to_owned(), time);
        writeln!(out, "{title:14} checkpoint {}{made}, watermark {watermark}", boundary.checkpoint)
    };
    if let Some(since) = since {
        at("opened after", since, String::new())?;
    }
    let until = committed.map(|line| &line.until);
    if let Some(line) = committed {
        at("committed with", &line.until, format!(" of {}", time(line.committed_us)))?;
    }
    let none = BTreeMap::new();
    let (from, to) = (since.map_or(&none, |at| &at.offsets), until.map_or(&none, |at| &at.offsets));
    for partition in from.keys().chain(to.keys().filter(|p| !from.contains_key(p))) {
        let from = from.get(partition).map(|offset| format!(" from {offset}")).unwrap_or_default();
        let to = to.get(partition).map(|offset| format!(" to before {offset}")).unwrap_or_default();
        writeln!(out, "offsets        partition {partition}{from}{to}")?;
    }
    Ok(())
}
