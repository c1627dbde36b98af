//! What people type, and what they get: output, messages, exit codes.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{Finished, Job, click, plugin, run, wasmill, write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use wasmill::kafka::EmbeddedBroker;

/// The folder of the repository, from which the reference job's relative paths start.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A command line typed in the repository's folder.
fn at_root(args: &[&str]) -> std::process::Command {
    let mut command = wasmill(args);
    command.current_dir(root());
    command
}

fn finish(command: std::process::Command) -> Finished {
    job::Running::start(command).finish()
}

fn generate(args: &[&str]) -> Finished {
    let cache = format!("cache.path={}/plugins", env!("CARGO_TARGET_TMPDIR"));
    finish(at_root(&[&["generate", "--to-file", "-", "--rate", "0", "--set", &cache], args].concat()))
}

/// A file of that name and text in a folder that lives as long as the first part.
fn file(name: &str, bytes: impl AsRef<[u8]>) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn every_command_has_help_on_standard_output() {
    for command in [
        "run", "check", "generate", "status", "swap", "rollback", "shadow", "promote", "discard", "cancel", "history",
        "explain", "replay",
    ] {
        let help = run(&[command, "--help"]).expect(0);
        assert!(help.stdout.contains(&format!("Usage: wasmill {command}")), "{help:?}");
        assert!(run(&["--help"]).expect(0).stdout.contains(command));
    }
}

#[test]
fn what_is_no_file_is_refused_at_once_by_its_kind_wherever_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let made = std::process::Command::new("mkfifo").arg(path("pipe.parquet")).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("/dev/zero", path("zero")).unwrap();
    std::fs::File::create(path("huge")).unwrap().set_len(1 << 40).unwrap();
    let (_folder, job) = file("job.toml", MISTAKEN);
    for (name, what) in [
        ("pipe.parquet", "it is a pipe, not a file"),
        ("zero", "it is a device, not a file"),
        ("huge", "it has 1099511627776 bytes; at most "),
    ] {
        let path = path(name);
        for command in [&["check", &path][..], &["check", &job, "--env-file", &path], &["replay", &path]] {
            let refused = run(command);
            assert!([1, 2].contains(&refused.code()), "{refused:?}");
            refused.says(&[what]);
        }
        run(&["swap", "counts", &path]).expect(2).says(&[what]);
    }
    run(&["explain", &path("pipe.parquet")]).expect(2).says(&["it is a pipe, not a file"]);
}

#[test]
fn wrong_arguments_exit_with_2() {
    for args in [&[][..], &["walk"], &["run"], &["check"], &["run", "-c", "x.toml", "--workers", "0"]] {
        let refused = run(args).expect(2);
        assert!(refused.stderr.contains("Usage: wasmill") || refused.stderr.contains("--help"), "{refused:?}");
    }
}

const MISTAKEN: &str = r#"[pipeline]
name = "job"
wrokers = 2
[source]
bootstrap_servers = "localhost:1"
topic = "events"
start = ["earliest"]
[parser]
plugin = "no/such.wasm"
[time]
watermark_delay = "10 parsecs"
[output]
path = "out"
formats = ["parket"]
[raw.output]
folder = "pages"
[[aggregate]]
name = "pages"
plugin = "no/pages.wasm"
window = { tumbling = "0s" }
keys = 5
[checkpoint]
interval = 5
"#;

