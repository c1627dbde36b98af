//! Disks that are full, read-only or forbidden, and files that go or change under a run: it pauses until the cause is
//! gone, or stops and says which file; then it goes on, with nothing lost and nothing twice.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "support/jail.rs"]
mod jail;
#[path = "support/small_job.rs"]
mod job;

use jail::Jail;
use job::{Job, Running, clicks, events, exactly_once, files, reads_to, these_once, until, write};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use wasmill::kafka::EmbeddedBroker;

const FULL: &str = "No space left on device";
const PAUSED: &str = "paused, trying again in ";

/// A broker with the first 50 clicks, and a job on it.
fn fifty() -> (EmbeddedBroker, Job) {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &clicks(0, 50));
    let job = Job::clicks(broker.bootstrap(), "events");
    (broker, job)
}

/// Where a job's checkpoints are when its outputs have a disk of their own, and the argument that puts them there.
fn elsewhere(job: &Job) -> (PathBuf, [String; 2]) {
    let path = job.file().with_file_name("checkpoints");
    let set = ["--set".to_owned(), format!("checkpoint.path={}", path.display())];
    (path, set)
}

/// The job with only its outputs, and then with only its checkpoints, on the disk that fails: the disk, where the
/// checkpoints are, and what the run needs as arguments.
fn on_either_disk(mut test: impl FnMut(&EmbeddedBroker, &Job, &Path, &Path, &[&str])) {
    let (broker, job) = fifty();
    let (checkpoints, set) = elsewhere(&job);
    test(&broker, &job, &job.output(), &checkpoints, &[&set[0], &set[1]]);
    let (broker, job) = fifty();
    test(&broker, &job, &job.checkpoints(), &job.checkpoints(), &[]);
}

#[test]
fn a_disk_that_is_full_at_the_start_pauses_the_run_until_there_is_room() {
    if !jail::are_allowed() {
        return;
    }
    on_either_disk(|_, job, disk, _, args| {
        let jail = Jail::start(job, disk, "size=4k,nr_inodes=1", &[&["--drain"], args].concat());
        jail.wait_for(PAUSED, 1);
        jail.wait_for(FULL, 1);
        jail.inside("mount -o remount,size=64m,nr_inodes=10k \"$0\"", disk);
        jail.finish(disk).says(&["50 records, 50 rows", "the accounting closes"]);
        exactly_once(job, 50);
    });
}

#[test]
fn a_disk_that_fills_up_in_the_middle_pauses_the_run_until_there_is_room() {
    if !jail::are_allowed() {
        return;
    }
    on_either_disk(|broker, job, disk, checkpoints, args| {
        let jail =
            Jail::start(job, disk, "size=8m,nr_inodes=1k", &[&["--set", "output.roll.age=100ms"], args].concat());
        until("the first are read", || reads_to(&jail.path(checkpoints), &[50]));
        jail.fill(disk);
        write(broker.bootstrap(), "events", 0, &clicks(50, 90));
        jail.wait_for(PAUSED, 2);
        jail.wait_for(FULL, 2);
        jail.make_room(disk);
        write(broker.bootstrap(), "events", 0, &clicks(90, 100));
        until("all are read", || reads_to(&jail.path(checkpoints), &[100]));
        jail.stop(checkpoints);
        jail.finish(disk).says(&["100 records, 100 rows", "the accounting closes"]);
        job.run(&[&["--drain"], args].concat()).expect(0);
        exactly_once(job, 100);
    });
}

#[test]
fn a_disk_that_fills_up_between_publish_and_commit_pauses_the_run_until_there_is_room() {
    if !jail::are_allowed() {
        return;
    }
    let (_broker, job) = fifty();
    let (checkpoints, set) = elsewhere(&job);
    let args = [&set[0], &set[1], "--set", "output.roll.age=4s"];
    let jail = Jail::start(&job, &job.output(), "size=8m,nr_inodes=1k", &args);
    // Those of both outputs: what is left to be made then are the folders of the final names.
    let has = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default().contains("_staging/counts/");
    until("rows are staged", || files(&jail.path(&checkpoints)).iter().any(has));
    jail.fill(&job.output());
    jail.wait_for("cannot create folder", 2);
    assert_eq!(job.count("events_raw"), 0);
    jail.make_room(&job.output());
    let raw = job.output().join("events_raw");
    until("they are committed", || !files(&jail.path(&raw)).is_empty());
    jail.stop(&checkpoints);
    jail.finish(&job.output()).says(&["50 records, 50 rows", "the accounting closes"]);
    job.run(&["--drain", &set[0], &set[1]]).expect(0);
    exactly_once(&job, 50);
}

