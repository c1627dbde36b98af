//! The windows of an aggregate, as a pipeline file has them: read, and written so that they read back the same.

use std::fmt;

use toml::Table;
use wasmill_pipeline::spec::Window;
use wasmill_pipeline::window::{Calendar, DAY_US, Even, Grid, Unit, Zone};

use super::duration::{format_signed, format_us, us};
use super::mistake::closest;
use super::section::Section;
use super::tree::{self, Node};
use super::value::{self, Read};

/// A row may count in each sliding window it is in, and each gives rows: more than this is a mistake in the units.
const MAX_WINDOWS_PER_ROW: i64 = 10_000;

/// The longest length in days and months, 100 years, as for durations.
const MAX_DAYS: u32 = 36_500;
const MAX_MONTHS: u32 = 1_200;

/// All months have so many days, so that no offset reaches into the next.
const DAYS_OF_ALL_MONTHS: i64 = 28;

/// What to write, for messages.
const EXAMPLES: &str = "{ tumbling = \"30s\" }, { sliding = \"60s\", every = \"10s\" } or { session = \"30s\" }";

/// The length of a window, or of the step from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// So many µs.
    Time(i64),
    Days(u32),
    /// From Monday on.
    Weeks(u32),
    Months(u32),
}

/// Reads the windows of an aggregate.
pub(super) fn window(aggregate: &mut Section<'_>) -> Window {
    let broken = Window::Session { gap_us: 1 };
    if !aggregate.has("window") {
        aggregate.note("window", format!("missing; write window = {EXAMPLES}"));
        return broken;
    }
    let mut section = aggregate.section("window");
    if !section.is_present() {
        return broken;
    }
    let kinds = (section.has("tumbling"), section.has("sliding"), section.has("session"));
    let window = match kinds {
        (true, false, false) => {
            let size = section.optional("tumbling", length);
            for key in ["offset", "zone"] {
                section.has(key);
            }
            size.and_then(|size| grid(&mut section, "tumbling", size, 1))
        }
        (false, true, false) => sliding(&mut section),
        (false, false, true) => session(&mut section),
        _ => {
            for key in ["every", "offset", "zone"] {
                section.has(key);
            }
            // A kind that is only misspelt is one mistake, not two.
            if section.finish() == 0 {
                aggregate.note("window", format!("a window is of one kind; write {EXAMPLES}"));
            }
            return broken;
        }
    };
    section.finish();
    window.unwrap_or(broken)
}

fn session(section: &mut Section<'_>) -> Option<Window> {
    for key in ["offset", "zone"] {
        if section.has(key) {
            section.note(key, "a session begins with an event, whenever that is; leave it out");
        }
    }
    let gap = section.optional("session", value::positive)?;
    Some(Window::Session { gap_us: us(gap) })
}

fn sliding(section: &mut Section<'_>) -> Option<Window> {
    let size = section.optional("sliding", length);
    let every = section
        .required("every", "every = \"10s\": the time between two windows' starts", |node| length(node).map(Some));
    for key in ["offset", "zone"] {
        section.has(key);
    }
    let (size, every) = (size?, every?);
    let steps = steps(size, every).map_err(|wrong| section.note("every", wrong)).ok()?;
    grid(section, "every", every, steps)
}

