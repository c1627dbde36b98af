//! What is away, taken, damaged or full: the pipeline waits and says so, or refuses and leaves everything as it was.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "support/job.rs"]
mod job;

use job::{Job, Running, click, contents, files, until, write};
use std::path::Path;
use std::process::Command;
use wasmill::kafka::EmbeddedBroker;

/// Clicks `from..to`, one each second.
fn clicks(from: usize, to: usize) -> Vec<Option<Vec<u8>>> {
    (from..to).map(|n| Some(click(n, "/a", n as i64))).collect()
}

fn events(job: &Job) -> Vec<String> {
    let mut ids = job.column("events_raw", "event_id");
    ids.sort();
    ids
}

/// Every click up to `count` is in the raw files once, and all are counted.
fn exactly_once(job: &Job, count: usize) {
    let mut wanted: Vec<String> = (0..count).map(|n| format!("e{n}")).collect();
    wanted.sort();
    assert_eq!(events(job), wanted);
    assert_eq!(job.counted(), count as u64);
}

#[test]
fn a_broker_that_is_away_at_the_start_is_waited_for() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &clicks(0, 50));
    broker.set_reachable(false);
    let job = Job::clicks(broker.bootstrap(), "events");
    let running = job.start(&["--drain"]);
    running.wait_for("waiting for kafka: ");
    broker.set_reachable(true);
    running.finish().expect(0).says(&["50 records, 50 rows"]);
    exactly_once(&job, 50);
}

#[test]
fn a_broker_that_goes_away_in_the_middle_is_waited_for_and_nothing_is_lost() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &clicks(0, 50));
    let job = Job::clicks(broker.bootstrap(), "events");
    let running = job.start(&["--set", "output.roll.age=100ms"]);
    until("the first events are committed", || events(&job).len() == 50);
    broker.set_reachable(false);
    running.wait_for("waiting for kafka");
    broker.set_reachable(true);
    write(broker.bootstrap(), "events", 0, &clicks(50, 80));
    until("the others are committed", || events(&job).len() == 80);
    running.stop().expect(0).says(&["80 records, 80 rows"]);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 80);
}

#[test]
fn a_topic_that_is_missing_is_asked_for_until_it_is_there() {
    let broker = EmbeddedBroker::start("other", 1).unwrap();
    let job = Job::clicks(broker.bootstrap(), "events");
    let running = job.start(&[]);
    running.wait_for_many("waiting for kafka: there is no such topic: topic=events", 2);
    let status = job::run(&["status", "--url", &running.url()]).expect(0);
    assert!(status.stdout.contains("waiting for kafka: there is no such topic: topic=events"), "{status:?}");
    // The embedded broker makes a topic when somebody writes to it.
    write(broker.bootstrap(), "events", 0, &clicks(0, 30));
    until("a checkpoint knows all records", || {
        files(&job.checkpoints())
            .iter()
            .any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"next_offset\": 30")))
    });
    running.stop().expect(0);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 30);
}

#[test]
fn a_wait_for_the_broker_ends_with_a_signal() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    broker.set_reachable(false);
    let job = Job::clicks(broker.bootstrap(), "events");
    let running = job.start(&[]);
    running.wait_for("waiting for kafka: ");
    running.stop().expect(0);
}

/// A job with a finished run, and its broker.
fn finished() -> (EmbeddedBroker, Job) {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &clicks(0, 30));
    let job = Job::clicks(broker.bootstrap(), "events");
    job.run(&["--until-caught-up"]).expect(0);
    (broker, job)
}

/// Everything a run left, but for who has the lock.
fn left_by(job: &Job) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = contents(&job.output());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    all.retain(|(path, _)| !name(path).starts_with("generation-") && name(path) != "LOCK");
    all
}

/// Runs again with these arguments: it is refused with this exit code and these words, and all files stay as they are.
fn refuse(job: &Job, args: &[&str], code: i32, says: &[&str]) {
    let before = left_by(job);
    job.run(args).expect(code).says(says);
    assert!(left_by(job) == before, "files changed");
}

#[test]
fn a_checkpoint_of_other_windows_or_keys_is_refused_and_kept() {
    let (_broker, job) = finished();
    let says =
        ["the checkpoint belongs to pipeline \"job\"", "tumbling 10000000us", "use another checkpoint path or RUN_ID"];
    refuse(&job, &["--set", "aggregate.counts.window={ tumbling = \"20s\" }"], 2, &says);
    refuse(&job, &["--set", "aggregate.counts.keys=[\"event_type\"]"], 2, &says);
}

#[test]
fn a_checkpoint_of_another_topic_is_refused_and_kept() {
    let (_broker, job) = finished();
    refuse(
        &job,
        &["--set", "source.topic=other"],
        2,
        &["the checkpoint belongs to pipeline", "topic events", "topic other"],
    );
}

#[test]
fn a_checkpoint_of_a_newer_format_is_refused_and_kept() {
    let (_broker, job) = finished();
    let text = std::fs::read_to_string(job.manifest()).unwrap();
    std::fs::write(job.manifest(), text.replacen("\"format\": 1", "\"format\": 99", 1)).unwrap();
    let path = job.manifest().display().to_string();
    refuse(&job, &[], 2, &["the checkpoint has format 99", "use the release that wrote it", &path]);
}

