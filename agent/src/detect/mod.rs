//! Notices that something started in a cgroup not seen before, and tells which container a cgroup belongs to. It
//! keeps no list of containers: that is the next room.
//!
//! `kernel` hears of a first exec as it happens; `scan` finds what already ran, at start and after a loss;
//! `hierarchy` leads from a cgroup's id to its path and its processes; `cgroup` reads the path; `pid_file` hears of
//! processes that the configuration names by files; `btf` is for machines that have cgroup v1 only.

mod btf;
mod capabilities;
pub mod cgroup;
mod hierarchy;
mod kernel;
mod pid_file;
mod scan;

pub use capabilities::lacking;
pub use hierarchy::{Cgroup, Hierarchies};
pub use kernel::{Batch, Kernel, Seen, attach, attach_by};
pub use pid_file::PidFiles;
pub use scan::{Reason, Scan, walk};

#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error(
        "this build has no eBPF program, because PARACHUTE_SKIP_EBPF=1 was set for it; build it again without"
    )]
    NoProgram,
    #[error(
        "the exec tracepoint cannot be loaded; it needs Linux 5.8 and root, or CAP_BPF and CAP_PERFMON: {0}"
    )]
    Load(#[from] aya::EbpfError),
    #[error(
        "the exec tracepoint cannot be attached; it needs Linux 5.8 and root, or CAP_BPF and CAP_PERFMON: {0}"
    )]
    Attach(#[from] aya::programs::ProgramError),
    #[error("a map of the exec tracepoint cannot be used: {0}")]
    Map(#[from] aya::maps::MapError),
    #[error("the eBPF object has no `{0}`; agent and object are of different versions, build both again")]
    Missing(&'static str),
    #[error("the exec tracepoint's ring buffer cannot be read: {0}")]
    Ring(#[source] std::io::Error),
    #[error("/proc/self/mountinfo cannot be read: {0}")]
    Mountinfo(#[source] std::io::Error),
    #[error("the cgroup hierarchy at {path} cannot be opened: {source}", path = path.display())]
    Hierarchy { path: std::path::PathBuf, source: std::io::Error },
    #[error(
        "cgroup v1 only, and {path} cannot be read; it needs a kernel with CONFIG_DEBUG_INFO_BTF: {source}"
    )]
    Btf { path: &'static str, source: std::io::Error },
    #[error("cgroup v1 only, and {path} does not tell where a task's cgroup is; mount cgroup2")]
    NoWalk { path: &'static str },
    #[error("no cgroup hierarchy is mounted; mount one (cgroup2 on /sys/fs/cgroup)")]
    NoHierarchy,
}
