//! The plugin's section of the pipeline file, read key by key, so that a misspelt key is an error and not a default.

use crate::json::{Object, Value};
use crate::parser::Reject;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A plugin's settings. Take the keys that the plugin knows; whatever is left when `new` returns is refused.
#[derive(Debug, Default)]
pub struct Config<'a> {
    settings: Vec<(Cow<'a, str>, Value<'a>)>,
    known: Vec<&'static str>,
}

impl<'a> Config<'a> {
    /// Reads a JSON object; an empty text, or `null`, is an object without keys.
    ///
    /// # Errors
    /// A message for the author of the pipeline file: not an object, or a key that comes twice.
    pub fn read(json: &'a str) -> Result<Self, String> {
        let mut config = Self::default();
        if !matches!(json.trim_ascii(), "" | "null") {
            config.collect(json).map_err(|reject| format!("settings: {}", reject.message))?;
        }
        Ok(config)
    }

    fn collect(&mut self, json: &'a str) -> Result<(), Reject> {
        let mut object = Object::open(json)?;
        let mut more = object.first()?;
        while more {
            let key = object.key()?;
            object.once_unknown(key)?;
            self.settings.push((key.name(), object.value()?));
            more = object.more()?;
        }
        Ok(())
    }

    /// The value of `key`, if it is set and not null.
    pub fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let at = self.settings.iter().position(|(name, _)| name == key)?;
        Some(self.settings.swap_remove(at).1).filter(|value| *value != Value::Null)
    }

    /// A number from `range`, if it is set.
    ///
    /// # Errors
    /// A message: of another type or out of range.
    pub fn number(&mut self, key: &'static str, range: core::ops::RangeInclusive<f64>) -> Result<Option<f64>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = value.number().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| format!("{key}: want a number from {} to {}", range.start(), range.end()))
    }

    /// A whole number from `range`, if it is set.
    ///
    /// # Errors
    /// A message: of another type or out of range.
    pub fn integer(&mut self, key: &'static str, range: core::ops::RangeInclusive<i64>) -> Result<Option<i64>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let number = value.integer().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| format!("{key}: want a whole number from {} to {}", range.start(), range.end()))
    }

    /// A text, if it is set.
    ///
    /// # Errors
    /// A message: of another type.
    pub fn text(&mut self, key: &'static str) -> Result<Option<String>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let text = value.text().ok_or_else(|| format!("{key}: want a text in quotes"))?;
        Ok(Some(text.to_cow().into_owned()))
    }

    /// True or false, if it is set.
    ///
    /// # Errors
    /// A message: of another type.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, String> {
        let Some(value) = self.take(key) else { return Ok(None) };
        value.boolean().map(Some).ok_or_else(|| format!("{key}: want true or false"))
    }

    /// Refuses what was not taken. The export macros call it after `new`.
    ///
    /// # Errors
    /// A message that names the unknown keys and those there are.
    pub fn finish(mut self) -> Result<(), String> {
        if self.settings.is_empty() {
            return Ok(());
        }
        self.settings.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let unknown: Vec<&str> = self.settings.iter().map(|(key, _)| key.as_ref()).collect();
        let known = if self.known.is_empty() {
            "this plugin has no settings".into()
        } else {
            format!("known are {}", self.known.join(", "))
        };
        Err(format!("unknown key {}; {known}", unknown.join(", ")))
    }

    /// Makes a plugin of its settings, all of which it must know.
    ///
    /// # Errors
    /// A message for the author of the pipeline file.
    pub fn make<T>(json: &'a str, new: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        let mut config = Self::read(json)?;
        let plugin = new(&mut config)?;
        config.finish()?;
        Ok(plugin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(json: &str) -> Result<Option<f64>, String> {
        Config::make(json, |config| config.number("share", 0.0..=1.0))
    }

    #[test]
    fn settings_are_optional_and_typed() {
        for (json, want) in
            [("", None), ("null", None), (" {} ", None), (r#"{"share":null}"#, None), (r#"{"share":0.5}"#, Some(0.5))]
        {
            assert_eq!(share(json), Ok(want));
        }
        assert_eq!(Config::make(r#"{"name":"a\tb"}"#, |c| c.text("name")), Ok(Some("a\tb".into())));
        assert_eq!(Config::make(r#"{"n":3}"#, |c| c.integer("n", 1..=3)), Ok(Some(3)));
    }

    #[test]
    fn mistakes_are_named() {
        for (json, want) in [
            (r#"{"shaer":1}"#, "unknown key shaer; known are share"),
            (r#"{"share":2}"#, "share: want a number from 0 to 1"),
            (r#"{"share":"x"}"#, "share: want a number from 0 to 1"),
            (r#"{"share":1,"share":1}"#, "settings: key \"share\" comes twice"),
            ("[]", "settings: a JSON array: one event a record is wanted, as an object"),
        ] {
            assert_eq!(share(json).unwrap_err(), want);
        }
    }
}
