//! The one room in which anything dangerous happens: a host command is landed beside a container.
//!
//! # The contract
//!
//! Two processes take part. The **agent** (tokio, HTTP, parsing of hostile bytes) holds a [`Launcher`] handle and
//! may only *name* a configured probe and hand over a pidfd. The **launcher** is the same executable re-executed
//! before the agent's runtime starts: single-threaded, it reads the configuration file by itself and does the
//! rest. They speak over one `SOCK_SEQPACKET` pair ([`protocol`]); fds travel by `SCM_RIGHTS`.
//!
//! The agent starts a **keeper** and not the launcher itself ([`keeper`]): when a launcher has died, or hangs and was killed
//! at the agent's order, it starts the next, which the agent has no right to do. Verbs that live briefly do without.
//!
//! Neither of them is ever forked into a container's sight. The launcher keeps **spawners** for that, processes of the small
//! static program in `agent-stub`, which have nothing of theirs in their memory and get one order for each run. There are as
//! many as runs go on at once, and one while nothing runs. A launcher one of whose spawners has gone, or an idle one of which
//! does not answer, is none, and ends.
//!
//! A joined run goes like this:
//!
//! 1. The agent makes two pipes and sends the probe's name, the container's pidfd and the pipes' write ends.
//! 2. The launcher sends an order to a spawner, which makes a copy of the *template* mount namespace and is in it until the run
//!    is over. It sets its children's pid namespace to the container's (`setns(pidfd, CLONE_NEWPID)`), clones the **stub**,
//!    waits until that has gone, and takes its own namespaces back. The pidfd makes a reused pid impossible.
//! 3. The stub joins the container's network namespace and mounts a fresh `/proc` and `/sys` in the copy. It looks for a neighbour
//!    that could take the command over, and asks the launcher whether that is another run's (`ours`). It clones the **command**
//!    into the cgroup of a run slot.
//! 4. The command gets its own session, `/dev/null`, the two pipes, no other fd, no core dumps, and is exec'd.
//! 5. The stub is a child subreaper: every orphan of the command becomes its child. When the command ends, or when
//!    the launcher says so or closes its end of the spawner's socket, it kills the slot's cgroup, reaps until nothing is left,
//!    leaves one record and exits. Then the spawner sends the record, and after it lets go of the run's mounts.
//!
//! Spawner, stub and the command before its exec share one memory, in which never two of them are at work: a copy of even this
//! small one costs a fifth of a bare spawn. All of it is the spawner's, which cannot be dumped or looked into without the host's
//! SYS_PTRACE. It holds one order, and none of another run that goes on. Between its clone and its exec the stub waits for the
//! command alone. Should a container stop it there, the launcher's deadline ends it through the cgroup, or the next
//! launcher's sweep.
//!
//! What is guaranteed, and by what:
//!
//! - **Nothing outlives a run.** The cgroup names every process of it whatever they fork, and the stub reaps them, so
//!   that no zombie is left to the container's init. The socket is its leash: the kernel closes it when the launcher dies;
//!   the launcher leaves when the agent's end of its own socket closes.
//! - **A stopped agent does not hold up a pod's deletion.** The spawner ignores `SIGCHLD`, so the kernel reaps stubs
//!   by itself; an observer's command is in no pid namespace of the container's.
//! - **Nobody waits without a deadline.** The launcher ends a run at its deadline even if the agent is stopped; a
//!   process in D state costs its slot until it goes, and its run is answered as stuck.
//! - **The host's mounts are neither changed nor pinned.** See [`template`](launcher).
//!
//! An observer's run differs in steps 2 to 5:
//!
//! - The container's procfs is there before anything is joined: from the launcher, which makes a new instance (`procfs`), or
//!   out of the container's mount namespace, checked (`observer`). The copy is one of the *view*, which is the host's programs
//!   and little else (`view`).
//! - Where the launcher has made the procfs and the container does not see the host's processes, there is no stub: the spawner is
//!   the command's parent and does what a stub would, and the command joins the container's network namespace itself. It ends with
//!   the spawner, and that one with the launcher (`PR_SET_PDEATHSIG`, which the filter lets no command take back). Otherwise the
//!   stub stays in the host's pid namespace and joins the network namespace.
//! - The command is cloned as PID 1 of a pid namespace of its own, finishes its root (the container's procfs on `/proc`,
//!   `self` leading to its own, a fresh sysfs, a private `/tmp`), and becomes nobody with the declared capabilities.
//! - A filter (`seccomp`) takes dangerous calls from it and leaves getpid(2) to its parent, which answers 1 (`own_pid`).
//! - What is left of it goes with its PID 1. The container's end does not end it.
//!
//! Every run of a probe is limited by cgroups (`controllers`), and an observer's opens no device but those of its root
//! (`devices`).
//!
//! In a container the launcher is among the host's mounts, unless the configuration says otherwise (`roots`): template, view
//! and run slots are made of those then, and only its configuration is read among its own. The agent stays among its own.
//!
//! # A person's command
//!
//! `parachute exec` ([`session`]) goes the same way with the person's own root rights, and asks no agent to enter
//! anything: an agent that could be told an argv could be told any. What it takes from a running agent is the list of
//! containers, and from its launcher the template (`launcher.sock`, which root alone may open and which reads nothing),
//! so that a run costs the same whatever the host has mounted. Three processes take part:
//!
//! - The **foreground** process decides everything beforehand, makes the pseudo-terminal, and relays. A terminal of the
//!   person's is never handed in; a file or pipe of the person's is, as it is.
//! - The **guard**, forked from it, does the launcher's part for the one command, with a spawner of its own: it keeps
//!   the deadline, and removes the run's cgroup. When the foreground process dies in whatever way, the
//!   socket between them closes; then it ends the command and gives the person's terminal its settings back. It wipes the
//!   words and the environment that it was started with, which everybody who sees it could read.
//! - The **stub** is the one of every run. A byte from the guard is a signal for the command.
//!
//! With a terminal the command gets all mounts of the host, as a slave; without one the template, if everything is in it
//! that the command line names (the program, the working directory, the folders of arguments that are absolute paths).
//!
//! What is refused, and why, is in `session::policy`. A command of another user than root keeps one capability that the
//! container lacks, in its permitted and ambient sets: without it the container could become that user and take the
//! command over, with the host's files.
//!
//! The command's parent, as the container counts, is the stub and not 0 as for the seed: a command whose parent is outside
//! of the pid namespace would leave its orphans, and their zombies, to the container's init when it ends. The kernel looks
//! for a subreaper among a process's ancestors only as long as they are of its own namespace (`find_new_reaper` in
//! kernel/exit.c).

