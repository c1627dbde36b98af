//! Mistakes: all that is wrong with a pipeline file, each with its place and what would be right.

use crate::shown::is_hidden;
use std::fmt;

use wasmill_pipeline::error::Class;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The pipeline file, as it was named.
    pub file: String,
    /// Where the value stands.
    pub place: Place,
    /// The key, dotted: `aggregate.window.tumbling`. Empty when it is the file as a whole.
    pub key: String,
    /// What is wrong and what would be right.
    pub text: String,
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file, nowhere in particular.
    File,
    /// In this line of the file; the first is 1.
    Line(usize),
    /// On the command line, in this flag.
    Flag(String),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File => write!(f, "{}: ", self.file)?,
            Place::Line(line) => write!(f, "{}:{line}: ", self.file)?,
            Place::Flag(flag) => write!(f, "{flag}: ")?,
        }
        if !self.key.is_empty() {
            // Keys may hold anything in quotes, line feeds included.
            write!(f, "{}: ", self.key.replace(is_hidden, "?"))?;
        }
        f.write_str(&self.text)
    }
}

/// All mistakes of one file, in the order of its lines; those of the command line come last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// What the caller does about them: refuse to start.
    pub fn class(&self) -> Class {
        Class::Config
    }

    /// `value` if nothing is wrong, else the mistakes in their order.
    pub(super) fn or<T>(mut self, value: T) -> Result<T, Self> {
        if self.0.is_empty() {
            return Ok(value);
        }
        self.0.sort_by(|a, b| a.place.cmp(&b.place));
        Err(self)
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    /// One line per mistake, without a line feed at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

/// The one of `known` that a person who wrote `word` most likely meant: at most a third of its letters differ.
pub(super) fn closest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word: Vec<char> = word.chars().take(64).collect();
    known
        .into_iter()
        .map(|candidate| (edits(&word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= candidate.len().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The fewest letters to add, remove or replace to turn `from` into `to` (Levenshtein's distance).
fn edits(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (i, to) in to.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (from, above) in from.iter().zip(row.iter_mut().skip(1)) {
            let best = (diagonal + usize::from(*from != to)).min(left + 1).min(*above + 1);
            diagonal = *above;
            *above = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_added_removed_and_replaced_letters() {
        let edits = |a: &str, b| edits(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("topic", "topic"), 0);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("tpoic", "topic"), 2);
    }

    #[test]
    fn closest_finds_a_typing_error_but_not_another_word() {
        let known = ["topic", "start", "bootstrap_servers"];
        assert_eq!(closest("topik", known), Some("topic"));
        assert_eq!(closest("bootstrap.servers", known), Some("bootstrap_servers"));
        assert_eq!(closest("window", known), None);
    }

    #[test]
    fn each_mistake_is_one_line_with_its_place() {
        let mistake = |place, key: &str| Mistake { file: "p.toml".into(), place, key: key.into(), text: "bad".into() };
        let all = Mistakes(vec![
            mistake(Place::Line(3), "a.b"),
            mistake(Place::File, ""),
            mistake(Place::Flag("--set a".into()), "a"),
        ]);
        assert_eq!(all.to_string(), "p.toml:3: a.b: bad\np.toml: bad\n--set a: a: bad");
    }
}
