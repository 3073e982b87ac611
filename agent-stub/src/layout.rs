//! How an order lies in memory: numbers, words and filter in one piece, descriptors beside it. It is the message itself, or a
//! file before the other descriptors where it is too long. `order` writes it, `frame` reads it.
//!
//! The memory is an array of 64-bit cells: first [`HEAD`] numbers; then the places of programs, arguments and environment,
//! each list ended by 0, and those of the working directory and of the observer's pid namespace; then groups (two to a
//! cell) and filter; then the words themselves, each ended by NUL. A place is a number of bytes from the beginning.

/// How many cgroups besides its own may limit a run: memory, pids and cpu of cgroup v1.
pub const LIMITING: usize = 3;

/// Largest order in bytes that is a message by itself; a probe's is a tenth of it.
pub const MOST_INLINE: usize = 16 * 1024;

/// Cells before the places.
pub(crate) const HEAD: usize = 12;

pub(crate) const JOIN_PID: u64 = 1;
pub(crate) const JOIN_USER: u64 = 1 << 1;
pub(crate) const JOIN_MNT: u64 = 1 << 2;
pub(crate) const CHECK_NEIGHBOURS: u64 = 1 << 3;
pub(crate) const CHECK_LIMITS: u64 = 1 << 4;
pub(crate) const UNIFIED: u64 = 1 << 5;
pub(crate) const HAS_USER: u64 = 1 << 6;
pub(crate) const HAS_OBSERVER: u64 = 1 << 7;
pub(crate) const STAY: u64 = 1 << 8;
pub(crate) const WITHOUT_STUB: u64 = 1 << 9;
/// From this bit on: which of the optional descriptors there are, in their order.
pub(crate) const OPTIONAL: u32 = 16;
