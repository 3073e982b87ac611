//! What a command prints for `parse: prometheus`, through the parser, the store and the page.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| parachute_fuzz::page::printed("prometheus", input));
