//! Everything that the stub and the command need, prepared before the fork: after it nothing may be allocated.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use crate::config::Probe;

/// The whole environment of a command: the same on every host, so that outputs can be parsed.
const ENVIRONMENT: [&CStr; 5] = [
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    c"LC_ALL=C",
    c"HOME=/",
    c"TERM=dumb",
    c"COLUMNS=4096",
];

/// Program, argv and environment as execve(2) wants them.
#[derive(Debug)]
pub(super) struct Image {
    program: CString,
    arguments: Vec<CString>,
}

impl Image {
    /// `None` if an argument holds a NUL byte, which the configuration check refuses.
    pub(super) fn of(probe: &Probe) -> Option<Self> {
        Some(Self {
            program: CString::new(probe.program.as_os_str().as_bytes()).ok()?,
            arguments: probe.command.iter().map(|a| CString::new(a.as_str()).ok()).collect::<Option<_>>()?,
        })
    }

    pub(super) fn program(&self) -> &CStr {
        &self.program
    }

    /// NULL-terminated pointers into `self`, which must outlive them.
    pub(super) fn argv(&self) -> Vec<*const libc::c_char> {
        self.arguments.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect()
    }

    pub(super) fn envp() -> Vec<*const libc::c_char> {
        ENVIRONMENT.iter().map(|e| e.as_ptr()).chain([std::ptr::null()]).collect()
    }
}

/// What the stub works with; all borrowed from the launcher's stack at the moment of the fork.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) program: &'a CStr,
    pub(super) argv: &'a [*const libc::c_char],
    pub(super) envp: &'a [*const libc::c_char],
    /// The container's init.
    pub(super) target: BorrowedFd<'a>,
    pub(super) template: BorrowedFd<'a>,
    pub(super) null: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    /// Read end: closes when the run is to end.
    pub(super) leash: BorrowedFd<'a>,
    /// Write end: takes the one record.
    pub(super) status: BorrowedFd<'a>,
    pub(super) cgroup: BorrowedFd<'a>,
    pub(super) cgroup_procs: BorrowedFd<'a>,
    pub(super) cgroup_kill: Option<BorrowedFd<'a>>,
    /// `clone3(CLONE_INTO_CGROUP)` works with `cgroup`.
    pub(super) unified: bool,
}

impl Frame<'_> {
    /// The fds above, ascending: all others are closed in the stub. Unused places repeat the last one.
    pub(super) fn kept(&self) -> [RawFd; 10] {
        let mut kept = [
            self.target,
            self.template,
            self.null,
            self.stdout,
            self.stderr,
            self.leash,
            self.status,
            self.cgroup,
            self.cgroup_procs,
            self.cgroup_kill.unwrap_or(self.cgroup_procs),
        ]
        .map(|fd| fd.as_raw_fd());
        kept.sort_unstable();
        kept
    }
}
