//! What made an output file, and what was done to plugins: told by the files themselves, the ledger and the history.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{Job, clicks, events, files, plugin, run, write};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmill::disk::RealDisk;
use wasmill::kafka::EmbeddedBroker;
use wasmill::plugin::digest;
use wasmill::store::history::{Action, Entry, History, Outcome};
use wasmill::store::latest_in;

const TOPIC: &str = "clicks";
const FORMATS: [&str; 2] = ["--set", r#"output.formats=["parquet","csv"]"#];

/// A job that ran twice: over the first 40 clicks, and over the next 40.
fn run_twice() -> Job {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    let job = Job::clicks(broker.bootstrap(), TOPIC);
    for from in [0, 40] {
        write(broker.bootstrap(), TOPIC, 0, &clicks(from, from + 40));
        job.run(&[&["--drain"], &FORMATS[..]].concat()).expect(0);
    }
    job
}

/// The committed files of an output that end so, oldest first.
fn committed(job: &Job, output: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = files(&job.output().join(output));
    found.retain(|path| path.extension().is_some_and(|end| end == extension));
    found.sort_by_key(|path| explain(path)["committed"]["until"]["checkpoint"].as_u64());
    found
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn explain(path: &Path) -> Value {
    explain_with(path, &[])
}

fn explain_with(path: &Path, args: &[&str]) -> Value {
    let explained = run(&[&["explain", "--json", text(path)], args].concat()).expect(0);
    serde_json::from_str(&explained.stdout).unwrap()
}

/// The digest of the component that a test job runs.
fn digest_of(name: &str) -> String {
    digest(&fs::read(plugin(name)).unwrap())
}

/// The digests of the plugins that an explanation names, each with the bytes that it is kept as.
fn plugins(explanation: &Value) -> Vec<(String, String)> {
    let plugins = explanation["plugins"].as_array().unwrap();
    for plugin in plugins {
        let kept = fs::read(plugin["component"].as_str().unwrap()).unwrap();
        assert_eq!(plugin["digest"], digest(&kept), "{plugin}");
    }
    let text = |plugin: &Value, key: &str| plugin[key].as_str().unwrap().to_owned();
    plugins.iter().map(|plugin| (text(plugin, "name"), text(plugin, "digest"))).collect()
}

#[test]
fn every_file_names_the_plugins_offsets_and_watermark_that_made_it() {
    let job = run_twice();
    let manifest = latest_in(&RealDisk, &job.checkpoints()).unwrap().unwrap();
    let parser = ("parser".to_owned(), digest_of("clickstream_parser"));
    let counts = ("counts".to_owned(), digest_of("geo_metrics"));
    assert_eq!(manifest.plugins.get("counts"), Some(&counts.1));
    for (output, made_by) in [("counts", vec![counts, parser.clone()]), ("events_raw", vec![parser])] {
        for extension in ["parquet", "csv"] {
            let found = committed(&job, output, extension);
            assert_eq!(found.len(), 2, "{output} {extension}: {found:?}");
            let [first, second] = [&found[0], &found[1]].map(|path| explain(path));
            assert_eq!((plugins(&first), plugins(&second)), (made_by.clone(), made_by.clone()));
            let offsets =
                |of: &Value, which: &str, next: i64| assert_eq!(of[which]["offsets"], json!({ "0": next }), "{of}");
            offsets(&first, "since", 0);
            offsets(&first["committed"], "until", 40);
            offsets(&second, "since", 40);
            offsets(&second["committed"], "until", 80);
            // A drain closes everything: this is the watermark that the next run begins with.
            assert_eq!(first["committed"]["until"]["watermark_us"], second["since"]["watermark_us"]);
            assert_eq!(second["committed"]["until"]["watermark_us"].as_i64(), manifest.watermark_us);
            assert_eq!(second["committed"]["until"]["checkpoint"].as_u64(), Some(manifest.checkpoint));
            assert_eq!(second["committed"]["bytes"], second["bytes"], "the length of the file");
            assert_eq!(first["origin"]["wasmill.config"], second["origin"]["wasmill.config"]);
            assert_eq!(second["origin"]["wasmill.pipeline"], "job");
        }
    }
}

#[test]
fn what_a_parquet_file_says_is_what_the_ledger_says_of_it() {
    let job = run_twice();
    for file in committed(&job, "counts", "parquet") {
        let explanation = explain(&file);
        assert_eq!(explanation["origin"], explanation["committed"]["origin"]);
    }
}

#[test]
fn a_person_reads_what_made_a_file() {
    let job = run_twice();
    let (config, counts) = (job.file(), digest_of("geo_metrics"));
    let entry = Entry {
        id: "1".into(),
        time_us: 1_700_000_000_000_000,
        who: "user:ana".into(),
        action: Action::Swap,
        plugin: "counts".into(),
        from: "a".repeat(64),
        to: counts.clone(),
        policy: Some("migrate".into()),
        boundary: Some(wasmill_pipeline::checkpoint::Boundary { checkpoint: 1, ..Default::default() }),
        outcome: Outcome::OnProbation,
        detail: "3 windows were open".into(),
    };
    let history = History::open(Arc::new(RealDisk), &job.checkpoints());
    assert!(run(&["history", "-c", text(&config)]).expect(0).stderr.contains("nothing was done"));
    let isolated = job.checkpoints().join("embedded-1");
    fs::create_dir(&isolated).unwrap();
    History::open(Arc::new(RealDisk), &isolated).append(&entry).unwrap();
    let told = run(&["history", "-c", text(&config)]).expect(0);
    assert!(told.stdout.contains("user:ana"), "{told:?}");
    told.says(&["of the last isolated run", text(&isolated)]);
    fs::remove_dir_all(&isolated).unwrap();
    history.append(&entry).unwrap();
    for args in [["-c", text(&config)], ["--checkpoint", text(&job.checkpoints())]] {
        let told = run(&[&["history"], &args[..]].concat()).expect(0).stdout;
        assert!(told.contains("2023-11-14T22:13:20Z  user:ana  swap"), "{told}");
        assert!(told.contains(&counts[..12]) && told.contains("3 windows were open"), "{told}");
        let line = run(&[&["history", "--json"], &args[..]].concat()).expect(0).stdout;
        assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
    }
    for (extension, rows) in [("parquet", "parquet"), ("csv", "csv")] {
        let file = committed(&job, "counts", extension).pop().unwrap();
        let told = run(&["explain", text(&file)]).expect(0).stdout;
        for part in [
            &format!("output         counts, {rows}, "),
            &format!("plugin         counts sha256 {counts}"),
            &format!("kept as {}", job.checkpoints().join(format!("plugins/{counts}.wasm")).display()),
            "in force by a swap at checkpoint 1, 2023-11-14T22:13:20Z, by user:ana",
            "offsets        partition 0 from 40 to before 80",
            "opened after   checkpoint ",
            "committed with checkpoint ",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
        assert!(!told.contains("moved") && !told.contains("unknown") && !told.contains("none yet"), "{told}");
    }
}

#[test]
fn moved_outputs_are_explained_where_they_are() {
    let job = run_twice();
    let counts = ("counts".to_owned(), digest_of("geo_metrics"));
    let csv = committed(&job, "counts", "csv").pop().unwrap();
    let parquet = committed(&job, "counts", "parquet").pop().unwrap();
    let below = |path: &Path| path.strip_prefix(job.output()).unwrap().to_owned();
    // All of it, with the checkpoints that are below.
    let elsewhere = tempfile::tempdir().unwrap();
    let root = elsewhere.path().join("moved");
    fs::rename(job.output(), &root).unwrap();
    for file in [&csv, &parquet] {
        assert!(plugins(&explain(&root.join(below(file)))).contains(&counts));
    }
    // A file within its root.
    let moved = root.join("archive.csv");
    fs::rename(root.join(below(&csv)), &moved).unwrap();
    assert!(run(&["explain", text(&moved)]).expect(2).stderr.contains("has no line in"), "it has another name, too");
    let moved = root.join(csv.file_name().unwrap());
    fs::rename(root.join("archive.csv"), &moved).unwrap();
    let told = run(&["explain", text(&moved)]).expect(0).stdout;
    assert!(told.contains(&format!("moved from {}", below(&csv).display())), "{told}");
    // A Parquet file alone: it knows itself, but not where its plugins are.
    let alone = elsewhere.path().join("alone.parquet");
    fs::copy(root.join(below(&parquet)), &alone).unwrap();
    let explanation = explain(&alone);
    assert_eq!((&explanation["committed"], &explanation["plugins"][0]["component"]), (&Value::Null, &Value::Null));
    assert_eq!(explanation["since"]["offsets"], json!({ "0": 40 }));
    let checkpoints = root.join("_checkpoints");
    assert!(plugins(&explain_with(&alone, &["--checkpoint", text(&checkpoints)])).contains(&counts));
}

#[test]
fn a_file_that_was_changed_since_its_commit_is_told() {
    let job = run_twice();
    let csv = committed(&job, "counts", "csv").pop().unwrap();
    fs::write(&csv, "key,events\n").unwrap();
    let told = run(&["explain", text(&csv)]).expect(0).stdout;
    assert!(told.contains("it has 11 bytes: it is not as it was committed"), "{told}");
}

#[test]
fn what_is_no_output_is_refused_with_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &str| {
        fs::write(dir.path().join(name), bytes).unwrap();
        dir.path().join(name)
    };
    for (path, why) in [
        (dir.path().join("none.csv"), "No such file"),
        (file("rows.txt", ""), "name a .parquet or .csv file"),
        (file("rows.csv", "a,b\n"), "no folder above it has the ledger `_files`"),
        (file("rows.parquet", "PAR1"), "cannot encode or decode parquet"),
    ] {
        run(&["explain", text(&path)]).expect(2).says(&[why, text(&path)]);
    }
    fs::create_dir(dir.path().join("_files")).unwrap();
    let searched = format!("it has no line in {}", dir.path().join("_files").display());
    run(&["explain", text(&dir.path().join("rows.csv"))]).expect(2).says(&[&searched]);
    let none = dir.path().join("no/checkpoints");
    run(&["history", "--checkpoint", text(&none)]).expect(2).says(&["there is no checkpoint folder", text(&none)]);
}

/// The offsets of the events in a CSV file.
fn offsets(file: &Path) -> Vec<i64> {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let column = reader.headers().unwrap().iter().position(|name| name == "offset").unwrap();
    reader.records().map(|row| row.unwrap()[column].parse().unwrap()).collect()
}

#[test]
fn files_of_a_process_that_was_killed_are_known_whoever_completes_them() {
    let broker = EmbeddedBroker::start(TOPIC, 1).unwrap();
    write(broker.bootstrap(), TOPIC, 0, &clicks(0, 60));
    // Before the ledger's line, after it, and where files are open that recovery completes.
    for failpoint in ["manifest-published:3", "files-noted:1", "finished-file-linked:1", "offsets-told:2"] {
        let job = Job::clicks(broker.bootstrap(), TOPIC);
        let small = ["--set", "source.max_offsets_per_trigger=20", "--set", "output.roll.rows=7"];
        let args = [&["--drain"], &FORMATS[..], &small].concat();
        let mut dying = job.command(&args);
        dying.env("WASMILL_FAILPOINT", failpoint);
        let died = job::Running::start(dying).finish();
        assert_eq!(died.status.code(), None, "{failpoint}: {died:?}");
        job.run(&args).expect(0);
        assert_eq!(events(&job).len(), 60, "{failpoint}");
        for output in ["counts", "events_raw"] {
            for extension in ["parquet", "csv"] {
                for file in committed(&job, output, extension) {
                    let explanation = explain(&file);
                    assert_eq!(explanation["committed"]["bytes"], explanation["bytes"], "{failpoint}");
                    let [from, to] = [&explanation["since"], &explanation["committed"]["until"]]
                        .map(|at| at["offsets"]["0"].as_i64().unwrap());
                    assert!(0 <= from && from <= to && to <= 60, "{failpoint}: {from}..{to}");
                    if (output, extension) == ("events_raw", "csv") {
                        let offsets = offsets(&file);
                        let inside = offsets.iter().all(|offset| (from..to).contains(offset));
                        assert!(inside, "{failpoint}: {offsets:?} are not in {from}..{to}");
                    }
                }
            }
        }
    }
}
