//! Where reading starts when there is no checkpoint: `source.start`.

use std::{collections::BTreeMap, fmt};

use chrono::DateTime;

use super::instant::parse_instant;

/// What to write instead, for messages.
pub(super) const EXAMPLES: &str = "\"earliest\", \"latest\", \"timestamp:2026-01-01T00:00:00Z\" or offsets by partition: { \"0\" = 123, \"1\" = 456 }";

/// Where reading starts when there is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that the broker still has.
    Earliest,
    /// After the last record at the time of the start.
    Latest,
    /// At the first record whose broker time is this or later, µs since the Unix epoch.
    Timestamp(i64),
    /// At these next offsets, by partition; neither is negative, and there is at least one.
    /// Partitions that are not named start at their first record.
    Offsets(BTreeMap<i32, i64>),
}

impl fmt::Display for Start {
    /// As it is written in a pipeline file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Timestamp(us) => match DateTime::from_timestamp_micros(*us) {
                Some(time) => write!(f, "timestamp:{}", time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
                None => write!(f, "timestamp:{}", us / 1000),
            },
            Self::Offsets(offsets) => {
                f.write_str("{")?;
                for (i, (partition, offset)) in offsets.iter().enumerate() {
                    write!(f, "{}\"{partition}\":{offset}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Reads a start from text, whose offsets are JSON: `{"0": 123}`, or Spark's `{"topic": {"0": 123}}`.
///
/// # Errors
/// What is wrong with `text` and what would be right.
pub(super) fn parse_start(text: &str, topic: &str) -> Result<Start, String> {
    let trimmed = text.trim();
    if trimmed.eq_ignore_ascii_case("earliest") {
        return Ok(Start::Earliest);
    }
    if trimmed.eq_ignore_ascii_case("latest") {
        return Ok(Start::Latest);
    }
    if let Some(time) = trimmed.strip_prefix("timestamp:") {
        return parse_instant(time).map(Start::Timestamp);
    }
    if trimmed.starts_with('{') {
        let json = serde_json::from_str(trimmed).map_err(|_| format!("{text:?} is not JSON; write {{\"0\": 123}}"))?;
        return offsets(&json, topic).map(Start::Offsets);
    }
    Err(format!("{text:?} is not a start; write {EXAMPLES}"))
}

/// Reads explicit offsets, by partition or by topic and partition.
///
/// # Errors
/// What is wrong and what would be right.
pub(super) fn offsets(json: &serde_json::Value, topic: &str) -> Result<BTreeMap<i32, i64>, String> {
    let object = json.as_object().ok_or("offsets are by partition; write {\"0\": 123}")?;
    if let Some((name, inner)) = object.iter().next().filter(|(_, value)| value.is_object()) {
        if object.len() > 1 || name != topic {
            return Err(format!(
                "offsets of the topic {name:?} where {topic:?} is read; write {{{topic:?}: {{\"0\": 123}}}}"
            ));
        }
        return offsets(inner, "");
    }
    if object.is_empty() {
        return Err("there is no offset; write {\"0\": 123}".into());
    }
    let entry = |(partition, offset): (&String, &serde_json::Value)| match (partition.parse(), offset.as_i64()) {
        (Ok(partition @ 0..), Some(offset @ 0..)) => Ok((partition, offset)),
        (Ok(0_i32..), _) => {
            Err(format!("{offset} is not an offset of partition {partition}; write a whole number, 0 or more"))
        }
        _ => Err(format!("{partition:?} is not a partition; write {{\"0\": 123}}")),
    };
    object.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Start, String> {
        parse_start(text, "events")
    }

    #[test]
    fn words_times_and_offsets_are_starts() {
        assert_eq!(parse("earliest"), Ok(Start::Earliest));
        assert_eq!(parse(" Latest"), Ok(Start::Latest));
        assert_eq!(parse("timestamp:1970-01-01T00:00:01.5Z"), Ok(Start::Timestamp(1_500_000)));
        assert_eq!(parse("timestamp:1970-01-01T01:00:00+01:00"), Ok(Start::Timestamp(0)));
        assert_eq!(parse("timestamp:1773144030"), Ok(Start::Timestamp(1_773_144_030_000_000)));
        assert_eq!(parse("timestamp:1773144030000"), parse("timestamp:1773144030"));
        assert_eq!(parse("timestamp: 2026-01-31 12:00+0100"), Ok(Start::Timestamp(1_769_857_200_000_000)));
        assert_eq!(parse("{\"0\": 5, \"1\": 0}"), Ok(Start::Offsets([(0, 5), (1, 0)].into())));
    }

    #[test]
    fn offsets_may_be_written_as_spark_writes_them() {
        assert_eq!(parse("{\"events\":{\"0\":123}}"), Ok(Start::Offsets([(0, 123)].into())));
        let wrong = parse("{\"clicks\":{\"0\":123}}").unwrap_err();
        assert_eq!(wrong, "offsets of the topic \"clicks\" where \"events\" is read; write {\"events\": {\"0\": 123}}");
    }

    #[test]
    fn what_is_not_a_start_says_what_would_be() {
        assert_eq!(parse("newest").unwrap_err(), format!("\"newest\" is not a start; write {EXAMPLES}"));
        assert!(parse("timestamp:yesterday").unwrap_err().starts_with("\"yesterday\" is not a time"));
        assert!(parse("timestamp:1500").unwrap_err().contains("may be seconds or milliseconds"));
        assert!(parse("{0: 1}").unwrap_err().contains("is not JSON"));
        assert_eq!(parse("{}").unwrap_err(), "there is no offset; write {\"0\": 123}");
        assert!(parse("{\"0\": -2}").unwrap_err().starts_with("-2 is not an offset of partition 0"));
        assert!(parse("{\"a\": 2}").unwrap_err().starts_with("\"a\" is not a partition"));
        assert!(parse("{\"-1\": 2}").unwrap_err().starts_with("\"-1\" is not a partition"));
    }

    #[test]
    fn a_start_is_shown_as_it_is_written() {
        for text in ["earliest", "latest", "timestamp:2026-01-01T00:00:00Z", "{\"0\":5,\"12\":7}"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }
}
