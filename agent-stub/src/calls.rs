//! System calls that libc has no function for, or not one that says what went wrong. Each may be made between a fork and an
//! exec.

#![allow(unsafe_code, reason = "raw system calls; DESIGN, law 4")]

use std::ffi::CStr;
use std::os::fd::RawFd;

use libc::{c_int, c_long, c_ulong, pid_t};

/// Closes every fd above 2 that is not in `kept`, which is ascending: another run's leash must not be held open here.
pub fn close_all_but(kept: &[RawFd]) -> Result<c_int, i32> {
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
pub(crate) fn close_range(first: c_ulong, last: c_ulong) -> Result<c_int, i32> {
    // SAFETY: numbers; the fds closed are this process's copies.
    check(
        c_int::try_from(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0 as c_ulong) })
            .unwrap_or(-1),
    )
}

pub(crate) fn check(result: c_int) -> Result<c_int, i32> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

pub(crate) fn errno() -> i32 {
    // SAFETY: the address is this thread's own; a clone with a copied address space keeps it valid.
    unsafe { *libc::__errno_location() }
}

/// linux/sched.h, Linux 5.7; libc's constant is too narrow.
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` up to `cgroup` (clone3(2); CLONE_ARGS_SIZE_VER2, Linux 5.7).
#[derive(Default)]
#[repr(C)]
pub(crate) struct CloneArgs {
    pub(crate) flags: u64,
    pub(crate) pidfd: u64,
    pub(crate) child_tid: u64,
    pub(crate) parent_tid: u64,
    pub(crate) exit_signal: u64,
    pub(crate) stack: u64,
    pub(crate) stack_size: u64,
    pub(crate) tls: u64,
    pub(crate) set_tid: u64,
    pub(crate) set_tid_size: u64,
    pub(crate) cgroup: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == 88);

/// # Safety
/// As fork(2): in the child only what is async-signal-safe may happen. `args` must not ask for a shared address space.
pub(crate) unsafe fn clone3(args: &CloneArgs) -> pid_t {
    // SAFETY: the struct is laid out as the kernel wants it and its size is given.
    let pid: c_long =
        unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_ref(args), size_of::<CloneArgs>()) };
    pid_t::try_from(pid).unwrap_or(-1)
}

pub(crate) fn mount(kind: &CStr, on: &CStr, flags: c_ulong) -> Result<c_int, i32> {
    mount_with(kind, on, flags, c"")
}

/// The same with the file system's own options.
pub(crate) fn mount_with(kind: &CStr, on: &CStr, flags: c_ulong, data: &CStr) -> Result<c_int, i32> {
    let data = data.as_ptr().cast();
    // SAFETY: four NUL-terminated strings that outlive the call.
    check(unsafe { libc::mount(kind.as_ptr(), on.as_ptr(), kind.as_ptr(), flags, data) })
}

/// Gives the mount at `on` other flags, or another propagation.
pub(crate) fn remount(on: &CStr, flags: c_ulong) -> Result<c_int, i32> {
    let none = std::ptr::null();
    // SAFETY: a NUL-terminated string that outlives the call; the kernel reads no other for these flags.
    check(unsafe { libc::mount(none, on.as_ptr(), none, flags, none.cast()) })
}

/// A detached copy of the mount at `path`, without what is mounted below it (open_tree(2), Linux 5.2). A link is not
/// followed.
pub(crate) fn open_tree(path: &CStr) -> Result<c_int, i32> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_SYMLINK_NOFOLLOW.unsigned_abs();
    // SAFETY: a NUL-terminated string and numbers.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    check(c_int::try_from(tree).unwrap_or(-1))
}

/// Attaches a detached tree to what `onto` refers to, a link itself included (move_mount(2), Linux 5.2).
pub(crate) fn attach_to(tree: RawFd, onto: RawFd) -> Result<c_int, i32> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    // SAFETY: two NUL-terminated strings and numbers.
    let moved = unsafe { libc::syscall(libc::SYS_move_mount, tree, empty, onto, empty, flags) };
    check(c_int::try_from(moved).unwrap_or(-1))
}

/// Attaches a detached tree at `path` (move_mount(2), Linux 5.2).
pub(crate) fn attach(tree: RawFd, path: &CStr) -> Result<c_int, i32> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: two NUL-terminated strings and numbers.
    let moved = unsafe {
        libc::syscall(libc::SYS_move_mount, tree, c"".as_ptr(), libc::AT_FDCWD, path.as_ptr(), flags)
    };
    check(c_int::try_from(moved).unwrap_or(-1))
}

/// Covers this process's folder in the run's own /proc, so that the command counts the container's processes and its
/// own, as if the stub were not there. Others see it as they see any process.
pub(crate) fn hide(pid: pid_t, empty: RawFd) -> Result<c_int, i32> {
    let path = numbered_path(pid, b"");
    attach(empty, CStr::from_bytes_until_nul(&path).unwrap_or(c""))
}

/// `/proc/PID` and what stands behind it, with a NUL at its end. At most ten digits and eight bytes after them.
pub(crate) fn numbered_path(pid: pid_t, behind: &[u8]) -> [u8; 32] {
    let mut path = [0; 32];
    let mut digits = pid;
    let mut length = 0;
    while digits > 0 {
        digits /= 10;
        length += 1;
    }
    digits = pid;
    for (place, byte) in path.iter_mut().zip(b"/proc/") {
        *place = *byte;
    }
    for place in path.iter_mut().skip(6).take(length).rev() {
        *place = b'0' + u8::try_from(digits % 10).unwrap_or(0);
        digits /= 10;
    }
    for (place, byte) in path.iter_mut().skip(6 + length).zip(behind) {
        *place = *byte;
    }
    path
}

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h, Linux 2.6.26): two 32-bit words for each set.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Makes `set` this process's effective, permitted and inheritable capabilities (capset(2)).
pub(crate) fn capset(set: u64) -> Result<c_int, i32> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    struct Words {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header { version: CAPABILITY_VERSION_3, pid: 0 };
    #[allow(clippy::cast_possible_truncation, reason = "the two halves of it")]
    let words = [set as u32, (set >> 32) as u32].map(|word| Words {
        effective: word,
        permitted: word,
        inheritable: word,
    });
    // SAFETY: header and data are laid out as capset(2) says for this version, and outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) };
    check(c_int::try_from(done).unwrap_or(-1))
}

/// Keeps permitted and inheritable capabilities over an execve(2) (capabilities(7), "Ambient").
pub(crate) fn raise_ambient(set: u64) -> Result<c_int, i32> {
    for capability in (0..u64::BITS).filter(|bit| set & (1 << bit) != 0) {
        // SAFETY: numbers.
        check(unsafe {
            libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, c_ulong::from(capability), 0, 0)
        })?;
    }
    Ok(0)
}

/// No program that this process starts gets more rights than it has (prctl(2), PR_SET_NO_NEW_PRIVS).
pub fn no_new_privileges() -> Result<c_int, i32> {
    // SAFETY: numbers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Installs a filter of system calls for good (seccomp(2)). With SECCOMP_FILTER_FLAG_NEW_LISTENER (Linux 5.0) gives back
/// a descriptor on which the calls that the filter leaves open are answered.
pub fn install_filter(program: &[libc::sock_filter], flags: c_ulong) -> Result<c_int, i32> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the program and what it points to outlive the call; the kernel copies them and does not write.
    let installed =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    check(c_int::try_from(installed).unwrap_or(-1))
}

/// No core of this process or of what it starts, neither in a file nor to a program: with a limit of exactly 1 the kernel
/// starts no handler (`coredump_pipe` in fs/coredump.c; core(5) says that other limits are ignored there), and a file
/// would have to be larger. Where the limit is 0 already it stays, as only CAP_SYS_RESOURCE could raise it.
pub fn forbid_core() -> Result<c_int, i32> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a struct on this stack, which the calls read or write as long as it is.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_CORE, &raw mut limit))?;
        limit.rlim_max = limit.rlim_max.min(1);
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_CORE, &raw const limit))
    }
}
