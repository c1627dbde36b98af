//! Faults on a laptop: what a pipeline leaves behind of each, and what `wasmill replay` makes of it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use arrow_array::BinaryArray;
use job::{Finished, Job, files, plugin, wasmill, write};
use std::path::{Path, PathBuf};
use wasmill::capsule::{Capsule, Capsules, Guest, Limits, Plugin, Secret, Settings};
use wasmill::kafka::EmbeddedBroker;
use wasmill::plugin::{Component, Runtime, World};
use wasmill_pipeline::fault::{FaultReport, FaultyCall};
use wasmill_pipeline::plugin::{Fault, FaultKind};

/// What the records of these tests hold.
const MARKER: &str = "alice@example.org";

/// Runs the hostile parser over these records; the rest of the arguments are for `wasmill run`.
fn run_over(records: &[&[u8]], args: &[&str]) -> Job {
    let broker = EmbeddedBroker::start("words", 1).unwrap();
    let records: Vec<Option<Vec<u8>>> = records.iter().map(|record| Some(record.to_vec())).collect();
    write(broker.bootstrap(), "words", 0, &records);
    let job = Job::of(broker.bootstrap(), "words", "hostile", "word");
    let limits = ["--set", "limits.deadline=300ms", "--set", "limits.memory=64MB", "--drain"];
    job.run(&[&limits, args].concat()).expect(0);
    job
}

/// The capsule of the record at this offset.
fn capsule(job: &Job, offset: usize) -> PathBuf {
    let capsules = files(&job.output().join("_faults"));
    let end = format!("-parse-0-{offset}.capsule");
    let found = capsules.iter().find(|file| file.to_str().unwrap().ends_with(&end));
    found.unwrap_or_else(|| panic!("no capsule of offset {offset} in {capsules:?}")).clone()
}

fn replay(capsule: &Path, args: &[&str]) -> Finished {
    let mut command = wasmill(&["replay"]);
    command.arg(capsule).args(args).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    let finished = job::Running::start(command).finish();
    assert!(!finished.stderr.contains("panicked"), "{finished:#?}");
    finished
}

/// Asserts that standard output has all of these.
fn tells(finished: &Finished, texts: &[&str]) {
    for text in texts {
        assert!(finished.stdout.contains(text), "{text:?} is not in\n{}", finished.stdout);
    }
}

/// `file:line` of the line of the hostile plugin's source that has this text.
fn place(text: &str) -> String {
    let source =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/hostile/src/lib.rs")).unwrap();
    let line = source.lines().position(|line| line.contains(text)).unwrap() + 1;
    format!("plugins/hostile/src/lib.rs:{line}")
}

#[test]
fn every_kind_of_fault_happens_again_with_function_file_and_line() {
    let records = ["Trap", "Panic", "Loop", "Memory", "Stack", "Count", "good"].map(str::as_bytes);
    let job = run_over(&records, &[]);
    assert_eq!(files(&job.output().join("_faults")).len(), records.len() - 1);
    let trap = place("core::arch::wasm32::unreachable()");
    let panic = format!("panicked at {}", place("the panic that was asked for"));
    let crimes: [&[&str]; 6] = [
        &[
            "trapped",
            "instruction executed in hostile::",
            "in trap at ",
            &trap,
            "in commit at ",
            "in hostile::parse at ",
        ],
        &["trapped", "the panic that was asked for", &panic, "in commit at ", "in hostile::parse at "],
        &["missed its deadline", "in endless at ", "in hostile::parse at "],
        &["exceeded its memory limit", "in grow at ", "in hostile::parse at "],
        &["trapped", "stack", "in hostile::deep at ", "plugins/hostile/src/lib.rs:"],
        &["broke its contract", "rows"],
    ];
    for (offset, says) in crimes.into_iter().enumerate() {
        let again = replay(&capsule(&job, offset), &[]).expect(1);
        tells(&again, &["now            the same fault", &format!("topic=words partition=0 offset={offset}")]);
        tells(&again, says);
    }
}

