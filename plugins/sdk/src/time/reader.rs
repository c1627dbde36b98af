//! The one reader of event times: which form a text or number has, told by its looks or named in a plugin's settings.

use super::{Timestamp, epoch, iso};
use crate::config::Config;
use alloc::format;
use alloc::string::String;

/// What numbers count, and texts of digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// Told by how many digits stand before the point: 9 or 10 are seconds, 12 or 13 milliseconds, 15 or 16
    /// microseconds, 18 or 19 nanoseconds since 1970. That is 1973-03-03 to 2286-11-20 in each, and the same span before
    /// 1970 where it is negative; any other number is no time.
    #[default]
    ByMagnitude,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// Microseconds since 1970.
    Micros,
    /// Nanoseconds since 1970.
    Nanos,
    /// Nothing: a number is no time.
    Nothing,
}

/// How the times of a field are written. By default: ISO 8601 in UTC where no zone stands there, numbers by magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeReader {
    numbers: Numbers,
    /// Seconds east of Greenwich that a time without a zone has; `None`: such a time cannot be read.
    zone: Option<i64>,
}

impl Default for TimeReader {
    fn default() -> Self {
        Self { numbers: Numbers::default(), zone: Some(0) }
    }
}

impl TimeReader {
    /// Reads numbers as `numbers`, and times without a zone as UTC.
    #[must_use]
    pub const fn of(numbers: Numbers) -> Self {
        Self { numbers, zone: Some(0) }
    }

    /// The reader that a plugin's settings name: under `form` one of `auto`, `iso`, `epoch_s`, `epoch_ms`, `epoch_us`,
    /// `epoch_ns`; under `zone` what a time without one has: `UTC`, an offset such as `+01:00`, or `none`, which makes
    /// it unreadable. Each has its default where it is not set.
    ///
    /// # Errors
    /// A message for the author of the pipeline file.
    pub fn take(config: &mut Config<'_>, form: &'static str, zone: &'static str) -> Result<Self, String> {
        let mut reader = Self::default();
        if let Some(name) = config.text(form)? {
            reader.numbers = match &*name {
                "auto" => Numbers::ByMagnitude,
                "iso" => Numbers::Nothing,
                "epoch_s" => Numbers::Seconds,
                "epoch_ms" => Numbers::Millis,
                "epoch_us" => Numbers::Micros,
                "epoch_ns" => Numbers::Nanos,
                _ => return Err(format!("{form}: want auto, iso, epoch_s, epoch_ms, epoch_us or epoch_ns")),
            };
        }
        if let Some(name) = config.text(zone)? {
            reader.zone = match &*name {
                "none" => None,
                name => match iso::zone(name.as_bytes()) {
                    Some(offset) => Some(offset),
                    None => return Err(format!("{zone}: want UTC, an offset such as +01:00, or none")),
                },
            };
        }
        Ok(reader)
    }

    /// The instant that a text says; spaces around it do not count. `None` where it says none, or may mean several.
    #[inline]
    #[must_use]
    pub fn text(&self, text: &[u8]) -> Option<Timestamp> {
        iso::utc(text).or_else(|| self.any_text(text))
    }

    /// The same for the forms that few texts have.
    #[cold]
    #[inline(never)]
    fn any_text(&self, text: &[u8]) -> Option<Timestamp> {
        let text = text.trim_ascii();
        // Eight digits are a day before they are a number: as seconds that would be 1970.
        let day = text.len() == 8 && self.tells_by_magnitude();
        match epoch::Decimal::read(text).filter(|_| !day) {
            Some(decimal) => decimal.instant(self.numbers),
            None => iso::read(text, self.zone),
        }
    }

    /// The instant that a number says, as it is written in JSON.
    #[cold]
    #[must_use]
    pub fn number(&self, number: &str) -> Option<Timestamp> {
        epoch::Decimal::read(number.as_bytes())?.instant(self.numbers)
    }

    /// The instant that an array says, as it is written in JSON: year, month, day; or these with hour and minute; or
    /// with the second, too; or with the nanoseconds, too.
    ///
    /// # Source
    /// `LocalDateTimeSerializer` of jackson-datatype-jsr310, which leaves a second or nanosecond of 0 away.
    #[cold]
    #[must_use]
    pub fn array(&self, array: &str) -> Option<Timestamp> {
        iso::array(array.as_bytes(), self.zone)
    }

    fn tells_by_magnitude(&self) -> bool {
        matches!(self.numbers, Numbers::ByMagnitude | Numbers::Nothing)
    }
}
