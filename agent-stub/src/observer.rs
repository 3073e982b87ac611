//! The observer's part of the unsafe room: the container's procfs is taken without entering its pid namespace, and the
//! run's own root is finished by the process that becomes the command, which is PID 1 of a pid namespace of its own.
//! System calls only, as in `stub`.

#![allow(unsafe_code, reason = "runs between a fork and an exec; DESIGN, law 4")]

use core::ffi::CStr;
use rustix_core::fd::{AsRawFd, RawFd};

use libc::{c_int, c_ulong};

use crate::calls::{attach, attach_to, check, errno, install_filter, mount, mount_with, open_tree, remount};
use crate::frame::Frame;
use crate::passing::send;
use crate::steps::Step;
use crate::stub::{Failure, fail};
use crate::way::Observer;

/// `PROC_SUPER_MAGIC` (linux/magic.h).
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// `PROC_ROOT_INO` (linux/proc_fs.h): any other folder of a procfs is no whole one.
const PROC_ROOT_INO: u64 = 1;

const PLAIN: c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// The container's procfs as a detached tree. To be called while this process is in none of the container's namespaces;
/// afterwards it may be in the container's mount namespace.
pub(crate) fn container_proc(frame: &Frame<'_>, observer: &Observer<'_>) -> Result<RawFd, Failure> {
    if let Some(proc) = observer.proc {
        return Ok(proc.as_raw_fd());
    }
    // SAFETY: numbers. This process has one thread and shares no file system state.
    let joined = check(unsafe { libc::setns(frame.fds.target.as_raw_fd(), libc::CLONE_NEWNS) });
    joined.map_err(|e| (Step::MountNs, e))?;
    let tree = open_tree(c"/proc").map_err(|e| (Step::ProcfsUntrusted, e))?;
    match is_whole_procfs(tree, observer) {
        Ok(true) => Ok(tree),
        Ok(false) => Err((Step::ProcfsUntrusted, libc::EINVAL)),
        Err(e) => Err((Step::ProcfsUntrusted, e)),
    }
}

/// A container with SYS_ADMIN can mount anything on its `/proc`: files of its own, a part of a procfs, or one of another
/// pid namespace.
fn is_whole_procfs(tree: RawFd, observer: &Observer<'_>) -> Result<bool, i32> {
    let (path, pid_ns) = observer.own_pid_ns;
    // SAFETY: zeroes are valid for both structs, which outlive the calls; the path ends in NUL.
    unsafe {
        let mut kind: libc::statfs = core::mem::zeroed();
        check(libc::fstatfs(tree, &raw mut kind))?;
        let mut root: libc::stat = core::mem::zeroed();
        check(libc::fstat(tree, &raw mut root))?;
        #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
        if kind.f_type as i64 != PROC_SUPER_MAGIC || root.st_ino != PROC_ROOT_INO {
            return Ok(false);
        }
        let mut namespace: libc::stat = core::mem::zeroed();
        check(libc::fstatat(tree, path.as_ptr(), &raw mut namespace, 0))?;
        Ok(namespace.st_ino == pid_ns)
    }
}

/// Finishes the run's root, as PID 1 of the run's own pid namespace.
pub(crate) fn arrange(observer: &Observer<'_>, proc: RawFd) {
    // The run's own procfs: what `self` means must be a process of this pid namespace, which the container's has none of.
    mount(c"proc", c"/.self", PLAIN | libc::MS_RDONLY).unwrap_or_else(|e| fail(Step::ShadowSelf, e));
    attach(proc, c"/proc")
        .and_then(|_| remount(c"/proc", libc::MS_PRIVATE))
        .and_then(|_| remount(c"/proc", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | PLAIN))
        .unwrap_or_else(|e| fail(Step::MountProc, e));
    for (link, over) in [(c"/.links/self", c"/proc/self"), (c"/.links/thread-self", c"/proc/thread-self")] {
        shadow(link, over).unwrap_or_else(|e| fail(Step::ShadowSelf, e));
    }
    mount(c"sysfs", c"/sys", PLAIN | libc::MS_RDONLY).unwrap_or_else(|e| fail(Step::MountSys, e));
    mount_with(c"tmpfs", c"/tmp", libc::MS_NOSUID | libc::MS_NODEV, c"size=16m,nr_inodes=4096,mode=1777")
        .and_then(|_| mount_with(c"tmpfs", c"/run", PLAIN, c"size=1m,nr_inodes=256,mode=1777"))
        .unwrap_or_else(|e| fail(Step::MountTmp, e));
    if let Some(file) = observer.resolv_conf {
        attach(file.as_raw_fd(), c"/etc/resolv.conf").unwrap_or_else(|e| fail(Step::Template, e));
    }
}

/// Mounts a link over a link.
fn shadow(link: &CStr, over: &CStr) -> Result<c_int, i32> {
    let tree = open_tree(link)?;
    // SAFETY: a NUL-terminated string and numbers.
    let onto =
        check(unsafe { libc::open(over.as_ptr(), libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) })?;
    attach_to(tree, onto)
}

/// Installs the filter and sends the descriptor on which getpid(2) is answered to this process's parent.
pub(crate) fn confine(observer: &Observer<'_>, channel: RawFd) -> Result<c_int, i32> {
    let listener = install_filter(observer.filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    send(channel, &[0], &[listener])
}

/// Whether the other end of the channel, which this process's parent alone has, is still open.
pub(crate) fn parent_lives(channel: RawFd) -> bool {
    let mut fd = libc::pollfd { fd: channel, events: 0, revents: 0 };
    // SAFETY: one pollfd on this stack.
    unsafe { libc::poll(&raw mut fd, 1, 0) };
    fd.revents & libc::POLLHUP == 0
}

/// Executes the program by its descriptor (execveat(2)): what was checked is what runs. Returns only if it failed.
pub(crate) fn execute(frame: &Frame<'_>, program: RawFd) -> i32 {
    // SAFETY: the pointers of argv and envp end in NULL and point into memory that this process has a copy of.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            frame.argv.as_ptr(),
            frame.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    errno()
}
