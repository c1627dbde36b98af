//! Facts about capsules: they come back as they were or not at all, stay within their limits, and harm nobody.

use super::*;
use arrow_array::types::UInt32Type;
use arrow_array::{ArrayRef, BinaryArray, DictionaryArray, Float64Array, StringArray};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use wasmill_pipeline::fault::{FaultReport, FaultyCall};
use wasmill_pipeline::plugin::{DataType, Encoding, Fault, FaultKind, Field};
use wasmill_pipeline::record::RawBatch;

/// What a record holds that nobody else is to see.
const SECRET: &str = "alice@example.org";

fn field(name: &str, data_type: DataType, encoding: Encoding) -> Field {
    Field { name: name.to_owned(), data_type, encoding, nullable: true }
}

/// The fields of [`update`].
fn fields() -> Vec<Field> {
    vec![
        field("page", DataType::Utf8, Encoding::Dictionary),
        field("revenue", DataType::Float64, Encoding::Plain),
        field("body", DataType::Binary, Encoding::Plain),
    ]
}

fn columns() -> Vec<ArrayRef> {
    let pages: DictionaryArray<UInt32Type> = [Some("/a"), None, Some("/a")].into_iter().collect();
    vec![
        Arc::new(pages),
        Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), Some(f64::NEG_INFINITY), None])),
        Arc::new(BinaryArray::from_iter([Some(&[0xFF, 0][..]), Some(SECRET.as_bytes()), None])),
    ]
}

fn update() -> FaultyCall {
    FaultyCall::Update { state: Some((3, vec![0, 0xFE])), inputs: columns() }
}

fn parse(value: &[u8]) -> FaultyCall {
    FaultyCall::Parse {
        record: RawBatch {
            partition: 7,
            offsets: vec![41],
            broker_times_us: vec![1_700_000_000_000_000],
            appended: vec![false],
            values: BinaryArray::from_iter_values([value]),
            keys: BinaryArray::from_iter([Some(SECRET.as_bytes())]),
        },
    }
}

fn report(offset: i64, call: FaultyCall) -> FaultReport {
    let aggregate = (!matches!(call, FaultyCall::Parse { .. })).then_some(0);
    let fault = Fault {
        plugin: "parser".into(),
        kind: FaultKind::Trap,
        message: format!("no {SECRET} here"),
        backtrace: vec!["hostile::trap at lib.rs:7".into()],
    };
    FaultReport { fault, aggregate, origin: (7, offset), call }
}

fn guest(name: &str) -> Guest {
    let plugin = Plugin {
        name: name.to_owned(),
        interface: "wasmill:plugin/parser@0.1.0".into(),
        path: "/nowhere/parser.wasm".into(),
        digest: "ab".repeat(32),
        config: Secret::Open(format!("{{\"password\":\"{SECRET}\"}}")),
        wanted: None,
    };
    Guest { plugin, inputs: ["page", "revenue", "body"].map(str::to_owned).to_vec(), context: Vec::new() }
}

fn capsules(folder: &Path, change: impl FnOnce(&mut Settings)) -> Capsules {
    let mut settings = Settings {
        enabled: true,
        folder: folder.join("_faults"),
        capsule_bytes: 64 << 10,
        capsules_bytes: 1 << 20,
        redact: false,
    };
    change(&mut settings);
    let limits = Limits { memory_bytes: 1 << 20, deadline_us: 1_000_000 };
    Capsules::new(settings, "job", "events", limits, vec![guest("parser"), guest("counts")])
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("_faults")).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The one capsule that these settings make of the call.
fn kept(call: FaultyCall, change: impl FnOnce(&mut Settings)) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    capsules(dir.path(), change).keep(&report(41, call));
    let [file] = files(dir.path()).try_into().unwrap();
    std::fs::read(file).unwrap()
}

fn has_secret(file: &[u8]) -> bool {
    file.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes())
}

#[test]
fn a_record_comes_back_as_it_was() {
    let file = kept(parse(&[0xFF, b'x']), |_| {});
    let capsule = Capsule::decode(&file).unwrap();
    let Input::Whole(Call::Parse(record)) = capsule.input else { panic!("{capsule:?}") };
    let batch = record.batch((capsule.origin.partition, capsule.origin.offset));
    assert_eq!((batch.values.value(0), batch.keys.value(0)), (&[0xFF, b'x'][..], SECRET.as_bytes()));
    assert_eq!((batch.partition, batch.offsets, batch.broker_times_us), (7, vec![41], vec![1_700_000_000_000_000]));
}

