//! The manifest: all that one checkpoint consists of, and its encoding.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::error::Error;
use super::history::Entry;
use wasmill_pipeline::checkpoint::Boundary;
use wasmill_pipeline::record::Anchor;
use wasmill_pipeline::shadow::Comparison;
use wasmill_pipeline::time::NOTHING_SEEN;
use wasmill_pipeline::time::ending::Newest;
use wasmill_pipeline::time::trust::{Doubt, Trusted};

/// The format that this release writes, and the newest it reads.
pub const FORMAT: u32 = 3;

/// One checkpoint: a consistent cut through the pipeline, and the files that hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The encoding's version, [`FORMAT`].
    pub format: u32,
    /// The checkpoint's number, ascending by one.
    pub checkpoint: u64,
    /// The generation that published it.
    pub generation: u64,
    /// The identity of the checkpoint folder; nothing in checkpoints made before there was one.
    #[serde(default)]
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// What makes state incompatible: aggregate names, windows, keys.
    pub fingerprint: String,
    /// The topic read.
    pub topic: String,
    /// The isolated run, if it is one.
    pub run: Option<String>,
    /// When it was made, µs since the Unix epoch.
    pub created_at_us: i64,
    /// The pipeline's watermark, µs since the Unix epoch: it never falls behind this again.
    pub watermark_us: Option<i64>,
    /// Where each partition stands, by partition.
    pub partitions: Vec<PartitionState>,
    /// Digest of each plugin, by its name in the pipeline file.
    pub plugins: BTreeMap<String, String>,
    /// Totals since the first checkpoint, by name.
    pub counters: BTreeMap<String, u64>,
    /// The open state, oldest first: in each, what changed since the one before.
    pub segments: Vec<SegmentRef>,
    /// The first checkpoint with these lists of files; 0 = this one. One that took another over has the other's.
    #[serde(default)]
    pub files_of: u64,
    /// The sinks' finished files, staged until this checkpoint existed.
    pub files: serde_json::Value,
    /// The sinks' files that are still being written.
    pub open_files: serde_json::Value,
    /// Versions that run beside those in `plugins`.
    #[serde(default)]
    pub beside: Vec<Beside>,
    /// A swap that can still be taken back.
    #[serde(default)]
    pub probation: Option<Probation>,
    /// The sinks' files that were finished on probation: staged until that is over.
    #[serde(default)]
    pub held: serde_json::Value,
    /// Digest of the file at each plugin's path when it was last dealt with, by the plugin's name.
    #[serde(default)]
    pub seen: BTreeMap<String, String>,
    /// What happened to plugins with it, for the history: whoever made it may not have come to that.
    #[serde(default)]
    pub events: Vec<Entry>,
}

/// A version of an aggregate that runs beside the one in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// The aggregate's name.
    pub aggregate: String,
    /// The version's digest.
    pub digest: String,
    /// What it is for.
    pub role: BesideRole,
}

impl Beside {
    /// Whether it is compared, and not written.
    pub fn is_shadow(&self) -> bool {
        matches!(self.role, BesideRole::Shadow { .. })
    }
}

/// What a version beside the one in force is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BesideRole {
    /// It ends the windows that it began.
    Retiring {
        /// Those that start before this instant, µs since the Unix epoch.
        before_us: i64,
    },
    /// It is compared, and not written.
    Shadow {
        /// Where the first window starts that it has wholly seen, µs since the Unix epoch; `None` = it has seen all.
        from_us: Option<i64>,
        /// The checkpoint at which it began.
        since: u64,
        /// The share of keys that it gets, 0 to 1.
        key_sample: f64,
        /// By how much a column may differ, by its name.
        tolerance: BTreeMap<String, f64>,
        /// What was found so far.
        #[serde(default)]
        found: Comparison,
    },
}

/// A swap that can still be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probation {
    /// What was replaced.
    pub swaps: Vec<Swapped>,
    /// The last checkpoint of the versions before.
    pub boundary: u64,
    /// The checkpoint with which the swap is for good.
    pub until: u64,
    /// How many processes have begun again since a checkpoint was made.
    pub recoveries: u32,
}

