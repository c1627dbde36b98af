//! Facts about files that are refused before the start.

use super::{runtime, write_wat};
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
