//! From a path to a configuration: the only place of the config room that reads files.

use crate::files;
use std::{cell::RefCell, path::Path};

use super::mistake::{Mistake, Mistakes, Place};
use super::section::{Notes, Section};
use super::tree::{self, Table};
use super::{Config, GenerateConfig, Overrides, read};

/// The largest pipeline file, bytes: those that people write have a few thousand.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The reference job, for those who name no file.
const REFERENCE_JOB: &str = include_str!("../../pipelines/clickstream.toml");

/// What a configuration is made of besides its file.
pub struct Loader<'a> {
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// What the command line says.
    pub overrides: &'a Overrides,
    /// Whether a plugin's file that does not exist is a mistake.
    pub check_files: bool,
}

impl Config {
    /// Reads the pipeline file at `path`.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>, overrides: &Overrides) -> Result<Self, Mistakes> {
        Loader { env, overrides, check_files: true }.pipeline(path)
    }
}

impl Loader<'_> {
    /// Reads a pipeline file.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn pipeline(&self, path: &Path) -> Result<Config, Mistakes> {
        let file = path.display().to_string();
        self.pipeline_text(&file, &read_file(path)?)
    }

    /// Reads the text of a pipeline file; messages name it `file`.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn pipeline_text(&self, file: &str, text: &str) -> Result<Config, Mistakes> {
        self.read(file, text, |mut root| {
            let config = read::pipeline(&mut root, self);
            root.finish();
            config
        })
    }

    /// Reads what `wasmill generate` needs of a pipeline file, or of the reference job when none is named.
    ///
    /// # Errors
    /// All that is wrong with these sections, at once.
    pub fn generator(&self, path: Option<&Path>) -> Result<GenerateConfig, Mistakes> {
        let (file, text) = match path {
            Some(path) => (path.display().to_string(), read_file(path)?),
            None => ("built-in clickstream.toml".to_owned(), REFERENCE_JOB.to_owned()),
        };
        self.read(&file, &text, |mut root| read::generate(&mut root, self))
    }

    /// Notes a plugin's file that is not there.
    pub(super) fn missing(&self, path: &Path) -> Option<String> {
        if !self.check_files || path.as_os_str().is_empty() {
            return None;
        }
        let shown = path.display().to_string();
        if path.is_dir() {
            return Some(format!("{shown:?} is a folder; write the path of a component, such as page_metrics.wasm"));
        }
        (!path.exists())
            .then(|| format!("there is no file {shown:?}; build it with `make plugins`, or correct the path"))
    }

    fn read<T>(&self, file: &str, text: &str, read: impl FnOnce(Section<'_>) -> T) -> Result<T, Mistakes> {
        let mut mistakes = Mistakes::default();
        let mut table: Table = tree::parse(file, text, self.env, &mut mistakes);
        if mistakes.0.iter().any(|mistake| mistake.key.is_empty()) {
            // It is not TOML: nothing below would be true.
            return Err(mistakes);
        }
        for with in &self.overrides.0 {
            if let Err(text) = tree::lay_over(&mut table, with) {
                let place = Place::Flag(with.flag.clone());
                mistakes.0.push(Mistake { file: file.to_owned(), place, key: String::new(), text });
            }
        }
        let notes = Notes { file, mistakes: RefCell::new(mistakes) };
        let value = read(Section::root(&table, &notes));
        notes.mistakes.into_inner().or(value)
    }
}

/// The text of a file that people wrote.
fn read_file(path: &Path) -> Result<String, Mistakes> {
    let file = path.display().to_string();
    let wrong =
        |text: String| Mistakes(vec![Mistake { file: file.clone(), place: Place::File, key: String::new(), text }]);
    let bytes = files::read(path, MAX_FILE_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => wrong("there is no such file; name a pipeline file".into()),
        _ => wrong(format!("it cannot be read: {error}")),
    })?;
    String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text; name a pipeline file in TOML".into()))
}
