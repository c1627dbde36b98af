use super::*;
use crate::testing::{Told, watermarks};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;
/// 2026-03-10T12:00:00Z.
const NOON: i64 = 1_773_144_000 * SECOND;

/// Without delay, so that the watermark is the greatest time believed.
fn rules() -> TimeSpec {
    TimeSpec { watermark_delay_us: 0, ..TimeSpec::default() }
}

/// A row with its own time, which the producer wrote at the broker, too.
fn row(time: i64) -> RowTime {
    RowTime { own_us: Some(time), broker_us: Some(time), appended: false }
}

fn seen(own: i64, broker: i64) -> RowTime {
    RowTime { own_us: Some(own), broker_us: Some(broker), appended: false }
}

fn timeless(broker: i64) -> RowTime {
    RowTime { own_us: None, broker_us: Some(broker), appended: false }
}

fn appended(row: RowTime) -> RowTime {
    RowTime { appended: true, ..row }
}

fn take_all(trusted: &mut Trusted, rows: impl IntoIterator<Item = RowTime>, rules: &TimeSpec) {
    for row in rows {
        trusted.take(row, rules);
    }
}

/// Where these rows bring a partition that stands at noon.
fn from_noon(rows: impl IntoIterator<Item = RowTime>) -> i64 {
    let mut trusted = Trusted::at(NOON);
    take_all(&mut trusted, rows, &rules());
    trusted.watermark_us
}

/// Where these rows bring a partition of which nothing is known, before and after it falls silent.
fn from_nothing(rows: impl IntoIterator<Item = RowTime>) -> (i64, i64) {
    let mut trusted = Trusted::default();
    take_all(&mut trusted, rows, &rules());
    let before = trusted.watermark_us;
    trusted.settle(&rules());
    (before, trusted.watermark_us)
}

#[test]
fn a_clock_ahead_moves_nothing_beyond_what_the_broker_saw() {
    assert_eq!(from_noon([seen(NOON + HOUR, NOON + SECOND)]), NOON + 2 * SECOND, "clock_skew is a second");
}

#[test]
fn a_clock_ahead_that_is_wrong_at_the_broker_too_moves_nothing() {
    for ahead in [HOUR, YEAR] {
        assert_eq!(from_noon([row(NOON + ahead), row(NOON + SECOND)]), NOON + SECOND);
    }
}

#[test]
fn two_wrong_clocks_that_take_turns_with_right_ones_move_nothing() {
    let rows = (1..100).flat_map(|i| [row(NOON + HOUR + i), row(NOON + YEAR), row(NOON + i)]);
    assert_eq!(from_noon(rows), NOON + 99);
}

#[test]
fn seven_suspects_in_a_row_are_not_believed_and_eight_are() {
    let suspects = |count| (0..count).map(|i| row(NOON + HOUR + (7 - i) * SECOND));
    assert_eq!(from_noon(suspects(7)), NOON);
    assert_eq!(from_noon(suspects(7).chain([row(NOON - HOUR)]).chain(suspects(7))), NOON, "any other clears them");
    assert_eq!(from_noon(suspects(8)), NOON + HOUR, "the smallest of them");
}

#[test]
fn after_a_quiet_night_eight_rows_are_followed_and_the_next_by_themselves() {
    let morning = NOON + 20 * HOUR;
    assert_eq!(from_noon((0..10).map(|i| row(morning + i * SECOND))), morning + 9 * SECOND);
}

#[test]
fn a_clock_behind_moves_nothing() {
    assert_eq!(from_noon([row(NOON - YEAR), row(NOON + SECOND), row(0)]), NOON + SECOND);
}

#[test]
fn a_jump_counts_from_the_floor_that_idleness_raised_it_to() {
    let mut trusted = Trusted::at(NOON);
    trusted.raise(NOON + HOUR);
    trusted.take(row(NOON + HOUR + SECOND), &rules());
    assert_eq!(trusted.watermark_us, NOON + HOUR + SECOND);
}

