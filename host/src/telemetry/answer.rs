//! What came of a swap, and how a shadow compares, as text for people.

use crate::shown::shown_lines;
use std::fmt::Write;

use super::text::count;
use crate::admin::control::{Answer, DifferentRow, ShadowReport};

/// An answer as `wasmill swap` shows it: a sentence, then what is different, and where it begins.
pub fn render_answer(answer: &Answer) -> String {
    let mut text = format!("{}: {}: {}\n", answer.plugin, answer.outcome, answer.message);
    let mut line = |name: &str, value: std::fmt::Arguments<'_>| {
        writeln!(text, "  {name:<11} {value}").expect("a string takes everything");
    };
    if answer.from == answer.to {
        line("digest", format_args!("{}", answer.from));
    } else {
        line("from", format_args!("{}", answer.from));
        line("to", format_args!("{}", answer.to));
    }
    if let Some(policy) = answer.policy {
        line("state", format_args!("{policy}"));
    }
    for (index, difference) in answer.difference.iter().enumerate() {
        line(if index == 0 { "difference" } else { "" }, format_args!("{difference}"));
    }
    if let Some(boundary) = &answer.boundary {
        let offsets: Vec<String> = boundary.offsets.iter().map(|(of, offset)| format!("{of}:{offset}")).collect();
        let watermark = boundary.watermark_us.map_or("none".into(), moment);
        line(
            "boundary",
            format_args!("checkpoint #{}, watermark {watermark}, offsets {}", boundary.checkpoint, offsets.join(" ")),
        );
    }
    shown_lines(&text)
}

/// How a shadow compares, as `wasmill shadow NAME` shows it.
pub fn render_report(report: &ShadowReport) -> String {
    let mut text = format!("{}: {}\n", report.plugin, compared(report));
    let mut line = |name: &str, value: std::fmt::Arguments<'_>| {
        writeln!(text, "  {name:<11} {value}").expect("a string takes everything");
    };
    line("in force", format_args!("{}", report.current));
    line("shadow", format_args!("{}, since checkpoint #{}", report.shadow, report.since_checkpoint));
    if let Some(share) = report.options.key_sample {
        line("keys", format_args!("{}% of them", share * 100.0));
    }
    for (column, most) in &report.options.tolerance {
        line("tolerance", format_args!("{column}: {most:e}"));
    }
    line(
        "cost",
        format_args!(
            "{:.0} ns a row beside {:.0} ns of the version in force{}",
            report.shadow_ns_per_row,
            report.current_ns_per_row,
            times(report.shadow_ns_per_row, report.current_ns_per_row)
        ),
    );
    for example in &report.examples {
        line("differs", format_args!("{}", difference(example)));
    }
    if let Some(why) = &report.failed {
        line("ENDED", format_args!("{why}"));
    }
    shown_lines(&text)
}

/// `1,000 windows compared: 998 equal, 2 different`.
pub(super) fn compared(report: &ShadowReport) -> String {
    let mut text = format!("{} windows compared: {} equal", count(report.compared), count(report.equal));
    for (what, windows) in [
        ("different", report.different),
        ("only in the version in force", report.only_current),
        ("only in the shadow", report.only_shadow),
    ] {
        if windows > 0 {
            write!(text, ", {} {what}", count(windows)).expect("a string takes everything");
        }
    }
    if report.failed.is_some() {
        text.push_str("; it does not run any more");
    }
    text
}

/// ` (1.2 times)`, where that can be said.
fn times(of: f64, base: f64) -> String {
    if base > 0.0 { format!(" ({:.2} times)", of / base) } else { String::new() }
}

fn difference(row: &DifferentRow) -> String {
    let key: Vec<String> = row.key.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let none = || "no such row".to_owned();
    let (current, shadow) = (row.current.clone().unwrap_or_else(none), row.shadow.clone().unwrap_or_else(none));
    let column = row.column.as_ref().map(|column| format!("{column} ")).unwrap_or_default();
    let (start, end) = (moment(row.window_start_us), moment(row.window_end_us));
    format!("[{start}, {end}) {}: {column}{current}, shadow {shadow}", key.join(" "))
}

fn moment(us: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(us);
    time.map_or_else(|| format!("{us}us"), |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::control::{Boundary, Outcome, Policy};
    use crate::admin::tests::shadow;

    fn answer() -> Answer {
        Answer {
            outcome: Outcome::OnProbation,
            plugin: "pages".into(),
            from: "aaaa".into(),
            to: "bbbb".into(),
            policy: Some(Policy::Migrate),
            message: "taken back at the first fault up to checkpoint 44".into(),
            difference: vec!["writes one column more: avg_revenue".into(), "state version 2 reads 1".into()],
            boundary: Some(Boundary {
                checkpoint: 42,
                offsets: [(0, 5), (1, 7)].into(),
                watermark_us: Some(1_700_000_000_000_000),
            }),
        }
    }

    #[test]
    fn an_answer_says_what_came_of_it_what_is_different_and_where_it_begins() {
        assert_eq!(
            render_answer(&answer()),
            "pages: on probation: taken back at the first fault up to checkpoint 44\n\
             \x20 from        aaaa\n\
             \x20 to          bbbb\n\
             \x20 state       migrate\n\
             \x20 difference  writes one column more: avg_revenue\n\
             \x20             state version 2 reads 1\n\
             \x20 boundary    checkpoint #42, watermark 2023-11-14T22:13:20Z, offsets 0:5 1:7\n"
        );
    }

    #[test]
    fn an_answer_where_nothing_happened_has_one_digest_and_no_boundary() {
        let same = Answer { to: "aaaa".into(), boundary: None, outcome: Outcome::Unchanged, ..answer() };
        let text = render_answer(&same);
        assert!(text.contains("digest      aaaa") && !text.contains("boundary"), "{text}");
    }

    #[test]
    fn a_report_says_how_many_windows_differ_and_shows_some() {
        let text = render_report(&shadow());
        for part in [
            "sessions: 100,000 windows compared: 99,998 equal, 1 different, 1 only in the version in force\n",
            "  shadow      5bad, since checkpoint #12\n",
            "  keys        10% of them\n",
            "  cost        120 ns a row beside 100 ns of the version in force (1.20 times)\n",
            "  differs     [2023-11-14T22:12:50Z, 2023-11-14T22:13:20Z) user_id=u7: events 5, shadow 6\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("only in the shadow") && !text.contains("ENDED"), "{text}");
    }

    #[test]
    fn a_shadow_that_failed_says_why() {
        let failed = ShadowReport { failed: Some("it trapped".into()), current_ns_per_row: 0.0, ..shadow() };
        let text = render_report(&failed);
        assert!(text.contains("it does not run any more") && text.contains("ENDED       it trapped"), "{text}");
        assert!(!text.contains("times"), "{text}");
    }

    #[test]
    fn nothing_that_a_plugin_says_writes_to_the_terminal() {
        let answer = Answer { message: "\x1b[31mred\r".into(), ..answer() };
        assert!(render_answer(&answer).starts_with("pages: on probation: \\u{1b}[31mred\\r\n"));
    }
}
