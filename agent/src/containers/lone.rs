//! A process that is looked into as if it were a container, by a verb that looks and leaves: no registry knows it, and no
//! cgroup stands for it.

use std::os::fd::OwnedFd;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;

use crate::enter::Inspection;
use crate::model::{Container, ContainerId, Metadata, Runtime};

/// The process behind `pidfd`, which has been found to be `about`; `name` is what its container's would be.
pub fn lone(id: ContainerId, pidfd: OwnedFd, about: &Inspection, runtime: Runtime, name: &str) -> Container {
    Container {
        id,
        pidfd,
        pid: about.pid,
        pid_start_ticks: about.start_ticks,
        start_ticks: about.start_ticks,
        cgroup_id: 0,
        cgroup_path: String::new(),
        pid_ns: about.pid_ns,
        net_ns: about.net_ns,
        shares: about.shares(),
        runtime,
        cgroup_pod_uid: None,
        up_at: SystemTime::now(),
        metadata: ArcSwapOption::from_pointee(Metadata { container: name.into(), ..Metadata::default() }),
    }
}
