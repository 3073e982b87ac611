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
    pub(crate) const MOUNT: i64 = 165;
    pub(crate) const UNSHARE: i64 = 272;
    pub(crate) const PRLIMIT: i64 = 302;
    pub(crate) const SETNS: i64 = 308;
    pub(crate) const PROCESS_VM_READV: i64 = 310;
    pub(crate) const MKNODAT: i64 = 259;
}
#[cfg(target_arch = "aarch64")]
pub(crate) mod number {
    pub(crate) const KILL: i64 = 129;
    pub(crate) const PTRACE: i64 = 117;
    pub(crate) const SETUID: i64 = 146;
    pub(crate) const PRCTL: i64 = 167;
    pub(crate) const MOUNT: i64 = 40;
    pub(crate) const UNSHARE: i64 = 97;
    pub(crate) const PRLIMIT: i64 = 261;
    pub(crate) const SETNS: i64 = 268;
    pub(crate) const PROCESS_VM_READV: i64 = 270;
    pub(crate) const MKNODAT: i64 = 33;
}
/// The same everywhere.
pub(crate) const PIDFD_OPEN: i64 = 434;
pub(crate) const PIDFD_GETFD: i64 = 438;

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

pub(crate) fn mount(source: &str, target: &str, kind: &str) -> Result<i64, i32> {
    mount_with(source, target, kind, "")
}

pub(crate) fn mount_with(source: &str, target: &str, kind: &str, options: &str) -> Result<i64, i32> {
    let texts = [source, target, kind, options].map(|text| CString::new(text).unwrap_or_default());
    let [source, target, kind, options] = texts.each_ref().map(|text| text.as_ptr() as i64);
    call(number::MOUNT, [source, target, kind, 0, options])
}

/// `mode` is the kind of the node and its rights.
pub(crate) fn make_node(path: &str, mode: i64, major: i64, minor: i64) -> Result<i64, i32> {
    let path = CString::new(path).unwrap_or_default();
    // Major and minor numbers of up to 8 bits, as all that are meant here have (makedev(3)).
    call(number::MKNODAT, [-100, path.as_ptr() as i64, mode, major << 8 | minor, 0])
}

pub(crate) fn make_pipe(path: &str) -> Result<i64, i32> {
    let path = CString::new(path).unwrap_or_default();
    // S_IFIFO and all rights.
    call(number::MKNODAT, [-100, path.as_ptr() as i64, 0o010_666, 0, 0])
}
