//! The fuzz targets without a fuzzer: their laws hold on every seed of their corpora, and on mutations of those.
//!
//! `make fuzz` searches for more, guided by coverage. A seed that fails there becomes a named test where the mistake was.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "a test fails by panicking")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Mutations of the seeds of each target: all together a few seconds without optimisation.
const MUTATIONS: u64 = 2_000;

/// Numbers that look random and are the same in every run: Steele, Lea and Flood's `SplitMix64`, 2014.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        self.roll() as usize % end.max(1)
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no seeds");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One to four of: a bit flipped, a byte replaced by a telling one, bytes removed, bytes doubled, a piece of another seed.
fn mutate(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        let to = (at + dice.below(16)).min(bytes.len());
        match dice.below(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 if !bytes.is_empty() => bytes[at] = b"\x00\x01\x7f\x80\xff0\"\\{}[$"[dice.below(12)],
            2 => drop(bytes.drain(at..to)),
            3 => drop(bytes.splice(at..at, bytes[at..to].to_vec())),
            _ => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len());
                drop(bytes.splice(at..to, other[from..(from + dice.below(32)).min(other.len())].to_vec()));
            }
        }
    }
    bytes
}

fn holds(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    let result = catch_unwind(AssertUnwindSafe(|| target(bytes)));
    assert!(result.is_ok(), "{name} does not hold for {:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn every_target_holds_on_its_seeds_and_on_mutations_of_them() {
    std::thread::scope(|scope| {
        for (number, (name, target)) in (0..).zip(targets::TARGETS) {
            scope.spawn(move || {
                let seeds = seeds(name);
                for seed in &seeds {
                    holds(name, target, seed);
                }
                let mut dice = Dice(number);
                for _ in 0..MUTATIONS {
                    holds(name, target, &mutate(&mut dice, &seeds));
                }
            });
        }
    });
}

#[test]
fn every_target_is_a_program_with_seeds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |folder: &str| {
        let entries = fs::read_dir(fuzz.join(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let mut targets: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
}