#[test]
fn a_disk_that_becomes_read_only_pauses_the_run_until_it_is_writable() {
    if !jail::are_allowed() {
        return;
    }
    on_either_disk(|broker, job, disk, checkpoints, args| {
        let jail = Jail::start(job, disk, "size=64m", &[&["--set", "output.roll.age=100ms"], args].concat());
        until("the first are read", || reads_to(&jail.path(checkpoints), &[50]));
        // A disk with open files cannot be made read-only itself; the way to it can.
        jail.inside("mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"", disk);
        write(broker.bootstrap(), "events", 0, &clicks(50, 90));
        jail.wait_for(PAUSED, 2);
        jail.wait_for("Read-only file system", 2);
        jail.inside("umount \"$0\"", disk);
        write(broker.bootstrap(), "events", 0, &clicks(90, 100));
        until("all are read", || reads_to(&jail.path(checkpoints), &[100]));
        jail.stop(checkpoints);
        jail.finish(disk).says(&["100 records, 100 rows"]);
        job.run(&[&["--drain"], args].concat()).expect(0);
        exactly_once(job, 100);
    });
}

/// The folders from this one down.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    std::iter::once(folder.to_owned()).chain(below.flat_map(|path| folders(&path))).collect()
}

#[test]
fn a_permission_that_is_lost_pauses_the_run_until_it_is_given_back() {
    if !jail::are_allowed() {
        return;
    }
    on_either_disk(|broker, job, disk, checkpoints, args| {
        // As a user who is not root, and so may not write where the mode forbids it.
        let wasmill = job.command(&[&["--set", "output.roll.age=100ms"], args].concat());
        let running = Running::start(wrapped("unshare", &["--map-user=1000"], &wasmill));
        until("the first are read", || reads_to(checkpoints, &[50]));
        let all = folders(disk);
        let allow =
            |mode| all.iter().rev().for_each(|path| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap());
        allow(0o555);
        write(broker.bootstrap(), "events", 0, &clicks(50, 90));
        running.wait_for_many(PAUSED, 2);
        running.wait_for_many("Permission denied", 2);
        allow(0o755);
        write(broker.bootstrap(), "events", 0, &clicks(90, 100));
        until("all are read", || reads_to(checkpoints, &[100]));
        running.stop().expect(0).says(&["100 records, 100 rows"]);
        job.run(&[&["--drain"], args].concat()).expect(0);
        exactly_once(job, 100);
    });
}

