//! Which process of a cgroup is the container's init. A runtime's own helpers pass through the cgroup first: runc may even
//! exec itself there, in the host's namespaces, before the container has any of its own.
//!
//! A service's is the process that stands for it: the oldest of those whose parent is not in it. That is the one which its
//! systemd has started (`MainPID`), or which has come of that by daemon(3); before, it is a helper of `ExecStartPre=`. They
//! come and go within one life of the service. systemd is not asked: it is there to be asked over D-Bus alone, and a process
//! that has the service's namespaces and lives is all that is needed.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::detect::Cgroup;
use crate::enter::{EnterError, Inspection, Launcher};
use crate::model::Runtime;

/// Processes looked at per container. The kernel lists those of one cgroup in the order of their arrival, so the init is among
/// the first there. What has a systemd inside has many cgroups, and processes are put in order before some are left out.
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
    let kind = cgroup.named.runtime;
    let mut pids = cgroup.procs();
    if pids.len() > MAX_CANDIDATES && kind != Runtime::Systemd {
        pids.sort_by_cached_key(|pid| {
            place(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
        });
    }
    let mut best: Option<Init> = None;
    for pid in pids.iter().take(MAX_CANDIDATES) {
        let Some(pidfd) = i32::try_from(*pid).ok().and_then(Pid::from_raw).and_then(open) else { continue };
        let about = match launcher.inspect(pidfd.as_fd()).await {
            Ok(about) => about,
            Err(EnterError::TargetGone) => continue,
            Err(error) => return Err(error),
        };
        // Looked at again through the pidfd: the number may have come to another process since it was read.
        // A container's own helpers, such as the supervisor of a machine, are in the host's namespace; services may well be.
        let is_helper = about.in_host_mnt_ns && kind.is_container();
        if !cgroup.holds(about.pid) || is_helper || (strict && is_setting_up(&about, kind)) {
            continue;
        }
        let rank = |about: &Inspection| rank(about, kind, pids.contains(&about.parent));
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

/// Where a process with this text in `/proc/PID/status` stands among the candidates: the first of its pid namespace comes first,
/// and of several the one whose namespace has the fewest around it. All others stay as the kernel lists them.
fn place(status: &str) -> (bool, usize) {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    match numbers.split_whitespace().last() {
        Some("1") => (false, numbers.split_whitespace().count()),
        _ => (true, 0),
    }
}

/// Pid 1 of a pid namespace is the init; in a shared namespace it is whoever came first. In a service it may be a sandbox
/// that the service has made for something: whose parent is outside comes first there. A cgroup that was named by its path
/// may hold either.
fn rank(about: &Inspection, kind: Runtime, parent_inside: bool) -> (bool, bool, u64) {
    let is_first = about.inner_pid == 1 && kind != Runtime::Systemd;
    (!is_first, parent_inside && !kind.is_container(), about.start_ticks)
}

/// runc's first two stages end before the container runs; the third becomes the init by exec, when the container is
/// started and not merely created (libcontainer/nsenter/nsexec.c, libcontainer/standard_init_linux.go). Until then it has
/// all capabilities, so that a run beside it would be refused for what the container itself never has.
///
/// systemd's child is called by what it will execute, in parentheses (`rename_process_from_path` in src/core/exec-invoke.c).
/// From version 255 on it is a program of its own, which has the number of a descriptor for a name until it calls itself so, as
/// it is executed by `/proc/self/fd/N` (`exec_spawn` in src/core/execute.c). All this while it is in the host's namespaces.
fn is_setting_up(about: &Inspection, kind: Runtime) -> bool {
    let comm = about.comm.as_str();
    if kind.is_container() {
        ["runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]"].contains(&comm)
    } else if kind == Runtime::Systemd {
        about.is_executor || (comm.starts_with('(') && comm.ends_with(')'))
    } else {
        // unshare(1) is in the old namespaces still, and if it forks it stays there.
        comm == "unshare"
    }
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
            in_host_net_ns: false,
            in_host_pid_ns: false,
            in_host_user_ns: true,
            inner_pid,
            comm: comm.into(),
            is_executor: false,
            parent: 0,
            parent_cwd: None,
            cap_bounding: 0,
        }
    }

    #[test]
    fn pid_one_comes_before_older_ones_and_age_decides_the_rest() {
        let hook = about("hook", 7, 10);
        let init = about("app", 1, 20);
        let other = about("app", 9, 30);
        let rank = |about| rank(about, Runtime::Containerd, false);
        assert!(rank(&init) < rank(&hook) && rank(&hook) < rank(&other));
    }

    #[test]
    fn the_first_of_the_outermost_namespace_is_looked_at_before_others() {
        let status = |numbers: &str| place(&format!("Name:\tapp\nNSpid:\t{numbers}\nNSsid:\t1\n"));
        let (init, nested, service) = (status("500\t1"), status("600\t40\t1"), status("501\t11"));
        assert!(init < nested && nested < service);
        assert_eq!((service, service), (status("502\t2\t3"), place("")), "these keep their order");
    }

    #[test]
    fn a_services_is_the_oldest_whose_parent_is_outside() {
        let (main, old_worker, sandbox) = (about("app", 70, 30), about("app", 71, 10), about("app", 1, 20));
        let service = |about, inside| rank(about, Runtime::Systemd, inside);
        assert!(service(&main, false) < service(&old_worker, true));
        assert!(service(&main, false) < service(&sandbox, true));
        let cgroup = |about, inside| rank(about, Runtime::Cgroup, inside);
        assert!(cgroup(&sandbox, true) < cgroup(&main, false), "unshare's child, and not unshare");
    }

    #[test]
    fn only_runcs_own_stages_are_left_out() {
        let stages = ["runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]", "nginx"];
        let setting_up = |comm: &str, kind| is_setting_up(&about(comm, 1, 0), kind);
        assert_eq!(stages.map(|comm| setting_up(comm, Runtime::Containerd)), [true, true, true, false]);
        let stages = ["(nginx)", "nginx", "(sd-x", "runc:[0:PARENT]"];
        assert_eq!(stages.map(|comm| setting_up(comm, Runtime::Systemd)), [true, false, false, false]);
        let executor = Inspection { is_executor: true, ..about("9", 1, 0) };
        assert!(is_setting_up(&executor, Runtime::Systemd) && !is_setting_up(&executor, Runtime::Containerd));
        assert!(!setting_up("(nginx)", Runtime::Lxc) && !setting_up("(nginx)", Runtime::Cgroup));
        assert!(setting_up("unshare", Runtime::Cgroup) && !setting_up("unshare", Runtime::Systemd));
    }
}
