//! stand-in
use anyhow::Context as _;
use std::os::fd::OwnedFd;
pub(super) struct Found {
    pub(super) pidfd: OwnedFd,
}
pub(super) fn by_pid(pid: u32) -> anyhow::Result<Found> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("pid")?;
    Ok(Found { pidfd: rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())? })
}
