//! The reference job once more, as plainly as it can be said: all records in memory, each window found by its row, no
//! state, no batches, no order but that of the offsets. What the pipeline commits must be equal to this.

use super::rows::{NULL, row};
use std::collections::BTreeMap;
use wasmill_sdk::distinct::Distinct;
use wasmill_sdk::input::Hash64;
use wasmill_sdk::sum::ExactSum;

/// A record as the broker has it.
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) broker_time_us: i64,
    pub(crate) value: Option<Vec<u8>>,
}

/// The settings of the job that its numbers depend on. All in µs.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) watermark_delay: i64,
    pub(crate) max_ahead: i64,
    pub(crate) page_window: i64,
    /// From one window to the next: as long as the window where it is tumbling.
    pub(crate) page_slide: i64,
    pub(crate) geo_window: i64,
    pub(crate) geo_lateness: i64,
    pub(crate) session_gap: i64,
    pub(crate) session_lateness: i64,
}

/// An event's fields; a key that comes twice is an error, an unknown one is kept.
#[derive(Default, serde::Deserialize)]
pub(crate) struct Fields {
    event_id: Option<String>,
    event_time: Option<serde_json::Value>,
    user_id: Option<String>,
    session_id: Option<String>,
    event_type: Option<String>,
    page: Option<String>,
    referrer: Option<String>,
    device: Option<String>,
    browser: Option<String>,
    country: Option<String>,
    campaign: Option<String>,
    revenue: Option<f64>,
    #[serde(flatten)]
    unknown: serde_json::Map<String, serde_json::Value>,
}

/// A record that the parser takes.
pub(crate) struct Event {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// The event time, or else the broker's.
    pub(crate) time: i64,
    /// Whether it is the event's own.
    pub(crate) is_own: bool,
    /// The broker's, where it is known.
    pub(crate) seen: Option<i64>,
    pub(crate) fields: Fields,
}

impl Event {
    /// Of a row of `events_raw` as the files have it.
    pub(crate) fn of_row(row: &str) -> Self {
        let cells: Vec<&str> = row.split('\u{1f}').collect();
        let text = |at: usize| (cells[at] != NULL).then(|| cells[at].to_owned());
        let number = |at: usize| cells[at].parse::<i64>().unwrap();
        let fields = Fields {
            user_id: text(2),
            session_id: text(3),
            event_type: text(4),
            page: text(5),
            browser: text(8),
            country: text(9),
            revenue: text(11).map(|revenue| revenue.parse().unwrap()),
            ..Fields::default()
        };
        let (time, is_own) = (number(13), cells[1] != NULL);
        Self { time, is_own, seen: None, partition: number(15) as i32, offset: number(16), fields }
    }
}

/// What all outputs must hold, each sorted.
#[derive(Default)]
pub(crate) struct Expected {
    pub(crate) events_raw: Vec<String>,
    pub(crate) page_metrics: Vec<String>,
    pub(crate) geo_metrics: Vec<String>,
    pub(crate) sessions: Vec<String>,
    /// By aggregate: origin, the window missed, and by how much.
    pub(crate) late: BTreeMap<&'static str, Vec<String>>,
    /// Origins.
    pub(crate) dead_letters: Vec<String>,
    pub(crate) records: usize,
    pub(crate) filtered: usize,
    /// Rows that have the broker's time.
    pub(crate) broker_time: usize,
}

impl Expected {
    /// Of all records of a topic.
    pub(crate) fn of_records(topic: &str, mut records: Vec<Record>, rules: &Rules) -> Self {
        records.sort_unstable_by_key(|record| (record.partition, record.offset));
        let mut expected = Self { records: records.len(), ..Self::default() };
        let mut events = Vec::new();
        for record in records {
            let Record { partition, offset, broker_time_us, value } = record;
            let Some(value) = value else {
                expected.filtered += 1;
                continue;
            };
            let mut dead = || expected.dead_letters.push(row([&partition, &offset]));
            let Some(fields) = parse(&value) else {
                dead();
                continue;
            };
            let own_time = event_time(&fields);
            let time = own_time.unwrap_or(broker_time_us);
            if time > broker_time_us + rules.max_ahead {
                dead();
                continue;
            }
            expected.broker_time += usize::from(own_time.is_none());
            expected.events_raw.push(raw_row(topic, partition, offset, time, own_time, &fields));
            let (is_own, seen) = (own_time.is_some(), Some(broker_time_us));
            events.push(Event { partition, offset, time, is_own, seen, fields });
        }
        expected.aggregate(&events, rules);
        expected.events_raw.sort_unstable();
        expected.dead_letters.sort_unstable();
        expected
    }

