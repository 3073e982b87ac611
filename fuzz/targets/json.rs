//! What a command prints for `parse: json`, through the parser, the store and the page.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| parachute_fuzz::page::printed("json", input));
