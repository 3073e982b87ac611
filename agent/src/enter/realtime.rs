//! Real-time priority, for who asks for it (`parachute agent --realtime`): agent and launcher go before whatever has none, so that
//! a container is known at once on processors that are busy with its start. What the two start begins without it.

#![allow(unsafe_code, reason = "neither rustix nor nix has sched_setscheduler(2)")]

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// The least of 1 to 99 (sched(7)): whatever else was given one on purpose goes before it.
const PRIORITY: libc::c_int = 1;

/// Gives it to the calling thread. Children and further threads do not inherit it (`SCHED_RESET_ON_FORK`).
///
/// # Errors
/// EPERM without CAP_SYS_NICE where RLIMIT_RTPRIO is 0, and with CONFIG_RT_GROUP_SCHED in a cgroup whose cpu controller gives no
/// share of real time (`cpu.rt_runtime_us` of v1; v2 has none to give).
pub fn go_first() -> io::Result<()> {
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // By its number: musl's sched_setscheduler(3) does nothing but fail.
    // SAFETY: the kernel reads `struct sched_param` from the last argument, which for it is one int
    // (include/uapi/linux/sched/types.h), and nothing is written; 0 is the calling thread.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &PRIORITY) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// For a launcher, before it starts anything. One that cannot have it goes on without: the agent, which was strict, may have had it
/// from before its cgroup changed.
pub(super) fn launcher_goes_first() {
    if let Err(error) = go_first() {
        tracing::error!(%error, "the launcher has no real-time priority and goes on without");
    }
    // Commands would inherit the right to it.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Rtprio, none) {
        tracing::error!(%error, "commands may have real-time priority");
    }
}
