//! Facts about the reader, and its agreement with another one on mangled input.

use super::*;
use crate::bindings::parser::exports::wasmill::plugin::parser::RejectKind;
use crate::input::Symbol;
use crate::parser::Reject;
use crate::time::Timestamp;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::prelude::*;

#[derive(Debug, Default, PartialEq)]
struct Row<'a> {
    user_id: Text<'a>,
    page: Option<Symbol<Text<'a>>>,
    a: Option<i64>,
    ok: Option<bool>,
    time: Option<Timestamp>,
    revenue: Option<f64>,
    rest: Option<String>,
}

fn read(text: &str) -> Result<Row<'_>, Reject> {
    json_row!(
        text,
        Row { user_id: text_or_empty, page: symbol, a: integer, ok: boolean, time: time, revenue: number },
        strict: true
    )
}

/// The same fields in another order: reading never goes the quick way past the first one.
fn read_by_name(text: &str) -> Result<Row<'_>, Reject> {
    json_row!(
        text,
        Row { revenue: number, time: time, ok: boolean, a: integer, page: symbol, user_id: text_or_empty },
        strict: true
    )
}

fn kind(text: &str) -> RejectKind {
    let (one, other) = (read(text).unwrap_err(), read_by_name(text).unwrap_err());
    assert_eq!(one, other, "{text}");
    one.kind
}

const SAMPLE: &str = r#"{"user_id":"u1","page":"/a\n\u00e9\ud83d\ude00","a":-7,"ok":true,"time":"2026-01-31T23:59:57Z","revenue":12.50}"#;

#[test]
fn fields_are_read_in_any_order_with_any_space() {
    let want = read(SAMPLE).unwrap();
    assert_eq!(want.page.unwrap().to_cow(), "/a\né😀");
    assert_eq!((want.a, want.ok, want.revenue), (Some(-7), Some(true), Some(12.5)));
    let spaced = SAMPLE.replace(',', " ,\n ").replace("\":", "\" :\t");
    let turned = r#" {"revenue":12.50,"x":[{"y":[]},"]"],"page":"/a\n\u00e9\ud83d\ude00","a":-7,"ok":true,"\u0075ser_id":"u1","time":"2026-01-31T23:59:57Z"} "#;
    for text in [spaced.as_str(), turned] {
        assert_eq!(read(text).as_ref(), Ok(&want), "{text}");
        assert_eq!(read_by_name(text).as_ref(), Ok(&want), "{text}");
    }
}

#[test]
fn absent_fields_and_nulls_are_default() {
    assert_eq!(read("{}"), Ok(Row::default()));
    assert_eq!(
        read(r#"{"user_id":null,"page":null,"a":null,"ok":null,"time":null,"revenue":null}"#),
        Ok(Row::default())
    );
}

#[test]
fn what_is_not_json_is_malformed() {
    for text in [
        "",
        " ",
        "{",
        "[]",
        "1",
        "null",
        "{}x",
        "{} {}",
        "{,}",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":1 "b":2}"#,
        "{a:1}",
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":-}"#,
        r#"{"a":1e}"#,
        r#"{"a":0x1}"#,
        r#"{"a":tru}"#,
        r#"{"a":nulL}"#,
        "{\"page\":\"a\nb\"}",
        "{\"page\":\"a\u{0}\"}",
        r#"{"page":"\x"}"#,
        r#"{"page":"\u12g4"}"#,
        r#"{"page":"abc"#,
        r#"{"page":"abc\"#,
        r#"{"page":"\u12"#,
        r"{'a':1}",
        r#"{"z":[1,]}"#,
        r#"{"z":[,1]}"#,
        r#"{"z":{"b":1,}}"#,
        r#"{"z":[1 2]}"#,
        r#"{"z":[1}}"#,
        r#"{"z":{]}}"#,
        r#"{"z":{1:2}}"#,
        r#"{"z":[01]}"#,
        "{}\0",
    ] {
        assert_eq!(kind(text), RejectKind::Malformed, "{text}");
    }
}

#[test]
fn what_cannot_be_is_invalid() {
    for text in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"z":1,"z":2}"#,
        r#"{"z":{"b":1,"b":2}}"#,
        r#"{"z":[{"b":{},"b":{}}]}"#,
        r#"{"a":1e999}"#,
        r#"{"z":-1e999}"#,
        r#"{"a":NaN}"#,
        r#"{"z":Infinity}"#,
        r#"{"a":-Infinity}"#,
        r#"{"user_id":7}"#,
        r#"{"page":["/"]}"#,
        r#"{"a":1.5}"#,
        r#"{"a":9223372036854775808}"#,
        r#"{"ok":"true"}"#,
        r#"{"revenue":"12"}"#,
        r#"{"revenue":{}}"#,
        r#"{"page":"\ud800"}"#,
        r#"{"page":"\udc00"}"#,
        r#"{"page":"\ud800\u0041"}"#,
        r#"{"z":"\ud800\ud800"}"#,
    ] {
        assert_eq!(kind(text), RejectKind::Invalid, "{text}");
    }
    let long = alloc::format!("{{\"z\":1{}}}", "0".repeat(400));
    assert_eq!(kind(&long), RejectKind::Invalid);
}