/// Windows of so many steps, with what else the section says of them. `key` is that of the step.
fn grid(section: &mut Section<'_>, key: &'static str, step: Length, steps: u32) -> Option<Window> {
    let zone = section.or("zone", Zone::UTC, zone);
    let what = if key == "tumbling" { "size" } else { key };
    let limit = |us| (us, format!("the window's {what}, {step}"));
    let (unit, every, epoch_us, (limit_us, limit)) = match step {
        Length::Time(us) if zone == Zone::UTC => {
            return Some(even(us, steps, offset(section, &limit(us))?));
        }
        Length::Time(_) => {
            section.has("offset");
            let wrong = "is a length of time, and days of a zone differ in length; write \"1d\", \"1w\" or \"1mo\", or \
                         leave the zone out";
            section.note(key, format!("{step} {wrong}"));
            return None;
        }
        Length::Days(days) => (Unit::Day, days, 0, limit(i64::from(days) * DAY_US)),
        // The Unix epoch was a Thursday: its week began three days before.
        Length::Weeks(weeks) => (Unit::Day, weeks * 7, -3 * DAY_US, limit(i64::from(weeks) * 7 * DAY_US)),
        Length::Months(months) => (
            Unit::Month,
            months,
            0,
            (DAYS_OF_ALL_MONTHS * DAY_US, format!("{DAYS_OF_ALL_MONTHS}d, the shortest month")),
        ),
    };
    let offset_us = epoch_us + offset(section, &(limit_us, limit))?;
    Some(match unit {
        Unit::Day if zone == Zone::UTC => even(limit_us, steps, offset_us),
        Unit::Day => calendar(zone, unit, every, steps, offset_us.rem_euclid(limit_us)),
        Unit::Month => calendar(zone, unit, every, steps, offset_us),
    })
}

fn even(step_us: i64, steps: u32, offset_us: i64) -> Window {
    Window::sliding(step_us * i64::from(steps), step_us, offset_us.rem_euclid(step_us))
}

fn calendar(zone: Zone, unit: Unit, every: u32, steps: u32, offset_us: i64) -> Window {
    Window::Grid(Grid::Calendar(Calendar { zone, unit, every, steps, offset_us }))
}

/// How many steps a window has.
///
/// # Errors
/// What is wrong with the step, and what would be right.
fn steps(size: Length, every: Length) -> Result<u32, String> {
    let ((whole, months), (part, in_months)) = (size.amount(), every.amount());
    if months != in_months {
        return Err(format!(
            "{every} does not divide the window of {size}; write both in days and weeks, or in months"
        ));
    }
    if part > whole {
        return Err(format!("{every} is longer than the window of {size}; write a part of it"));
    }
    if whole % part != 0 {
        return Err(format!("{every} does not divide the window of {size}; write one that does"));
    }
    match whole / part {
        steps @ ..=MAX_WINDOWS_PER_ROW => Ok(steps as u32),
        steps => Err(format!("{every} puts each row into {steps} windows of {size}; write a longer one")),
    }
}

/// The shift of windows, µs, shorter than a limit in either direction.
fn offset(section: &mut Section<'_>, (limit_us, limit): &(i64, String)) -> Option<i64> {
    let offset = section.or("offset", 0, value::signed_us);
    if offset.abs() < *limit_us {
        return Some(offset);
    }
    section.note("offset", format!("{} is out of range; write less than {limit}", format_signed(offset)));
    None
}

/// Reads the length of windows.
fn length(node: &Node) -> Read<Length> {
    if let tree::Value::Text(text) = &node.value
        && let Some(length) = calendar_length(text)
    {
        return length;
    }
    value::positive(node).map(us).map(Length::Time)
}

/// A number of days, weeks, months, quarters or years; `None` where the text is no such thing.
fn calendar_length(text: &str) -> Option<Read<Length>> {
    let lower = text.trim().to_lowercase();
    let (number, unit) = lower.split_at(lower.find(|c: char| !c.is_ascii_digit())?);
    let (most, make): (u32, fn(u32) -> Length) = match unit.trim_start() {
        "d" | "day" | "days" => (MAX_DAYS, Length::Days),
        "w" | "week" | "weeks" => (MAX_DAYS / 7, Length::Weeks),
        "mo" | "month" | "months" => (MAX_MONTHS, Length::Months),
        "q" | "quarter" | "quarters" => (MAX_MONTHS / 3, |quarters| Length::Months(quarters * 3)),
        "y" | "year" | "years" => (MAX_MONTHS / 12, |years| Length::Months(years * 12)),
        _ => return None,
    };
    if number.is_empty() {
        return None;
    }
    Some(match number.parse::<u32>() {
        Ok(0) => Err(format!("{text:?} is no time at all; write \"1d\", \"1w\" or \"1mo\"")),
        Ok(number) if number <= most => Ok(make(number)),
        _ => Err(format!("{text:?} is longer than 100 years; write \"1d\", \"1w\" or \"1mo\"")),
    })
}

