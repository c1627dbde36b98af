//! `wasmill-twin run`: as `wasmill run`, but the reference job's plugins are native code.
//!
//! The components are loaded, digested and named in files and checkpoints as ever; only the calls go elsewhere: through the
//! same ports, in the same batches, to the same source code, compiled by the same compiler for this machine. What
//! `wasmill` takes more than this program is the price of WebAssembly. A panic of a plugin ends the run: nothing is
//! between it and the host here.

mod aggregate;
mod columns;
mod describe;
mod parser;

use aggregate::NativeAggregate;
use clap::Parser as _;
use parser::NativeParser;
use std::process::ExitCode;
use std::sync::Arc;
use wasmill::cli::{Cli, Command};
use wasmill::commands;
use wasmill::instances::Instantiate;
use wasmill::plugin::{Component, Error};
use wasmill_pipeline::plugin::{Aggregate, Parser};

/// The plugins that are part of this program, by the names of their components' files.
struct Native;

impl Instantiate for Native {
    fn parser(
        &self,
        component: &Component,
        config_json: &str,
        topic: &str,
        wanted: Option<&[&str]>,
    ) -> Result<Box<dyn Parser>, Error> {
        Ok(match file_name(component) {
            "clickstream_parser.wasm" => Box::new(NativeParser::<clickstream_parser::ClickstreamParser>::new(
                component.name(),
                config_json,
                topic,
                wanted,
            )?),
            _ => return Err(unknown(component)),
        })
    }

    fn aggregate(&self, component: &Component, config_json: &str) -> Result<Box<dyn Aggregate>, Error> {
        let name = component.name();
        Ok(match file_name(component) {
            "page_metrics.wasm" => Box::new(NativeAggregate::<page_metrics::PageMetrics>::new(name, config_json)?),
            "geo_metrics.wasm" => Box::new(NativeAggregate::<geo_metrics::GeoMetrics>::new(name, config_json)?),
            "sessions.wasm" => Box::new(NativeAggregate::<sessions::Sessions>::new(name, config_json)?),
            _ => return Err(unknown(component)),
        })
    }
}

fn file_name(component: &Component) -> &str {
    component.path().file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default()
}

fn unknown(component: &Component) -> Error {
    let message = format!("wasmill-twin has no native code for file={}", component.path().display());
    Error::Refused { plugin: component.name().to_owned(), message }
}

fn main() -> ExitCode {
    let Command::Run(args) = Cli::parse().command else {
        eprintln!("wasmill-twin: it runs pipelines, and nothing else; wanted the command run");
        return ExitCode::from(2);
    };
    match commands::run::run(&args, &(Arc::new(Native) as _)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("wasmill-twin: {failure:#}");
            ExitCode::from(commands::exit_code(&failure))
        }
    }
}
