//! The table of mounts.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| parachute_fuzz::kernel::mount_table(input));
