//! System calls that libc has no function for, or not one that says what went wrong. Each may be made between a fork and an
//! exec.

#![allow(unsafe_code, reason = "raw system calls; DESIGN, law 4")]

use core::ffi::CStr;
use rustix_core::fd::RawFd;

use libc::{c_int, c_long, c_ulong, c_void, pid_t};

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

/// What a new process does, from its first moment to its end.
pub(crate) type Child = extern "C" fn(*const c_void) -> !;

/// Makes a process that uses this one's memory, on this one's stack, and that does `child`; gives back its pid or a negative
/// errno. With CLONE_VFORK in `args` the caller goes on when the child has executed a program or has gone, and with `wait` when
/// it has gone; in between it does nothing but wait in the kernel, with system calls that touch no memory. Whoever kills the
/// caller ends a vfork's wait, though (`wait_for_vfork_done` in kernel/fork.c): then the child goes on until it is killed, too.
///
/// # Safety
/// `args` must ask for CLONE_VM, and for CLONE_VFORK unless `wait` is set, so that never two processes use the stack. All signals
/// are blocked, so that no handler does either. `child` must do what is async-signal-safe only, and must not return. It may
/// leave nothing behind in the memory that the caller does not expect.
#[cfg(target_arch = "x86_64")]
pub(crate) unsafe fn clone_here(args: &CloneArgs, child: Child, with: *const c_void, wait: bool) -> c_long {
    let pid: c_long;
    // SAFETY: the child begins with a copy of the registers and calls `child` below the caller's frame, where the caller has
    // nothing as long as it is in here; the caller's registers are its own. 61 is wait4, 0x40000000 __WALL, -4 EINTR: with
    // SIGCHLD ignored it returns when there is no such child any more (wait(2), "NOTES").
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jz 3f",
            "js 4f",
            "test {wait:e}, {wait:e}",
            "jz 4f",
            "mov r8, rax",
            "2:",
            "mov eax, 61",
            "mov rdi, r8",
            "xor esi, esi",
            "mov edx, 0x40000000",
            "xor r10d, r10d",
            "syscall",
            "cmp rax, -4",
            "je 2b",
            "mov rax, r8",
            "jmp 4f",
            "3:",
            "xor ebp, ebp",
            "mov rdi, {with}",
            "and rsp, -16",
            "call {child}",
            "ud2",
            "4:",
            inout("rax") libc::SYS_clone3 => pid,
            inout("rdi") core::ptr::from_ref(args) => _,
            inout("rsi") size_of::<CloneArgs>() => _,
            with = in(reg) with,
            child = in(reg) child,
            wait = in(reg) u32::from(wait),
            out("rcx") _,
            out("rdx") _,
            out("r8") _,
            out("r10") _,
            out("r11") _,
        );
    }
    pid
}

/// # Safety
/// As on the other architecture.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn clone_here(args: &CloneArgs, child: Child, with: *const c_void, wait: bool) -> c_long {
    let pid: c_long;
    // SAFETY: as on the other architecture; 260 is wait4.
    unsafe {
        core::arch::asm!(
            "svc #0",
            "cbz x0, 3f",
            "tbnz x0, #63, 4f",
            "cbz {wait:w}, 4f",
            "mov x9, x0",
            "2:",
            "mov x8, #260",
            "mov x0, x9",
            "mov x1, xzr",
            "mov x2, #0x40000000",
            "mov x3, xzr",
            "svc #0",
            "cmn x0, #4",
            "b.eq 2b",
            "mov x0, x9",
            "b 4f",
            "3:",
            "mov x29, xzr",
            "mov x0, {with}",
            "blr {child}",
            "brk #1",
            "4:",
            inout("x8") libc::SYS_clone3 => _,
            inout("x0") core::ptr::from_ref(args) => pid,
            inout("x1") size_of::<CloneArgs>() => _,
            with = in(reg) with,
            child = in(reg) child,
            wait = in(reg) u32::from(wait),
            out("x2") _,
            out("x3") _,
            out("x9") _,
        );
    }
    pid
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
    let none = core::ptr::null();
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

    use super::*;

    static TOLD: AtomicI32 = AtomicI32::new(0);

    extern "C" fn tell(number: *const c_void) -> ! {
        // SAFETY: what the test hands over, which waits until this process has gone; one store, and the end.
        unsafe {
            TOLD.store(*number.cast::<i32>(), SeqCst);
            libc::_exit(7)
        }
    }

    /// Both ways to wait: in the kernel until the new process has gone, and for its end.
    #[test]
    fn a_process_in_this_ones_memory_ends_before_this_one_goes_on() {
        for (wait, vfork, number) in [(false, libc::CLONE_VFORK, 41), (true, 0, 42)] {
            let args = CloneArgs {
                flags: u64::from((libc::CLONE_VM | vfork).unsigned_abs()),
                exit_signal: libc::SIGCHLD as u64,
                ..CloneArgs::default()
            };
            // SAFETY: `tell` stores a number and ends; this thread waits for that, and no other uses its stack.
            let pid = unsafe { clone_here(&args, tell, (&raw const number).cast(), wait) };
            assert!(pid > 0, "{pid}");
            assert_eq!(TOLD.swap(0, SeqCst), number);
            let mut how = 0;
            // SAFETY: a local that outlives the call.
            let reaped = unsafe { libc::waitpid(pid_t::try_from(pid).unwrap(), &raw mut how, libc::__WALL) };
            // Who has waited for its end has reaped it.
            assert_eq!(c_long::from(reaped), if wait { -1 } else { pid });
            assert!(wait || (libc::WIFEXITED(how) && libc::WEXITSTATUS(how) == 7), "{how}");
        }
    }
}
