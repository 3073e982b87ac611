//! `parachute run --pid`: a single process, whatever it is, as what a probe looks into.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::detect::Hierarchies;
use crate::enter::Launcher;
use crate::model::{Container, Metadata, Runtime};

/// It goes by its program's name, as with `parachute exec --pid`.
pub(super) async fn by_number(pid: u32, launcher: &Launcher) -> anyhow::Result<Arc<Container>> {
    let no_process = || format!("--pid {pid}: no process has this number here");
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(no_process)?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).with_context(no_process)?;
    let about = launcher.inspect(pidfd.as_fd()).await.with_context(no_process)?;
    let parts = ["pid", &pid.to_string(), &about.start_ticks.to_string()];
    let metadata = Metadata { container: about.comm.clone(), ..Metadata::default() };
    Ok(Arc::new(Container {
        id: Hierarchies::find()?.own_id(&parts),
        pidfd,
        pid,
        pid_start_ticks: about.start_ticks,
        start_ticks: about.start_ticks,
        cgroup_id: 0,
        cgroup_path: String::new(),
        pid_ns: about.pid_ns,
        net_ns: about.net_ns,
        shares: about.shares(),
        runtime: Runtime::Process,
        cgroup_pod_uid: None,
        up_at: SystemTime::now(),
        metadata: ArcSwapOption::from_pointee(metadata),
    }))
}
