//! page-metrics, the next version: also the average revenue of a purchase, and the share of events from mobile devices.
//!
//! It is swapped in while a pipeline runs, and goes on from version 1's states. Compare it with
//! `plugins/page-metrics/src/lib.rs`: what is marked as new is all there is to it. In a window that was open at the
//! swap
//! * `avg_revenue` is that of the whole window, since version 1 has counted purchases and revenue, too;
//! * `mobile_share` is the share among the events that version 2 has seen, since version 1 has not looked at devices.
#![cfg_attr(target_arch = "wasm32", no_std)]

use wasmill_sdk::prelude::*;

row_in! {
    /// What is asked of each row. New: the device.
    pub struct Event<'a> {
        user_id: Hash64,
        session_id: Option<Hash64>,
        event_type: Option<Symbol<&'a str>>,
        device: Option<Symbol<&'a str>>,
        revenue: Option<f64>,
    }
}
state! {
    /// What is kept per page and window. New: of how many events the device is known, and how many of those are mobile.
    pub struct Page { events: u64, users: Distinct, sessions: Distinct, purchases: u64, revenue: ExactSum }
    since 2 { devices: u64, mobile: u64 }
}
row_out! {
    /// What comes of it. New: the last two.
    #[derive(Debug, PartialEq)]
    pub struct Metrics {
        events: u64,
        users: u64,
        sessions: u64,
        purchases: u64,
        revenue: f64,
        /// All revenue by the number of purchases; null when there is none.
        avg_revenue: Option<f64>,
        /// From 0 to 1, of the events whose device is known; null when there is none.
        mobile_share: Option<f64>,
    }
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
        // New.
        if let Some(Symbol(device)) = event.device {
            page.devices += 1;
            page.mobile += u64::from(device == "mobile");
        }
    }

    fn merge(&self, page: &mut Page, other: Page) {
        page.events += other.events;
        page.users.merge(&other.users);
        page.sessions.merge(&other.sessions);
        page.purchases += other.purchases;
        page.revenue.merge(&other.revenue);
        // New.
        page.devices += other.devices;
        page.mobile += other.mobile;
    }

    fn finish(&self, page: &Page) -> Metrics {
        let Page { events, users, sessions, purchases, revenue, devices, mobile } = page;
        let revenue = revenue.value();
        Metrics {
            events: *events,
            users: users.estimate(),
            sessions: sessions.estimate(),
            purchases: *purchases,
            revenue,
            // New.
            avg_revenue: (*purchases > 0).then(|| revenue / *purchases as f64),
            mobile_share: (*devices > 0).then(|| *mobile as f64 / *devices as f64),
        }
    }
}
export_aggregate!(PageMetrics);

#[cfg(test)]
mod tests;
