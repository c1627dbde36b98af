//! What a checkpoint remembers of files: names, lengths, and how to complete the ones still open.

use super::error::{Error, Result};
use super::origin::Origin;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::{Component, Path};

/// The folder below the output root where files live until a checkpoint holds them.
pub(super) const STAGING: &str = "_staging";
/// What ends the name of a staged file, so that no reader's `*.parquet` or `*.csv` finds it.
pub(super) const STAGED_SUFFIX: &str = ".tmp";

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values, RFC 4180.
    Csv,
}

impl Format {
    /// The extension of its files, and the name of their folder.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }
}

/// One whole file, staged, to be committed with the checkpoint that lists it.
///
/// Paths are relative to the output root, with `/` between folders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// The name of the output it belongs to.
    pub output: String,
    /// What it is written in.
    pub format: Format,
    /// Where it is now: `_staging/<path>.tmp`.
    pub staged: String,
    /// Where it will be.
    pub path: String,
    /// How many rows it holds.
    pub rows: u64,
    /// How long it is.
    pub bytes: u64,
    /// What made it; nothing in checkpoints of releases that did not say so.
    #[serde(default, skip_serializing_if = "Origin::is_empty")]
    pub origin: Origin,
}

impl StagedFile {
    /// A file of no rows yet that will be at `path`.
    pub(super) fn new(output: &str, format: Format, path: String) -> Self {
        let (output, staged) = (output.to_owned(), staged_path(&path));
        Self { output, format, staged, path, rows: 0, bytes: 0, origin: Origin::default() }
    }

    /// Refuses names that lead out of the output root or are not ones that `Writers` gives: a manifest may be damaged.
    pub(super) fn check(&self) -> Result<()> {
        let path = Path::new(&self.path);
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let tidy = !self.path.contains('\0') && !self.path.contains("//") && !self.path.contains('\\');
        let known = path.extension().is_some_and(|extension| extension == self.format.as_str());
        if !(inside && tidy && known) || path.starts_with(STAGING) {
            return Err(Error::corrupt(&self.path, "checkpoint names a file that cannot be an output"));
        }
        if self.staged != staged_path(&self.path) {
            return Err(Error::corrupt(
                &self.staged,
                "checkpoint names a staged file that does not belong to its output",
            ));
        }
        Ok(())
    }
}

fn staged_path(path: &str) -> String {
    format!("{STAGING}/{path}{STAGED_SUFFIX}")
}

/// A file that goes on after the checkpoint, and how to make a whole file of what it held at the checkpoint:
/// its first `len` bytes, then `footer`; or, where rows wait, those bytes' row groups, then a row group of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// The whole file that recovery would make; its `bytes` count the footer. What the waiting rows take, only making it
    /// tells: `rows` has them, `bytes` has them not.
    pub file: StagedFile,
    /// How many bytes of the staged file belong to the checkpoint.
    pub len: u64,
    /// What Parquet wants after them where they hold row groups; CSV wants nothing. Hexadecimal in JSON.
    #[serde(default, serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub footer: Option<Vec<u8>>,
    /// Rows that are in no row group yet; nothing in checkpoints of releases that ended one at each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
}

/// The stretch of a file's log that holds the rows which wait for the end of their row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Where it begins, bytes from the log's beginning.
    pub from: u64,
    /// Where it ends, exclusive.
    pub to: u64,
    /// How many rows it holds.
    pub rows: u64,
}

impl OpenFile {
    /// As `StagedFile::check`, and the lengths must add up.
    pub(super) fn check(&self) -> Result<()> {
        self.file.check()?;
        let footer = self.footer.as_ref().map_or(0, |footer| footer.len() as u64);
        if self.len.checked_add(footer) != Some(self.file.bytes) {
            return Err(Error::corrupt(&self.file.path, "checkpoint contradicts itself on the length"));
        }
        if let Some(waiting) = &self.waiting
            && (self.file.format != Format::Parquet || waiting.from >= waiting.to || waiting.rows > self.file.rows)
        {
            return Err(Error::corrupt(&self.file.path, "checkpoint contradicts itself on the waiting rows"));
        }
        Ok(())
    }
}

/// All files that one checkpoint knows of, of one worker or of many together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkCut {
    /// Finished since the cut before, to be committed with this checkpoint.
    pub finished: Vec<StagedFile>,
    /// Still being written to; only recovery commits them as they stand here.
    pub open: Vec<OpenFile>,
}

impl SinkCut {
    /// Adds the files of another worker's cut.
    pub fn extend(&mut self, other: Self) {
        self.finished.extend(other.finished);
        self.open.extend(other.open);
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends two lowercase hexadecimal digits per byte.
pub(super) fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

#[expect(clippy::ref_option, reason = "serde gives the field as it is")]
fn to_hex<S: Serializer>(footer: &Option<Vec<u8>>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    let text = footer.as_ref().map(|bytes| {
        let mut digits = Vec::with_capacity(bytes.len() * 2);
        push_hex(bytes, &mut digits);
        String::from_utf8(digits).expect("hexadecimal digits are ASCII")
    });
    text.serialize(serializer)
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes.map(Some).ok_or_else(|| serde::de::Error::custom("footer is not hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_file() -> OpenFile {
        let mut file = StagedFile::new("pages", Format::Parquet, "pages/parquet/part-a-1-w0-0.parquet".into());
        file.bytes = 103;
        OpenFile { file, len: 100, footer: Some(vec![0, 0xab, 255]), waiting: None }
    }

    #[test]
    fn an_open_file_survives_json() {
        let json = serde_json::to_string(&open_file()).unwrap();
        assert!(json.contains(r#""footer":"00abff""#), "{json}");
        assert_eq!(serde_json::from_str::<OpenFile>(&json).unwrap(), open_file());
    }

    #[test]
    fn a_footer_that_is_not_hexadecimal_is_refused() {
        for bad in ["0", "0g", "+1", "é"] {
            let json = serde_json::to_string(&open_file()).unwrap().replace("00abff", bad);
            assert!(serde_json::from_str::<OpenFile>(&json).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        assert!(open_file().check().is_ok());
        for bad in
            ["../x.parquet", "/etc/x.parquet", "a/../../x.parquet", "", "a.csv", "_staging/a.parquet", "a//b.parquet"]
        {
            let file = StagedFile::new("pages", Format::Parquet, bad.into());
            assert_eq!(file.check().unwrap_err().class(), wasmill_pipeline::error::Class::Corrupt, "{bad}");
        }
        let elsewhere = StagedFile { staged: "../x.tmp".into(), ..open_file().file };
        assert!(elsewhere.check().is_err());
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let lying = OpenFile { len: u64::MAX, ..open_file() };
        assert!(lying.check().is_err());
        let waiting = |from, to, rows| OpenFile { waiting: Some(Waiting { from, to, rows }), ..open_file() };
        assert!(waiting(0, 9, 0).check().is_ok());
        assert!(waiting(9, 9, 0).check().is_err(), "no frame is of no bytes");
        assert!(waiting(0, 9, 1).check().is_err(), "the file has no row");
    }

    #[test]
    fn an_open_file_of_a_release_without_waiting_rows_is_read() {
        let json = serde_json::to_string(&open_file()).unwrap();
        assert!(!json.contains("waiting"), "{json}");
        assert_eq!(serde_json::from_str::<OpenFile>(&json).unwrap().waiting, None);
    }
}
