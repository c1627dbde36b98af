//! Where to start reading a topic for the first time.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Where to start reading a topic for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// At the records yet to come.
    Latest,
    /// At the first record whose broker time is at or after this instant, µs since the Unix epoch; at the end where
    /// there is none.
    Timestamp(i64),
    /// At these offsets; partitions not named at the first record there is. -2 = earliest, -1 = latest.
    Offsets(BTreeMap<i32, i64>),
}

impl FromStr for Start {
    type Err = String;

    /// Reads `earliest`, `latest`, `timestamp:2026-01-31T12:00:00Z`, `timestamp:` with ms since the Unix epoch,
    /// `offsets:0=12,1=40`, or offsets as Spark writes them: `{"topic":{"0":12,"1":-2}}`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        let understood = if let Some(instant) = text.strip_prefix("timestamp:") {
            timestamp(instant.trim()).map(Self::Timestamp)
        } else if let Some(offsets) = text.strip_prefix("offsets:") {
            offsets.split(',').map(offset).collect::<Option<_>>().map(Self::Offsets)
        } else {
            spark(text).map(Self::Offsets)
        };
        understood.ok_or_else(|| {
            "start is `earliest`, `latest`, `timestamp:2026-01-31T12:00:00Z` (or ms since the Unix epoch), or \
             `offsets:0=12,1=40`"
                .to_owned()
        })
    }
}

fn timestamp(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse::<i64>() {
        return if ms >= 0 { ms.checked_mul(1000) } else { None };
    }
    Some(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros()).filter(|us| *us >= 0)
}

fn offset(text: &str) -> Option<(i32, i64)> {
    let (partition, offset) = text.split_once('=')?;
    checked(partition.trim().parse().ok()?, offset.trim().parse().ok()?)
}

fn spark(text: &str) -> Option<BTreeMap<i32, i64>> {
    let topics: BTreeMap<String, BTreeMap<i32, i64>> = serde_json::from_str(text).ok()?;
    let mut topics = topics.into_values();
    let offsets = topics.next().filter(|_| topics.next().is_none())?;
    offsets.into_iter().map(|(partition, offset)| checked(partition, offset)).collect()
}

fn checked(partition: i32, offset: i64) -> Option<(i32, i64)> {
    (partition >= 0 && offset >= -2).then_some((partition, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let offsets = Start::Offsets(BTreeMap::from([(0, 12), (1, -2)]));
        let forms = [
            ("earliest", Start::Earliest),
            (" latest ", Start::Latest),
            ("timestamp:1970-01-01T00:00:02Z", Start::Timestamp(2_000_000)),
            ("timestamp:1970-01-01T01:00:02+01:00", Start::Timestamp(2_000_000)),
            ("timestamp:2000", Start::Timestamp(2_000_000)),
            ("offsets:0=12, 1=-2", offsets.clone()),
            (r#"{"clickstream":{"0":12,"1":-2}}"#, offsets),
        ];
        for (text, start) in forms {
            assert_eq!(text.parse(), Ok(start), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        for text in ["", "erliest", "timestamp:", "timestamp:-5", "offsets:", "offsets:0", "offsets:0=-3", "{}", "[1]"]
        {
            assert!(text.parse::<Start>().unwrap_err().contains("`earliest`"), "{text}");
        }
    }
}
