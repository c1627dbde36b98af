//! What librdkafka complains of, in words that say what is wrong, where that comes from and what would be right.
//!
//! Its own words are for those who read its source, and stay in the log at `debug`.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Where it is said whether a broker is spoken to with TLS and SASL.
const PROTOCOLS: &str = "\"security.protocol\" of [source.kafka] (KAFKA_SECURITY_PROTOCOL)";

/// A complaint about one broker, taken apart.
struct Complaint<'a> {
    /// `host:port`.
    address: &'a str,
    /// Whether the address is one that a broker gave; else it is one of the settings.
    advertised: bool,
    /// What happened.
    what: &'a str,
}

impl<'a> Complaint<'a> {
    /// Of `sasl_ssl://host:9092/1: what (after 3ms in state CONNECT)`.
    fn parse(reason: &'a str) -> Option<Self> {
        let (name, what) = reason.split_once(": ")?;
        let name = name.rsplit_once("://").map_or(name, |(_, name)| name);
        let (address, node) = name.rsplit_once('/')?;
        let advertised = match node {
            "bootstrap" => false,
            node if !node.is_empty() && node.bytes().all(|byte| byte.is_ascii_digit()) => true,
            _ => return None,
        };
        let what = what.rsplit_once(" (after ").map_or(what, |(what, _)| what);
        address.contains(':').then_some(Self { address, advertised, what })
    }
}

/// What librdkafka says of a client whose addresses are these, in plain words.
pub(super) fn plain(reason: &str, bootstrap: &str) -> String {
    let Some(complaint) = Complaint::parse(reason) else { return reason.to_owned() };
    let Complaint { address, advertised, .. } = complaint;
    let (what, advice) = explain(&complaint);
    let listed = bootstrap.split(',').any(|listed| listed.trim() == address);
    if !advertised || listed {
        let advice = advice.unwrap_or_else(|| "source.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS) names it".to_owned());
        return format!("{address} {what}; {advice}");
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let advice = advice.unwrap_or_else(|| {
        let here = matches!(host, "localhost" | "127.0.0.1" | "[::1]" | "0.0.0.0");
        let of_here = if here { format!("{host} is the machine of each client itself; ") } else { String::new() };
        format!(
            "{of_here}it comes from advertised.listeners of the broker: let it be a name and port that this machine \
             can reach, or make {host} known here"
        )
    });
    format!("the broker at {bootstrap} answers, but tells clients to go on at {address}, and that {what}; {advice}")
}

/// What happened at an address, to follow it, and what to do where the address is not what is wrong.
fn explain(complaint: &Complaint<'_>) -> (String, Option<String>) {
    let what = complaint.what;
    let has = |text: &str| what.contains(text);
    let plainly = |what: &str| (what.to_owned(), None);
    if has("Failed to resolve") {
        return plainly("is a name that this machine cannot resolve");
    }
    if has("Connection refused") {
        return plainly("refuses connections: nothing listens there");
    }
    if has("timed out in state CONNECT") || has("Connection timed out") || has("No route to host") {
        return plainly("cannot be reached: no answer comes back, as from a machine that is off or behind a firewall");
    }
    if let Some(size) = what.split_once("Invalid response size ").and_then(|(_, rest)| rest.split(' ').next()) {
        return strange_answer(size);
    }
    if has("ApiVersion") && has("Disconnected") {
        return hangs_up();
    }
    if has("timed out in state APIVERSION") || (has("ApiVersion") && has("imed out")) {
        return plainly("takes connections, but does not answer as a broker does: is it kafka's port?");
    }
    if has("SASL") || has("Authentication") {
        return sasl(what);
    }
    if has("certificate verify failed") {
        let advice = "give the authority's certificate as \"ssl.ca.location\" of [source.kafka]".to_owned();
        return ("has a certificate that this machine does not trust".into(), Some(advice));
    }
    if has("SSL handshake failed") {
        let advice = format!("where the listener is a plain one, set {PROTOCOLS} to plaintext or sasl_plaintext");
        return ("does not take part in a TLS handshake".into(), Some(advice));
    }
    if has("Disconnected") || has("closed by peer") || has("Connection reset") {
        return plainly("closed the connection");
    }
    plainly(&format!("cannot be used: {what}"))
}

/// What closes a connection as soon as it is asked something.
fn hangs_up() -> (String, Option<String>) {
    let advice = format!("where the listener wants TLS, set {PROTOCOLS} to ssl or sasl_ssl");
    (
        "closes the connection at the first request, as what is no broker does, or one that wants TLS".into(),
        Some(advice),
    )
}

/// What it means that all brokers are down, and none of them gave a reason: librdkafka tells of no connection that is
/// closed, while one that is refused or a name that is not known is an error of its own.
pub(super) fn without_a_reason(bootstrap: &str) -> String {
    let (what, advice) = hangs_up();
    format!("{bootstrap} {what}; {}", advice.unwrap_or_default())
}

/// What answers with bytes that, taken for a response's length, are this number.
fn strange_answer(size: &str) -> (String, Option<String>) {
    let bytes = size.parse::<i32>().unwrap_or_default().to_be_bytes();
    match bytes {
        [b'H', b'T', b'T', b'P'] => ("is a web server (it answers in HTTP), not a kafka broker".into(), None),
        // The record types of TLS (RFC 8446, section 5.1): alert and handshake, then the version's first byte.
        [0x15 | 0x16, 3, ..] => {
            ("answers in TLS".into(), Some(format!("set {PROTOCOLS} to ssl, or to sasl_ssl with a user")))
        }
        _ => ("answers, but not as a kafka broker does".into(), None),
    }
}

fn sasl(what: &str) -> (String, Option<String>) {
    if let Some((_, mechanisms)) = what.split_once("supported mechanisms:").filter(|(_, all)| !all.trim().is_empty()) {
        let advice = format!("set \"sasl.mechanism\" (KAFKA_SASL_MECHANISM) to one of these: {}", mechanisms.trim());
        return ("does not know this way to log in".into(), Some(advice));
    }
    if what.contains("handshake") || what.contains("current SASL state") {
        let advice = format!("set {PROTOCOLS} to plaintext, or take the port of the listener with SASL");
        return ("wants no user: its listener is one without SASL".into(), Some(advice));
    }
    let advice = "look at \"sasl.username\" and \"sasl.password\" of [source.kafka] (KAFKA_SASL_USERNAME, \
                  KAFKA_SASL_PASSWORD)";
    ("refuses the user or the password".into(), Some(advice.into()))
}

/// What an error of librdkafka means, in plain words.
pub(super) fn plain_error(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), plain_code)
}

