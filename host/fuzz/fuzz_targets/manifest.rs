//! See `wasmill_fuzz::manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::manifest(data));