pub mod capabilities;
mod cgroups;
mod client;
mod connection;
mod ebpf;
pub mod handle;
mod keeper;
mod kept;
mod launcher;
pub mod mountinfo;
mod pipes;
#[cfg(test)]
pub mod played;
mod protocol;
mod realtime;
mod resident;
pub mod session;
mod watch;

use std::path::PathBuf;

use crate::model::Shares;
pub use cgroups::see_all_cgroups;
pub use client::{Launcher, LauncherOptions, LauncherProcess, Listening, Word};
pub use ebpf::ebpf_loader;
pub use keeper::keep;
pub use kept::Restart;
pub use launcher::{STEPS, confine_agent, device_rule, serve};
pub use pipes::Copies;
pub use realtime::go_first;
pub use resident::give_program_back;
pub use watch::watch;

/// What the launcher reads of a process through its pidfd. The agent has no right to read most of it itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is one namespace")]
pub struct Inspection {
    /// Host pid, read from the pidfd.
    pub pid: u32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// Inode numbers of its namespaces.
    pub pid_ns: u64,
    pub net_ns: u64,
    pub mnt_ns: u64,
    pub user_ns: u64,
    /// True when the process is still in the launcher's (the host's) mount namespace.
    pub in_host_mnt_ns: bool,
    /// True when it is in the launcher's network namespace, or that of the first process that the launcher sees.
    pub in_host_net_ns: bool,
    /// True when it is in the launcher's pid namespace, in which every process of the host can see it.
    pub in_host_pid_ns: bool,
    /// True when it shares the launcher's user namespace, so that its capabilities count on the host.
    pub in_host_user_ns: bool,
    /// Pid in its innermost pid namespace (last field of `NSpid:` in `/proc/PID/status`).
    pub inner_pid: u32,
    pub comm: String,
    /// True for a process of systemd's that is still on its way to a service's program.
    pub is_executor: bool,
    /// Host pid of its parent.
    pub parent: u32,
    /// Working directory of the parent: a containerd shim's is a bundle directory.
    pub parent_cwd: Option<PathBuf>,
    /// All that it can come to have: its capability bounding set, and what it has kept besides (`CapBnd:`, `CapPrm:`, `CapInh:`).
    pub cap_bounding: u64,
}

impl Inspection {
    pub fn shares(&self) -> Shares {
        Shares { mnt: self.in_host_mnt_ns, net: self.in_host_net_ns, pid: self.in_host_pid_ns }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error("the launcher process has gone")]
    LauncherGone,
    #[error("the process has gone")]
    TargetGone,
    #[error("the launcher could not do it: {0}")]
    Launcher(String),
    #[error("the launcher did not start: {0}")]
    Start(String),
    #[error("{0}")]
    Refused(String),
    #[error("{call} failed: {source}")]
    System { call: &'static str, source: std::io::Error },
}
