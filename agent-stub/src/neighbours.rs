//! Looks for a process in the joined pid namespace that could take a command over: not only the container itself may be
//! in it, but a privileged debug container, `docker exec --privileged`, or another container of a pod that shares its
//! processes. A process of another run's, which has root's rights as well, is none: the launcher knows those. Runs in the
//! stub, under its rules: system calls only. A process that comes later is not seen.

#![allow(unsafe_code, reason = "system calls in the stub; DESIGN, law 4")]

use core::ffi::CStr;

use libc::{c_int, pid_t};
use rustix_core::fd::RawFd;

use crate::calls::{check, numbered_path};
use crate::passing::say;
use crate::steps::{ASKS, END, OURS};

/// Capabilities with which a container can take over a process beside it: SYS_PTRACE, SYS_ADMIN, PERFMON
/// (linux/capability.h).
pub const TAKEOVER: [(u32, &str); 3] = [(19, "SYS_PTRACE"), (21, "SYS_ADMIN"), (38, "PERFMON")];

/// Lines of /proc/PID/status (proc_pid_status(5)): the sets of capabilities, in its order, and before them the state. A name cannot
/// forge them, because the kernel writes a newline in it as `\n`. Whoever drops one from his bounding set keeps what he has of it.
const SETS: [&[u8]; 3] = [b"\nCapInh:\t", b"\nCapPrm:\t", b"\nCapBnd:\t"];
const STATE: &[u8] = b"\nState:\t";
/// Bytes of `struct linux_dirent64` before the name (getdents64(2)).
const DIRENT_HEAD: usize = 19;

/// The first such process that is not `known`, by its pid as the namespace has it. `/proc` must be the namespace's own.
///
/// # Errors
/// The errno of a look at /proc that failed: then nobody knows.
pub(crate) fn dangerous(
    own: pid_t,
    own_user_ns: u64,
    mut known: impl FnMut(pid_t) -> bool,
) -> Result<Option<pid_t>, i32> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: a static path and numbers.
    let folder = check(unsafe { libc::open(c"/proc".as_ptr(), flags) })?;
    let mut entries = [0u8; 4096];
    loop {
        // SAFETY: the buffer is as long as said.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, folder, entries.as_mut_ptr(), entries.len()) };
        let got = usize::try_from(check(c_int::try_from(got).unwrap_or(-1))?).unwrap_or(0);
        let mut rest = entries.get(..got).unwrap_or_default();
        if rest.is_empty() {
            // SAFETY: this function's own descriptor.
            unsafe { libc::close(folder) };
            return Ok(None);
        }
        while let Some((pid, after)) = next_pid(rest) {
            rest = after;
            // One in a user namespace of its own has its capabilities in there alone. One that may not be looked at has
            // more of them than this process.
            let is_dangerous = |pid| {
                capabilities(pid).is_some_and(can_take_over)
                    && matches!(user_ns(pid), Ok(ns) if ns == own_user_ns)
                    || user_ns(pid) == Err(libc::EACCES)
            };
            if let Some(pid) = pid.filter(|pid| *pid != own && is_dangerous(*pid) && !known(*pid)) {
                return Ok(Some(pid));
            }
        }
    }
}

/// Asks the launcher whether a neighbour is a process of another run's. A signal for the command that comes meanwhile is left in
/// `early`, the last one of them; the launcher gives no other answer before that run is to end.
pub(crate) fn is_ours(pid: pid_t, launcher: RawFd, early: &mut u8) -> bool {
    // SAFETY: numbers. The descriptor is this function's own, and closed when the launcher has been sent a copy.
    let asked = unsafe {
        let opened = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let pidfd = match check(c_int::try_from(opened).unwrap_or(-1)) {
            Ok(pidfd) => pidfd,
            // One that has gone does nothing any more.
            Err(errno) => return errno == libc::ESRCH,
        };
        let asked = say(launcher, [ASKS, 0], &[pidfd]);
        libc::close(pidfd);
        asked
    };
    let mut byte = END;
    while asked.is_ok() {
        // SAFETY: the buffer is as long as said. It ends with the launcher at the latest, whose run has a deadline.
        match unsafe { libc::recv(launcher, core::ptr::from_mut(&mut byte).cast(), 1, 0) } {
            1 if byte == OURS => return true,
            1 if byte != END => *early = byte,
            _ => return false,
        }
    }
    false
}

fn can_take_over(capabilities: u64) -> bool {
    TAKEOVER.iter().any(|(bit, _)| capabilities & (1 << bit) != 0)
}

/// The first entry of what getdents64(2) gave, if its name is a pid, and the entries after it.
fn next_pid(entries: &[u8]) -> Option<(Option<pid_t>, &[u8])> {
    let length = usize::from(u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]));
    let name = entries.get(DIRENT_HEAD..length)?;
    let digits = name.iter().take_while(|byte| byte.is_ascii_digit());
    let pid =
        digits.fold(0, |pid: pid_t, digit| pid.wrapping_mul(10).wrapping_add(pid_t::from(digit & 0x0f)));
    Some((name.first()?.is_ascii_digit().then_some(pid), entries.get(length..)?))
}