/// Why nothing else is changed meanwhile.
impl std::fmt::Display for Probation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.swaps.iter().map(|swap| swap.plugin.as_str()).collect();
        let (names, until) = (names.join(", "), self.until);
        write!(
            f,
            "{names} is on probation until checkpoint {until}; wait for that, or take it back with `wasmill rollback`"
        )
    }
}

/// A plugin that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swapped {
    /// Its name.
    pub plugin: String,
    /// The digest of the version before.
    pub from: String,
    /// The digest of the new version.
    pub to: String,
    /// What became of the state.
    pub policy: Option<String>,
    /// Who asked.
    pub who: String,
}

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Its number.
    pub partition: i32,
    /// The first offset that is not in the checkpoint.
    pub next_offset: i64,
    /// Its watermark, µs since the Unix epoch; `None` before its first event.
    pub watermark_us: Option<i64>,
    /// The greatest time of its rows, µs since the Unix epoch; missing in checkpoints made before it was known.
    #[serde(default)]
    pub latest_us: Option<i64>,
    /// What its last rows claimed that is not believed yet.
    #[serde(default)]
    pub doubt: Doubt,
    /// Whether it was left out of the minimum for giving nothing.
    pub idle: bool,
    /// The last record read, by which the partition is known again; missing in checkpoints made before there was one.
    #[serde(default)]
    pub anchor: Option<Anchor>,
    /// The newest broker timestamp of its records; nothing in checkpoints made before there was one.
    #[serde(default)]
    pub newest: Newest,
}

impl PartitionState {
    /// How far the partition is trusted to have come in event time.
    pub fn trusted(&self) -> Trusted {
        let seen = |instant: Option<i64>| instant.unwrap_or(NOTHING_SEEN);
        Trusted { watermark_us: seen(self.watermark_us), latest_us: seen(self.latest_us), doubt: self.doubt }
    }
}

/// A segment as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Its file name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// XXH3-128 of all but its last 16 bytes, as hex.
    pub checksum: String,
    /// How many groups it puts or deletes.
    pub entries: u64,
}

// The file is one JSON object, `{"checksum": "<hex>", "manifest": <body>}`, laid out so that the body's bytes, which
// the checksum is of, can be cut out without parsing: no canonical form of JSON is needed.
const OPEN: &str = "{\n\"checksum\": \"";
const MIDDLE: &str = "\",\n\"manifest\": ";
const CLOSE: &str = "\n}\n";

impl Manifest {
    /// The checkpoints with these lists of files: where any of them was committed or recovered, they were.
    pub(super) fn with_these_files(&self) -> RangeInclusive<u64> {
        let first = if self.files_of == 0 { self.checkpoint } else { self.files_of };
        first..=self.checkpoint
    }

    /// Where the checkpoint is in the stream.
    pub fn boundary(&self) -> Boundary {
        let offsets = self.partitions.iter().map(|p| (p.partition, p.next_offset)).collect();
        Boundary { checkpoint: self.checkpoint, offsets, watermark_us: self.watermark_us }
    }

    /// The bytes of the manifest's file.
    ///
    /// # Errors
    /// [`Error::Bug`] when it cannot be written as JSON.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let body = serde_json::to_string_pretty(self).map_err(|error| Error::Bug(format!("manifest: {error}")))?;
        Ok(framed(&body).into_bytes())
    }

    /// Reads the bytes of the file `path`.
    ///
    /// # Errors
    /// [`Error::Newer`], [`Error::Corrupt`].
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        if let Some(found) = newer_format(bytes) {
            return Err(Error::Newer { path: path.to_owned(), found, supported: FORMAT });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Error::corrupt(path, "it is not text"))?;
        let body = checked_body(text).map_err(|reason| Error::corrupt(path, reason))?;
        serde_json::from_str(body).map_err(|error| Error::corrupt(path, format!("its contents do not fit: {error}")))
    }
}

/// A manifest file with this body.
pub(super) fn framed(body: &str) -> String {
    let checksum = xxh3_128(body.as_bytes());
    format!("{OPEN}{checksum:032x}{MIDDLE}{body}{CLOSE}")
}

