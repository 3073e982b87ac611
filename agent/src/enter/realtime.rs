//! Real-time priority, for who asks for it (`parachute agent --realtime`): agent and launcher go before whatever has none, so that
//! a container is known at once on processors that are busy with its start. What the two start begins without it.

#![allow(unsafe_code, reason = "neither rustix nor nix has sched_setscheduler(2)")]

use std::io;

/// The least of 1 to 99 (sched(7)): whatever else was given one on purpose goes before it.
const PRIORITY: libc::c_int = 1;

/// Gives it to the calling thread. Children and further threads do not inherit it (`SCHED_RESET_ON_FORK`).
///
/// # Errors
/// EPERM without CAP_SYS_NICE where RLIMIT_RTPRIO is 0, and in a cgroup of v1 that has no share of real time
/// (`cpu.rt_runtime_us`).
pub fn go_first() -> io::Result<()> {
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // By its number: musl's sched_setscheduler(3) does nothing but fail.
    // SAFETY: the kernel reads `struct sched_param` from the last argument, which for it is one int
    // (include/uapi/linux/sched/types.h), and nothing is written; 0 is the calling thread.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &PRIORITY) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
