//! See `wasmill_fuzz::pipeline_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::pipeline_file(data));
