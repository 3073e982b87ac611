//! Pods as a kubelet would ask for them: its labels, its cgroup parents, its default of a pid namespace per container.

use std::collections::HashMap;
use std::fs;

use anyhow::Context as _;
use tonic::transport::Channel;

use crate::containerd::random_uuid;
use crate::cri;
use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::{Containerd, Kind};

/// A pod about to be started.
#[derive(Debug)]
pub struct PodBuilder<'bed> {
    bed: &'bed Containerd,
    namespace: String,
    name: String,
    labels: HashMap<String, String>,
    /// Name, image and command of each container.
    containers: Vec<(String, String, Vec<String>)>,
    rights: Rights,
}

/// What the containers of a pod may do beyond the runtime's default.
#[derive(Clone, Debug, Default)]
struct Rights {
    capabilities: Vec<String>,
    privileged: bool,
    kind: Kind,
}

/// A running pod. It lives until it is removed or its containerd is dropped.
#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The pod's IPv4 address on the bed's bridge; the host has no route to it.
    pub ip: String,
    /// The pause container; its name is empty.
    pub sandbox: PodContainer,
    pub containers: Vec<PodContainer>,
    runtime: RuntimeServiceClient<Channel>,
}

#[derive(Clone, Debug)]
pub struct PodContainer {
    pub name: String,
    /// 64 lower-case hex digits.
    pub id: String,
    /// Host pid of the container's init.
    pub pid: i32,
}

impl<'bed> PodBuilder<'bed> {
    pub(crate) fn new(bed: &'bed Containerd, namespace: &str, name: &str) -> Self {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Self {
            bed,
            namespace,
            name,
            labels: HashMap::new(),
            containers: Vec::new(),
            rights: Rights::default(),
        }
    }

    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds a container; they start in this order.
    #[must_use]
    pub fn container(mut self, name: &str, image: &str, command: &[&str]) -> Self {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        self.containers.push((name.to_owned(), image.to_owned(), command));
        self
    }

    /// Gives every container of the pod one more capability, such as `SYS_PTRACE`.
    #[must_use]
    pub fn capability(mut self, name: &str) -> Self {
        self.rights.capabilities.push(name.to_owned());
        self
    }

    /// Gives the pod all rights of the host's root.
    #[must_use]
    pub fn privileged(mut self) -> Self {
        self.rights.privileged = true;
        self
    }

    /// Gives every container of the pod what makes it one of this kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        match kind {
            Kind::Ptrace => self.rights.capabilities.push("SYS_PTRACE".to_owned()),
            Kind::Admin => self.rights.capabilities.push("SYS_ADMIN".to_owned()),
            Kind::Perfmon => self.rights.capabilities.push("PERFMON".to_owned()),
            Kind::Privileged => self.rights.privileged = true,
            _ => {}
        }
        self.rights.kind = kind;
        self
    }

    pub async fn start(self) -> anyhow::Result<Pod> {
        let (containers, rights) = (self.containers.clone(), self.rights.clone());
        let what = format!("{}/{}", self.namespace, self.name);
        let (mut pod, config) = self.start_empty().await?;
        for (name, image, command) in &containers {
            let container = pod
                .start_container(&config, &rights, name, image, command)
                .await
                .with_context(|| format!("starting {what}/{name}"))?;
            pod.containers.push(container);
        }
        Ok(pod)
    }

    /// The sandbox alone, for containers that are described in another way, and what it was asked for by.
    pub(crate) async fn start_with(mut self, host_pid: bool) -> anyhow::Result<(Pod, cri::PodSandboxConfig)> {
        if host_pid {
            self.rights.kind = Kind::HostPid;
        }
        self.start_empty().await
    }

    async fn start_empty(self) -> anyhow::Result<(Pod, cri::PodSandboxConfig)> {
        let mut runtime = self.bed.runtime();
        let uid = random_uuid()?;
        self.bed.adopt(&uid);
        let config = self.sandbox_config(&uid);
        let what = format!("{}/{}", self.namespace, self.name);
        let id = runtime
            .run_pod_sandbox(cri::RunPodSandboxRequest { config: Some(config.clone()) })
            .await
            .with_context(|| format!("starting the sandbox of {what}"))?
            .into_inner()
            .pod_sandbox_id;
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
        let answer = runtime.pod_sandbox_status(request).await?.into_inner();
        let sandbox = PodContainer { name: String::new(), id, pid: pid_in(&answer.info)? };
        // One on the host's network has no address of its own.
        let ip = answer.status.and_then(|s| s.network).map(|network| network.ip).unwrap_or_default();
        let pod = Pod {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid,
            ip,
            sandbox,
            containers: Vec::new(),
            runtime,
        };
        Ok((pod, config))
    }

    fn sandbox_config(&self, uid: &str) -> cri::PodSandboxConfig {
        let mut labels = self.labels.clone();
        labels.insert("io.kubernetes.pod.name".into(), self.name.clone());
        labels.insert("io.kubernetes.pod.namespace".into(), self.namespace.clone());
        labels.insert("io.kubernetes.pod.uid".into(), uid.into());
        let logs = self.bed.log_folder().join(format!("{}_{}_{uid}", self.namespace, self.name));
        cri::PodSandboxConfig {
            metadata: Some(cri::PodSandboxMetadata {
                name: self.name.clone(),
                uid: uid.into(),
                namespace: self.namespace.clone(),
                attempt: 0,
            }),
            // On the host's network there is no hostname of its own to set.
            hostname: if self.rights.kind == Kind::HostNetwork { String::new() } else { self.name.clone() },
            log_directory: logs.display().to_string(),
            labels,
            annotations: HashMap::new(),
            linux: Some(cri::LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", self.bed.driver().cgroups.of_pod(uid)),
                security_context: Some(cri::LinuxSandboxSecurityContext {
                    namespace_options: Some(self.rights.kind.namespaces()),
                    privileged: self.rights.privileged,
                }),
            }),
        }
    }
}

