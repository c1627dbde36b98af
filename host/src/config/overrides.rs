//! What the command line says in place of the pipeline file.

use std::path::Path;

/// Values that beat the file's, in the order given; later ones beat earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(pub(super) Vec<Override>);

/// One value in place of the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Override {
    /// The flag as messages name it: `--listen`.
    pub(super) flag: String,
    /// The dotted key.
    pub(super) key: String,
    /// TOML, or else text as it is.
    pub(super) value: String,
}

impl Overrides {
    /// Sets `key` (dotted; an aggregate's: `aggregate.NAME.key`) to `value`: TOML, or else text as it is.
    /// Messages name `flag` as the place.
    pub fn set(&mut self, flag: impl Into<String>, key: impl Into<String>, value: impl Into<String>) {
        self.0.push(Override { flag: flag.into(), key: key.into(), value: value.into() });
    }

    /// As [`Overrides::set`], with `value` as text even where it is TOML.
    pub fn set_text(&mut self, flag: impl Into<String>, key: impl Into<String>, value: &str) {
        self.set(flag, key, toml::Value::from(value).to_string());
    }

    /// Takes the plugin of `name` from `path`: of an aggregate, of the `parser` or of the `generator`.
    pub fn plugin(&mut self, name: &str, path: &Path) {
        let key = match name {
            "parser" | "generator" => format!("{name}.plugin"),
            aggregate => format!("aggregate.{aggregate}.plugin"),
        };
        self.set_text(format!("--plugin {name}"), key, &path.display().to_string());
    }
}
