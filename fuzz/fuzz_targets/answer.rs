//! See `herald_fuzzed::answer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| herald_fuzzed::answer(data));
