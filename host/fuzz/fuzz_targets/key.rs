//! See `wasmill_fuzz::key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::key(data));
