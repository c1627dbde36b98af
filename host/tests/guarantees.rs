//! The pages of guarantees and swaps name tests that exist.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeSet;
use std::path::Path;

/// The tests that a page names, each with its file; all of them are there.
fn proofs(page: &str) -> BTreeSet<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("host/docs").join(page)).unwrap();
    let quoted = page.split('`').skip(1).step_by(2);
    let proofs = quoted.filter_map(|text| text.split_once(".rs::"));
    let proofs: BTreeSet<_> = proofs.map(|(file, name)| (file.to_owned(), name.to_owned())).collect();
    let is_missing = |(file, name): &&(String, String)| {
        let text = std::fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
        !text.contains(&format!("fn {name}("))
    };
    assert_eq!(proofs.iter().filter(is_missing).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
    proofs
}

#[test]
fn every_proof_of_a_guarantee_is_a_test_of_that_name() {
    let proofs = proofs("guarantees.md");
    assert!(proofs.len() > 30, "the page has {} proofs", proofs.len());
}

#[test]
fn every_test_of_the_table_of_swaps_is_in_the_page_about_them() {
    let named: BTreeSet<String> = proofs("swaps.md").into_iter().map(|(_, name)| name).collect();
    let mut tests = BTreeSet::new();
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/swap_table")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let found = text.split("#[test]\nfn ").skip(1).filter_map(|test| test.split_once('('));
        tests.extend(found.map(|(name, _)| name.to_owned()));
    }
    assert_eq!(named, tests);
}
