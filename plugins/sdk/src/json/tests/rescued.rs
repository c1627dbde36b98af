//! Facts about what no field takes.

use super::{Reject, Row};
use crate::time::Timestamp;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub(super) fn read(record: &[u8]) -> Result<Row<'_>, Reject> {
    json_row!(
        record,
        Row { user_id: text_or_empty, page: symbol, a: integer, ok: boolean, time: time, revenue: number, ..rest }
    )
}

/// The same fields in another order.
pub(super) fn read_by_name(record: &[u8]) -> Result<Row<'_>, Reject> {
    json_row!(
        record,
        Row { revenue: number, time: time, ok: boolean, a: integer, page: symbol, user_id: text_or_empty, ..rest }
    )
}

/// What is left over of a record, the same in both ways of reading.
fn rest(record: impl AsRef<[u8]>) -> Option<String> {
    let record = record.as_ref();
    let row = read(record).unwrap();
    assert_eq!(read_by_name(record).as_ref(), Ok(&row));
    row.rest
}

/// An object's fields by name; the last one where a name comes twice.
fn object(json: &str) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_record_whose_fields_all_fit_leaves_nothing() {
    assert_eq!(rest("{}"), None);
    assert_eq!(rest(super::SAMPLE), None);
    assert_eq!(rest(r#"{"a":null,"time":null,"revenue":null}"#), None);
}

#[test]
fn unknown_fields_are_kept_as_they_stood() {
    for (record, want) in [
        (r#"{"experiment":"B","user_id":"u"}"#, r#"{"experiment":"B"}"#),
        (r#"{"user_id":"u","cart":{"items":[1, 2]}, "x" : null}"#, r#"{"cart":{"items":[1, 2]},"x":null}"#),
        (r#"{"rest":1,"é":"\u00e9\n"}"#, r#"{"rest":1,"é":"\u00e9\n"}"#),
        (r#"{"x":1,"x":2}"#, r#"{"x":1,"x":2}"#),
        (r#"{"x":{"y":1,"y":2}}"#, r#"{"x":{"y":1,"y":2}}"#),
        (r#"{"Page":"/"}"#, r#"{"Page":"/"}"#),
        (r#"{"\u0078":1}"#, r#"{"\u0078":1}"#),
    ] {
        assert_eq!(rest(record).as_deref(), Some(want));
    }
}

#[test]
fn what_is_not_json_is_kept_as_a_text() {
    for (record, want) in [
        (r#"{"x":NaN,"y":-Infinity}"#, r#"{"x":"NaN","y":"-Infinity"}"#),
        (r#"{"x":"cut \ud83d"}"#, r#"{"x":"\"cut \\ud83d\""}"#),
        (r#"{"x":{"y":["\udc00"]}}"#, r#"{"x":"{\"y\":[\"\\udc00\"]}"}"#),
        (r#"{"x":[NaN, {"y":0x10}]}"#, r#"{"x":"[NaN, {\"y\":0x10}]"}"#),
        (r#"{"x":1e999}"#, r#"{"x":"1e999"}"#),
        (r#"{"x":007,"y":+5,"z":None}"#, r#"{"x":"007","y":"+5","z":"None"}"#),
        ("{\"x\":\"a\tb\"}", r#"{"x":"\"a\u0009b\""}"#),
        (r#"{"\ud83d":1}"#, r#"{"\\ud83d":1}"#),
        (r#"{"\page":1}"#, r#"{"\\page":1}"#),
    ] {
        assert_eq!(rest(record).as_deref(), Some(want));
        object(want);
    }
    let latin = b"{\"user_id\":\"\xC3\xA9\",\"caf\xE9\":\"cr\xE8me\",\"x\":1}";
    assert_eq!(rest(latin).as_deref(), Some("{\"caf\u{FFFD}\":\"\\\"cr\u{FFFD}me\\\"\",\"x\":1}"));
    assert_eq!(read(latin).unwrap().user_id.to_cow(), "é");
}

#[test]
fn deep_nesting_is_kept_as_a_text_without_recursion() {
    let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(rest(nested(63)), Some(nested(63)));
    let [deep, bomb] = [64, 1_000_000].map(|depth| rest(nested(depth)).unwrap());
    assert_eq!(deep, format!("{{\"x\":\"{}{}\"}}", "[".repeat(64), "]".repeat(64)));
    assert!(bomb.ends_with("[… (2000000 bytes)\"}"), "{bomb}");
}

#[test]
fn a_value_that_does_not_fit_is_kept_and_its_field_is_null() {
    for (value, kept) in [
        ("\"1.00\"", "\"1.00\""),
        ("true", "true"),
        ("{\"amount\":1.0}", "{\"amount\":1.0}"),
        ("[1]", "[1]"),
        ("{\"b\":1,\"b\":2}", "{\"b\":1,\"b\":2}"),
        ("NaN", "\"NaN\""),
        ("-Infinity", "\"-Infinity\""),
        ("1e999", "\"1e999\""),
        ("[NaN]", "\"[NaN]\""),
    ] {
        let record = format!("{{\"user_id\":\"u\",\"revenue\":{value}}}");
        assert_eq!(read(record.as_bytes()).unwrap().revenue, None, "{value}");
        assert_eq!(rest(record), Some(format!("{{\"revenue\":{kept}}}")), "{value}");
    }
    for record in
        [r#"{"page":["/"]}"#, r#"{"a":1.5}"#, r#"{"a":9223372036854775808}"#, r#"{"ok":"true"}"#, r#"{"ok":0}"#]
    {
        assert_eq!(rest(record).as_deref(), Some(record));
    }
}

#[test]
fn a_time_that_cannot_be_read_is_told_from_one_that_is_not_there() {
    for time in ["\"yesterday\"", "\"2026-02-30\"", "7", "{\"$date\":1}", "[2026]", "true", "\"\\u0079\"", "\"\""] {
        let record = format!("{{\"time\":{time}}}");
        assert_eq!(rest(&record), Some(record.clone()));
        assert_eq!(read(record.as_bytes()).unwrap().time, None);
    }
    assert_eq!((rest("{\"time\":null}"), rest("{}")), (None, None));
    for time in [
        "1773144300",
        "1773144300.000000000",
        "\"2026-03-10T12:05Z\"",
        "\"\\u0032026-03-10T12:05Z\"",
        "[2026,3,10,12,5]",
    ] {
        let record = format!("{{\"time\":{time}}}");
        assert_eq!(rest(&record), None);
        assert_eq!(read(record.as_bytes()).unwrap().time, Some(Timestamp(1_773_144_300_000_000)), "{time}");
    }
}

#[test]
fn a_required_field_of_another_type_is_refused() {
    for (record, want) in [
        (r#"{"user_id":42}"#, "user_id: a number where a text is wanted"),
        (r#"{"user_id":{"id":1}}"#, "user_id: an object where a text is wanted"),
        (r#"{"user_id":NaN}"#, "user_id: not a finite number at byte 11"),
    ] {
        assert_eq!(read(record.as_bytes()).unwrap_err().message, want);
    }
}

#[test]
fn a_text_that_is_used_must_be_right() {
    let message = |record: &[u8]| read(record).unwrap_err().message;
    assert_eq!(message(br#"{"page":"/cut \ud83d"}"#), "page: a lone surrogate \\ud83d at byte 14: half of a character");
    assert_eq!(
        message(b"{\"x\":1,\"page\":\"/caf\xE9\"}"),
        "page: not UTF-8 from byte 19, 0xE9: another encoding, such as Latin-1?"
    );
    assert_eq!(
        message(b"{\"page\":\"/\xED\xA0\xBD\"}"),
        "page: not UTF-8 from byte 10, 0xED: another encoding, such as Latin-1?"
    );
    assert_eq!(message(br#"{"page":"/","x":1,"page":"/"}"#), "key \"page\" comes twice");
}

#[test]
fn without_a_rescue_nothing_is_lost_silently() {
    #[derive(Debug, Default)]
    struct Sale {
        revenue: Option<f64>,
    }
    let read = |record: &'static str| json_row!(record, Sale { revenue: number }).map(|sale| sale.revenue);
    assert_eq!(read(r#"{"x":NaN,"revenue":1.5,"x":"\ud83d"}"#), Ok(Some(1.5)), "unknown fields are stepped over");
    assert!(read(r#"{"revenue":"1.5"}"#).is_err());
    assert!(read(r#"{"revenue":NaN}"#).is_err());
}

#[test]
fn the_rest_is_bounded_and_says_what_is_left_out() {
    let big = rest(format!("{{\"a\":1.5,\"x\":\"{}é\",\"y\":1}}", "é".repeat(500_000))).unwrap();
    let fields = object(&big);
    assert_eq!((fields["a"].to_string(), fields["y"].to_string()), ("1.5".into(), "1".into()));
    assert!(fields["x"].as_str().is_some_and(|x| x.starts_with("\"éé") && x.ends_with("é… (1000004 bytes)")), "{big}");
    let many: Vec<String> = (0..20_000).map(|i| format!("\"field_{i}\":{i}")).collect();
    let many = rest(format!("{{{},\"revenue\":\"{}\"}}", many.join(","), "x".repeat(1_000_000))).unwrap();
    let fields = object(&many);
    assert!(many.len() < 66_000, "{}", many.len());
    assert!(fields["revenue"].as_str().is_some_and(|x| x.ends_with("… (1000002 bytes)")), "it always has room");
    assert_eq!(fields["…"], format!("{} more fields", 20_000 - (fields.len() - 2)));
}
