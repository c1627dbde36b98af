//! Which requests are answered: none that a foreign web page can make a browser send with a use to it.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The names under which this server is spoken to.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
}

impl Guard {
    pub(super) fn new(hosts: Vec<String>) -> Self {
        Self { hosts }
    }

    /// Whether a request is answered, by its `Host` and `Origin` headers.
    ///
    /// A page on the internet can point its own name at this address (DNS rebinding) and then read what it gets; so
    /// only names are answered that cannot be such a page's: addresses, localhost, names without a dot (of machines and
    /// containers) and the given ones. A page of another origin is refused even so.
    pub(super) fn allows(&self, host: Option<&str>, origin: Option<&str>) -> bool {
        let Some(host) = host else { return false };
        let own = origin.is_none_or(|origin| origin.split_once("://").is_some_and(|(_, from)| from == host));
        own && self.allows_host(without_port(host))
    }

    fn allows_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        literal.is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok())
            || host.parse::<Ipv4Addr>().is_ok()
            || host.ends_with(".localhost")
            || (!host.is_empty() && !host.contains('.'))
            || self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(&host))
    }
}

fn without_port(host: &str) -> &str {
    // An IPv6 address has colons of its own, inside brackets.
    if host.ends_with(']') { host } else { host.rsplit_once(':').map_or(host, |(name, _)| name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(host: &str) -> bool {
        Guard::new(vec!["wasmill.example.org".into()]).allows(Some(host), None)
    }

    #[test]
    fn addresses_and_local_names_are_answered() {
        let hosts =
            ["127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[::1]", "localhost:8080", "LOCALHOST", "wasmill:8080"];
        assert!(hosts.into_iter().all(allows));
    }

    #[test]
    fn a_given_name_is_answered_and_others_are_not() {
        assert!(allows("wasmill.example.org:8080"));
        assert!(!allows("evil.example.org:8080") && !allows("127.0.0.1.evil.org") && !allows(""));
    }

    #[test]
    fn a_request_without_host_is_refused() {
        assert!(!Guard::new(Vec::new()).allows(None, None));
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let guard = Guard::new(Vec::new());
        assert!(guard.allows(Some("localhost:8080"), Some("http://localhost:8080")));
        assert!(!guard.allows(Some("localhost:8080"), Some("http://localhost:3000")));
        assert!(!guard.allows(Some("localhost:8080"), Some("null")));
    }
}
