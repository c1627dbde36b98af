//! The page of guarantees names tests that exist.

use std::path::Path;

#[test]
fn every_proof_of_a_guarantee_is_a_test_of_that_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("host/docs/guarantees.md")).unwrap();
    let quoted = page.split('`').skip(1).step_by(2);
    let proofs: Vec<(&str, &str)> = quoted.filter_map(|text| text.split_once(".rs::")).collect();
    let is_missing = |(file, name): &&(&str, &str)| {
        let text = std::fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
        !text.contains(&format!("fn {name}("))
    };
    assert_eq!(proofs.iter().filter(is_missing).collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
    assert!(proofs.len() > 30, "the page has {} proofs", proofs.len());
}
