//! Other versions of plugins in a running job on a real Kafka: nothing is lost, nothing counts twice, nobody waits long.
//!
//! `SWAPS` sets how many swaps in a row there are (10 unless set), `WASMILL_EVENTS` how many events (100,000),
//! `PER_TRIGGER` how many are read between two checkpoints while versions are swapped (250; 0 = all there are).
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "support/kafka.rs"]
#[allow(dead_code, reason = "not every test stops its broker")]
mod kafka_support;
#[path = "support/live.rs"]
mod live;
#[path = "support/patch.rs"]
mod patch;
#[allow(dead_code, reason = "other tests use more of it")]
mod support;

use arrow_array::RecordBatch;
use kafka_support::RealKafka;
use live::{Live, built, twin};
use patch::write_patched;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use support::job::{Job, poll_until};
use support::oracle::Expected;
use support::reader::read_topic;
use support::rows::{assert_same, cell, columns, files, parquet};
use support::topic::{
    PARTITIONS, RULES, SECOND, SETTINGS, expected, expected_of, generate, generate_to, job, timed, write_odd_records,
    write_to,
};
use tempfile::{TempDir, tempdir};
use wasmill::admin::control::{Outcome, Policy, RefusalKind};
use wasmill::clock::now_us;
use wasmill::kafka::{Admin, Settings};

/// What both versions of `page_metrics` write.
const COMMON: [&str; 8] = ["window_start", "window_end", "page", "events", "users", "sessions", "purchases", "revenue"];
/// What the second writes besides.
const ADDED: [&str; 2] = ["avg_revenue", "mobile_share"];

/// Checkpoints in quick succession, and the shortest probation.
const QUICK: [&str; 3] = ["checkpoint.interval=100ms", "swap.probation=1", "output.roll.age=1s"];

/// A window of `page_metrics` in these jobs: see `SETTINGS`.
const WINDOW_US: i64 = 60_000_000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// So slow that the backlog lasts, unless a person wants it otherwise.
fn slowly() -> String {
    format!("source.max_offsets_per_trigger={}", number("PER_TRIGGER", 250))
}

/// Shows how long workers stood still.
fn show(what: &str, mut pauses: Vec<Duration>) {
    pauses.sort_unstable();
    let at = |share: f64| pauses[((pauses.len() - 1) as f64 * share).round() as usize];
    println!("{what}: {} swaps, pause p50 {:?} p99 {:?} max {:?}", pauses.len(), at(0.5), at(0.99), at(1.0));
}

/// One after the other, each as soon as the one before is for good.
fn swaps_in_a_row(live: &Live, versions: &[&Path], swaps: u64) -> Vec<Duration> {
    let (started, before) = (Instant::now(), live.status().records);
    let mut pauses = Vec::new();
    let mut last = 0;
    for version in versions.iter().cycle().take(swaps as usize) {
        let answer = live.done(&["swap", "page_metrics", text(version)]);
        assert_eq!((answer.outcome, answer.policy), (Outcome::OnProbation, Some(Policy::Migrate)), "{answer:?}");
        let boundary = answer.boundary.unwrap().checkpoint;
        assert!(boundary > last, "boundary {boundary} after {last}");
        last = boundary;
        pauses.push(Duration::from_micros(live.status().swap_pause_us.unwrap().unsigned_abs()));
        assert_eq!(live.settle("page_metrics").digest, answer.to);
    }
    let seconds = started.elapsed().as_secs_f64();
    let status = live.status();
    let read = status.records - before;
    let lag = status.lag().unwrap();
    println!("{swaps} swaps in {seconds:.1} s; {:.0} events/s meanwhile, lag {lag}", read as f64 / seconds);
    assert!(lag > 0, "the backlog was over before the last swap");
    assert_eq!(status.swaps["page_metrics"]["on_probation"], swaps);
    assert!(!status.swaps["page_metrics"].contains_key("rolled_back"), "{:?}", status.swaps);
    pauses
}

fn many_swaps_under_a_backlog_change_no_row(bootstrap: &str, expected: &Expected) {
    let folder = tempdir().unwrap();
    let versions = ["a", "b"].map(|tag| twin(folder.path(), "page_metrics", tag));
    let job = job(bootstrap, &QUICK);
    let live = Live::start(&job, &[], &["--workers", "2", "--set", &slowly()]);
    let pauses = swaps_in_a_row(&live, &versions.each_ref().map(AsRef::as_ref), number("SWAPS", 10));
    assert!(pauses.iter().all(|pause| *pause < Duration::from_secs(5)), "{pauses:?}");
    show("page_metrics, migrate", pauses);
    job.assert_no_more_than(expected);
    live.stop();
    job.run(&["--drain", "--workers", "2"]);
    job.assert_equals(expected);
}

