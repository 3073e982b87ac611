//! The describer against a runtime that answers as containerd and CRI-O do, and against ones that do not.

use std::path::Path;
use std::sync::Mutex;

use prometheus::Opts;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::generated::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use super::generated::{self as api};
use super::lists::BACKOFF;
use super::*;
use crate::model::{Metadata, testing};

mod engines;

/// A runtime with one pod: sandbox `5…`, container `c…`.
#[derive(Clone, Default)]
struct Fake {
    calls: Arc<Mutex<Vec<String>>>,
    /// As containerd with its CRI plugin switched off.
    speaks_no_cri: bool,
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
        if self.speaks_no_cri {
            return Err(Status::unimplemented("unknown service runtime.v1.RuntimeService"));
        }
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

/// As with CRI-O: the sandbox is listed, and there is nobody to be seen of it.
#[tokio::test]
async fn a_pods_labels_are_known_where_its_sandbox_has_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("crio.sock");
    let fake = Fake::default();
    let _server = fake.serve(&socket);
    let describer = describer(&socket, &counters());
    let (older, newer) = (container('c'), container('c'));
    describer.up(&older, None).await;
    describer.scanned().await;
    let labels = |of: &Metadata| of.labels.get("app").cloned();
    assert_eq!(labels(&*described(&older).await).as_deref(), Some("cart"));
    describer.down(&older).await;
    describer.up(&newer, None).await;
    assert_eq!(labels(&*described(&newer).await).as_deref(), Some("cart"));
    assert_eq!(fake.calls(), ["sandboxes al", "containers a", "containers c", "sandboxes 55"]);
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
        let client = cri::Client::new(&socket).unwrap();
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

#[tokio::test]
async fn who_speaks_no_cri_is_not_asked_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("containerd.sock");
    let fake = Fake { speaks_no_cri: true, ..Fake::default() };
    let _server = fake.serve(&socket);
    let describer = describer(&socket, &counters());
    describer.up(&container('c'), None).await;
    describer.scanned().await;
    tokio::time::sleep(BACKOFF.0 * 3).await;
    assert_eq!(fake.calls(), ["sandboxes al"]);
}

#[tokio::test]
async fn who_is_silent_keeps_nobody_from_describing_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (silent, socket) = (folder.path().join("containerd.sock"), folder.path().join("crio.sock"));
    let _silent = UnixListener::bind(&silent).unwrap();
    let fake = Fake::default();
    let _server = fake.serve(&socket);
    let counters = counters();
    let runtimes = Runtimes::Listed([silent, socket].map(RuntimeEndpoint::Cri).into());
    let describer = start(&runtimes, counters.clone(), Box::new(|_| {}));
    let begun = std::time::Instant::now();
    let (older, newer) = (container('c'), container('c'));
    describer.up(&older, None).await;
    describer.scanned().await;
    assert_eq!(described(&older).await.pod, "cart-0");
    describer.down(&older).await;
    describer.up(&newer, None).await;
    assert_eq!(described(&newer).await.pod, "cart-0");
    let failures = || counters.failures.with_label_values(&["containerd", "ListPodSandbox"]).get();
    // On a machine that took as long as its deadline for all this, it tells nothing.
    assert!(failures() == 0 || begun.elapsed() > Duration::from_millis(1900), "it has been waited for");
    describer.listed().await;
    assert_eq!(failures(), 1);
}

#[tokio::test]
async fn a_socket_that_comes_later_is_asked_then() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("crio.sock");
    let source = source::Source::Cri(cri::Client::new(&socket).unwrap());
    let mut lists = Lists::new(vec![source], true, counters());
    lists.start();
    assert!(lists.is_empty() && lists.are_over() && lists.failing().is_none());
    let _server = Fake::default().serve(&socket);
    lists.look_for_absent();
    assert!(!lists.is_empty());
    lists.start();
    assert_eq!((lists.next().await.len(), lists.is_one_answering()), (2, true));
}
