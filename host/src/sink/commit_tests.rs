//! Facts about commit and recovery, with the world ending at every step.

use super::*;
use crate::disk::RealDisk;
use crate::sink::tests::{World, batch, by_date, metadata, row_groups};
use crate::sink::{Format, Writers};
use std::fs;
use wasmill_pipeline::error::Class;

const BOTH: &[Format] = &[Format::Parquet, Format::Csv];

/// Rows 0..100 in files finished by the cut, 100..150 in open ones, and 150..200 written after it.
fn written_past_a_cut(world: &mut World) -> (Writers, SinkCut) {
    world.spec.roll.max_rows = 100;
    let mut writers = world.writers();
    writers.write(0, &batch(0..120), world.now).unwrap();
    let earlier = writers.cut(world.now, false).unwrap();
    writers.write(0, &batch(120..150), world.now).unwrap();
    let mut cut = writers.cut(world.now, false).unwrap();
    cut.finished.extend(earlier.finished);
    sync(&RealDisk, world.root(), &cut).unwrap();
    writers.write(0, &batch(150..199), world.now).unwrap();
    writers.cut(world.now, false).unwrap();
    (writers, cut)
}

/// As a start does.
fn recover_all(world: &World, cut: &SinkCut) -> Result<()> {
    let completed = complete(&RealDisk, world.root(), &cut.open)?;
    recover(&RealDisk, world.root(), &cut.finished, &completed)
}

fn in_both_formats(numbers: std::ops::Range<i64>) -> Vec<i64> {
    numbers.flat_map(|n| [n, n]).collect()
}

fn recover_up_to(world: &World, cut: &SinkCut, mut steps: usize) -> Result<()> {
    let mut step = || match steps.checked_sub(1) {
        None => Err(Error::corrupt("", "the world ended")),
        Some(left) => {
            steps = left;
            Ok(())
        }
    };
    let mut commit = Commit { disk: &RealDisk, root: world.root(), step: &mut step };
    let completed = cut.open.iter().map(|open| commit.complete(open)).collect::<Result<Vec<_>>>()?;
    commit.run(&cut.finished, &completed)
}

#[test]
fn recovery_gives_the_rows_up_to_the_cut() {
    let mut world = World::new(BOTH);
    let (writers, cut) = written_past_a_cut(&mut world);
    drop(writers);
    recover_all(&world, &cut).unwrap();
    assert_eq!(world.rows(), in_both_formats(0..150));
    assert!(world.files().iter().all(|file| !file.starts_with("_staging")), "{:?}", world.files());
}

#[test]
fn recovery_twice_is_recovery() {
    let mut world = World::new(BOTH);
    let (writers, cut) = written_past_a_cut(&mut world);
    drop(writers);
    recover_all(&world, &cut).unwrap();
    let files = world.files();
    recover_all(&world, &cut).unwrap();
    assert_eq!(world.files(), files);
    assert_eq!(world.rows(), in_both_formats(0..150));
}

#[test]
fn what_was_completed_of_a_file_that_another_process_has_committed_meanwhile_is_not_put_there_again() {
    let mut world = World::new(BOTH);
    let (writers, cut) = written_past_a_cut(&mut world);
    drop(writers);
    let completed = complete(&RealDisk, world.root(), &cut.open).unwrap();
    // The other one's last step, and a reader's.
    cut.open.iter().for_each(|open| fs::remove_file(world.root().join(&open.file.staged)).unwrap());
    let error = recover(&RealDisk, world.root(), &[], &completed).unwrap_err();
    assert!(matches!(error, Error::Gone { .. }), "{error}");
    assert!(world.rows().is_empty(), "it is there");
}

#[test]
fn recovery_may_end_at_any_step_and_begin_again() {
    for steps in 0.. {
        let mut world = World::new(BOTH);
        let (writers, cut) = written_past_a_cut(&mut world);
        drop(writers);
        let ended = recover_up_to(&world, &cut, steps).is_err();
        let seen = world.rows();
        assert!(seen.iter().all(|&n| n < 150), "after {steps} steps a reader sees what is not in the checkpoint");
        recover_all(&world, &cut).unwrap();
        assert_eq!(world.rows(), in_both_formats(0..150), "after {steps} steps");
        if !ended {
            assert!(steps > 20, "the steps were not taken");
            break;
        }
    }
}

#[test]
fn a_writer_that_lost_its_place_cannot_reach_committed_files() {
    let mut world = World::new(BOTH);
    let (mut zombie, cut) = written_past_a_cut(&mut world);
    recover_all(&world, &cut).unwrap();
    zombie.write(0, &batch(199..250), world.now).unwrap();
    zombie.cut(world.now, true).unwrap();
    assert_eq!(world.rows(), in_both_formats(0..150));
}

