//! Processes of other runs: the commands of this agent's probes and of people's `parachute exec`, with all that they have started, and
//! their stubs. They have root's rights over the host by themselves, so that taking over another command gives them nothing; without
//! knowing them a person at work in a container would keep every joined probe, and every other person, out of it.
//!
//! What a container says of itself does not count here. Its processes have been started by one another and, at the beginning, by
//! its runtime; those of a run by a spawner, outside of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;

use super::inspect::{PARENT, is_readable, pid_of, stat_field};

/// The spawner's program, which has no other name (proc_pid_exe(5); memfd_create(2)).
const SPAWNER: &str = "/memfd:parachute-stub (deleted)";
/// Further than this nobody is followed to where he comes from: a process that starts one that starts one, and so on.
const MOST_PARENTS: usize = 128;

/// Whether the process behind `pidfd`, which is in another pid namespace than this one, was put there by a spawner, or comes from
/// one that was. One that has ended is nobody to be afraid of, whoever's it was.
pub(super) fn is_of_a_run(pidfd: BorrowedFd<'_>) -> bool {
    comes_from_spawner(pidfd).unwrap_or(false) || is_readable(pidfd)
}

fn comes_from_spawner(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    let own = namespace("self", "pid")?;
    let mut chain = vec![pid_of(pidfd).ok_or(io::ErrorKind::NotFound)?.to_string()];
    while let Some(child) = chain.last().filter(|_| chain.len() <= MOST_PARENTS) {
        let parent = parent(child)?;
        if namespace(&parent, "pid")? != own {
            chain.push(parent);
            continue;
        }
        let is_spawner = std::fs::read_link(format!("/proc/{parent}/exe"))?.as_os_str() == SPAWNER;
        // Its stub is in the run's mounts, as it is itself; one that went to the container's mounts has the container's own program
        // run, which has no more rights than the container.
        let is_in_its_mounts = namespace(child, "mnt")? == namespace(&parent, "mnt")?;
        chain.push(parent);
        // Once more: whose child was there all the while has been nobody else, and the first of them is held.
        let links = chain.windows(2);
        let lasted =
            |link: &[String]| matches!(link, [child, of] if self::parent(child).is_ok_and(|now| now == *of));
        return Ok(is_spawner && is_in_its_mounts && links.rev().all(lasted));
    }
    Ok(false)
}

fn parent(pid: &str) -> io::Result<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    Ok(stat_field(&String::from_utf8_lossy(&stat), PARENT).unwrap_or_default().to_string())
}

/// The inode of a process's namespace.
fn namespace(pid: &str, kind: &str) -> io::Result<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).map(|about| about.ino())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn what_was_put_there_by_others_is_none_of_ours() {
        // A process of another pid namespace, put there by a program that is no spawner.
        let unshare = ["--pid", "--fork", "--kill-child", "sleep", "60"];
        let mut child = std::process::Command::new("unshare").args(unshare).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let inner = loop {
            let inner: Option<i32> = std::fs::read_to_string(&children).unwrap().trim().parse().ok();
            // Its number is known before it is there.
            if let Some(inner) = inner.filter(|inner| namespace(&inner.to_string(), "pid").is_ok()) {
                break inner;
            }
        };
        let pidfd = pidfd_open(Pid::from_raw(inner).unwrap(), PidfdFlags::empty()).unwrap();
        assert_ne!(namespace(&inner.to_string(), "pid").unwrap(), namespace("self", "pid").unwrap());
        assert!(!is_of_a_run(pidfd.as_fd()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
