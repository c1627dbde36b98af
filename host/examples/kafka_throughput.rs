//! How fast records go into and out of a real broker: `kafka_throughput BOOTSTRAP [COUNT]`, on a new topic of 4 partitions.
#![expect(clippy::print_stdout, reason = "the numbers are the product")]

use arrow_array::BinaryArray;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use wasmill::generate::{Destination, Options, RecordSource, run};
use wasmill::kafka::{Admin, Poll, Producer, ProducerSettings, Settings, Source};

/// The size of an event of the reference job.
const EVENT_BYTES: usize = 290;

/// Kernel clock ticks a second, the same on every Linux that Rust knows.
const TICKS: f64 = 100.0;

/// The same bytes again and again: costs next to nothing to make.
struct Same;

impl RecordSource for Same {
    fn generate(&mut self, first: u64, times_us: &[i64]) -> Result<(BinaryArray, Option<BinaryArray>), String> {
        let value = [b'x'; EVENT_BYTES];
        let values = BinaryArray::from_iter_values(times_us.iter().map(|_| value));
        let keys = (first..).take(times_us.len()).map(|n| (n % 10_007).to_be_bytes());
        Ok((values, Some(BinaryArray::from_iter_values(keys))))
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let count: u64 = arguments.next().map_or(Ok(1_000_000), |count| count.parse())?;
    let topic = format!("throughput-{}", std::process::id());
    let settings = Settings { bootstrap, topic, client_id: "throughput".to_owned(), ..Settings::default() };
    let admin = Admin::new(&settings)?;
    admin.create_topic(4, 1)?;
    admin.wait_for_topic(None, &mut |why| println!("{why}"), &AtomicBool::new(false))?;
    for acks in ["1", "all"] {
        produce(&settings, acks, count)?;
    }
    for workers in [1, 2] {
        consume(&settings, workers, 2 * count)?;
    }
    Ok(admin.delete_topic()?)
}

fn produce(settings: &Settings, acks: &str, count: u64) -> anyhow::Result<()> {
    let settings = ProducerSettings {
        bootstrap: settings.bootstrap.clone(),
        topic: settings.topic.clone(),
        client_id: settings.client_id.clone(),
        acks: acks.to_owned(),
        compression: "none".to_owned(),
        passthrough: BTreeMap::new(),
    };
    let producer = Producer::new(&settings, 0, |_| {})?;
    let options = Options { rate: 0.0, count: Some(count), first: 0, start_time_us: Some(1_000_000), span: None };
    let meter = Meter::start();
    let mut to = Destination::Topic(&producer);
    let report =
        run(&mut Same, &mut to, &options, None, &|| 0, &AtomicBool::new(false), &mut |text| println!("{text}"))?;
    anyhow::ensure!(report.failed == 0, "{} records failed", report.failed);
    meter.tell(&format!("produce, acks={acks}"), count);
    Ok(())
}

fn consume(settings: &Settings, workers: i32, count: u64) -> anyhow::Result<()> {
    let admin = Admin::new(settings)?;
    let ends = admin.end_offsets(&[0, 1, 2, 3])?;
    anyhow::ensure!(ends.values().sum::<i64>() as u64 == count, "records are missing: {ends:?}");
    let meter = Meter::start();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..workers)
            .map(|worker| {
                let mine: Vec<(i32, i64)> = (0..4).filter(|p| p % workers == worker).map(|p| (p, 0)).collect();
                let ends = &ends;
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut source = Source::new(settings, &mine, &std::collections::BTreeMap::new())?;
                    while mine.iter().any(|(partition, _)| !source.reached(*partition, ends[partition])) {
                        let found = source.poll(8192, 8 << 20, Duration::from_secs(1))?;
                        anyhow::ensure!(!matches!(found, Poll::DataLoss { .. }), "{found:?}");
                    }
                    Ok(())
                })
            })
            .collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("a reader does not panic"))
    })?;
    meter.tell(&format!("consume, {workers} workers"), count);
    Ok(())
}

/// Wall time and this process's CPU time.
struct Meter {
    started: Instant,
    cpu: f64,
}

impl Meter {
    fn start() -> Self {
        Self { started: Instant::now(), cpu: cpu_seconds() }
    }

    fn tell(&self, what: &str, count: u64) {
        let wall = self.started.elapsed().as_secs_f64();
        let cpu = cpu_seconds() - self.cpu;
        let (rate, cost) = (count as f64 / wall, cpu / count as f64 * 1e9);
        println!("{what}: {count} records in {wall:.2} s, {rate:.0} a second, {cost:.0} CPU ns each");
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses: fields 14 and 15 of proc(5) are user and system time.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS
}
