//! The states of the reference aggregates, as the SDK reads them back from a checkpoint.

use std::hint::black_box;
use wasmill_sdk::aggregate::{Aggregate, Groups};
use wasmill_sdk::bindings::types::{Column, Values, Varlen};
use wasmill_sdk::prelude::{Codec, Distinct, ExactSum, Hashes, Reader};

/// The first byte says what the rest is: a state of one of the reference aggregates, or one of the SDK's parts. What
/// is read is saved as the bytes that were read, and can be used.
pub fn state(bytes: &[u8]) {
    let Some((of, state)) = bytes.split_first() else { return };
    match of % 6 {
        0 => aggregate::<page_metrics::PageMetrics>(state),
        1 => aggregate::<geo_metrics::GeoMetrics>(state),
        2 => aggregate::<sessions::Sessions>(state),
        3 => part(state, |a: &mut Distinct, b| a.merge(b), |sketch| _ = black_box(sketch.estimate())),
        4 => part(state, |a: &mut Hashes, b| a.merge(b), |set| assert_eq!(set.len(), set.as_slice().len())),
        _ => part(state, |a: &mut ExactSum, b| a.merge(b), |sum| _ = black_box(sum.value())),
    }
}

/// A state that is restored, merged with an empty one and finished.
fn aggregate<A: Aggregate>(bytes: &[u8]) {
    let states = Varlen { offsets: vec![0, bytes.len() as u32], bytes: bytes.to_vec() };
    let mut groups = Groups::<A>::init("{}").expect("the settings are accepted").0;
    if groups.restore(&[0], A::State::VERSION, &states).is_err() {
        return;
    }
    assert_eq!(groups.snapshot(&[0]), states, "restore gives back what snapshot took");
    groups.merge(&[0], &[1]);
    assert_eq!(groups.snapshot(&[0]), states, "an empty state adds nothing");
    let windows = Column { values: Values::Timestamp(vec![0]), validity: None };
    let context = if A::WANTS_WINDOW { vec![windows.clone(), windows] } else { Vec::new() };
    assert_eq!(groups.finish(&[0], &context).count, 1);
}

fn part<T: Codec + Clone>(bytes: &[u8], merge: fn(&mut T, &T), look: fn(&T)) {
    let mut reader = Reader::new(bytes);
    let Ok(mut value) = T::decode(&mut reader) else { return };
    let mut encoded = Vec::new();
    value.encode(&mut encoded);
    assert_eq!(encoded, &bytes[..bytes.len() - reader.rest().len()], "a value has one form only");
    look(&value);
    let other = value.clone();
    merge(&mut value, &other);
    look(&value);
    encoded.clear();
    value.encode(&mut encoded);
    assert!(T::decode(&mut Reader::new(&encoded)).is_ok(), "a merged value is a value");
}