#[test]
fn nesting_ends_at_depth_64_without_recursion() {
    let nested = |depth: usize| alloc::format!("{{\"z\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(read(&nested(64)).is_ok());
    assert_eq!(kind(&nested(65)), RejectKind::Malformed);
    assert_eq!(kind(&nested(1_000_000)), RejectKind::Malformed);
}

#[test]
fn a_message_names_the_field() {
    assert_eq!(read(r#"{"revenue":"12"}"#).unwrap_err().message, "revenue: a text where a number is wanted");
}

#[test]
fn a_time_that_cannot_be_read_is_no_time() {
    for time in ["7", "{}", "[]", "\"yesterday\"", "true"] {
        assert_eq!(read(&alloc::format!("{{\"time\":{time}}}")).unwrap().time, None);
    }
}

/// Another reader's verdict, with our two restrictions added: keys come once, and the whole is an object.
struct Strict;

impl<'de> serde::Deserialize<'de> for Strict {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Strict;
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
                while seq.next_element::<Strict>()?.is_some() {}
                Ok(Strict)
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let mut keys = std::collections::HashSet::new();
                while let Some((key, Strict)) = map.next_entry::<String, Strict>()? {
                    if !keys.insert(key) {
                        return Err(serde::de::Error::custom("twice"));
                    }
                }
                Ok(Strict)
            }
        }
        from.deserialize_any(Visitor)
    }
}

/// Reads whatever fields there are: only the grammar and the keys can go wrong.
fn accepts(text: &str) -> bool {
    let read = || -> Result<(), Reject> {
        let mut object = Object::open(text)?;
        let mut more = object.first()?;
        while more {
            let key = object.key()?;
            object.once_unknown(key)?;
            object.value()?;
            more = object.more()?;
        }
        Ok(())
    };
    read().is_ok()
}

fn json(depth: u32) -> impl Strategy<Value = String> {
    let number =
        prop_oneof![any::<i64>().prop_map(|n| n.to_string()), any::<f64>().prop_map(|n| alloc::format!("{n:e}"))];
    let text = any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap());
    let leaf = prop_oneof![
        number,
        text,
        Just("null".to_string()),
        Just("true".to_string()),
        Just(r#""\u0041\ud83d\ude00\/""#.to_string())
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| alloc::format!("[{}]", items.join(" , "))),
            prop::collection::vec(("[a-d]", inner), 0..4).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| alloc::format!("\"{key}\":{value}")).collect();
                alloc::format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A record, whole or with one byte changed, put in, taken out, or with its end cut off.
fn mangled(text: &str, how: u8, at: prop::sample::Index, byte: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let at = at.index(bytes.len());
    match how % 5 {
        0 => {}
        1 => bytes[at] = byte,
        2 => bytes.insert(at, byte),
        3 => drop(bytes.remove(at)),
        _ => bytes.truncate(at),
    }
    String::from_utf8(bytes).ok()
}

fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[]:,0123456789.-+eEutfn \n\x00".to_vec())]
}

/// A record with fields of all kinds, known and unknown, some of which do not fit.
fn record() -> impl Strategy<Value = String> {
    let key = prop::sample::select(alloc::vec![
        "user_id",
        "page",
        "a",
        "ok",
        "time",
        "revenue",
        "x",
        "y",
        "\\u0070age",
        "\\ud83d"
    ]);
    let value = prop_oneof![
        json(3),
        prop::sample::select(alloc::vec![
            "\"u1\"",
            "-7",
            "true",
            "\"2026-01-31T23:59:57Z\"",
            "1.5",
            "null",
            "NaN",
            "-Infinity",
            "007",
            "1e999",
            "\"\\ud83d\"",
            "{\"b\":1,\"b\":[NaN]}",
            "\"\\x\"",
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec((key, value), 0..8).prop_map(|members| {
        let members: Vec<String> = members.iter().map(|(key, value)| alloc::format!("\"{key}\":{value}")).collect();
        alloc::format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_ways_agree_on_mangled_records(how: u8, at: prop::sample::Index, byte in any_byte()) {
        if let Some(text) = mangled(SAMPLE, how, at, byte) {
            prop_assert_eq!(read(&text), read_by_name(&text), "{}", text);
        }
    }

    #[test]
    fn another_reader_accepts_and_refuses_the_same(value in json(4), how: u8, at: prop::sample::Index, byte in any_byte()) {
        let whole = alloc::format!("{{\"x\":{value},\"y\":{value}}}");
        if let Some(text) = mangled(&whole, how, at, byte) {
            let other = serde_json::from_str::<Strict>(&text).is_ok() && text.trim_start().starts_with('{');
            prop_assert_eq!(accepts(&text), other, "{}", text);
        }
    }

    #[test]
    fn another_reader_finds_the_same_text(value: String) {
        let text = serde_json::to_string(&serde_json::json!({ "user_id": value })).unwrap();
        let row = read(&text).unwrap();
        prop_assert_eq!(row.user_id.to_cow(), value);
    }

    #[test]
    fn what_the_strict_read_the_others_read_alike(text in record()) {
        let lax = rescued::read(text.as_bytes());
        prop_assert_eq!(&lax, &rescued::read_by_name(text.as_bytes()), "{}", text);
        if let Ok(strict) = read(&text) {
            let lax = lax.unwrap();
            let whole = lax.rest.as_ref().is_none_or(|rest| rest.starts_with("{\"x\"") || rest.starts_with("{\"y\"") || strict.time.is_none());
            prop_assert!(whole, "{text} {lax:?}");
            prop_assert_eq!(Row { rest: None, ..lax }, strict, "{}", text);
        }
    }

    #[test]
    fn the_rest_is_json_whatever_the_record_is(
        text in record(),
        how: u8,
        at: prop::sample::Index,
        byte in prop_oneof![any_byte(), 0x80u8..=0xFF],
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        match how % 4 {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
        if let Ok(Row { rest: Some(rest), .. }) = rescued::read(&bytes) {
            let json: serde_json::Result<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&rest);
            prop_assert!(json.is_ok_and(|json| !json.is_empty()), "{rest}");
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes: Vec<u8>) {
        let _ = (rescued::read(&bytes), rescued::read(&[b"{\"x\":", &bytes[..], b"}"].concat()));
    }
}

mod refused;
mod rescued;
