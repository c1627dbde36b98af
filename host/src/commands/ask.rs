//! What `swap`, `rollback`, `shadow`, `promote` and `discard` share: to ask a running wasmill, and to show the answer.

use super::{Classed, Exit, classed, environment_token, json, token_folders};
use crate::admin::client::{Client, Error};
use crate::admin::control::{Ask, Candidate, MAX_COMPONENT_BYTES, Refusal};
use crate::admin::local_token;
use crate::cli::LiveArgs;
use crate::files;
use crate::shown::shown_lines;
use crate::telemetry::render_answer;
use anyhow::{Context, anyhow};
use std::io::Write;
use std::path::Path;
use wasmill_pipeline::error::Class;

/// A client of the wasmill that is meant, with a token where there is one.
pub(super) fn client(live: &LiveArgs) -> anyhow::Result<Client> {
    let client = Client::new(&live.url).map_err(|error| classed(Class::Config, error.into()))?;
    let token = environment_token().or_else(|| local_token::find(&token_folders(), &client.addresses()));
    Ok(client.with_token(token))
}

/// The component in a file.
pub(super) fn component(path: &Path) -> anyhow::Result<Candidate> {
    let bytes = files::read(path, MAX_COMPONENT_BYTES as u64).map_err(|error| {
        let error = anyhow!(error).context(format!("the component cannot be read path={}", path.display()));
        classed(Class::Config, error)
    })?;
    if bytes.is_empty() {
        return Err(classed(Class::Config, anyhow!("the component is empty path={}", path.display())));
    }
    Ok(Candidate::Bytes(bytes))
}

/// Asks, waits, and shows what came of it.
pub(super) fn ask(live: &LiveArgs, ask: &Ask) -> anyhow::Result<Exit> {
    match client(live)?.ask(ask).map_err(no_reply)? {
        Ok(answer) => {
            let text = if live.json { json(&answer)? } else { render_answer(&answer) };
            writeln!(std::io::stdout().lock(), "{}", text.trim_end())?;
            Ok(Exit::Done)
        }
        Err(refusal) => refused(live, &refusal),
    }
}

/// Shows a refusal: as JSON where that is what is wanted, else as any other failure.
pub(super) fn refused(live: &LiveArgs, refusal: &Refusal) -> anyhow::Result<Exit> {
    if live.json {
        writeln!(std::io::stdout().lock(), "{}", json(refusal)?)?;
        return Ok(Exit::Refused);
    }
    Err(anyhow!("{}", shown_lines(&refusal.message))).context("refused, and nothing has changed")
}

/// What there is instead of a reply.
pub(super) fn no_reply(error: Error) -> anyhow::Error {
    match error {
        Error::Request { code: 400, .. } => classed(Class::Config, error.into()),
        Error::Request { .. } => anyhow!(error),
        error => anyhow!(error).context(Classed(Class::Unavailable)),
    }
}