#[test]
fn all_mistakes_of_a_pipeline_file_are_told_at_once_with_line_key_and_remedy() {
    let (_dir, path) = file("job.toml", MISTAKEN);
    let told = [
        (3, "pipeline.wrokers", "did you mean workers?"),
        (7, "source.start", "write"),
        (9, "parser.plugin", "there is no file \"no/such.wasm\""),
        (11, "time.watermark_delay", "write 500ms, 30s, 2m, 1h"),
        (14, "output.formats", "write \"parquet\" or \"csv\""),
        (17, "aggregate.output.folder", "write another one"),
        (19, "aggregate.plugin", "there is no file \"no/pages.wasm\""),
        (20, "aggregate.window.tumbling", "no time at all"),
        (21, "aggregate.keys", "write"),
        (23, "checkpoint.interval", "has no unit"),
    ];
    for args in [["check", &path].as_slice(), &["run", "-c", &path]] {
        let refused = run(args).expect(2);
        for (line, key, remedy) in told {
            let place = format!("{path}:{line}: {key}");
            let said = refused.stderr.lines().find(|said| said.starts_with(&place));
            assert!(said.is_some_and(|said| said.contains(remedy)), "{place} … {remedy}: {said:?}\n{}", refused.stderr);
        }
        assert_eq!(refused.stderr.lines().filter(|line| line.starts_with(&path)).count(), told.len());
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_refused_by_name() {
    run(&["check", "no/such.toml"]).expect(2).says(&["no/such.toml: there is no such file"]);
    let (_dir, path) = file("job.toml", "name = \"x\"\n[pipeline\n");
    run(&["run", "-c", &path]).expect(2).says(&[&format!("{path}:2: this is not TOML")]);
}

#[test]
fn settings_that_the_kafka_client_does_not_know_are_refused() {
    let job = Job::clicks("localhost:1", "events");
    let refused = job.run(&["--set", "source.kafka.no.such=1"]).expect(2);
    refused.says(&["source.kafka", "no.such"]);
}

/// What `check` and `run` say to a job with other plugins; both refuse, before anything is written.
fn refuse(args: &[&str], says: &[&str]) {
    let job = Job::clicks("localhost:1", "events");
    let file = job.file();
    run(&[&["check", file.to_str().unwrap()], args].concat()).expect(2).says(says);
    job.run(args).expect(2).says(says);
    assert!(!job.output().exists());
}

fn refuse_parser(wat: &str, says: &[&str]) {
    let (_dir, path) = file("guest.wasm", wat::parse_str(wat).unwrap());
    refuse(&["--plugin", &format!("parser={path}")], says);
}

#[test]
fn a_core_module_is_refused_and_told_how_to_become_a_component() {
    refuse_parser("(module)", &["parser: is a core WebAssembly module; wanted a component", "--target wasm32-wasip2"]);
}

#[test]
fn what_is_wrong_with_a_plugin_is_told_with_the_line_that_names_it() {
    let job = Job::clicks("localhost:1", "events");
    let wrong = plugin("clickstream_parser").display().to_string();
    let text =
        std::fs::read_to_string(job.file()).unwrap().replace(&plugin("geo_metrics").display().to_string(), &wrong);
    std::fs::write(job.file(), &text).unwrap();
    let line = 1 + text.lines().enumerate().filter(|(_, line)| line.contains(&wrong)).last().unwrap().0;
    let file = job.file();
    let named = format!("{}:{line}: aggregate.plugin: counts: exports ", file.display());
    run(&["check", file.to_str().unwrap()]).expect(2).says(&[&named]);
}

#[test]
fn a_plugin_of_another_world_is_refused() {
    let parser = format!("parser={}", plugin("geo_metrics").display());
    let counts = format!("counts={}", plugin("clickstream_parser").display());
    let says = [
        "parser: exports wasmill:plugin/aggregate@0.1.0; wanted wasmill:plugin/parser@0.1.0",
        "counts: exports wasmill:plugin/parser@0.1.0; wanted wasmill:plugin/aggregate@0.1.0",
    ];
    refuse(&["--plugin", &parser, "--plugin", &counts], &says);
}

#[test]
fn a_plugin_of_another_contract_version_is_refused() {
    let wat = r#"(component (instance $i) (export "wasmill:plugin/parser@0.2.0" (instance $i)))"#;
    refuse_parser(wat, &["contract version: exports wasmill:plugin/parser@0.2.0; wanted wasmill:plugin/parser@0.1.0"]);
}

#[test]
fn a_plugin_that_imports_what_nobody_gets_is_refused() {
    let wat = r#"(component (import "acme:db/query@1.0.0" (instance))
        (instance $i) (export "wasmill:plugin/parser@0.1.0" (instance $i)))"#;
    refuse_parser(wat, &["imports acme:db/query@1.0.0; allowed are wasmill:plugin/log@0.1.0"]);
}

#[test]
fn a_key_that_the_parser_does_not_give_is_refused_with_the_columns_it_gives() {
    refuse(&["--set", "aggregate.counts.keys=[\"continent\"]"], &["there is no column continent", "country, campaign"]);
}

/// An aggregate of the hostile plugin, with this word in its settings.
fn refuse_aggregate(crime: &str, says: &[&str]) {
    let hostile = format!("counts={}", plugin("hostile").display());
    let config = format!("aggregate.counts.config.crime={crime}");
    refuse(&["--plugin", &hostile, "--set", &config], says);
}

#[test]
fn an_aggregate_that_wants_a_column_the_parser_does_not_give_is_refused() {
    refuse_aggregate("greedy", &["aggregate counts: its plugin wants a column wealth; the parser makes event_id"]);
}

#[test]
fn an_aggregate_that_wants_no_nulls_in_a_column_that_may_hold_some_is_refused() {
    refuse_aggregate(
        "strict",
        &["aggregate counts: its plugin wants page without nulls, and the column may hold some"],
    );
}

#[test]
fn an_aggregate_to_which_order_matters_is_refused() {
    refuse_aggregate("order", &["aggregate counts: its plugin says that order matters (commutative = false)"]);
}

#[test]
fn check_shows_the_shipped_files_effective_settings_without_secrets() {
    let mut command = at_root(&["check", "host/pipelines/clickstream.toml", "--set", "time.watermark_delay=7s"]);
    command.env("KAFKA_SASL_PASSWORD", "open sesame").env("KAFKA_TOPIC", "clicks");
    let shown = finish(command).expect(0);
    for text in ["topic = \"clicks\"", "watermark_delay = \"7s\"", "\"sasl.password\" = \"****", "no mistakes"] {
        assert!(shown.stdout.contains(text), "{text:?} is not in\n{}", shown.stdout);
    }
    assert!(!shown.stdout.contains("sesame") && !shown.stderr.contains("sesame"), "{shown:?}");
}

#[test]
fn a_pipeline_reads_back_what_check_shows() {
    let mut command = at_root(&["check", "host/pipelines/clickstream.toml"]);
    command.env("PAGE_WINDOW", "2 minutes");
    let first = finish(command).expect(0).stdout;
    let toml: Vec<&str> = first.lines().filter(|line| !line.ends_with("no mistakes")).collect();
    let (_dir, path) = file("shown.toml", toml.join("\n"));
    let second = finish(at_root(&["check", &path])).expect(0).stdout;
    assert!(second.contains("tumbling = \"2m\""), "{second}");
    assert_eq!(first.lines().count(), second.lines().count());
}

/// The events of NDJSON without what the clock decides.
fn timeless(lines: &str) -> Vec<serde_json::Value> {
    let event = |line: &str| {
        let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event.as_object_mut().unwrap().remove("event_time").is_some());
        event
    };
    lines.lines().map(event).collect()
}

