//! What is away, taken or damaged: the pipeline waits and says so, or refuses and leaves everything as it was.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{Job, click, clicks, contents, events, exactly_once, files, reads_to, until, write};
use std::path::{Path, PathBuf};
use wasmill::kafka::EmbeddedBroker;

#[test]
fn a_broker_that_is_away_at_the_start_is_waited_for() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &clicks(0, 50));
    job::take_away(&broker);
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
    job::take_away(&broker);
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
    until("a checkpoint knows all records", || reads_to(&job.checkpoints(), &[30]));
    running.stop().expect(0);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 30);
}

#[test]
fn a_wait_for_the_broker_ends_with_a_signal() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    job::take_away(&broker);
    let job = Job::clicks(broker.bootstrap(), "events");
    let running = job.start(&[]);
    running.wait_for("waiting for kafka: ");
    running.stop().expect(0).says(&["stopped without a final checkpoint"]);
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
fn left_by(job: &Job) -> Vec<(PathBuf, Vec<u8>)> {
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
    let window = "another pipeline: aggregate.counts.window: { tumbling = \"10s\" } in the checkpoint, \
                  { tumbling = \"20s\" } in the file; change it back";
    refuse(&job, &["--set", "aggregate.counts.window={ tumbling = \"20s\" }"], 2, &[window, "or set RUN_ID"]);
    let keys = "another pipeline: aggregate.counts.keys: [\"page\"] in the checkpoint, [\"event_type\"] in the file; ";
    refuse(&job, &["--set", "aggregate.counts.keys=[\"event_type\"]"], 2, &[keys]);
}

#[test]
fn a_checkpoint_of_another_topic_is_refused_and_kept() {
    let (_broker, job) = finished();
    refuse(
        &job,
        &["--set", "source.topic=other"],
        2,
        &["another pipeline: source.topic: \"events\" in the checkpoint, \"other\" in the file; "],
    );
}

#[test]
fn a_checkpoint_of_a_newer_format_is_refused_and_kept() {
    let (_broker, job) = finished();
    let text = std::fs::read_to_string(job.manifest()).unwrap();
    std::fs::write(job.manifest(), text.replacen("\"format\": 3", "\"format\": 99", 1)).unwrap();
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
fn committed_files_are_their_readers_who_may_move_them_between_runs() {
    let (_broker, job) = finished();
    for committed in files(&job.output().join("events_raw")) {
        std::fs::remove_file(committed).unwrap();
    }
    job.run(&["--drain"]).expect(0);
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
    until("the second has read everything", || reads_to(&job.checkpoints(), &[60, 30]));
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
fn records_that_the_broker_removed_are_counted_or_fatal_as_the_settings_say() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    // The embedded broker keeps 5 MB.
    let large = |n| Some(click(n, &"x".repeat(100_000), n as i64));
    write(broker.bootstrap(), "events", 0, &(0..80).map(large).collect::<Vec<_>>());
    let job = Job::clicks(broker.bootstrap(), "events");
    let from_0 = ["--drain", "--set", "source.start={ \"0\" = 0 }"];
    let gone = "records are gone from the broker before they were read partition=0 expected_offset=0";
    job.run(&[&from_0[..], &["--set", "source.on_data_loss=fail"]].concat()).expect(1).says(&[gone]);
    assert_eq!(job.count("events_raw"), 0);
    job.run(&from_0).expect(0).says(&[gone, "the accounting closes"]);
    assert!((1..80).contains(&job.count("events_raw")));
}

#[test]
fn a_stopped_run_goes_on_where_it_was() {
    let broker = EmbeddedBroker::start("events", 2).unwrap();
    let job = Job::clicks(broker.bootstrap(), "events");
    for (round, signal) in ["TERM", "INT", "TERM"].into_iter().enumerate() {
        write(broker.bootstrap(), "events", 0, &clicks(round * 20, round * 20 + 20));
        let running = job.start(&[]);
        let offset = (round as i64 + 1) * 20;
        until("everything is read", || reads_to(&job.checkpoints(), &[offset]));
        running.signal(signal);
        running.finish().expect(0).says(&["stopped after the final checkpoint"]);
    }
    job.run(&["--drain"]).expect(0).says(&["60 records, 60 rows"]);
    exactly_once(&job, 60);
}