#[test]
fn a_damaged_manifest_stops_the_run_and_is_named() {
    let (_broker, job) = finished();
    let text = std::fs::read_to_string(job.manifest()).unwrap();
    std::fs::write(job.manifest(), text.replacen("\"next_offset\": 30", "\"next_offset\": 20", 1)).unwrap();
    let path = job.manifest().display().to_string();
    refuse(&job, &[], 1, &["a checkpoint file is damaged", &path]);
    std::fs::write(job.manifest(), &text[..text.len() / 2]).unwrap();
    refuse(&job, &[], 1, &["a checkpoint file is damaged", &path]);
}

#[test]
fn a_missing_segment_stops_the_run_and_is_named() {
    let (_broker, job) = finished();
    let segments =
        files(&job.checkpoints()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "bin"));
    for segment in segments {
        std::fs::remove_file(segment).unwrap();
    }
    refuse(&job, &[], 1, &["a checkpoint file is damaged: it is missing", "segment-"]);
}

#[test]
fn a_committed_file_that_changed_behind_the_checkpoint_stops_the_run() {
    let (_broker, job) = finished();
    let committed = files(&job.output().join("events_raw")).pop().unwrap();
    std::fs::write(&committed, "something else").unwrap();
    refuse(&job, &[], 1, &["of another length", committed.file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn a_second_process_waits_says_for_whom_and_takes_over_after_a_kill() {
    let broker = EmbeddedBroker::start("events", 2).unwrap();
    write(broker.bootstrap(), "events", 0, &clicks(0, 40));
    let job = Job::clicks(broker.bootstrap(), "events");
    let first = job.start(&["--set", "output.roll.age=100ms"]);
    until("the first has committed", || events(&job).len() == 40);
    let second = job.start(&[]);
    let holder = second.wait_for("waiting for the checkpoint folder: ");
    assert!(holder.starts_with(&format!("pid {} on ", first.id())), "{holder}");
    write(broker.bootstrap(), "events", 1, &clicks(40, 70));
    first.signal("KILL");
    assert_eq!(first.finish().status.code(), None);
    write(broker.bootstrap(), "events", 0, &clicks(70, 90));
    until("the second has read everything", || {
        files(&job.checkpoints()).iter().any(|path| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.contains("\"next_offset\": 60") && text.contains("\"next_offset\": 30")
        })
    });
    second.stop().expect(0);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 90);
}

#[test]
fn a_process_that_waits_for_the_checkpoint_ends_with_a_signal() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let job = Job::clicks(broker.bootstrap(), "events");
    let first = job.start(&[]);
    until("the first has a checkpoint", || job.checkpoints().is_dir() && !files(&job.checkpoints()).is_empty());
    let second = job.start(&[]);
    second.wait_for("waiting for the checkpoint folder: ");
    second.stop().expect(0);
    first.stop().expect(0);
}

#[test]
fn an_output_folder_that_cannot_be_made_pauses_the_run_until_it_can() {
    for blocked in ["output.path", "checkpoint.path"] {
        let broker = EmbeddedBroker::start("events", 1).unwrap();
        write(broker.bootstrap(), "events", 0, &clicks(0, 30));
        let job = Job::clicks(broker.bootstrap(), "events");
        // Root may write anywhere, but not below a file.
        let file = job.file().with_file_name("blocked");
        std::fs::write(&file, "").unwrap();
        let below = format!("{blocked}={}", file.join("below").display());
        let mut running = job.start(&["--drain", "--set", &below]);
        running.wait_for("paused, trying again in ");
        assert!(running.is_up());
        std::fs::remove_file(&file).unwrap();
        running.finish().expect(0).says(&["Not a directory", "30 records, 30 rows"]);
    }
}

#[test]
fn a_full_disk_pauses_the_run_until_there_is_room() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    // What does not compress, so that it does not fit.
    let event = |n: usize| {
        let noise: String =
            (0..60).map(|k| format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&(n * 60 + k).to_le_bytes()))).collect();
        Some(click(n, &noise, n as i64))
    };
    write(broker.bootstrap(), "events", 0, &(0..400).map(event).collect::<Vec<_>>());
    let job = Job::clicks(broker.bootstrap(), "events");
    std::fs::create_dir(job.output()).unwrap();
    // A disk of its own, gone with the process: 2 MB, of which a ballast takes most.
    let script = "mount -t tmpfs -o size=2m tmpfs \"$0\" && head -c 1800000 /dev/zero > \"$0/ballast\" && \"$@\"; \
                  code=$?; rm -f \"$0/ballast\"; cp -r \"$0\" \"$0.kept\"; exit $code";
    let wasmill = job.command(&["--drain"]);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", script]).arg(job.output());
    command.arg(wasmill.get_program()).args(wasmill.get_args());
    command.envs(wasmill.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if !Command::new("unshare").args(["--map-root-user", "--mount", "true"]).status().is_ok_and(|s| s.success()) {
        println!("left out, a full disk: this machine gives no mount namespaces");
        return;
    }
    let running = Running::start(command);
    running.wait_for("paused, trying again in ");
    assert!(running.said().contains("No space left on device"), "{}", running.said());
    let ballast = format!("/proc/{}/root{}/ballast", running.id(), job.output().display());
    std::fs::remove_file(ballast).unwrap();
    running.finish().expect(0).says(&["400 records, 400 rows", "the accounting closes"]);
    std::fs::remove_dir(job.output()).unwrap();
    std::fs::rename(job.output().with_extension("kept"), job.output()).unwrap();
    exactly_once(&job, 400);
}
