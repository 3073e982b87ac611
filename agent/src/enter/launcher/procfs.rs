//! The container's processes for an observer: an instance of procfs for its pid namespace, made from outside. Whoever
//! takes the instance that the container itself has mounted is the stub, since the container's mounts may hang.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_string,
    fsmount, fsopen,
};

use super::inspect::Target;
use crate::model::Way;

/// Which way this kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::enter) enum Procfs {
    /// `fsconfig(FSCONFIG_SET_FD, "pidns")` (kernel commit fe49652e36bb, Linux 6.18).
    Pidns,
    /// What is mounted on the container's `/proc`, after a check (open_tree(2), Linux 5.2).
    Mounted,
}

impl Procfs {
    /// Tries it on this process's own pid namespace.
    pub(in crate::enter) fn find() -> Self {
        let tried = File::open("/proc/self/ns/pid").and_then(|own| instance(own.as_fd()));
        if tried.is_ok() { Self::Pidns } else { Self::Mounted }
    }

    pub(super) fn way(self) -> Way {
        match self {
            Self::Pidns => Way::ObserverPidns,
            Self::Mounted => Way::ObserverMount,
        }
    }
}

/// A detached, read-only mount of procfs for the target's pid namespace.
pub(super) fn of(target: &Target) -> io::Result<OwnedFd> {
    let namespace = File::open(format!("/proc/{}/ns/pid", target.pid))?;
    // The pid may have become another process's in between; then the number differs.
    if rustix::fs::fstat(&namespace)?.st_ino != target.pid_ns {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    instance(namespace.as_fd())
}

fn instance(pid_namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // What /proc/mounts names it by.
    fsconfig_set_string(context.as_fd(), "source", "proc")?;
    fsconfig_set_fd(context.as_fd(), "pidns", pid_namespace)?;
    fsconfig_create(context.as_fd())?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}
