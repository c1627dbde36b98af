//! The reference parser against `serde_json`: what one takes the other takes, too, with the same fields.

use chrono::Datelike;
use clickstream_parser::{Click, ClickstreamParser};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use wasmill_sdk::config::Config;
use wasmill_sdk::input::Symbol;
use wasmill_sdk::json::Text;
use wasmill_sdk::parser::{Parser, Record};

/// Objects and arrays nest this deep in the reference parser; `serde_json` goes on to 128.
const MAX_DEPTH: usize = 64;

/// One record. What the strict parser takes is what `serde_json` takes, and the other one takes it, too; where that
/// takes more, what was wrong is in the rescue.
pub fn click(record: &[u8]) {
    let parse = |settings| {
        let mut parser = Config::make(settings, ClickstreamParser::new).expect("these settings are right");
        parser.parse(Record { value: record, meta: () }).map(|row| row.expect("it filters nothing"))
    };
    let (strict, lax) = (parse(r#"{"strict":true}"#), parse("{}"));
    let text = record.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(record);
    let wanted = serde_json::from_slice(text).ok().and_then(|json| row(&json));
    match (&strict, &wanted) {
        (Ok(click), Some(wanted)) => {
            same(click, wanted);
            assert_eq!(Some(click), lax.as_ref().ok(), "the same in both");
        }
        (Err(reject), None) => assert!(!reject.message.is_empty(), "a reject says why"),
        _ => panic!("the parser says {strict:?}, serde_json {wanted:?}"),
    }
    match lax {
        Ok(click) => {
            let rescue = click.rescue.as_deref().map(serde_json::from_str::<serde_json::Map<_, serde_json::Value>>);
            let rescue = rescue.transpose().expect("the rescue is an object in JSON");
            assert!(strict.is_ok() || rescue.is_some(), "what was wrong is in the rescue");
            let unread = rescue.is_some_and(|rescue| rescue.contains_key("event_time"));
            assert!(!(unread && click.event_time.is_some()), "a time that was read is not in the rescue");
            if let Some(wanted) = wanted {
                assert_eq!(wanted.has_time, unread || click.event_time.is_some(), "a time is read or in the rescue");
            }
        }
        Err(reject) => assert!(!reject.message.is_empty(), "a reject says why"),
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

/// What should become of a record: its texts in the order of the row, whether there is a time, and its text, its revenue.
#[derive(Debug)]
struct Wanted {
    texts: [Option<String>; 10],
    has_time: bool,
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
    let has_time = !matches!(find("event_time"), None | Some(Json::Null));
    let time = match find("event_time") {
        Some(Json::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let [_, user, _, kind, page, ..] = &texts;
    let whole = user.as_ref().is_some_and(|user| !user.is_empty()) && kind.is_some() && page.is_some();
    whole.then_some(Wanted { texts, has_time, time, revenue })
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
    // The other way round says nothing: the parser reads more forms than RFC 3339 has.
    if let Some(micros) = wanted.time.as_deref().and_then(rfc3339) {
        assert_eq!(click.event_time.map(|time| time.0), Some(micros), "{:?}", wanted.time);
    }
}

/// The instant of a text in RFC 3339, but for what chrono takes and the parser does not: ten digits of a second, a leap
/// second in the middle of a day, and years that an offset makes too early or late.
fn rfc3339(text: &str) -> Option<i64> {
    let fraction = text.split_once('.').map_or("", |(_, rest)| rest);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    let odd = digits > 9 || text.contains(":60") || !text.is_ascii() || !(0..=9999).contains(&time.year());
    (!odd).then(|| time.timestamp_micros())
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
