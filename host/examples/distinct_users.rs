//! Fills a topic with one event each of many users, to see what open sessions take: `distinct_users BOOTSTRAP TOPIC COUNT`.
#![expect(clippy::print_stdout, reason = "what it does is the product")]

use anyhow::Context;
use arrow_array::BinaryArray;
use chrono::{DateTime, SecondsFormat};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use wasmill::generate::{Destination, Options, RecordSource, run};
use wasmill::kafka::{Admin, Producer, ProducerSettings, Settings};

/// The first event's time: 2026-01-01T00:00:00Z. All lie within ten minutes, in order.
const START_US: i64 = 1_767_225_600_000_000;

/// Event `n` is user `n`'s only one.
struct Users;

impl RecordSource for Users {
    fn generate(&mut self, first: u64, times_us: &[i64]) -> Result<(BinaryArray, Option<BinaryArray>), String> {
        let event = |(user, us): (u64, &i64)| {
            let time = DateTime::from_timestamp_micros(*us).unwrap_or_default();
            let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
            format!(
                r#"{{"event_time":"{time}","user_id":"user_{user:08}","event_type":"view","page":"/","revenue":1.5}}"#
            )
        };
        Ok((BinaryArray::from_iter_values((first..).zip(times_us).map(event)), None))
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, topic, count] = &arguments[..] else { anyhow::bail!("distinct_users BOOTSTRAP TOPIC COUNT") };
    let count: u64 = count.parse().context("COUNT is a number")?;
    let settings = Settings { bootstrap: bootstrap.clone(), topic: topic.clone(), ..Settings::default() };
    let admin = Admin::new(&settings)?;
    admin.create_topic(4, 1)?;
    admin.wait_for_topic(None, &mut |why| println!("{why}"), &AtomicBool::new(false))?;
    let producer = ProducerSettings {
        bootstrap: settings.bootstrap,
        topic: settings.topic,
        client_id: "distinct-users".to_owned(),
        acks: "1".to_owned(),
        compression: "lz4".to_owned(),
        passthrough: BTreeMap::new(),
    };
    let producer = Producer::new(&producer, 0, |_| {})?;
    let span = Some(Duration::from_mins(10));
    let options = Options { rate: 0.0, count: Some(count), first: 0, start_time_us: Some(START_US), span };
    let mut to = Destination::Topic(&producer);
    let stop = AtomicBool::new(false);
    let report = run(&mut Users, &mut to, &options, None, &|| 0, &stop, &mut |text| println!("{text}"))?;
    anyhow::ensure!(report.failed == 0, "{} records failed", report.failed);
    println!("{count} users in {topic}");
    Ok(())
}