/// Inode of a process's user namespace, or the errno of the look.
fn user_ns(pid: pid_t) -> Result<u64, i32> {
    let path = numbered_path(pid, b"/ns/user");
    inode(CStr::from_bytes_until_nul(&path).map_err(|_| libc::ENOENT)?)
}

/// Inode of this process's, which is its stubs', too.
pub(crate) fn own_user_ns() -> Result<u64, i32> {
    inode(c"/proc/self/ns/user")
}

fn inode(path: &CStr) -> Result<u64, i32> {
    // SAFETY: zeroes are a valid `stat`, which outlives the call; the path ends in NUL.
    unsafe {
        let mut about: libc::stat = core::mem::zeroed();
        check(libc::stat(path.as_ptr(), &raw mut about))?;
        Ok(about.st_ino)
    }
}

/// None for a process that has gone. Read piece by piece, because a container chooses how long the lines before it are
/// (`Groups:`).
fn capabilities(pid: pid_t) -> Option<u64> {
    let path = numbered_path(pid, b"/status");
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    // SAFETY: the path ends in NUL.
    let file = check(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }).ok()?;
    let mut readers = SETS.map(Reader::of);
    let mut found = [None; SETS.len()];
    let found = 'read: loop {
        let mut piece = [0u8; 2048];
        // SAFETY: the buffer is as long as said.
        let got = unsafe { libc::read(file, piece.as_mut_ptr().cast(), piece.len()) };
        let piece = piece.get(..usize::try_from(got).unwrap_or(0)).unwrap_or_default();
        if piece.is_empty() {
            break None;
        }
        for byte in piece {
            for (reader, found) in readers.iter_mut().zip(&mut found).filter(|(_, found)| found.is_none()) {
                *found = reader.take(*byte);
            }
            // The last of them in the file.
            if let [inheritable, permitted, Some(bounding)] = found {
                break 'read Some(inheritable.unwrap_or(0) | permitted.unwrap_or(0) | bounding);
            }
        }
    };
    // SAFETY: this function's own descriptor.
    unsafe { libc::close(file) };
    found
}

/// Finds the number after one of the [`SETS`], byte by byte.
struct Reader {
    line: &'static [u8],
    state: usize,
    set: usize,
    value: u64,
}

impl Reader {
    fn of(line: &'static [u8]) -> Self {
        Self { line, state: 0, set: 0, value: 0 }
    }

    /// The number, once the byte after its last digit has come.
    fn take(&mut self, byte: u8) -> Option<u64> {
        // X (EXIT_DEAD): all of its threads have ended and it is being reaped, as the last run's stub may be. It makes no call
        // any more, other than a zombie, whose other threads may live.
        if self.state == STATE.len() && byte == b'X' {
            return Some(0);
        }
        advance(&mut self.state, STATE, byte);
        if self.set < self.line.len() {
            advance(&mut self.set, self.line, byte);
            return None;
        }
        match char::from(byte).to_digit(16) {
            Some(digit) => {
                self.value = self.value << 4 | u64::from(digit);
                None
            }
            None => Some(self.value),
        }
    }
}

/// No part of a line but its beginning looks like its beginning.
fn advance(matched: &mut usize, line: &[u8], byte: u8) {
    *matched = if line.get(*matched) == Some(&byte) { *matched + 1 } else { usize::from(byte == b'\n') };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounding_set_is_found_whatever_stands_before_it() {
        let groups = "7 ".repeat(10_000);
        for (text, set) in [
            ("Name:\tx\nCapBnd:\t00000000a80425fb\nCapAmb:\t0\n", Some(0xa804_25fb)),
            (&format!("Groups:\t{groups}\nCapBnd:\t1\n"), Some(1)),
            ("Name:\tx\\nCapBnd:\\t1\nCapBnd:\t2\n", Some(2)),
            ("\n\nCapB\nCapBnd:\tff\n", Some(255)),
            ("Name:\tx\nState:\tX (dead)\nCapBnd:\tff\n", Some(0)),
            ("Name:\tx\nState:\tZ (zombie)\nCapBnd:\tff\n", Some(255)),
            ("Name:\tX\nState:\tS (sleeping)\nCapBnd:\tff\n", Some(255)),
            ("CapBnd:\t1\n", None),
            ("", None),
        ] {
            let mut reader = Reader::of(SETS[2]);
            assert_eq!(text.bytes().find_map(|byte| reader.take(byte)), set, "{text:.40}");
        }
    }

    #[test]
    fn processes_are_read_from_a_real_proc() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(capabilities(own).is_some());
        assert!(user_ns(own).is_ok());
        assert_eq!(capabilities(i32::MAX), None);
        // The tests run as root on a host, where every process of root's can do everything.
        let dangerous = |known: bool| dangerous(own, user_ns(own).unwrap(), |_| known).unwrap();
        assert!(dangerous(false).is_some());
        assert_eq!(dangerous(true), None);
    }
}
