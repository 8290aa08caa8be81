//! See `herald_fuzzed::capability`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| herald_fuzzed::capability(data));
