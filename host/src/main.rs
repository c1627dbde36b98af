//! The `wasmill` command: arguments in, exit code out.

use clap::Parser;
use std::process::ExitCode;
use std::sync::Arc;
use wasmill::cli::{Cli, Command};
use wasmill::commands::{self, Exit};
use wasmill::instances::Sandbox;
use wasmill::plugin::compile_here;
use wasmill::shown::shown_lines;

fn main() -> ExitCode {
    commands::compile_in_children();
    let done = match Cli::parse().command {
        Command::Compile(args) => return ExitCode::from(compile_here(args.into())),
        Command::Run(args) => commands::run::run(&args, &(Arc::new(Sandbox) as _)),
        Command::Check(args) => commands::check::check(&args),
        Command::Generate(args) => commands::generate::generate(&args),
        Command::Status(args) => commands::status::status(&args),
        Command::Swap(args) => commands::swap::swap(&args),
        Command::Rollback(args) => commands::swap::rollback(&args),
        Command::Shadow(args) => commands::shadow::shadow(&args),
        Command::Promote(args) => commands::shadow::promote(&args),
        Command::Discard(args) => commands::shadow::discard(&args),
        Command::Cancel(args) => commands::swap::cancel(&args),
        Command::Replay(args) => commands::replay::replay(&args),
        Command::History(args) => commands::history::history(&args),
        Command::Explain(args) => commands::explain::explain(&args),
    };
    match done {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::Unhealthy | Exit::Refused) => ExitCode::from(1),
        Ok(Exit::Unread) => ExitCode::from(4),
        Err(failure) => {
            eprintln!("wasmill: {}", shown_lines(&format!("{failure:#}")));
            ExitCode::from(commands::exit_code(&failure))
        }
    }
}
