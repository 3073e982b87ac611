//! The steps that a stub and a command take, and what a stub says at its end.

/// Names of the steps, as they stand in metrics and messages; a step's number is its place here.
pub const STEPS: [&str; 26] = [
    "prepare",
    "join_pid_ns",
    "clone_stub",
    "close_fds",
    "template",
    "mount_ns",
    "join_net_ns",
    "join_namespaces",
    "mount_proc",
    "mount_sys",
    "mount_devpts",
    "neighbours",
    "hide_stub",
    "clone_command",
    "join_cgroup",
    "stdio",
    "workdir",
    "join_user_ns",
    "user",
    "capabilities",
    "limits",
    "exec",
    "procfs_untrusted",
    "shadow_self",
    "mount_tmp",
    "seccomp",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    Prepare = 0,
    JoinPidNs,
    CloneStub,
    CloseFds,
    Template,
    MountNs,
    JoinNetNs,
    JoinNamespaces,
    MountProc,
    MountSys,
    MountDevpts,
    Neighbours,
    HideStub,
    CloneCommand,
    JoinCgroup,
    Stdio,
    Workdir,
    JoinUserNs,
    User,
    Capabilities,
    Limits,
    Exec,
    ProcfsUntrusted,
    ShadowSelf,
    MountTmp,
    Seccomp,
}

/// First half of a run's record, which the spawner sends when the run is over, where the command has ended; the second half
/// is its wait(2) status. Otherwise it is a step that failed, and its errno.
pub const ENDED: i32 = -1;
/// The same, when something of the run had to be killed through its cgroup.
pub const ENDED_BY_KILL: i32 = -2;
/// The same as [`ENDED`], when the command's resource limits were lower at its end than at its start.
pub const ENDED_TAMPERED: i32 = -3;
/// In the record's place where the stub was killed before it said anything. The second half is 0.
pub const GONE: i32 = -4;
/// What the spawner answers to [`PING`]. The second half is 0.
pub const ALIVE: i32 = -5;
/// In a record's place while the run is not over, with a pidfd beside it: is this neighbour a process of another run? The second
/// half is 0.
pub const ASKS: i32 = -6;
/// Size in bytes of a run's record: two native-endian `i32`.
pub const RECORD: usize = 8;

/// A byte to the spawner while nothing runs: say that you live. No signal has this number.
pub const PING: u8 = 255;
/// A byte to the command's parent: end the run. Any other is the number of a signal for the command.
pub const END: u8 = 0;
/// A byte to a stub that has asked about a neighbour: it is one of ours. Where it is not, [`END`] is the answer. No signal has this
/// number.
pub const OURS: u8 = 254;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_name() {
        assert_eq!(STEPS[Step::Prepare as usize], "prepare");
        assert_eq!(STEPS[Step::HideStub as usize], "hide_stub");
        assert_eq!(STEPS.get(Step::Seccomp as usize..), Some(&["seccomp"][..]));
    }
}
