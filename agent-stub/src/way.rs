//! How a run goes: what is joined, what is mounted, as whom the command runs, and the descriptors that it takes.

use core::ffi::CStr;
use rustix_core::fd::BorrowedFd;

use libc::c_int;

use crate::layout::LIMITING;

/// Uid and gid of the user who owns nothing (`nobody`, `nogroup`), on every distribution.
const NOBODY: u32 = 65534;

/// What is joined besides the pid namespace, what is mounted, and as whom the command runs.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is one namespace or one check")]
pub struct Way<'a> {
    /// `CLONE_NEW*` of the namespaces that the stub joins.
    pub join: c_int,
    /// The command alone joins the user namespace: the stub keeps the rights to end it.
    pub join_user: bool,
    /// The container's mount namespace as it is, in place of the template: nothing is mounted there.
    pub join_mnt: bool,
    /// A detached tree to attach at `/sys`; without it a fresh sysfs is mounted.
    pub sys: Option<BorrowedFd<'a>>,
    /// The detached devpts that the standard streams' pseudo-terminal belongs to: at `/dev/pts` it has a name. It becomes
    /// the command's controlling terminal.
    pub devpts: Option<BorrowedFd<'a>>,
    pub user: Option<Credentials<'a>>,
    /// Capabilities that stay in the bounding set.
    pub bounding: u64,
    /// Whether the run is refused if another process of the pid namespace could take the command over.
    pub check_neighbours: bool,
    /// Whether the command's resource limits are compared when it has ended: the container may have lowered them.
    pub check_limits: bool,
    /// The command looks in from outside, and joins no pid namespace.
    pub observer: Option<Observer<'a>>,
}

impl<'a> Way<'a> {
    /// How a joined probe goes.
    pub fn joined(check_neighbours: bool) -> Self {
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
    pub fn observer(observer: Observer<'a>, capabilities: u64) -> Self {
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
#[derive(Clone, Copy, Debug)]
pub struct Observer<'a> {
    /// A detached procfs of the container's; without it the one that the container has mounted is taken.
    pub proc: Option<BorrowedFd<'a>>,
    /// Path of a pid namespace below that procfs, and the inode number that it must have.
    pub own_pid_ns: (&'a CStr, u64),
    /// A detached mount of a file for `/etc/resolv.conf`.
    pub resolv_conf: Option<BorrowedFd<'a>>,
    /// The program as it was checked; a script is executed by its path, which its interpreter must be able to open.
    pub program: Option<BorrowedFd<'a>>,
    /// The spawner itself is the command's parent: nobody in the container sees it, and it has no namespace to join, as the
    /// procfs is there already.
    pub without_stub: bool,
    /// System calls that the command may not make.
    pub filter: &'a [libc::sock_filter],
}

/// Whom the command becomes.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'a [libc::gid_t],
    /// The capabilities that it keeps. A process in sight of a container has at least one that the container lacks: one
    /// whose permitted set is a part of the container's can be taken over by it (ptrace(2), "Ptrace access mode
    /// checking").
    pub kept: u64,
}

/// The descriptors that every run needs.
#[derive(Clone, Copy, Debug)]
pub struct Fds<'a> {
    /// The container's init.
    pub target: BorrowedFd<'a>,
    pub template: BorrowedFd<'a>,
    /// Standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
    pub cgroup: BorrowedFd<'a>,
    pub cgroup_procs: BorrowedFd<'a>,
    pub cgroup_kill: Option<BorrowedFd<'a>>,
    /// `tasks` of the cgroups that limit the run, where those are others: cgroup v1 has one for each controller.
    pub limiting: [Option<BorrowedFd<'a>>; LIMITING],
}
