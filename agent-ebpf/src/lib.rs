//! The window in the wall: what the kernel half and the agent both know, and nothing else. The layout of a record,
//! and the names and sizes of the maps.
#![no_std]

/// Name of the program in the object file.
pub const PROGRAM: &str = "exec_seen";
/// The raw tracepoint it is attached to. Raw, because that needs no tracefs.
pub const TRACEPOINT: &str = "sched_process_exec";

/// Ring buffer of `ExecSeen`.
pub const EVENTS: &str = "EVENTS";
/// Size of the ring in bytes: a power of two and a multiple of the page size. A record takes `RECORD_BYTES` of it,
/// so it holds some 8,000 new cgroups that the agent has not read yet.
pub const EVENTS_BYTES: u32 = 256 * 1024;
/// What one record takes in the ring: `ExecSeen` and the ring's own header of 8 bytes (`BPF_RINGBUF_HDR_SZ`).
pub const RECORD_BYTES: usize = size_of::<ExecSeen>() + 8;

/// LRU hash: cgroup id (`u64`) → 1 (`u8`). A cgroup in it costs one look-up per exec and writes no record.
pub const SEEN: &str = "SEEN";
/// Cgroups remembered. Where more are alive at once the least used are forgotten; their next exec writes one
/// record more, which the agent recognises.
pub const SEEN_ENTRIES: u32 = 65_536;

/// Per-CPU array of two `u64`: see `SUBMITTED` and `LOST`.
pub const COUNTERS: &str = "COUNTERS";
/// Index in `COUNTERS`: records written into the ring since the program was loaded.
pub const SUBMITTED: u32 = 0;
/// Index in `COUNTERS`: records that found the ring full.
pub const LOST: u32 = 1;

/// Global of the program, `[u64; 5]`, set before it is loaded: the way from a task to the id of its cgroup in a
/// cgroup v1 hierarchy, as offsets in bytes, each from where the pointer before it leads. All zero, as it is in the
/// object, means the unified hierarchy, whose ids a helper tells.
pub const WALK: &str = "WALK";

/// Name of the program that says which devices an observer may open, in an object file of its own.
pub const DEVICES_PROGRAM: &str = "observers_devices";
/// Major number of the character devices of an observer's root (Documentation/admin-guide/devices.txt).
pub const MEMORY_DEVICES: u32 = 1;
/// And their minor numbers: null, zero, full, random, urandom.
pub const OBSERVERS_MINORS: [u32; 5] = [3, 5, 7, 8, 9];

/// The first exec in a cgroup that the kernel half did not know.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecSeen {
    /// Id of the cgroup in the hierarchy that the program goes by: the inode number of its directory there.
    pub cgroup_id: u64,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Process id in the initial pid namespace. 64 bits wide so that the record has no padding.
    pub tgid: u64,
}

const _: () = assert!(size_of::<ExecSeen>() == 24 && align_of::<ExecSeen>() == 8);

impl ExecSeen {
    /// Reads a record as the ring holds it; `None` if it has another size than this layout.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; size_of::<Self>()] = bytes.try_into().ok()?;
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        Some(Self { cgroup_id: word(0), at_ns: word(8), tgid: word(16) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_where_the_kernel_half_puts_them() {
        let mut bytes = [0; 24];
        bytes[0..8].copy_from_slice(&7_u64.to_ne_bytes());
        bytes[8..16].copy_from_slice(&u64::MAX.to_ne_bytes());
        bytes[16..24].copy_from_slice(&4_194_304_u64.to_ne_bytes());
        assert_eq!(
            ExecSeen::from_bytes(&bytes),
            Some(ExecSeen { cgroup_id: 7, at_ns: u64::MAX, tgid: 4_194_304 })
        );
    }

    #[test]
    fn another_size_is_refused() {
        for size in [0, 8, 23, 25, 32] {
            assert_eq!(ExecSeen::from_bytes(&[1; 32][..size]), None, "{size} bytes");
        }
    }
}
