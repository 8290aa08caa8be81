//! See `herald_fuzzed::request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| herald_fuzzed::request(data));
