//! Reads of /proc what the agent has no right to read: a process's namespaces, capabilities and parent.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, readlinkat, statat};
use rustix::process::Signal;

use super::super::Inspection;
use super::roots::hosts_mounts;

/// Files of /proc are read up to this many bytes; the ones read here are far smaller.
const MAX_FILE: u64 = 64 * 1024;
/// They say no length, and are read in one piece if they fit into this.
const USUAL_FILE: usize = 4096;

/// Fields of `/proc/PID/stat` by their numbers in proc_pid_stat(5): `ppid`, `flags`, and `starttime` in clock ticks since boot.
pub(super) const PARENT: usize = 4;
const FLAGS: usize = 9;
pub(super) const START_TICKS: usize = 22;

/// Everything known of the process behind `pidfd`; `None` when it has gone.
pub(in crate::enter) fn inspect(pidfd: BorrowedFd<'_>, own: &Own) -> Option<Inspection> {
    let pid = pid_of(pidfd)?;
    let proc = folder(&format!("/proc/{pid}"))?;
    let status = read(proc.as_fd(), "status").ok()?;
    let stat = read(proc.as_fd(), "stat").ok()?;
    // Before the namespaces: what it has when it is no executor any more it keeps.
    let is_executor = is_executor(&proc, &stat);
    let field = |name: &str| field(&status, name);
    let mnt_ns = namespace(&proc, "mnt")?;
    let net_ns = namespace(&proc, "net")?;
    let user_ns = namespace(&proc, "user")?;
    let pid_ns = namespace(&proc, "pid")?;
    let parent: u32 = field("PPid")?.parse().ok()?;
    let inspection = Inspection {
        pid,
        start_ticks: stat_field(&stat, START_TICKS)?,
        pid_ns,
        net_ns,
        mnt_ns,
        user_ns,
        in_host_pid_ns: own.pid_ns == pid_ns,
        in_host_net_ns: own.net_ns == net_ns || own.first_net_ns == Some(net_ns),
        // Those that this process is among now, which need not be those that it was started among.
        in_host_mnt_ns: [namespace(&folder("/proc/self")?, "mnt"), hosts_mounts()].contains(&Some(mnt_ns)),
        in_host_user_ns: own.user_ns == user_ns,
        inner_pid: field("NSpid")?.split_whitespace().last()?.parse().ok()?,
        comm: field("Name")?.to_owned(),
        is_executor,
        parent,
        parent_cwd: readlinkat(CWD, format!("/proc/{parent}/cwd"), Vec::new())
            .ok()
            .and_then(|path| path.into_string().ok())
            .map(PathBuf::from),
        cap_bounding: capabilities(&status)?,
    };
    // It has not ended yet: so `proc` was its folder all the while, and not that of a successor with its pid.
    (!is_readable(pidfd)).then_some(inspection)
}

/// systemd's child before it executes a service's program, in whose cgroup it is already: from version 255 on a program of
/// its own, the one that was there when systemd was started, and until then systemd itself. What has this name for
/// good, as a user's own systemd has, has been executed (PF_FORKNOEXEC of linux/sched.h).
fn is_executor(proc: &OwnedFd, stat: &str) -> bool {
    const PF_FORKNOEXEC: u64 = 0x40;
    let path = readlinkat(proc, "exe", Vec::new()).unwrap_or_default();
    let path = path.to_string_lossy();
    match path.strip_suffix(" (deleted)").unwrap_or(&path).rsplit('/').next() {
        Some("systemd-executor") => true,
        Some("systemd") => stat_field(stat, FLAGS).is_some_and(|flags| flags & PF_FORKNOEXEC != 0),
        _ => false,
    }
}

/// What a run has to know of its container's first process, looked up for each run: capabilities can be dropped, and
/// namespaces left, at any time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) pid: u32,
    pub(super) pid_ns: u64,
    pub(super) inner_pid: u32,
    pub(super) in_host_pid_ns: bool,
    pub(super) in_host_user_ns: bool,
    pub(super) cap_bounding: u64,
}

/// This process's own namespaces: those that it never leaves, and the mounts that its commands are made of at its start.
#[derive(Debug)]
#[allow(clippy::struct_field_names, reason = "each is a namespace")]
pub(in crate::enter) struct Own {
    pid_ns: u64,
    user_ns: u64,
    mnt_ns: u64,
    net_ns: u64,
    /// Of the first process that is to be seen; none where nobody may look at that.
    first_net_ns: Option<u64>,
}

impl Own {
    /// Without it every container would count as one of another user namespace, of which nothing is to be feared.
    pub(in crate::enter) fn find() -> io::Result<Self> {
        let inode = |name: &str| std::fs::metadata(format!("/proc/self/ns/{name}")).map(|about| about.ino());
        Ok(Self {
            pid_ns: inode("pid")?,
            user_ns: inode("user")?,
            mnt_ns: inode("mnt")?,
            net_ns: inode("net")?,
            first_net_ns: folder("/proc/1").and_then(|first| namespace(&first, "net")),
        })
    }
}

