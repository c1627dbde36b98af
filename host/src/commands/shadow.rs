//! `wasmill shadow`, `promote` and `discard`: a next version beside the one in force.

use super::{Exit, ask, classed, json};
use crate::admin::control::{Ask, ShadowOptions};
use crate::cli::{PluginArgs, ShadowArgs};
use crate::telemetry::render_report;
use anyhow::anyhow;
use std::io::Write;
use wasmill_pipeline::error::Class;

/// Begins a shadow, or shows how the one that runs compares.
///
/// # Errors
/// Where nothing answers, or it is refused.
pub fn shadow(args: &ShadowArgs) -> anyhow::Result<Exit> {
    let plugin = args.plugin.clone();
    let Some(file) = &args.file else { return report(args) };
    let options = ShadowOptions {
        key_sample: args.key_sample,
        next_windows: args.next_windows,
        tolerance: args.tolerances.iter().cloned().collect(),
    };
    options.check().map_err(|wrong| classed(Class::Config, anyhow!(wrong)))?;
    ask::ask(&args.live, &Ask::Shadow { plugin, component: ask::component(file)?, options })
}

fn report(args: &ShadowArgs) -> anyhow::Result<Exit> {
    match ask::client(&args.live)?.shadow(&args.plugin).map_err(ask::no_reply)? {
        Ok(report) => {
            let text = if args.live.json { json(&report)? } else { render_report(&report) };
            writeln!(std::io::stdout().lock(), "{}", text.trim_end())?;
            Ok(Exit::Done)
        }
        Err(refusal) => ask::refused(&args.live, &refusal),
    }
}

/// Makes the shadow the version in force.
///
/// # Errors
/// As for [`shadow`].
pub fn promote(args: &PluginArgs) -> anyhow::Result<Exit> {
    ask::ask(&args.live, &Ask::Promote { plugin: args.plugin.clone() })
}

/// Ends the shadow.
///
/// # Errors
/// As for [`shadow`].
pub fn discard(args: &PluginArgs) -> anyhow::Result<Exit> {
    ask::ask(&args.live, &Ask::Discard { plugin: args.plugin.clone() })
}
