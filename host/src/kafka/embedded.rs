//! A broker inside this process, for demos and tests: librdkafka's mock cluster behind the same door.
//!
//! It speaks Kafka's protocol on a loopback port to any number of clients, and forgets everything when it is dropped.
//! It keeps about [`EMBEDDED_PARTITION_BYTES`] a partition and removes the oldest records beyond, read or not: whoever
//! writes must be paced by who reads. It knows no offsets by time, no record removal and no new partitions.

use super::{Error, Result};
use rdkafka::mocking::MockCluster;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// What the embedded broker keeps of each partition (`rdkafka_mock.c`: 5 MiB or 100,000 record batches).
pub const EMBEDDED_PARTITION_BYTES: usize = 5 << 20;

/// A running embedded broker with one topic. Dropping it stops it.
pub struct EmbeddedBroker {
    bootstrap: String,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Reachable(bool, SyncSender<()>),
}

impl EmbeddedBroker {
    /// Starts a broker on a free loopback port, with this topic.
    ///
    /// # Errors
    /// `Fatal` where the broker or the topic cannot be made.
    pub fn start(topic: &str, partitions: i32) -> Result<Self> {
        let (orders, to_do) = channel::<Order>();
        let (ready, started) = sync_channel(1);
        let topic = topic.to_owned();
        // The mock cluster may not change threads.
        let run = move || {
            let cluster = match MockCluster::new(1).and_then(|cluster| {
                cluster.create_topic(&topic, partitions, 1)?;
                Ok(cluster)
            }) {
                Ok(cluster) => cluster,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            let _ = ready.send(Ok(cluster.bootstrap_servers()));
            for Order::Reachable(reachable, done) in to_do {
                let answer = if reachable { cluster.broker_up(-1) } else { cluster.broker_down(-1) };
                if let Err(error) = answer {
                    tracing::warn!(%error, "embedded broker");
                }
                let _ = done.send(());
            }
        };
        let thread = std::thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(run)
            .map_err(|error| Error::Fatal(format!("the embedded broker has no thread: {error}")))?;
        let bootstrap = started
            .recv()
            .map_err(|_| Error::Fatal("the embedded broker did not start".to_owned()))?
            .map_err(|error| Error::Fatal(format!("the embedded broker did not start: {error}")))?;
        Ok(Self { bootstrap, orders: Some(orders), thread: Some(thread) })
    }

    /// Where clients find it: `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Cuts every connection and takes no new one, or takes connections again. What it holds stays.
    pub fn set_reachable(&self, reachable: bool) {
        let (done, wait) = sync_channel(1);
        if let Some(orders) = &self.orders
            && orders.send(Order::Reachable(reachable, done)).is_ok()
        {
            let _ = wait.recv();
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
