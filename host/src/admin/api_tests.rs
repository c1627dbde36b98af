//! Facts about changes that are asked for over HTTP: who may, what arrives, and what comes back.

use super::super::client::{Client, Error};
use super::super::control::{Answer, Outcome};
use super::super::server::tests::{Fixture, exchange};
use super::super::status::tests::{running, shadow as shadow_report};
use super::*;
use std::net::SocketAddr;

const CI: &str = "0123456789abcdef";

/// What is asked of a pipeline that answers `reply` to everything, and what comes of it.
fn asking<T: Send + 'static>(
    reply: impl Fn(&Request) -> Reply + Send + 'static,
    ask: impl FnOnce(SocketAddr) -> T + Send + 'static,
) -> (T, Vec<(String, String)>) {
    let (requests, asked) = bounded::<Request>(16);
    let answering = std::thread::spawn(move || {
        let answer = |request: Request| {
            request.reply.send(reply(&request)).unwrap();
            (request.who, format!("{:?}", request.ask))
        };
        asked.into_iter().map(answer).collect()
    });
    let got = Fixture { requests, ..Fixture::new(running()) }.token("ci", CI).serve(ask);
    (got, answering.join().unwrap())
}

fn done(request: &Request) -> Answer {
    Answer {
        outcome: Outcome::OnProbation,
        plugin: request.ask.plugin().to_owned(),
        from: "a".into(),
        to: "b".into(),
        policy: Some(Policy::Migrate),
        message: "it is in force".into(),
        difference: vec!["a column more".into()],
        boundary: None,
    }
}

/// The same of a pipeline that does what is asked.
fn accepting<T: Send + 'static>(ask: impl FnOnce(SocketAddr) -> T + Send + 'static) -> (T, Vec<(String, String)>) {
    asking(|request| Ok(done(request)), ask)
}

fn client(address: SocketAddr, token: Option<&str>) -> Client {
    Client::new(&format!("http://{address}")).unwrap().with_token(token.map(str::to_owned))
}

fn swap_by(component: Candidate) -> Ask {
    Ask::Swap { plugin: "sessions".into(), component, policy: Some(Policy::Pin), dry_run: true }
}

/// One of each, with all that it can have.
fn all() -> Vec<Ask> {
    let plugin = || "sessions".to_owned();
    let options = ShadowOptions {
        key_sample: Some(0.125),
        next_windows: true,
        tolerance: [("revenue & tax".to_owned(), 1e-9)].into(),
    };
    vec![
        swap_by(Candidate::Bytes(b"\0asm\r\n\r\n\xff".to_vec())),
        swap_by(Candidate::Digest("0123abcd".into())),
        Ask::Rollback { plugin: plugin() },
        Ask::Shadow { plugin: plugin(), component: Candidate::Bytes(vec![7; 3 << 20]), options },
        Ask::Promote { plugin: plugin() },
        Ask::Discard { plugin: plugin() },
        Ask::Cancel { plugin: plugin() },
    ]
}

#[test]
fn what_is_asked_arrives_as_it_is_with_who_asked() {
    let ask = |address| {
        for ask in &all() {
            let answer = client(address, Some(CI)).ask(ask).unwrap().unwrap();
            assert_eq!((answer.outcome, answer.plugin.as_str()), (Outcome::OnProbation, "sessions"));
        }
    };
    let ((), asked) = accepting(ask);
    let wanted: Vec<_> = all().iter().map(|ask| ("token:ci".to_owned(), format!("{ask:?}"))).collect();
    assert_eq!(asked, wanted);
}

#[test]
fn nobody_changes_anything_without_a_token() {
    let ask = |address| {
        for ask in all() {
            for token in [None, Some("0123456789abcdeF")] {
                let refused = client(address, token).ask(&ask).unwrap_err();
                assert!(matches!(&refused, Error::Request { code: 401, .. }), "{refused:?}");
                assert!(refused.to_string().contains("WASMILL_TOKEN"), "{refused}");
            }
        }
    };
    assert_eq!(accepting(ask), ((), Vec::new()));
}

#[test]
fn a_token_does_not_help_a_foreign_web_page() {
    let ask = |address| {
        let request = format!(
            "POST /api/v1/plugins/sessions/rollback HTTP/1.0\r\nHost: localhost\r\nOrigin: http://evil.example.org\r\n\
             Authorization: Bearer {CI}\r\n\r\n"
        );
        assert!(exchange(address, &request).starts_with("HTTP/1.0 403"));
    };
    assert_eq!(accepting(ask), ((), Vec::new()));
}

#[test]
fn the_user_who_runs_the_process_has_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let folders = vec![dir.path().join("tokens")];
    let (requests, asked) = bounded::<Request>(1);
    let fixture = Fixture { requests, token_folders: folders.clone(), ..Fixture::new(running()) };
    let (who, left) = fixture.serve(move |address| {
        let answering = std::thread::spawn(move || {
            let request = asked.recv().unwrap();
            request.reply.send(Ok(done(&request))).unwrap();
            request.who
        });
        let token = super::super::local_token::find(&folders, &[address]);
        client(address, token.as_deref()).ask(&Ask::Promote { plugin: "sessions".into() }).unwrap().unwrap();
        (answering.join().unwrap(), folders)
    });
    assert!(who.starts_with("user:") && who.len() > 5, "{who}");
    assert_eq!(std::fs::read_dir(&left[0]).unwrap().count(), 0);
}

