//! What CRI-O answers: the lists, and how it filters them. What stands in the lists is made elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::{Request, Response, Status};

/// Made by `cargo xtask codegen`.
#[allow(
    clippy::allow_attributes_without_reason,
    clippy::all,
    clippy::pedantic,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub(super) mod api {
    include!("../generated/crio/runtime.v1.rs");
}

/// Clones answer the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Mutex<Listed>>);

#[derive(Debug, Default)]
struct Listed {
    sandboxes: Vec<api::PodSandbox>,
    containers: Vec<api::Container>,
    calls: Vec<&'static str>,
}

impl Answers {
    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_sandbox(&self, sandbox: api::PodSandbox) {
        self.listed().sandboxes.push(sandbox);
    }

    pub(super) fn add_container(&self, container: api::Container) {
        self.listed().containers.push(container);
    }

    pub(super) fn remove_container(&self, id: &str) {
        self.listed().containers.retain(|container| container.id != id);
    }

    pub(super) fn calls(&self) -> Vec<&'static str> {
        self.listed().calls.clone()
    }
}

#[tonic::async_trait]
impl api::runtime_service_server::RuntimeService for Answers {
    /// server/version.go: the interface's version is fixed there, for the kubelet's sake.
    async fn version(
        &self,
        _: Request<api::VersionRequest>,
    ) -> Result<Response<api::VersionResponse>, Status> {
        self.listed().calls.push("Version");
        Ok(Response::new(api::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "cri-o".into(),
            runtime_version: "1.34.1".into(),
            runtime_api_version: "v1".into(),
        }))
    }

    /// server/sandbox_list.go: an id may be shortened, and one that is not there is no mistake.
    async fn list_pod_sandbox(
        &self,
        request: Request<api::ListPodSandboxRequest>,
    ) -> Result<Response<api::ListPodSandboxResponse>, Status> {
        let id = request.into_inner().filter.unwrap_or_default().id;
        let mut listed = self.listed();
        listed.calls.push("ListPodSandbox");
        let items = listed.sandboxes.iter().filter(|sandbox| sandbox.id.starts_with(&id)).cloned().collect();
        Ok(Response::new(api::ListPodSandboxResponse { items }))
    }

    /// server/container_list.go: the same; the process of a sandbox is in no such list.
    async fn list_containers(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Result<Response<api::ListContainersResponse>, Status> {
        let id = request.into_inner().filter.unwrap_or_default().id;
        let mut listed = self.listed();
        listed.calls.push("ListContainers");
        let containers = listed.containers.iter().filter(|container| container.id.starts_with(&id));
        let containers = containers.cloned().collect();
        Ok(Response::new(api::ListContainersResponse { containers }))
    }
}
