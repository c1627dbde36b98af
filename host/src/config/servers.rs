//! Kafka's addresses, `host:port` with commas between, and what people write in their place.

use super::tree::Node;
use super::value::{Read, text};

/// The port that Kafka listens on where nobody chose another (`listeners` of its configuration).
const USUAL_PORT: u16 = 9092;

/// The names of Kafka's listeners, which stand before their addresses in a broker's configuration.
const LISTENERS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// The addresses, without spaces and empty ones.
pub(super) fn servers(node: &Node) -> Read<String> {
    let list = text(node).map_err(|wrong| format!("{wrong}, such as \"kafka-1:9092,kafka-2:9092\""))?;
    let written: Vec<&str> = list.split(',').map(str::trim).filter(|server| !server.is_empty()).collect();
    if written.is_empty() {
        return Err(format!("{list:?} has no address; write host:port of a broker, such as kafka:{USUAL_PORT}"));
    }
    let wrong: Vec<String> = written.iter().filter_map(|server| check(server).err()).collect();
    if wrong.is_empty() { Ok(written.join(",")) } else { Err(wrong.join("; ")) }
}

/// What is wrong with one address.
fn check(server: &str) -> Read<()> {
    if let Some((user, _)) = server.rsplit_once('@') {
        // It may hold a password, which nobody is to see.
        let scheme = user.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
        return Err(format!(
            "an address has a user before @ ({scheme}…@…); write host:port, and the user as \"sasl.username\" and \
             \"sasl.password\" of [source.kafka]"
        ));
    }
    let shown = format!("{server:?}");
    if let Some((scheme, address)) = server.split_once("://") {
        return Err(of_scheme(&shown, &scheme.to_ascii_lowercase(), address));
    }
    if server.contains([';', '|']) || server.contains(char::is_whitespace) {
        return Err(format!("{shown} is more than one address; write commas between: host:9092,host:9092"));
    }
    let is_bracketed = server.starts_with('[');
    if server.contains(['"', '\'']) || (server.contains(['[', ']']) && !is_bracketed) {
        return Err(format!("{shown} has quotes or brackets in it; write host:port without"));
    }
    let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None if server.matches(':').count() > 1 => {
            return Err(format!("{shown} is an IPv6 address without brackets; write [{server}]:{USUAL_PORT}"));
        }
        None => server.split_once(':').map_or((server, None), |(host, port)| (host, Some(port))),
    };
    let Some(port) = port else {
        return Err(format!(
            "{shown} has no port; write {server}:{USUAL_PORT}, if its brokers listen on kafka's usual one"
        ));
    };
    if host.is_empty() {
        return Err(format!("{shown} has no host; write host{server}"));
    }
    if let Some((port, path)) = port.split_once('/') {
        return Err(format!("{shown} has {:?} after the port; write {host}:{port}", format!("/{path}")));
    }
    if host.contains(['/', '?', '#', '*']) {
        return Err(format!("{shown} is no address; write host:port of a broker"));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(format!("{shown} has {port:?} for a port; write a number from 1 to 65535, such as {USUAL_PORT}")),
    }
}

/// What is wrong with an address that has a scheme.
fn of_scheme(shown: &str, scheme: &str, address: &str) -> String {
    let address = address.split('/').next().unwrap_or_default();
    let address = if address.contains(':') { address.to_owned() } else { format!("{address}:{USUAL_PORT}") };
    match scheme {
        "http" | "https" => format!(
            "{shown} is a web address; a broker speaks kafka's own protocol: write its host:port, such as \
             kafka:{USUAL_PORT} (a REST proxy or a schema registry is no broker)"
        ),
        "zookeeper" | "zk" => format!("{shown} is ZooKeeper's; write host:port of a broker"),
        listener if LISTENERS.contains(&listener) => format!(
            "{shown} is how a broker's own file writes a listener; write {address}, and \"security.protocol\" = \
             \"{listener}\" in [source.kafka]"
        ),
        _ => format!("{shown} has a scheme, {scheme}://, which kafka's addresses have not; write {address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::mistake::Place;
    use super::super::tree::Value;
    use super::*;

    fn read(list: &str) -> Read<String> {
        servers(&Node { value: Value::Text(list.into()), place: Place::File, variables: Vec::new() })
    }

    #[test]
    fn spaces_and_commas_too_many_are_left_out() {
        for list in ["a:1,b:2", " a:1 , b:2 ", "a:1,b:2,", ",a:1,,b:2"] {
            assert_eq!(read(list).as_deref(), Ok("a:1,b:2"), "{list}");
        }
        assert_eq!(read("[::1]:9092").as_deref(), Ok("[::1]:9092"));
        assert_eq!(read("kafka_1.intern-net:65535").as_deref(), Ok("kafka_1.intern-net:65535"));
    }

    #[test]
    fn what_can_never_be_an_address_is_told_with_what_would_be() {
        for (list, part) in [
            ("kafka://h:9092", "has a scheme, kafka://, which kafka's addresses have not; write h:9092"),
            ("tcp://h", "write h:9092"),
            ("PLAINTEXT://h:1", "write h:1, and \"security.protocol\" = \"plaintext\""),
            ("SASL_SSL://h:1", "\"security.protocol\" = \"sasl_ssl\""),
            ("http://h:8082/", "is a web address"),
            ("h", "has no port; write h:9092"),
            ("h:", "has \"\" for a port"),
            ("h:0", "a number from 1 to 65535"),
            ("h:65536", "a number from 1 to 65535"),
            ("h:kafka", "has \"kafka\" for a port"),
            (":9092", "has no host"),
            ("h:9092/events", "has \"/events\" after the port; write h:9092"),
            ("a:1 b:2", "write commas between"),
            ("a:1;b:2", "write commas between"),
            ("::1:9092", "an IPv6 address without brackets"),
            ("[\"a:1\"]", "quotes or brackets"),
            ("'a:1'", "quotes or brackets"),
            (" , ", "has no address"),
        ] {
            let wrong = read(list).unwrap_err();
            assert!(wrong.contains(part), "{list}: {wrong}");
        }
    }

    #[test]
    fn each_wrong_address_of_a_list_is_told() {
        let wrong = read("kafka://a:1,b:2,c").unwrap_err();
        assert!(
            wrong.contains("kafka://a:1") && wrong.contains("\"c\" has no port") && !wrong.contains("b:2"),
            "{wrong}"
        );
    }

    #[test]
    fn a_password_in_an_address_is_not_shown() {
        let wrong = read("kafka://me:geheim@h:9092").unwrap_err();
        assert!(wrong.contains("sasl.password") && !wrong.contains("geheim"), "{wrong}");
    }
}