#[test]
fn columns_and_state_come_back_as_they_were() {
    let file = kept(update(), |_| {});
    let Input::Whole(Call::Update { state, inputs }) = Capsule::decode(&file).unwrap().input else {
        panic!("{file:?}")
    };
    assert_eq!(state, Some(State { version: 3, bytes: Bytes(vec![0, 0xFE]) }));
    let (arrays, rows) = Column::arrays(&inputs, &fields()).unwrap();
    assert_eq!((arrays, rows), (columns(), 3));
}

#[test]
fn a_payload_can_be_read_in_the_file() {
    assert!(has_secret(&kept(parse(SECRET.as_bytes()), |_| {})));
}

#[test]
fn a_redacted_capsule_holds_nothing_that_came_from_elsewhere() {
    for call in [parse(SECRET.as_bytes()), update()] {
        let file = kept(call, |settings| settings.redact = true);
        assert!(!has_secret(&file), "{}", String::from_utf8_lossy(&file));
        let capsule = Capsule::decode(&file).unwrap();
        assert_eq!((capsule.plugin.config.open(), capsule.fault.message.open()), (None, None));
        assert!(matches!(capsule.input, Input::LeftOut { why: LeftOut::Redacted, ref parts, .. } if parts.len() > 1));
    }
}

#[test]
fn an_input_that_is_too_large_is_left_out() {
    let file = kept(parse(&vec![b'x'; 100_000]), |_| {});
    assert!(file.len() < 4096);
    let Input::LeftOut { why, parts, .. } = Capsule::decode(&file).unwrap().input else { panic!("{}", file.len()) };
    assert_eq!((why, parts[1].name.as_str(), parts[1].bytes), (LeftOut::TooLarge, "value", 100_000));
}

#[test]
fn the_oldest_capsules_make_room_and_all_of_them_stay_within_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let capsules = capsules(dir.path(), |settings| settings.capsules_bytes = 40_000);
    for offset in 0..20 {
        capsules.keep(&report(offset, parse(&[b'x'; 10_000])));
        let bytes: u64 = files(dir.path()).iter().map(|file| file.metadata().unwrap().len()).sum();
        assert!(bytes <= 40_000, "{bytes}");
    }
    let names: Vec<String> = files(dir.path()).iter().map(|f| f.file_name().unwrap().display().to_string()).collect();
    assert_eq!(names, ["17", "18", "19"].map(|offset| format!("parser-abababababab-parse-7-{offset}.capsule")));
}

#[test]
fn a_fault_that_happens_again_has_one_capsule() {
    let dir = tempfile::tempdir().unwrap();
    let capsules = capsules(dir.path(), |_| {});
    for _ in 0..3 {
        capsules.keep(&report(41, parse(b"x")));
    }
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn what_a_crash_left_half_written_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let capsules = capsules(dir.path(), |_| {});
    capsules.keep(&report(41, parse(b"x")));
    let [whole] = files(dir.path()).try_into().unwrap();
    let staged = whole.with_file_name(".parser-abababababab-parse-7-41.capsule.tmp");
    std::fs::rename(&whole, &staged).unwrap();
    std::fs::write(&staged, "half of a lot more than there will be ".repeat(1000)).unwrap();
    capsules.keep(&report(41, parse(b"x")));
    assert_eq!(files(dir.path()), std::slice::from_ref(&whole));
    Capsule::read(&whole).unwrap();
}

#[test]
fn a_storm_of_faults_gets_few_capsules_and_leaves_the_other_plugins_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let capsules = capsules(dir.path(), |_| {});
    for offset in 0..200 {
        capsules.keep(&report(offset, parse(b"x")));
    }
    assert_eq!(files(dir.path()).len(), 30);
    capsules.keep(&report(200, update()));
    assert_eq!(files(dir.path()).len(), 31);
    assert_eq!(capsules.outcomes(), [("kept", 31), ("left_out", 170), ("failed", 0)]);
}

