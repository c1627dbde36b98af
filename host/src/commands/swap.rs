//! `wasmill swap`, `wasmill rollback` and `wasmill cancel`: another version of a plugin, and back.

use super::{Exit, ask};
use crate::admin::control::{Ask, Candidate};
use crate::cli::{PluginArgs, SwapArgs};
use anyhow::Context;

/// Asks for a swap, and shows what came of it.
///
/// # Errors
/// Where nothing answers, or it is refused.
pub fn swap(args: &SwapArgs) -> anyhow::Result<Exit> {
    let component = match (&args.file, &args.digest) {
        (Some(file), _) => ask::component(file)?,
        (None, digest) => Candidate::Digest(digest.clone().context("the arguments name a file or a digest")?),
    };
    let (plugin, policy, dry_run) = (args.plugin.clone(), args.policy, args.dry_run);
    ask::ask(&args.live, &Ask::Swap { plugin, component, policy, dry_run })
}

/// Takes back a swap that is on probation, and shows what came of it.
///
/// # Errors
/// As for [`swap`].
pub fn rollback(args: &PluginArgs) -> anyhow::Result<Exit> {
    ask::ask(&args.live, &Ask::Rollback { plugin: args.plugin.clone() })
}

/// Ends the trial of a version, and shows what came of it.
///
/// # Errors
/// As for [`swap`].
pub fn cancel(args: &PluginArgs) -> anyhow::Result<Exit> {
    ask::ask(&args.live, &Ask::Cancel { plugin: args.plugin.clone() })
}
