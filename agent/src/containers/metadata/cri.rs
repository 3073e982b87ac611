//! Asking a runtime over CRI: two calls, each with a deadline, each counted. Knows nothing of who is waiting for what.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use super::Counters;
use super::generated::runtime_service_client::RuntimeServiceClient;
use super::generated::{
    self as api, ContainerFilter, ListContainersRequest, ListPodSandboxRequest, PodSandboxFilter,
};
use crate::model::{Metadata, Runtime};

/// A runtime that does not answer within this is asked again later.
const DEADLINE: Duration = Duration::from_secs(2);
/// A list of a thousand containers with many labels is about a megabyte.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Where runtimes listen unless told otherwise.
pub(super) const USUAL: [&str; 6] = [
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];

/// The calls, as the label `call` has them.
pub(super) const CALLS: [&str; 2] = [LIST_CONTAINERS, LIST_SANDBOXES];
const LIST_CONTAINERS: &str = "ListContainers";
const LIST_SANDBOXES: &str = "ListPodSandbox";

/// Why a runtime gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CriError {
    #[error("{socket}: no answer within {} s; is the runtime overloaded?", DEADLINE.as_secs())]
    Slow { socket: PathBuf },
    #[error("{socket}: {message}; is it a CRI socket, and does the runtime run?")]
    Failed { socket: PathBuf, message: String },
    /// As Docker's own containerd, whose plugin of that name is switched off.
    #[error("{socket}: it speaks no CRI ({message}): leave it out of `runtimes:`, or switch its plugin on")]
    NoCri { socket: PathBuf, message: String },
}

/// One container or sandbox as the runtime describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) id: String,
    /// Of a container: its pod's sandbox.
    pub(super) sandbox_id: String,
    pub(super) metadata: Metadata,
}

/// A runtime's socket. Connecting is left to the first call, and after a restart to the next one.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
    pub(super) runtime: Runtime,
    api: RuntimeServiceClient<Channel>,
}

impl Client {
    /// # Errors
    /// Only for a path that is no URI, such as one with a space.
    pub(super) fn new(socket: &Path) -> Result<Self, tonic::transport::Error> {
        let endpoint =
            Endpoint::from_shared(format!("unix://{}", socket.display()))?.connect_timeout(DEADLINE);
        let api = RuntimeServiceClient::new(endpoint.connect_lazy()).max_decoding_message_size(MAX_ANSWER);
        Ok(Self { socket: socket.to_owned(), runtime: runtime_of(socket), api })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// All containers, or the one with this id.
    pub(super) async fn containers(
        &self,
        id: Option<&str>,
        counters: &Counters,
    ) -> Result<Vec<Described>, CriError> {
        let filter = id.map(|id| ContainerFilter { id: id.to_owned() });
        let mut api = self.api.clone();
        let call = async move { api.list_containers(ListContainersRequest { filter }).await };
        let answer = self.counted(LIST_CONTAINERS, counters, call).await?;
        Ok(answer.containers.into_iter().map(container).collect())
    }

    /// All sandboxes, or the one with this id.
    pub(super) async fn sandboxes(
        &self,
        id: Option<&str>,
        counters: &Counters,
    ) -> Result<Vec<Described>, CriError> {
        let filter = id.map(|id| PodSandboxFilter { id: id.to_owned() });
        let mut api = self.api.clone();
        let call = async move { api.list_pod_sandbox(ListPodSandboxRequest { filter }).await };
        let answer = self.counted(LIST_SANDBOXES, counters, call).await?;
        Ok(answer.items.into_iter().map(sandbox).collect())
    }

    async fn counted<T>(
        &self,
        name: &str,
        counters: &Counters,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, CriError> {
        let labels = [self.runtime.as_str(), name];
        counters.requests.with_label_values(&labels).inc();
        let socket = || self.socket.clone();
        let answer = match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                let (socket, message) = (socket(), status.message().to_owned());
                Err(if status.code() == tonic::Code::Unimplemented {
                    CriError::NoCri { socket, message }
                } else {
                    CriError::Failed { socket, message }
                })
            }
            Err(_late) => Err(CriError::Slow { socket: socket() }),
        };
        if answer.is_err() {
            counters.failures.with_label_values(&labels).inc();
        }
        answer
    }
}

/// By the socket's name: the label of the request counters, also when nobody answers there.
fn runtime_of(socket: &Path) -> Runtime {
    let path = socket.to_string_lossy();
    [(Runtime::Docker, "dockerd"), (Runtime::Crio, "crio"), (Runtime::Containerd, "containerd")]
        .into_iter()
        .find(|(_, word)| path.contains(word))
        .map_or(Runtime::Unknown, |(runtime, _)| runtime)
}

fn container(from: api::Container) -> Described {
    let mut labels: BTreeMap<String, String> = from.labels.into_iter().collect();
    // What the kubelet puts on each container; it says nothing that `Metadata` does not.
    let mut take = |name: &str| labels.remove(&format!("io.kubernetes.{name}")).unwrap_or_default();
    let (pod, namespace, pod_uid) = (take("pod.name"), take("pod.namespace"), take("pod.uid"));
    let labelled = take("container.name");
    let name =
        from.metadata.map(|metadata| metadata.name).filter(|name| !name.is_empty()).unwrap_or(labelled);
    let image = from.image.unwrap_or_default();
    let image = if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image };
    let metadata = Metadata { container: name, pod, namespace, pod_uid, image, labels, sandbox: false };
    Described { id: from.id, sandbox_id: from.pod_sandbox_id, metadata }
}

fn sandbox(from: api::PodSandbox) -> Described {
    let named = from.metadata.unwrap_or_default();
    let mut labels: BTreeMap<String, String> = from.labels.into_iter().collect();
    labels.retain(|name, _| !name.starts_with("io.kubernetes."));
    let metadata = Metadata {
        pod: named.name,
        namespace: named.namespace,
        pod_uid: named.uid,
        labels,
        sandbox: true,
        ..Metadata::default()
    };
    Described { sandbox_id: from.id.clone(), id: from.id, metadata }
}