#[test]
fn a_mended_component_has_no_fault_any_more() {
    let job = run_over(&[b"Trap"], &[]);
    let capsule = capsule(&job, 0);
    let mended = plugin("clickstream_parser");
    let again = replay(&capsule, &["--plugin", mended.to_str().unwrap()]).expect(0);
    tells(&again, &["no fault any more", "parse gave 0 row(s) and 1 reject(s)", "rejected as malformed"]);
    let aggregate = replay(&capsule, &["--plugin", plugin("sessions").to_str().unwrap()]).expect(2);
    aggregate.says(&["exports wasmill:plugin/aggregate"]);
}

#[test]
fn a_component_that_is_another_now_is_refused_unless_it_is_asked_for() {
    let job = run_over(&[b"Trap"], &[]);
    let dir = tempfile::tempdir().unwrap();
    let mut capsule = Capsule::read(&capsule(&job, 0)).unwrap();
    let (moved, file) = (dir.path().join("moved.wasm"), dir.path().join("a.capsule"));
    moved.to_str().unwrap().clone_into(&mut capsule.plugin.path);
    std::fs::write(&file, capsule.encode()).unwrap();
    let digest = format!("sha256={}", capsule.plugin.digest);
    replay(&file, &[]).expect(2).says(&["cannot read plugin", "--plugin PATH", &digest]);
    std::fs::copy(plugin("clickstream_parser"), &moved).unwrap();
    replay(&file, &[]).expect(2).says(&["it is not the component that failed any more", "--plugin PATH", &digest]);
    replay(&file, &["--plugin", moved.to_str().unwrap()]).expect(0);
    replay(&file, &["--plugin", plugin("hostile").to_str().unwrap()]).expect(1);
}

#[test]
fn a_redacted_capsule_has_no_payload_and_says_so() {
    let record = format!("Trap {MARKER}");
    let has_marker = |file: &Path| String::from_utf8(std::fs::read(file).unwrap()).unwrap().contains(MARKER);
    let open = run_over(&[record.as_bytes()], &[]);
    assert!(has_marker(&capsule(&open, 0)));
    let redacted = run_over(&[record.as_bytes()], &["--set", "faults.redact=true"]);
    let file = capsule(&redacted, 0);
    assert!(!has_marker(&file));
    let refused = replay(&file, &[]).expect(2);
    refused.says(&["it was redacted (faults.redact) and holds no input"]);
    tells(&refused, &["trapped", "in hostile::", &format!("value: {} bytes", record.len())]);
}

#[test]
fn a_record_that_is_too_large_for_a_capsule_leaves_its_length() {
    let record = [b"Trap ", &[b'x'; 5000][..]].concat();
    let job = run_over(&[&record, b"Trap"], &["--set", "faults.capsule_bytes=4KiB"]);
    let refused = replay(&capsule(&job, 0), &[]).expect(2);
    refused.says(&["its input was larger than faults.capsule_bytes"]);
    tells(&refused, &["value: 5005 bytes"]);
    for file in files(&job.output().join("_faults")) {
        assert!(file.metadata().unwrap().len() <= 4096, "{file:?}");
    }
    replay(&capsule(&job, 1), &[]).expect(1);
}

#[test]
fn without_capsules_a_fault_leaves_no_file() {
    let job = run_over(&[b"Trap"], &["--set", "faults.capsules=false"]);
    assert!(!job.output().join("_faults").exists());
    assert_eq!(job.column("_dead_letters", "reason"), ["plugin_fault"]);
}

#[test]
fn what_is_no_capsule_any_more_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let report = finish_of(b"nonsense", &counts());
    let whole = std::fs::read(keep(dir.path(), &report)).unwrap();
    let file = dir.path().join("a.capsule");
    let refused = |bytes: &[u8], says: &str| {
        std::fs::write(&file, bytes).unwrap();
        replay(&file, &[]).expect(2).says(&["the capsule cannot be replayed", says]);
    };
    refused(&whole[..whole.len() / 2], "it was cut off or changed");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    refused(&flipped, "it was cut off or changed");
    refused(b"", "is not a fault capsule");
    refused(b"wasmill capsule 9 0\n{}", "is a capsule of another format");
    replay(&dir.path().join("none.capsule"), &[]).expect(2).says(&["cannot be read", "No such file"]);
}

