//! What not every kernel has: a closed list, with what happens where it is lacking. Which of it a kernel lacks is tried by
//! `enter::capabilities` and `detect::capabilities`; the numbers of versions in here are for people, and decide nothing.

use serde::{Deserialize, Serialize};

/// Something of the kernel that this program uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    BpfRawTracepoint,
    BpfCgroupId,
    BpfRingBuffer,
    KernelBtf,
    CgroupById,
    Clone3,
    CloseRange,
    Fsopen,
    MoveMount,
    OpenTree,
    Openat2,
    PidfdOpen,
    PidfdSetns,
    PidfdWait,
    CloneIntoCgroup,
    CgroupKill,
    CgroupDeviceProgram,
    CgroupMemory,
    CgroupPids,
    CgroupCpu,
    SeccompListener,
    MemfdExec,
    ProcfsPidns,
}

/// What there is to say of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The word used in labels and JSON.
    pub name: &'static str,
    /// What it is used for.
    pub used: &'static str,
    /// The version of Linux from which on it is usually there.
    pub since: &'static str,
    pub without: Without,
}

/// What this program does where it is lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// Another thing, which does as well.
    Instead(&'static str),
    /// Less.
    Worse(&'static str),
    /// Nothing at all.
    Stops,
}

impl Without {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instead(words) | Self::Worse(words) => words,
            Self::Stops => "the agent does not start",
        }
    }
}

impl Capability {
    pub const ALL: [Self; 23] = [
        Self::ProcfsPidns,
        Self::MemfdExec,
        Self::CgroupKill,
        Self::CloseRange,
        Self::PidfdSetns,
        Self::BpfRingBuffer,
        Self::CloneIntoCgroup,
        Self::CgroupDeviceProgram,
        Self::Openat2,
        Self::CgroupById,
        Self::PidfdWait,
        Self::PidfdOpen,
        Self::Clone3,
        Self::OpenTree,
        Self::MoveMount,
        Self::Fsopen,
        Self::KernelBtf,
        Self::SeccompListener,
        Self::BpfCgroupId,
        Self::BpfRawTracepoint,
        Self::CgroupCpu,
        Self::CgroupMemory,
        Self::CgroupPids,
    ];

    /// The word used in labels and JSON.
    pub fn as_str(self) -> &'static str {
        self.about().name
    }

    pub fn about(self) -> About {
        use Without::{Instead, Stops, Worse};
        let (name, used, since, without) = match self {
            Self::ProcfsPidns => (
                "procfs_pidns",
                "`pidns=`: a new procfs of a container's pid namespace for observers",
                "6.18",
                Instead("observers take the procfs that the container has mounted, after a check"),
            ),
            Self::MemfdExec => (
                "memfd_exec",
                "`MFD_EXEC`: the stub's program is a file in memory that says that it is one",
                "6.3",
                Instead("the file is made without saying so: every one can be executed"),
            ),
            Self::CgroupKill => (
                "cgroup_kill",
                "`cgroup.kill`: ends all of a run at once",
                "5.14",
                Instead("the cgroup's processes are killed one by one, until it is empty"),
            ),
            Self::CloseRange => {
                ("close_range", "close_range(2): a command inherits no descriptor", "5.9", Stops)
            }
            Self::PidfdSetns => {
                ("pidfd_setns", "setns(2) on a pidfd: the container's namespaces and no others", "5.8", Stops)
            }
            Self::BpfRingBuffer => ("bpf_ring_buffer", "the hook's records", "5.8", Stops),
            Self::CloneIntoCgroup => (
                "clone_into_cgroup",
                "`CLONE_INTO_CGROUP`, with cgroup v2: a command is born in its run's cgroup",
                "5.7",
                Instead("the command joins the cgroup by itself before it executes its program, as on v1"),
            ),
            Self::CgroupDeviceProgram => (
                "cgroup_device_program",
                "an eBPF program on a cgroup (`CONFIG_CGROUP_BPF`), with cgroup v2: observers open no device but their own",
                "5.7",
                Worse(
                    "on v1 the `devices` controller; on v2 nothing: a container's nodes can lead observers to any device",
                ),
            ),
            Self::Openat2 => ("openat2", "openat2(2): paths stay within their root", "5.6", Stops),
            Self::CgroupById => (
                "cgroup_by_id",
                "open_by_handle_at(2) on a cgroup's id: where a process was that has gone",
                "5.5",
                Stops,
            ),
            Self::PidfdWait => {
                ("pidfd_wait", "waitid(2) on a pidfd: whether a launcher is stopped", "5.4", Stops)
            }
            Self::PidfdOpen => {
                ("pidfd_open", "pidfd_open(2): a process is held, and not its number", "5.3", Stops)
            }
            Self::Clone3 => ("clone3", "clone3(2): stubs and commands", "5.3", Stops),
            Self::OpenTree => ("open_tree", "open_tree(2): copies of mounts", "5.2", Stops),
            Self::MoveMount => ("move_mount", "move_mount(2): where they go", "5.2", Stops),
            Self::Fsopen => {
                ("fsopen", "fsopen(2): file systems of a terminal's and of procfs's own", "5.2", Stops)
            }
            Self::KernelBtf => (
                "kernel_btf",
                "`CONFIG_DEBUG_INFO_BTF`: where cgroups are those of v1 alone, the way to a task's",
                "5.2",
                Worse("nothing with cgroup v2; where there is v1 alone the agent does not start"),
            ),
            Self::SeccompListener => (
                "seccomp_listener",
                "seccomp(2)'s listener: getpid(2) of observers",
                "5.0",
                Worse("observers fail as `enter_failed: seccomp`; joined commands run"),
            ),
            Self::BpfCgroupId => (
                "bpf_cgroup_id",
                "`bpf_get_current_cgroup_id`, with cgroup v2: the cgroup of an exec",
                "4.18",
                Stops,
            ),
            Self::BpfRawTracepoint => ("bpf_raw_tracepoint", "the hook: it needs no tracefs", "4.17", Stops),
            Self::CgroupCpu => {
                ("cgroup_cpu", "`limits.cpu` of probes", "4.15 (v2)", Worse("runs are not limited in it"))
            }
            Self::CgroupMemory => (
                "cgroup_memory",
                "`limits.memory` of probes",
                "4.5 (v2)",
                Worse("runs are not limited in it"),
            ),
            Self::CgroupPids => {
                ("cgroup_pids", "`limits.pids` of probes", "4.5 (v2)", Worse("runs are not limited in it"))
            }
        };
        About { name, used, since, without }
    }
}

/// The table between the marks in docs/security.md, as Markdown, ending in a newline.
pub fn table() -> String {
    let head = "| capability | what it is used for | since | without it |\n| --- | --- | --- | --- |\n";
    let rows = Capability::ALL.map(|capability| {
        let About { name, used, since, without } = capability.about();
        format!("| `{name}` | {used} | {since} | {} |\n", without.as_str())
    });
    head.to_owned() + &rows.concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_is_in_the_list_once_and_is_called_the_same_everywhere() {
        let all: HashSet<_> = Capability::ALL.into_iter().collect();
        assert_eq!(all.len(), Capability::ALL.len());
        for capability in Capability::ALL {
            let word = serde_json::to_value(capability).unwrap();
            assert_eq!(word, capability.as_str());
            let About { used, without, .. } = capability.about();
            assert!(!used.contains('|') && !without.as_str().contains('|'), "{word}");
        }
        // The one that the compiler counts to.
        assert_eq!(Capability::ProcfsPidns as usize + 1, Capability::ALL.len());
    }
}
