//! Per page: events, distinct users and sessions (approximate), purchases, revenue.
#![cfg_attr(target_arch = "wasm32", no_std)]

use wasmill_sdk::prelude::*;

row_in! {
    /// What is asked of each row.
    pub struct Event<'a> { user_id: Hash64, session_id: Option<Hash64>, event_type: Option<Symbol<&'a str>>, revenue: Option<f64> }
}
state! {
    /// What is kept per page and window.
    pub struct Page { events: u64, users: Distinct, sessions: Distinct, purchases: u64, revenue: ExactSum }
}
row_out! {
    /// What comes of it.
    #[derive(Debug, PartialEq)]
    pub struct Metrics { events: u64, users: u64, sessions: u64, purchases: u64, revenue: f64 }
}

/// The aggregate.
pub struct PageMetrics;

impl Aggregate for PageMetrics {
    type Row<'a> = Event<'a>;
    type State = Page;
    type Output = Metrics;
    const COMMUTATIVE: bool = true;
    // Two dense sketches of 2 KB.
    const TYPICAL_STATE_BYTES: u32 = 4200;

    fn new(_: &mut Config<'_>) -> Result<Self, String> {
        Ok(Self)
    }

    fn add(&self, page: &mut Page, event: Event<'_>) {
        page.events += 1;
        page.users.add(event.user_id);
        if let Some(session) = event.session_id {
            page.sessions.add(session);
        }
        page.purchases += u64::from(event.event_type == Some(Symbol("purchase")));
        if let Some(revenue) = event.revenue {
            page.revenue.add(revenue);
        }
    }

    fn merge(&self, page: &mut Page, other: Page) {
        page.events += other.events;
        page.users.merge(&other.users);
        page.sessions.merge(&other.sessions);
        page.purchases += other.purchases;
        page.revenue.merge(&other.revenue);
    }

    fn finish(&self, page: &Page) -> Metrics {
        let Page { events, users, sessions, purchases, revenue } = page;
        Metrics {
            events: *events,
            users: users.estimate(),
            sessions: sessions.estimate(),
            purchases: *purchases,
            revenue: revenue.value(),
        }
    }
}
export_aggregate!(PageMetrics);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::testing::{aggregate_laws, result_of};

    fn events(n: usize) -> Vec<Event<'static>> {
        (0..n)
            .map(|i| Event {
                user_id: Hash64::of(&format!("u{}", i % 300)),
                session_id: (i % 5 > 0).then(|| Hash64::of(&format!("s{i}"))),
                event_type: [Some(Symbol("purchase")), Some(Symbol("click")), None][i % 3],
                revenue: (i % 3 == 0).then_some(i as f64 / 100.0),
            })
            .collect()
    }

    #[test]
    fn the_laws_hold_through_sparse_and_dense_sketches() {
        aggregate_laws::<PageMetrics>("{}", &events(1200));
        aggregate_laws::<PageMetrics>("{}", &events(40));
    }

    #[test]
    fn purchases_and_all_revenue_are_counted() {
        let other = Event { event_type: Some(Symbol("refund")), revenue: Some(-0.5), ..events(1)[0] };
        let rows = [events(4), [other].into()].concat();
        let metrics = result_of::<PageMetrics>("{}", &rows);
        assert_eq!(metrics, Metrics { events: 5, users: 4, sessions: 3, purchases: 2, revenue: -0.47 });
    }

    #[test]
    fn no_event_is_no_number() {
        let nothing = Metrics { events: 0, users: 0, sessions: 0, purchases: 0, revenue: 0.0 };
        assert_eq!(result_of::<PageMetrics>("{}", &[]), nothing);
    }
}
