//! Facts about calls: what each crime becomes, and that the host goes on.

use super::{runtime, tight, write_wat};
use crate::plugin::{Component, Description, Error, Generator, Limits, Runtime, World};
use arrow_array::Array;
use std::path::Path;
use wasmill_pipeline::plugin::{Fault, FaultKind};

const GUEST: &str = include_str!("generator.wat");

fn guest() -> Component {
    let dir = tempfile::tempdir().unwrap();
    runtime().load("gen", &write_wat(dir.path(), GUEST), World::Generator).unwrap()
}

fn generator() -> Box<dyn Generator> {
    guest().generator("{}", 1).unwrap()
}

/// Commits the crime, and shows that the next call is served.
fn commit(crime: u64) -> Fault {
    let mut generator = generator();
    let fault = generator.generate(crime, &[0, 1]).unwrap_err();
    assert_eq!(&*fault.plugin, "gen");
    assert_eq!(generator.generate(0, &[0, 1]).unwrap().values.len(), 2);
    fault
}

#[test]
fn an_honest_answer_becomes_arrays() {
    let generated = generator().generate(0, &[5, 6, 7]).unwrap();
    assert_eq!(generated.values.len(), 3);
    assert_eq!(generated.keys, None);
}

#[test]
fn a_trap_is_a_fault() {
    let fault = commit(1);
    assert_eq!(fault.kind, FaultKind::Trap);
    assert!(fault.message.contains("unreachable"), "{fault}");
}

#[test]
fn an_endless_loop_misses_its_deadline() {
    assert_eq!(commit(2).kind, FaultKind::Deadline);
}

#[test]
fn a_glutton_exceeds_its_memory() {
    assert_eq!(commit(3).kind, FaultKind::Memory);
}

#[test]
fn too_few_offsets_break_the_contract() {
    let fault = commit(4);
    assert_eq!(fault.kind, FaultKind::Contract);
    assert_eq!(fault.message, "column of values has 1 values; wanted 2");
}

#[test]
fn last_words_are_in_the_fault() {
    assert!(commit(5).message.ends_with("the plugin's last error: boom"));
}

#[test]
fn a_flood_of_log_lines_changes_nothing() {
    let limits = Limits { deadline: std::time::Duration::from_secs(10), ..tight() };
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new(None, limits).unwrap();
    let component = runtime.load("gen", &write_wat(dir.path(), GUEST), World::Generator).unwrap();
    assert!(component.generator("{}", 1).unwrap().generate(6, &[0]).is_ok());
}

#[test]
fn a_pointer_past_the_memory_breaks_the_contract() {
    let fault = commit(7);
    assert_eq!(fault.kind, FaultKind::Contract, "{fault}");
}

#[test]
fn a_call_of_wasi_is_denied() {
    let component = guest();
    assert_eq!(component.stubbed_imports(), ["wasi:cli/environment@0.2.0"]);
    let fault = commit(8);
    assert_eq!(fault.kind, FaultKind::Trap);
    assert!(fault.message.contains("wasi:cli/environment@0.2.0#get-environment"), "{fault}");
}

#[test]
fn an_answer_over_the_limit_breaks_the_contract() {
    let fault = commit(9);
    assert_eq!(fault.kind, FaultKind::Contract, "{fault}");
}

/// The guest with two more memories of so many pages of 64 KiB, in two components that call each other.
fn of_three_memories(pages: u32) -> Component {
    let pair = include_str!("two_memories.wat").replace("$PAGES", &pages.to_string());
    load_with(&pair).unwrap()
}

#[test]
fn a_component_made_of_several_has_a_memory_in_each() {
    let mut generator = of_three_memories(1).generator("{}", 1).unwrap();
    assert_eq!(generator.generate(0, &[5, 6]).unwrap().values.len(), 2);
}

#[test]
fn all_memories_of_an_instance_count_together() {
    // Each is below the limit of 8 MiB.
    let error = of_three_memories(70).generator("{}", 1).err().unwrap();
    assert!(is_out_of_memory(&error), "{error:?}");
}

/// The guest with more at its end.
fn load_with(more: &str) -> Result<Component, Error> {
    load_within(tight(), more)
}

