//! `parachute run --pid`: a single process, whatever it is, as what a probe looks into.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::containers::lone;
use crate::detect::Hierarchies;
use crate::enter::Launcher;
use crate::model::{Container, Runtime};

/// It goes by its program's name, as with `parachute exec --pid`.
pub(super) async fn by_number(pid: u32, launcher: &Launcher) -> anyhow::Result<Arc<Container>> {
    let no_process = || format!("--pid {pid}: no process has this number here");
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(no_process)?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).with_context(no_process)?;
    let about = launcher.inspect(pidfd.as_fd()).await.with_context(no_process)?;
    let parts = ["pid", &pid.to_string(), &about.start_ticks.to_string()];
    let id = Hierarchies::find()?.own_id(&parts);
    Ok(Arc::new(lone(id, pidfd, &about, Runtime::Process, &about.comm)))
}
