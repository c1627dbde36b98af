//! Merging: many segments read as one state, and when to write fewer of them.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use arrow_array::builder::BinaryBuilder;

use super::manifest::SegmentRef;
use super::segment::{Block, Put};
use wasmill_pipeline::state::delta::{GroupEntry, GroupId, StateDelta};

/// Up to this many segments are left alone: recovery reads them all in one go, and opening a file costs little.
const FEW_SEGMENTS: usize = 16;

/// Below this size garbage is not worth a merge: reading 1 MiB takes about a millisecond.
const SMALL_BYTES: u128 = 1 << 20;

/// State bytes in one delta, well below the 2 GiB that an Arrow binary column can hold. A single larger state
/// (at most 4 GiB by the encoding, in truth by the guest's memory limit) is a delta of its own.
const DELTA_STATE_BYTES: usize = 256 << 20;

/// Which neighbouring segments (oldest first) to write anew as one, if any; `live_entries` is how many groups are open.
///
/// * More entries than twice the open groups: everything, which drops what was overwritten and deleted. As many
///   entries as such a merge writes, at least, have become garbage since the last.
/// * More than sixteen segments: the longest suffix whose first segment is no larger than the rest of it. A segment
///   that was merged before then at least doubles, so each byte is written O(log n) times; and the sizes that
///   stay halve from one to the next, so there are O(log n) segments.
///
/// # Source
/// O'Neil et al., "The Log-Structured Merge-Tree", 1996, and the logarithmic method of Bentley and Saxe, 1980.
pub fn plan_merge(segments: &[SegmentRef], live_entries: u64) -> Option<Range<usize>> {
    // As u128, so that no manifest can make the sums overflow.
    let entries: u128 = segments.iter().map(|segment| u128::from(segment.entries)).sum();
    let bytes: u128 = segments.iter().map(|segment| u128::from(segment.bytes)).sum();
    if segments.len() > 1 && bytes > SMALL_BYTES && entries > 2 * u128::from(live_entries) {
        return Some(0..segments.len());
    }
    if segments.len() <= FEW_SEGMENTS {
        return None;
    }
    let mut rest = bytes;
    let start = segments.iter().position(|segment| {
        rest -= u128::from(segment.bytes);
        u128::from(segment.bytes) <= rest
    })?;
    Some(start..segments.len())
}

/// Whether deletes still say something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deletes {
    /// Older segments may have the deleted groups.
    Keep,
    /// The oldest segment is among the blocks.
    Drop,
}

