//! What the agent keeps of root's capabilities once the launcher and the kernel hook stand, and why. To be called
//! before there are other threads: capabilities belong to a thread and are inherited by those it starts.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// One kept capability: its name, its bit, and what it is kept for. The README's table is made from this.
pub const KEPT: [(&str, CapabilitySet, &str); 2] = [
    (
        "CAP_BPF",
        CapabilitySet::BPF,
        "tells the kernel map when a container has gone; before Linux 5.19 every bpf(2) call asks for it",
    ),
    (
        "CAP_DAC_READ_SEARCH",
        CapabilitySet::DAC_READ_SEARCH,
        "opens a cgroup by its id (open_by_handle_at(2)), also when its process has gone; reads what Podman keeps in its users' homes",
    ),
];

/// What the launcher needs; it keeps all that it was started with, since a joined command that had fewer capabilities
/// than its container could be taken over by it.
pub const LAUNCHER: [(&str, &str); 8] = [
    ("CAP_SYS_ADMIN", "setns(2), unshare(2), mount(2)"),
    ("CAP_SYS_CHROOT", "setns(2) into a mount namespace"),
    ("CAP_SYS_PTRACE", "reads a container's namespaces under /proc/PID/ns"),
    ("CAP_KILL", "ends a command that has changed its user"),
    ("CAP_DAC_OVERRIDE", "writes cgroup files"),
    ("CAP_SETUID, CAP_SETGID, CAP_SETPCAP", "an observer becomes nobody, with few capabilities"),
    ("CAP_NET_ADMIN", "what ss(8) and nstat(8) need to see all of a network namespace"),
    (
        "CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)",
        "the agent's start: loads and attaches the hook; the launcher's, with CAP_NET_ADMIN: the rule on observers' devices",
    ),
];

/// Drops all but [`KEPT`] from this thread, for good.
pub fn drop_unneeded() -> io::Result<()> {
    let kept = KEPT.iter().fold(CapabilitySet::empty(), |all, (_, bit, _)| all | *bit);
    let has = rustix::thread::capabilities(None)?;
    for bit in has.permitted.difference(kept).iter() {
        rustix::thread::remove_capability_from_bounding_set(bit)?;
    }
    rustix::thread::clear_ambient_capability_set()?;
    let kept = has.permitted & kept;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}
