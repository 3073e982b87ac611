//! A pod with whatever rights its description gives it, as a DaemonSet's on a node: what the kubelet would ask the runtime
//! for. Which rights those are, the caller has read in a manifest.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::pod::pid_in;
use crate::{Containerd, Pod, PodContainer, cri};

/// What the kubelet hides of /proc and /sys in each container that is not privileged (`defaultMaskedPaths` and
/// `defaultReadonlyPaths` in `pkg/securitycontext/util.go`).
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The one container of such a pod.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is one of its rights")]
pub struct NodeContainer {
    pub name: String,
    pub image: String,
    pub args: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub mounts: Vec<NodeMount>,
    pub host_pid: bool,
    pub added: Vec<String>,
    pub dropped: Vec<String>,
    pub privileged: bool,
    pub read_only_root: bool,
    /// Else no filter of system calls.
    pub runtime_seccomp: bool,
    pub no_new_privileges: bool,
    /// Bytes; 0 for no limit.
    pub memory: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMount {
    pub host: PathBuf,
    pub container: String,
    pub read_only: bool,
    /// What the host mounts there later arrives.
    pub follows_host: bool,
}

impl Containerd {
    /// Starts it; the pod has a network of its own.
    pub async fn start_on_node(
        &self,
        namespace: &str,
        name: &str,
        container: &NodeContainer,
    ) -> anyhow::Result<Pod> {
        let (mut pod, sandbox) = self.pod(namespace, name).start_with(container.host_pid).await?;
        let log_folder = format!("{}/{}", sandbox.log_directory, container.name);
        fs::create_dir_all(&log_folder)?;
        let mut labels = sandbox.labels.clone();
        labels.insert("io.kubernetes.container.name".into(), container.name.clone());
        let mode = if container.host_pid { cri::NamespaceMode::Node } else { cri::NamespaceMode::Container };
        let texts = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let profile = if container.runtime_seccomp {
            cri::security_profile::ProfileType::RuntimeDefault
        } else {
            cri::security_profile::ProfileType::Unconfined
        };
        let security = cri::LinuxContainerSecurityContext {
            capabilities: (!container.privileged).then(|| cri::Capability {
                add_capabilities: container.added.clone(),
                drop_capabilities: container.dropped.clone(),
            }),
            privileged: container.privileged,
            namespace_options: Some(cri::NamespaceOption { pid: mode.into(), ..Default::default() }),
            readonly_rootfs: container.read_only_root,
            no_new_privs: container.no_new_privileges,
            masked_paths: texts(&MASKED),
            readonly_paths: texts(&READ_ONLY),
            seccomp: Some(cri::SecurityProfile {
                profile_type: profile.into(),
                localhost_ref: String::new(),
            }),
        };
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: container.name.clone(), attempt: 0 }),
            image: Some(cri::ImageSpec { image: container.image.clone() }),
            command: Vec::new(),
            args: container.args.clone(),
            envs: container
                .environment
                .iter()
                .map(|(key, value)| cri::KeyValue { key: key.clone(), value: value.clone() })
                .collect(),
            mounts: container.mounts.iter().map(NodeMount::asked).collect(),
            labels,
            annotations: HashMap::new(),
            log_path: format!("{}/0.log", container.name),
            linux: Some(cri::LinuxContainerConfig {
                resources: Some(cri::LinuxContainerResources { memory_limit_in_bytes: container.memory }),
                security_context: Some(security),
            }),
        };
        let mut runtime = self.runtime();
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: pod.sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox),
        };
        let created = runtime.create_container(request).await.context("creating the container")?;
        let container_id = created.into_inner().container_id;
        let request = cri::StartContainerRequest { container_id: container_id.clone() };
        runtime.start_container(request).await.context("starting the container")?;
        let request = cri::ContainerStatusRequest { container_id: container_id.clone(), verbose: true };
        let info = runtime.container_status(request).await?.into_inner().info;
        pod.containers.push(PodContainer {
            name: container.name.clone(),
            id: container_id,
            pid: pid_in(&info)?,
        });
        Ok(pod)
    }
}

impl NodeMount {
    fn asked(&self) -> cri::Mount {
        let propagation = if self.follows_host {
            cri::MountPropagation::PropagationHostToContainer
        } else {
            cri::MountPropagation::PropagationPrivate
        };
        cri::Mount {
            container_path: self.container.clone(),
            host_path: self.host.display().to_string(),
            readonly: self.read_only,
            propagation: propagation.into(),
        }
    }
}
