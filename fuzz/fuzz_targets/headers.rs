//! See `herald_fuzzed::headers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| herald_fuzzed::headers(data));
