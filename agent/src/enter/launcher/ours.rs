//! Processes of other runs: the commands of this agent's probes and of people's `parachute exec`, with all that they have started, and
//! their stubs. They have root's rights over the host by themselves, so that taking over another command gives them nothing; without
//! knowing them a person at work in a container would keep every joined probe, and every other person, out of it.
//!
//! What a container says of itself does not count here. Its processes have been started by one another and, at the beginning, by
//! its runtime; those of a run by a spawner, outside of it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::readlinkat;

use super::inspect::{PARENT, folder, is_readable, namespace, pid_of, read, stat_field};

/// The spawner's program, which has no other name (proc_pid_exe(5); memfd_create(2)).
const SPAWNER: &[u8] = b"/memfd:parachute-stub (deleted)";
/// Further than this nobody is followed to where he comes from: a process that starts one that starts one, and so on.
const MOST_PARENTS: usize = 128;

/// Whether the process behind `pidfd`, which is in another pid namespace than this one, was put there by a spawner, or comes from
/// one that was. One that has ended is nobody to be afraid of, whoever's it was.
pub(super) fn is_of_a_run(pidfd: BorrowedFd<'_>) -> bool {
    comes_from_spawner(pidfd).unwrap_or(false) || is_readable(pidfd)
}

/// None where it cannot be known, as one of them has ended meanwhile.
fn comes_from_spawner(pidfd: BorrowedFd<'_>) -> Option<bool> {
    let own = namespace(&folder("/proc/self")?, "pid")?;
    let mut child = folder(&format!("/proc/{}", pid_of(pidfd)?))?;
    for _ in 0..MOST_PARENTS {
        let number = parent(&child)?;
        let parent_folder = folder(&format!("/proc/{number}"))?;
        // Once more: as long as the child has this parent, its number is nobody else's.
        if parent(&child)? != number {
            return None;
        }
        if namespace(&parent_folder, "pid")? == own {
            let program = readlinkat(&parent_folder, "exe", Vec::new()).ok()?;
            // Its stub is in the run's mounts, as it is itself; one that went to the container's mounts has the container's own
            // program run, which has no more rights than the container.
            let is_in_its_mounts = namespace(&child, "mnt")? == namespace(&parent_folder, "mnt")?;
            return Some(program.as_bytes() == SPAWNER && is_in_its_mounts);
        }
        child = parent_folder;
    }
    None
}

fn parent(of: &OwnedFd) -> Option<u64> {
    stat_field(&read(of.as_fd(), "stat").ok()?, PARENT)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    fn pid_ns(pid: &str) -> Option<u64> {
        namespace(&folder(&format!("/proc/{pid}"))?, "pid")
    }

    #[test]
    fn what_was_put_there_by_others_is_none_of_ours() {
        // A process of another pid namespace, put there by a program that is no spawner.
        let unshare = ["--pid", "--fork", "--kill-child", "sleep", "60"];
        let mut child = std::process::Command::new("unshare").args(unshare).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let inner = loop {
            let inner: Option<i32> = std::fs::read_to_string(&children).unwrap().trim().parse().ok();
            // Its number is known before it is there.
            if let Some(inner) = inner.filter(|inner| pid_ns(&inner.to_string()).is_some()) {
                break inner;
            }
        };
        let pidfd = pidfd_open(Pid::from_raw(inner).unwrap(), PidfdFlags::empty()).unwrap();
        assert_ne!(pid_ns(&inner.to_string()).unwrap(), pid_ns("self").unwrap());
        assert!(!is_of_a_run(pidfd.as_fd()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
