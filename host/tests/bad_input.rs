//! What bad records get: dead letters, while everything else is counted exactly once.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{Job, click, write, write_keyed};
use wasmill::kafka::EmbeddedBroker;

/// A click as text, for tests that spoil it.
fn good() -> String {
    String::from_utf8(click(0, "/a", 0)).unwrap()
}

fn with(field: &str, value: &str) -> Vec<u8> {
    let mut json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&good()).unwrap();
    json.insert(field.to_owned(), serde_json::from_str(value).unwrap());
    serde_json::Value::Object(json).to_string().into_bytes()
}

fn without(field: &str) -> Vec<u8> {
    let mut json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&good()).unwrap();
    json.remove(field);
    serde_json::Value::Object(json).to_string().into_bytes()
}

/// Payloads that are no events, with the reason each gets.
fn bad() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("malformed", b"hello".to_vec()),
        ("malformed", good().as_bytes()[..60].to_vec()),
        ("malformed", Vec::new()),
        ("malformed", b"{\"user_id\":\"\xFF\xFE\"}".to_vec()),
        ("malformed", "[".repeat(100_000).into_bytes()),
        ("malformed", b"[]".to_vec()),
        ("malformed", [0, 1, 2, 3, 0xFF].to_vec()),
        ("invalid", with("user_id", "5")),
        ("invalid", with("page", "{\"path\":\"/a\"}")),
        ("invalid", good().replacen('{', "{\"page\":\"/b\",", 1).into_bytes()),
        ("missing", without("user_id")),
        ("missing", with("page", "null")),
        ("missing", b"{}".to_vec()),
        ("too_far_ahead", click(0, "/a", 3601)),
    ]
}

/// Records with what no column takes, and what is kept of it.
fn odd() -> Vec<(String, Vec<u8>)> {
    let before = |fields: &str| format!("{{{fields},{}", &good()[1..]).into_bytes();
    let deep = "[".repeat(100_000);
    let cut = format!("{{\"extra\":\"{}… (200001 bytes)\"}}", &deep[..160]);
    let kept = |fields: &str| (format!("{{{fields}}}"), before(fields));
    vec![
        ("{\"revenue\":\"much\"}".to_owned(), with("revenue", "\"much\"")),
        (cut, before(&format!("\"extra\":{deep}1{}", "]".repeat(100_000)))),
        ("{\"score\":\"NaN\"}".to_owned(), before("\"score\":NaN")),
        ("{\"agent\":\"\\\"cut \\\\ud83d\\\"\"}".to_owned(), before("\"agent\":\"cut \\ud83d\"")),
        kept("\"x\":1,\"x\":2"),
        kept("\"cart\":{\"items\":[1, 2]}"),
    ]
}

#[test]
fn what_no_column_takes_is_kept_beside_the_row() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let (kept, records): (Vec<String>, Vec<Vec<u8>>) = odd().into_iter().unzip();
    let records: Vec<_> = records.into_iter().chain([good().into_bytes()]).map(Some).collect();
    write(broker.bootstrap(), "events", 0, &records);
    let job = Job::clicks(broker.bootstrap(), "events");
    let end = job.run(&["--drain"]).expect(0);
    assert_eq!((job.count("events_raw"), job.counted()), (records.len(), records.len() as u64), "{}", end.stderr);
    // Null is shown as nothing.
    let mut wanted = [kept, vec![String::new()]].concat();
    let mut found = job.column("events_raw", "rescue");
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

/// Two clicks whose times cannot be read, one without a time, and one like all others.
fn times_of_all_kinds() -> Vec<Option<Vec<u8>>> {
    let unreadable = [with("event_time", "\"12 o'clock\""), with("event_time", "{}")];
    unreadable.into_iter().chain([without("event_time"), good().into_bytes()]).map(Some).collect()
}

#[test]
fn a_time_that_cannot_be_read_is_the_brokers_and_its_text_is_kept_and_told() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &times_of_all_kinds());
    let job = Job::clicks(broker.bootstrap(), "events");
    let end = job.run(&["--drain", "--set", "alarms.least=1"]).expect(0);
    assert_eq!((job.count("events_raw"), job.counted(), job.count("_dead_letters")), (4, 4, 0), "{}", end.stderr);
    let mut kept = job.column("events_raw", "rescue");
    kept.sort();
    assert_eq!(kept, ["", "", "{\"event_time\":\"12 o'clock\"}", "{\"event_time\":{}}"]);
    assert!(end.stderr.contains("2 of 4 rows have an event time that cannot be read"), "{}", end.stderr);
}