/// Version 2 goes on from version 1's state; version 1 cannot read version 2's, so going back each ends what it began.
fn a_version_with_more_columns_comes_and_goes(bootstrap: &str, expected: &Expected) {
    let job = job(bootstrap, &QUICK);
    let live = Live::start(&job, &[], &["--workers", "2", "--set", &slowly()]);
    let (one, two) = (built("page_metrics"), built("page_metrics_v2"));
    let mut second = Vec::new();
    for _ in 0..2 {
        let answer = live.done(&["swap", "page_metrics", text(&two)]);
        assert_eq!((answer.outcome, answer.policy), (Outcome::OnProbation, Some(Policy::Migrate)));
        assert!(answer.difference.iter().any(|line| line.contains("avg_revenue")), "{:?}", answer.difference);
        let begin = answer.boundary.unwrap().offsets;
        live.settle("page_metrics");
        // So that some windows are wholly version 2's, however many events a window has.
        let (records, watermark) = (live.status().records, live.status().watermark_us);
        let later = watermark.map_or(i64::MIN, |watermark| watermark + 5 * WINDOW_US);
        poll_until("more is read, and some windows have passed", || {
            let status = live.status();
            (status.records > records + 5_000 && status.watermark_us > Some(later)).then_some(())
        });
        let refusal = live.change(&["swap", "page_metrics", text(&one), "--policy", "migrate"]).unwrap_err();
        assert!(refusal.message.contains("cannot read the state of the version in force"), "{refusal:?}");
        let answer = live.done(&["swap", "page_metrics", text(&one)]);
        assert_eq!((answer.outcome, answer.policy), (Outcome::OnProbation, Some(Policy::Pin)));
        second.push([begin, answer.boundary.unwrap().offsets]);
        live.settle("page_metrics");
    }
    assert!(live.status().lag().unwrap() > 0, "the backlog was over before the last swap");
    live.stop();
    job.run(&["--drain", "--workers", "2"]);

    let folder = job.outputs().join("page_metrics").join("parquet");
    assert_same("page_metrics", &expected.page_metrics, &parquet(&folder, Some(&COMMON)));
    assert_same("events_raw", &expected.events_raw, &job.rows("events_raw"));
    assert_same("geo_metrics", &expected.geo_metrics, &job.rows("geo_metrics"));
    assert_same("sessions", &expected.sessions, &job.rows("sessions"));
    let mut schemas = BTreeSet::new();
    for path in files(&folder, "parquet") {
        schemas.insert(columns(path.as_path()));
    }
    let with_more = [&COMMON[..], &ADDED].concat();
    assert_eq!(
        schemas,
        [COMMON.to_vec(), with_more].map(|names| names.into_iter().map(str::to_owned).collect()).into()
    );
    both_schemas_are_read_together_by_the_columns_names(&folder, expected.page_metrics.len());
    added_columns_are_those_of_the_raw_events(&job, &second);
}

/// As `union_by_name` of DuckDB and its like read a folder: a column that a file does not have is null there.
fn both_schemas_are_read_together_by_the_columns_names(folder: &Path, rows: usize) {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let read = |path| ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<_> = files(folder, "parquet").into_iter().flat_map(read).map(Result::unwrap).collect();
    let all = arrow_schema::Schema::try_merge(batches.iter().map(|batch| {
        let schema = batch.schema();
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        arrow_schema::Schema::new(nullable.collect::<Vec<_>>())
    }));
    let all = all.expect("a column has one type in all files");
    let names: Vec<&str> = all.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), [&COMMON[..], &ADDED].concat().into_iter().collect());
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), rows);
}

