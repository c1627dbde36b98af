//! What the patchable plugin does, behaviour by behaviour, so that the tests of swaps may rely on it.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "support/patch.rs"]
mod patch;
#[path = "support/small_job.rs"]
mod small_job;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{ArrayRef, BinaryArray, Float64Array, UInt64Array};
use patch::{is_chosen, patchable, patched, sum_of_ids, write_patched};
use small_job::click;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use wasmill::plugin::{Component, Limits, Runtime, World};
use wasmill_pipeline::plugin::{Aggregate, DataType, Fault, FaultKind, Parsed, Parser};
use wasmill_pipeline::record::RawBatch;

/// One for all tests; what loops and hoards is found out soon.
static RUNTIME: LazyLock<Arc<Runtime>> = LazyLock::new(|| {
    let limits = Limits { deadline: Duration::from_millis(500), memory_bytes: 32 << 20, ..Limits::default() };
    Runtime::new(Some(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins")), limits).unwrap()
});

fn load(behaviour: &str, world: World) -> Component {
    let dir = tempfile::tempdir().unwrap();
    RUNTIME.load("patched", &write_patched(dir.path(), "patched", behaviour), world).unwrap()
}

fn aggregate(behaviour: &str) -> Box<dyn Aggregate> {
    load(behaviour, World::Aggregate).aggregate("{}").unwrap()
}

fn parser(behaviour: &str) -> Box<dyn Parser> {
    load(behaviour, World::Parser).parser("{}", "clicks", None).unwrap()
}

/// Why `init` says no, if it does.
fn refusal(behaviour: &str, world: World) -> String {
    format!("{:#}", anyhow::Error::from(load(behaviour, world).describe("{}").unwrap_err()))
}

fn id(n: usize) -> String {
    format!("e{n}")
}

/// Events `from..to`, each with a revenue of 1.25.
fn events(from: usize, to: usize) -> Vec<ArrayRef> {
    let ids: UInt64Array = (from..to).map(|n| Some(xxhash_rust::xxh3::xxh3_64(id(n).as_bytes()))).collect();
    vec![Arc::new(ids), Arc::new(Float64Array::from(vec![1.25; to - from]))]
}

/// Adds events `from..to` to a slot.
fn add(aggregate: &mut dyn Aggregate, slot: u32, from: usize, to: usize) -> Result<(), Fault> {
    aggregate.update(&vec![slot; to - from], &events(from, to))
}

fn finish(aggregate: &mut dyn Aggregate, slot: u32) -> Result<Vec<i64>, Fault> {
    let columns = aggregate.finish(&[slot], &[])?.columns;
    Ok(columns.iter().map(|column| column.as_primitive::<Int64Type>().value(0)).collect())
}

/// `events`, `amount` and `ids` of events `from..to`.
fn counted(from: usize, to: usize) -> Vec<i64> {
    let ids: Vec<String> = (from..to).map(id).collect();
    let events = (to - from) as i64;
    vec![events, events * 125, sum_of_ids(ids.iter().map(String::as_str))]
}

/// Events `from..to` as the parser gets them.
fn records(from: usize, to: usize) -> RawBatch {
    let values: Vec<Vec<u8>> = (from..to).map(|n| click(n, "/a", 0)).collect();
    RawBatch {
        partition: 0,
        offsets: (from as i64..to as i64).collect(),
        broker_times_us: vec![0; to - from],
        appended: vec![false; to - from],
        values: BinaryArray::from_iter_values(&values),
        keys: BinaryArray::from(vec![None; to - from]),
    }
}

/// Which rows have a revenue, as clicks have not: those that the parser is wrong about.
fn wrong(parsed: &Parsed) -> Vec<usize> {
    let revenue = parsed.columns[11].as_primitive::<Float64Type>();
    (0..parsed.rows).filter(|row| revenue.iter().nth(*row).flatten().is_some()).collect()
}

/// The kind of fault that calls of `parse` or `update`, up to so many, end with; and which call it was.
fn fails(behaviour: &str, world: World, calls: usize) -> Option<(usize, FaultKind)> {
    let mut call: Box<dyn FnMut(usize) -> Result<(), Fault>> = if world == World::Parser {
        let mut parser = parser(behaviour);
        Box::new(move |n| parser.parse(&records(n, n + 1)).map(|_| ()))
    } else {
        let mut aggregate = aggregate(behaviour);
        Box::new(move |n| add(&mut *aggregate, 0, n, n + 1))
    };
    (1..=calls).find_map(|n| call(n).err().map(|fault| (n, fault.kind)))
}

#[test]
fn an_honest_aggregate_counts_and_sums_and_breaks_no_law() {
    let mut one = aggregate("none");
    add(&mut *one, 0, 0, 8).unwrap();
    assert_eq!(finish(&mut *one, 0).unwrap(), counted(0, 8));
    let states = one.snapshot(&[0]).unwrap();
    add(&mut *one, 1, 8, 20).unwrap();
    one.merge(&[0], &[1]).unwrap();
    assert_eq!(finish(&mut *one, 0).unwrap(), counted(0, 20));
    assert_eq!(finish(&mut *one, 1).unwrap(), [0, 0, 0]);

    let mut other = aggregate("tag:other");
    other.restore(&[5], 1, &states).unwrap();
    add(&mut *other, 5, 8, 20).unwrap();
    assert_eq!(finish(&mut *other, 5).unwrap(), counted(0, 20));
    other.release(&[5]).unwrap();
    assert_eq!(finish(&mut *other, 5).unwrap(), [0, 0, 0]);
}

#[test]
fn an_honest_parser_does_what_the_clickstream_parser_does() {
    let component = RUNTIME.load("clicks", &small_job::plugin("clickstream_parser"), World::Parser).unwrap();
    let mut clicks = component.parser("{}", "clicks", None).unwrap();
    let mut patched = parser("none");
    assert_eq!(patched.description(), clicks.description());
    let mut batch = records(0, 5);
    let values = [Some(&b"{}"[..]), None, Some(b"no"), Some(batch.values.value(3)), Some(batch.values.value(4))];
    batch.values = BinaryArray::from(values.to_vec());
    let (ours, theirs) = (patched.parse(&batch).unwrap(), clicks.parse(&batch).unwrap());
    assert_eq!((&ours.columns, &ours.origins), (&theirs.columns, &theirs.origins));
    assert_eq!(ours.origins.as_deref(), Some(&[3, 4][..]));
    let reasons = |parsed: &Parsed| -> Vec<_> { parsed.rejects.iter().map(|r| (r.record, r.reason)).collect() };
    assert_eq!(reasons(&ours), reasons(&theirs));
}

#[test]
fn every_behaviour_is_a_component_of_its_own() {
    let (honest, none) = (patchable(), patched(&patchable(), "none"));
    assert_eq!(none, honest);
    assert_ne!(patched(&none, "tag:a"), none);
    assert_eq!(patched(&patched(&none, "tag:a,version:2"), "none"), none, "a patch leaves nothing behind");
    assert_ne!(load("tag:a", World::Parser).digest(), load("tag:b", World::Parser).digest());
}

#[test]
fn what_is_no_behaviour_is_refused() {
    for world in [World::Parser, World::Aggregate] {
        assert!(refusal("refuse-init", world).contains("it was told to refuse"));
        assert!(refusal("none,trap-in-side", world).contains("no such behaviour: trap-in-side"));
        assert!(refusal("slow:much", world).contains("not an argument of slow: \"much\""));
    }
}

#[test]
fn version_2_reads_version_1_and_makes_one_column_more() {
    let (mut one, mut two) = (aggregate("none"), aggregate("version:2"));
    add(&mut *one, 0, 0, 8).unwrap();
    assert_eq!((two.description().state_version, &two.description().restores[..]), (2, &[1][..]));
    two.restore(&[0], 1, &one.snapshot(&[0]).unwrap()).unwrap();
    add(&mut *two, 0, 8, 10).unwrap();
    assert_eq!(finish(&mut *two, 0).unwrap(), [&counted(0, 10)[..], &[2]].concat());
    let mut again = aggregate("version:2");
    again.restore(&[0], 2, &two.snapshot(&[0]).unwrap()).unwrap();
    assert_eq!(finish(&mut *again, 0).unwrap(), finish(&mut *two, 0).unwrap());

    let mut parser = parser("version:2");
    let columns = parser.parse(&records(0, 3)).unwrap().columns;
    assert_eq!(parser.description().outputs[13].name, "parser_version");
    assert_eq!(columns[13].as_primitive::<Int64Type>().values(), &[2, 2, 2]);
    let component = load("version:2", World::Parser);
    let mut few = component.parser("{}", "clicks", Some(&["page", "parser_version"])).unwrap();
    assert_eq!(few.parse(&records(0, 3)).unwrap().columns, [1, 5, 12, 13].map(|index| columns[index].clone()));
}

#[test]
fn version_9_reads_nothing_older() {
    let (mut one, mut nine) = (aggregate("none"), aggregate("version:9"));
    assert_eq!((nine.description().state_version, nine.description().restores.len()), (9, 0));
    let fault = nine.restore(&[0], 1, &one.snapshot(&[0]).unwrap()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
}

#[test]
fn traps_loops_and_gluttony_come_when_they_were_asked_for() {
    for world in [World::Parser, World::Aggregate] {
        let call = if world == World::Parser { "trap-in-parse:4" } else { "trap-in-update:4" };
        for (behaviour, want) in [
            ("none", None),
            ("trap-at-once", Some((1, FaultKind::Trap))),
            ("trap-after:3", Some((3, FaultKind::Trap))),
            ("trap-on:e5", Some((5, FaultKind::Trap))),
            (call, Some((4, FaultKind::Trap))),
            ("loop", Some((1, FaultKind::Deadline))),
            ("tag:x,loop:2", Some((2, FaultKind::Deadline))),
            ("loop-on:e3", Some((3, FaultKind::Deadline))),
            ("slow:10000000", Some((1, FaultKind::Deadline))),
        ] {
            assert_eq!(fails(behaviour, world, 8), want, "{behaviour} of {world}");
        }
        let (at, kind) = fails("memory:4", world, 32).unwrap();
        assert!(kind == FaultKind::Memory && (4..=8).contains(&at), "32 MiB are full at call {at}: {kind}");
    }
}

#[test]
fn a_slow_row_takes_its_time() {
    let mut slow = aggregate("slow:1000");
    let began = Instant::now();
    add(&mut *slow, 0, 0, 50).unwrap();
    // 50 ms by its own account; a fast machine may need a part of it.
    assert!(began.elapsed() > Duration::from_millis(10), "{:?}", began.elapsed());
    assert_eq!(finish(&mut *slow, 0).unwrap(), counted(0, 50));
}

#[test]
fn calls_trap_one_by_one() {
    type Call = fn(&mut dyn Aggregate) -> Result<(), Fault>;
    let calls: [(&str, Call); 5] = [
        ("merge", |a| a.merge(&[0], &[1])),
        ("finish", |a| a.finish(&[0], &[]).map(|_| ())),
        ("snapshot", |a| a.snapshot(&[0]).map(|_| ())),
        ("restore", |a| a.restore(&[7], 1, &BinaryArray::from(vec![&[0_u8; 24][..]]))),
        ("release", |a| a.release(&[0])),
    ];
    for (name, _) in &calls {
        let mut guest = aggregate(&format!("trap-in-{name}"));
        add(&mut *guest, 0, 0, 8).unwrap();
        let failed = calls.iter().find_map(|(call, f)| f(&mut *guest).err().map(|fault| (*call, fault.kind)));
        assert_eq!(failed, Some((*name, FaultKind::Trap)));
    }
    let mut second = aggregate("trap-in-finish:2");
    assert!(finish(&mut *second, 0).is_ok());
    assert_eq!(finish(&mut *second, 0).unwrap_err().kind, FaultKind::Trap);
    assert!(refusal("trap-in-init", World::Parser).contains("trap"));
    let project = load("trap-in-project", World::Parser).parser("{}", "clicks", Some(&["page"]));
    assert!(format!("{:#}", anyhow::Error::from(project.err().unwrap())).contains("trap"));
}

#[test]
fn a_restore_is_refused() {
    let (mut one, mut other) = (aggregate("none"), aggregate("refuse-restore"));
    let fault = other.restore(&[0], 1, &one.snapshot(&[0]).unwrap()).unwrap_err();
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Refused, "it was told to refuse"));
}

#[test]
fn schemas_differ_from_what_was_or_from_what_was_said() {
    let mut other = aggregate("other-schema");
    add(&mut *other, 0, 0, 8).unwrap();
    assert_eq!(other.description().outputs[0].data_type, DataType::Float64);
    let events = other.finish(&[0], &[]).unwrap().columns[0].clone();
    assert!((events.as_primitive::<Float64Type>().value(0) - 8.0).abs() < f64::EPSILON);
    let mut other = parser("other-schema");
    assert_eq!(other.description().outputs[11].data_type, DataType::Int64);
    assert_eq!(other.parse(&records(0, 2)).unwrap().rows, 2);

    let mut without = parser("without:page");
    let names = |parser: &dyn Parser| -> BTreeSet<String> {
        parser.description().outputs.iter().map(|field| field.name.clone()).collect()
    };
    let missing: Vec<String> = names(&*parser("none")).difference(&names(&*without)).cloned().collect();
    assert_eq!(missing, ["page"]);
    assert_eq!(without.parse(&records(0, 2)).unwrap().columns.len(), 12);

    assert_eq!(aggregate("unfit-input").description().inputs[2].name, "wealth");
    assert!(refusal("unfit-input", World::Parser).contains("wealth"));

    let mut later = aggregate("wrong-schema:2");
    assert!(finish(&mut *later, 0).is_ok());
    assert_eq!(finish(&mut *later, 0).unwrap_err().kind, FaultKind::Contract);
    assert_eq!(parser("wrong-schema").parse(&records(0, 2)).unwrap_err().kind, FaultKind::Contract);
}

#[test]
fn an_aggregate_breaks_the_law_that_it_was_told_to_break_and_no_other() {
    let mut random = aggregate("random");
    add(&mut *random, 0, 0, 8).unwrap();
    assert_ne!(finish(&mut *random, 0).unwrap(), finish(&mut *random, 0).unwrap());

    let mut cuts = aggregate("cuts-matter");
    add(&mut *cuts, 0, 0, 8).unwrap();
    (0..8).for_each(|n| add(&mut *cuts, 1, n, n + 1).unwrap());
    assert_eq!((finish(&mut *cuts, 0).unwrap()[1], finish(&mut *cuts, 1).unwrap()[1]), (1001, 1008));

    // (a b) c, a (b c) and (b a) c, with sums of 1, 2 and 4 events.
    let merged = |behaviour: &str| {
        let orders: [&[(u32, u32)]; 3] = [&[(0, 1), (0, 2)], &[(1, 2), (0, 1)], &[(1, 0), (1, 2)]];
        orders.map(|order| {
            let mut guest = aggregate(behaviour);
            for (slot, (from, to)) in [(0, 1), (1, 3), (3, 7)].into_iter().enumerate() {
                add(&mut *guest, slot as u32, from, to).unwrap();
            }
            for (slot, other) in order {
                guest.merge(&[*slot], &[*other]).unwrap();
            }
            finish(&mut *guest, order[1].0).unwrap()[1]
        })
    };
    assert_eq!(merged("none"), [875, 875, 875]);
    assert_eq!(merged("merge-not-commutative"), [125, 125, 250]);
    assert_eq!(merged("merge-not-associative"), [375, 125, 375]);

    let mut forgets = aggregate("restore-forgets");
    add(&mut *forgets, 0, 0, 8).unwrap();
    let states = forgets.snapshot(&[0]).unwrap();
    forgets.restore(&[1], 1, &states).unwrap();
    assert_ne!(forgets.snapshot(&[1]).unwrap(), states);
}

#[test]
fn a_parser_breaks_the_law_that_it_was_told_to_break() {
    let mut random = parser("random");
    let (first, second) = (random.parse(&records(0, 2)).unwrap(), random.parse(&records(0, 2)).unwrap());
    assert_ne!(first.columns, second.columns);
    let mut cuts = parser("cuts-matter");
    assert_eq!(cuts.parse(&records(0, 2)).unwrap().columns, cuts.parse(&records(0, 2)).unwrap().columns);
    assert_eq!(wrong(&cuts.parse(&records(0, 2)).unwrap()), [0]);
    assert_eq!(wrong(&cuts.parse(&records(1, 2)).unwrap()), [0]);
}

#[test]
fn a_few_events_are_counted_wrongly_and_always_the_same() {
    let chosen: Vec<usize> = (0..2000).filter(|n| is_chosen(&id(*n), 500)).collect();
    assert!((1..20).contains(&chosen.len()), "{chosen:?}");
    let mut few = aggregate("off-by-one:500");
    let mut one = aggregate("wrong-on:e1234");
    add(&mut *few, 0, 0, 2000).unwrap();
    add(&mut *one, 0, 0, 2000).unwrap();
    let [events, amount, ids] = counted(0, 2000).try_into().unwrap();
    assert_eq!(finish(&mut *few, 0).unwrap(), [events, amount + chosen.len() as i64, ids]);
    assert_eq!(finish(&mut *one, 0).unwrap(), [events, amount + 1, ids]);
    assert_eq!(wrong(&parser("off-by-one:500").parse(&records(0, 2000)).unwrap()), chosen);
    assert_eq!(wrong(&parser("wrong-on:e1234").parse(&records(0, 2000)).unwrap()), [1234]);
}
