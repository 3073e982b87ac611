//! System calls by their numbers: the static build has std and nothing else.

#![allow(unsafe_code, reason = "there is no crate to make the calls safely in a static build by rustc alone")]

use std::ffi::CString;

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn __errno_location() -> *mut i32;
}

/// Numbers of x86-64 and of arm64 (asm/unistd.h).
#[cfg(target_arch = "x86_64")]
pub(crate) mod number {
    pub(crate) const KILL: i64 = 62;
    pub(crate) const PTRACE: i64 = 101;
    pub(crate) const SETUID: i64 = 105;
    pub(crate) const PRCTL: i64 = 157;
    pub(crate) const WAIT4: i64 = 61;
    pub(crate) const MOUNT: i64 = 165;
    pub(crate) const UNSHARE: i64 = 272;
    pub(crate) const PRLIMIT: i64 = 302;
    pub(crate) const SETNS: i64 = 308;
    pub(crate) const PROCESS_VM_READV: i64 = 310;
    pub(crate) const PROCESS_VM_WRITEV: i64 = 311;
    pub(crate) const KCMP: i64 = 312;
    pub(crate) const GET_ROBUST_LIST: i64 = 274;
    pub(crate) const MKNODAT: i64 = 259;
}
#[cfg(target_arch = "aarch64")]
pub(crate) mod number {
    pub(crate) const KILL: i64 = 129;
    pub(crate) const PTRACE: i64 = 117;
    pub(crate) const SETUID: i64 = 146;
    pub(crate) const PRCTL: i64 = 167;
    pub(crate) const WAIT4: i64 = 260;
    pub(crate) const MOUNT: i64 = 40;
    pub(crate) const UNSHARE: i64 = 97;
    pub(crate) const PRLIMIT: i64 = 261;
    pub(crate) const SETNS: i64 = 268;
    pub(crate) const PROCESS_VM_READV: i64 = 270;
    pub(crate) const PROCESS_VM_WRITEV: i64 = 271;
    pub(crate) const KCMP: i64 = 272;
    pub(crate) const GET_ROBUST_LIST: i64 = 100;
    pub(crate) const MKNODAT: i64 = 33;
}
/// The same everywhere.
pub(crate) const PIDFD_OPEN: i64 = 434;
pub(crate) const PIDFD_GETFD: i64 = 438;
const CLONE3: i64 = 435;

pub(crate) const ESRCH: i32 = 3;
pub(crate) const EFAULT: i32 = 14;

/// The call's result, or its error number.
pub(crate) fn call(number: i64, arguments: [i64; 5]) -> Result<i64, i32> {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: what the pointers among the arguments lead to is given by this program's own functions below, or is a wild
    // address on purpose, which the kernel answers with EFAULT.
    let result = unsafe { syscall(number, first, second, third, fourth, fifth) };
    // SAFETY: the address is this thread's own.
    if result < 0 { Err(unsafe { *__errno_location() }) } else { Ok(result) }
}

pub(crate) fn kill(pid: i64, signal: i64) -> Result<i64, i32> {
    call(number::KILL, [pid, signal, 0, 0, 0])
}

/// getpid(2) by the 32-bit entry, which has numbers of its own. Does not come back if that is closed.
#[cfg(target_arch = "x86_64")]
pub(crate) fn old_entry() -> i64 {
    let mut result: i64 = 20;
    // SAFETY: the call takes no pointer and changes no register but the one named.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    };
    result
}
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn old_entry() -> i64 {
    std::process::abort()
}

/// Sets both of a process's limits.
pub(crate) fn limit(pid: i64, resource: i64, value: u64) -> Result<i64, i32> {
    let limits = [value, value];
    call(number::PRLIMIT, [pid, resource, limits.as_ptr() as i64, 0, 0])
}

/// Sets the soft limit to the hard one, which takes no right.
pub(crate) fn raise(pid: i64, resource: i64) -> Result<i64, i32> {
    let mut limits = [0_u64; 2];
    call(number::PRLIMIT, [pid, resource, 0, limits.as_mut_ptr() as i64, 0])?;
    limit(pid, resource, limits[1])
}

pub(crate) fn mount(source: &str, target: &str, kind: &str) -> Result<i64, i32> {
    mount_with(source, target, kind, 0, "")
}

pub(crate) fn mount_with(
    source: &str,
    target: &str,
    kind: &str,
    flags: i64,
    options: &str,
) -> Result<i64, i32> {
    let texts = [source, target, kind, options].map(|text| CString::new(text).unwrap_or_default());
    let [source, target, kind, options] = texts.each_ref().map(|text| text.as_ptr() as i64);
    call(number::MOUNT, [source, target, kind, flags, options])
}

/// A pipe or a device, by its type and rights and its two numbers.
pub(crate) fn make_node(path: &str, mode: i64, (major, minor): (i64, i64)) -> Result<i64, i32> {
    let path = CString::new(path).unwrap_or_default();
    // As the kernel has it: linux/kdev_t.h, new_encode_dev.
    let device = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    call(number::MKNODAT, [-100, path.as_ptr() as i64, mode, device, 0])
}

/// A copy of this process in these new namespaces, with this number in the one that this process is in: clone3(2) with
/// `set_tid`. 0 in the copy, which is to execute something.
pub(crate) fn fork_as(pid: i64, namespaces: u64) -> Result<i64, i32> {
    const SIGCHLD: u64 = 17;
    const CLONE_NEWPID: u64 = 0x2000_0000;
    // The innermost namespace first: a new one begins with 1.
    let pid = i32::try_from(pid).unwrap_or_default();
    let wanted = if namespaces & CLONE_NEWPID == 0 { vec![pid] } else { vec![1, pid] };
    // `struct clone_args` of linux/sched.h: flags first, the signal fifth, the list and its length ninth and tenth.
    let mut all = [0_u64; 11];
    all[0] = namespaces;
    all[4] = SIGCHLD;
    all[8] = wanted.as_ptr() as u64;
    all[9] = wanted.len() as u64;
    call(CLONE3, [all.as_ptr() as i64, 88, 0, 0, 0])
}

pub(crate) fn wait(pid: i64) -> Result<i64, i32> {
    call(number::WAIT4, [pid, 0, 0, 0, 0])
}
