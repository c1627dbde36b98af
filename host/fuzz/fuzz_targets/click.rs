//! See `wasmill_fuzz::click`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::click(data));
