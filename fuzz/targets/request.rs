//! The body of a request for a run.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| parachute_fuzz::request::body(input));
