//! skeleton: see the helper prompts.

pub mod handle;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use crate::model::{Output, RunRequest};

/// What the launcher reads of a process through its pidfd; the agent itself has no right to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Inspection {
    /// Host pid, read from the pidfd.
    pub pid: u32,
    pub start_ticks: u64,
    pub pid_ns: u64,
    pub net_ns: u64,
    pub mnt_ns: u64,
    /// True when the process is still in the launcher's (the host's) mount namespace.
    pub in_host_mnt_ns: bool,
    /// Pid in its innermost pid namespace (last field of `NSpid:`).
    pub inner_pid: u32,
    pub comm: String,
    /// Working directory of the parent: a containerd shim's is a bundle directory.
    pub parent_cwd: Option<PathBuf>,
    /// Capability bounding set (`CapBnd:`).
    pub cap_bounding: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error("the launcher has gone; restart the agent")]
    LauncherGone,
    #[error("the process has gone")]
    TargetGone,
    #[error("the launcher could not do it: {0}")]
    Launcher(String),
}

/// Handle to the launcher process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Launcher;

impl Launcher {
    /// Reads what is known of the process behind `pidfd`.
    pub async fn inspect(&self, _pidfd: BorrowedFd<'_>) -> Result<Inspection, EnterError> {
        Err(EnterError::LauncherGone)
    }

    /// Runs the request's probe in its container; answers at the latest a little after the probe's deadline.
    pub async fn run(&self, _request: &RunRequest, _max_output: u64) -> Result<Output, EnterError> {
        Err(EnterError::LauncherGone)
    }
}