/// `avg_revenue` is that of the whole window, `mobile_share` that of the events since version 2 came: in windows that
/// it has had from their first event on, that is all.
fn added_columns_are_those_of_the_raw_events(job: &Job, second: &[[BTreeMap<i32, i64>; 2]]) {
    let late: BTreeSet<String> =
        parquet(&job.outputs().join("_late/page_metrics"), Some(&["partition", "offset"])).into_iter().collect();
    // By window and page: events whose device is known, those that are mobile, and whether version 2 has had all.
    let mut windows: BTreeMap<(i64, String), (u64, u64, bool)> = BTreeMap::new();
    for row in job.rows("events_raw") {
        let (page, device, time) = (cell(&row, 5), cell(&row, 7), cell(&row, 13).parse::<i64>().unwrap());
        let (partition, offset) = (cell(&row, 15), cell(&row, 16));
        if late.contains(&format!("{partition}\u{1f}{offset}\u{1f}")) {
            continue;
        }
        let (partition, offset): (i32, i64) = (partition.parse().unwrap(), offset.parse().unwrap());
        let start = time - time.rem_euclid(RULES.page_window);
        let window = windows.entry((start, page.to_owned())).or_insert((0, 0, true));
        window.0 += u64::from(device != support::rows::NULL);
        window.1 += u64::from(device == "mobile");
        window.2 &= second.iter().any(|[from, to]| offset >= from[&partition] && offset < to[&partition]);
    }
    let (mut rows, mut whole) = (0, 0);
    for path in files(&job.outputs().join("page_metrics").join("parquet"), "parquet") {
        if columns(&path).len() == COMMON.len() {
            continue;
        }
        for row in parquet(&path, Some(&[&COMMON[..], &ADDED].concat())) {
            rows += 1;
            let number = |at: usize| cell(&row, at).parse::<f64>().ok();
            let (purchases, revenue) = (number(6).unwrap(), number(7).unwrap());
            assert_eq!(number(8), (purchases > 0.0).then(|| revenue / purchases), "{row}");
            let key = (cell(&row, 0).parse().unwrap(), cell(&row, 2).to_owned());
            let (devices, mobile, had_all) = windows[&key];
            if had_all {
                whole += 1;
                assert_eq!(number(9), (devices > 0).then(|| mobile as f64 / devices as f64), "{row}");
            }
        }
    }
    println!("{rows} rows of version 2, {whole} of them of windows that it had from the first event on");
    assert!(whole > 20 && rows > whole, "{rows} rows, {whole} whole");
}

fn another_parser_and_back_changes_no_row(bootstrap: &str, expected: &Expected) {
    let folder = tempdir().unwrap();
    let job = job(bootstrap, &QUICK);
    let live = Live::start(&job, &[], &["--workers", "2", "--set", &slowly()]);
    let other = write_patched(folder.path(), "parser", "tag:other");
    let first = live.done(&["swap", "parser", text(&other)]);
    assert_eq!((first.outcome, first.policy), (Outcome::OnProbation, None));
    live.settle("parser");
    let back = live.done(&["swap", "parser", "--digest", &first.from[..12]]);
    assert_eq!((back.outcome, &back.from, &back.to), (Outcome::OnProbation, &first.to, &first.from));
    live.settle("parser");
    let wrong = write_patched(folder.path(), "wrong", "without:page");
    let refusal = live.change(&["swap", "parser", text(&wrong)]).unwrap_err();
    assert!(refusal.kind == RefusalKind::Unacceptable && refusal.message.contains("page"), "{refusal:?}");
    assert!(live.status().lag().unwrap() > 0, "the backlog was over before the last swap");
    live.stop();
    job.run(&["--drain", "--workers", "2"]);
    job.assert_equals(expected);
}

/// How a file comes to have other bytes.
type Save = fn(&Path, &Path);

fn by_rename(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside).unwrap();
    std::fs::rename(beside, to).unwrap();
}

/// As linkers do: emptied, then written bit by bit.
fn in_place(from: &Path, to: &Path) {
    use std::io::Write;
    let bytes = std::fs::read(from).unwrap();
    let mut file = File::create(to).unwrap();
    for part in bytes.chunks(64 << 10) {
        file.write_all(part).unwrap();
        file.flush().unwrap();
    }
}

