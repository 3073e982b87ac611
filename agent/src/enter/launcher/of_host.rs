//! Targets that are no containers: the host's own processes, such as a service's.
//!
//! A container that could take over a process beside it is refused, because the process has what the container has not: the
//! host's files, and rights over the host's other processes. A process of the host that sees all the others and may have
//! SYS_PTRACE among them lacks none of that: it could take over the first process, and this one. A run beside it gives it
//! nothing that it has not, so that refusing would protect nothing, and most services could not be looked into at all.
//!
//! Which process is one of the host's is not believed of the agent. Its mounts are the host's, or else the configuration
//! names it, as it is read here: a service may have mounts of its own (`ProtectSystem=`), and so has a container that shares
//! the host's processes, for which the rule stays as it is.

use std::os::fd::BorrowedFd;

use super::inspect::{Own, Target, is_among_the_hosts_mounts, is_readable, read_cgroups};
use crate::config::{Targets, read_pid_file};

/// CAP_SYS_PTRACE (linux/capability.h).
const SYS_PTRACE: u32 = 19;

/// Whether a run beside this process gives it nothing. A few reads of /proc, which are not made for a usual container.
pub(super) fn is_one(about: &Target, target: BorrowedFd<'_>, own: &Own, targets: &Targets) -> bool {
    let sees_all = about.in_host_pid_ns && about.in_host_user_ns;
    if !sees_all || about.cap_bounding & (1 << SYS_PTRACE) == 0 {
        return false;
    }
    let is_one = is_among_the_hosts_mounts(about.pid, own) || is_named(about.pid, targets);
    // It lives, so that all this was read of no successor with its number.
    is_one && !is_readable(target)
}

fn is_named(pid: u32, targets: &Targets) -> bool {
    let by_file = |path: &std::path::PathBuf| read_pid_file(path).is_ok_and(|number| number == pid);
    // hierarchy-ID:controllers:path, cgroups(7).
    let is_group = |path: &str| is_group(path, targets);
    let cgroups = read_cgroups(pid);
    targets.pid_files.iter().any(by_file)
        || cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(is_group)
}

/// Whether a cgroup with this path is one of a target that is no container, and of none in it: every runtime calls its
/// containers by 64 hexadecimal digits.
fn is_group(path: &str, targets: &Targets) -> bool {
    let of_target = targets.aimed(path).filter(|aimed| !aimed.kind.is_container());
    let below = of_target.and_then(|aimed| path.get(aimed.end..));
    below.is_some_and(|below| !below.split(|c: char| !c.is_ascii_hexdigit()).any(|part| part.len() == 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_in_a_services_cgroup_is_none_of_the_hosts() {
        let services = globset::Glob::new("containerd.service").unwrap().compile_matcher();
        let targets = Targets { services: vec![services], ..Targets::default() };
        let id = "560e3e12b1e0dafa161e62fb3327ad65c98b7cd53849b17c627e8d3e1d419d6a";
        for (below, is) in [
            ("", true),
            ("/helper", true),
            (&*format!("/{id}"), false),
            (&format!("/cri-containerd-{id}.scope/init"), false),
        ] {
            let path = format!("/system.slice/containerd.service{below}");
            assert_eq!(is_group(&path, &targets), is, "{path}");
        }
        assert!(!is_group("/system.slice/other.service", &targets));
    }
}
