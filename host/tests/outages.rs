//! What is away, taken or damaged: the pipeline waits and says so, or refuses and leaves everything as it was.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{Job, Running, click, clicks, contents, events, exactly_once, files, reads_to, until, write};
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
    all.retain(|(path, _)| !name(path).starts_with("generation-") && !name(path).starts_with("LOCK"));
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

/// Copies a folder with all that is below.
fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let copy = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(file, copy).unwrap();
    }
}

/// A job of which 30 clicks are committed, a copy of its checkpoints from then, and 50 clicks more that are.
fn copied() -> (EmbeddedBroker, Job, PathBuf) {
    let (broker, job) = finished();
    let copied = job.file().with_file_name("copy");
    copy(&job.checkpoints(), &copied);
    write(broker.bootstrap(), "events", 0, &clicks(30, 80));
    job.run(&["--drain"]).expect(0);
    (broker, job, copied)
}

#[test]
fn an_older_checkpoint_folder_stops_the_run_and_with_the_newer_back_the_run_goes_on() {
    let (broker, job, older) = copied();
    let newer = job.file().with_file_name("newer");
    std::fs::rename(job.checkpoints(), &newer).unwrap();
    copy(&older, &job.checkpoints());
    write(broker.bootstrap(), "events", 0, &clicks(80, 90));
    let folder = job.checkpoints().display().to_string();
    let ways = ["Put the checkpoint folder back", "OUTPUT_PATH", "--begin-anew"];
    let before = left_by(&job);
    let ended = job.run(&["--drain"]).expect(1);
    ended.says(&[&folder, "ends with checkpoint", "files of job were committed with checkpoint", "_files/"]);
    ended.says(&ways);
    assert!(!ended.stderr.contains("the accounting closes"), "{}", ended.stderr);
    assert_eq!(committed(&before), committed(&left_by(&job)));
    std::fs::remove_dir_all(job.checkpoints()).unwrap();
    std::fs::rename(&newer, job.checkpoints()).unwrap();
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 90);
}

/// The files of outputs among these.
fn committed(files: &[(PathBuf, Vec<u8>)]) -> Vec<&PathBuf> {
    files.iter().map(|(path, _)| path).filter(|path| path.extension().is_some_and(|end| end == "parquet")).collect()
}

#[test]
fn a_lost_checkpoint_folder_stops_the_run_also_where_readers_took_the_files_or_somebody_the_ledger() {
    let (_broker, job) = finished();
    let away = job.file().with_file_name("away");
    std::fs::rename(job.checkpoints(), &away).unwrap();
    job.run(&["--drain"]).expect(1).says(&["has no checkpoint, but from another folder files of job were committed"]);
    let ledger = job.output().join("_files");
    std::fs::rename(&ledger, away.with_file_name("ledger")).unwrap();
    job.run(&["--drain"]).expect(1).says(&["has no checkpoint, but there are files such as", "part-job-"]);
    std::fs::remove_dir_all(&ledger).unwrap();
    std::fs::rename(away.with_file_name("ledger"), &ledger).unwrap();
    let events_raw = job.output().join("events_raw");
    std::fs::rename(&events_raw, away.with_file_name("events_raw")).unwrap();
    job.run(&["--drain"]).expect(1).says(&["has no checkpoint, but from another folder files of job were committed"]);
    assert_eq!(events(&job).len(), 0);
    std::fs::rename(away.with_file_name("events_raw"), &events_raw).unwrap();
    std::fs::remove_dir_all(job.checkpoints()).unwrap();
    std::fs::rename(&away, job.checkpoints()).unwrap();
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 30);
}

#[test]
fn what_begins_anew_puts_the_files_of_the_run_aside_and_reads_everything_again() {
    for lost in [true, false] {
        let (_broker, job, older) = copied();
        std::fs::remove_dir_all(job.checkpoints()).unwrap();
        if !lost {
            copy(&older, &job.checkpoints());
        }
        let ended = job.run(&["--drain", "--begin-anew"]).expect(0);
        ended.says(&["beginning anew, as was asked", "_replaced", "80 records, 80 rows"]);
        exactly_once(&job, 80);
        let aside = files(&job.output().join("_replaced"));
        assert!(aside.iter().any(|path| path.to_string_lossy().ends_with(".parquet.replaced")), "{aside:?}");
        job.run(&["--drain", "--begin-anew"]).expect(0).says(&["--begin-anew has nothing to do"]);
        exactly_once(&job, 80);
    }
}

#[test]
fn pipelines_with_one_name_one_path_and_one_output_leave_each_others_files_alone() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &clicks(0, 50));
    write(broker.bootstrap(), "others", 0, &clicks(50, 70));
    let job = Job::clicks(broker.bootstrap(), "events");
    // A disk is mounted at the checkpoint path for one of them, and then another one for the other.
    let disks = ["one", "other"].map(|name| job.file().with_file_name(name));
    let mount = |disk: &Path| std::fs::rename(disk, job.checkpoints()).unwrap();
    let unmount = |disk: &Path| std::fs::rename(job.checkpoints(), disk).unwrap();
    let mut command = job.command(&["--drain"]);
    command.env("WASMILL_FAILPOINT", "manifest-published:2");
    assert_eq!(Running::start(command).finish().status.code(), None, "it ends between a checkpoint and its commit");
    unmount(&disks[0]);
    let others = ["--drain", "--set", "source.topic=others"];
    for _ in 0..4 {
        job.run(&others).expect(0);
    }
    unmount(&disks[1]);
    mount(&disks[0]);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 70);
    unmount(&disks[0]);
    mount(&disks[1]);
    job.run(&others).expect(0);
    exactly_once(&job, 70);
}

#[test]
fn a_process_with_a_copy_of_the_checkpoint_folder_waits_and_is_then_refused() {
    let (broker, job, older) = copied();
    let running = job.start(&["--set", "output.roll.age=100ms"]);
    write(broker.bootstrap(), "events", 0, &clicks(80, 85));
    until("it is at work", || events(&job).len() == 85);
    let path = format!("checkpoint.path={}", older.display());
    let copy = job.start(&["--until-caught-up", "--set", &path]);
    copy.wait_for("waiting for a process with a copy of the checkpoint folder, in the same output: pid");
    write(broker.bootstrap(), "events", 0, &clicks(85, 90));
    until("the others are committed", || events(&job).len() == 90);
    running.stop().expect(0);
    copy.finish().expect(1).says(&["ends with checkpoint", "files of job were committed with checkpoint"]);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 90);
}