fn a_changed_file_is_swapped_in(bootstrap: &str, expected: &Expected) {
    let saves: [(&str, Save); 2] = [("renamed", by_rename), ("written in place", in_place)];
    for (how, save) in saves {
        let folder = tempdir().unwrap();
        for path in files(built("sessions").parent().unwrap(), "wasm") {
            if path.parent() == built("sessions").parent() {
                std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        let job = job(bootstrap, &QUICK);
        let plugins = [("PLUGIN_PATH", text(folder.path()))];
        let live = Live::start(&job, &plugins, &["--workers", "2", "--tap", "page_metrics", "--set", &slowly()]);
        poll_until("rows come", || live.log().contains("\npage_metrics page=").then_some(()));
        let before = live.plugin("page_metrics").digest;
        save(&built("page_metrics_v2"), &folder.path().join("page_metrics.wasm"));
        let since = Instant::now();
        poll_until("another version is in force", || (live.plugin("page_metrics").digest != before).then_some(()));
        let in_force = since.elapsed();
        poll_until("a row of it is there", || live.log().contains(" avg_revenue=").then_some(()));
        println!("{how}: in force after {in_force:?}, first row seen after {:?}", since.elapsed());
        let digest = live.settle("page_metrics").digest;
        live.stop();
        // The next start has the version in force and its file: nothing is to be swapped again.
        job.start_in(&plugins, &["--drain", "--workers", "2"]).wait();
        let log = job.log();
        assert_eq!(log.matches("its file has changed: swapped").count(), 0, "{log}");
        let rows = parquet(&job.outputs().join("page_metrics").join("parquet"), Some(&COMMON));
        assert_same("page_metrics", &expected.page_metrics, &rows);
        let history = job.history();
        let swap = history.iter().find(|entry| entry["action"] == "swap").unwrap();
        assert_eq!((swap["who"].as_str(), swap["to"].as_str()), (Some("file"), Some(digest.as_str())), "{swap}");
    }
}

/// What a job has whose `page_metrics` is the patchable aggregate.
struct Patched {
    topic: String,
    folder: TempDir,
    argument: String,
}

impl Patched {
    /// On a topic of its own, where some events of two hours ago are: no window closes before more come.
    fn new(bootstrap: &str, topic: &str) -> Self {
        let folder = tempdir().unwrap();
        let plugin = write_patched(folder.path(), "in-force", "tag:in-force");
        let admin = Settings { bootstrap: bootstrap.into(), topic: topic.into(), ..Settings::default() };
        Admin::new(&admin).unwrap().create_topic(PARTITIONS, 1).unwrap();
        let time = now_us() - 7200 * SECOND;
        let event =
            |n| timed(time, &format!(r#""event_id":"early-{n}","user_id":"u","event_type":"click","page":"/""#));
        let events: Vec<_> = (0..8).map(|n| (n % PARTITIONS, Some(event(n)))).collect();
        write_to(bootstrap, topic, time, &events);
        let argument = format!("page_metrics={}", text(&plugin));
        Self { topic: topic.to_owned(), folder, argument }
    }

    fn job(&self, bootstrap: &str) -> Job {
        Job::new(bootstrap, &self.topic, &[&SETTINGS[..], &QUICK].concat())
    }

    fn start(&self, job: &Job, per_trigger: u64) -> Live {
        let slowly = format!("source.max_offsets_per_trigger={per_trigger}");
        Live::start(job, &[], &["--workers", "2", "--plugin", &self.argument, "--set", &slowly])
    }

    /// Reads the rest, and compares all that there is: of `page_metrics` the count of each window.
    fn assert_equals(&self, job: &Job, expected: &Expected) {
        job.run(&["--drain", "--workers", "2", "--plugin", &self.argument]);
        let counts = |row: &String| row.split_inclusive('\u{1f}').take(4).collect::<String>();
        let mut wanted: Vec<String> = expected.page_metrics.iter().map(counts).collect();
        wanted.sort_unstable();
        let found = parquet(&job.outputs().join("page_metrics").join("parquet"), Some(&COMMON[..4]));
        assert_same("page_metrics", &wanted, &found);
        assert_same("events_raw", &expected.events_raw, &job.rows("events_raw"));
        assert_same("geo_metrics", &expected.geo_metrics, &job.rows("geo_metrics"));
        assert_same("sessions", &expected.sessions, &job.rows("sessions"));
        let dead = parquet(&job.outputs().join("_dead_letters"), Some(&["partition", "offset"]));
        assert_same("_dead_letters", &expected.dead_letters, &dead);
    }
}

/// Rows of `page_metrics` that the job has made.
fn rows_out(live: &Live) -> u64 {
    live.status().aggregates.iter().find(|aggregate| aggregate.name == "page_metrics").unwrap().rows_out
}

/// The event, its window and page.
fn find(expected: &Expected, id: &str) -> (i64, String) {
    let row = expected.events_raw.iter().find(|row| cell(row, 0) == id).expect("the event is in the topic");
    let time: i64 = cell(row, 13).parse().unwrap();
    (time - time.rem_euclid(RULES.page_window), cell(row, 5).to_owned())
}

/// The id of an event in the middle of 100,000: the generator gives the n-th event the same one in each topic.
fn planted(bootstrap: &str) -> String {
    let topic = "probe";
    generate_to(bootstrap, topic, 50_000, 1, "1s", &["--create", "--partitions", "4"]);
    let [record] = &read_topic(bootstrap, topic, PARTITIONS)[..] else { panic!("one record is wanted") };
    let event: serde_json::Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
    event["event_id"].as_str().unwrap().to_owned()
}

fn a_shadow_finds_one_wrong_event_among_100_000(bootstrap: &str, planted: &str) {
    let patched = Patched::new(bootstrap, "shadowed");
    let job = patched.job(bootstrap);
    let wrong = write_patched(patched.folder.path(), "wrong", &format!("wrong-on:{planted}"));
    let live = patched.start(&job, 2_000);
    let answer = live.done(&["shadow", "page_metrics", text(&wrong)]);
    assert_eq!(answer.outcome, Outcome::Shadowing, "{answer:?}");
    assert_eq!(live.shadow("page_metrics").since_checkpoint, answer.boundary.as_ref().unwrap().checkpoint);
    let refusal = live.change(&["swap", "page_metrics", text(&built("page_metrics"))]).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict, "{refusal:?}");
    generate_to(bootstrap, &patched.topic, 0, 100_000, "1h", &[]);
    let before = poll_until("windows are compared", || Some(live.shadow("page_metrics")).filter(|it| it.compared > 50));
    live.stop();
    // After a restart it goes on counting.
    let live = patched.start(&job, 2_000);
    let after = live.shadow("page_metrics");
    assert!(after.compared >= before.compared && after.shadow == answer.to, "{before:?} {after:?}");
    live.catch_up();
    let report = live.shadow("page_metrics");
    assert_eq!(report.compared, rows_out(&live), "every window of each page that was closed");
    assert_eq!((report.different, report.only_current, report.only_shadow), (1, 0, 0), "{report:?}");
    assert_eq!(report.equal, report.compared - 1);
    let expected = expected_of(bootstrap, &patched.topic);
    let (start, page) = find(&expected, planted);
    let [example] = &report.examples[..] else { panic!("one example is wanted, not {:?}", report.examples) };
    assert_eq!((example.window_start_us, example.window_end_us), (start, start + RULES.page_window));
    assert_eq!(example.key, BTreeMap::from([("page".to_owned(), page)]));
    assert_eq!(example.column.as_deref(), Some("amount"));
    let amount = |value: &Option<String>| value.as_ref().unwrap().parse::<i64>().unwrap();
    assert_eq!(amount(&example.current) + 1, amount(&example.shadow));

    let promoted = live.done(&["promote", "page_metrics"]);
    assert_eq!((promoted.outcome, &promoted.to), (Outcome::OnProbation, &answer.to));
    let plugin = live.settle("page_metrics");
    assert!(plugin.digest == answer.to && plugin.shadow.is_none(), "{plugin:?}");
    live.stop();
    patched.assert_equals(&job, &expected);
}

fn a_shadow_of_some_keys_or_one_that_traps_leaves_the_rest_alone(bootstrap: &str, planted: &str) {
    let patched = Patched::new(bootstrap, "shadowed-2");
    let job = patched.job(bootstrap);
    let folder = patched.folder.path();
    // So few at a time that most is still to be read when the second shadow begins, on a busy machine, too.
    let live = patched.start(&job, 1_000);
    live.done(&["shadow", "page_metrics", text(&write_patched(folder, "trap", &format!("trap-on:{planted}")))]);
    generate_to(bootstrap, &patched.topic, 0, 100_000, "1h", &[]);
    let report = poll_until("the shadow fails", || Some(live.shadow("page_metrics")).filter(|it| it.failed.is_some()));
    assert_eq!((report.different, report.only_current, report.only_shadow), (0, 0, 0), "{report:?}");
    let refusal = live.change(&["promote", "page_metrics"]).unwrap_err();
    assert!(refusal.kind == RefusalKind::Conflict && refusal.message.contains("does not run any more"), "{refusal:?}");
    assert_eq!(live.done(&["discard", "page_metrics"]).outcome, Outcome::Discarded);
    assert!(live.plugin("page_metrics").shadow.is_none());

    let before = rows_out(&live);
    let some = write_patched(folder, "some", "tag:some");
    live.done(&["shadow", "page_metrics", text(&some), "--key-sample", "0.3"]);
    live.catch_up();
    let report = live.shadow("page_metrics");
    let all = rows_out(&live) - before;
    assert_eq!((report.equal, report.options.key_sample), (report.compared, Some(0.3)), "{report:?}");
    assert!(report.compared > 0 && report.compared < all * 7 / 10, "{} of {all} compared", report.compared);
    let refusal = live.change(&["promote", "page_metrics"]).unwrap_err();
    assert!(refusal.message.contains("0.3 of the keys only"), "{refusal:?}");
    live.done(&["discard", "page_metrics"]);
    let status = live.status();
    assert!(status.aggregates.iter().all(|aggregate| aggregate.out_of_service.is_none() && aggregate.set_aside == 0));
    live.stop();
    patched.assert_equals(&job, &expected_of(bootstrap, &patched.topic));
}

/// The broker of all tests here that run at the same time: starting one takes seconds.
fn broker() -> Option<Arc<RealKafka>> {
    static BROKER: Mutex<Weak<RealKafka>> = Mutex::new(Weak::new());
    let mut shared = BROKER.lock().unwrap();
    if let Some(broker) = shared.upgrade() {
        return Some(broker);
    }
    let broker = Arc::new(RealKafka::start()?);
    *shared = Arc::downgrade(&broker);
    Some(broker)
}

/// Says how long a part took.
fn timed_part(name: &str, part: impl FnOnce()) {
    let started = Instant::now();
    part();
    println!("{:6.1} s {name}", started.elapsed().as_secs_f64());
}

#[test]
fn versions_change_on_a_real_kafka_and_no_row_does() {
    let Some(broker) = broker() else { return };
    let bootstrap = broker.bootstrap();
    generate(&bootstrap, 0, number("WASMILL_EVENTS", 100_000), "2h", &["--create", "--partitions", "4"]);
    write_odd_records(&bootstrap);
    let expected = expected(&bootstrap);
    timed_part("many swaps", || many_swaps_under_a_backlog_change_no_row(&bootstrap, &expected));
    timed_part("more columns, and back", || a_version_with_more_columns_comes_and_goes(&bootstrap, &expected));
    timed_part("another parser, and back", || another_parser_and_back_changes_no_row(&bootstrap, &expected));
    timed_part("changed files", || a_changed_file_is_swapped_in(&bootstrap, &expected));
}

#[test]
fn shadows_on_a_real_kafka_find_what_differs_and_touch_nothing() {
    let Some(broker) = broker() else { return };
    let bootstrap = broker.bootstrap();
    let planted = planted(&bootstrap);
    timed_part("a wrong shadow", || a_shadow_finds_one_wrong_event_among_100_000(&bootstrap, &planted));
    timed_part("a shadow that traps, and one of some keys", || {
        a_shadow_of_some_keys_or_one_that_traps_leaves_the_rest_alone(&bootstrap, &planted);
    });
}

#[test]
fn another_generator_goes_on_where_the_one_before_was() {
    let folder = tempdir().unwrap();
    let job = Job::new("", "events", &["time.watermark_delay=1s", "checkpoint.interval=300ms"]);
    let live = Live::start(&job, &[], &["--workers", "1", "--set", "generator.rate=2000"]);
    let other = twin(folder.path(), "clickstream_generator", "other");
    let answer = live.done(&["swap", "generator", text(&other)]);
    assert_eq!((answer.outcome, answer.policy), (Outcome::InForce, None), "{answer:?}");
    assert_ne!(answer.from, answer.to);
    let records = live.status().records;
    poll_until("it makes events", || (live.status().records > records + 2_000).then_some(()));
    let again = live.done(&["swap", "generator", "--digest", &answer.to]);
    assert_eq!(again.outcome, Outcome::Unchanged);
    let refusal = live.change(&["swap", "generator", text(&built("sessions"))]).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unacceptable, "{refusal:?}");
    live.stop();
    let ids: Vec<String> = parquet(&job.outputs().join("events_raw"), Some(&["event_id"]));
    assert!(ids.len() > 2_000 && ids.windows(2).all(|pair| pair[0] != pair[1]), "no event is made twice");
    assert!(job.log().contains("the accounting closes"));
}
