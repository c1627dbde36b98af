//! The status in Prometheus' text format.
//!
//! # Source
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.

use std::fmt::{Display, Write};

use wasmill_pipeline::alarm::Kind;

use super::{Partition, Status};

/// µs as the seconds that Prometheus wants.
fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

/// All metrics of a status, and of this process.
pub(super) fn render(status: &Status) -> String {
    let mut out = Page::default();
    let each = &status.aggregates;
    out.one("wasmill_records_total", "counter", "Records read from the topic.", Some(status.records));
    out.one("wasmill_rows_total", "counter", "Rows parsed.", Some(status.rows));
    out.one("wasmill_filtered_records_total", "counter", "Records that are no events.", Some(status.filtered));
    out.one(
        "wasmill_broker_time_rows_total",
        "counter",
        "Rows without a time of their own.",
        Some(status.broker_time_rows),
    );
    let alarm = |kind: Kind| u8::from(status.alarms.iter().any(|alarm| alarm.kind == kind.as_str()));
    let alarms = Kind::ALL.map(|kind| (kind.as_str(), alarm(kind)));
    out.many("wasmill_alarm", "gauge", "1 while something is wrong with much of the input.", "kind", alarms);
    out.many("wasmill_dead_letters_total", "counter", "Records set aside.", "reason", &status.dead_letters);
    let capsules = &status.fault_capsules;
    out.many("wasmill_fault_capsules_total", "counter", "Faults by what became of their capsule.", "outcome", capsules);
    let counted = each.iter().map(|aggregate| (&aggregate.name, aggregate.counted));
    out.many("wasmill_counted_rows_total", "counter", "Rows counted by an aggregate.", "aggregate", counted);
    let late = each.iter().map(|aggregate| (&aggregate.name, aggregate.late));
    out.many("wasmill_late_rows_total", "counter", "Rows too late for an aggregate.", "aggregate", late);
    let aside = each.iter().map(|aggregate| (&aggregate.name, aggregate.set_aside));
    out.many("wasmill_set_aside_rows_total", "counter", "Rows kept from a failing aggregate.", "aggregate", aside);
    let resting = each.iter().map(|aggregate| (&aggregate.name, u8::from(aggregate.out_of_service.is_some())));
    out.many(
        "wasmill_aggregate_out_of_service",
        "gauge",
        "1 when an aggregate gets no rows until it is swapped or the next start.",
        "aggregate",
        resting,
    );
    let emitted = each.iter().map(|aggregate| (&aggregate.name, aggregate.rows_out));
    out.many("wasmill_output_rows_total", "counter", "Rows that an aggregate gave.", "aggregate", emitted);
    let open = each.iter().map(|aggregate| (&aggregate.name, aggregate.open_groups));
    out.many("wasmill_open_groups", "gauge", "Groups open in an aggregate.", "aggregate", open);
    let held = each.iter().map(|aggregate| (&aggregate.name, aggregate.state_bytes));
    out.many("wasmill_state_bytes", "gauge", "Memory of an aggregate's open state.", "aggregate", held);
    let budget = status.state_budget_bytes;
    out.one("wasmill_state_budget_bytes", "gauge", "The most memory that open state may take.", budget);
    let lag = status.partitions.iter().filter_map(|partition| Some((partition.partition, partition.lag?)));
    out.many("wasmill_lag_records", "gauge", "Records of a partition not read yet.", "partition", lag);
    let idle = status.partitions.iter().map(|partition| (partition.partition, u8::from(partition.idle)));
    out.many("wasmill_partition_idle", "gauge", "1 when a partition gives nothing.", "partition", idle);
    out.one("wasmill_watermark_seconds", "gauge", "The watermark, Unix time.", status.watermark_us.map(seconds));
    let behind = status.watermark_us.map(|watermark| seconds(status.now_us.saturating_sub(watermark)));
    out.one("wasmill_watermark_lag_seconds", "gauge", "How far the watermark is behind now.", behind);
    out.one("wasmill_checkpoints_total", "counter", "Checkpoints made by this process.", Some(status.checkpoints));
    let checkpoint = status.checkpoint.as_ref();
    let age = checkpoint.map(|checkpoint| seconds(status.now_us.saturating_sub(checkpoint.created_at_us)));
    out.one("wasmill_checkpoint_age_seconds", "gauge", "Age of the last checkpoint.", age);
    let took = checkpoint.map(|checkpoint| seconds(checkpoint.duration_us));
    out.one("wasmill_checkpoint_duration_seconds", "gauge", "From the last cut to its manifest.", took);
    let pause = checkpoint.map(|checkpoint| seconds(checkpoint.pause_us));
    out.one("wasmill_cut_pause_seconds", "gauge", "How long the last cut held up the pipeline.", pause);
    let bytes = checkpoint.map(|checkpoint| checkpoint.bytes);
    out.one("wasmill_checkpoint_bytes", "gauge", "Bytes written for the last checkpoint.", bytes);
    out.many("wasmill_files_committed_total", "counter", "Files committed.", "output", &status.files);
    plugins(&mut out, status);
    times(&mut out, status);
    let closed = u8::from(status.accounting.closed);
    out.one("wasmill_accounting_closed", "gauge", "1 when every record is where it belongs.", Some(closed));
    out.one("wasmill_ready", "gauge", "1 when the job is ready.", Some(u8::from(status.readiness().is_ok())));
    out.one("process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes());
    out.one("process_cpu_seconds_total", "counter", "CPU time used.", cpu_seconds());
    out.text
}

/// Which versions are in force, and what became of others.
fn plugins(out: &mut Page, status: &Status) {
    let each = &status.plugins;
    let info = each.iter().map(|plugin| ([&plugin.name, &plugin.digest], 1));
    out.pairs("wasmill_plugin_info", "gauge", "The version of a plugin in force.", ["plugin", "digest"], info);
    let trial = each.iter().map(|plugin| (&plugin.name, u8::from(plugin.probation_until.is_some())));
    out.many("wasmill_plugin_on_probation", "gauge", "1 while a swap can be taken back.", "plugin", trial);
    let outcomes = status.swaps.iter().flat_map(|(plugin, outcomes)| outcomes.iter().map(move |one| (plugin, one)));
    let outcomes = outcomes.map(|(plugin, (outcome, count))| ([plugin, outcome], count));
    out.pairs("wasmill_swaps_total", "counter", "Swaps by what became of them.", ["plugin", "outcome"], outcomes);
    let pause = status.swap_pause_us.map(seconds);
    out.one("wasmill_swap_pause_seconds", "gauge", "How long the last swap held up the pipeline.", pause);
    let shadows = each.iter().filter_map(|plugin| plugin.shadow.as_ref().map(|shadow| (plugin.name.as_str(), shadow)));
    let windows = shadows.flat_map(|(plugin, shadow)| {
        [
            ([plugin, "equal"], shadow.equal),
            ([plugin, "different"], shadow.different),
            ([plugin, "only_current"], shadow.only_current),
            ([plugin, "only_shadow"], shadow.only_shadow),
        ]
    });
    let help = "Windows of keys that a shadow compared with the version in force.";
    out.pairs("wasmill_shadow_windows_total", "counter", help, ["plugin", "result"], windows);
}

/// What times partitions give.
fn times(out: &mut Page, status: &Status) {
    let mut each = |name: &str, help: &str, count: fn(&Partition) -> u64| {
        let counts = status.partitions.iter().map(|partition| (partition.partition, count(partition)));
        out.many(name, "counter", help, "partition", counts);
    };
    let suspects = "Rows that claimed a time far ahead of all before them, and that the next rows refuted.";
    each("wasmill_suspect_rows_total", suspects, |partition| partition.suspect_rows);
    each("wasmill_unreadable_times_total", "Rows whose time cannot be read.", |partition| partition.unreadable_times);
    let untimed = "Rows of a partition without a time of their own.";
    each("wasmill_partition_broker_time_rows_total", untimed, |partition| partition.broker_time_rows);
    let letters = status.partitions.iter().flat_map(|partition| {
        let of = partition.partition.to_string();
        partition.dead_letters.iter().map(move |(reason, count)| ([of.clone(), reason.clone()], count))
    });
    let (name, help) = ("wasmill_partition_dead_letters_total", "Records of a partition set aside.");
    out.pairs(name, "counter", help, ["partition", "reason"], letters);
}

/// A label's value as it stands in quotes.
fn quoted(value: impl Display) -> String {
    value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// A metric without labels; left out where there is no value.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.head(name, kind, help);
            self.line(format_args!("{name} {value}"));
        }
    }

    /// A metric with one label.
    fn many<L: Display, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.head(name, kind, help);
        for (of, value) in values {
            self.line(format_args!("{name}{{{label}=\"{}\"}} {value}", quoted(of)));
        }
    }

    /// A metric with two labels.
    fn pairs<L: Display, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        labels: [&str; 2],
        values: impl IntoIterator<Item = ([L; 2], V)>,
    ) {
        self.head(name, kind, help);
        let [first, second] = labels;
        for ([one, other], value) in values {
            let (one, other) = (quoted(one), quoted(other));
            self.line(format_args!("{name}{{{first}=\"{one}\",{second}=\"{other}\"}} {value}"));
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes everything");
    }
}