#[test]
fn each_kind_of_refusal_has_its_code_and_arrives_as_it_is() {
    let kinds = [
        (RefusalKind::NotFound, 404),
        (RefusalKind::Conflict, 409),
        (RefusalKind::Unacceptable, 422),
        (RefusalKind::Failed, 500),
    ];
    for (kind, code) in kinds {
        let refusal = Refusal { kind, message: "the law is broken".into() };
        let (reply, wanted) = (Err(refusal.clone()), Err(refusal));
        let ask = move |address| {
            let request = format!(
                "DELETE /api/v1/plugins/sessions/shadow HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {CI}\r\n\r\n"
            );
            assert!(exchange(address, &request).starts_with(&format!("HTTP/1.0 {code}")));
            client(address, Some(CI)).ask(&Ask::Rollback { plugin: "sessions".into() }).unwrap()
        };
        assert_eq!(asking(move |_| reply.clone(), ask).0, wanted);
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would_be_right_and_asks_nothing() {
    let cases = [
        ("PUT", "sessions", "", "no component"),
        ("PUT", "sessions?digest=0123abcd", "bytes", "two components"),
        ("PUT", "sessions?digest=0123abc", "", "at least the first 8"),
        ("PUT", "sessions?digest=../../x/y", "", "is not a digest"),
        ("PUT", "sessions?policy=keep", "bytes", "write migrate, pin or fresh"),
        ("PUT", "sessions?dry-run", "bytes", "there is policy, dry_run and digest"),
        ("PUT", "sessions/shadow?key_sample=0", "bytes", "not a share of keys"),
        ("PUT", "sessions/shadow?key_sample=NaN", "bytes", "not a share of keys"),
        ("PUT", "sessions/shadow?tolerance.revenue=-1", "bytes", "not a tolerance for \"revenue\""),
        ("PUT", "sessions/shadow?tolerance.revenue=x", "bytes", "is not a number"),
    ];
    let ask = move |address| {
        for (method, target, body, says) in cases {
            let request = format!(
                "{method} /api/v1/plugins/{target} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {CI}\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = exchange(address, &request);
            assert!(answer.starts_with("HTTP/1.0 400") && answer.contains(says), "{target}: {answer}");
        }
    };
    assert_eq!(accepting(ask), ((), Vec::new()));
}

#[test]
fn a_component_that_is_too_large_is_refused_before_it_is_sent() {
    let ask = |address| {
        let request = format!(
            "PUT /api/v1/plugins/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {CI}\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            MAX_COMPONENT_BYTES + 1
        );
        let answer = exchange(address, &request);
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("128 MiB"), "{answer}");
    };
    assert_eq!(accepting(ask), ((), Vec::new()));
}

#[test]
fn a_pipeline_that_does_not_run_or_ends_meanwhile_is_told() {
    let rollback = || Ask::Rollback { plugin: "sessions".into() };
    let (requests, nobody) = bounded(1);
    drop(nobody);
    let fixture = Fixture { requests, ..Fixture::new(running()) }.token("ci", CI);
    let refusal = fixture.serve(move |address| client(address, Some(CI)).ask(&rollback())).unwrap().unwrap_err();
    assert_eq!((refusal.kind, refusal.message.as_str()), (RefusalKind::Conflict, "the pipeline is not running"));

    let (requests, asked) = bounded::<Request>(1);
    let ending = std::thread::spawn(move || drop(asked.recv().unwrap()));
    let fixture = Fixture { requests, ..Fixture::new(running()) }.token("ci", CI);
    let ended = fixture.serve(move |address| client(address, Some(CI)).ask(&rollback())).unwrap_err();
    assert!(matches!(&ended, Error::Request { code: 503, said, .. } if said.contains("ended before it answered")));
    ending.join().unwrap();
}

#[test]
fn too_many_requests_at_once_are_told_to_come_again() {
    let (requests, asked) = bounded::<Request>(1);
    let (reply, _replies) = bounded(1);
    let waiting = Request { ask: Ask::Rollback { plugin: "x".into() }, who: "file".into(), reply };
    requests.send(waiting).unwrap();
    let fixture = Fixture { requests, ..Fixture::new(running()) }.token("ci", CI);
    let refusal = fixture.serve(|address| client(address, Some(CI)).ask(&Ask::Discard { plugin: "x".into() }));
    assert!(refusal.unwrap().unwrap_err().message.contains("try again"));
    assert_eq!(asked.len(), 1);
}

#[test]
fn anybody_who_may_see_the_status_may_see_how_a_shadow_compares() {
    let get = |plugin: &'static str| {
        Fixture::new(running()).serve(move |address| client(address, None).shadow(plugin).unwrap())
    };
    assert_eq!(get("sessions"), Ok(shadow_report()));
    let unknown = get("pages").unwrap_err();
    assert_eq!(unknown.message, "there is no plugin \"pages\"; there are sessions");
    let mut status = running();
    status.plugins[0].shadow = None;
    let none = Fixture::new(status).serve(|address| client(address, None).shadow("sessions").unwrap()).unwrap_err();
    assert_eq!((none.kind, none.message.as_str()), (RefusalKind::NotFound, "no shadow runs beside sessions"));
}