#[test]
fn generate_writes_a_json_object_a_line_and_the_same_seed_makes_the_same_events() {
    let make = |seed| timeless(&generate(&["--count", "500", "--seed", seed]).expect(0).stdout);
    let (first, again, other) = (make("7"), make("7"), make("8"));
    assert_eq!(first.len(), 500);
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn generate_goes_on_where_an_earlier_run_stopped() {
    let whole = timeless(&generate(&["--count", "20"]).expect(0).stdout);
    let rest = timeless(&generate(&["--count", "8", "--first", "12"]).expect(0).stdout);
    assert_eq!(whole[12..], rest);
}

#[test]
fn generate_of_nothing_is_nothing() {
    assert_eq!(generate(&["--count", "0"]).expect(0).stdout, "");
}

#[test]
fn generate_without_a_broker_or_a_file_says_what_to_do() {
    finish(at_root(&["generate"])).expect(2).says(&["KAFKA_BOOTSTRAP_SERVERS", "--to-file"]);
}

#[test]
fn generate_writes_into_a_topic_and_shows_acknowledgements() {
    let broker = EmbeddedBroker::start("events", 2).unwrap();
    let args = ["generate", "--bootstrap-servers", broker.bootstrap(), "--count", "40", "--rate", "1000"];
    let end = finish(at_root(&args)).expect(0);
    assert_eq!(end.stderr.matches("[ack] events:").count(), 4, "{}", end.stderr);
    end.says(&["records=40"]);
    let job = Job::clicks(broker.bootstrap(), "events");
    job.run(&["--drain"]).expect(0).says(&["40 records, 40 rows"]);
}

#[test]
fn status_shows_a_running_pipeline_and_exits_with_0() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &[Some(click(0, "/a", 0))]);
    let job = Job::clicks(broker.bootstrap(), "events");
    let running = job.start(&[]);
    let url = running.url();
    job::until("it runs", || run(&["status", "--json", "--url", &url]).stdout.contains("\"state\": \"running\""));
    let shown = run(&["status", "--url", &url]).expect(0);
    assert!(shown.stdout.contains("job") && shown.stdout.contains("counts"), "{shown:?}");
    assert_eq!(run(&["status", "-q", "--url", &url]).expect(0).stdout, "");
    running.stop().expect(0).says(&["stopped after the final checkpoint", "the accounting closes"]);
}

