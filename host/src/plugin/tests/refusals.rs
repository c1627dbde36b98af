//! Facts about files that are refused before the start.

use super::{runtime, write_wat};
use crate::plugin::inspect::inspect;
use crate::plugin::{Error, World};
use wasmill_pipeline::error::Class;

fn refuse_bytes(bytes: &[u8]) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plugin.wasm");
    std::fs::write(&path, bytes).unwrap();
    runtime().load("p", &path, World::Parser).err().unwrap()
}

fn refuse(text: &str) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let path = write_wat(dir.path(), text);
    let error = runtime().load("p", &path, World::Parser).err().unwrap();
    assert_eq!(error.class(), Class::Config);
    assert!(error.to_string().contains("plugin.wasm"), "{error}");
    error
}

#[test]
fn a_missing_file_is_named() {
    let error = runtime().load("p", "no/such.wasm".as_ref(), World::Parser).err().unwrap();
    assert_eq!(error.to_string(), "cannot read plugin file=no/such.wasm");
}

#[test]
fn a_folder_is_not_a_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let error = runtime().load("p", dir.path(), World::Parser).err().unwrap();
    let Error::Unreadable { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.to_string(), "it is a folder, not a file");
}

#[test]
fn text_is_not_a_plugin() {
    assert!(matches!(refuse_bytes(b"hello"), Error::NotWebAssembly { .. }));
    assert!(matches!(refuse_bytes(b""), Error::NotWebAssembly { .. }));
}

#[test]
fn a_torn_component_is_refused() {
    assert!(matches!(refuse_bytes(b"\0asm\x0d\0\x01\0\x07"), Error::Invalid { .. }));
}

#[test]
fn a_core_module_is_refused_with_the_way_out() {
    let error = refuse("(module)");
    assert!(error.to_string().contains("--target wasm32-wasip2"), "{error}");
}

#[test]
fn a_component_without_exports_is_refused() {
    let error = refuse("(component)");
    assert!(error.to_string().starts_with("exports nothing; wanted wasmill:plugin/parser@0.1.0"), "{error}");
}

#[test]
fn another_world_is_refused() {
    let error = refuse(r#"(component (instance $i) (export "wasmill:plugin/aggregate@0.1.0" (instance $i)))"#);
    assert!(error.to_string().starts_with("exports wasmill:plugin/aggregate@0.1.0; wanted"), "{error}");
}

#[test]
fn another_contract_version_is_refused() {
    let error = refuse(r#"(component (instance $i) (export "wasmill:plugin/parser@0.2.0" (instance $i)))"#);
    assert!(matches!(&error, Error::Version { has, .. } if has == "wasmill:plugin/parser@0.2.0"), "{error}");
}

#[test]
fn an_import_that_nobody_gets_is_refused() {
    let error = refuse(
        r#"(component (import "acme:db/query@1.0.0" (instance))
             (instance $i) (export "wasmill:plugin/parser@0.1.0" (instance $i)))"#,
    );
    assert!(matches!(&error, Error::Imports { imports, .. } if imports == &["acme:db/query@1.0.0"]), "{error}");
}

#[test]
fn the_right_name_with_the_wrong_functions_is_refused() {
    let error = refuse(r#"(component (instance $i) (export "wasmill:plugin/parser@0.1.0" (instance $i)))"#);
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}

/// What is said of a component that is not even compiled.
fn excess(text: &str) -> String {
    let error = refuse(text);
    let Error::Excess { what, .. } = error else { panic!("{error}") };
    what
}

/// A component with a module in it.
fn with_module(fields: &str) -> String {
    format!("(component (core module {fields}))")
}

#[test]
fn a_function_that_makes_the_compiler_take_gigabytes_is_refused() {
    let (locals, branches) = ("i64 ".repeat(9000), "(br_if 0 (i32.const 0))".repeat(9000));
    let what = excess(&with_module(&format!("(func (local {locals}) (block {branches}))")));
    assert!(what.contains("81018000 or more locals times branches in a function, and at most 64000000"), "{what}");
    assert!(excess(&with_module(&format!("(func (local {locals} i64 {locals}))"))).contains("locals in a function"));
}

#[test]
fn a_function_of_a_megabyte_and_one_of_ten_thousand_blocks_in_each_other_are_refused() {
    let what = excess(&with_module(&format!("(func {})", "(drop (i64.const 0))".repeat(400_000))));
    assert!(what.contains("bytes in a function, and at most 1048576"), "{what}");
    let what = excess(&with_module(&format!("(func {} {})", "block ".repeat(10_001), "end ".repeat(10_001))));
    assert!(what.contains("10001 or more blocks in blocks"), "{what}");
}

#[test]
fn more_functions_and_items_than_any_program_has_are_refused() {
    assert!(excess(&with_module(&"(func)".repeat(100_001))).contains("100001 or more functions"));
    assert!(excess(&with_module(&"(global i32 (i32.const 0))".repeat(100_001))).contains("exports, globals"));
    let entries = format!("(table 1 funcref) (func $f) (elem (i32.const 0) {})", "$f ".repeat((1 << 20) + 1));
    assert!(excess(&with_module(&entries)).contains("entries of tables"));
}

#[test]
fn components_that_make_thousands_of_instances_of_each_other_are_refused() {
    // Each instantiates the one before twice: 1024 instances of the module.
    let first = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    let next = |n: usize| {
        let twice = format!("(instance (instantiate $c{n}))").repeat(2);
        format!("(component $c{} (alias outer $all $c{n} (component $c{n})) {twice})", n + 1)
    };
    let text: String = std::iter::once(first).chain((0..10).map(next)).collect();
    let what = excess(&format!("(component $all {text} (instance (instantiate $c10)))"));
    assert_eq!(what, "it has 128 or more instances of modules, and at most 64 are taken");
}

#[test]
fn components_deep_in_each_other_and_modules_handed_around_are_refused() {
    let deep = format!("(component {}{})", "(component ".repeat(16), ")".repeat(16));
    assert!(excess(&deep).contains("17 or more components in components"));
    let handed = excess(r#"(component (component (import "m" (core module))))"#);
    assert!(handed.contains("what its instances take cannot be said"), "{handed}");
}

#[test]
fn a_file_with_any_byte_changed_is_read_without_harm() {
    let whole = wat::parse_str(include_str!("generator.wat")).unwrap();
    for at in 8..whole.len() {
        for change in [0x01, 0x80, 0xFF] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            // Whatever it says of it: it does not panic, and does not take long.
            let _ = inspect(&bytes);
        }
        let _ = inspect(&whole[..at]);
    }
}
