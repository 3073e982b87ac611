//! Everything that the stub and the command need, prepared before the fork: after it nothing may be allocated.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use libc::c_int;

use super::limits::Limits;
use crate::config::Probe;

/// Uid and gid of the user who owns nothing (`nobody`, `nogroup`), on every distribution.
const NOBODY: u32 = 65534;

/// The whole environment of a probe's command: the same on every host, so that outputs can be parsed.
const ENVIRONMENT: [&CStr; 5] = [
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    c"LC_ALL=C",
    c"HOME=/",
    c"TERM=dumb",
    c"COLUMNS=4096",
];

/// Program, argv and environment as execve(2) wants them.
#[derive(Clone, Debug)]
pub(in crate::enter) struct Image {
    /// Tried in this order; the first that is there is executed.
    pub(in crate::enter) programs: Vec<CString>,
    pub(in crate::enter) arguments: Vec<CString>,
    pub(in crate::enter) environment: Vec<CString>,
    pub(in crate::enter) workdir: CString,
}

impl Image {
    /// `None` if an argument holds a NUL byte, which the configuration check refuses.
    pub(super) fn of(probe: &Probe) -> Option<Self> {
        Some(Self {
            programs: vec![CString::new(probe.program.as_os_str().as_bytes()).ok()?],
            arguments: probe.command.iter().map(|a| CString::new(a.as_str()).ok()).collect::<Option<_>>()?,
            environment: ENVIRONMENT.map(CStr::to_owned).to_vec(),
            workdir: c"/".to_owned(),
        })
    }
}

/// NULL-terminated pointers into `texts`, which must outlive them.
pub(super) fn pointers(texts: &[CString]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// What is joined besides the pid namespace, what is mounted, and as whom the command runs.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is one namespace or one check")]
pub(super) struct Way<'a> {
    /// `CLONE_NEW*` of the namespaces that the stub joins.
    pub(super) join: c_int,
    /// The command alone joins the user namespace: the stub keeps the rights to end it.
    pub(super) join_user: bool,
    /// The container's mount namespace as it is, in place of the template: nothing is mounted there.
    pub(super) join_mnt: bool,
    /// A detached tree to attach at `/sys`; without it a fresh sysfs is mounted.
    pub(super) sys: Option<BorrowedFd<'a>>,
    /// The detached devpts that the standard streams' pseudo-terminal belongs to: at `/dev/pts` it has a name. It becomes
    /// the command's controlling terminal.
    pub(super) devpts: Option<BorrowedFd<'a>>,
    pub(super) user: Option<Credentials<'a>>,
    /// Capabilities that stay in the bounding set.
    pub(super) bounding: u64,
    /// Whether the run is refused if another process of the pid namespace could take the command over.
    pub(super) check_neighbours: bool,
    /// Whether the command's resource limits are compared when it has ended: the container may have lowered them.
    pub(super) check_limits: bool,
    /// The command looks in from outside, and joins no pid namespace.
    pub(super) observer: Option<Observer<'a>>,
}

impl<'a> Way<'a> {
    /// How a joined probe goes.
    pub(super) fn joined(check_neighbours: bool) -> Self {
        Self {
            join: libc::CLONE_NEWNET,
            join_user: false,
            join_mnt: false,
            sys: None,
            devpts: None,
            user: None,
            bounding: u64::MAX,
            check_neighbours,
            check_limits: true,
            observer: None,
        }
    }

    /// How an observer goes: as nobody, with these capabilities and no others.
    pub(super) fn observer(observer: Observer<'a>, capabilities: u64) -> Self {
        Self {
            bounding: capabilities,
            user: Some(Credentials { uid: NOBODY, gid: NOBODY, groups: &[], kept: capabilities }),
            check_limits: false,
            observer: Some(observer),
            ..Self::joined(false)
        }
    }
}

/// What an observer needs besides.
#[derive(Debug)]
pub(super) struct Observer<'a> {
    /// A detached procfs of the container's; without it the one that the container has mounted is taken.
    pub(super) proc: Option<BorrowedFd<'a>>,
    /// Path of a pid namespace below that procfs, and the inode number that it must have.
    pub(super) own_pid_ns: (&'a CStr, u64),
    /// A detached mount of a file for `/etc/resolv.conf`.
    pub(super) resolv_conf: Option<BorrowedFd<'a>>,
    /// The program as it was checked; a script is executed by its path, which its interpreter must be able to open.
    pub(super) program: Option<BorrowedFd<'a>>,
    /// System calls that the command may not make.
    pub(super) filter: &'a [libc::sock_filter],
}

/// Whom the command becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credentials<'a> {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: &'a [libc::gid_t],
    /// The capabilities that it keeps. A process in sight of a container has at least one that the container lacks: one
    /// whose permitted set is a part of the container's can be taken over by it (ptrace(2), "Ptrace access mode
    /// checking").
    pub(super) kept: u64,
}

/// What the stub works with; all borrowed from the launcher's stack at the moment of the fork.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) programs: &'a [*const libc::c_char],
    pub(super) argv: &'a [*const libc::c_char],
    pub(super) envp: &'a [*const libc::c_char],
    pub(super) workdir: &'a CStr,
    pub(super) way: &'a Way<'a>,
    /// The container's init.
    pub(super) target: BorrowedFd<'a>,
    pub(super) template: BorrowedFd<'a>,
    /// Standard input, output and error.
    pub(super) stdio: [BorrowedFd<'a>; 3],
    /// Read end: a byte is a signal for the command; its end is the run's.
    pub(super) leash: BorrowedFd<'a>,
    /// Write end: takes the one record.
    pub(super) status: BorrowedFd<'a>,
    pub(super) cgroup: BorrowedFd<'a>,
    pub(super) cgroup_procs: BorrowedFd<'a>,
    pub(super) cgroup_kill: Option<BorrowedFd<'a>>,
    /// `clone3(CLONE_INTO_CGROUP)` works with `cgroup`.
    pub(super) unified: bool,
    /// `cgroup.procs` of the cgroups that limit the run, where those are others: cgroup v1 has one for each controller.
    pub(super) limiting: [Option<BorrowedFd<'a>>; 3],
    /// Resource limits as they were before any of the run was in sight of the container.
    pub(super) limits: Limits,
}

impl Frame<'_> {
    /// The fds above, ascending: all others are closed in the stub. Unused places repeat one.
    pub(super) fn kept(&self) -> [RawFd; 18] {
        let [stdin, stdout, stderr] = self.stdio;
        let [memory, pids, cpu] = self.limiting.map(|fd| fd.unwrap_or(self.status));
        let observer = self.way.observer.as_ref();
        let mut all = [
            self.target,
            self.template,
            stdin,
            stdout,
            stderr,
            self.leash,
            self.status,
            self.cgroup,
            self.cgroup_procs,
            self.cgroup_kill.unwrap_or(self.status),
            self.way.sys.unwrap_or(self.status),
            self.way.devpts.unwrap_or(self.status),
            memory,
            pids,
            cpu,
            observer.and_then(|observer| observer.proc).unwrap_or(self.status),
            observer.and_then(|observer| observer.resolv_conf).unwrap_or(self.status),
            observer.and_then(|observer| observer.program).unwrap_or(self.status),
        ]
        .map(|fd| fd.as_raw_fd());
        all.sort_unstable();
        all
    }
}
