//! What is new is right, what is not is as before, and version 1's states are read.

use super::*;
use page_metrics::PageMetrics as Version1;
use wasmill_sdk::testing::{aggregate_laws, migrated, migration_laws, result_of, state_of};

/// The state of version 1 after `events(4)`, as it was saved before there was a version 2.
const VERSION_1_STATE: &[u8] = &[
    4, 4, 66, 52, 130, 127, 200, 157, 193, 254, 3, 225, 148, 35, 154, 66, 199, 2, 0, 3, 31, 0, 0, 0, 184, 30, 133, 235,
    81, 184, 30, 0, 0,
];

fn events(n: usize) -> Vec<Event<'static>> {
    (0..n)
        .map(|i| Event {
            user_id: Hash64::of(&format!("u{}", i % 300)),
            session_id: (i % 5 > 0).then(|| Hash64::of(&format!("s{i}"))),
            event_type: [Some(Symbol("purchase")), Some(Symbol("click")), None][i % 3],
            device: [Some(Symbol("mobile")), Some(Symbol("desktop")), Some(Symbol("tablet")), None][i % 4],
            revenue: (i % 3 == 0).then_some(i as f64 / 100.0),
        })
        .collect()
}

/// What version 1 asks of the same events.
fn asked_by_version_1<'a>(events: &[Event<'a>]) -> Vec<page_metrics::Event<'a>> {
    let asked = |event: &Event<'a>| {
        let Event { user_id, session_id, event_type, revenue, .. } = *event;
        page_metrics::Event { user_id, session_id, event_type, revenue }
    };
    events.iter().map(asked).collect()
}

#[test]
fn the_laws_hold_through_sparse_and_dense_sketches() {
    aggregate_laws::<PageMetrics>("{}", &events(1200));
    aggregate_laws::<PageMetrics>("{}", &events(40));
}

#[test]
fn the_states_of_version_1_are_gone_on_from() {
    for (before, after) in [(1200, 30), (40, 40), (30, 1200)] {
        migration_laws::<Version1, PageMetrics>("{}", &asked_by_version_1(&events(before)), &events(after));
    }
}

#[test]
fn the_columns_of_version_1_are_as_version_1_has_them() {
    for n in [0, 1, 40, 1200] {
        let old = result_of::<Version1>("{}", &asked_by_version_1(&events(n)));
        let Metrics { events, users, sessions, purchases, revenue, .. } = result_of::<PageMetrics>("{}", &events(n));
        assert_eq!(page_metrics::Metrics { events, users, sessions, purchases, revenue }, old);
    }
}

#[test]
fn a_purchase_has_an_average_revenue_and_a_known_device_a_share() {
    let metrics = result_of::<PageMetrics>("{}", &events(8));
    assert_eq!((metrics.purchases, metrics.avg_revenue), (3, Some(0.09 / 3.0)));
    assert_eq!(metrics.mobile_share, Some(2.0 / 6.0), "two of the six whose device is known");
}

#[test]
fn without_purchases_and_devices_there_is_no_average_and_no_share() {
    let nobody = Event { event_type: None, device: None, ..events(1)[0] };
    for rows in [&[][..], &[nobody]] {
        let metrics = result_of::<PageMetrics>("{}", rows);
        assert_eq!((metrics.avg_revenue, metrics.mobile_share), (None, None));
    }
}

#[test]
fn the_saved_bytes_of_version_1_are_read_and_their_events_have_no_device() {
    assert_eq!(state_of::<Version1>("{}", &asked_by_version_1(&events(4))), VERSION_1_STATE, "they are version 1's");
    let unseen: Vec<Event<'_>> = events(4).into_iter().map(|event| Event { device: None, ..event }).collect();
    assert_eq!(migrated::<PageMetrics>("{}", 1, VERSION_1_STATE), Ok(state_of::<PageMetrics>("{}", &unseen)));
}

#[test]
fn the_states_of_other_versions_are_refused() {
    let error = migrated::<PageMetrics>("{}", 3, VERSION_1_STATE).unwrap_err();
    assert_eq!(error, "states of version 3 are not read, only those of version 2 and of [1]");
    let error = migrated::<PageMetrics>("{}", 2, VERSION_1_STATE).unwrap_err();
    assert_eq!(error, "state 0 of 1: ends early");
    let error = migrated::<Version1>("{}", 2, VERSION_1_STATE).unwrap_err();
    assert_eq!(error, "states of version 2 are not read, only those of version 1");
}
