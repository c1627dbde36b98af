//! Clickstream events: one flat JSON object a record.
#![cfg_attr(target_arch = "wasm32", no_std)]

use wasmill_sdk::json::missing;
use wasmill_sdk::prelude::*;

row_out! {
    /// An event.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct Click<'a> {
        event_id: Option<Text<'a>>,
        event_time: Option<Timestamp>,
        user_id: Text<'a>,
        session_id: Option<Text<'a>>,
        event_type: Option<Symbol<Text<'a>>>,
        page: Option<Symbol<Text<'a>>>,
        referrer: Option<Symbol<Text<'a>>>,
        device: Option<Symbol<Text<'a>>>,
        browser: Option<Symbol<Text<'a>>>,
        country: Option<Symbol<Text<'a>>>,
        campaign: Option<Symbol<Text<'a>>>,
        revenue: Option<f64>,
        rescue: Option<String>,
    }
}

/// The parser, by its settings: how times are written, and whether what no column takes may be wrong.
#[derive(Debug, Default)]
pub struct ClickstreamParser {
    time: TimeReader,
    strict: bool,
}

impl Parser for ClickstreamParser {
    type Row<'a> = Click<'a>;
    type Meta<'a> = ();
    const EVENT_TIME: Option<&'static str> = Some("event_time");
    const RESCUE: Option<&'static str> = Some("rescue");

    fn new(config: &mut Config<'_>) -> Result<Self, String> {
        let time = TimeReader::take(config, "event_time", "assume_zone")?;
        Ok(Self { time, strict: config.boolean("strict")?.unwrap_or(false) })
    }