/// The aggregate of these tests.
fn counts() -> Component {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
    let runtime = Runtime::new(Some(&cache), wasmill::plugin::Limits::default()).unwrap();
    runtime.load("counts", &plugin("geo_metrics"), World::Aggregate).unwrap()
}

/// Version and bytes of the state after so many rows.
fn state(component: &Component, rows: usize) -> (u32, Vec<u8>) {
    let mut aggregate = component.aggregate("{}").unwrap();
    aggregate.update(&vec![0; rows], &[]).unwrap();
    (aggregate.description().state_version, aggregate.snapshot(&[0]).unwrap().value(0).to_vec())
}

/// The report of a `finish` whose state is this, which the plugin refuses.
fn finish_of(bytes: &[u8], component: &Component) -> FaultReport {
    let mut aggregate = component.aggregate("{}").unwrap();
    let version = aggregate.description().state_version;
    let fault = aggregate.restore(&[0], version, &BinaryArray::from_iter_values([bytes])).unwrap_err();
    let call = FaultyCall::Finish { state: (version, bytes.to_vec()), context: Vec::new() };
    FaultReport { fault, aggregate: Some(0), origin: (0, 17), call }
}

/// Keeps the report of an aggregate as a pipeline does, and gives the file.
fn keep(dir: &Path, report: &FaultReport) -> PathBuf {
    let settings = Settings {
        enabled: true,
        folder: dir.join("_faults"),
        capsule_bytes: 1 << 20,
        capsules_bytes: 1 << 20,
        redact: false,
    };
    let limits = Limits { memory_bytes: 64 << 20, deadline_us: 10_000_000 };
    let component = counts();
    let aggregate = Plugin {
        name: component.name().to_owned(),
        interface: component.world().interface().to_owned(),
        path: component.path().display().to_string(),
        digest: component.digest().to_owned(),
        config: Secret::Open("{}".into()),
        wanted: None,
    };
    let aggregate = Guest { plugin: aggregate, inputs: Vec::new(), context: Vec::new() };
    Capsules::new(settings, "job", "words", limits, vec![aggregate.clone(), aggregate]).keep(report);
    let [file] = files(&dir.join("_faults")).try_into().unwrap();
    file
}

#[test]
fn an_aggregate_that_cannot_read_its_state_refuses_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = keep(dir.path(), &finish_of(b"nonsense", &counts()));
    let again = replay(&file, &[]).expect(1);
    tells(&again, &["call           finish of topic=words partition=0 offset=17", "the same fault", "refused"]);
}

#[test]
fn an_aggregate_gets_its_state_back_before_the_call() {
    let component = counts();
    let fault = Fault { plugin: "counts".into(), kind: FaultKind::Trap, message: "once".into(), backtrace: Vec::new() };
    let dir = tempfile::tempdir().unwrap();
    let call = FaultyCall::Finish { state: state(&component, 4), context: Vec::new() };
    let file = keep(dir.path(), &FaultReport { fault: fault.clone(), aggregate: Some(0), origin: (0, 1), call });
    tells(&replay(&file, &[]).expect(0), &["no fault any more", "finish gave 1 row(s)", "events=4"]);
    let dir = tempfile::tempdir().unwrap();
    let call = FaultyCall::Update { state: Some(state(&component, 4)), inputs: Vec::new() };
    let file = keep(dir.path(), &FaultReport { fault, aggregate: Some(0), origin: (0, 1), call });
    tells(&replay(&file, &[]).expect(0), &["no fault any more", "update took 1 row(s) in"]);
}

#[test]
fn a_capsule_whose_call_is_another_worlds_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut capsule = Capsule::read(&keep(dir.path(), &finish_of(b"nonsense", &counts()))).unwrap();
    World::Parser.interface().clone_into(&mut capsule.plugin.interface);
    let file = dir.path().join("a.capsule");
    std::fs::write(&file, capsule.encode()).unwrap();
    replay(&file, &[]).expect(2).says(&["a parser has no such call"]);
    "wasmill:plugin/parser@9.0.0".clone_into(&mut capsule.plugin.interface);
    std::fs::write(&file, capsule.encode()).unwrap();
    replay(&file, &[]).expect(2).says(&["this release has no such plugins"]);
}
