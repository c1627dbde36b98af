//! Clickstream events for demonstrations, tests and benches: skewed, in sessions, and as broken as asked for.
#![cfg_attr(target_arch = "wasm32", no_std)]

use core::fmt::{self, Write};
use wasmill_sdk::prelude::*;

const PAGES: [&str; 20] = [
    "/",
    "/home",
    "/search",
    "/product/1",
    "/product/2",
    "/product/3",
    "/product/4",
    "/product/5",
    "/product/6",
    "/product/7",
    "/cart",
    "/checkout",
    "/account",
    "/orders",
    "/help",
    "/about",
    "/blog",
    "/blog/launch",
    "/deals",
    "/wishlist",
];
const REFERRERS: [&str; 7] = ["direct", "google", "bing", "facebook", "twitter", "newsletter", "affiliate"];
const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];
const BROWSERS: [&str; 5] = ["Chrome", "Safari", "Firefox", "Edge", "Opera"];
const COUNTRIES: [&str; 10] = ["US", "DE", "FR", "GB", "IN", "BR", "JP", "CA", "AU", "NL"];
const CAMPAIGNS: [&str; 6] = ["none", "spring_sale", "black_friday", "retarget_a", "retarget_b", "brand"];
/// Sessions that are under way at any time: at 50 events a second each lasts about ten seconds.
const SESSIONS_AT_ONCE: u64 = 64;
/// Payloads that are to be smaller than this lack what may be absent.
const LEAN_BYTES: usize = 200;
/// A day, the longest that anything may lie behind.
const DAY_S: i64 = 86_400;

/// The generator. Its settings, all optional: `users` (size of the visitor pool), `jitter_ms` (events lie up to that far
/// behind their record), `late_share` of events that lie `late_by_s` seconds further behind, `malformed_share` of
/// records that no parser takes, `no_time_share` of events without a usable time, `session_events` (how many a session
/// has on average), `payload_bytes` (events are padded to that size with a field `padding`; below 200, of the fields that
/// may be absent they have the time only).
pub struct ClickstreamGenerator {
    seed: u64,
    users: u64,
    session_events: u64,
    payload_bytes: Option<usize>,
    jitter_us: u64,
    late_share: f64,
    late_by_us: i64,
    malformed_share: f64,
    no_time_share: f64,
}

impl Generator for ClickstreamGenerator {
    const KEYED: bool = true;

    fn new(config: &mut Config<'_>, seed: u64) -> Result<Self, String> {
        Ok(Self {
            seed,
            users: config.integer("users", 1..=i64::from(u32::MAX))?.unwrap_or(15_000) as u64,
            session_events: config.integer("session_events", 1..=1_000_000)?.unwrap_or(8) as u64,
            payload_bytes: config.integer("payload_bytes", 1..=1_000_000)?.map(|bytes| bytes as usize),
            jitter_us: config.integer("jitter_ms", 0..=3_600_000)?.unwrap_or(5000) as u64 * 1000,
            late_share: config.number("late_share", 0.0..=1.0)?.unwrap_or(0.0),
            late_by_us: config.integer("late_by_s", 0..=DAY_S)?.unwrap_or(60) * 1_000_000,
            malformed_share: config.number("malformed_share", 0.0..=1.0)?.unwrap_or(0.0),
            no_time_share: config.number("no_time_share", 0.0..=1.0)?.unwrap_or(0.0),
        })
    }

    fn record(&self, n: u64, time: Timestamp, value: &mut Vec<u8>, key: &mut Vec<u8>) {
        let mut rng = Rng::new(self.seed, n);
        // Sessions begin one after the other and overlap; each belongs to a visitor who then stays away for a while.
        let session = (n / self.session_events).saturating_sub(rng.below(SESSIONS_AT_ONCE));
        let visitor = Rng::new(!self.seed, session).below(self.users);
        write!(Out(key), "u{visitor:06}").expect("writing to memory");
        if rng.chance(self.malformed_share) {
            return malformed(&mut rng, value);
        }
        let late = if rng.chance(self.late_share) { self.late_by_us } else { 0 };
        let time = Timestamp(time.0.saturating_sub(rng.below(self.jitter_us) as i64).saturating_sub(late));
        let event = Event { id: [rng.next(), rng.next()], time, visitor, session };
        let absent = rng.chance(self.no_time_share).then(|| n.is_multiple_of(2));
        let start = value.len();
        let is_lean = self.payload_bytes.is_some_and(|bytes| bytes < LEAN_BYTES);
        event.write(&mut rng, absent, is_lean, value).expect("writing to memory");
        let missing = self.payload_bytes.unwrap_or(0).saturating_sub(value.len() - start);
        end(missing, value);
    }
}
export_generator!(ClickstreamGenerator);

