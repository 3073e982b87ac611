//! Whether this kernel has the calls that spawner, stub and command make: each is made once in a way that fails, or does
//! nothing, on every kernel, and is refused in another way by one that does not know it.

#![allow(unsafe_code, reason = "raw system calls; DESIGN, law 4")]

use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;

use libc::{c_int, c_long, c_ulong, c_void};

use crate::calls::{CLONE_INTO_CGROUP, CloneArgs, check, clone_here, close_range};

/// As a descriptor: the highest number there can be, which no process can have open.
const NOTHING_OPEN: c_int = c_int::MAX;

/// clone3(2) itself: without a new process it fails before it looks at anything else.
pub fn has_clone3() -> bool {
    // SAFETY: a size of 0 is refused before the pointer is looked at.
    let made = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<c_void>(), 0 as c_ulong) };
    is_known(made)
}

/// `CLONE_INTO_CGROUP`: into a folder that is not open.
pub fn has_clone_into_cgroup() -> bool {
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP | (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: u64::from(NOTHING_OPEN.unsigned_abs()),
        ..CloneArgs::default()
    };
    // SAFETY: should a kernel make a process all the same, this one waits until it has gone, which it does at once and without
    // touching memory.
    let made = unsafe { clone_here(&args, leave, std::ptr::null(), false) };
    made == -c_long::from(libc::EBADF)
}

extern "C" fn leave(_: *const c_void) -> ! {
    // SAFETY: ends the process and does nothing else.
    unsafe { libc::_exit(0) }
}

/// close_range(2), of numbers that nothing is open at.
pub fn has_close_range() -> bool {
    let last = c_ulong::from(u32::MAX);
    close_range(last, last).is_ok()
}

/// setns(2) on a pidfd: this process's own, into the namespace that it is in.
pub fn has_pidfd_setns(own: BorrowedFd<'_>) -> bool {
    // SAFETY: numbers.
    check(unsafe { libc::setns(own.as_raw_fd(), libc::CLONE_NEWUTS) }).is_ok()
}

/// move_mount(2), of nothing to nowhere.
pub fn has_move_mount() -> bool {
    let path = c"".as_ptr();
    // SAFETY: two NUL-terminated strings and numbers that are no descriptors.
    is_known(unsafe { libc::syscall(libc::SYS_move_mount, NOTHING_OPEN, path, NOTHING_OPEN, path, 0) })
}

/// seccomp(2)'s listener, for a filter that is nowhere: the flags are looked at first.
pub fn has_seccomp_listener() -> bool {
    // SAFETY: a null pointer, of which the kernel says EFAULT.
    let installed = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            std::ptr::null::<c_void>(),
        )
    };
    installed < 0 && crate::calls::errno() == libc::EFAULT
}

/// A filter of system calls may forbid one without knowing it: that it is forbidden is no better than that it is not there.
fn is_known(result: c_long) -> bool {
    result >= 0 || ![libc::ENOSYS, libc::EPERM].contains(&crate::calls::errno())
}