#[test]
fn a_partition_starts_at_the_smallest_of_its_first_eight_rows() {
    let wrong_first = [row(NOON + YEAR)].into_iter().chain((0..7).map(|i| row(NOON + i)));
    assert_eq!(from_nothing(wrong_first), (NOON, NOON));
    let seven = (0..7).map(|i| row(NOON + 6 - i));
    assert_eq!(from_nothing(seven), (NOTHING_SEEN, NOON), "or of all there are, when it falls silent");
    assert_eq!(from_nothing([]), (NOTHING_SEEN, NOTHING_SEEN));
}

#[test]
fn suspects_are_refuted_by_a_row_that_is_believed_and_confirmed_by_others() {
    let refuted = |trusted: &mut Trusted, time| trusted.take(row(time), &rules());
    let mut trusted = Trusted::default();
    assert!((0..8).all(|i| refuted(&mut trusted, NOON + i) == 0), "the rows of the start are no suspects");
    assert!((0..3).all(|i| refuted(&mut trusted, NOON + HOUR + i) == 0));
    assert_eq!(refuted(&mut trusted, NOON + SECOND), 3);
    assert!((0..8).all(|i| refuted(&mut trusted, NOON + HOUR + i) == 0), "a quiet hour is over");
    assert_eq!(refuted(&mut trusted, NOON + HOUR + SECOND), 0);
}

#[test]
fn rows_without_a_time_of_their_own_have_no_say_unless_all_are_so() {
    let untimed = |count| (0..count).map(|i| timeless(NOON + 100 * SECOND + i));
    assert_eq!(from_noon(untimed(7).chain([row(NOON)]).chain(untimed(7))), NOON);
    assert_eq!(from_noon(untimed(8)), NOON + 100 * SECOND + 7);
}

#[test]
fn few_rows_without_a_time_of_their_own_are_all_there_is_when_a_partition_falls_silent() {
    assert_eq!(from_nothing([timeless(NOON + 5), timeless(NOON)]), (NOTHING_SEEN, NOON));
    assert_eq!(from_nothing([timeless(NOON - HOUR), row(NOON)]).1, NOON, "a row's own time goes first");
}

#[test]
fn rows_without_a_time_of_their_own_do_not_clear_suspects() {
    let morning = NOON + 20 * HOUR;
    let rows = (0..8).flat_map(|i| [timeless(NOON + YEAR), row(morning + i)]);
    assert_eq!(from_noon(rows), morning, "a quiet night is followed though every other row has no time");
}

#[test]
fn a_brokers_own_clock_is_beyond_doubt() {
    assert_eq!(from_noon([appended(seen(NOON + 20 * HOUR, NOON + 20 * HOUR))]), NOON + 20 * HOUR);
    assert_eq!(from_noon([appended(seen(NOON + YEAR, NOON + SECOND))]), NOON + 2 * SECOND);
}

#[test]
fn a_brokers_own_clock_knows_nothing_of_a_backlog_that_is_written_today() {
    let today = NOON + YEAR;
    let wrong = appended(seen(NOON + HOUR, today));
    assert_eq!(from_noon([wrong, appended(seen(NOON + SECOND, today))]), NOON + SECOND);
}

#[test]
fn trusting_any_time_every_row_moves_the_watermark() {
    let rules = TimeSpec { trust: TrustRule::Any, ..rules() };
    let mut trusted = Trusted::default();
    for (row, wanted) in [(row(NOON), NOON), (timeless(NOON + 5), NOON + 5), (row(NOON + YEAR), NOON + YEAR)] {
        assert_eq!(trusted.take(row, &rules), 0);
        assert_eq!(trusted.watermark_us, wanted);
    }
}

#[test]
fn the_latest_time_is_noted_whether_it_is_believed_or_not() {
    let mut trusted = Trusted::at(NOON);
    trusted.take(row(NOON + YEAR), &rules());
    trusted.take(timeless(NOON + 2 * YEAR), &rules());
    assert_eq!((trusted.watermark_us, trusted.latest_us), (NOON, NOON + 2 * YEAR));
}

