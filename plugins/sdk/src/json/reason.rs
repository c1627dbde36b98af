//! Why a record is not read, in words that the author of its producer understands.

use super::scan::{BYTE_ORDER_MARK, Object, Rules};
use crate::parser::Reject;
use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

/// Formats that are taken for JSON by mistake, by their first bytes.
///
/// # Source
/// RFC 1952 (gzip), RFC 8878 (Zstandard), the Avro specification (object container files).
const FORMATS: [(&[u8], &str); 6] = [
    (b"\xFF\xFE", "UTF-16, not UTF-8"),
    (b"\xFE\xFF", "UTF-16, not UTF-8"),
    (b"\x1F\x8B", "gzip, not JSON: compress in the Kafka producer, which tells the reader"),
    (b"\x28\xB5\x2F\xFD", "Zstandard, not JSON: compress in the Kafka producer, which tells the reader"),
    (b"Obj\x01", "an Avro file, not JSON"),
    (b"<", "XML or HTML, not JSON"),
];

/// What is written around events, by the keys of such an object, and what a producer's author can do.
///
/// # Source
/// Kafka Connect's `JsonConverter` (`schemas.enable`), Debezium's change events.
const ENVELOPES: [(&[&str], &str); 2] = [
    (
        &["schema", "payload"],
        "a Kafka Connect envelope (schema, payload): set value.converter.schemas.enable=false in the connector",
    ),
    (
        &["before", "after", "op"],
        "a Debezium change event (before, after, op): let the connector unwrap it, ExtractNewRecordState does",
    ),
];

/// Missing: the object `text` has no `field`, with what to do where it looks like an envelope around the event.
#[cold]
#[must_use]
pub fn missing(text: &[u8], field: &str) -> Reject {
    let keys = keys(text).unwrap_or_default();
    let envelope = ENVELOPES.iter().find(|(all, _)| all.iter().all(|key| keys.contains(*key)));
    Reject::missing(match envelope {
        Some((_, what)) => format!("{field}; the record looks like {what}"),
        None => field.into(),
    })
}

/// The keys of an object.
fn keys(text: &[u8]) -> Result<BTreeSet<Cow<'_, str>>, Reject> {
    let mut object = Object::open_with(text, Rules::default())?;
    let mut keys = BTreeSet::new();
    let mut more = object.first()?;
    while more {
        let key = object.key()?;
        keys.insert(key.name());
        object.unknown(key)?;
        more = object.more()?;
    }
    Ok(keys)
}

/// Malformed: `text` is not an object in JSON; reading it came to an end at byte `at`.
#[cold]
pub(super) fn malformed(text: &[u8], at: usize) -> Reject {
    let body = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim_ascii();
    Reject::malformed(match body {
        [] if text.is_empty() => "an empty record, not a JSON object".into(),
        [] => "a blank record, not a JSON object".into(),
        _ if let Some(format) = format_of(body) => format,
        [b'{', ..] => inside(text, at),
        _ => other_than_an_object(body),
    })
}

/// Malformed: something stands at byte `at`, after the end of the object.
#[cold]
pub(super) fn something_after(text: &[u8], at: usize) -> Reject {
    Reject::malformed(match text.get(at) {
        Some(b'{') => {
            format!("several JSON objects in one record, the second from byte {at}: one event a record is wanted")
        }
        Some(0) => format!("a NUL after the JSON object, at byte {at}"),
        _ => format!("something after the JSON object, from byte {at}"),
    })
}

/// Malformed: `text` is not UTF-8.
#[cold]
pub(super) fn not_utf8(text: &[u8]) -> Reject {
    if let Some(format) = format_of(text) {
        return Reject::malformed(format);
    }
    let at = str::from_utf8(text).map_or_else(|error| error.valid_up_to(), str::len);
    let byte = text.get(at).copied().unwrap_or_default();
    Reject::malformed(format!("not UTF-8 from byte {at}, 0x{byte:02X}: another encoding, such as Latin-1?"))
}

/// The backslash at byte `at` begins no escape. Invalid: it is half of a pair; malformed: anything else.
#[cold]
pub(super) fn bad_escape(text: &[u8], at: usize) -> Reject {
    match super::text::unit(&text[at + 1..]) {
        Some(half) => Reject::invalid(format!("a lone surrogate \\u{half:04x} at byte {at}: half of a character")),
        None if at + 1 >= text.len() => malformed(text, at + 1),
        None => Reject::malformed(format!("not JSON: a bad escape at byte {at}")),
    }
}

/// The format that a text looks like, if it is none of JSON's.
fn format_of(text: &[u8]) -> Option<String> {
    // Every second byte of UTF-16 is 0, where the text is plain.
    if let [b'{' | b'[', 0, ..] | [0, b'{' | b'[', 0, ..] = text {
        return Some("looks like UTF-16, not UTF-8".into());
    }
    if let [0, a, b, c, d, payload @ ..] = text {
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        let what = match payload.trim_ascii_start().first() {
            Some(b'{') => " before the JSON: send JSON without it",
            _ => ": Avro or Protobuf, not JSON",
        };
        return Some(format!("looks like a schema registry frame (magic byte 0, schema id {id}){what}"));
    }
    let format = FORMATS.iter().find(|(magic, _)| text.starts_with(magic));
    format.map(|(_, name)| format!("looks like {name}"))
}

fn other_than_an_object(text: &[u8]) -> String {
    let what = match text {
        [b'[', ..] => "a JSON array: one event a record is wanted, as an object",
        [b'"', b'{', ..] => "a JSON text that holds JSON: it was encoded twice",
        [b'"', ..] => "a text, not a JSON object",
        b"null" => "null, not a JSON object",
        b"true" | b"false" => "a boolean, not a JSON object",
        [b'-' | b'0'..=b'9', ..] => "a number, not a JSON object",
        [first, ..] => return format!("not JSON: begins with byte 0x{first:02X}"),
        [] => "a blank record, not a JSON object",
    };
    what.into()
}

/// What is wrong at byte `at` of an object.
fn inside(text: &[u8], at: usize) -> String {
    let before = text[..at.min(text.len())].trim_ascii_end().last();
    let number = matches!(before, Some(b'0'..=b'9' | b'-' | b'+' | b'.'));
    let what = match text.get(at) {
        None => return format!("not JSON: ends at byte {at}, inside the object: cut off?"),
        Some(b'\'') => "single quotes, where double ones are wanted",
        Some(b'/' | b'#') => "a comment, which JSON has not",
        Some(b'}' | b']') if before == Some(&b',') => "a comma with nothing after it",
        Some(0) => "a NUL",
        Some(b'+' | b'.' | b'0'..=b'9') => "not a number as JSON has them",
        Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') if number => "not a number as JSON has them",
        Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') if matches!(before, Some(b'{' | b',')) => "a key without quotes",
        Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => "a word that JSON has not",
        Some(byte) => return format!("not JSON: unexpected byte 0x{byte:02X} at byte {at}"),
    };
    format!("not JSON: {what}, at byte {at}")
}
