//! `wasmill status`: what a running wasmill is doing.

use super::{Classed, Exit, json};
use crate::admin::client;
use crate::cli::StatusArgs;
use crate::telemetry::render_status;
use anyhow::Context;
use std::io::Write;
use wasmill_pipeline::error::Class;

/// Asks it, and shows the answer.
///
/// # Errors
/// Where nothing answers.
pub fn status(args: &StatusArgs) -> anyhow::Result<Exit> {
    let status = client::fetch_status(&args.url).context(Classed(Class::Unavailable))?;
    if !args.quiet {
        let text = if args.json { json(&status)? } else { render_status(&status) };
        writeln!(std::io::stdout().lock(), "{}", text.trim_end())?;
    }
    Ok(if status.health().is_ok() { Exit::Done } else { Exit::Unhealthy })
}
