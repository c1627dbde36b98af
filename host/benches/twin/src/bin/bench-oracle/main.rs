//! Whether a measured run gave the right numbers: the oracle of the tests, for topics of any size.
//!
//! ```text
//! bench-oracle expect --bootstrap HOST:PORT --topic T --partitions N FILE     what the outputs must hold, into a file
//! bench-oracle check FILE FOLDER                                              whether the outputs below a folder hold that
//! ```
//! `expect` reads the topic once, with a plain consumer; `check` exits with 1, and a line for each output that differs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what cannot be read ends the program, with the reason")]

mod digest;
#[path = "../../../../../tests/support/oracle.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod oracle;
mod outputs;
#[path = "../../../../../tests/support/reader.rs"]
mod reader;
#[path = "../../../../../tests/support/rows.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod rows;

use clap::{Args, Parser, Subcommand};
use oracle::{Expected, Rules};
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

/// The oracle of the benchmarks
#[derive(Parser)]
#[command(name = "bench-oracle")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work out what the outputs of a topic must hold
    Expect(Expect),
    /// Compare the committed files below a folder with it
    Check {
        /// What `expect` has written
        file: PathBuf,
        /// The pipeline's output folder
        folder: PathBuf,
        /// An aggregate that must hold what another one does; repeatable
        #[arg(long, value_name = "NAME=LIKE", value_parser = outputs::twin)]
        twin: Vec<(String, String)>,
        /// An aggregate of the reference job that this one does not have; repeatable
        #[arg(long, value_name = "NAME")]
        without: Vec<String>,
    },
}

/// The topic, and the settings of the job that its numbers depend on, in seconds.
#[derive(Args)]
struct Expect {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    partitions: i32,
    #[arg(long, default_value_t = 10)]
    watermark_delay: i64,
    #[arg(long, default_value_t = 3600)]
    max_ahead: i64,
    #[arg(long, default_value_t = 60)]
    page_window: i64,
    /// Where its windows slide: from one to the next
    #[arg(long)]
    page_slide: Option<i64>,
    #[arg(long, default_value_t = 60)]
    geo_window: i64,
    #[arg(long, default_value_t = 30)]
    session_gap: i64,
    /// Where it is written
    file: PathBuf,
}

impl Expect {
    fn rules(&self) -> Rules {
        let us = |seconds: i64| seconds * 1_000_000;
        Rules {
            watermark_delay: us(self.watermark_delay),
            max_ahead: us(self.max_ahead),
            page_window: us(self.page_window),
            page_slide: us(self.page_slide.unwrap_or(self.page_window)),
            geo_window: us(self.geo_window),
            geo_lateness: 0,
            session_gap: us(self.session_gap),
            session_lateness: 0,
        }
    }
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Expect(expect) => {
            let records = reader::read_topic(&expect.bootstrap, &expect.topic, expect.partitions);
            let expected = outputs::expected(Expected::of_records(&expect.topic, records, &expect.rules()));
            serde_json::to_writer_pretty(File::create(&expect.file).unwrap(), &expected).unwrap();
            ExitCode::SUCCESS
        }
        Command::Check { file, folder, twin, without } => {
            let mut expected: outputs::Digests = serde_json::from_reader(File::open(file).unwrap()).unwrap();
            expected.retain(|output, _| !without.iter().any(|name| name == outputs::aggregate(output)));
            let wrong = outputs::differences(&expected, &folder, &twin);
            for line in &wrong {
                eprintln!("bench-oracle: {line}");
            }
            ExitCode::from(u8::from(!wrong.is_empty()))
        }
    }
}
