//! What `wasmill swap` and its like ask of a running wasmill, and what they show of its answer.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use crossbeam_channel::bounded;
use job::{Finished, Running, wasmill};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use wasmill::admin::control::{
    Answer, Ask, Boundary, Candidate, Outcome, Policy, Refusal, RefusalKind, Reply, Request, ShadowOptions,
    ShadowReport,
};
use wasmill::admin::{Plugin, Site, Status, serve};

const TOKEN: &str = "0123456789abcdef";

/// A component of 1 MiB, as far as doors look at it.
fn component() -> Vec<u8> {
    vec![b'w'; 1 << 20]
}

fn answer(outcome: Outcome) -> Answer {
    Answer {
        outcome,
        plugin: "pages".into(),
        from: "aaaa".into(),
        to: "bbbb".into(),
        policy: Some(Policy::Migrate),
        message: "it is taken back at the first fault".into(),
        difference: vec!["writes one column more: avg_revenue".into()],
        boundary: Some(Boundary { checkpoint: 42, offsets: BTreeMap::from([(0, 5)]), watermark_us: None }),
    }
}

fn status() -> Status {
    let shadow =
        ShadowReport { plugin: "pages".into(), compared: 1000, equal: 999, different: 1, ..ShadowReport::default() };
    let plugin = Plugin { name: "pages".into(), shadow: Some(shadow), ..Plugin::default() };
    Status { version: "0.1.0".into(), plugins: vec![plugin], ..Status::default() }
}

/// Types a command against a wasmill that answers `reply`: what it says, and what was asked by whom.
fn type_in(args: &[&str], reply: &Reply) -> (Finished, Option<(String, Ask)>) {
    let (requests, asked) = bounded::<Request>(1);
    let reply = reply.clone();
    let answering = std::thread::spawn(move || {
        let request = asked.recv().ok()?;
        request.reply.send(reply).unwrap();
        Some((request.who, request.ask))
    });
    let site = Site {
        hosts: Vec::new(),
        status: Arc::new(status),
        requests,
        tokens: BTreeMap::from([("ci".to_owned(), TOKEN.to_owned())]),
        token_folders: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = runtime.block_on(serve(listen, site, async { drop(stopped.await) })).unwrap();
    let mut command = wasmill(args);
    command.args(["--url", &format!("http://{}", server.address)]).env("WASMILL_TOKEN", TOKEN);
    let finished = Running::start(command).finish();
    stop.send(()).unwrap();
    runtime.block_on(server.task).unwrap().unwrap();
    (finished, answering.join().unwrap())
}

/// What is asked, and what is shown, by a command that ends well.
fn done(args: &[&str], outcome: Outcome) -> (String, Ask) {
    let (finished, asked) = type_in(args, &Ok(answer(outcome)));
    let (who, ask) = asked.unwrap();
    assert_eq!(who, "token:ci");
    (finished.expect(0).stdout, ask)
}

fn file() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("next.wasm");
    std::fs::write(&path, component()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn a_swap_sends_the_component_and_shows_what_came_of_it() {
    let (_dir, file) = file();
    let (shown, ask) = done(&["swap", "pages", &file, "--policy", "pin"], Outcome::OnProbation);
    let Ask::Swap { plugin, component: Candidate::Bytes(bytes), policy: Some(Policy::Pin), dry_run: false } = ask
    else {
        panic!("another ask")
    };
    assert!(plugin == "pages" && bytes == component());
    for part in ["pages: on probation: it is taken back", "avg_revenue", "checkpoint #42, watermark none, offsets 0:5"]
    {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
}

#[test]
fn a_dry_run_and_a_digest_are_said() {
    let (_, ask) = done(&["swap", "pages", "--digest", "0123ABCD", "--dry-run"], Outcome::WouldBeAccepted);
    let Ask::Swap { component: Candidate::Digest(digest), policy: None, dry_run: true, .. } = ask else {
        panic!("another ask")
    };
    assert_eq!(digest, "0123abcd");
}

#[test]
fn rollback_promote_and_discard_name_the_plugin() {
    let ask = |command, outcome| done(&[command, "pages"], outcome).1;
    assert!(matches!(ask("rollback", Outcome::RolledBack), Ask::Rollback { plugin } if plugin == "pages"));
    assert!(matches!(ask("promote", Outcome::OnProbation), Ask::Promote { plugin } if plugin == "pages"));
    assert!(matches!(ask("discard", Outcome::Discarded), Ask::Discard { plugin } if plugin == "pages"));
}

#[test]
fn a_shadow_begins_with_a_file_and_is_shown_without_one() {
    let (_dir, file) = file();
    let args = ["shadow", "pages", &file, "--key-sample", "0.1", "--next-windows", "--tolerance", "revenue=1e-9"];
    let Ask::Shadow { component: Candidate::Bytes(bytes), options, .. } = done(&args, Outcome::Shadowing).1 else {
        panic!("another ask")
    };
    let tolerance = BTreeMap::from([("revenue".to_owned(), 1e-9)]);
    assert_eq!(options, ShadowOptions { key_sample: Some(0.1), next_windows: true, tolerance });
    assert_eq!(bytes, component());
    let (shown, asked) = type_in(&["shadow", "pages"], &Ok(answer(Outcome::Shadowing)));
    assert!(shown.expect(0).stdout.contains("1,000 windows compared: 999 equal, 1 different") && asked.is_none());
}

#[test]
fn json_is_what_the_api_answers() {
    let (shown, _) = done(&["rollback", "pages", "--json"], Outcome::RolledBack);
    assert_eq!(serde_json::from_str::<Answer>(&shown).unwrap(), answer(Outcome::RolledBack));
    let refusal = Refusal { kind: RefusalKind::Conflict, message: "nothing is on probation".into() };
    let (shown, _) = type_in(&["rollback", "pages", "--json"], &Err(refusal.clone()));
    assert_eq!(serde_json::from_str::<Refusal>(&shown.expect(1).stdout).unwrap(), refusal);
}

#[test]
fn a_refusal_is_shown_with_its_reason_and_exits_with_1() {
    let (_dir, file) = file();
    let message = "merge is not commutative\nsmallest input: [1, 2]\x1b[31m".to_owned();
    let refusal = Refusal { kind: RefusalKind::Unacceptable, message };
    let (shown, asked) = type_in(&["swap", "pages", &file], &Err(refusal));
    let shown = shown.expect(1);
    shown.says(&["refused, and nothing has changed: merge is not commutative\nsmallest input: [1, 2]\\u{1b}[31m"]);
    assert!(asked.is_some() && shown.stdout.is_empty());
}

#[test]
fn a_shadow_that_does_not_run_is_told() {
    let (shown, _) = type_in(&["shadow", "geo"], &Ok(answer(Outcome::Shadowing)));
    shown.expect(1).says(&["there is no plugin \"geo\"; there are pages"]);
}