impl Pod {
    pub fn container(&self, name: &str) -> Option<&PodContainer> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// Kills one container as `kubectl delete --now` would: without a grace period.
    pub async fn kill(&self, name: &str) -> anyhow::Result<()> {
        let container_id = self.container(name).with_context(|| format!("no container {name}"))?.id.clone();
        self.runtime.clone().stop_container(cri::StopContainerRequest { container_id, timeout: 0 }).await?;
        Ok(())
    }

    /// Stops and removes the whole pod.
    pub async fn remove(self) -> anyhow::Result<()> {
        self.terminate(0).await
    }

    /// The same, with so many seconds for the containers to end by themselves.
    pub async fn terminate(mut self, grace: i64) -> anyhow::Result<()> {
        for container in &self.containers {
            let request = cri::StopContainerRequest { container_id: container.id.clone(), timeout: grace };
            self.runtime.stop_container(request).await?;
        }
        let pod_sandbox_id = self.sandbox.id;
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.runtime.stop_pod_sandbox(request).await?;
        self.runtime.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id }).await?;
        Ok(())
    }

    async fn start_container(
        &mut self,
        sandbox_config: &cri::PodSandboxConfig,
        rights: &Rights,
        name: &str,
        image: &str,
        command: &[String],
    ) -> anyhow::Result<PodContainer> {
        let mut labels = sandbox_config.labels.clone();
        labels.insert("io.kubernetes.container.name".into(), name.into());
        // The kubelet makes this folder too; the runtime only makes the file.
        fs::create_dir_all(format!("{}/{name}", sandbox_config.log_directory))?;
        let config = cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(cri::ImageSpec { image: image.into() }),
            command: command.to_vec(),
            args: Vec::new(),
            envs: Vec::new(),
            mounts: rights.kind.mounts(),
            labels,
            annotations: HashMap::new(),
            log_path: format!("{name}/0.log"),
            linux: Some(cri::LinuxContainerConfig {
                resources: None,
                security_context: Some(cri::LinuxContainerSecurityContext {
                    // The runtime takes either the one or the other.
                    capabilities: (!rights.privileged).then(|| cri::Capability {
                        add_capabilities: rights.capabilities.clone(),
                        drop_capabilities: rights.kind.dropped(),
                    }),
                    privileged: rights.privileged,
                    namespace_options: Some(rights.kind.namespaces()),
                    no_new_privs: rights.kind == Kind::Nothing,
                    // RuntimeDefault is the zero of the enum.
                    seccomp: (rights.kind == Kind::Nothing).then(cri::SecurityProfile::default),
                    ..Default::default()
                }),
            }),
        };
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let container_id = self.runtime.create_container(request).await?.into_inner().container_id;
        let request = cri::StartContainerRequest { container_id: container_id.clone() };
        self.runtime.start_container(request).await?;
        let request = cri::ContainerStatusRequest { container_id: container_id.clone(), verbose: true };
        let info = self.runtime.container_status(request).await?.into_inner().info;
        Ok(PodContainer { name: name.into(), id: container_id, pid: pid_in(&info)? })
    }
}

/// Both containerd's sandbox and container status carry the pid in the verbose JSON text alone.
pub(crate) fn pid_in(info: &HashMap<String, String>) -> anyhow::Result<i32> {
    let info: serde_json::Value = serde_json::from_str(info.get("info").context("no verbose info")?)?;
    let pid = info["pid"].as_i64().context("no pid in the verbose info")?;
    Ok(i32::try_from(pid)?)
}