/// The groups of one aggregate by window start and key; `None` is a deleted one.
type Groups<'a> = HashMap<(i64, &'a [u8]), Option<(u32, Put<'a>)>>;

/// Reads blocks, oldest first, as if they were one: the newest entry of each group wins.
///
/// The result is sorted by aggregate, state version, window start and key; a group is in it once.
pub(super) fn fold(blocks: &[Block<'_>], deletes: Deletes) -> Vec<StateDelta> {
    let mut aggregates: BTreeMap<&str, Groups<'_>> = BTreeMap::new();
    for block in blocks {
        let groups = aggregates.entry(block.aggregate).or_default();
        for id in &block.deletes {
            match deletes {
                Deletes::Keep => groups.insert(*id, None),
                Deletes::Drop => groups.remove(id),
            };
        }
        for put in &block.puts {
            groups.insert((put.start_us, put.key), Some((block.state_version, *put)));
        }
    }
    aggregates.into_iter().flat_map(|(aggregate, groups)| deltas(aggregate, groups)).collect()
}

/// One aggregate's groups as deltas, one per state version and few more where states are huge.
fn deltas(aggregate: &str, groups: Groups<'_>) -> Vec<StateDelta> {
    let mut deleted = Vec::new();
    let mut puts = Vec::with_capacity(groups.len());
    for ((start_us, key), value) in groups {
        match value {
            Some(put) => puts.push(put),
            None => deleted.push(GroupId { start_us, key: key.to_vec() }),
        }
    }
    deleted.sort_unstable();
    puts.sort_unstable_by_key(|(version, put)| (*version, put.start_us, put.key));

    let mut deltas = Vec::new();
    if !deleted.is_empty() {
        deltas.push(StateDelta { deletes: deleted, ..StateDelta::new(aggregate, 0) });
    }
    let mut left = &puts[..];
    while let Some((version, _)) = left.first() {
        let mut state_bytes = 0;
        let fits = left.iter().take_while(|(other, put)| {
            let first = state_bytes == 0;
            state_bytes += put.state.len();
            other == version && (first || state_bytes <= DELTA_STATE_BYTES)
        });
        let (these, others) = left.split_at(fits.count());
        deltas.push(put_delta(aggregate, *version, these));
        left = others;
    }
    deltas
}

fn put_delta(aggregate: &str, state_version: u32, puts: &[(u32, Put<'_>)]) -> StateDelta {
    let mut states = BinaryBuilder::with_capacity(puts.len(), puts.iter().map(|(_, put)| put.state.len()).sum());
    let mut ids = Vec::with_capacity(puts.len());
    for (_, put) in puts {
        states.append_value(put.state);
        let id = GroupId { start_us: put.start_us, key: put.key.to_vec() };
        ids.push(GroupEntry { id, last_us: put.last_us });
    }
    StateDelta { puts: ids, states: states.finish(), ..StateDelta::new(aggregate, state_version) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::segment::{decode, encode};
    use super::*;
    use arrow_array::BinaryArray;
    use proptest::prelude::*;
    use std::path::Path;

    /// A delta over few groups, so that histories overwrite and delete.
    fn arbitrary_delta() -> impl Strategy<Value = StateDelta> {
        let id = (-2i64..3, prop::collection::vec(0u8..2, 0..3)).prop_map(|(start_us, key)| GroupId { start_us, key });
        let puts = prop::collection::btree_map(id.clone(), (any::<i64>(), any::<Vec<u8>>()), 0..6);
        ("[ab]", 1u32..3, prop::collection::vec(id, 0..4), puts).prop_map(
            |(aggregate, state_version, deletes, puts)| StateDelta {
                aggregate,
                state_version,
                deletes,
                states: BinaryArray::from_iter_values(puts.values().map(|(_, state)| state)),
                puts: puts.into_iter().map(|(id, (last_us, _))| GroupEntry { id, last_us }).collect(),
            },
        )
    }

    pub(in crate::store) fn arbitrary_deltas() -> impl Strategy<Value = Vec<StateDelta>> {
        prop::collection::vec(arbitrary_delta(), 0..8)
    }

    /// The state that a history of deltas leaves, the plain way.
    pub(in crate::store) fn replay(history: &[StateDelta]) -> BTreeMap<(String, GroupId), (u32, i64, Vec<u8>)> {
        let mut state = BTreeMap::new();
        for delta in history {
            for id in &delta.deletes {
                state.remove(&(delta.aggregate.clone(), id.clone()));
            }
            for (index, put) in delta.puts.iter().enumerate() {
                let value = (delta.state_version, put.last_us, delta.states.value(index).to_vec());
                state.insert((delta.aggregate.clone(), put.id.clone()), value);
            }
        }
        state
    }

    fn fold_deltas(deltas: &[StateDelta], deletes: Deletes) -> Vec<StateDelta> {
        let mut bytes = Vec::new();
        let written = encode(deltas, &mut bytes).unwrap();
        fold(&decode(Path::new("test"), &bytes, &written.checksum).unwrap(), deletes)
    }

    proptest! {
        #[test]
        fn the_newest_entry_wins_and_deletes_apply(history in arbitrary_deltas()) {
            let state = fold_deltas(&history, Deletes::Drop);
            prop_assert!(state.iter().all(|delta| delta.deletes.is_empty()));
            prop_assert_eq!(replay(&state), replay(&history));
        }

        #[test]
        fn merging_any_neighbours_preserves_the_state(history in arbitrary_deltas(), a in 0usize..8, b in 0usize..8) {
            let (from, to) = (a.min(b).min(history.len()), a.max(b).min(history.len()));
            let mut merged = history[..from].to_vec();
            merged.extend(fold_deltas(&history[from..to], if from == 0 { Deletes::Drop } else { Deletes::Keep }));
            merged.extend_from_slice(&history[to..]);
            prop_assert_eq!(replay(&merged), replay(&history));
        }

        #[test]
        fn merges_write_each_byte_few_times(sizes in prop::collection::vec(40u64..100_000, 1..400)) {
            let (segments, merged) = run(&sizes, |bytes| bytes);
            let fresh: u64 = sizes.iter().sum();
            // At least doubling, from the smallest segment to all of them, and once more for the first merge.
            let doublings = u64::from((fresh / 40).ilog2()) + 2;
            prop_assert!(merged <= fresh * doublings, "{merged} bytes merged for {fresh}");
            prop_assert!(segments.len() <= FEW_SEGMENTS + 13, "{} segments", segments.len());
        }

        #[test]
        fn merges_that_shrink_stay_cheap(sizes in prop::collection::vec(40u64..100_000, 1..400)) {
            let (_, merged) = run(&sizes, |bytes| bytes.min(100_000));
            let fresh: u64 = sizes.iter().sum();
            prop_assert!(merged <= fresh * 4, "{merged} bytes merged for {fresh}");
        }

        #[test]
        fn dropping_garbage_costs_no_more_than_writing_it(steps in prop::collection::vec((0u64..3000, 0u64..3000), 1..200)) {
            let (mut segments, mut live, mut fresh, mut merged) = (Vec::new(), 0, 0, 0);
            for (puts, deletes) in steps {
                let deletes = deletes.min(live);
                live = live + puts - deletes;
                fresh += puts + deletes;
                segments.push(segment(40 + 1000 * (puts + deletes), puts + deletes));
                if let Some(range) = plan_merge(&segments, live) {
                    let all: u64 = segments[range.clone()].iter().map(|segment| segment.entries).sum();
                    let written = if range.start == 0 { live } else { all };
                    merged += written;
                    segments.splice(range, [segment(40 + 1000 * written, written)]);
                }
                let entries: u64 = segments.iter().map(|segment| segment.entries).sum();
                prop_assert!(entries <= 2 * live + 1100, "{entries} entries for {live} groups");
            }
            prop_assert!(merged <= fresh * 4, "{merged} entries merged for {fresh}");
        }
    }

    fn segment(bytes: u64, entries: u64) -> SegmentRef {
        SegmentRef { file: String::new(), bytes, checksum: String::new(), entries }
    }

    /// Appends segments and merges as planned; the result's size is `size` of the sum. Says what was left and written.
    fn run(sizes: &[u64], size: impl Fn(u64) -> u64) -> (Vec<SegmentRef>, u64) {
        let (mut segments, mut merged) = (Vec::new(), 0);
        for bytes in sizes {
            segments.push(segment(*bytes, 1));
            if let Some(range) = plan_merge(&segments, u64::MAX) {
                let bytes = size(segments[range.clone()].iter().map(|segment| segment.bytes).sum());
                merged += bytes;
                segments.splice(range, [segment(bytes, 1)]);
            }
        }
        (segments, merged)
    }

    #[test]
    fn equal_checkpoints_merge_once_in_sixteen() {
        let (segments, merged) = run(&[1000; 17], |bytes| bytes);
        assert_eq!((segments.len(), merged), (1, 17_000));
    }

    #[test]
    fn a_large_old_segment_is_left_alone() {
        let mut segments = vec![segment(1 << 30, 1_000_000)];
        segments.extend(vec![segment(1000, 10); 16]);
        assert_eq!(plan_merge(&segments, 1_000_000), Some(1..17));
    }

    #[test]
    fn closed_windows_are_dropped_when_they_are_most_of_it() {
        let segments = [segment(50 << 20, 100_000), segment(4 << 20, 100_000)];
        assert_eq!(plan_merge(&segments, 100), Some(0..2));
        assert_eq!(plan_merge(&segments, 100_000), None);
    }

    #[test]
    fn little_garbage_is_left_alone() {
        assert_eq!(plan_merge(&[segment(500, 10), segment(500, 10)], 0), None);
    }

    #[test]
    fn nothing_is_planned_for_nothing() {
        assert_eq!(plan_merge(&[], 0), None);
    }
}
