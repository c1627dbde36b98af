//! Who may mention whom, checked by text: one door per dependency, rooms that do not know each other, a pipeline without doors.
//!
//! Only product code counts: comments, test files and what follows a file's `#[cfg(test)]` module are left out.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::Path;

/// The folders of `host/src` that hold a door each.
const ROOMS: [&str; 8] = ["admin", "capsule", "config", "kafka", "plugin", "sink", "store", "telemetry"];

/// What puts the rooms together, from the inside out. Each may use what is left of it, and the rooms.
const FLOORS: [&[&str]; 6] = [
    &["clock", "disk", "failpoint", "files", "parts", "random", "shown"],
    &["accounting", "assembly", "tap", "faults", "generate", "instances", "provenance", "watch"],
    &["failure", "shared", "budget", "switch", "chronicle"],
    &["checkpointer", "recovery", "catalog", "driver", "coordinator"],
    &["run", "observer", "alarms"],
    &["cli", "commands"],
];

/// A path, and the only places below `host/src` that may mention it.
const DOORS: [(&str, &[&str]); 18] = [
    ("rdkafka", &["kafka/"]),
    ("wasmtime", &["plugin/"]),
    ("wasmparser", &["plugin/"]),
    ("sha2", &["plugin/"]),
    ("rustix", &["plugin/", "disk.rs", "files.rs"]),
    ("parquet", &["sink/"]),
    ("csv", &["sink/"]),
    ("axum", &["admin/"]),
    ("hyper", &["admin/"]),
    ("hyper_util", &["admin/"]),
    ("toml", &["config/"]),
    ("clap", &["cli.rs", "main.rs"]),
    ("tracing_subscriber", &["telemetry/"]),
    ("tokio", &["admin/", "commands/"]),
    ("std::time::SystemTime", &["clock.rs"]),
    ("std::env", &["commands/mod.rs", "assembly.rs", "failpoint.rs", "telemetry/logging.rs"]),
    ("std::net", &["admin/", "config/"]),
    // Outputs and checkpoints go through the disk, which a simulation replaces; the lock asks for the host's name.
    (
        "std::fs",
        &[
            "disk.rs",
            "files.rs",
            "random.rs",
            "admin/local_token.rs",
            "admin/metrics.rs",
            "capsule/",
            "config/",
            "plugin/",
            "store/lock.rs",
            "run.rs",
            "commands/ask.rs",
            "commands/generate.rs",
            "commands/explain.rs",
            "watch.rs",
            "commands/explain.rs",
        ],
    ),
];

/// What the pipeline crate, which has no doors, may not mention.
const NO_DOORS: [&str; 9] =
    ["std::fs", "std::net", "std::time", "std::thread", "std::env", "std::process", "std::io", "tokio", "tracing"];

/// One file of product code: its path below the crate's `src`, and its text without comments and tests.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code: Vec<&str> = product.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        Self { path: path.to_owned(), text: code.join("\n") }
    }

    /// Whether the code names `path`, in place or in a `use` with braces.
    fn mentions(&self, path: &str) -> bool {
        let Some((head, name)) = path.rsplit_once("::") else {
            return words(&self.text, path).any(|(before, after)| {
                let inside = before.strip_suffix("::").is_some_and(|path| path.ends_with(part));
                (after.starts_with("::") && !inside) || before.ends_with("use ") || before.ends_with("crate ")
            });
        };
        words(&self.text, path).next().is_some()
            || words(&self.text, head).any(|(_, after)| {
                let list = after.strip_prefix("::{").and_then(|rest| rest.split(';').next());
                list.is_some_and(|list| words(list, name).any(|(before, _)| !before.ends_with("::")))
            })
    }

    /// The room that it belongs to, or else the module below the crate's root.
    fn place(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

/// Where `word` stands in `text` as a word of its own: what is before, and what is after.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.match_indices(word).filter_map(move |(at, _)| {
        let (before, after) = (text.get(..at)?, text.get(at + word.len()..)?);
        (!before.ends_with(part) && !after.starts_with(part)).then_some((before, after))
    })
}

