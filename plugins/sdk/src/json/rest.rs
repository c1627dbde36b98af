//! What is left over of a record: the members that no column holds, as the text of a JSON object.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

/// The most bytes of one record's rest, but for short lines of values that did not fit: thousands of small fields. A batch
/// of 4,096 records that are full of them takes a quarter of the 1 GiB that a plugin has by default.
const MAX_BYTES: usize = 64 * 1024;
/// How much is kept of what has no room, in bytes: two lines of a terminal, enough to know it again.
const BEGINNING_BYTES: usize = 160;

/// The rest, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// The members, with a comma after each.
    members: String,
    /// How many had no room.
    omitted: usize,
}

impl Rest {
    /// Adds a member of the record as it stands, the key without its quotes. `sound` and `whole` say that key and value are JSON.
    pub(super) fn add(&mut self, key: &[u8], sound: bool, value: &[u8], whole: bool) {
        if !self.put(key, sound, value, whole, MAX_BYTES) {
            self.omitted += 1;
        }
    }

    /// Adds a value that its field did not take; it always has room, but maybe not all of it.
    pub(super) fn add_misfit(&mut self, field: &str, value: &[u8], whole: bool) {
        self.put(field.as_bytes(), true, value, whole, usize::MAX);
    }

    /// Puts a member, or the beginning of it where that exceeds `MAX_BYTES`, or nothing where that exceeds `most`.
    fn put(&mut self, key: &[u8], sound: bool, value: &[u8], whole: bool, most: usize) -> bool {
        let start = self.members.len();
        if start + key.len() + value.len() <= MAX_BYTES {
            self.text(key, sound);
            self.members.push(':');
            if whole {
                self.members.push_str(&String::from_utf8_lossy(value));
            } else {
                self.text(value, false);
            }
            self.members.push(',');
            if self.members.len() <= MAX_BYTES {
                return true;
            }
            self.members.truncate(start);
        }
        self.text(beginning(key).as_bytes(), sound && key.len() <= BEGINNING_BYTES);
        self.members.push(':');
        self.text(beginning(value).as_bytes(), false);
        self.members.push(',');
        if self.members.len() > most {
            self.members.truncate(start);
        }
        self.members.len() > start
    }

    /// A text in quotes: as it stands if it is `sound`, else with escapes for all that it needs them for.
    fn text(&mut self, text: &[u8], sound: bool) {
        self.members.push('"');
        let text = String::from_utf8_lossy(text);
        if sound {
            self.members.push_str(&text);
        } else {
            for character in text.chars() {
                match character {
                    '"' | '\\' => self.members.extend(['\\', character]),
                    '\0'..' ' => self.say(format_args!("\\u{:04x}", u32::from(character))),
                    _ => self.members.push(character),
                }
            }
        }
        self.members.push('"');
    }

    fn say(&mut self, text: core::fmt::Arguments<'_>) {
        self.members.write_fmt(text).expect("a text in memory takes all that is written to it");
    }

    /// The object, unless it is empty.
    pub(super) fn json(mut self) -> Option<String> {
        if self.omitted > 0 {
            let (omitted, fields) = (self.omitted, if self.omitted == 1 { "field" } else { "fields" });
            self.say(format_args!("\"…\":\"{omitted} more {fields}\","));
        }
        self.members.pop()?;
        Some(format!("{{{}}}", self.members))
    }
}

/// The beginning of a text, and how long it is.
fn beginning(text: &[u8]) -> Cow<'_, str> {
    if text.len() <= BEGINNING_BYTES {
        return String::from_utf8_lossy(text);
    }
    // A character that is cut in two is not begun.
    let end = (0..=BEGINNING_BYTES).rev().find(|end| text[*end] & 0xC0 != 0x80).unwrap_or(BEGINNING_BYTES);
    Cow::Owned(format!("{}… ({} bytes)", String::from_utf8_lossy(&text[..end]), text.len()))
}