/// Partitions whose time moves on by small steps, with clocks ahead and behind, quiet nights and rows without time.
fn partition() -> impl Strategy<Value = Vec<RowTime>> {
    let step = (0i64..30, 0u8..20, 1i64..400, any::<bool>());
    prop::collection::vec(step, 0..120).prop_map(|steps| {
        let mut now = 1_000;
        let row = |(step, kind, by, appended)| {
            now += step;
            let (own_us, broker_us) = match kind {
                0 => (Some(now + by), Some(now)),
                1 => (Some(now + by), Some(now + by)),
                2 => (Some(now - by), Some(now)),
                3..6 => (None, Some(now + by % 7)),
                6 => {
                    now += by;
                    (Some(now), None)
                }
                7 => (Some(now + by), None),
                _ => (Some(now), Some(now + by % 9)),
            };
            RowTime { own_us, broker_us, appended: appended && kind % 4 == 0 }
        };
        steps.into_iter().map(row).collect()
    })
}

fn small_rules() -> impl Strategy<Value = TimeSpec> {
    (0i64..20, 0i64..5, 1i64..60, 1u32..5, prop::bool::weighted(0.9)).prop_map(
        |(delay, skew, jump, confirm, claims)| TimeSpec {
            watermark_delay_us: delay,
            clock_skew_us: skew,
            max_jump_us: jump,
            confirm,
            trust: if claims { TrustRule::Claims } else { TrustRule::Any },
            ..TimeSpec::default()
        },
    )
}

proptest! {
    #[test]
    fn row_by_row_it_is_what_is_said_plainly_of_all_rows(rows in partition(), rules in small_rules()) {
        let told: Vec<Told> =
            rows.iter().map(|row| Told { own: row.own_us, broker: row.broker_us, appended: row.appended }).collect();
        let mut trusted = Trusted::default();
        let before: Vec<i64> = rows
            .iter()
            .map(|&row| {
                let before = trusted.watermark_us;
                trusted.take(row, &rules);
                before
            })
            .collect();
        prop_assert_eq!(before, watermarks(&told, &rules));
    }

    #[test]
    fn the_watermark_never_decreases_and_no_claim_is_made_up(rows in partition(), rules in small_rules()) {
        let mut trusted = Trusted::default();
        for &row in &rows {
            let before = trusted;
            trusted.take(row, &rules);
            prop_assert!(trusted.watermark_us >= before.watermark_us);
            prop_assert!(trusted.watermark_us == NOTHING_SEEN || trusted.watermark_us + rules.watermark_delay_us <= trusted.latest_us);
        }
    }

    #[test]
    fn rows_without_a_time_of_their_own_change_nothing_between_others(rows in partition(), rules in small_rules()) {
        // Fewer in a row than ask to be believed.
        prop_assume!(rules.trust == TrustRule::Claims && rules.confirm > 1);
        let mut with: Trusted = Trusted::default();
        let mut without: Trusted = Trusted::default();
        for &row in rows.iter().filter(|row| row.own_us.is_some()) {
            with.take(RowTime { own_us: None, broker_us: Some(1_000_000), appended: false }, &rules);
            with.take(row, &rules);
            without.take(row, &rules);
            prop_assert_eq!((with.watermark_us, with.doubt), (without.watermark_us, without.doubt));
        }
    }

    #[test]
    fn what_a_checkpoint_holds_is_all_there_is_to_know(rows in partition(), rules in small_rules(), cut in 0usize..120) {
        let mut straight = Trusted::default();
        take_all(&mut straight, rows.iter().copied(), &rules);
        let mut cut_off = Trusted::default();
        for (index, &row) in rows.iter().enumerate() {
            if index == cut {
                let doubt = serde_json::to_string(&cut_off.doubt).expect("numbers have a text");
                let doubt = serde_json::from_str(&doubt).expect("what was written is read");
                cut_off = Trusted { doubt, ..cut_off };
            }
            cut_off.take(row, &rules);
        }
        prop_assert_eq!(straight, cut_off);
    }
}