#[test]
fn status_of_nothing_says_so_and_exits_with_1() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    run(&["status", "--url", &format!("http://{free}")]).expect(1).says(&["nothing answers", &free.to_string()]);
}

#[test]
fn a_swap_of_nothing_says_so_and_exits_with_1_and_one_without_a_component_with_2() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let file = plugin("geo_metrics");
    let swap = run(&["swap", "counts", file.to_str().unwrap(), "--url", &url]);
    swap.expect(1).says(&["nothing answers", &free.to_string()]);
    run(&["swap", "counts", "no/such.wasm", "--url", &url]).expect(2).says(&["no/such.wasm"]);
    run(&["rollback", "counts", "--url", "https://localhost"]).expect(2).says(&["http://localhost:8080"]);
    run(&["shadow", "counts", "x.wasm", "--key-sample", "2"]).expect(2).says(&["2 is not a share of keys"]);
}

#[test]
fn only_who_runs_a_pipeline_or_has_a_token_may_change_it() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let job = Job::clicks(broker.bootstrap(), "events");
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut command = job.command(&["--set", "http.tokens.ci=\"0123456789abcdef\""]);
    command.env("XDG_RUNTIME_DIR", own.path());
    let running = job::Running::start(command);
    let url = running.url();
    job::until("it runs", || run(&["status", "--json", "--url", &url]).stdout.contains("\"state\": \"running\""));
    let rollback = |folder: &Path, token: Option<&str>| {
        let mut command = wasmill(&["rollback", "nosuch", "--url", &url]);
        command.env("XDG_RUNTIME_DIR", folder).env("XDG_CACHE_HOME", folder).env("WASMILL_TOKEN", token.unwrap_or(""));
        finish(command).expect(1)
    };
    rollback(other.path(), None).says(&["a change needs a token", "WASMILL_TOKEN"]);
    rollback(own.path(), Some("0123456789abcdeF")).says(&["a change needs a token"]);
    rollback(own.path(), None).says(&["refused, and nothing has changed"]);
    rollback(other.path(), Some("0123456789abcdef")).says(&["refused, and nothing has changed"]);
    assert_eq!(job::files(own.path()).len(), 1);
    let end = running.stop().expect(0);
    assert!(!end.stderr.contains("0123456789abcdef"), "{end:?}");
    assert_eq!(job::files(own.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_port_that_is_taken_is_refused_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let job = Job::clicks("localhost:1", "events");
    job.run(&["--listen", &address]).expect(2).says(&[&address, "--listen"]);
}

#[test]
fn a_tap_that_is_none_is_refused_with_those_there_are() {
    Job::clicks("localhost:1", "events").run(&["--tap", "pages"]).expect(2).says(&["raw, parsed, counts"]);
}

#[test]
fn taps_show_records_and_rows_on_standard_output() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &[Some(click(0, "/tapped", 0))]);
    let job = Job::clicks(broker.bootstrap(), "events");
    let end = job.run(&["--drain", "--tap", "raw", "--tap", "parsed", "--tap", "counts"]).expect(0);
    assert!(end.stdout.matches("/tapped").count() >= 3, "{end:?}");
}
