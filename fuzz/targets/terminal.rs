//! The filter between a container and a person's terminal.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| parachute_fuzz::terminal::stream(input));
