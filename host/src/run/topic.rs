//! The topic at the start of an attempt: its partitions, where to begin in each and where to end, and those that come later.

use super::{Attempt, sleep_unless};
use crate::driver::{GONE_AFTER, lose_partition};
use crate::failure::Failure;
use crate::kafka::{self, Admin, Looker, Sight, Start};
use crate::parts::Parts;
use crate::recovery::Beginning;
use crate::sink::StagedFile;
use crate::store::Manifest;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the topic is asked for new partitions; the default of Kafka's own clients is 5 minutes.
const DISCOVER_EVERY: Duration = Duration::from_secs(10);

impl Attempt<'_> {
    /// Where to begin in each partition that the topic has.
    pub(super) fn beginning(
        &self,
        admin: &Admin,
        manifest: Option<Manifest>,
        held: Vec<StagedFile>,
    ) -> Result<Beginning, Failure> {
        let topic_partitions = self.partitions(admin, manifest.as_ref())?;
        // Partitions that came since the last checkpoint are read from their beginning.
        let start = if manifest.is_some() { &Start::Earliest } else { &self.options.start };
        let mut beginning = Beginning::of(manifest, held);
        self.mend(&mut beginning);
        for (partition, next_offset) in beginning.leave_out_but(&topic_partitions) {
            lose_partition(partition, next_offset, self.options.fail_on_data_loss)?;
        }
        let new: Vec<i32> = topic_partitions.into_iter().filter(|p| !beginning.partitions.contains_key(p)).collect();
        for (partition, offset) in admin.start_offsets(start, &new)? {
            beginning.add(partition, offset);
        }
        Ok(beginning)
    }

    /// The topic's partitions, as soon as it is there. A run that is to end waits for no topic that it has read before and
    /// that is gone: none of its partitions are there.
    fn partitions(&self, admin: &Admin, manifest: Option<&Manifest>) -> Result<Vec<i32>, Failure> {
        let read: BTreeSet<i32> = manifest.iter().flat_map(|m| &m.partitions).map(|state| state.partition).collect();
        if self.options.until_caught_up && !read.is_empty() {
            let (mut looker, began) = (Looker::new(&self.options.kafka)?, Instant::now());
            let gone = |found: &BTreeMap<i32, Sight>| found.values().all(|sight| *sight == Sight::Gone);
            while looker.look(&read).is_ok_and(|found| !found.is_empty() && gone(&found)) {
                if began.elapsed() >= GONE_AFTER {
                    return Ok(Vec::new());
                }
                self.view.wait("waiting for kafka: the topic is gone");
                sleep_unless(self.stop, Duration::from_secs(1));
            }
        }
        let mut on_wait = |what: &str| self.view.wait(&format!("waiting for kafka: {what}"));
        Ok(admin.wait_for_topic(self.wait, &mut on_wait, self.stop)?)
    }
}

/// Where each partition ends now, records behind open transactions included.
pub(super) fn ends(looker: &mut Looker, beginning: &Beginning) -> Result<BTreeMap<i32, i64>, Failure> {
    let partitions = beginning.partitions.keys().copied().collect();
    let found = looker.look(&partitions)?;
    let end = |&partition: &i32| match found.get(&partition) {
        Some(Sight::End(end)) => Ok((partition, *end)),
        _ => Err(kafka::Error::Refused(format!("the end of a partition is not known partition={partition}")).into()),
    };
    partitions.iter().map(end).collect()
}

/// Asks the topic for new partitions from time to time, until the second part is dropped.
pub(super) fn discover(
    parts: &Arc<Parts>,
    admin: Admin,
    ends_by_itself: bool,
) -> (Receiver<Vec<(i32, i64)>>, Sender<()>) {
    let (found, discovered) = unbounded();
    let (alive, gone) = bounded::<()>(0);
    if ends_by_itself {
        return (discovered, alive);
    }
    let look = move || {
        while gone.recv_timeout(DISCOVER_EVERY) == Err(RecvTimeoutError::Timeout) {
            let partitions = admin.partitions().and_then(|p| admin.start_offsets(&Start::Earliest, &p));
            match partitions {
                Ok(offsets) => {
                    if found.send(offsets.into_iter().collect()).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::debug!(%error, "the topic's partitions are not known just now"),
            }
        }
    };
    if let Err(error) = parts.start("discovery", look) {
        tracing::warn!(%error, "new partitions will not be found");
    }
    (discovered, alive)
}
