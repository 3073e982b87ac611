//! Single processes, by the files that hold their numbers.

use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{Actor, Origin};
use crate::config::read_pid_file;
use crate::containers::init::Init;
use crate::detect::PidFiles;
use crate::enter::EnterError;

/// Returns when one of the files may have changed; never where there are none.
pub(super) async fn changed(files: &mut Option<PidFiles>) {
    if let Some(watched) = files {
        match watched.changed().await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "changes of pid files are not noticed any more");
                *files = None;
            }
        }
    }
    std::future::pending::<()>().await;
}

impl Actor {
    pub(super) fn watch_pid_files(&mut self) {
        let targets = self.targets();
        self.pid_files = PidFiles::watch(&targets.pid_files).unwrap_or_else(|error| {
            tracing::error!(%error, "pid files cannot be watched: their processes are found at a reload alone");
            None
        });
    }

    pub(super) async fn look_at_pid_files(&mut self) {
        for path in &self.targets().pid_files {
            self.look_at_pid_file(path).await;
        }
    }

    /// Declares the process in the file up, and what it named before down.
    pub(super) async fn look_at_pid_file(&mut self, path: &Path) {
        let found = match read_pid_file(path) {
            Ok(number) => match self.process(path, number).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a process cannot be looked at");
                    self.later.scan();
                    return;
                }
            },
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "a pid file names no process");
                None
            }
        };
        let id = found.as_ref().map(|(origin, _)| origin.id());
        let is_before = |origin: &Origin| matches!(origin, Origin::PidFile { path: of, .. } if of == path);
        let before = self.known.values().find(|known| is_before(&known.origin));
        if let Some(before) = before.map(|known| known.container.clone()) {
            if Some(&before.id) == id.as_ref() && !super::has_ended(&before) {
                return;
            }
            self.let_go(&before).await;
        }
        if let Some((origin, init)) = found {
            self.up(origin, init, None).await;
        }
    }

    /// The process with this number, held; `None` where there is none.
    async fn process(&self, path: &Path, number: u32) -> Result<Option<(Origin, Init)>, EnterError> {
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let Some(pidfd) = pidfd else { return Ok(None) };
        let about = match self.launcher.inspect(pidfd.as_fd()).await {
            Ok(about) => about,
            Err(EnterError::TargetGone) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Told after the pidfd was opened, and the process lives: so it is told of that one.
        let cgroups = std::fs::read_to_string(format!("/proc/{number}/cgroup")).unwrap_or_default();
        let path = path.to_owned();
        let parts =
            ["pid file", &path.to_string_lossy(), &number.to_string(), &about.start_ticks.to_string()];
        let id = self.hierarchies.own_id(&parts);
        Ok(Some((Origin::PidFile { path, id, cgroup: cgroup_of(&cgroups) }, Init { pidfd, about })))
    }
}

/// The path in the unified hierarchy, or else in the first one, of a text as in /proc/PID/cgroup (cgroups(7)).
fn cgroup_of(text: &str) -> String {
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2).map(|path| (line, path)));
    let unified = paths().find(|(line, _)| line.starts_with("0::"));
    unified.or_else(|| paths().next()).map_or_else(String::new, |(_, path)| path.to_owned())
}
