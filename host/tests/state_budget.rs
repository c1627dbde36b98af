//! State that outgrows its memory ends the run with a clear word, and nothing is lost by that.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/small_job.rs"]
mod job;

use job::{Job, click, write};
use wasmill::kafka::EmbeddedBroker;

/// Users, each a group of its own.
const USERS: usize = 40_000;

/// Less than these groups and two plugins take (some 100 bytes each, and 1 MiB each), more than a start does.
const TOO_SMALL: &str = "limits.state=4MiB";

/// A job whose windows stay open until all is read.
fn job(broker: &EmbeddedBroker) -> Job {
    for partition in 0..2 {
        let mine = (0..USERS).filter(|user| user % 2 == partition as usize);
        let events: Vec<_> = mine.map(|user| Some(click(user, "/a", 0))).collect();
        write(broker.bootstrap(), "events", partition, &events);
    }
    Job::of(broker.bootstrap(), "events", "clickstream_parser", "user_id")
}

#[test]
fn state_beyond_its_budget_ends_the_run_and_a_larger_budget_goes_on_exactly_once() {
    let broker = EmbeddedBroker::start("events", 2).unwrap();
    let job = job(&broker);
    let refused = job.run(&["--drain", "--set", TOO_SMALL]).expect(2);
    refused.says(&["the configuration does not fit", "raise limits.state", "aggregate=counts", "budget_bytes=4194304"]);
    assert_eq!(job.counted(), 0, "no window was closed");
    let again = job.run(&["--drain", "--set", TOO_SMALL]).expect(2);
    again.says(&["raise limits.state"]);
    job.run(&["--drain", "--set", "limits.state=1GiB"]).expect(0);
    assert_eq!((job.count("counts"), job.counted()), (USERS, USERS as u64));
}

#[test]
fn what_is_held_is_shown_beside_the_budget() {
    let broker = EmbeddedBroker::start("events", 2).unwrap();
    let job = job(&broker);
    let running = job.start(&["--set", "limits.state=1GiB"]);
    let url = running.url();
    let held = || {
        let shown = job::run(&["status", "--json", "--url", &url]).expect(0);
        let status: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        (status["aggregates"][0]["state_bytes"].as_u64().unwrap(), status["state_budget_bytes"].clone())
    };
    job::until("the groups are accounted for", || held().0 > 64 * USERS as u64);
    assert_eq!(held().1, 1 << 30);
    running.stop();
}
