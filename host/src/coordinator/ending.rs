//! How a run ends by itself: when everything was read, or when what is left waits for transactions for too long.

use super::{Coordinator, End, Published, Waiting};
use crate::clock;
use crate::failure::Failure;
use crate::shared::{Command, Unread, lock};
use std::time::Instant;
use wasmill_pipeline::time::NOTHING_SEEN;
use wasmill_pipeline::time::ending::end;

impl Coordinator {
    /// Ends the run, if there is a reason to.
    pub(super) fn end(&mut self) -> Result<Option<End>, Failure> {
        if self.caught_up == self.commands.len() {
            return self.end_caught_up().map(Some);
        }
        let Some(what) = self.waits_for() else {
            self.waiting = None;
            return Ok(None);
        };
        let since = match self.waiting {
            Some((before, since)) if before == what => since,
            _ => self.waiting.insert((what, Instant::now())).1,
        };
        let longest = match what {
            Waiting::Transactions => self.wait_for_transactions,
            Waiting::Brokers => self.wait_for_broker,
        };
        if longest.is_none_or(|longest| since.elapsed() < longest) {
            return Ok(None);
        }
        let end = self.unread(what);
        // Nothing is closed beyond what is over: the records may still come, and the next run is to find their windows.
        self.phase("stopping");
        self.last_cut()?;
        Ok(Some(end))
    }

    /// What alone is left to wait for, in a run that ends by itself.
    fn waits_for(&self) -> Option<Waiting> {
        let (mut workers, mut what) = (0, Waiting::Transactions);
        for standing in &self.shared.standing {
            let standing = lock(standing);
            let away = standing.trouble.is_some() && !standing.left.is_empty();
            if away {
                what = Waiting::Brokers;
            }
            workers += usize::from(away || standing.held);
        }
        (workers > 0 && self.caught_up + workers == self.commands.len()).then_some(what)
    }

    /// The end of a run that did not read everything.
    fn unread(&self, what: Waiting) -> End {
        let standings = self.shared.standings();
        let left: Vec<Unread> = standings.iter().flat_map(|standing| standing.left.iter().copied()).collect();
        if what == Waiting::Transactions {
            return End::Unread(left);
        }
        let troubles = standings.iter().filter_map(|standing| standing.trouble.clone());
        let missing: Vec<String> = left.iter().map(ToString::to_string).chain(troubles).collect();
        End::Away(missing.join(", "))
    }

    fn end_caught_up(&mut self) -> Result<End, Failure> {
        // After this cut no row is under way, so that all workers can close up to the same watermark: what a run that
        // ends by itself commits does not depend on who was quicker.
        let cut = self.cut()?;
        if self.drain {
            self.phase("draining");
            self.tell_all(|| Command::Drain(cut.open_until))?;
            lock(&self.shared.watermarks).raise(cut.open_until);
        } else {
            let reached = end(&mut lock(&self.shared.watermarks), &cut.newest, self.idle_timeout_us);
            self.tell_all(|| Command::Close(reached))?;
        }
        self.checkpointer.confirm_next();
        let last = self.last_cut()?;
        self.tell_what_stays_open(&last);
        Ok(End::CaughtUp)
    }

    /// Tells people what waits for the next run, and which partition keeps it back.
    fn tell_what_stays_open(&self, last: &Published) {
        let names = self.assembly.outputs.in_force();
        let open = names.iter().zip(&last.open_groups).filter(|(_, groups)| **groups > 0);
        let open: Vec<String> = open.map(|(name, groups)| format!("{name} {groups}")).collect();
        if open.is_empty() {
            return;
        }
        let watermarks = lock(&self.shared.watermarks);
        let holding = watermarks.partitions().filter(|(_, mark)| !mark.idle);
        let Some((partition, mark)) = holding.min_by_key(|(_, mark)| mark.watermark_us) else { return };
        let stands = match mark.watermark_us {
            NOTHING_SEEN => "has no event yet whose time counts".to_owned(),
            watermark => format!("stands at {}", clock::text(watermark)),
        };
        let until = clock::text(last.open_until);
        tracing::info!(
            "groups stay open for the next run: {}; all are over at {until}: partition {partition} {stands}",
            open.join(", ")
        );
    }
}
