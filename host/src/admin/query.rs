//! What stands after the `?` of an address, and how names and values are written there.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The values of a query by their names. Each that is taken is known; [`Query::finish`] says which others there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads a query without its `?`. A name without `=` has an empty value.
    ///
    /// # Errors
    /// What is no query.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if values.insert(name.clone(), value).is_some() {
                return Err(format!("{name:?} is there twice; write it once"));
            }
        }
        Ok(Self(values))
    }

    /// The value of this name.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// A switch: it is on where it is there, unless it is `false`.
    ///
    /// # Errors
    /// What would be right.
    pub(super) fn take_switch(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => Err(format!("{other:?} is not a switch; write {name}, {name}=true or {name}=false")),
        }
    }

    /// The values whose names begin so, by the rest of their names.
    pub(super) fn take_all(&mut self, prefix: &str) -> BTreeMap<String, String> {
        let names: Vec<String> = self.0.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let value = |name: String| Some((name.get(prefix.len()..)?.to_owned(), self.0.remove(&name)?));
        names.into_iter().filter_map(value).collect()
    }

    /// Whether everything was taken.
    ///
    /// # Errors
    /// What was not; `known` is what there is.
    pub(super) fn finish(self, known: &str) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("{name:?} is unknown here; there is {known}")),
            None => Ok(()),
        }
    }
}

/// A number.
///
/// # Errors
/// What would be right.
pub(super) fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number; write one such as 0.1 or 1e-9"))
}

/// Text as a part of an address: only letters, digits and `-._~` stay as they are.
///
/// # Source
/// RFC 3986, section 2.3.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes everything");
        }
    }
    encoded
}

fn decode(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not part of an address; write % and two hexadecimal digits for other signs");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = digit().zip(digit()).ok_or_else(wrong)?;
                (high * 16 + low) as u8
            }
            b'+' => b' ',
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_values_come_back_as_they_were() {
        let text = format!("tolerance.{}={}&dry_run", encode("a b&=%+ü"), encode("1e-9 ?#"));
        let mut query = Query::parse(&text).unwrap();
        assert_eq!(query.take_all("tolerance."), [("a b&=%+ü".to_owned(), "1e-9 ?#".to_owned())].into());
        assert_eq!((query.take_switch("dry_run"), query.take_switch("other")), (Ok(true), Ok(false)));
        assert_eq!(query.finish(""), Ok(()));
    }

    proptest! {
        #[test]
        fn all_text_comes_back_as_it_was(name in ".{1,20}", value in ".{0,20}") {
            let mut query = Query::parse(&format!("{}={}", encode(&name), encode(&value))).unwrap();
            prop_assert_eq!(query.take(&name), Some(value));
        }

        #[test]
        fn any_text_is_a_query_or_is_told(text in "[a-z%&=+0-9Fé]{0,40}") {
            let told = Query::parse(&text).err();
            prop_assert!(told.is_none_or(|told| told.contains("; write ")));
        }
    }

    #[test]
    fn what_is_left_is_unknown() {
        let query = Query::parse("dry-run=true").unwrap();
        assert_eq!(query.finish("dry_run"), Err("\"dry-run\" is unknown here; there is dry_run".into()));
    }

    #[test]
    fn what_is_no_query_says_so() {
        for text in ["a=%", "a=%f", "a=%zz", "a=%ff", "a=1&a=2"] {
            assert!(Query::parse(text).is_err(), "{text}");
        }
        assert!(Query::parse("dry_run=maybe").unwrap().take_switch("dry_run").is_err());
        assert!(number("much").is_err());
    }
}
