//! Facts about exact sums.
#![allow(clippy::float_cmp, reason = "exact is what these sums are")]

use super::*;
use proptest::prelude::*;

fn of(values: &[f64]) -> ExactSum {
    let mut sum = ExactSum::default();
    for value in values {
        sum.add(*value);
    }
    sum
}

fn bytes(sum: &ExactSum) -> Vec<u8> {
    let mut out = Vec::new();
    sum.encode(&mut out);
    out
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), -1e6..1e6, (-500..500i32).prop_map(|c| f64::from(c) / 100.0)]
}

proptest! {
    #[test]
    fn one_number_comes_back_as_it_is(bits: u64) {
        let value = f64::from_bits(bits);
        let sum = of(&[value]).value();
        prop_assert!(sum == value || (sum.is_nan() && value.is_nan()));
    }

    #[test]
    fn two_numbers_are_added_as_the_processor_adds_them(a in any_float(), b in any_float()) {
        let (sum, want) = (of(&[a, b]).value(), a + b);
        prop_assert!(sum == want || (sum.is_nan() && want.is_nan()), "{a:e} + {b:e}: {sum:e}, not {want:e}");
    }

    #[test]
    fn numbers_and_their_opposites_leave_nothing(values in prop::collection::vec(any_float(), 0..30)) {
        let finite = values.into_iter().filter(|v| v.is_finite());
        let both: Vec<f64> = finite.clone().chain(finite.map(|v| -v)).collect();
        prop_assert_eq!(bytes(&of(&both)), bytes(&ExactSum::default()));
    }

    #[test]
    fn integers_are_summed_exactly(values in prop::collection::vec(-(1i64 << 53)..1 << 53, 0..60)) {
        let total: i128 = values.iter().map(|v| i128::from(*v)).sum();
        let floats: Vec<f64> = values.iter().map(|v| *v as f64).collect();
        prop_assert_eq!(of(&floats).value(), total as f64);
    }

    #[test]
    fn any_order_and_any_cut_gives_the_same_bytes(
        values in prop::collection::vec(any_float(), 0..40), cut: prop::sample::Index, turn: prop::sample::Index,
    ) {
        let whole = bytes(&of(&values));
        let (a, b) = values.split_at(cut.index(values.len() + 1));
        let (mut ab, mut ba) = (of(a), of(b));
        ab.merge(&of(b));
        ba.merge(&of(a));
        let mut turned = values.clone();
        turned.rotate_left(turn.index(values.len() + 1));
        for other in [&ab, &ba, &of(&turned)] {
            prop_assert_eq!(&bytes(other), &whole);
        }
    }

    #[test]
    fn a_snapshot_is_the_sum(values in prop::collection::vec(any_float(), 0..10), more in any_float()) {
        let sum = of(&values);
        let mut again = ExactSum::decode(&mut Reader::new(&bytes(&sum))).unwrap();
        prop_assert_eq!(bytes(&again), bytes(&sum));
        again.add(more);
        let all: Vec<f64> = values.iter().copied().chain([more]).collect();
        prop_assert_eq!(bytes(&again), bytes(&of(&all)));
    }

    #[test]
    fn decoded_bytes_encode_to_themselves(raw in prop::collection::vec(0u8..12, 0..40)) {
        let mut reader = Reader::new(&raw);
        if let Ok(sum) = ExactSum::decode(&mut reader) {
            prop_assert_eq!(bytes(&sum), &raw[..raw.len() - reader.rest().len()]);
        }
    }
}

#[test]
fn small_parts_are_not_lost_beside_large_ones() {
    assert_eq!(of(&[1e300, 1.0, -1e300]).value(), 1.0);
    assert_eq!(of(&[0.1; 10]).value(), 1.0);
    assert_eq!(of(&[f64::MAX, f64::MAX, -f64::MAX]).value(), f64::MAX);
    assert_eq!(of(&[f64::MAX, f64::from_bits(1), -f64::MAX]).value(), f64::from_bits(1));
}

#[test]
fn ties_round_to_even_and_anything_below_breaks_them() {
    let two_to_53 = 9_007_199_254_740_992.0;
    assert_eq!(of(&[two_to_53, 1.0]).value(), two_to_53);
    assert_eq!(of(&[two_to_53, 1.0, f64::MIN_POSITIVE]).value(), two_to_53 + 2.0);
    assert_eq!(of(&[two_to_53 + 2.0, 1.0]).value(), two_to_53 + 4.0);
}

#[test]
fn infinities_and_nan_win_over_numbers_whatever_their_order() {
    assert_eq!(of(&[1.0, f64::INFINITY, 2.0]).value(), f64::INFINITY);
    assert!(of(&[f64::NEG_INFINITY, 1.0, f64::INFINITY]).value().is_nan());
    assert!(of(&[f64::NAN, f64::INFINITY]).value().is_nan());
    assert_eq!(of(&[f64::MAX, f64::MAX]).value(), f64::INFINITY);
    assert_eq!(of(&[-0.0]).value().to_bits(), 0.0f64.to_bits());
}

#[test]
fn digits_are_carried_before_they_overflow() {
    let mut sum = of(&[-1.5, 2.5, 1e-3]);
    let before = bytes(&sum);
    sum.pending = MAX_PENDING - 1;
    sum.count(1);
    assert_eq!((bytes(&sum), sum.pending), (before, 1));
    let mut doubled = of(&[1.0]);
    for _ in 0..200 {
        doubled.merge(&doubled.clone());
    }
    assert_eq!(doubled.value(), 2f64.powi(200));
}
