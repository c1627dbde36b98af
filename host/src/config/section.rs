//! One section of the file while it is read: typed access that notes every mistake and goes on.

use std::{cell::RefCell, collections::BTreeMap};

use super::Named;
use super::mistake::{Mistake, Mistakes, Place, closest};
use super::tree::{Node, Table, Value};
use super::value::{Read, json, setting};

/// The mistakes noted so far, shared by all sections of a file.
pub(super) struct Notes<'f> {
    pub(super) file: &'f str,
    pub(super) mistakes: RefCell<Mistakes>,
}

/// One section. Every key that is asked for is known; [`Section::finish`] says which others there are.
pub(super) struct Section<'a> {
    path: String,
    place: Place,
    /// `None` when the file has no such section.
    table: Option<&'a Table>,
    known: Vec<&'static str>,
    notes: &'a Notes<'a>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(table: &'a Table, notes: &'a Notes<'a>) -> Self {
        Self { path: String::new(), place: Place::File, table: Some(table), known: Vec::new(), notes }
    }

    /// Whether the file has this section.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the section has this key.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// Notes a mistake at `key`, or at the section when it is not there.
    pub(super) fn note(&self, key: &str, text: impl Into<String>) {
        let node = self.table.and_then(|table| table.get(key));
        let mut text = text.into();
        if let Some(node) = node.filter(|node| !node.variables.is_empty()) {
            text = format!("{text} (it comes from {})", node.variables.join(" and "));
        }
        let (place, key) = self.place_of(key);
        self.notes.mistakes.borrow_mut().0.push(Mistake { file: self.notes.file.to_owned(), place, key, text });
    }

    /// The place of `key`, or of the section where it is not there; and its whole name.
    fn place_of(&self, key: &str) -> (Place, String) {
        let node = self.table.and_then(|table| table.get(key));
        let place = node.map_or(&self.place, |node| &node.place).clone();
        (place, if key.is_empty() { self.path.clone() } else { self.path_of(key) })
    }

    /// Where `key` stands, for those who find out later what is wrong with it.
    pub(super) fn named(&self, key: &str) -> Named {
        let (place, key) = self.place_of(key);
        Named(Mistake { file: self.notes.file.to_owned(), place, key, text: String::new() }.to_string())
    }

    /// The value of `key`, if it is there. An empty text counts as not there, so that an empty variable does.
    pub(super) fn optional<T>(&mut self, key: &'static str, read: impl Fn(&Node) -> Read<T>) -> Option<T> {
        let node = self.node(key)?;
        if matches!(&node.value, Value::Broken) || matches!(&node.value, Value::Text(text) if text.is_empty()) {
            return None;
        }
        read(node).map_err(|wrong| self.note(key, wrong)).ok()
    }

    /// The value of `key`, else `default`.
    pub(super) fn or<T>(&mut self, key: &'static str, default: T, read: impl Fn(&Node) -> Read<T>) -> T {
        self.optional(key, read).unwrap_or(default)
    }

    /// The value of `key`, which must be there; `example` is what would be right.
    pub(super) fn required<T: Default>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl Fn(&Node) -> Read<T>,
    ) -> T {
        let before = self.notes.mistakes.borrow().0.len();
        let value = self.optional(key, read);
        let broken = self.node(key).is_some_and(|node| matches!(node.value, Value::Broken));
        if value.is_none() && !broken && self.notes.mistakes.borrow().0.len() == before {
            self.note(key, format!("missing; write {example}"));
        }
        value.unwrap_or_default()
    }

    /// The section `key` below this one; an empty one when it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let node = self.node(key);
        let table = match node.map(|node| &node.value) {
            Some(Value::Table(table)) => Some(table),
            Some(Value::Broken) | None => None,
            Some(_) => {
                self.note(key, format!("this is a section; write [{}]", self.path_of(key)));
                None
            }
        };
        let place = node.map_or(&self.place, |node| &node.place).clone();
        Section { path: self.path_of(key), place, table, known: Vec::new(), notes: self.notes }
    }

    /// The sections `[[key]]`, in their order.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let (path, notes) = (self.path_of(key), self.notes);
        let one = |item: &'a Node| match &item.value {
            Value::Table(table) => Some(Section {
                path: path.clone(),
                place: item.place.clone(),
                table: Some(table),
                known: Vec::new(),
                notes,
            }),
            _ => None,
        };
        let sections = match &node.value {
            Value::List(items) => items.iter().map(one).collect::<Option<Vec<_>>>(),
            Value::Broken => Some(Vec::new()),
            _ => None,
        };
        sections.unwrap_or_else(|| {
            self.note(key, format!("this is a list of sections; write [[{path}]]"));
            Vec::new()
        })
    }

    /// The section `key` as a plugin gets it.
    pub(super) fn plugin_config(&mut self, key: &'static str) -> serde_json::Map<String, serde_json::Value> {
        let section = self.section(key);
        let entry = |(name, node): (&String, &Node)| {
            let value = json(node).map_err(|wrong| section.note(name, wrong)).ok()?;
            Some((name.clone(), value))
        };
        section.table.into_iter().flatten().filter_map(entry).collect()
    }

    /// The section `key` as settings of librdkafka. Those that are empty are left out.
    pub(super) fn settings(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let section = self.section(key);
        let entry = |(name, node): (&String, &Node)| {
            let value = setting(node).map_err(|wrong| section.note(name, wrong)).ok()?;
            (!value.is_empty()).then(|| (name.clone(), value))
        };
        section.table.into_iter().flatten().filter_map(entry).collect()
    }

    /// The section `key` as secrets by names that people choose. Those that are empty are left out.
    pub(super) fn secrets(
        &mut self,
        key: &'static str,
        name: impl Fn(&str) -> Read<()>,
        secret: impl Fn(&Node) -> Read<String>,
    ) -> BTreeMap<String, String> {
        let section = self.section(key);
        let entry = |(of, node): (&String, &Node)| {
            if matches!(&node.value, Value::Broken) || matches!(&node.value, Value::Text(text) if text.is_empty()) {
                return None;
            }
            let value = name(of).and_then(|()| secret(node)).map_err(|wrong| section.note(of, wrong)).ok()?;
            Some((of.clone(), value))
        };
        section.table.into_iter().flatten().filter_map(entry).collect()
    }

    /// Says which keys of the section nobody asked for, and gives their number.
    pub(super) fn finish(self) -> usize {
        let is_unknown = |key: &&String| !self.known.contains(&key.as_str());
        let unknown: Vec<_> = self.table.into_iter().flat_map(BTreeMap::keys).filter(is_unknown).collect();
        for key in &unknown {
            self.note(
                key,
                match closest(key, self.known.iter().copied()) {
                    Some(meant) => format!("unknown key; did you mean {meant}?"),
                    None => format!("unknown key; there are {}", self.known.join(", ")),
                },
            );
        }
        unknown.len()
    }

    /// Takes the keys of the section as they are, known or not.
    fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.and_then(|table| table.get(key))
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
