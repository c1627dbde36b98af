//! `wasmill history`: what was done to a pipeline's plugins.

use super::{Exit, checkpoint_folder, classed, shown, time};
use crate::cli::HistoryArgs;
use crate::disk::{Disk, RealDisk};
use crate::store::history::{Entry, History};
use anyhow::anyhow;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmill_pipeline::error::Class;

/// The digits by which a digest is shown: enough for `wasmill swap` to find it.
const DIGITS: usize = 12;

const TITLES: [&str; 9] = ["TIME", "WHO", "ACTION", "PLUGIN", "FROM", "TO", "STATE", "AT", "OUTCOME"];

/// Shows the newest entries, newest last.
///
/// # Errors
/// Where there is no checkpoint folder, or its history cannot be read.
pub fn history(args: &HistoryArgs) -> anyhow::Result<Exit> {
    let folder = checkpoint_folder(&args.checkpoint)?.unwrap_or_default();
    let mut entries = read(&folder)?;
    if entries.is_empty() && args.checkpoint.config.is_some() {
        entries = last_isolated(&folder)?;
    }
    if entries.is_empty() {
        nothing(&folder)?;
        return Ok(Exit::Done);
    }
    let from = if args.number == 0 { 0 } else { entries.len().saturating_sub(args.number) };
    let newest = &entries[from..];
    let mut out = std::io::stdout().lock();
    if args.json {
        for entry in newest {
            writeln!(out, "{}", serde_json::to_string(entry)?)?;
        }
    } else {
        write!(out, "{}", table(newest))?;
    }
    Ok(Exit::Done)
}

fn read(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let history = History::open(Arc::new(RealDisk), folder);
    history.read().map_err(|error| classed(error.class(), error.into()))
}

/// What was done in the last of the isolated runs below a folder, which it says: whoever tries a pipeline out on the
/// embedded broker has a run of another name at each start.
fn last_isolated(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    if RealDisk.length(folder)?.is_none() {
        return Ok(Vec::new());
    }
    let mut last: Option<(PathBuf, Vec<Entry>)> = None;
    for run in with_history(folder)? {
        let entries = read(&run)?;
        let time = |entries: &[Entry]| entries.last().map(|entry| entry.time_us);
        if last.as_ref().is_none_or(|(_, before)| time(before) < time(&entries)) {
            last = Some((run, entries));
        }
    }
    let Some((run, entries)) = last else { return Ok(Vec::new()) };
    let mut out = std::io::stderr().lock();
    writeln!(out, "of the last isolated run path={}", run.display())?;
    Ok(entries)
}

/// Says that nothing was done yet, or that this is no checkpoint folder.
fn nothing(folder: &Path) -> anyhow::Result<()> {
    let path = folder.display();
    if RealDisk.length(folder)?.is_none() {
        let error = anyhow!("there is no checkpoint folder; name that of a pipeline that has run path={path}");
        return Err(classed(Class::Config, error));
    }
    let mut out = std::io::stderr().lock();
    writeln!(out, "nothing was done to the plugins of this pipeline yet path={path}")?;
    for run in with_history(folder)? {
        writeln!(out, "an isolated run has a history: --checkpoint {}", run.display())?;
    }
    Ok(())
}

/// The folders in a folder that have a history of their own: those of isolated runs.
fn with_history(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let disk = Arc::new(RealDisk);
    let mut found = Vec::new();
    for entry in disk.list(folder)?.into_iter().filter(|entry| entry.is_folder) {
        let path = folder.join(entry.name);
        if disk.length(History::open(disk.clone(), &path).path())?.is_some() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// One line per entry, its columns below each other; details, of any length, at the end.
fn table(entries: &[Entry]) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(entries.iter().map(cells));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..TITLES.len()).map(width).collect();
    let details = std::iter::once("DETAIL").chain(entries.iter().map(|entry| entry.detail.as_str()));
    let line = |(row, detail): (&[String; 9], &str)| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        let line = cells.chain([shown(detail)]).collect::<String>();
        format!("{}\n", line.trim_end())
    };
    rows.iter().zip(details).map(line).collect()
}

fn cells(entry: &Entry) -> [String; 9] {
    let digest = |digest: &str| {
        let digest: String = digest.chars().take(DIGITS).collect();
        if digest.is_empty() { "-".to_owned() } else { shown(&digest) }
    };
    [
        time(entry.time_us),
        shown(&entry.who),
        entry.action.to_string(),
        shown(&entry.plugin),
        digest(&entry.from),
        digest(&entry.to),
        shown(entry.policy.as_deref().unwrap_or("-")),
        entry.boundary.as_ref().map_or_else(|| "-".to_owned(), |at| format!("checkpoint {}", at.checkpoint)),
        entry.outcome.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::history::{Action, Outcome};
    use wasmill_pipeline::checkpoint::Boundary;

    fn entry(action: Action, outcome: Outcome, who: &str, detail: &str) -> Entry {
        Entry {
            id: String::new(),
            time_us: 1_700_000_000_000_000,
            who: who.into(),
            action,
            plugin: "pages".into(),
            from: "a".repeat(64),
            to: String::new(),
            policy: None,
            boundary: Some(Boundary { checkpoint: 7, ..Boundary::default() }),
            outcome,
            detail: detail.into(),
        }
    }

    #[test]
    fn columns_are_below_each_other() {
        let text = table(&[
            entry(Action::Swap, Outcome::OnProbation, "user:ana", "3 windows were open"),
            entry(Action::Rollback, Outcome::RolledBack, "host", ""),
        ]);
        assert_eq!(
            text,
            "TIME                  WHO       ACTION    PLUGIN  FROM          TO  STATE  AT            OUTCOME       DETAIL\n\
             2023-11-14T22:13:20Z  user:ana  swap      pages   aaaaaaaaaaaa  -   -      checkpoint 7  on probation  3 windows were open\n\
             2023-11-14T22:13:20Z  host      rollback  pages   aaaaaaaaaaaa  -   -      checkpoint 7  rolled back\n"
        );
    }

    #[test]
    fn what_others_wrote_stays_on_its_line() {
        let text = table(&[entry(Action::Swap, Outcome::Refused, "token:x\n\u{1b}[31m", "a\nb")]);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