#[test]
fn a_cut_that_went_through_json_recovers_the_same() {
    let mut world = World::new(BOTH);
    let (writers, cut) = written_past_a_cut(&mut world);
    drop(writers);
    let cut: SinkCut = serde_json::from_str(&serde_json::to_string(&cut).unwrap()).unwrap();
    recover_all(&world, &cut).unwrap();
    assert_eq!(world.rows(), in_both_formats(0..150));
}

#[test]
fn a_file_that_is_nowhere_is_named() {
    let mut world = World::new(BOTH);
    let (_writers, cut) = written_past_a_cut(&mut world);
    fs::remove_file(world.root().join(&cut.finished[0].staged)).unwrap();
    let error = commit(&RealDisk, world.root(), &cut.finished).unwrap_err();
    assert_eq!(error.class(), Class::Corrupt);
    assert!(error.to_string().contains(&cut.finished[0].path), "{error}");
}

#[test]
fn a_swept_staging_area_is_told_with_what_is_lost_and_the_way_out() {
    let mut world = World::new(BOTH);
    let (_writers, cut) = written_past_a_cut(&mut world);
    fs::remove_dir_all(world.root().join("_staging")).unwrap();
    let error = recover_all(&world, &cut).unwrap_err();
    assert_eq!(error.class(), Class::Corrupt);
    for part in ["50 rows", "_staging", "put the file back", "RUN_ID", &cut.open[0].file.staged] {
        assert!(error.to_string().contains(part), "{error} has no {part}");
    }
}

/// 40,000 rows in a row group, 100 that wait at the cut, and 50 that came to wait after it.
fn waiting_past_a_cut(world: &World) -> (Writers, SinkCut) {
    let mut writers = world.writers();
    writers.write(0, &batch(0..40_000), world.now).unwrap();
    writers.cut(world.now, false).unwrap();
    for from in [40_000, 40_050] {
        writers.write(0, &batch(from..from + 50), world.now).unwrap();
        writers.cut(world.now, false).unwrap();
    }
    let cut = writers.cut(world.now, false).unwrap();
    writers.write(0, &batch(40_100..40_150), world.now).unwrap();
    writers.cut(world.now, false).unwrap();
    (writers, cut)
}

#[test]
fn recovery_ends_the_row_group_with_the_rows_that_waited_at_the_cut() {
    let world = World::new(&[Format::Parquet]);
    let (_writers, cut) = waiting_past_a_cut(&world);
    let completed = complete(&RealDisk, world.root(), &cut.open).unwrap();
    recover(&RealDisk, world.root(), &[], &completed).unwrap();
    assert_eq!(world.rows(), (0..40_100).collect::<Vec<_>>());
    let path = world.root().join(&completed[0].path);
    assert_eq!(row_groups(&path), [40_000, 100]);
    assert_eq!((completed[0].rows, completed[0].bytes), (40_100, fs::metadata(path).unwrap().len()));
}

#[test]
fn a_file_that_recovery_completed_is_as_if_it_had_been_finished_at_the_cut() {
    let (recovered, finished) = (World::new(&[Format::Parquet]), World::new(&[Format::Parquet]));
    let (_writers, cut) = waiting_past_a_cut(&recovered);
    let made = complete(&RealDisk, recovered.root(), &cut.open).unwrap();
    recover(&RealDisk, recovered.root(), &[], &made).unwrap();
    let mut writers = finished.writers();
    writers.write(0, &batch(0..40_000), finished.now).unwrap();
    writers.cut(finished.now, false).unwrap();
    writers.write(0, &batch(40_000..40_100), finished.now).unwrap();
    let wanted = writers.cut(finished.now, true).unwrap().finished;
    commit(&RealDisk, finished.root(), &wanted).unwrap();
    assert_eq!(StagedFile { bytes: wanted[0].bytes, ..made[0].clone() }, wanted[0]);
    let metadata = |world: &World, file: &StagedFile| metadata(&world.root().join(&file.path));
    let (made, wanted) = (metadata(&recovered, &made[0]), metadata(&finished, &wanted[0]));
    assert_eq!(made.file_metadata(), wanted.file_metadata());
    for (made, wanted) in made.row_groups().iter().zip(wanted.row_groups()) {
        assert_eq!((made.num_rows(), made.ordinal()), (wanted.num_rows(), wanted.ordinal()));
        assert_eq!((made.file_offset(), made.compressed_size()), (wanted.file_offset(), wanted.compressed_size()));
    }
}

#[test]
fn a_file_that_is_held_with_waiting_rows_may_be_held_again() {
    let world = World::new(&[Format::Parquet]);
    let (_writers, cut) = waiting_past_a_cut(&world);
    let mut held = Vec::new();
    for _ in 0..3 {
        held = complete(&RealDisk, world.root(), &cut.open).unwrap();
        hold(&RealDisk, world.root(), &held).unwrap();
        let keep = held.iter().map(|file| file.staged.clone()).collect();
        sweep(&RealDisk, world.root(), "1", 8, &keep).unwrap();
    }
    assert!(world.rows().is_empty(), "no reader has seen a row");
    commit(&RealDisk, world.root(), &held).unwrap();
    assert_eq!(world.rows(), (0..40_100).collect::<Vec<_>>());
    assert!(world.files().iter().all(|file| !file.starts_with("_staging")), "{:?}", world.files());
}

