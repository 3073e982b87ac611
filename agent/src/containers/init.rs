//! Which process of a cgroup is the container's init. A runtime's own helpers pass through the cgroup first: runc may even
//! exec itself there, in the host's namespaces, before the container has any of its own.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::detect::Cgroup;
use crate::enter::{EnterError, Inspection, Launcher};

/// Processes looked at per container. The kernel lists them in the order of their arrival, so the init is among the first.
const MAX_CANDIDATES: usize = 64;

/// A container's init, held by its pidfd.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) pidfd: OwnedFd,
    pub(super) about: Inspection,
}

/// What a look at a cgroup came to.
#[derive(Debug)]
pub(super) enum Look {
    Found(Init),
    /// There are processes, but so far only the runtime's.
    NotYet,
    /// There is no process left.
    Empty,
}

/// Looks for the init. `strict` leaves out processes that say they are runc's; a container may call itself that to hide,
/// so it must not be believed for ever.
pub(super) async fn look(cgroup: &Cgroup, launcher: &Launcher, strict: bool) -> Result<Look, EnterError> {
    let pids = cgroup.procs();
    let mut best: Option<Init> = None;
    for pid in pids.iter().take(MAX_CANDIDATES) {
        let Some(pidfd) = i32::try_from(*pid).ok().and_then(Pid::from_raw).and_then(open) else { continue };
        let about = match launcher.inspect(pidfd.as_fd()).await {
            Ok(about) => about,
            Err(EnterError::TargetGone) => continue,
            Err(error) => return Err(error),
        };
        // Looked at again through the pidfd: the number may have come to another process since it was read.
        if !cgroup.holds(about.pid) || about.in_host_mnt_ns || (strict && is_setting_up(&about)) {
            continue;
        }
        if best.as_ref().is_none_or(|best| rank(&about) < rank(&best.about)) {
            best = Some(Init { pidfd, about });
        }
    }
    Ok(match best {
        Some(init) => Look::Found(init),
        None if pids.is_empty() => Look::Empty,
        None => Look::NotYet,
    })
}

fn open(pid: Pid) -> Option<OwnedFd> {
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Pid 1 of a pid namespace is the init; in a shared namespace it is whoever came first.
fn rank(about: &Inspection) -> (bool, u64) {
    (about.inner_pid != 1, about.start_ticks)
}

/// runc's first two stages end before the container runs; the third becomes the init by exec, when the container is
/// started and not merely created (libcontainer/nsenter/nsexec.c, libcontainer/standard_init_linux.go). Until then it has
/// all capabilities, so that a run beside it would be refused for what the container itself never has.
fn is_setting_up(about: &Inspection) -> bool {
    ["runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]"].contains(&about.comm.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(comm: &str, inner_pid: u32, start_ticks: u64) -> Inspection {
        Inspection {
            pid: 100,
            start_ticks,
            pid_ns: 0,
            net_ns: 0,
            mnt_ns: 0,
            user_ns: 0,
            in_host_mnt_ns: false,
            in_host_pid_ns: false,
            in_host_user_ns: true,
            inner_pid,
            comm: comm.into(),
            parent_cwd: None,
            cap_bounding: 0,
        }
    }

    #[test]
    fn pid_one_comes_before_older_ones_and_age_decides_the_rest() {
        let hook = about("hook", 7, 10);
        let init = about("app", 1, 20);
        let other = about("app", 9, 30);
        assert!(rank(&init) < rank(&hook) && rank(&hook) < rank(&other));
    }

    #[test]
    fn only_runcs_own_stages_are_left_out() {
        let stages = ["runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]", "nginx"];
        assert_eq!(stages.map(|comm| is_setting_up(&about(comm, 1, 0))), [true, true, true, false]);
    }
}