/// Resident memory of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// CPU time of this process, user and system, where the system tells.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in parentheses and may hold anything; utime and stime are the 12th and 13th after it.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).map(str::parse::<u64>);
    let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
    // Linux reports to user space in hundredths of a second on every machine it supports today.
    Some(ticks as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::{alarm, running};
    use super::*;

    #[test]
    fn numbers_come_with_help_type_and_labels() {
        let text = render(&running());
        for line in [
            "# HELP wasmill_records_total Records read from the topic.",
            "# TYPE wasmill_records_total counter",
            "wasmill_records_total 1000",
            "wasmill_dead_letters_total{reason=\"malformed\"} 10",
            "wasmill_late_rows_total{aggregate=\"sessions\"} 3",
            "wasmill_set_aside_rows_total{aggregate=\"sessions\"} 1",
            "wasmill_aggregate_out_of_service{aggregate=\"sessions\"} 0",
            "wasmill_state_bytes{aggregate=\"sessions\"} 65536",
            "wasmill_state_budget_bytes 1048576",
            "wasmill_lag_records{partition=\"0\"} 1024",
            "wasmill_suspect_rows_total{partition=\"0\"} 8",
            "wasmill_partition_dead_letters_total{partition=\"0\",reason=\"malformed\"} 10",
            "wasmill_watermark_seconds 1700000000",
            "wasmill_watermark_lag_seconds 10",
            "wasmill_cut_pause_seconds 0.0015",
            "wasmill_files_committed_total{output=\"sessions\"} 34",
            "wasmill_accounting_closed 1",
            "wasmill_plugin_info{plugin=\"sessions\",digest=\"5e55\"} 1",
            "wasmill_plugin_on_probation{plugin=\"sessions\"} 1",
            "wasmill_swaps_total{plugin=\"sessions\",outcome=\"on_probation\"} 1",
            "wasmill_shadow_windows_total{plugin=\"sessions\",result=\"equal\"} 99998",
            "wasmill_shadow_windows_total{plugin=\"sessions\",result=\"different\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_kind_of_alarm_is_there_from_the_start() {
        let status = Status { alarms: vec![alarm(false)], ..Status::default() };
        let (calm, alarmed) = (render(&Status::default()), render(&status));
        for kind in Kind::ALL {
            assert!(calm.contains(&format!("wasmill_alarm{{kind=\"{}\"}} 0", kind.as_str())), "{calm}");
        }
        assert!(alarmed.contains("wasmill_alarm{kind=\"dead_letters\"} 1\n"), "{alarmed}");
        assert!(alarmed.contains("wasmill_alarm{kind=\"late\"} 0\n"), "{alarmed}");
    }

    #[test]
    fn a_label_cannot_break_out_of_its_line() {
        let mut status = running();
        status.files.insert("a\"} 1\nb\\".into(), 1);
        assert!(render(&status).contains(r#"{output="a\"} 1\nb\\"} 1"#));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let text = render(&Status::default());
        assert!(!text.contains("wasmill_watermark_seconds") && !text.contains("wasmill_cut_pause_seconds"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_knows_its_memory_and_time() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(cpu_seconds().is_some());
    }
}
