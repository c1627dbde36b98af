//! The reference parser against `serde_json`: what one takes the other takes too, with the same fields.

use clickstream_parser::{Click, ClickstreamParser};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use wasmill_sdk::input::Symbol;
use wasmill_sdk::json::Text;
use wasmill_sdk::parser::{Parser, Record};

/// Objects and arrays nest this deep in the reference parser; `serde_json` goes on to 128.
const MAX_DEPTH: usize = 64;

/// One record.
pub fn click(record: &[u8]) {
    let parsed = ClickstreamParser.parse(Record { value: record, meta: () });
    let wanted = serde_json::from_slice(record).ok().and_then(|json| row(&json));
    match (parsed, wanted) {
        (Ok(Some(click)), Some(wanted)) => same(&click, &wanted),
        (Err(reject), None) => assert!(!reject.message.is_empty(), "a reject says why"),
        (parsed, wanted) => panic!("the parser says {parsed:?}, serde_json {wanted:?}"),
    }
}

/// JSON with what `serde_json`'s own value forgets: keys that come twice.
#[derive(Debug)]
enum Json {
    Null,
    Number(f64),
    Text(String),
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    Boolean,
}

/// What should become of a record: its texts in the order of the row, the text of its time, its revenue.
#[derive(Debug)]
struct Wanted {
    texts: [Option<String>; 10],
    time: Option<String>,
    revenue: Option<f64>,
}

const TEXTS: [&str; 10] =
    ["event_id", "user_id", "session_id", "event_type", "page", "referrer", "device", "browser", "country", "campaign"];

/// The row of a record, if it should become one.
fn row(json: &Json) -> Option<Wanted> {
    if !strict(json, MAX_DEPTH) {
        return None;
    }
    let Json::Object(fields) = json else { return None };
    let find = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value);
    let mut texts = [const { None }; 10];
    for (text, name) in texts.iter_mut().zip(TEXTS) {
        *text = match find(name) {
            None | Some(Json::Null) => None,
            Some(Json::Text(text)) => Some(text.clone()),
            Some(_) => return None,
        };
    }
    let revenue = match find("revenue") {
        None | Some(Json::Null) => None,
        Some(Json::Number(number)) => Some(*number),
        Some(_) => return None,
    };
    let time = match find("event_time") {
        Some(Json::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let [_, user, _, kind, page, ..] = &texts;
    let whole = user.as_ref().is_some_and(|user| !user.is_empty()) && kind.is_some() && page.is_some();
    whole.then_some(Wanted { texts, time, revenue })
}

/// Whether no key comes twice in an object, and nothing nests deeper.
fn strict(json: &Json, depth: usize) -> bool {
    match json {
        Json::Object(fields) => {
            let mut keys: Vec<&String> = fields.iter().map(|(key, _)| key).collect();
            keys.sort_unstable();
            depth > 0 && keys.is_sorted_by(|a, b| a < b) && fields.iter().all(|(_, value)| strict(value, depth - 1))
        }
        Json::Array(items) => depth > 0 && items.iter().all(|item| strict(item, depth - 1)),
        _ => true,
    }
}

fn same(click: &Click<'_>, wanted: &Wanted) {
    let text = |text: &Option<Text<'_>>| text.map(|text| text.to_cow().into_owned());
    let symbol = |symbol: &Option<Symbol<Text<'_>>>| text(&symbol.map(|symbol| symbol.0));
    let texts = [
        text(&click.event_id),
        Some(click.user_id.to_cow().into_owned()),
        text(&click.session_id),
        symbol(&click.event_type),
        symbol(&click.page),
        symbol(&click.referrer),
        symbol(&click.device),
        symbol(&click.browser),
        symbol(&click.country),
        symbol(&click.campaign),
    ];
    assert_eq!(texts, wanted.texts);
    match (click.revenue, wanted.revenue) {
        // serde_json without its feature `float_roundtrip` is off by a bit now and then; the parser never is.
        (Some(a), Some(b)) => assert!((a - b).abs() <= b.abs() * 4.0 * f64::EPSILON + f64::from_bits(4), "{a} {b}"),
        (a, b) => assert_eq!(a, b),
    }
    // The other way round says nothing: chrono reads more forms than RFC 3339 has.
    if let Some(time) = click.event_time {
        let text = wanted.time.as_ref().expect("a time comes from a text");
        let zoned = format!("{text}Z");
        let parsed = [text, &zoned].into_iter().find_map(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
        assert_eq!(parsed.expect("chrono reads RFC 3339").timestamp_micros(), time.0, "{text}");
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Boolean)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Json::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            all.push(entry);
        }
        Ok(Json::Object(all))
    }
}
