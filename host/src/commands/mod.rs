//! What each subcommand does: configuration in, parts wired, an exit code out.

mod ask;
pub mod check;
pub mod explain;
pub mod generate;
pub mod history;
pub mod replay;
pub mod run;
pub mod shadow;
pub mod status;
pub mod swap;

use crate::assembly;
use crate::cli::CheckpointArgs;
use crate::config::{self, DotEnv, Loader, Overrides};
use crate::kafka;
use crate::shown::shown_json;
use anyhow::Context;
use serde::Serialize;
use std::path::{Path, PathBuf};
use wasmill_pipeline::error::Class;

/// How much of a text is shown: a fault's message, which has at most 512 bytes, even where every second one is escaped.
const SHOWN_CHARS: usize = 800;

/// How a subcommand ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Done,
    /// It looked, and what it looked at is not well.
    Unhealthy,
    /// What it asked for was refused, and that was shown.
    Refused,
    /// It ended before everything that it was to read could be read, and that was shown.
    Unread,
}

/// Lets this process compile components in children of it, which run the same program: for a `main` that answers to
/// [`COMPILE_COMMAND`](crate::plugin::COMPILE_COMMAND).
pub fn compile_in_children() {
    // The file at the program's path may be another release by then, or gone; this is the one that runs.
    let itself = Path::new("/proc/self/exe");
    let program = if itself.exists() { Some(itself.to_owned()) } else { std::env::current_exe().ok() };
    if let Some(program) = program {
        crate::plugin::compile_in_children(program);
    }
}

/// A failure whose class is known.
#[derive(Debug)]
pub struct Classed(Class);

impl std::fmt::Display for Classed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Class::Config => "the configuration does not fit",
            Class::Fenced => "stopped, nothing was committed",
            Class::Corrupt => "stopped rather than guess",
            Class::Plugin => "stopped because of a plugin",
            Class::Unavailable => "gave up waiting",
            Class::Bug => "stopped",
        })
    }
}

/// A failure of this class, with what the class means for the user in front.
pub fn classed(class: Class, error: anyhow::Error) -> anyhow::Error {
    error.context(Classed(class))
}

/// Mistakes of the user's, one a line.
pub fn mistakes(mistakes: &[String]) -> anyhow::Error {
    classed(Class::Config, anyhow::anyhow!("\n{}", mistakes.join("\n")))
}

/// The exit code for a failure.
pub fn exit_code(failure: &anyhow::Error) -> u8 {
    match failure.downcast_ref::<Classed>() {
        Some(Classed(Class::Config)) => 2,
        Some(Classed(Class::Fenced)) => 3,
        _ => 1,
    }
}

/// Where variables come from: the environment, then the file.
fn environment(file: Option<&Path>) -> anyhow::Result<impl Fn(&str) -> Option<String>> {
    let dotenv = match file {
        Some(path) => DotEnv::load(path)
            .with_context(|| format!("the environment file cannot be read path={}", path.display()))
            .map_err(|error| classed(Class::Config, error))?,
        None => DotEnv::default(),
    };
    Ok(move |name: &str| std::env::var(name).ok().or_else(|| dotenv.get(name)))
}

/// The token that the environment has for a running wasmill.
fn environment_token() -> Option<String> {
    std::env::var("WASMILL_TOKEN").ok().filter(|token| !token.is_empty())
}

/// Where a running wasmill keeps the token of its user, in the order in which it tries. Whoever looks for it looks in all
/// of them: a service may have an environment other than its user's terminal.
fn token_folders() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let cache = assembly::default_cache().map(|cache| cache.join("tokens"));
    runtime.map(|folder| folder.join("wasmill")).into_iter().chain(cache).collect()
}

/// How the topic is reached.
fn kafka_settings(source: &config::Source, bootstrap: &str) -> kafka::Settings {
    kafka::Settings {
        bootstrap: bootstrap.to_owned(),
        topic: source.topic.clone(),
        group_id: source.group_id.clone(),
        client_id: "wasmill".to_owned(),
        passthrough: source.kafka.clone(),
    }
}

/// As JSON for a person's terminal or another program.
fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(shown_json(&serde_json::to_string_pretty(value)?))
}

/// What came from elsewhere, on one line and without tricks on the terminal.
fn shown(text: &str) -> String {
    let mut line = crate::shown::shown(&text.chars().take(SHOWN_CHARS).collect::<String>());
    if text.chars().nth(SHOWN_CHARS).is_some() {
        line.push('…');
    }
    line
}

/// The checkpoint folder that these arguments name; `None` where they name none.
fn checkpoint_folder(args: &CheckpointArgs) -> anyhow::Result<Option<PathBuf>> {
    let Some(file) = &args.config else { return Ok(args.checkpoint.clone()) };
    let env = environment(args.env_file.as_deref())?;
    // Its plugins may be gone: nothing of them runs.
    let loader = Loader { env: &env, overrides: &Overrides::default(), check_files: false };
    let config = loader.pipeline(file).map_err(|found| check::refuse(&found))?;
    Ok(Some(config.checkpoint.path))
}

/// A time as people and other programs read it.
fn time(us: i64) -> String {
    let at = chrono::DateTime::from_timestamp_micros(us);
    at.map_or_else(|| format!("{us}us"), |at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}
