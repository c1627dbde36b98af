//! `.env` files: variables for those who have not set them in the environment.

use crate::files;
use std::{collections::BTreeMap, io, path::Path};

/// The largest file, bytes: those that people write have a few thousand.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The variables of a `.env` file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DotEnv(BTreeMap<String, String>);

impl DotEnv {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is not `NAME=value`; the message says which.
    pub fn load(path: &Path) -> io::Result<Self> {
        let wrong = |wrong: String| io::Error::new(io::ErrorKind::InvalidData, wrong);
        let text = String::from_utf8(files::read(path, MAX_FILE_BYTES)?);
        Self::parse(&text.map_err(|_| wrong("it is not UTF-8 text".into()))?).map_err(wrong)
    }

    /// Reads the text of a file: lines `NAME=value`, empty lines, and comments on lines of their own. A value may be
    /// in quotes of either kind, and is taken as it is: nothing in it is expanded.
    ///
    /// # Errors
    /// The first line that is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut variables = BTreeMap::new();
        // Editors of Windows put a mark before the first line.
        for (i, line) in text.strip_prefix('\u{FEFF}').unwrap_or(text).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let Some((name, value)) = line.split_once('=').filter(|(name, _)| is_name(name)) else {
                return Err(format!("line {}: write NAME=value", i + 1));
            };
            variables.insert(name.to_owned(), unquoted(value.trim()).to_owned());
        }
        Ok(Self(variables))
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn unquoted(value: &str) -> &str {
    let inside = |quote| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_comments_and_quotes() {
        let env = DotEnv::parse("# all knobs\n\nA=1\nexport B=2\nC=\"30 seconds\"\nD='x=y'\nE=\n").unwrap();
        let get = |name| env.get(name).unwrap_or_else(|| "unset".into());
        assert_eq!(DotEnv::parse("\u{FEFF}A=1").unwrap().get("A").as_deref(), Some("1"));
        assert_eq!(
            [get("A"), get("B"), get("C"), get("D"), get("E"), get("F")],
            ["1", "2", "30 seconds", "x=y", "", "unset"]
        );
    }

    #[test]
    fn a_line_that_is_no_variable_is_named() {
        assert_eq!(DotEnv::parse("A=1\nexport B = 2\n").err().unwrap(), "line 2: write NAME=value");
        assert!(DotEnv::parse("1A=1").is_err() && DotEnv::parse("just text").is_err());
    }
}
