//! Numbers, times and a whole status as text for people.

use crate::shown::shown;
use std::fmt::Write;

use super::answer::compared;
use crate::admin::Status;

/// A count with commas: `12,345`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span of time, in the unit that fits: `0.8s`, `12s`, `3m20s`, `5h07m`, `2d03h`; with tenths below a minute
/// if `tenths`.
pub(super) fn span(us: i64, tenths: bool) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        i64::MIN..60 if tenths => format!("{:.1}s", us as f64 / 1e6),
        i64::MIN..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        86_400.. => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// How far `us` is from `now_us`: `-10.2s` before it, `+10.2s` after it.
pub(super) fn distance(us: i64, now_us: i64) -> String {
    let ahead = us.saturating_sub(now_us);
    let sign = if ahead > 0 { '+' } else { '-' };
    format!("{sign}{}", span(ahead.saturating_abs(), true))
}

/// A moment in UTC, with its day when that is not today's.
pub(super) fn moment(us: i64, now_us: i64) -> String {
    let Some(time) = chrono::DateTime::from_timestamp_micros(us) else { return format!("{us}us") };
    let today = chrono::DateTime::from_timestamp_micros(now_us).map(|now| now.date_naive());
    let format = if today == Some(time.date_naive()) { "%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    time.format(format).to_string()
}

/// A status as `wasmill status` shows it: a few lines, each ended.
pub fn render_status(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: std::fmt::Arguments<'_>| {
        // Names of plugins and outputs come from files: none of them writes to the terminal.
        let value = shown(&value.to_string());
        writeln!(text, "{name:<12} {value}").expect("a string takes everything");
    };
    let (now, known) = (status.now_us, |value: Option<String>| value.unwrap_or_else(|| "unknown".into()));
    let run = status.run.as_ref().map(|run| format!(", run {run}")).unwrap_or_default();
    line(
        "pipeline",
        format_args!("{}{run}, generation {}, wasmill {}", status.pipeline, status.generation, status.version),
    );
    let up = span(now.saturating_sub(status.since_us), false);
    line("state", format_args!("{}, up {up}", status.failure.clone().unwrap_or_else(|| status.doing())));
    let rate = status.events_per_second.max(0.0).round() as u64;
    line("speed", format_args!("{} ev/s, lag {}", count(rate), known(status.lag().map(count))));
    let watermark = status.watermark_us.map(|us| format!("{} ({})", moment(us, now), distance(us, now)));
    line("watermark", format_args!("{}", known(watermark)));
    let (records, rows, filtered) = (count(status.records), count(status.rows), count(status.filtered));
    line(
        "records",
        format_args!("{records} = {rows} rows + {} dead letters + {filtered} filtered", count(status.dead())),
    );
    let accounting = if status.accounting.closed { "closed" } else { "DOES NOT CLOSE" };
    line("accounting", format_args!("{accounting} {}", status.accounting.message));
    for alarm in &status.alarms {
        let since = span(now.saturating_sub(alarm.since_us), false);
        line("ALARM", format_args!("{alarm}, since {since}: {}", alarm.message));
    }
    for (reason, dead) in status.dead_letters.iter().filter(|(_, dead)| **dead > 0) {
        line("dead letter", format_args!("{reason}: {}", count(*dead)));
    }
    for aggregate in &status.aggregates {
        let (counted, late) = (count(aggregate.counted), count(aggregate.late));
        let (open, out) = (count(aggregate.open_groups), count(aggregate.rows_out));
        let (name, aside) = (&aggregate.name, count(aggregate.set_aside));
        line(
            "aggregate",
            format_args!("{name}: {counted} counted, {late} late, {aside} set aside, {open} open, {out} written"),
        );
        if let Some(why) = &aggregate.out_of_service {
            line("OUT OF SERVICE", format_args!("{name}: {why}"));
        }
    }
    let budget = status.state_budget_bytes.map_or("off".into(), |bytes| format!("{} bytes", count(bytes)));
    line("open state", format_args!("{} bytes, limit {budget}", count(status.state_bytes())));
    for partition in &status.partitions {
        let lag = known(partition.lag.map(count));
        let idle = if partition.idle { ", idle" } else { "" };
        let watermark = known(partition.watermark_us.map(|us| moment(us, now)));
        let (number, next) = (partition.partition, partition.next_offset);
        line("partition", format_args!("{number}: next offset {next}, lag {lag}, watermark {watermark}{idle}"));
    }
    if let Some(checkpoint) = &status.checkpoint {
        let age = span(now.saturating_sub(checkpoint.created_at_us), false);
        let (took, pause) = (checkpoint.duration_us as f64 / 1e3, checkpoint.pause_us as f64 / 1e3);
        let (number, bytes) = (checkpoint.number, count(checkpoint.bytes));
        line("checkpoint", format_args!("#{number}, {age} ago, {bytes} bytes in {took:.1} ms, pause {pause:.1} ms"));
    }
    for (output, files) in &status.files {
        line("files", format_args!("{output}: {}", count(*files)));
    }
    for trial in &status.trials {
        let (plugin, digest, who, since) = (&trial.plugin, &trial.digest, &trial.who, moment(trial.since_us, now));
        line(
            "trial",
            format_args!("{plugin}: {digest} since {since}, asked by {who}; wasmill cancel {plugin} ends it"),
        );
    }
    for plugin in &status.plugins {
        let since = plugin.since_checkpoint.map(|number| format!(", since checkpoint #{number}")).unwrap_or_default();
        let trial = plugin.probation_until.map(|number| format!(", on probation until #{number}")).unwrap_or_default();
        let retiring = plugin.retiring.as_ref().map(|digest| format!(", retiring {digest}")).unwrap_or_default();
        let (name, digest, path) = (&plugin.name, &plugin.digest, &plugin.path);
        line("plugin", format_args!("{name}: {digest} ({path}){since}{trial}{retiring}"));
        if let Some(shadow) = &plugin.shadow {
            line(
                "shadow",
                format_args!(
                    "{name}: {} since checkpoint #{}: {}",
                    shadow.shadow,
                    shadow.since_checkpoint,
                    compared(shadow)
                ),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Alarm;
    use crate::admin::tests::{alarm, running};

    #[test]
    fn counts_have_commas() {
        let texts = [0, 999, 1000, 12_345, 1_234_567].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn spans_take_the_unit_that_fits() {
        let texts = [12, 59, 200, 18_420, 183_600].map(|seconds| span(seconds * 1_000_000, false));
        assert_eq!(texts, ["12s", "59s", "3m20s", "5h07m", "2d03h"]);
        assert_eq!(span(10_240_000, true), "10.2s");
    }

    #[test]
    fn a_moment_of_another_day_says_which() {
        let now = 1_700_000_000_000_000;
        assert_eq!(moment(now - 1_000_000, now), "22:13:19Z");
        assert_eq!(moment(now - 86_400_000_000, now), "2023-11-13T22:13:20Z");
        assert_eq!(moment(i64::MAX, now), format!("{}us", i64::MAX));
    }

    #[test]
    fn a_status_in_words_says_what_the_numbers_mean() {
        let text = render_status(&running());
        assert!(text.contains("records      1,000 = 990 rows + 10 dead letters + 0 filtered\n"), "{text}");
        assert!(
            text.contains("aggregate    sessions: 986 counted, 3 late, 1 set aside, 123 open, 50 written\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "plugin       sessions: 5e55 (sessions.wasm), since checkpoint #11, on probation until #13, retiring 01d0\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("shadow       sessions: 5bad since checkpoint #12: 100,000 windows compared: "),
            "{text}"
        );
        assert!(text.contains("open state   65,536 bytes, limit 1,048,576 bytes\n"), "{text}");
        assert!(text.contains("checkpoint   #12, 3s ago, 4,096 bytes in 20.0 ms, pause 1.5 ms\n"), "{text}");
    }

    #[test]
    fn an_alarm_stands_in_the_status_with_its_sentence() {
        let mut status = running();
        let since_us = status.now_us - 90_000_000;
        status.alarms = vec![Alarm { since_us, ..alarm(false) }];
        let text = render_status(&status);
        let line = "ALARM        dead_letters, since 1m30s: 10 of 1000 records in the last 1m are dead letters\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn extreme_numbers_do_not_panic() {
        let mut status = running();
        (status.now_us, status.since_us, status.watermark_us) = (i64::MAX, i64::MIN, Some(i64::MIN));
        assert!(!render_status(&status).is_empty());
    }
}