/// What a code of Kafka's or librdkafka's means, in plain words.
pub(super) fn plain_code(code: RDKafkaErrorCode) -> String {
    use RDKafkaErrorCode as Code;
    let plain = match code {
        Code::OperationTimedOut | Code::RequestTimedOut => "no answer came in time",
        Code::BrokerTransportFailure => "the connection broke, or none was made",
        Code::AllBrokersDown => "no broker can be reached",
        Code::Resolve => "a broker's name cannot be resolved by this machine",
        Code::Authentication | Code::SaslAuthenticationFailed => "the broker refuses the user or the password",
        Code::TopicAuthorizationFailed => "the user may not read the topic: it needs the ACLs Describe and Read",
        Code::GroupAuthorizationFailed => "the user may not use the group: it needs the ACL Read on it",
        Code::ClusterAuthorizationFailed => "the user may not do that in this cluster",
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            "there is no such topic or partition"
        }
        Code::LeaderNotAvailable | Code::NotLeaderForPartition => "the partition has no leader just now",
        _ => return code.to_string(),
    };
    plain.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reason: &str) -> String {
        plain(reason, "kafka-1:9092,127.0.0.1:9092")
    }

    #[test]
    fn a_port_without_a_listener_is_told_with_the_setting() {
        let text = told(
            "127.0.0.1:9092/bootstrap: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)",
        );
        assert_eq!(
            text,
            "127.0.0.1:9092 refuses connections: nothing listens there; \
             source.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS) names it"
        );
    }

    #[test]
    fn a_name_of_the_settings_that_is_unknown_is_told_with_the_setting() {
        let text = told(
            "kafka-1:9092/bootstrap: Failed to resolve 'kafka-1:9092': Name or service not known (after 4ms in state CONNECT)",
        );
        assert!(
            text.starts_with("kafka-1:9092 is a name that this machine cannot resolve; source.bootstrap"),
            "{text}"
        );
    }

    #[test]
    fn a_name_that_the_broker_advertises_is_told_with_where_it_comes_from() {
        let text = told(
            "kafka:9092/1: Failed to resolve 'kafka:9092': Temporary failure in name resolution (after 9ms in state CONNECT)",
        );
        let wanted = "the broker at kafka-1:9092,127.0.0.1:9092 answers, but tells clients to go on at kafka:9092, and \
                      that is a name that this machine cannot resolve; it comes from advertised.listeners of the broker";
        assert!(text.starts_with(wanted), "{text}");
        let text = told(
            "localhost:29092/1: Connect to ipv4#127.0.0.1:29092 failed: Connection refused (after 0ms in state CONNECT, 3 identical error(s) suppressed)",
        );
        assert!(
            text.contains("go on at localhost:29092, and that refuses") && text.contains("each client itself"),
            "{text}"
        );
    }

    #[test]
    fn a_broker_that_the_settings_name_too_is_no_matter_of_what_it_advertises() {
        let text = told("127.0.0.1:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused");
        assert!(!text.contains("advertised"), "{text}");
    }

    #[test]
    fn what_is_no_broker_is_told_by_how_it_answers() {
        let answer = |size: &str| {
            told(&format!(
                "a:1/bootstrap: Receive failed: Invalid response size {size} (0..100000000): increase receive.message.max.bytes (after 1ms in state APIVERSION_QUERY)"
            ))
        };
        assert!(answer("1213486160").contains("is a web server"), "{}", answer("1213486160"));
        assert!(answer("352518912").contains("answers in TLS; set \"security.protocol\""), "{}", answer("352518912"));
        assert!(answer("369296129").contains("answers in TLS"));
        assert!(answer("-5").contains("not as a kafka broker does"));
    }

    #[test]
    fn listeners_that_want_another_protocol_say_which_setting() {
        for (what, part) in [
            (
                "Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL listener?) or broker version is < 0.10 (see api.version.request)",
                "set \"security.protocol\" of [source.kafka] (KAFKA_SECURITY_PROTOCOL) to ssl",
            ),
            ("SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?", "to plaintext"),
            (
                "SASL authentication error: Authentication failed: Invalid username or password",
                "refuses the user or the password",
            ),
            (
                "SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN",
                "to one of these: PLAIN",
            ),
            (
                "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: broker's supported mechanisms: ",
                "without SASL",
            ),
            (
                "ApiVersionRequest failed: Local: Timed out: probably due to broker version < 0.10",
                "is it kafka's port?",
            ),
        ] {
            let text = told(&format!("a:1/bootstrap: {what} (after 5ms in state APIVERSION_QUERY)"));
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_is_no_complaint_about_a_broker_stays_as_it_is() {
        for text in ["1/1 brokers are down", "GroupCoordinator: a:1: Disconnected", "", "a/b: c"] {
            assert_eq!(told(text), text);
        }
    }
}
