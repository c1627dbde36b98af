//! See `wasmill_fuzz::files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::files(data));
