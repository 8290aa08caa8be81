//! See `herald_fuzzed::configuration`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| herald_fuzzed::configuration(data));
