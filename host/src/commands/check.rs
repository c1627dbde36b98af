//! `wasmill check`: all that is wrong with a pipeline file and its plugins, at once.

use super::{Exit, environment, kafka_settings, mistakes};
use crate::assembly::{self, Assembly};
use crate::cli::CheckArgs;
use crate::config::{Config, Mistakes};
use crate::plugin::{Component, World};
use std::io::Write;
use wasmill_pipeline::plugin::Field;

/// Checks, and shows what would run.
///
/// # Errors
/// Every mistake.
pub fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let env = environment(args.file.env_file.as_deref())?;
    let config = Config::load(&args.config, &env, &args.file.overrides()).map_err(|found| refuse(&found))?;
    let mut wrong = settings_mistakes(&config);
    let runtime = assembly::runtime(&config)?;
    let assembly = match Assembly::new(&config, &runtime, 1) {
        Ok(assembly) => Some(assembly),
        Err(found) => {
            wrong.extend(found);
            None
        }
    };
    if let Some(generator) = &config.generator {
        let made = runtime
            .load("generator", &generator.plugin.path, World::Generator)
            .and_then(|component| component.generator(&generator.plugin.config_json(), generator.seed).map(|_| ()));
        if let Err(error) = made {
            wrong.push(format!("{}{}", generator.plugin.named, assembly::chain(&error)));
        }
    }
    match assembly {
        Some(assembly) if wrong.is_empty() => {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", config.redacted())?;
            show(&assembly, &mut out)?;
            writeln!(out, "{}: no mistakes", args.config.display())?;
            Ok(Exit::Done)
        }
        _ => Err(mistakes(&wrong)),
    }
}

/// The mistakes of a pipeline file as a failure.
pub(super) fn refuse(found: &Mistakes) -> anyhow::Error {
    mistakes(&found.to_string().lines().map(str::to_owned).collect::<Vec<_>>())
}

/// What librdkafka would refuse.
pub(super) fn settings_mistakes(config: &Config) -> Vec<String> {
    let bootstrap = config.source.bootstrap_servers.as_deref().unwrap_or("embedded:0");
    match kafka_settings(&config.source, bootstrap).check() {
        Ok(()) => Vec::new(),
        Err(crate::kafka::Error::Config(mistakes)) => {
            mistakes.into_iter().map(|m| format!("source.kafka: {m}")).collect()
        }
        Err(other) => vec![other.to_string()],
    }
}

fn show(assembly: &Assembly, out: &mut impl Write) -> std::io::Result<()> {
    for component in std::iter::once(&assembly.versions.parser).chain(&assembly.versions.aggregates) {
        writeln!(
            out,
            "# {}: {} sha256 {}{}",
            component.name(),
            component.path().display(),
            component.digest(),
            stubbed(component)
        )?;
    }
    writeln!(out, "# the parser makes: {}", fields(&assembly.plan.columns))?;
    for aggregate in &assembly.plan.aggregates {
        let columns: Vec<&str> = aggregate.schema.fields().iter().map(|field| field.name().as_str()).collect();
        writeln!(out, "# {} writes: {}", aggregate.spec.name, columns.join(", "))?;
    }
    Ok(())
}

fn stubbed(component: &Component) -> String {
    match component.stubbed_imports() {
        [] => String::new(),
        imports => format!(" (imports that trap when called: {})", imports.join(", ")),
    }
}

fn fields(fields: &[Field]) -> String {
    let field = |f: &Field| format!("{}: {:?}{}", f.name, f.data_type, if f.nullable { "?" } else { "" });
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
}
