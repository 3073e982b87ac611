//! Where cgroups are counted from. In a container of a node with cgroup v2, runtimes give a process a cgroup namespace of its
//! own, in which the kernel tells the paths of all other cgroups as seen from the container's.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use nix::sched::{CloneFlags, setns};

use crate::config::on_the_host;

/// Counts them as the host does, if this process is in a container and may. To be called while there is one thread.
pub fn see_all_cgroups() {
    let Ok(Some(process)) = on_the_host() else { return };
    let host = File::open(format!("/proc/{process}/ns/cgroup"));
    let (Ok(host), Ok(own)) = (host, File::open("/proc/self/ns/cgroup")) else { return };
    let number = |file: &File| file.metadata().map(|about| about.ino()).ok();
    if number(&host) != number(&own) {
        // Without the right to it nothing else of an agent works either, and that will be said.
        let _ = setns(host, CloneFlags::CLONE_NEWCGROUP);
    }
}
