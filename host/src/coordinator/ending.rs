//! How a run ends by itself: when everything was read, or when what is left waits for transactions for too long.

use super::{Coordinator, End, Published};
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
        let unread = self.only_transactions_left();
        if unread.is_empty() {
            self.waiting = None;
            return Ok(None);
        }
        let since = *self.waiting.get_or_insert_with(Instant::now);
        if self.wait_for_transactions.is_none_or(|longest| since.elapsed() < longest) {
            return Ok(None);
        }
        // Nothing is closed beyond what is over: the records may still come, and the next run is to find their windows.
        self.phase("stopping");
        self.last_cut()?;
        Ok(Some(End::Unread(unread)))
    }

    /// What is left to read, where all of it waits for transactions.
    fn only_transactions_left(&self) -> Vec<Unread> {
        let standing = self.shared.standing.iter();
        let waiting: Vec<Vec<Unread>> = standing.map(|standing| lock(standing).unread.clone()).collect();
        let waiting: Vec<Vec<Unread>> = waiting.into_iter().filter(|unread| !unread.is_empty()).collect();
        let all_wait = self.caught_up + waiting.len() == self.commands.len();
        if all_wait { waiting.concat() } else { Vec::new() }
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
