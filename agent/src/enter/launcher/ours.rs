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
/// one that was.
pub(super) fn is_of_a_run(pidfd: BorrowedFd<'_>) -> bool {
    let comes_from_spawner = || -> io::Result<bool> {
        let own = pid_ns("self")?;
        let mut child = pid_of(pidfd).ok_or(io::ErrorKind::NotFound)?.to_string();
        for _ in 0..MOST_PARENTS {
            let parent = parent(&child)?;
            let is_outside = pid_ns(&parent)? == own;
            let program =
                is_outside.then(|| std::fs::read_link(format!("/proc/{parent}/exe"))).transpose()?;
            // Once more: as long as the child has it, its number is nobody else's.
            if self::parent(&child)? != parent {
                return Ok(false);
            }
            if let Some(program) = program {
                return Ok(program.as_os_str() == SPAWNER);
            }
            child = parent;
        }
        Ok(false)
    };
    comes_from_spawner().unwrap_or(false) && !is_readable(pidfd)
}

fn parent(pid: &str) -> io::Result<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    Ok(stat_field(&String::from_utf8_lossy(&stat), PARENT).unwrap_or_default().to_string())
}

/// The inode of a process's pid namespace.
fn pid_ns(pid: &str) -> io::Result<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/pid")).map(|about| about.ino())
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
            if let Some(inner) = inner.filter(|inner| pid_ns(&inner.to_string()).is_ok()) {
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