#[test]
fn a_time_that_cannot_be_read_is_a_dead_letter_where_the_pipeline_says_so() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    write(broker.bootstrap(), "events", 0, &times_of_all_kinds());
    let job = Job::clicks(broker.bootstrap(), "events");
    let end = job.run(&["--drain", "--set", "time.unreadable=dead-letter"]).expect(0);
    assert_eq!((job.count("events_raw"), job.counted()), (2, 2), "{}", end.stderr);
    assert_eq!(job.column("_dead_letters", "reason"), ["unreadable_time"; 2]);
    assert!(job.column("_dead_letters", "message")[0].contains("12 o'clock"));
}

#[test]
fn bad_records_become_dead_letters_as_they_were_sent_and_the_rest_is_counted() {
    let broker = EmbeddedBroker::start("events", 2).unwrap();
    let bad = bad();
    // Good and bad in turn, a tombstone, times that are none; what is large has a partition of its own.
    let mut records: Vec<Option<Vec<u8>>> = Vec::new();
    for (n, (_, bytes)) in bad.iter().enumerate() {
        records.extend([Some(bytes.clone()), Some(click(n, "/a", 1))]);
    }
    records.push(None);
    records.extend([without("event_time"), with("event_time", "\"yesterday\""), with("event_time", "{}")].map(Some));
    records.push(Some(click(99, "/a", 3600)));
    let large = vec![b'x'; 5_000_000];
    write_keyed(broker.bootstrap(), "events", 0, Some(b"the key"), &records);
    write(broker.bootstrap(), "events", 1, &[Some(large.clone())]);
    let job = Job::clicks(broker.bootstrap(), "events");
    let end = job.run(&["--drain"]).expect(0);

    let good = bad.len() + 4;
    assert_eq!((job.count("events_raw"), job.counted()), (good, good as u64), "{}", end.stderr);
    let mut wanted: Vec<_> = bad.iter().enumerate().map(|(n, (why, bytes))| (2 * n, *why, bytes.clone())).collect();
    wanted.push((0, "malformed", large));
    let sent = wanted.into_iter().map(|(offset, why, bytes)| (offset.to_string(), why.to_owned(), bytes));
    let mut sent: Vec<(String, String, Vec<u8>)> = sent.collect();
    let mut kept = Vec::new();
    let offsets = job.column("_dead_letters", "offset");
    let reasons = job.column("_dead_letters", "reason");
    let values = job.bytes("_dead_letters", "value");
    for ((offset, reason), value) in offsets.into_iter().zip(reasons).zip(values) {
        kept.push((offset, reason, value.unwrap()));
    }
    sent.sort();
    kept.sort();
    for (sent, kept) in sent.iter().zip(&kept) {
        assert_eq!((&sent.0, &sent.1, sent.2.len()), (&kept.0, &kept.1, kept.2.len()), "{sent:.100?}");
    }
    assert!(sent == kept, "{} sent, {} kept", sent.len(), kept.len());
    let keys = job.bytes("_dead_letters", "key").into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(keys, vec![b"the key".to_vec(); bad.len()]);
    end.says(&[
        "34 records, 18 rows (3 with the broker's time), 15 dead letters",
        "(invalid 3, malformed 8, missing 3, too_far_ahead 1), 1 filtered, 0 late; the accounting closes",
    ]);
}

#[test]
fn a_running_pipeline_counts_dead_letters_by_reason_in_its_status() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let records = [Some(b"hello".to_vec()), None, Some(without("user_id")), Some(without("event_time"))];
    write(broker.bootstrap(), "events", 0, &records);
    let job = Job::clicks(broker.bootstrap(), "events");
    let running = job.start(&[]);
    let url = running.url();
    let mut status = serde_json::Value::Null;
    job::until("four records are read", || {
        let answer = job::run(&["status", "--json", "--url", &url]);
        status = serde_json::from_str(&answer.stdout).unwrap_or_default();
        status["records"] == 4 && !status["checkpoint"].is_null()
    });
    assert_eq!((&status["dead_letters"]["malformed"], &status["dead_letters"]["missing"]), (&1.into(), &1.into()));
    assert_eq!((&status["filtered"], &status["broker_time_rows"], &status["rows"]), (&1.into(), &1.into(), &1.into()));
    running.stop().expect(0);
}
