//! Per session: events, distinct pages, revenue.
#![cfg_attr(target_arch = "wasm32", no_std)]

use wasmill_sdk::prelude::*;

row_in! {
    /// What is asked of each row.
    pub struct Event { page: Option<Hash64>, revenue: Option<f64> }
}
state! {
    /// What is kept per session.
    pub struct Session { events: u64, pages: Hashes, revenue: ExactSum }
}
row_out! {
    /// What comes of it.
    #[derive(Debug, PartialEq)]
    pub struct Metrics { events: u64, pages: u64, revenue: f64 }
}

/// The aggregate.
pub struct Sessions;

impl Aggregate for Sessions {
    type Row<'a> = Event;
    type State = Session;
    type Output = Metrics;
    const COMMUTATIVE: bool = true;
    const TYPICAL_STATE_BYTES: u32 = 112;

    fn new(_: &mut Config<'_>) -> Result<Self, String> {
        Ok(Self)
    }

    fn add(&self, session: &mut Session, event: Event) {
        session.events += 1;
        if let Some(page) = event.page {
            session.pages.add(page);
        }
        if let Some(revenue) = event.revenue {
            session.revenue.add(revenue);
        }
    }

    fn merge(&self, session: &mut Session, other: Session) {
        session.events += other.events;
        session.pages.merge(&other.pages);
        session.revenue.merge(&other.revenue);
    }

    fn finish(&self, session: &Session) -> Metrics {
        Metrics { events: session.events, pages: session.pages.len() as u64, revenue: session.revenue.value() }
    }
}
export_aggregate!(Sessions);

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::testing::{aggregate_laws, result_of};

    fn event(page: u64) -> Event {
        let revenue = page.is_multiple_of(4).then_some(page as f64 / 10.0);
        Event { page: (page > 0).then_some(Hash64(page)), revenue }
    }

    #[test]
    fn the_laws_hold_for_short_and_long_sessions() {
        for pages in [3, 100] {
            let events: Vec<Event> = (0..300).map(|i| event(i * 7 % pages)).collect();
            aggregate_laws::<Sessions>("{}", &events);
        }
    }

    #[test]
    fn a_page_seen_twice_counts_once_and_no_page_not_at_all() {
        let metrics = result_of::<Sessions>("{}", &[event(8), event(1), event(8), event(0)]);
        assert_eq!(metrics, Metrics { events: 4, pages: 2, revenue: 1.6 });
    }
}