/// The part of a manifest file that its checksum is of.
fn checked_body(text: &str) -> Result<&str, &'static str> {
    let framed = || text.strip_prefix(OPEN)?.strip_suffix(CLOSE)?.split_once(MIDDLE);
    let (checksum, body) = framed().ok_or("it is cut short or not a manifest")?;
    if checksum == format!("{:032x}", xxh3_128(body.as_bytes())) {
        Ok(body)
    } else {
        Err("its checksum does not match")
    }
}

/// The format of a manifest that a later release wrote, which may have framed it in another way.
fn newer_format(bytes: &[u8]) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    value.get("manifest")?.get("format")?.as_u64().filter(|format| *format > u64::from(FORMAT))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use wasmill_pipeline::time::trust::Run;

    pub(in crate::store) fn manifest(checkpoint: u64, generation: u64) -> Manifest {
        Manifest {
            format: FORMAT,
            checkpoint,
            generation,
            id: String::new(),
            pipeline: "clickstream".into(),
            fingerprint: "window: 30s\nkeys: page".into(),
            topic: "clicks".into(),
            run: None,
            created_at_us: 1_700_000_000_000_000,
            watermark_us: Some(-5),
            partitions: vec![PartitionState {
                partition: 0,
                next_offset: 42,
                watermark_us: None,
                latest_us: Some(5),
                doubt: Doubt { suspects: Run { rows: 2, least_us: -7 }, timeless: Run::default() },
                idle: true,
                anchor: Some(Anchor { offset: 41, broker_time_us: 7, hash: u64::MAX }),
                newest: Newest::At(7),
            }],
            plugins: BTreeMap::from([("parser".into(), "abc".into())]),
            counters: BTreeMap::from([("records".into(), u64::MAX)]),
            segments: Vec::new(),
            beside: Vec::new(),
            probation: None,
            held: serde_json::Value::Null,
            seen: BTreeMap::new(),
            events: Vec::new(),
            files_of: 0,
            files: serde_json::json!([{"name": "part-1.parquet", "ratio": 0.1}]),
            open_files: serde_json::Value::Null,
        }
    }

    fn decode(bytes: &[u8]) -> Result<Manifest, Error> {
        Manifest::decode(Path::new("manifest-7.json"), bytes)
    }

    #[test]
    fn a_manifest_reads_back_as_written_and_is_plain_json() {
        let bytes = manifest(7, 1).encode().unwrap();
        assert_eq!(decode(&bytes).unwrap(), manifest(7, 1));
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["manifest"]["checkpoint"], 7);
    }

    #[test]
    fn a_manifest_without_anchors_and_doubts_is_read() {
        let mut old = manifest(7, 1);
        old.partitions[0] =
            PartitionState { anchor: None, latest_us: None, doubt: Doubt::default(), ..old.partitions[0] };
        let text = String::from_utf8(old.encode().unwrap()).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(checked_body(&text).unwrap()).unwrap();
        for new in ["anchor", "latest_us", "doubt"] {
            json["partitions"][0].as_object_mut().unwrap().remove(new).unwrap();
        }
        let body = json.to_string();
        let checksum = xxh3_128(body.as_bytes());
        assert_eq!(decode(format!("{OPEN}{checksum:032x}{MIDDLE}{body}{CLOSE}").as_bytes()).unwrap(), old);
    }

    #[test]
    fn a_manifest_cut_anywhere_is_corrupt() {
        let bytes = manifest(7, 1).encode().unwrap();
        for length in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..length]), Err(Error::Corrupt { .. })), "length {length}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_an_error_that_names_the_file() {
        let bytes = manifest(7, 1).encode().unwrap();
        for position in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << (position % 8);
            let error = decode(&flipped).expect_err("a flipped bit is seen");
            assert!(error.to_string().contains("manifest-7.json"), "{error}");
        }
    }

    #[test]
    fn a_newer_format_is_told_by_both_numbers_whatever_its_frame() {
        let error = decode(br#"{"manifest":{"format":9},"signature":"x"}"#).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 9, supported: FORMAT, .. }), "{error}");
    }
}
