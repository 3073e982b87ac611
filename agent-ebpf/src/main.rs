//! The exec tracepoint: one record for the first exec of a cgroup that is not known, none for any later one.
//!
//! It decides nothing about containers. It remembers cgroup ids, and the agent deletes those it wants to hear of
//! again. An exec in a known cgroup costs a helper call, for the cgroup's id, and one place in an array; now and then a
//! look-up in a hash map, too. What it costs is the cache lines that it touches: those are counted here.
//!
//! | used                        | in the kernel since |
//! | --------------------------- | ------------------- |
//! | raw tracepoint program      | 4.17                |
//! | `bpf_get_current_cgroup_id` | 4.18                |
//! | LRU hash map                | 4.10                |
//! | array map, written to       | 3.19                |
//! | per-CPU array map           | 4.6                 |
//! | `bpf_ktime_get_ns`          | 4.1                 |
//! | `bpf_get_current_pid_tgid`  | 4.2                 |
//! | ring buffer                 | 5.8                 |
//!
//! Raw tracepoint, helper for the id and ring buffer are tried when the agent starts (`detect::capabilities`); without one of
//! them it does not start, and there is no fallback. The other ones are older than those.
//!
//! Where there is no unified hierarchy, also global data (5.2), `bpf_get_current_task` (4.8) and
//! `bpf_probe_read_kernel` (5.5).
#![no_std]
#![no_main]
#![allow(
    unsafe_code,
    reason = "a helper is a call into the kernel; what the compiler cannot check, the verifier does"
)]

use agent_ebpf::{EVENTS_BYTES, ExecSeen, LOST, Place, RECENT_PLACES, SEEN_ENTRIES, SUBMITTED, mark, place};
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns,
    bpf_probe_read_kernel,
};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::RawTracePointContext;

#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

#[map]
static RECENT: Array<Place> = Array::with_max_entries(RECENT_PLACES, 0);

#[map]
static SEEN: LruHashMap<u64, u8> = LruHashMap::with_max_entries(SEEN_ENTRIES, 0);

// Per CPU, so that a plain addition is exact: the program does not migrate, and the kernel lets no second run of it
// begin on a CPU where one has not ended.
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2, 0);

/// See `agent_ebpf::WALK`.
#[unsafe(no_mangle)]
static WALK: [u64; 5] = [0; 5];

/// EEXIST of `errno-base.h`, as helpers return it.
const EXISTS: i32 = -17;

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn exec_seen(_: RawTracePointContext) -> i32 {
    // SAFETY: takes nothing and reads only the current task.
    exec_in(unsafe { bpf_get_current_cgroup_id() })
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn exec_seen_walking(_: RawTracePointContext) -> i32 {
    walked().map_or(0, exec_in)
}

#[inline(always)]
fn exec_in(cgroup_id: u64) -> i32 {
    let recent = RECENT.get_ptr_mut(place(cgroup_id)).and_then(|place| {
        let place = place.cast::<u64>();
        // SAFETY: both point into this place, which lives as long as the map. Volatile, so that each is read once, and
        // the generation before `SEEN` is looked into. Two system calls of the agent's lie between what it changes there
        // and here, so that no CPU can have the one without the other.
        let (generation, mark_at) = unsafe { (place.read_volatile(), place.add(1)) };
        Some((mark_at, mark(cgroup_id, generation)?))
    });
    if let Some((at, mark)) = recent {
        // SAFETY: as above.
        if unsafe { at.read_volatile() } == mark {
            return 0;
        }
    }
    // SAFETY: the value is not read, only whether there is one, so a concurrent change cannot be seen torn.
    if unsafe { SEEN.get(cgroup_id) }.is_some() {
        if let Some((at, mark)) = recent {
            // SAFETY: as above.
            unsafe { at.write_volatile(mark) };
        }
        return 0;
    }
    // Two CPUs can come here with the same new cgroup; the insertion decides which of them writes the record. Any
    // other failure (the LRU had no free node for this CPU) must not hide the cgroup: it is reported, and will be
    // once more at its next exec.
    if SEEN.insert(cgroup_id, 1, u64::from(BPF_NOEXIST)) == Err(EXISTS) {
        return 0;
    }
    let Some(mut record) = EVENTS.reserve::<ExecSeen>(0) else {
        // Forgotten again, so that the next exec in it is a second chance, and counted, so that the agent looks
        // for itself. That the deletion can fail changes nothing: the loss is counted either way.
        let _ = SEEN.remove(cgroup_id);
        count(LOST);
        return 0;
    };
    // SAFETY: both take nothing and read only the clock and the current task.
    let (at_ns, tgid) = unsafe { (bpf_ktime_get_ns(), bpf_get_current_pid_tgid() >> 32) };
    record.write(ExecSeen { cgroup_id, at_ns, tgid });
    count(SUBMITTED);
    record.submit(0);
    0
}

/// The id of the current task's cgroup in a cgroup v1 hierarchy.
fn walked() -> Option<u64> {
    // SAFETY: a static of this program. Volatile, because the agent sets it after the compiler has seen the zeroes.
    let walk = unsafe { core::ptr::read_volatile(&raw const WALK) };
    // SAFETY: takes nothing.
    let mut at = unsafe { bpf_get_current_task() };
    for offset in walk {
        // SAFETY: the helper checks the address itself, and fails where nothing can be read.
        at = unsafe { bpf_probe_read_kernel((at + offset) as *const u64) }.ok()?;
    }
    Some(at)
}

fn count(counter: u32) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: it points to this CPU's aligned u64, which lives as long as the map and which nothing else writes.
        unsafe { *value += 1 };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics, and the verifier refuses a program that could get here: it would loop for ever.
    loop {}
}

/// The kernel gives GPL-only helpers to programs that name a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