/// A command that is run by another.
fn wrapped(program: &str, args: &[&str], inner: &Command) -> Command {
    let mut command = Command::new(program);
    command.args(args).arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[test]
fn a_limit_on_the_size_of_files_pauses_the_run_until_it_is_raised() {
    // Bytes: too few for a manifest, and too few for the rows.
    for limit in ["500", "20000"] {
        let (broker, job) = fifty();
        let running = job.start(&["--set", "output.roll.age=1h"]);
        until("the first are read", || reads_to(&job.checkpoints(), &[50]));
        let id = running.id().to_string();
        let set = |limit: &str| assert!(job::succeeds("prlimit", &["--pid", &id, &format!("--fsize={limit}:")]));
        set(limit);
        write(broker.bootstrap(), "events", 0, &job::noise(50, 200));
        running.wait_for_many(PAUSED, 2);
        running.wait_for("File too large");
        set("unlimited");
        until("the others are read", || reads_to(&job.checkpoints(), &[200]));
        running.stop().expect(0).says(&["200 records, 200 rows", "the accounting closes"]);
        job.run(&["--drain"]).expect(0);
        exactly_once(&job, 200);
    }
}

/// The only file below a folder whose name holds this.
fn only(folder: &Path, part: &str) -> PathBuf {
    let mut all = files(folder);
    all.retain(|path| path.file_name().unwrap().to_string_lossy().contains(part));
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn a_staged_file_that_is_taken_away_stops_the_run_and_with_it_back_the_run_goes_on() {
    for part in [".parquet.tmp", ".parquet.rows.tmp"] {
        let (_broker, job) = fifty();
        let running = job.start(&["--set", "output.roll.age=1h"]);
        until("the rows are staged", || reads_to(&job.checkpoints(), &[50]));
        let staged = only(&job.output().join("_staging/events_raw"), part);
        let away = job.file().with_file_name("away");
        fs::rename(&staged, &away).unwrap();
        let name = staged.file_name().unwrap().to_str().unwrap();
        let told = ["50 rows of the checkpoint", "put the file back", "RUN_ID", name];
        running.finish().expect(1).says(&told);
        job.run(&[]).expect(1).says(&told);
        fs::rename(&away, &staged).unwrap();
        job.run(&["--drain"]).expect(0);
        exactly_once(&job, 50);
    }
}

#[test]
fn a_committed_file_that_is_taken_away_is_its_readers_matter() {
    let (broker, job) = fifty();
    let running = job.start(&["--set", "output.roll.age=100ms"]);
    until("the first are committed", || events(&job).len() == 50);
    for committed in files(&job.output().join("events_raw")) {
        fs::remove_file(committed).unwrap();
    }
    write(broker.bootstrap(), "events", 0, &clicks(50, 90));
    until("the others are committed", || events(&job).len() == 40);
    running.stop().expect(0).says(&["90 records, 90 rows"]);
    job.run(&["--drain"]).expect(0);
    assert_eq!(job.counted(), 90);
    assert_eq!(events(&job).len(), 40);
}

#[test]
fn a_lock_that_is_removed_lets_one_process_in_and_the_other_out() {
    let (broker, job) = fifty();
    let mut first = job.start(&[]);
    until("the first has read", || reads_to(&job.checkpoints(), &[50]));
    fs::remove_file(job.checkpoints().join("LOCK")).unwrap();
    let second = job.start(&[]);
    // It ends when it is about to publish, or finds its staged files gone before, and queues up behind the other.
    let waits = "waiting for the checkpoint folder: ";
    until("the first is out", || !first.is_up() || first.said().contains(waits));
    if first.is_up() {
        first.stop().expect(0);
    } else {
        first.finish().expect(3).says(&["another process took over the checkpoint"]);
    }
    write(broker.bootstrap(), "events", 0, &clicks(50, 90));
    until("the second has read", || reads_to(&job.checkpoints(), &[90]));
    second.stop().expect(0);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 90);
}

#[test]
fn a_manifest_that_is_removed_under_a_run_is_followed_by_the_next() {
    let (broker, job) = fifty();
    let running = job.start(&[]);
    until("the first are read", || reads_to(&job.checkpoints(), &[50]));
    // The next checkpoint may remove it first.
    let _ = fs::remove_file(job.manifest());
    write(broker.bootstrap(), "events", 0, &clicks(50, 90));
    until("the others are read", || reads_to(&job.checkpoints(), &[90]));
    running.stop().expect(0).says(&["90 records, 90 rows"]);
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 90);
}

#[test]
fn a_checkpoint_folder_that_is_removed_under_a_run_stops_it() {
    let (_broker, job) = fifty();
    let running = job.start(&["--set", "output.roll.age=100ms"]);
    until("the rows are committed", || events(&job).len() == 50);
    let away = job.file().with_file_name("away");
    fs::rename(job.checkpoints(), &away).unwrap();
    running.finish().expect(1).says(&["the checkpoint that this process made is gone"]);
    assert_eq!(events(&job).len(), 50);
    fs::remove_dir_all(job.checkpoints()).unwrap();
    fs::rename(&away, job.checkpoints()).unwrap();
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 50);
}

/// A job that was stopped when all is read, and its broker.
fn stopped() -> (EmbeddedBroker, Job) {
    let (broker, job) = fifty();
    job.run(&["--until-caught-up"]).expect(0);
    (broker, job)
}

#[test]
fn a_newest_manifest_that_is_missing_stops_the_run_and_with_it_back_the_run_goes_on() {
    let (_broker, job) = stopped();
    let (manifest, away) = (job.manifest(), job.file().with_file_name("away"));
    fs::rename(&manifest, &away).unwrap();
    let path = manifest.display().to_string();
    job.run(&["--drain"]).expect(1).says(&["a checkpoint file is damaged: it is missing", &path]);
    fs::rename(&away, &manifest).unwrap();
    job.run(&["--drain"]).expect(0);
    exactly_once(&job, 50);
}

#[test]
fn a_segment_that_is_missing_cut_or_flipped_stops_the_run_and_with_it_back_the_run_goes_on() {
    let (_broker, job) = stopped();
    let mut segments = files(&job.checkpoints());
    segments.retain(|path| path.extension().is_some_and(|end| end == "bin"));
    let (segment, path) = (&segments[0], segments[0].display().to_string());
    let good = fs::read(segment).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for damaged in [None, Some(good[..good.len() / 2].to_vec()), Some(flipped), Some(Vec::new())] {
        match damaged {
            Some(bytes) => fs::write(segment, bytes).unwrap(),
            None => fs::remove_file(segment).unwrap(),
        }
        job.run(&["--drain"]).expect(1).says(&["a checkpoint file is damaged: ", &path]);
    }
    fs::write(segment, good).unwrap();
    job.run(&["--drain"]).expect(0);
    these_once(&job, 0..50);
}