impl Length {
    /// So many µs, or months.
    fn amount(self) -> (i64, bool) {
        match self {
            Self::Time(us) => (us, false),
            Self::Days(days) => (i64::from(days) * DAY_US, false),
            Self::Weeks(weeks) => (i64::from(weeks) * 7 * DAY_US, false),
            Self::Months(months) => (months.into(), true),
        }
    }

    /// A length of time, as days where it is some; as weeks where these `begin_on_monday`.
    fn of_time(us: i64, begin_on_monday: bool) -> Self {
        match us / DAY_US {
            days if us % DAY_US != 0 || days > MAX_DAYS.into() => Self::Time(us),
            days if begin_on_monday && days % 7 == 0 => Self::Weeks((days / 7) as u32),
            days => Self::Days(days as u32),
        }
    }
}

impl fmt::Display for Length {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A day is something else here.
            Self::Time(us) if us % DAY_US == 0 => write!(f, "{}h", us / DAY_US * 24),
            Self::Time(us) => f.write_str(&format_us(*us)),
            Self::Days(days) => write!(f, "{days}d"),
            Self::Weeks(weeks) => write!(f, "{weeks}w"),
            Self::Months(months) => write!(f, "{months}mo"),
        }
    }
}

/// Reads the name of a time zone.
pub(super) fn zone(node: &Node) -> Read<Zone> {
    let name = value::text(node)?;
    let name = name.trim();
    if let Some(zone) = Zone::named(name) {
        return Ok(zone);
    }
    let names = || Zone::all().map(Zone::name);
    let wanted = name.to_lowercase().replace([' ', '-'], "_");
    let city = |known: &&str| {
        let known = known.to_lowercase();
        known == wanted || known.rsplit_once('/').is_some_and(|(_, city)| city == wanted)
    };
    let meant = names().find(city).or_else(|| closest(name, names()));
    let meant = meant.map_or_else(
        || "write a name of the IANA database, such as Europe/Berlin".to_owned(),
        |meant| format!("did you mean {meant}?"),
    );
    Err(format!("{name:?} is not a time zone; {meant}"))
}

/// Windows as a pipeline file has them.
pub(super) fn show(window: &Window) -> Table {
    entries(window).into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// Windows as they stand in a line of a pipeline file.
pub fn format_window(window: &Window) -> String {
    let entries: Vec<String> = entries(window).into_iter().map(|(key, value)| format!("{key} = {value:?}")).collect();
    format!("{{ {} }}", entries.join(", "))
}

fn entries(window: &Window) -> Vec<(&'static str, String)> {
    let is_monday = |offset_us: i64, step_us: i64| (offset_us + 3 * DAY_US) % step_us == 0;
    let (size, step, offset_us, zone) = match *window {
        Window::Session { gap_us } => return vec![("session", format_us(gap_us))],
        Window::Grid(Grid::Even(Even { size, step, offset })) => {
            let is_monday = is_monday(offset, step);
            (Length::of_time(size, is_monday), Length::of_time(step, is_monday), offset, Zone::UTC)
        }
        Window::Grid(Grid::Calendar(Calendar { zone, unit: Unit::Day, every, steps, offset_us })) => {
            let step = i64::from(every) * DAY_US;
            let (size, is_monday) = (i64::from(steps) * step, is_monday(offset_us, step));
            (Length::of_time(size, is_monday), Length::of_time(step, is_monday), offset_us, zone)
        }
        Window::Grid(Grid::Calendar(Calendar { zone, unit: Unit::Month, every, steps, offset_us })) => {
            (Length::Months(every * steps), Length::Months(every), offset_us, zone)
        }
    };
    let offset_us = if matches!(step, Length::Weeks(_)) { 0 } else { offset_us };
    let mut entries = if size == step {
        vec![("tumbling", size.to_string())]
    } else {
        vec![("sliding", size.to_string()), ("every", step.to_string())]
    };
    entries.extend((offset_us != 0).then(|| ("offset", format_signed(offset_us))));
    entries.extend((zone != Zone::UTC).then(|| ("zone", zone.name().to_owned())));
    entries
}

#[cfg(test)]
mod tests;
