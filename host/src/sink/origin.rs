//! What made a file's rows: plugins, the stretch of the stream, the configuration.

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wasmill_pipeline::checkpoint::Boundary;

/// What every key begins with.
const PREFIX: &str = "wasmill.";
/// A plugin's digest; its name comes after it.
const PLUGIN: &str = "wasmill.plugin.";
/// The number of the last checkpoint before the file was opened.
const CHECKPOINT: &str = "wasmill.checkpoint";
/// The next offset by partition at that checkpoint, as a JSON object.
const OFFSETS: &str = "wasmill.offsets";
/// The watermark at that checkpoint, RFC 3339; missing before there was one.
const WATERMARK: &str = "wasmill.watermark";
/// The file's path below the output root.
const PATH: &str = "wasmill.path";

/// What made a file: the same keys and values that are in the metadata of Parquet files.
///
/// `wasmill.plugin.<name>` is the digest of each plugin that made its rows; `wasmill.checkpoint`, `wasmill.offsets` and
/// `wasmill.watermark` are the last checkpoint before the file was opened; `wasmill.path` is where it was put, below the
/// output root. The rest is told by whoever made the writers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origin(BTreeMap<String, String>);

impl Origin {
    /// Of a file that is opened now.
    pub(super) fn new(
        provenance: &[(String, String)],
        plugins: &BTreeMap<String, String>,
        since: Option<&Boundary>,
        path: &str,
    ) -> Self {
        let mut entries: BTreeMap<String, String> = provenance.iter().cloned().collect();
        entries.extend(plugins.iter().map(|(name, digest)| (format!("{PLUGIN}{name}"), digest.clone())));
        entries.insert(PATH.to_owned(), path.to_owned());
        if let Some(since) = since {
            entries.insert(CHECKPOINT.to_owned(), since.checkpoint.to_string());
            let offsets = serde_json::to_string(&since.offsets).expect("numbers by number have a form in JSON");
            entries.insert(OFFSETS.to_owned(), offsets);
            let watermark = since.watermark_us.and_then(DateTime::from_timestamp_micros);
            let text = watermark.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
            entries.extend(text.map(|text| (WATERMARK.to_owned(), text)));
        }
        Self(entries)
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All keys and values, by key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// What is said under `wasmill.<name>`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&format!("{PREFIX}{name}")).map(String::as_str)
    }

    /// The digests of the plugins, by name.
    pub fn plugins(&self) -> BTreeMap<String, String> {
        let plugin = |(key, digest): (&str, &str)| Some((key.strip_prefix(PLUGIN)?.to_owned(), digest.to_owned()));
        self.entries().filter_map(plugin).collect()
    }

    /// The last checkpoint before the file was opened; `None` where it is not known, or not written as it should be.
    pub fn since(&self) -> Option<Boundary> {
        let watermark = self.0.get(WATERMARK).map(|text| DateTime::parse_from_rfc3339(text));
        Some(Boundary {
            checkpoint: self.0.get(CHECKPOINT)?.parse().ok()?,
            offsets: serde_json::from_str(self.0.get(OFFSETS)?).ok()?,
            watermark_us: watermark.transpose().ok()?.map(|at| at.timestamp_micros()),
        })
    }
}

impl FromIterator<(String, String)> for Origin {
    /// Of the keys that are about it; a file's metadata may have others.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(entries: I) -> Self {
        Self(entries.into_iter().filter(|(key, _)| key.starts_with(PREFIX)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(watermark_us: Option<i64>) -> Origin {
        let offsets = BTreeMap::from([(0, 7), (11, 0)]);
        let since = Boundary { checkpoint: 3, offsets, watermark_us };
        let plugins = BTreeMap::from([("parser".to_owned(), "ab".to_owned())]);
        Origin::new(&[("wasmill.version".into(), "1.0.0".into())], &plugins, Some(&since), "a/x.csv")
    }

    #[test]
    fn an_origin_reads_back_as_it_was_told() {
        for watermark_us in [None, Some(-1), Some(1_700_000_000_123_456)] {
            let origin = origin(watermark_us);
            let since = origin.since().unwrap();
            assert_eq!((since.checkpoint, since.watermark_us), (3, watermark_us));
            assert_eq!(since.offsets, BTreeMap::from([(0, 7), (11, 0)]));
            assert_eq!(origin.plugins(), BTreeMap::from([("parser".to_owned(), "ab".to_owned())]));
            assert_eq!((origin.get("version"), origin.get("path")), (Some("1.0.0"), Some("a/x.csv")));
        }
    }

    #[test]
    fn values_are_what_people_and_other_programs_read() {
        let origin = origin(Some(1_700_000_000_000_000));
        assert_eq!(origin.get("offsets"), Some(r#"{"0":7,"11":0}"#));
        assert_eq!(origin.get("watermark"), Some("2023-11-14T22:13:20.000000Z"));
        assert_eq!(origin.get("checkpoint"), Some("3"));
    }

    #[test]
    fn keys_of_others_are_not_taken_for_ones_of_this() {
        let entries = [("ARROW:schema", "x"), ("wasmill.version", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(Origin::from_iter(entries).entries().collect::<Vec<_>>(), [("wasmill.version", "1")]);
    }

    #[test]
    fn a_checkpoint_that_is_not_written_as_it_should_be_is_none() {
        let damaged =
            [("wasmill.checkpoint", "3"), ("wasmill.offsets", "[]")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(Origin::from_iter(damaged).since(), None);
        assert_eq!(Origin::default().since(), None);
    }
}
