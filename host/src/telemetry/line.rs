//! The live status: the numbers that matter, in one line.

use std::time::{Duration, Instant};

use super::logging::Screen;
use super::text::{count, distance, moment, span};
use crate::admin::{State, Status};

/// A status in one line; the speed is that since `prev`, which was `elapsed` ago, or else the status' own.
pub fn status_line(status: &Status, prev: Option<&Status>, elapsed: Duration) -> String {
    let rate = match prev {
        Some(prev) if !elapsed.is_zero() => status.records.saturating_sub(prev.records) as f64 / elapsed.as_secs_f64(),
        _ => status.events_per_second.max(0.0),
    };
    let mut parts = Vec::with_capacity(10);
    if let Some(failure) = &status.failure {
        parts.push(failure.clone());
    } else if status.state != State::Running || !status.detail.is_empty() {
        parts.push(status.doing());
    }
    parts.push(format!("{} ev/s", count(rate.round() as u64)));
    if let Some(lag) = status.lag() {
        let eta = if status.state == State::CatchingUp && lag > 0 && rate > 0.0 {
            // Saturates: a crawl through a large backlog is not worth a panic.
            format!(" (ETA {})", span((lag as f64 / rate * 1e6) as i64, false))
        } else {
            String::new()
        };
        parts.push(format!("lag {}{eta}", count(lag)));
    }
    if let Some(us) = status.watermark_us {
        parts.push(format!("watermark {} ({})", moment(us, status.now_us), distance(us, status.now_us)));
    }
    parts.push(format!("open {}", count(status.open_groups())));
    parts.push(format!("late {}", count(status.late())));
    parts.push(format!("dead {}", count(status.dead())));
    if let Some(checkpoint) = &status.checkpoint {
        let age = status.now_us.saturating_sub(checkpoint.created_at_us).max(0);
        parts.push(format!("ckpt #{} {} ago", checkpoint.number, span(age, false)));
    }
    parts.push(format!("files {}", count(status.committed_files())));
    if !status.alarms.is_empty() {
        let alarms: Vec<String> = status.alarms.iter().map(ToString::to_string).collect();
        parts.push(format!("ALARM: {}", alarms.join(", ")));
    }
    if !status.accounting.closed {
        parts.push(format!("ACCOUNTING DOES NOT CLOSE: {}", status.accounting.message));
    }
    parts.join(" | ")
}

/// Shows statuses as they come: each on a terminal, one every so often in a pipe.
#[derive(Debug)]
pub struct StatusReporter {
    screen: Screen,
    every: Duration,
    last: Option<(Instant, Status)>,
}

impl StatusReporter {
    /// `every` is how often there is a log line in a pipe; 10 s does for most.
    pub fn new(screen: Screen, every: Duration) -> Self {
        Self { screen, every, last: None }
    }

    /// Shows a status; call it a few times a second or so.
    pub fn report(&mut self, now: Instant, status: Status) {
        if self.screen.is_terminal() {
            self.screen.show(&status_line(&status, None, Duration::ZERO));
        } else if let Some(line) = self.due(now, status) {
            tracing::info!("{line}");
        }
    }

    /// Takes the line away, so that what follows begins on a clean one.
    pub fn finish(&mut self) {
        self.screen.show("");
    }

    /// The line for a pipe, when it is time for one.
    fn due(&mut self, now: Instant, status: Status) -> Option<String> {
        let line = match &self.last {
            None => status_line(&status, None, Duration::ZERO),
            Some((then, prev)) => {
                let elapsed = now.saturating_duration_since(*then);
                // What it is doing changed: that is worth a line at once.
                if elapsed < self.every && prev.doing() == status.doing() && prev.failure == status.failure {
                    return None;
                }
                status_line(&status, Some(prev), elapsed)
            }
        };
        self.last = Some((now, status));
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::logging::tests::screen;
    use super::*;
    use crate::admin::Alarm;
    use crate::admin::tests::{alarm, running};

    #[test]
    fn a_running_job_shows_its_numbers_in_one_line() {
        let prev = Status { records: 0, ..running() };
        let line = status_line(&running(), Some(&prev), Duration::from_secs(1));
        let wanted = "1,000 ev/s | lag 1,024 | watermark 22:13:20Z (-10.0s) | open 123 | late 3 | dead 10 \
                      | ckpt #12 3s ago | files 34";
        assert_eq!(line, wanted);
    }

    #[test]
    fn catching_up_says_when_it_will_have() {
        let status = Status { state: State::CatchingUp, events_per_second: 85.0, ..running() };
        let line = status_line(&status, None, Duration::ZERO);
        assert!(line.starts_with("catching up | 85 ev/s | lag 1,024 (ETA 12s) | "), "{line}");
    }

    #[test]
    fn a_job_that_waits_says_for_what() {
        let status = Status { state: State::Waiting, detail: "for topic clicks".into(), ..Status::default() };
        let line = status_line(&status, None, Duration::ZERO);
        assert_eq!(line, "waiting for topic clicks | 0 ev/s | open 0 | late 0 | dead 0 | files 0");
    }

    #[test]
    fn numbers_that_went_back_or_are_extreme_do_not_panic() {
        let mut status = Status { state: State::CatchingUp, records: 1, watermark_us: Some(i64::MIN), ..running() };
        status.partitions[0].lag = Some(u64::MAX);
        status.events_per_second = f64::MIN_POSITIVE;
        assert!(status_line(&status, Some(&running()), Duration::from_secs(1)).contains("| 0 ev/s |"));
        assert!(status_line(&status, None, Duration::ZERO).contains("ETA"));
    }

    #[test]
    fn alarms_are_marked() {
        let late = Alarm { kind: "late".into(), aggregate: Some("sessions".into()), ..alarm(false) };
        let status = Status { alarms: vec![alarm(false), late], ..running() };
        let line = status_line(&status, None, Duration::ZERO);
        assert!(line.ends_with("| files 34 | ALARM: dead_letters, late sessions"), "{line}");
    }

    #[test]
    fn accounting_that_does_not_close_is_said() {
        let mut status = running();
        status.accounting = crate::admin::Accounting { closed: false, message: "1 row missing".into() };
        assert!(status_line(&status, None, Duration::ZERO).ends_with("ACCOUNTING DOES NOT CLOSE: 1 row missing"));
    }

    #[test]
    fn a_pipe_gets_a_line_every_so_often_and_when_the_state_changes() {
        let mut reporter = StatusReporter::new(screen(false).0, Duration::from_secs(10));
        let start = Instant::now();
        let mut due = |second, status| reporter.due(start + Duration::from_secs(second), status).is_some();
        assert!(due(0, running()));
        assert!(!due(9, running()));
        assert!(due(10, running()));
        assert!(due(11, Status { state: State::Draining, ..running() }));
    }
}
