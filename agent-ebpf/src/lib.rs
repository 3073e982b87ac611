//! The window in the wall: what the kernel half and the agent both know, and nothing else. The layout of a record,
//! and the names and sizes of the maps.
#![no_std]

/// Name of the program in the object file that goes by the unified hierarchy.
pub const PROGRAM: &str = "exec_seen";
/// And of the one that goes by a cgroup v1 hierarchy. Two, so that the first one has nothing to look up about it.
pub const WALKING_PROGRAM: &str = "exec_seen_walking";
/// The raw tracepoint that either is attached to. Raw, because that needs no tracefs.
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

/// Array of [`Place`] in front of `SEEN`: cgroups that were found in it lately. A look-up in a hash map of that size goes
/// through half a dozen cache lines that the exec has just driven out; this one, through one.
pub const RECENT: &str = "RECENT";
/// Places in it: a power of two. The kernel counts ids up, so that the containers of a node hardly share any.
pub const RECENT_PLACES: u32 = 1024;

/// `[generation, mark]`. The mark of a cgroup that was found in `SEEN` holds its id and the generation that was read
/// before it was looked for.
///
/// The agent counts the generation up after it has deleted from `SEEN` a cgroup with this place. So a mark of the present
/// generation says that the cgroup has not been deleted since; one that is written late, by a program that had looked
/// before, has an older one. It is one word, so that it cannot be read in halves.
pub type Place = [u64; 2];

/// Bits of a mark that are the cgroup's id; those above are the generation's lowest.
const ID_BITS: u32 = 40;

/// A cgroup's index in `RECENT`.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "it is less than `RECENT_PLACES`, which is a u32")]
pub const fn place(cgroup_id: u64) -> u32 {
    (cgroup_id % RECENT_PLACES as u64) as u32
}

/// A cgroup's mark; `None` for an id that is too large for it, which takes 2^40 cgroups since the machine's start.
#[inline]
pub const fn mark(cgroup_id: u64, generation: u64) -> Option<u64> {
    if cgroup_id >> ID_BITS == 0 { Some(generation << ID_BITS | cgroup_id) } else { None }
}

/// Per-CPU array of two `u64`: see `SUBMITTED` and `LOST`.
pub const COUNTERS: &str = "COUNTERS";
/// Index in `COUNTERS`: records written into the ring since the program was loaded.
pub const SUBMITTED: u32 = 0;
/// Index in `COUNTERS`: records that found the ring full.
pub const LOST: u32 = 1;

/// Global of `WALKING_PROGRAM`, `[u64; 5]`, set before it is loaded: the way from a task to the id of its cgroup in a
/// cgroup v1 hierarchy, as offsets in bytes, each from where the pointer before it leads. No helper tells those ids.
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
    fn a_mark_names_one_cgroup_of_one_generation() {
        let largest = (1 << ID_BITS) - 1;
        let marks = [(1, 0), (1, 1), (1 + u64::from(RECENT_PLACES), 0), (largest, 0), (largest, 1)];
        for (one, other) in marks.iter().flat_map(|one| marks.iter().map(move |other| (one, other))) {
            assert_eq!(mark(one.0, one.1) == mark(other.0, other.1), one == other);
        }
        assert_eq!(mark(largest + 1, 0), None);
        assert_ne!(mark(1, 0), Some(0), "what the map holds at first is nobody's mark");
        assert_eq!(
            (place(5), place(5 + u64::from(RECENT_PLACES)), place(u64::MAX)),
            (5, 5, RECENT_PLACES - 1)
        );
    }

    #[test]
    fn another_size_is_refused() {
        for size in [0, 8, 23, 25, 32] {
            assert_eq!(ExecSeen::from_bytes(&[1; 32][..size]), None, "{size} bytes");
        }
    }
}
