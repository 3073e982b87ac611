//! The store of results and the encoder, with whatever a parser might hand out.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| parachute_fuzz::store::published(input));
