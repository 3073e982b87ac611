//! A cgroup's path, which a container can have named.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| parachute_fuzz::kernel::cgroup_path(input));