/// What an event is made of besides random choices.
struct Event {
    id: [u64; 2],
    time: Timestamp,
    visitor: u64,
    session: u64,
}

impl Event {
    /// All but the end of the object. `no_time`: whether there is no event time, and if so whether the field is absent or
    /// unreadable. `is_lean`: without what else may be absent.
    fn write(&self, rng: &mut Rng, no_time: Option<bool>, is_lean: bool, out: &mut Vec<u8>) -> fmt::Result {
        let Self { id: [high, low], time, visitor, session } = self;
        out.push(b'{');
        if !is_lean {
            // A UUID: version 4 in the third group, variant 10 in the fourth.
            write!(Out(out), "\"event_id\":\"{:08x}-{:04x}-4{:03x}-", high >> 32, high >> 16 & 0xFFFF, high & 0xFFF)?;
            write!(Out(out), "{:04x}-{:012x}\",", 0x8000 | low >> 50, low & 0xFFFF_FFFF_FFFF)?;
        }
        match no_time {
            None => {
                out.extend_from_slice(b"\"event_time\":\"");
                time.write(out);
                out.extend_from_slice(b"\",");
            }
            Some(true) => {}
            Some(false) => out.extend_from_slice(b"\"event_time\":\"not a time\","),
        }
        let event_type = match rng.below(1000) {
            0..800 => "page_view",
            800..920 => "click",
            920..980 => "add_to_cart",
            _ => "purchase",
        };
        // The smaller of two numbers: the first items are the most frequent.
        let page = PAGES[rng.below(20).min(rng.below(20)) as usize];
        let country = COUNTRIES[rng.below(10).min(rng.below(10)) as usize];
        let (referrer, device) = (rng.pick(&REFERRERS), rng.pick(&DEVICES));
        let (browser, campaign) = (rng.pick(&BROWSERS), rng.pick(&CAMPAIGNS));
        let mut out = Out(out);
        write!(out, "\"user_id\":\"u{visitor:06}\",")?;
        if is_lean {
            return write!(out, "\"event_type\":\"{event_type}\",\"page\":\"{page}\"");
        }
        write!(out, "\"session_id\":\"s{session:010}\",\"event_type\":\"{event_type}\",\"page\":\"{page}\",")?;
        write!(out, "\"referrer\":\"{referrer}\",\"device\":\"{device}\",\"browser\":\"{browser}\",")?;
        write!(out, "\"country\":\"{country}\",\"campaign\":\"{campaign}\",\"revenue\":")?;
        if event_type == "purchase" {
            let cents = 500 + rng.below(30_000);
            return write!(out, "{}.{:02}", cents / 100, cents % 100);
        }
        out.write_str("null")
    }
}

/// Ends an event's object that is to be so many bytes longer.
fn end(missing: usize, out: &mut Vec<u8>) {
    const PADDING: [&[u8]; 2] = [b",\"padding\":\"", b"\"}"];
    if missing > 1 {
        out.extend_from_slice(PADDING[0]);
        out.resize(out.len() + missing.saturating_sub(PADDING[0].len() + PADDING[1].len()), b'.');
        out.extend_from_slice(PADDING[1]);
    } else {
        out.push(b'}');
    }
}

/// A record that no parser takes, in one of several ways.
fn malformed(rng: &mut Rng, out: &mut Vec<u8>) {
    let ways: [&[u8]; 8] = [
        br#"{"event_id":"truncated","user_id":"u0000"#,
        b"GET /index.html HTTP/1.1",
        b"",
        br#"{"user_id":7,"event_type":"click","page":"/"}"#,
        b"{\"user_id\":\"u\xFF\xFE\",\"event_type\":\"click\",\"page\":\"/\"}",
        br#"{"user_id":"u1","user_id":"u2","event_type":"click","page":"/"}"#,
        br#"{"event_type":"click","page":"/"}"#,
        br#"{"user_id":"u1","event_type":"click","page":"/cut \ud83d"}"#,
    ];
    out.extend_from_slice(rng.pick(&ways));
}

/// Formatting into bytes: `core` has it for `String` only.
struct Out<'a>(&'a mut Vec<u8>);

