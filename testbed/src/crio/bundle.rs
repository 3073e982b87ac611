//! A container as CRI-O writes it down: `config.json` with its annotations, and its rows in the answers.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use serde_json::{Value, json};

use super::CrioContainer;
use super::answers::api;
use crate::image::WORKLOAD;

/// What the pod's author wrote.
const IMAGE: &str = "registry.test/shop/cart:1";
/// The image's id: the kubelet asks for containers by it once it has pulled the image, so that CRI-O is not told the name and
/// gives the id back as what was asked for (`userRequestedImage` in internal/oci/container.go).
const IMAGE_ID: &str = "9c7a54a9a43cca047013b82af109fe963fde787f63f9e016fdc3384500c2823d";
const DIGEST: &str =
    "registry.test/shop/cart@sha256:4a1c4b21597c1b4415bdbecb28a3296c6b5e23ca4f9feeb599860a1dac6a0108";
const PAUSE: &str = "registry.k8s.io/pause:3.10";
/// 2026-01-01, as everything here.
const CREATED: i64 = 1_767_225_600_000_000_000;

/// One pod with its container.
pub(super) struct Made<'a> {
    pub(super) asked: &'a CrioContainer<'a>,
    pub(super) uid: &'a str,
    pub(super) sandbox: &'a str,
    pub(super) id: &'a str,
}

/// What is to stand in a `config.json`.
pub(super) struct Spec {
    command: Vec<String>,
    annotations: HashMap<String, String>,
}

impl Made<'_> {
    /// What the kubelet gives a sandbox: its own three labels and the pod's.
    fn sandbox_labels(&self) -> HashMap<String, String> {
        let (key, value) = self.asked.label;
        let own = [("io.kubernetes.container.name", "POD"), (key, value)];
        self.pod_labels().chain(own.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
    }

    /// And a container: its own four, and none of the pod's.
    fn container_labels(&self) -> HashMap<String, String> {
        self.pod_labels().chain([("io.kubernetes.container.name".into(), self.asked.name.into())]).collect()
    }

    fn pod_labels(&self) -> impl Iterator<Item = (String, String)> {
        let all = [("name", self.asked.pod), ("namespace", self.asked.namespace), ("uid", self.uid)];
        all.map(|(name, value)| (format!("io.kubernetes.pod.{name}"), value.to_owned())).into_iter()
    }

    fn full_name(&self, container: &str) -> String {
        let CrioContainer { namespace, pod, .. } = self.asked;
        format!("k8s_{container}_{pod}_{namespace}_{}_0", self.uid)
    }

    /// server/sandbox_run_linux.go.
    pub(super) fn sandbox_spec(&self) -> Spec {
        let CrioContainer { namespace, pod, .. } = self.asked;
        let metadata = json!({ "name": pod, "uid": self.uid, "namespace": namespace, "attempt": 0 });
        let own = [
            ("Metadata", metadata.to_string()),
            ("Labels", json!(self.sandbox_labels()).to_string()),
            ("Annotations", "{}".into()),
            ("Name", self.full_name("POD").replacen("_POD", "", 1)),
            ("Namespace", (*namespace).into()),
            ("ContainerType", "sandbox".into()),
            ("SandboxID", self.sandbox.into()),
            ("Image", PAUSE.into()),
            ("ImageName", PAUSE.into()),
            ("ContainerName", self.full_name("POD")),
            ("ContainerID", self.sandbox.into()),
            ("KubeName", (*pod).into()),
            ("HostName", (*pod).into()),
            ("HostNetwork", "false".into()),
        ];
        Spec {
            command: vec!["/workload".into(), "sleep".into()],
            annotations: all(own, self.sandbox_labels()),
        }
    }

    /// `SpecAddAnnotations` in internal/factory/container: the name of the image is *some* name of it.
    pub(super) fn container_spec(&self) -> Spec {
        let own = [
            ("Image", IMAGE_ID.into()),
            ("ImageName", IMAGE.into()),
            ("ImageRef", IMAGE_ID.into()),
            ("Name", self.full_name(self.asked.name)),
            ("ContainerID", self.id.into()),
            ("SandboxID", self.sandbox.into()),
            ("SandboxName", self.full_name("POD").replacen("_POD", "", 1)),
            ("ContainerType", "container".into()),
            ("TTY", "false".into()),
            ("Stdin", "false".into()),
            ("StdinOnce", "false".into()),
            ("Metadata", json!({ "name": self.asked.name }).to_string()),
            ("Labels", json!(self.container_labels()).to_string()),
            ("Annotations", "{}".into()),
            ("Volumes", "[]".into()),
        ];
        let command = self.asked.command.iter().map(|word| (*word).to_owned()).collect();
        Spec { command, annotations: all(own, self.container_labels()) }
    }

    pub(super) fn sandbox_answer(&self) -> api::PodSandbox {
        let CrioContainer { namespace, pod, .. } = self.asked;
        api::PodSandbox {
            id: self.sandbox.into(),
            metadata: Some(api::PodSandboxMetadata {
                name: (*pod).into(),
                uid: self.uid.into(),
                namespace: (*namespace).into(),
                attempt: 0,
            }),
            state: api::PodSandboxState::SandboxReady.into(),
            created_at: CREATED,
            labels: self.sandbox_labels(),
            annotations: HashMap::new(),
        }
    }

    /// `NewContainer` in internal/oci/container.go: without `user_specified_image`, which CRI-O does not pass on.
    pub(super) fn container_answer(&self) -> api::Container {
        api::Container {
            id: self.id.into(),
            pod_sandbox_id: self.sandbox.into(),
            metadata: Some(api::ContainerMetadata { name: self.asked.name.into(), attempt: 0 }),
            image: Some(api::ImageSpec { image: IMAGE_ID.into() }),
            image_ref: DIGEST.into(),
            state: api::ContainerState::ContainerRunning.into(),
            created_at: CREATED,
            labels: self.container_labels(),
            annotations: HashMap::new(),
            image_id: IMAGE_ID.into(),
        }
    }
}

/// CRI-O's own, and each label as an annotation besides.
fn all<const N: usize>(own: [(&str, String); N], labels: HashMap<String, String>) -> HashMap<String, String> {
    let own = own.map(|(name, value)| (format!("io.kubernetes.cri-o.{name}"), value));
    let manager = ("io.container.manager".to_owned(), "cri-o".to_owned());
    own.into_iter().chain([manager]).chain(labels).collect()
}

impl Spec {
    /// Writes the bundle, with a root that holds the workload alone.
    pub(super) fn write(&self, folder: &Path, cgroup: &str) -> anyhow::Result<()> {
        let root = folder.join("rootfs");
        fs::create_dir_all(&root)?;
        let program = root.join("workload");
        fs::write(&program, WORKLOAD)?;
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let made = Command::new("runc").args(["spec", "--bundle"]).arg(folder).status()?;
        ensure!(made.success(), "runc spec: {made}");
        let path = folder.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(self.command);
        config["root"]["readonly"] = json!(false);
        config["annotations"] = json!(self.annotations);
        config["linux"]["cgroupsPath"] = json!(cgroup);
        fs::write(&path, serde_json::to_vec(&config)?)?;
        Ok(())
    }
}
