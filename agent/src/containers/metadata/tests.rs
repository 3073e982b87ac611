//! The describer against a runtime that answers as containerd and CRI-O do, and against ones that do not.

use std::path::Path;
use std::sync::Mutex;

use prometheus::Opts;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::generated::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use super::generated::{self as api};
use super::*;
use crate::model::testing;

/// A runtime with one pod: sandbox `5…`, container `c…`.
#[derive(Clone, Default)]
struct Fake {
    calls: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl RuntimeService for Fake {
    async fn list_containers(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Result<Response<api::ListContainersResponse>, Status> {
        let id = request.into_inner().filter.map(|f| f.id);
        self.calls.lock().unwrap().push(format!("containers {}", id.as_deref().unwrap_or("all")));
        let kubelet = [
            ("pod.name", "cart-0"),
            ("pod.namespace", "shop"),
            ("pod.uid", "u-1"),
            ("container.name", "cart"),
        ];
        let labels = kubelet.map(|(name, value)| (format!("io.kubernetes.{name}"), value.to_owned()));
        let container = api::Container {
            id: "c".repeat(64),
            pod_sandbox_id: "5".repeat(64),
            metadata: Some(api::ContainerMetadata { name: "cart".into() }),
            image: Some(api::ImageSpec { image: "registry.k8s.io/cart:1".into(), ..Default::default() }),
            labels: labels.into(),
        };
        let containers =
            [container].into_iter().filter(|c| id.as_ref().is_none_or(|id| c.id == *id)).collect();
        Ok(Response::new(api::ListContainersResponse { containers }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<api::ListPodSandboxRequest>,
    ) -> Result<Response<api::ListPodSandboxResponse>, Status> {
        let id = request.into_inner().filter.map(|f| f.id);
        self.calls.lock().unwrap().push(format!("sandboxes {}", id.as_deref().unwrap_or("all")));
        let sandbox = api::PodSandbox {
            id: "5".repeat(64),
            metadata: Some(api::PodSandboxMetadata {
                name: "cart-0".into(),
                uid: "u-1".into(),
                namespace: "shop".into(),
            }),
            labels: [("app".to_owned(), "cart".to_owned())].into(),
        };
        let items = [sandbox].into_iter().filter(|s| id.as_ref().is_none_or(|id| s.id == *id)).collect();
        Ok(Response::new(api::ListPodSandboxResponse { items }))
    }
}

impl Fake {
    fn serve(&self, socket: &Path) -> tokio::task::JoinHandle<()> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let server = tonic::transport::Server::builder().add_service(RuntimeServiceServer::new(self.clone()));
        tokio::spawn(
            async move { server.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap() },
        )
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|call| call[..call.len().min(12)].to_owned()).collect()
    }
}

fn container(digit: char) -> Arc<Container> {
    testing::container(&digit.to_string(), None)
}

fn counters() -> Counters {
    let vec = |name| IntCounterVec::new(Opts::new(name, "h"), &["runtime", "call"]).unwrap();
    Counters { requests: vec("r"), failures: vec("f") }
}

fn describer(socket: &Path, counters: &Counters) -> Describer {
    let runtimes = Runtimes::Listed(vec![RuntimeEndpoint::Cri(socket.to_owned())]);
    start(&runtimes, counters.clone(), Box::new(|_| {}))
}

async fn described(container: &Container) -> Arc<Metadata> {
    for _ in 0..1000 {
        if let Some(metadata) = container.metadata.load_full() {
            return metadata;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} was not described within 10 s", container.id);
}

#[tokio::test]
async fn one_list_at_start_and_then_one_call_per_container() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let fake = Fake::default();
    let _server = fake.serve(&socket);
    let counters = counters();
    let describer = describer(&socket, &counters);
    let (sandbox, cart) = (container('5'), container('c'));
    describer.up(&sandbox, None).await;
    describer.up(&cart, None).await;
    describer.scanned().await;
    let metadata = described(&cart).await;
    assert_eq!(
        (metadata.namespace.as_str(), metadata.pod.as_str(), metadata.container.as_str()),
        ("shop", "cart-0", "cart")
    );
    assert_eq!(
        metadata.labels,
        [("app".to_owned(), "cart".to_owned())].into(),
        "the pod's labels, not the kubelet's"
    );
    assert!(sandbox.is_sandbox() && !cart.is_sandbox());
    assert_eq!(fake.calls(), ["sandboxes al", "containers a"]);

    // The same container again, as after a restart of the registry's view of it: one call more.
    describer.down(&cart).await;
    let again = container('c');
    describer.up(&again, None).await;
    assert_eq!(described(&again).await.pod, "cart-0");
    assert_eq!(fake.calls(), ["sandboxes al", "containers a", "containers c"]);
    assert_eq!(counters.requests.with_label_values(&["containerd", "ListContainers"]).get(), 2);
}

#[tokio::test]
async fn an_absent_runtime_is_asked_again_and_one_list_makes_up_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("crio.sock");
    let counters = counters();
    let describer = describer(&socket, &counters);
    let (sandbox, cart) = (container('5'), container('c'));
    describer.up(&sandbox, None).await;
    describer.up(&cart, None).await;
    describer.scanned().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(cart.metadata.load().is_none());
    assert_eq!(counters.failures.with_label_values(&["crio", "ListPodSandbox"]).get(), 1);
    let fake = Fake::default();
    let server = fake.serve(&socket);
    assert_eq!(described(&cart).await.pod, "cart-0");
    assert_eq!(fake.calls(), ["sandboxes al", "containers a"]);

    // A restart: the next call connects again by itself.
    server.abort();
    let _ = server.await;
    let _server = fake.serve(&socket);
    let again = container('c');
    describer.up(&again, None).await;
    assert_eq!(described(&again).await.container, "cart");
}

#[tokio::test]
async fn a_socket_that_never_answers_and_one_that_is_no_runtime_are_failures_and_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    for silent in [true, false] {
        let socket = folder.path().join(format!("containerd-{silent}.sock"));
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if !silent {
                    let _ =
                        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n")
                            .await;
                }
                open.push(stream);
            }
        });
        let counters = counters();
        let client = Client::new(&socket).unwrap();
        let error = client.containers(None, &counters).await.unwrap_err().to_string();
        let said = if silent { "no answer within 2 s" } else { "is it a CRI socket" };
        assert!(error.contains(said) && error.contains("containerd-"), "{error}");
        assert_eq!(counters.failures.with_label_values(&["containerd", "ListContainers"]).get(), 1);
        server.abort();
    }
}

#[tokio::test]
async fn who_is_no_runtimes_is_given_up_after_two_answers() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let fake = Fake::default();
    let _server = fake.serve(&socket);
    let describer = describer(&socket, &counters());
    describer.up(&container('d'), None).await;
    describer.scanned().await;
    tokio::time::sleep(MISS_DELAY * 3).await;
    assert_eq!(fake.calls(), ["sandboxes al", "containers a", "containers d", "sandboxes dd"]);
}