#[test]
fn a_folder_that_cannot_be_written_to_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("_faults"), "a file").unwrap();
    let capsules = capsules(dir.path(), |_| {});
    capsules.keep(&report(41, parse(b"x")));
    assert_eq!(std::fs::read(dir.path().join("_faults")).unwrap(), b"a file");
    assert_eq!(capsules.outcomes(), [("kept", 0), ("left_out", 0), ("failed", 1)]);
}

#[test]
fn without_capsules_there_is_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    capsules(dir.path(), |settings| settings.enabled = false).keep(&report(41, parse(b"x")));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn only_its_owner_may_read_a_capsule() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    capsules(dir.path(), |_| {}).keep(&report(41, parse(b"x")));
    assert_eq!(files(dir.path())[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn other_files_and_formats_are_told_apart() {
    assert!(matches!(Capsule::decode(b"").unwrap_err(), Error::Foreign));
    assert!(matches!(Capsule::decode(b"wasmill capsule 1").unwrap_err(), Error::Foreign));
    assert!(
        matches!(Capsule::decode(b"wasmill capsule 9 0\n{}").unwrap_err(), Error::Format { found } if found == "9")
    );
    assert!(matches!(Capsule::decode(&forge(b"{}")).unwrap_err(), Error::Nonsense(_)));
}

#[test]
fn a_column_that_does_not_fit_is_said() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let call = FaultyCall::Update { state: None, inputs: vec![texts] };
    let Call::Update { inputs, .. } = Call::new(&call, &["page".into()]).unwrap() else { panic!("{call:?}") };
    let wrong = |field| Column::arrays(&inputs, &[field]).unwrap_err();
    assert_eq!(wrong(field("user", DataType::Utf8, Encoding::Plain)), "the capsule has no column `user`");
    assert_eq!(wrong(field("page", DataType::Int64, Encoding::Plain)), "column `page` is Utf8; the plugin wants Int64");
}

/// A capsule of any text, with the right checksum.
fn forge(json: &[u8]) -> Vec<u8> {
    let checksum = xxhash_rust::xxh3::xxh3_64(json);
    [format!("wasmill capsule 1 {checksum:016x}\n").as_bytes(), json].concat()
}

/// What `wasmill replay` does with a capsule before the plugin gets it.
fn take_apart(file: &[u8]) -> bool {
    let Ok(capsule) = Capsule::decode(file) else { return false };
    match &capsule.input {
        Input::Whole(Call::Parse(record)) => {
            record.batch((capsule.origin.partition, capsule.origin.offset));
        }
        Input::Whole(Call::Update { inputs: columns, .. } | Call::Finish { context: columns, .. }) => {
            // Whether they fit does not matter here.
            let _ = Column::arrays(columns, &fields());
        }
        Input::LeftOut { .. } => {}
    }
    true
}

/// Two honest capsules.
static UPDATE: LazyLock<Vec<u8>> = LazyLock::new(|| kept(update(), |_| {}));
static PARSE: LazyLock<Vec<u8>> = LazyLock::new(|| kept(parse(b"x"), |_| {}));

proptest! {
    #[test]
    fn a_flipped_bit_is_found(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut file = UPDATE.clone();
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        prop_assert!(Capsule::decode(&file).is_err(), "byte {at}");
    }

    #[test]
    fn a_cut_file_is_found(at in any::<prop::sample::Index>()) {
        prop_assert!(Capsule::decode(&UPDATE[..at.index(UPDATE.len())]).is_err());
    }

    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        take_apart(&bytes);
        take_apart(&forge(&bytes));
    }

    /// Whoever forges a capsule gets the checksum right.
    #[test]
    fn a_forged_capsule_is_taken_without_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[-0-9a-z\"\\[\\]{}:, ]{0,8}", 0..6_usize), 1..4),
        is_update: bool,
    ) {
        let file = if is_update { &UPDATE } else { &PARSE };
        let start = file.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let mut json = file[start..].to_vec();
        for (at, text, over) in changes {
            let at = at.index(json.len());
            json.splice(at..(at + over).min(json.len()), text.into_bytes());
        }
        take_apart(&forge(&json));
    }
}

#[test]
fn an_honest_capsule_can_be_taken_apart() {
    assert!(take_apart(&UPDATE) && take_apart(&PARSE));
}
