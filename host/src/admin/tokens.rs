//! Who may change something: whoever has a token.

use std::collections::BTreeMap;
use std::hint::black_box;

/// The tokens that are taken, and whose they are.
#[derive(Default)]
pub(super) struct Tokens {
    all: Vec<(String, String)>,
}

impl Tokens {
    /// The tokens of the pipeline file, by name.
    pub(super) fn named(tokens: &BTreeMap<String, String>) -> Self {
        Self { all: tokens.iter().map(|(name, token)| (format!("token:{name}"), token.clone())).collect() }
    }

    /// One more token; whoever has it is `who`.
    pub(super) fn add(&mut self, who: String, token: String) {
        self.all.push((who, token));
    }

    /// Who sends this `Authorization` header; `None` = nobody who may change something.
    ///
    /// It takes as long for a token that begins right as for one that does not, so that nobody finds one sign by sign.
    pub(super) fn who(&self, authorization: Option<&str>) -> Option<&str> {
        let (scheme, given) = authorization?.split_once(' ')?;
        let given = given.trim();
        let mut who = None;
        for (owner, token) in &self.all {
            if equal(token.as_bytes(), given.as_bytes()) {
                who = Some(owner.as_str());
            }
        }
        who.filter(|_| scheme.eq_ignore_ascii_case("bearer"))
    }
}

/// Whether the two are equal, in a time that depends on their lengths alone.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let different = one.iter().zip(other).fold(0, |different, (a, b)| black_box(different | (a ^ b)));
    one.len() == other.len() && !one.is_empty() && different == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        let mut tokens = Tokens::named(&[("ci".to_owned(), "0123456789abcdef".to_owned())].into());
        tokens.add("user:ada".into(), "fedcba9876543210".into());
        tokens
    }

    #[test]
    fn a_token_says_who_it_is() {
        assert_eq!(tokens().who(Some("Bearer 0123456789abcdef")), Some("token:ci"));
        assert_eq!(tokens().who(Some("bearer fedcba9876543210")), Some("user:ada"));
    }

    #[test]
    fn nothing_else_does() {
        for header in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("0123456789abcdef"),
            Some("Basic 0123456789abcdef"),
            Some("Bearer 0123456789abcde"),
            Some("Bearer 0123456789abcdef0"),
            Some("Bearer 0123456789abcdeF"),
        ] {
            assert_eq!(tokens().who(header), None, "{header:?}");
        }
        let mut empty = Tokens::default();
        empty.add("user:ada".into(), String::new());
        assert_eq!(empty.who(Some("Bearer ")), None);
    }
}