/// `None` when the process behind `pidfd` has gone.
pub(super) fn target(pidfd: BorrowedFd<'_>, own: &Own) -> Option<Target> {
    let pid = pid_of(pidfd)?;
    let proc = folder(&format!("/proc/{pid}"))?;
    let status = read(proc.as_fd(), "status").ok()?;
    let pid_ns = namespace(&proc, "pid")?;
    let target = Target {
        pid,
        pid_ns,
        inner_pid: field(&status, "NSpid")?.split_whitespace().last()?.parse().ok()?,
        in_host_pid_ns: own.pid_ns == pid_ns,
        in_host_user_ns: own.user_ns == namespace(&proc, "user")?,
        cap_bounding: capabilities(&status)?,
    };
    // It has not ended yet: so `proc` was its folder all the while, and not that of a successor with its pid.
    (!is_readable(pidfd)).then_some(target)
}

/// Whether the process with this number has the mounts that this one was started among, or the host's.
pub(super) fn is_among_the_hosts_mounts(pid: u32, own: &Own) -> bool {
    let mounts = folder(&format!("/proc/{pid}")).and_then(|proc| namespace(&proc, "mnt"));
    mounts.is_some() && [Some(own.mnt_ns), hosts_mounts()].contains(&mounts)
}

/// `/proc/PID/cgroup`; empty where there is none.
pub(super) fn read_cgroups(pid: u32) -> String {
    read(CWD, &format!("/proc/{pid}/cgroup")).unwrap_or_default()
}

pub(super) fn folder(path: &str) -> Option<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// The inode number of a namespace of the process whose folder this is.
pub(super) fn namespace(of: &OwnedFd, name: &str) -> Option<u64> {
    statat(of, format!("ns/{name}"), AtFlags::empty()).ok().map(|about| about.st_ino)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// All that it can come to have: whoever drops a capability from his bounding set keeps what he has of it (capabilities(7)).
fn capabilities(status: &str) -> Option<u64> {
    ["CapInh", "CapPrm", "CapBnd"]
        .iter()
        .try_fold(0, |all, set| Some(all | u64::from_str_radix(field(status, set)?, 16).ok()?))
}

/// True when the process behind `pidfd` has gone or is on its way out. The init of a pid namespace stays unreaped, and
/// its pidfd unreadable, until it has killed all others in it: PF_EXITING (linux/sched.h) tells that before.
pub(in crate::enter) fn is_exiting(pidfd: BorrowedFd<'_>) -> bool {
    const PF_EXITING: u64 = 0x4;
    let flags =
        || -> Option<u64> { stat_field(&read(CWD, &format!("/proc/{}/stat", pid_of(pidfd)?)).ok()?, FLAGS) };
    flags().is_none_or(|flags| flags & PF_EXITING != 0)
}

/// A numeric field from the fourth on. The command's name, the second, may hold blanks and parentheses: counting begins
/// after its last one.
pub(super) fn stat_field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// True when there is something to read from a pipe, its end too, or when the process of a pidfd has ended.
pub(super) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}

/// The host pid of a pidfd, from the `Pid:` line of its fdinfo (pidfd_open(2)); `None` when it has gone (-1).
pub(super) fn pid_of(pidfd: BorrowedFd<'_>) -> Option<u32> {
    let info = read(CWD, &format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim();
    pid.parse().ok().filter(|pid| *pid > 0)
}

/// Ends a process through its pidfd; that it has gone already is as good.
pub(super) fn signal(pidfd: BorrowedFd<'_>, signal: Signal) {
    let _ = rustix::process::pidfd_send_signal(pidfd, signal);
}

pub(super) fn read(folder: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    let file = openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::with_capacity(USUAL_FILE);
    File::from(file).take(MAX_FILE).read_to_end(&mut bytes)?;
    // A process's name in it is the container's choice, and need not be UTF-8.
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn what_systemd_executes_with_is_known_though_it_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("systemd-executor");
        std::fs::copy("/bin/sleep", &program).unwrap();
        // Another test's child may have the copy open for writing until it is executed itself.
        let mut child = loop {
            match std::process::Command::new(&program).arg("60").spawn() {
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                child => break child.unwrap(),
            }
        };
        let pidfd = pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(inspect(pidfd.as_fd(), &Own::find().unwrap()).unwrap().is_executor);
        std::fs::remove_file(&program).unwrap();
        assert!(inspect(pidfd.as_fd(), &Own::find().unwrap()).unwrap().is_executor);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_is_described_while_it_lives_and_not_after() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let mut got = inspect(pidfd.as_fd(), &Own::find().unwrap());
        // Between fork and exec the child still has our name.
        for _ in 0..1000 {
            if got.as_ref().is_some_and(|i| i.comm == "sleep") {
                break;
            }
            got = inspect(pidfd.as_fd(), &Own::find().unwrap());
        }
        let got = got.unwrap();
        assert_eq!((got.pid, got.comm.as_str(), got.is_executor), (child.id(), "sleep", false));
        assert!(got.in_host_mnt_ns && got.start_ticks > 0);
        assert_eq!(got.parent_cwd, std::env::current_dir().ok());
        let target = target(pidfd.as_fd(), &Own::find().unwrap()).unwrap();
        assert_eq!((target.pid, target.pid_ns, target.inner_pid), (got.pid, got.pid_ns, got.inner_pid));
        assert_eq!(
            (target.in_host_pid_ns, target.in_host_user_ns, target.cap_bounding),
            (got.in_host_pid_ns, got.in_host_user_ns, got.cap_bounding)
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(inspect(pidfd.as_fd(), &Own::find().unwrap()).is_none());
        assert!(super::target(pidfd.as_fd(), &Own::find().unwrap()).is_none());
    }
}
