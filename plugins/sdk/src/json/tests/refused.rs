//! Facts about reasons: what the author of a producer reads of a record that was not read.

use super::rescued::{read, read_by_name};
use crate::bindings::parser::exports::wasmill::plugin::parser::RejectKind;
use crate::json::missing;
use alloc::vec::Vec;

fn reason(record: impl AsRef<[u8]>) -> alloc::string::String {
    let record = record.as_ref();
    let message = read(record).unwrap_err().message.into_owned();
    assert_eq!(read_by_name(record).unwrap_err().message, message);
    message
}

#[test]
fn other_formats_are_called_by_their_names() {
    let whole = "{\"user_id\":\"u\"}";
    let utf16 = |bytes: fn(u16) -> [u8; 2]| whole.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let framed = |payload: &[u8]| [b"\0\0\0\0\x07", payload].concat();
    for (record, want) in [
        (Vec::new(), "an empty record, not a JSON object"),
        (b" \r\n".to_vec(), "a blank record, not a JSON object"),
        (b"null".to_vec(), "null, not a JSON object"),
        (b"17".to_vec(), "a number, not a JSON object"),
        (b" true ".to_vec(), "a boolean, not a JSON object"),
        (b"\"hello\"".to_vec(), "a text, not a JSON object"),
        (b"\"{\\\"user_id\\\":\\\"u\\\"}\"".to_vec(), "a JSON text that holds JSON: it was encoded twice"),
        (b" [{}, {}]".to_vec(), "a JSON array: one event a record is wanted, as an object"),
        (b"\xEF\xBB\xBF[]".to_vec(), "a JSON array: one event a record is wanted, as an object"),
        (b"hello".to_vec(), "not JSON: begins with byte 0x68"),
        (b"<event/>".to_vec(), "looks like XML or HTML, not JSON"),
        (utf16(u16::to_le_bytes), "looks like UTF-16, not UTF-8"),
        (utf16(u16::to_be_bytes), "looks like UTF-16, not UTF-8"),
        ([b"\xFF\xFE".to_vec(), utf16(u16::to_le_bytes)].concat(), "looks like UTF-16, not UTF-8"),
        ([b"\xFE\xFF".to_vec(), utf16(u16::to_be_bytes)].concat(), "looks like UTF-16, not UTF-8"),
        (
            framed(whole.as_bytes()),
            "looks like a schema registry frame (magic byte 0, schema id 7) before the JSON: send JSON without it",
        ),
        (
            framed(b"\x02u\xFF"),
            "looks like a schema registry frame (magic byte 0, schema id 7): Avro or Protobuf, not JSON",
        ),
        (
            b"\x1F\x8B\x08\0".to_vec(),
            "looks like gzip, not JSON: compress in the Kafka producer, which tells the reader",
        ),
    ] {
        assert_eq!(reason(record), want);
    }
}

#[test]
fn mistakes_in_json_are_named_with_their_place() {
    for (record, want) in [
        (r"{'user_id':'u'}", "not JSON: single quotes, where double ones are wanted, at byte 1"),
        (r"{user_id:1}", "not JSON: a key without quotes, at byte 1"),
        (r#"{"x":1,}"#, "not JSON: a comma with nothing after it, at byte 7"),
        (r#"{"x":1 /* y */}"#, "not JSON: a comment, which JSON has not, at byte 7"),
        (r#"{"revenue":007}"#, "not JSON: not a number as JSON has them, at byte 12"),
        (r#"{"revenue":1,"x":[1}"#, "not JSON: unexpected byte 0x7D at byte 19"),
        (r#"{"x":"abc"#, "not JSON: ends at byte 9, inside the object: cut off?"),
        (r#"{"x":{"y":1}"#, "not JSON: ends at byte 12, inside the object: cut off?"),
        ("{} \0", "a NUL after the JSON object, at byte 3"),
        ("{}\n{}", "several JSON objects in one record, the second from byte 3: one event a record is wanted"),
        ("{},", "something after the JSON object, from byte 2"),
    ] {
        assert_eq!(reason(record), want, "{record}");
    }
    for (record, want) in [
        (r#"{"revenue":+5}"#, "revenue: not JSON: not a number as JSON has them, at byte 11"),
        (r#"{"ok":True}"#, "ok: not JSON: a word that JSON has not, at byte 6"),
        ("{\"page\":\"a\tb\"}", "page: not JSON: a raw control character in a text at byte 10"),
        (r#"{"page":"\x"}"#, "page: not JSON: a bad escape at byte 9"),
        (r#"{"page":"abc"#, "page: not JSON: ends at byte 12, inside the object: cut off?"),
    ] {
        assert_eq!(reason(record), want, "{record}");
    }
}

#[test]
fn an_envelope_around_the_event_is_named_where_a_field_is_missed() {
    let connect = "user_id; the record looks like a Kafka Connect envelope (schema, payload): set \
                   value.converter.schemas.enable=false in the connector";
    let debezium = "user_id; the record looks like a Debezium change event (before, after, op): let the connector unwrap \
                    it, ExtractNewRecordState does";
    for (record, want) in [
        (r#"{"schema":{"type":"struct"},"payload":{"user_id":"u"}}"#, connect),
        (r#"{"payload":[NaN], "\u0073chema":null}"#, connect),
        (r#"{"before":null,"after":{},"source":{},"op":"c","ts_ms":1}"#, debezium),
        (r#"{"payload":{"user_id":"u"}}"#, "user_id"),
        (r#"{"x":{"schema":1,"payload":2}}"#, "user_id"),
        ("not JSON", "user_id"),
        ("", "user_id"),
    ] {
        let reject = missing(record.as_bytes(), "user_id");
        assert_eq!((reject.kind, &*reject.message), (RejectKind::Missing, want), "{record}");
    }
}

#[test]
fn a_byte_order_mark_is_read_over() {
    assert_eq!(read(b"\xEF\xBB\xBF{\"user_id\":\"u\"}").unwrap().user_id.to_cow(), "u");
}