    /// Of the events of a topic, sorted by partition and offset: what aggregates make of them.
    pub(crate) fn of_events(events: &[Event], rules: &Rules) -> Self {
        let mut expected = Self::default();
        expected.aggregate(events, rules);
        expected
    }

    fn aggregate(&mut self, events: &[Event], rules: &Rules) {
        let watermarks = watermarks(events, rules.watermark_delay);
        let with_watermarks = || events.iter().zip(watermarks.iter().copied());

        let mut late = Vec::new();
        let mut pages: BTreeMap<(i64, &str), Vec<&Event>> = BTreeMap::new();
        for (event, watermark) in with_watermarks() {
            for start in windows(event, watermark, (rules.page_window, rules.page_slide), 0, &mut late) {
                pages.entry((start, text(event.fields.page.as_ref()))).or_default().push(event);
            }
        }
        self.page_metrics = pages.iter().map(|((start, page), of)| page_row(*start, rules, page, of)).collect();
        self.set_late("page_metrics", late);

        let mut late = Vec::new();
        let mut geo: BTreeMap<(i64, &str, &str), u64> = BTreeMap::new();
        for (event, watermark) in with_watermarks() {
            let window = (rules.geo_window, rules.geo_window);
            for start in windows(event, watermark, window, rules.geo_lateness, &mut late) {
                let key = (start, text(event.fields.country.as_ref()), text(event.fields.browser.as_ref()));
                *geo.entry(key).or_default() += 1;
            }
        }
        let geo = geo.iter().map(|((start, country, browser), events)| {
            row([start, &(start + rules.geo_window), country, browser, events])
        });
        self.geo_metrics = geo.collect();
        self.set_late("geo_metrics", late);

        let mut late = Vec::new();
        let mut users: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for (event, watermark) in with_watermarks() {
            let last_taken = event.time + rules.session_lateness;
            if last_taken < watermark {
                let (start, end) = (event.time, event.time + rules.session_gap);
                late.push(late_row(event, start, end, watermark - last_taken));
            } else {
                users.entry(text(event.fields.user_id.as_ref())).or_default().push(event);
            }
        }
        for (user, of) in &mut users {
            of.sort_unstable_by_key(|event| event.time);
            let sessions = of.chunk_by(|one, next| next.time - one.time <= rules.session_gap);
            self.sessions.extend(sessions.map(|session| session_row(user, session, rules)));
        }
        self.set_late("sessions", late);
        for rows in [&mut self.page_metrics, &mut self.geo_metrics, &mut self.sessions] {
            rows.sort_unstable();
        }
    }

    fn set_late(&mut self, aggregate: &'static str, mut rows: Vec<String>) {
        rows.sort_unstable();
        self.late.insert(aggregate, rows);
    }
}

/// What the parser makes of a payload; `None` = a dead letter.
fn parse(value: &[u8]) -> Option<Fields> {
    let is_object = value.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let fields: Fields = serde_json::from_slice(value).ok().filter(|_| is_object)?;
    let user = fields.user_id.as_ref().is_some_and(|user| !user.is_empty());
    (user && fields.event_type.is_some() && fields.page.is_some()).then_some(fields)
}

fn event_time(fields: &Fields) -> Option<i64> {
    let text = fields.event_time.as_ref()?.as_str()?;
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
}

/// The watermark of its partition just before each event: the greatest time believed there, less the delay. Of no clock
/// alone more is believed than 10 minutes ahead of all before it, nor more than a second after the broker saw it; of
/// eight rows in a row that say so, the least.
fn watermarks(events: &[Event], delay: i64) -> Vec<i64> {
    const SECOND: i64 = 1_000_000;
    const CONFIRM: usize = 8;
    let mut partitions: BTreeMap<i32, (Option<i64>, Vec<i64>, usize)> = BTreeMap::new();
    let before = |event: &Event| {
        let (greatest, doubted, untimed) = partitions.entry(event.partition).or_default();
        let before = greatest.map_or(i64::MIN, |greatest| greatest - delay);
        *untimed = if event.is_own { 0 } else { *untimed + 1 };
        if *untimed > 0 && *untimed < CONFIRM {
            return before;
        }
        let claim = event.seen.map_or(event.time, |seen| event.time.min(seen + SECOND));
        if greatest.is_some_and(|greatest| claim <= greatest + 600 * SECOND) {
            (*greatest, *doubted) = ((*greatest).max(Some(claim)), Vec::new());
        } else {
            doubted.push(claim);
            if doubted.len() == CONFIRM {
                *greatest = (*greatest).max(doubted.drain(..).min());
            }
        }
        before
    };
    events.iter().map(before).collect()
}

