//! What people write for a broker's address and a topic's name, what may listen there, and what each of them is told.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;
#[path = "support/kafka.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod kafka;

use job::{Finished, Job};
use kafka::RealKafka;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use wasmill::kafka::{Admin, EmbeddedBroker, Settings};

/// What `check` says of an address and a topic.
fn checked(bootstrap: &str, topic: &str) -> Finished {
    let job = Job::clicks(bootstrap, topic);
    let mut command = job::wasmill(&["check"]);
    command.arg(job.file()).env("KAFKA_BOOTSTRAP_SERVERS", bootstrap);
    job::Running::start(command).finish()
}

/// Waits until a run with this address has said this.
fn run_says(bootstrap: &str, text: &str) {
    let job = Job::clicks(bootstrap, "events");
    job.start(&["--until-caught-up"]).wait_for(text);
}

/// An address of this machine where each connection is served so, until the process ends.
fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    address
}

/// Reads something, answers this, and closes.
fn answering(bytes: &'static [u8]) -> String {
    serve(move |mut stream| {
        let _ = stream.read(&mut [0; 99]);
        let _ = stream.write_all(bytes);
    })
}

#[test]
fn check_refuses_what_can_never_be_an_address_and_says_where_it_comes_from() {
    for (written, right) in [
        ("kafka://h:9092", "write h:9092"),
        ("PLAINTEXT://h:9092", "write h:9092, and \"security.protocol\" = \"plaintext\""),
        ("http://h:8082", "is a web address"),
        ("127.0.0.1", "has no port; write 127.0.0.1:9092"),
        ("h:99999", "write a number from 1 to 65535"),
    ] {
        let end = checked(written, "events").expect(2);
        end.says(&["job.toml:5: source.bootstrap_servers: ", right, "(it comes from KAFKA_BOOTSTRAP_SERVERS)"]);
    }
}

#[test]
fn check_refuses_topics_and_patterns_in_place_of_a_topic() {
    checked("h:9092", "a,b").expect(2).says(&["\"a,b\" is not one topic"]);
    checked("h:9092", "events.*").expect(2).says(&["\"events.*\" is not a topic's name but a pattern"]);
}

#[test]
fn spaces_commas_too_many_and_an_address_without_a_broker_beside_one_with_it_do_not_matter() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let bootstrap = format!(" {} , 127.0.0.1:1, ", broker.bootstrap());
    Job::clicks(&bootstrap, "events").run(&["--until-caught-up"]).expect(0);
}

#[test]
fn an_address_where_nothing_listens_is_told() {
    run_says(
        "127.0.0.1:1",
        "WARN waiting for kafka: 127.0.0.1:1 refuses connections: nothing listens there; source.bootstrap",
    );
}

#[test]
fn a_host_that_nobody_knows_is_told() {
    run_says("no-such-host.invalid:9092", "no-such-host.invalid:9092 is a name that this machine cannot resolve");
}

#[test]
fn a_web_server_is_told() {
    let address = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    run_says(&address, &format!("{address} is a web server (it answers in HTTP), not a kafka broker"));
}

#[test]
fn a_listener_with_tls_is_told() {
    // The alert of a server that got something else than a handshake.
    let address = answering(&[0x15, 3, 3, 0, 2, 2, 70]);
    run_says(&address, "or one that wants TLS; where the listener wants TLS, set \"security.protocol\"");
}

#[test]
fn a_listener_that_hangs_up_is_told() {
    let address = answering(b"");
    run_says(&address, &format!("{address} closes the connection at the first request"));
}

#[test]
fn a_port_that_never_answers_is_told_within_seconds() {
    let address = serve(std::mem::forget);
    run_says(&address, &format!("nothing at {address} has answered yet as a broker does"));
}

#[test]
fn a_topic_that_is_not_there_is_waited_for_and_told() {
    let broker = EmbeddedBroker::start("others", 1).unwrap();
    run_says(
        broker.bootstrap(),
        "WARN waiting for kafka: there is no such topic: topic=events; it is taken as soon as",
    );
}

#[cfg(not(feature = "tls"))]
#[test]
fn sasl_in_a_build_without_it_is_refused_with_the_feature_to_build() {
    let broker = EmbeddedBroker::start("events", 1).unwrap();
    let job = Job::clicks(broker.bootstrap(), "events");
    let args = ["--set", "source.kafka.security.protocol=sasl_ssl"];
    job.run(&args).expect(2).says(&["security.protocol", "--features tls"]);
}

/// A broker with two listeners: what it tells clients of the one is a name that nobody knows.
fn advertising(name: &'static str) -> Option<(RealKafka, String)> {
    let good = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listeners = move |port: u16, _: &std::path::Path| {
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{port},GOOD://{good},CONTROLLER://127.0.0.1:{}\n\
             advertised.listeners=PLAINTEXT://{name},GOOD://{good}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,GOOD:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=GOOD\n",
            port + 1
        )
    };
    Some((RealKafka::start_with(listeners)?, good.to_string()))
}

#[test]
fn a_name_that_the_broker_advertises_and_nobody_knows_is_told_with_where_it_comes_from() {
    let Some((broker, good)) = advertising("kafka.invalid:9092") else { return };
    let settings =
        Settings { bootstrap: good, topic: "events".into(), passthrough: BTreeMap::new(), ..Settings::default() };
    Admin::new(&settings).unwrap().create_topic(2, 1).unwrap();
    let bootstrap = broker.bootstrap();
    run_says(
        &bootstrap,
        &format!(
            "the broker at {bootstrap} answers, but tells clients to go on at kafka.invalid:9092, and that is a name that \
             this machine cannot resolve; it comes from advertised.listeners of the broker"
        ),
    );
}