fn load_within(limits: Limits, more: &str) -> Result<Component, Error> {
    let text = format!("{}\n{more})", GUEST.trim_end().strip_suffix(')').unwrap());
    let dir = tempfile::tempdir().unwrap();
    Runtime::new(None, limits).unwrap().load("gen", &write_wat(dir.path(), &text), World::Generator)
}

fn is_out_of_memory(error: &Error) -> bool {
    matches!(error, Error::Start(fault) if fault.kind == FaultKind::Memory)
}

#[test]
fn tables_count_as_memory_does() {
    // 64 tables of a million entries took 527 MB under a limit of 64 MB.
    let tables = "(table 100000 funcref)".repeat(10);
    let component = load_with(&format!("(core module $t {tables}) (core instance (instantiate $t))")).unwrap();
    assert!(is_out_of_memory(&component.generator("{}", 1).err().unwrap()));
}

#[test]
fn functions_and_globals_of_an_instance_count_and_each_instance_again() {
    let module = format!("(core module $g {})", "(global (mut i64) (i64.const 0))".repeat(20_000));
    let instances = |n: usize| format!("{module} {}", "(core instance (instantiate $g))".repeat(n));
    assert!(load_with(&instances(1)).unwrap().generator("{}", 1).is_ok());
    let error = load_with(&instances(15)).unwrap().generator("{}", 1).err().unwrap();
    assert!(is_out_of_memory(&error), "{error:?}");
}

#[test]
fn all_instances_of_a_version_have_what_it_may_take_together_and_give_it_back() {
    // 7 MiB of memory of the 8 that an instance may have, of the 32 that a version may have.
    let component = load_with("(core module $m (memory 110)) (core instance (instantiate $m))").unwrap();
    let mut instances: Vec<_> = (0..5).map_while(|_| component.generator("{}", 1).ok()).collect();
    assert_eq!(instances.len(), 4);
    let error = component.generator("{}", 1).err().unwrap();
    assert!(is_out_of_memory(&error) && format!("{error:?}").contains("limits.version_memory"), "{error:?}");
    instances.pop();
    assert!(component.generator("{}", 1).is_ok());
}

#[test]
fn the_file_and_its_data_count_for_the_version() {
    let data = format!("(core module $d (memory 1) (data \"{}\"))", "x".repeat(400_000));
    let limits = Limits { version_bytes: 1 << 20, ..tight() };
    let error = load_within(limits, &data).err().unwrap();
    assert!(matches!(&error, Error::Excess { what, .. } if what.contains("limits.version_memory")), "{error:?}");
}

#[test]
fn a_refused_configuration_says_why() {
    let error = guest().generator("no such setting", 1).err().unwrap();
    assert!(matches!(&error, Error::Refused { message, .. } if message == "no such setting"), "{error}");
}

#[test]
fn a_generator_is_no_parser() {
    assert!(matches!(guest().parser("{}", "t", None).err(), Some(Error::World { .. })));
    assert_eq!(guest().describe("{}").unwrap(), Description::Generator);
}

fn load(cache: &Path, wasm: &Path) -> Component {
    Runtime::new(Some(cache), tight()).unwrap().load("gen", wasm, World::Generator).unwrap()
}

#[test]
fn the_second_load_is_from_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, wasm) = (dir.path().join("cache"), write_wat(dir.path(), GUEST));
    assert!(!load(&cache, &wasm).from_cache());
    let again = load(&cache, &wasm);
    assert!(again.from_cache());
    assert!(again.generator("{}", 1).unwrap().generate(0, &[0]).is_ok());
}

#[test]
fn a_damaged_cache_file_is_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, wasm) = (dir.path().join("cache"), write_wat(dir.path(), GUEST));
    load(&cache, &wasm);
    let file = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    assert!(!load(&cache, &wasm).from_cache());
    assert!(load(&cache, &wasm).from_cache());
}

#[test]
fn a_cache_that_others_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (cache, wasm) = (dir.path().join("cache"), write_wat(dir.path(), GUEST));
    std::fs::create_dir(&cache).unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o777)).unwrap();
    load(&cache, &wasm);
    assert!(!load(&cache, &wasm).from_cache());
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 0);
}