    #[inline]
    fn parse<'a>(&mut self, record: Record<'a>) -> Result<Option<Click<'a>>, Reject> {
        let click = json_row!(
            record.value,
            Click {
                event_id: text,
                event_time: time_in(self.time),
                user_id: text_or_empty,
                session_id: text,
                event_type: required_symbol,
                page: required_symbol,
                referrer: symbol,
                device: symbol,
                browser: symbol,
                country: symbol,
                campaign: symbol,
                revenue: number,
                ..rescue
            },
            strict: self.strict
        )?;
        match () {
            () if click.user_id.is_empty() => Err(missing(record.value, "user_id")),
            () if click.event_type.is_none() => Err(missing(record.value, "event_type")),
            () if click.page.is_none() => Err(missing(record.value, "page")),
            () => Ok(Some(click)),
        }
    }
}
export_parser!(ClickstreamParser);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::parser::RejectKind;
    use wasmill_sdk::testing::parser_laws;

    const WHOLE: &str = r#"{"event_id":"e1","event_time":"2026-01-31T23:59:57.804Z","user_id":"u1","session_id":"s1","event_type":"purchase","page":"/a\u0062","referrer":"direct","device":"mobile","browser":"Edge","country":"DE","campaign":"none","revenue":12.5}"#;

    fn parse(value: &str) -> Result<Option<Click<'_>>, Reject> {
        ClickstreamParser::default().parse(Record { value: value.as_bytes(), meta: () })
    }

    fn refused(value: &str) -> (RejectKind, String) {
        let reject = parse(value).unwrap_err();
        (reject.kind, reject.message.into_owned())
    }

    #[test]
    fn every_field_finds_its_column_and_escapes_are_resolved() {
        let click = parse(WHOLE).unwrap().unwrap();
        assert_eq!(click.event_time, Some(Timestamp(1_769_903_997_804_000)));
        assert_eq!((click.page.unwrap().to_cow().as_ref(), click.revenue), ("/ab", Some(12.5)));
        assert_eq!(click.country, Some(Symbol("DE".into())));
    }

    #[test]
    fn what_may_be_absent_is_null() {
        let click = parse(r#"{"user_id":"u1","event_type":"click","page":"/","revenue":null}"#).unwrap().unwrap();
        assert_eq!((click.event_id, click.event_time, click.session_id, click.revenue), (None, None, None, None));
    }

    #[test]
    fn a_time_that_cannot_be_read_is_null_and_kept() {
        for time in ["17", "\"yesterday\"", "\"2026-02-30T00:00:00Z\"", "{}"] {
            let text = format!(r#"{{"event_time":{time},"user_id":"u1","event_type":"click","page":"/"}}"#);
            let click = parse(&text).unwrap().unwrap();
            assert_eq!((click.event_time, click.rescue), (None, Some(format!("{{\"event_time\":{time}}}"))), "{time}");
        }
    }

    #[test]
    fn times_are_read_as_the_settings_say() {
        let time = |settings: &str, time: &str| {
            let mut parser = Config::make(settings, ClickstreamParser::new).unwrap();
            let text = format!(r#"{{"event_time":{time},"user_id":"u1","event_type":"click","page":"/"}}"#);
            parser.parse(Record { value: text.as_bytes(), meta: () }).unwrap().unwrap().event_time
        };
        let noon = Some(Timestamp(1_773_144_300_000_000));
        assert_eq!(time("{}", "\"2026-03-10T12:05Z\""), noon);
        assert_eq!(time("{}", "1773144300000"), noon);
        assert_eq!(time(r#"{"assume_zone":"+01:00"}"#, "\"2026-03-10 13:05\""), noon);
        assert_eq!(time(r#"{"event_time":"epoch_s"}"#, "1773144300000"), None);
        let refused = Config::make(r#"{"event_time":"ISO"}"#, ClickstreamParser::new).unwrap_err();
        assert_eq!(refused, "event_time: want auto, iso, epoch_s, epoch_ms, epoch_us or epoch_ns");
    }

    #[test]
    fn what_has_no_column_is_rescued() {
        let text = WHOLE.replace("12.5", r#""1.00","experiment":"B","score":NaN"#);
        let click = parse(&text).unwrap().unwrap();
        assert_eq!((click.revenue, parse(WHOLE).unwrap().unwrap().rescue), (None, None));
        assert_eq!(click.rescue.as_deref(), Some(r#"{"revenue":"1.00","experiment":"B","score":"NaN"}"#));
        let mut strict = Config::make(r#"{"strict":true}"#, ClickstreamParser::new).unwrap();
        let mut refused = |text: &str| strict.parse(Record { value: text.as_bytes(), meta: () }).unwrap_err().kind;
        assert_eq!(refused(&text), RejectKind::Invalid);
        assert_eq!(refused(&WHOLE.replace("12.5", "12.5,\"score\":NaN")), RejectKind::Invalid);
    }

    #[test]
    fn what_must_be_there_is_missed() {
        for (text, field) in [
            ("{}", "user_id"),
            (r#"{"user_id":"","event_type":"click","page":"/"}"#, "user_id"),
            (r#"{"user_id":null,"event_type":"click","page":"/"}"#, "user_id"),
            (r#"{"user_id":"u1","page":"/"}"#, "event_type"),
            (r#"{"user_id":"u1","event_type":"click","page":null}"#, "page"),
        ] {
            assert_eq!(refused(text), (RejectKind::Missing, field.to_string()), "{text}");
        }
    }

    #[test]
    fn wrong_types_of_what_must_be_there_twice_told_keys_and_other_formats_are_refused() {
        for (text, field) in [("\"u1\"", "user_id"), ("\"purchase\"", "event_type"), ("\"/a\\u0062\"", "page")] {
            let want = format!("{field}: a number where a text is wanted");
            assert_eq!(refused(&WHOLE.replace(text, "7")), (RejectKind::Invalid, want));
        }
        assert_eq!(refused(&WHOLE.replace("\"e1\"", "\"e1\",\"page\":\"/\"")).0, RejectKind::Invalid);
        assert_eq!(refused(&WHOLE[..200]).0, RejectKind::Malformed);
        assert_eq!(refused("").0, RejectKind::Malformed);
        let not_utf8 = ClickstreamParser::default().parse(Record { value: b"{\"user_id\":\"\xFF\"}", meta: () });
        assert_eq!(not_utf8.unwrap_err().kind, RejectKind::Malformed);
    }

    #[test]
    fn the_laws_hold() {
        let page_less = WHOLE.replace("page", "side");
        let other = WHOLE.replace("DE", "FR").replace("\"campaign\":\"none\",", "");
        let spaced = WHOLE.replace(':', ": ");
        let records = [WHOLE, "", &other, &page_less, &spaced, "[]"].map(|text| Some(text.as_bytes()));
        parser_laws::<ClickstreamParser>("{}", &[&records[..], &[None], &records[..]].concat());
    }
}