impl fmt::Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmill_sdk::generator::{Generated, generate};
    use wasmill_sdk::testing::generator_laws;

    /// Records happen one second apart from here on.
    const START_US: i64 = 1_767_225_600_000_000;

    fn records(config: &str, count: i64) -> Vec<Vec<u8>> {
        let generator = Config::make(config, |config| ClickstreamGenerator::new(config, 7)).unwrap();
        let times: Vec<i64> = (0..count).map(|n| START_US + n * 1_000_000).collect();
        let Generated { values, .. } = generate(&generator, 0, &times);
        values.offsets.windows(2).map(|w| values.bytes[w[0] as usize..w[1] as usize].to_vec()).collect()
    }

    fn texts(config: &str, count: i64) -> Vec<String> {
        records(config, count).into_iter().map(|record| String::from_utf8(record).unwrap()).collect()
    }

    #[test]
    fn a_record_does_not_depend_on_its_batch() {
        generator_laws::<ClickstreamGenerator>("{}", 1, 500);
        let all =
            r#"{"malformed_share":0.2,"no_time_share":0.2,"late_share":0.5,"late_by_s":100,"users":9,"jitter_ms":0}"#;
        generator_laws::<ClickstreamGenerator>(all, 2, 500);
    }

    #[test]
    fn event_types_are_skewed_as_in_the_reference() {
        let texts = texts("{}", 10_000);
        for (event_type, share) in [("page_view", 80), ("click", 12), ("add_to_cart", 6), ("purchase", 2)] {
            let found = texts.iter().filter(|text| text.contains(event_type)).count();
            assert!(found.abs_diff(share * 100) < 120, "{event_type}: {found}");
        }
        let paid = texts.iter().filter(|text| !text.ends_with("\"revenue\":null}"));
        assert!(paid.clone().count() > 100 && paid.into_iter().all(|text| text.contains("purchase")));
    }

    #[test]
    fn times_lie_behind_by_jitter_and_lateness() {
        let behind: Vec<i64> = texts(r#"{"late_share":0.5,"late_by_s":100}"#, 1000)
            .iter()
            .enumerate()
            .map(|(n, text)| {
                let at = text.find("event_time\":\"").unwrap() + 13;
                let time = Timestamp::parse(text[at..].split('"').next().unwrap()).unwrap();
                START_US + n as i64 * 1_000_000 - time.0
            })
            .collect();
        assert!(behind.iter().all(|us| (0..=5_000_000).contains(us) || (100_000_000..=105_000_000).contains(us)));
        assert!(behind.iter().filter(|us| **us > 5_000_000).count().abs_diff(500) < 100);
    }

    #[test]
    fn events_without_time_lack_it_in_both_ways() {
        let texts = texts(r#"{"no_time_share":1}"#, 100);
        assert_eq!(texts.iter().filter(|text| text.contains("not a time")).count(), 50);
        assert_eq!(texts.iter().filter(|text| !text.contains("event_time")).count(), 50);
    }

    #[test]
    fn payloads_are_as_large_as_asked_for() {
        for (bytes, most) in [(100, 115), (300, 320), (3000, 3000)] {
            let texts = texts(&format!(r#"{{"payload_bytes":{bytes}}}"#), 200);
            let lengths = || texts.iter().map(String::len);
            assert!(lengths().min() >= Some(bytes - 10) && lengths().max() <= Some(most), "{bytes}: {:?}", texts[0]);
            assert!(texts.iter().all(|text| text.starts_with('{') && text.ends_with('}')));
            assert_eq!(texts.iter().any(|text| text.contains("revenue")), bytes > LEAN_BYTES);
        }
    }

    #[test]
    fn sessions_are_as_long_as_asked_for() {
        let sessions = |config: &str| -> usize {
            let texts = texts(config, 4000);
            let of = |text: &String| text.split("\"session_id\":\"").nth(1).map(|rest| rest[..11].to_owned());
            texts.iter().map(of).collect::<std::collections::HashSet<_>>().len()
        };
        assert!((450..=501).contains(&sessions("{}")));
        assert!((2300..=2700).contains(&sessions(r#"{"session_events":1}"#)));
    }

    #[test]
    fn malformed_records_come_in_all_ways() {
        let distinct: std::collections::HashSet<Vec<u8>> =
            records(r#"{"malformed_share":1}"#, 300).into_iter().collect();
        assert_eq!(distinct.len(), 8);
    }

    #[test]
    fn unknown_settings_are_refused() {
        let new = |config| Config::make(config, |config| ClickstreamGenerator::new(config, 7)).map(drop);
        assert!(new(r#"{"late":1}"#).unwrap_err().contains("unknown key late"));
        assert!(new(r#"{"users":0}"#).unwrap_err().starts_with("users: want"));
    }
}