#[test]
fn a_final_file_of_another_length_is_never_written_over() {
    let mut world = World::new(BOTH);
    let (_writers, cut) = written_past_a_cut(&mut world);
    let taken = world.root().join(&cut.finished[0].path);
    fs::create_dir_all(taken.parent().unwrap()).unwrap();
    fs::write(&taken, "another's").unwrap();
    assert_eq!(commit(&RealDisk, world.root(), &cut.finished).unwrap_err().class(), Class::Corrupt);
    assert_eq!(fs::read(&taken).unwrap(), b"another's");
}

#[test]
fn an_open_file_shorter_than_the_checkpoint_says_is_corrupt() {
    let mut world = World::new(BOTH);
    let (_writers, cut) = written_past_a_cut(&mut world);
    fs::write(world.root().join(&cut.open[0].file.staged), "").unwrap();
    assert_eq!(complete(&RealDisk, world.root(), &cut.open).unwrap_err().class(), Class::Corrupt);
}

#[test]
fn manifests_cannot_reach_outside_of_the_root() {
    let mut world = World::new(BOTH);
    let (_writers, cut) = written_past_a_cut(&mut world);
    let outside = StagedFile { path: "../x.parquet".into(), ..cut.finished[0].clone() };
    assert_eq!(commit(&RealDisk, world.root(), &[outside]).unwrap_err().class(), Class::Corrupt);
}

#[test]
fn a_sweep_takes_orphans_of_its_identity_alone_whatever_the_pipeline_was_called() {
    let mut world = World::new(&[Format::Parquet]);
    let (writers, cut) = written_past_a_cut(&mut world);
    drop(writers);
    let staging = world.root().join("_staging/events/parquet");
    let others = ["part-a-7-w0-0.parquet.tmp", "part-a-1-x-7-w0-0.parquet.tmp", "notes.txt"];
    for part in ["", ".whole", ".rows", ".copy"] {
        fs::write(staging.join(format!("part-a-1-6-w1-9.parquet{part}.tmp")), "").unwrap();
    }
    fs::write(staging.join("part-a.csv-1-6-w1-9.parquet.tmp"), "").unwrap();
    for name in others {
        fs::write(staging.join(name), "").unwrap();
    }
    let keep: HashSet<String> = cut.finished.iter().map(|file| file.staged.clone()).collect();
    assert_eq!(sweep(&RealDisk, world.root(), "1", 8, &keep).unwrap(), 7, "the open file, its log, and the strays");
    let left = world.files();
    assert_eq!(left.len(), others.len() + keep.len(), "{left:?}");
    assert!(keep.iter().all(|kept| left.contains(kept)));
}

#[test]
fn a_process_that_was_overtaken_does_not_sweep_the_files_of_the_next() {
    let mut world = World::new(&[Format::Parquet]);
    let (_writers_of_generation_7, cut) = written_past_a_cut(&mut world);
    assert_eq!(sweep(&RealDisk, world.root(), "1", 6, &HashSet::new()).unwrap(), 0);
    commit(&RealDisk, world.root(), &cut.finished).unwrap();
}

#[test]
fn a_sweep_of_nothing_is_no_error() {
    let world = World::new(&[Format::Parquet]);
    assert_eq!(sweep(&RealDisk, &world.root().join("not-there"), "a", 1, &HashSet::new()).unwrap(), 0);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 32, failure_persistence: None, ..Default::default() })]

    /// However rows, checkpoints and rolls fall, a crash leaves the rows up to the last checkpoint, each once.
    #[test]
    fn any_history_keeps_each_row_once(
        history in proptest::collection::vec((0..40_i64, proptest::bool::ANY), 1..20),
        max_rows in 1..50_u64,
        by_day in proptest::bool::ANY,
    ) {
        let mut world = World::new(BOTH);
        world.spec.roll.max_rows = max_rows;
        world.spec.partition_by = by_day.then(|| by_date("event_ts"));
        let (mut writers, mut last, mut written, mut kept) = (world.writers(), SinkCut::default(), 0, 0);
        for (rows, checkpoint) in history {
            writers.write(0, &batch(written..written + rows), world.now).unwrap();
            written += rows;
            if checkpoint {
                commit(&RealDisk, world.root(), &last.finished).unwrap();
                last = writers.cut(world.now, false).unwrap();
                kept = written;
            }
        }
        drop(writers);
        recover_all(&world, &last).unwrap();
        sweep(&RealDisk, world.root(), "1", 8, &HashSet::new()).unwrap();
        assert_eq!(world.rows(), in_both_formats(0..kept));
        assert!(world.files().iter().all(|file| !file.starts_with("_staging")));
    }
}
