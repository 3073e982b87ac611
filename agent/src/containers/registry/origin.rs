//! Where a container was found, and what that says of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;

use crate::containers::init::Init;
use crate::detect::Cgroup;
use crate::detect::cgroup::Name;
use crate::model::{Container, ContainerId, Metadata, Runtime};

#[derive(Clone, Debug)]
pub(super) enum Origin {
    Cgroup(Cgroup),
    /// A file of the configuration's, the id of the process's life, and its cgroup.
    PidFile {
        path: PathBuf,
        id: ContainerId,
        cgroup: String,
    },
}

impl Origin {
    pub(super) fn id(&self) -> ContainerId {
        match self {
            Self::Cgroup(cgroup) => cgroup.container.clone(),
            Self::PidFile { id, .. } => id.clone(),
        }
    }

    /// Whether the configuration names it, so that no runtime is asked what it is.
    pub(super) fn is_own(&self) -> bool {
        self.name().is_some()
    }

    /// The name that it goes by everywhere: no runtime has given it one.
    fn name(&self) -> Option<String> {
        match self {
            Self::Cgroup(cgroup) => match &cgroup.named.name {
                Name::Own(name) => Some(name.clone()),
                Name::Id(_) => None,
            },
            Self::PidFile { path, .. } => Some(path.to_string_lossy().into_owned()),
        }
    }

    /// The container with this init; `before` is the one whose place it takes in the same life.
    pub(super) fn container(&self, init: Init, before: Option<&Container>) -> Container {
        let Init { pidfd, about } = init;
        let metadata = self.name().map(|container| Metadata { container, ..Metadata::default() });
        let (cgroup_id, cgroup_path, by_path, cgroup_pod_uid) = match self {
            Self::Cgroup(Cgroup { named, id, .. }) => {
                (*id, named.path.clone(), named.runtime, named.pod_uid.clone())
            }
            Self::PidFile { cgroup, .. } => (0, cgroup.clone(), Runtime::Process, None),
        };
        Container {
            id: self.id(),
            pidfd,
            pid: about.pid,
            pid_start_ticks: about.start_ticks,
            start_ticks: before.map_or(about.start_ticks, |before| before.start_ticks),
            cgroup_id,
            cgroup_path,
            pid_ns: about.pid_ns,
            net_ns: about.net_ns,
            shares: about.shares(),
            runtime: runtime(by_path, about.parent_cwd.as_deref()),
            cgroup_pod_uid,
            up_at: before.map_or_else(SystemTime::now, |before| before.up_at),
            metadata: ArcSwapOption::new(metadata.map(Arc::new)),
        }
    }
}

/// The cgroup's path tells, or the folder that the init's parent stands in: a containerd shim's bundle.
fn runtime(by_path: Runtime, parent_cwd: Option<&Path>) -> Runtime {
    let in_bundle = |word: &str| parent_cwd.is_some_and(|cwd| cwd.to_string_lossy().contains(word));
    match by_path {
        Runtime::Unknown if in_bundle("/io.containerd.runtime.v2.task/moby/") => Runtime::Docker,
        Runtime::Unknown if in_bundle("/io.containerd.runtime.v2.task/") => Runtime::Containerd,
        known => known,
    }
}