/// Whether it is part of a name.
fn part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The product code below a folder.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "tests" {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !name.ends_with("tests.rs") {
                let below = path.strip_prefix(&root).unwrap().to_str().unwrap();
                found.push(Source::new(below, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 10, "{folder} has moved");
    found
}

/// Mentions of a dependency away from its door.
fn strangers(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (path, doors) in DOORS {
            if source.mentions(path) && !doors.iter().any(|door| source.path.starts_with(door)) {
                found.push(format!("{} mentions {path}, whose place is {}", source.path, doors.join(", ")));
            }
        }
    }
    found
}

/// Arrows that go the wrong way.
fn wrong_arrows(sources: &[Source]) -> Vec<String> {
    let floor = |place: &str| FLOORS.iter().position(|places| places.contains(&place));
    let mut found = Vec::new();
    for source in sources {
        let from = source.place();
        let room = ROOMS.contains(&from);
        for to in ROOMS.into_iter().chain(FLOORS.into_iter().flatten().copied()) {
            let seen = source.mentions(&format!("crate::{to}")) || source.mentions(&format!("super::super::{to}"));
            // The terminal shows the same status as the web page.
            let known = from == "telemetry" && to == "admin";
            let wrong = if room { !FLOORS[0].contains(&to) } else { floor(to) > floor(from) && floor(from).is_some() };
            if seen && wrong && from != to && !known {
                found.push(format!("{} mentions crate::{to}", source.path));
            }
        }
    }
    found
}

/// What a crate without doors should not know.
fn doors(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let known = NO_DOORS.into_iter().filter(|path| source.mentions(path));
        found.extend(known.map(|path| format!("{} mentions {path}", source.path)));
    }
    found
}

/// The names in a section of a manifest.
fn section(manifest: &str, name: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    let own = lines.take_while(|line| !line.starts_with('['));
    own.filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn manifest(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn each_dependency_has_one_door() {
    assert_eq!(strangers(&sources("src")), Vec::<String>::new());
}

#[test]
fn rooms_do_not_know_each_other_and_arrows_go_one_way() {
    assert_eq!(wrong_arrows(&sources("src")), Vec::<String>::new());
}

#[test]
fn the_pipeline_has_no_doors() {
    assert_eq!(doors(&sources("pipeline/src")), Vec::<String>::new());
}

#[test]
fn the_pipeline_depends_on_columns_hashes_calendars_and_json_only() {
    let known = [
        "arrow-array",
        "arrow-buffer",
        "arrow-schema",
        "arrow-select",
        "chrono",
        "chrono-tz",
        "hashbrown",
        "serde",
        "serde_json",
        "thiserror",
        "xxhash-rust",
    ];
    assert_eq!(section(&manifest("pipeline/Cargo.toml"), "dependencies"), known);
}

#[test]
fn host_and_guests_share_nothing_but_wit() {
    assert!(!section(&manifest("Cargo.toml"), "dependencies").contains(&"wasmill-sdk".to_owned()));
    let sdk = section(&manifest("../plugins/sdk/Cargo.toml"), "dependencies");
    assert!(sdk.iter().all(|name| !name.starts_with("wasmill")), "{sdk:?}");
}

#[test]
fn a_stranger_at_a_door_is_found() {
    for (path, text) in [
        ("run.rs", "use rdkafka::consumer::Consumer;"),
        ("sink/mod.rs", "fn now() { ::wasmtime::Engine::default(); }"),
        ("store/local.rs", "use std::{collections::BTreeMap, net::TcpStream};"),
        ("driver.rs", "use std::time::{Duration,\n    SystemTime};"),
        ("driver.rs", "let at = std::time::SystemTime::now();"),
        ("kafka/mod.rs", "let path = std::env::var(\"HOME\");"),
    ] {
        assert_eq!(strangers(&[Source::new(path, text)]).len(), 1, "{path}: {text}");
    }
}

#[test]
fn a_wrong_arrow_is_found() {
    for (path, text) in [
        ("kafka/source.rs", "use crate::sink::Writers;"),
        ("sink/mod.rs", "use crate::{clock, store::Manifest};"),
        ("store/local.rs", "let x = crate::run::Options::default();"),
        ("config/mod.rs", "use super::super::kafka::Settings;"),
        ("driver.rs", "use crate::run::Options;"),
        ("run.rs", "use crate::commands::Exit;"),
    ] {
        assert_eq!(wrong_arrows(&[Source::new(path, text)]).len(), 1, "{path}: {text}");
    }
}

#[test]
fn a_door_in_the_pipeline_is_found() {
    for text in ["use std::time::Instant;", "std::fs::read(path)", "use std::{io, thread};"] {
        assert!(!doors(&[Source::new("lane.rs", text)]).is_empty(), "{text}");
    }
}

#[test]
fn comments_tests_and_names_that_only_look_alike_are_no_mention() {
    for text in [
        "//! As rdkafka::Message has it.",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use rdkafka::Message;\n}",
        "let rdkafka_version = my_rdkafka::version(); let csv = parquet;",
        "use std::time::{Duration, Instant};",
    ] {
        assert_eq!(strangers(&[Source::new("driver.rs", text)]), Vec::<String>::new(), "{text}");
    }
}