/// The starts of the windows, of a size and from one to the next, that the event counts in, the newest first: none where
/// it comes too late for that one.
fn windows(
    event: &Event,
    watermark: i64,
    (size, slide): (i64, i64),
    lateness: i64,
    late: &mut Vec<String>,
) -> impl Iterator<Item = i64> {
    let newest = event.time.div_euclid(slide) * slide;
    let is_over = move |start: i64| start + size + lateness <= watermark;
    if is_over(newest) {
        let end = newest + size;
        late.push(late_row(event, newest, end, watermark - end - lateness));
    }
    (0..size / slide).map(move |before| newest - before * slide).take_while(move |&start| !is_over(start))
}

fn late_row(event: &Event, start: i64, end: i64, by: i64) -> String {
    row([&event.partition, &event.offset, &start, &end, &by])
}

fn page_row(start: i64, rules: &Rules, page: &str, of: &[&Event]) -> String {
    let purchases = of.iter().filter(|event| event.fields.event_type.as_deref() == Some("purchase")).count();
    let users = distinct(of.iter().map(|event| event.fields.user_id.as_deref()));
    let sessions = distinct(of.iter().map(|event| event.fields.session_id.as_deref()));
    let end = start + rules.page_window;
    row([&start, &end, &page, &of.len(), &users, &sessions, &purchases, &float(revenue(of))])
}

fn session_row(user: &str, session: &[&Event], rules: &Rules) -> String {
    let times = || session.iter().map(|event| event.time);
    let start = times().min().unwrap_or_default();
    let end = times().max().unwrap_or_default() + rules.session_gap;
    let mut pages: Vec<_> = session.iter().filter_map(|event| event.fields.page.as_deref()).collect();
    pages.sort_unstable();
    pages.dedup();
    row([&start, &end, &user, &session.len(), &pages.len(), &float(revenue(session))])
}

/// Approximate, so by the same sketch: its estimate does not depend on the order.
fn distinct<'a>(values: impl Iterator<Item = Option<&'a str>>) -> u64 {
    let mut sketch = Distinct::default();
    values.flatten().for_each(|value| sketch.add(Hash64::of(value)));
    sketch.estimate()
}

fn revenue(of: &[&Event]) -> f64 {
    let mut sum = ExactSum::default();
    of.iter().filter_map(|event| event.fields.revenue).for_each(|revenue| sum.add(revenue));
    sum.value()
}

fn raw_row(topic: &str, partition: i32, offset: i64, time: i64, own_time: Option<i64>, fields: &Fields) -> String {
    let rescue = rescue(own_time, fields).unwrap_or(NULL.to_owned());
    let own_time = own_time.map_or(NULL.to_owned(), |time| time.to_string());
    let revenue = fields.revenue.map_or(NULL.to_owned(), float);
    let f = |field: &Option<String>| field.clone().unwrap_or(NULL.to_owned());
    row([
        &f(&fields.event_id),
        &own_time,
        &f(&fields.user_id),
        &f(&fields.session_id),
        &f(&fields.event_type),
        &f(&fields.page),
        &f(&fields.referrer),
        &f(&fields.device),
        &f(&fields.browser),
        &f(&fields.country),
        &f(&fields.campaign),
        &revenue,
        &rescue,
        &time,
        &topic,
        &partition,
        &offset,
    ])
}

/// What no column holds. Where it is several fields, they must come in this order, and written as compactly as can be.
fn rescue(own_time: Option<i64>, fields: &Fields) -> Option<String> {
    let time = fields.event_time.as_ref().filter(|_| own_time.is_none()).map(|time| ("event_time", time));
    let unknown = fields.unknown.iter().map(|(name, value)| (name.as_str(), value));
    let all = time.into_iter().chain(unknown).map(|(name, value)| format!("\"{name}\":{value}"));
    let all: Vec<String> = all.collect();
    (!all.is_empty()).then(|| format!("{{{}}}", all.join(",")))
}

fn text(field: Option<&String>) -> &str {
    field.map_or(NULL, String::as_str)
}

fn float(value: f64) -> String {
    format!("{value:?}")
}
