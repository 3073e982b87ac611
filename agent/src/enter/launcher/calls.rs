//! System calls of the unsafe room that libc has no function for. Each may be made between a fork and an exec.

#![allow(unsafe_code, reason = "raw system calls; DESIGN, law 4")]

use std::os::fd::RawFd;

use libc::{c_int, c_long, c_ulong, pid_t};

/// Closes every fd above 2 that is not in `kept`, which is ascending: another run's leash must not be held open here.
pub(super) fn close_all_but(kept: &[RawFd]) -> Result<c_int, i32> {
    let mut from: c_ulong = 3;
    for fd in kept {
        let fd = c_ulong::from(fd.unsigned_abs());
        if fd > from {
            close_range(from, fd.wrapping_sub(1))?;
        }
        from = from.max(fd.wrapping_add(1));
    }
    close_range(from, c_ulong::from(u32::MAX))
}

/// close_range(2), Linux 5.9.
pub(super) fn close_range(first: c_ulong, last: c_ulong) -> Result<c_int, i32> {
    // SAFETY: numbers; the fds closed are this process's copies.
    check(
        c_int::try_from(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0 as c_ulong) })
            .unwrap_or(-1),
    )
}

pub(super) fn check(result: c_int) -> Result<c_int, i32> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

pub(super) fn errno() -> i32 {
    // SAFETY: the address is this thread's own; a clone with a copied address space keeps it valid.
    unsafe { *libc::__errno_location() }
}

/// linux/sched.h, Linux 5.7; libc's constant is too narrow.
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` up to `cgroup` (clone3(2); CLONE_ARGS_SIZE_VER2, Linux 5.7).
#[derive(Default)]
#[repr(C)]
pub(super) struct CloneArgs {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == 88);

/// # Safety
/// As fork(2): in the child only what is async-signal-safe may happen. `args` must not ask for a shared address space.
pub(super) unsafe fn clone3(args: &CloneArgs) -> pid_t {
    // SAFETY: the struct is laid out as the kernel wants it and its size is given.
    let pid: c_long =
        unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_ref(args), size_of::<CloneArgs>()) };
    pid_t::try_from(pid).unwrap_or(-1)
}
