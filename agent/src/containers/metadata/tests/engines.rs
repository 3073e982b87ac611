//! The describer against Docker and Podman as they have answered, and against what only listens there.

use super::*;

/// One whose id has been recorded, of Podman's by its cgroup.
fn of_id(id: &str) -> Arc<Container> {
    let mut container = Arc::into_inner(testing::container(id, None)).unwrap();
    container.runtime = Runtime::Podman;
    Arc::new(container)
}

/// Docker or Podman, as recorded: every request is answered with this list, or with the entries of the id in it.
struct Engine {
    asked: Arc<Mutex<Vec<String>>>,
    _server: tokio::task::JoinHandle<()>,
}

impl Engine {
    fn serve(socket: &Path, recorded: &'static str) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = tokio::io::BufStream::new(stream);
                let mut line = String::new();
                tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut line).await.unwrap();
                let mut all: Vec<serde_json::Value> = serde_json::from_str(recorded).unwrap();
                if let Some((_, rest)) = line.split_once("%22%3A%5B%22") {
                    let id = rest.split('%').next().unwrap();
                    all.retain(|entry| entry["Id"] == id);
                }
                log.lock().unwrap().push(line.split_whitespace().nth(1).unwrap().to_owned());
                let body = serde_json::to_string(&all).unwrap();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
                tokio::io::AsyncWriteExt::flush(&mut stream).await.unwrap();
            }
        });
        Self { asked, _server: server }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|path| path[..path.len().min(40)].to_owned()).collect()
    }
}

#[tokio::test]
async fn docker_and_podman_are_asked_once_as_others_are_and_a_dead_one_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let docker = Engine::serve(
        &path("docker"),
        include_str!("../../../../../tests/fixtures/engines/docker-20.10.json"),
    );
    let podman =
        Engine::serve(&path("podman"), include_str!("../../../../../tests/fixtures/engines/podman-4.3.json"));
    let runtimes = Runtimes::Listed(vec![
        RuntimeEndpoint::Cri(path("dead")),
        RuntimeEndpoint::Docker(path("docker")),
        RuntimeEndpoint::Podman(path("podman")),
    ]);
    let counters = counters();
    let describer = start(&runtimes, counters.clone(), Box::new(|_| {}));
    let cart = of_id("d71b649875c828e1caaaedacc3a705b5640cddd718e6cb3cdfacdabc8c695040");
    describer.up(&cart, None).await;
    describer.scanned().await;
    describer.listed().await;
    let metadata = described(&cart).await;
    assert_eq!([&metadata.namespace, &metadata.pod, &metadata.container], ["shop", "shop-cart-1", "cart"]);
    assert_eq!(metadata.labels.len(), 3);
    let inpod = of_id("047da95f3e7b72bc502e06ede3e501166e22feb86091dd3d697449fe167f93c1");
    let infra = of_id("bf132c070ffee29d3c8a7324aaa001b87eccf1084df60524cc0363aeb894f5a6");
    describer.up(&infra, None).await;
    describer.up(&inpod, None).await;
    let metadata = described(&inpod).await;
    assert_eq!([&metadata.namespace, &metadata.pod, &metadata.container], ["", "mypod", "inpod"]);
    described(&infra).await;
    assert!(infra.is_sandbox());
    // Nobody is asked for anything twice, whatever the dead one does.
    tokio::time::sleep(BACKOFF.0 * 3).await;
    assert_eq!(docker.asked(), ["/containers/json"], "once, for all that were there");
    assert_eq!(podman.asked().first().map(String::as_str), Some("/v4.0.0/libpod/containers/json"));
    assert_eq!(counters.failures.with_label_values(&["docker", engine::CALL]).get(), 0);
    assert!(counters.requests.with_label_values(&["podman", engine::CALL]).get() >= 2);

    // One that nobody knows waits for the dead one, ever longer; who comes then waits for neither.
    describer.up(&of_id(&"d".repeat(64)), None).await;
    tokio::time::sleep(BACKOFF.0 * 4).await;
    describer.down(&cart).await;
    let again = of_id(cart.id.as_str());
    describer.up(&again, None).await;
    let soon = tokio::time::timeout(BACKOFF.0 / 2, described(&again)).await;
    assert_eq!(soon.expect("named at once").container, "cart");
}

/// What its storage's list made of a name is a guess; its API says what it is.
#[tokio::test]
async fn a_container_that_is_called_like_a_pods_own_is_one_all_the_same() {
    let told = |sandbox| Described {
        id: "a".repeat(64),
        sandbox_id: String::new(),
        metadata: Metadata { container: "0123456789ab-infra".into(), sandbox, ..Metadata::default() },
    };
    let container = of_id(&"a".repeat(64));
    let guessed = Metadata { sandbox: true, ..Metadata::default() };
    container.metadata.store(Some(Arc::new(guessed)));
    let known = Known {
        container: Arc::clone(&container),
        kind: None,
        sandbox_id: String::new(),
        due: None,
        misses: 0,
    };
    let mut all = HashMap::from([(container.id.clone(), known)]);
    let nobody: OnDescribed = Box::new(|_| {});
    describe(&mut all, &nobody, &told(false), None);
    assert!(
        !container.is_sandbox() && container.metadata.load_full().unwrap().container == "0123456789ab-infra"
    );
    describe(&mut all, &nobody, &told(true), None);
    assert!(container.is_sandbox());
}

#[tokio::test]
async fn an_engine_that_lies_floods_or_never_answers_is_a_failure_and_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    for (name, head, said) in [
        ("silent", "", "no answer within 2 s"),
        ("closed", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", "is it the API socket of docker"),
        ("other", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "it answers 404"),
        ("flood", "HTTP/1.1 200 OK\r\n\r\n", "longer than 16 MiB"),
        ("head", "HTTP/1.1 200 OK\r\nX: ", "is it the API socket of docker"),
    ] {
        let socket = folder.path().join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                // An answer that came before its question would be none.
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(head.as_bytes()).await;
                let endless = matches!(name, "flood" | "head");
                while endless && stream.write_all(&[b' '; 16384]).await.is_ok() {}
                if name != "closed" {
                    open.push(stream);
                }
            }
        });
        let counters = counters();
        let client = engine::Client::new(Runtime::Docker, &socket);
        let error = client.containers(None, &counters).await.unwrap_err().to_string();
        // A flood may last until the deadline on a busy machine.
        let bounded = error.contains(said) || (name == "flood" && error.contains("no answer within 2 s"));
        assert!(bounded && error.contains(name), "{error}");
        assert_eq!(counters.failures.with_label_values(&["docker", engine::CALL]).get(), 1);
        server.abort();
    }
}

#[tokio::test]
async fn podmans_storage_gives_a_name_where_nobody_can_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let lists = folder.path().join("overlay-containers");
    std::fs::create_dir(&lists).unwrap();
    let recorded = include_str!("../../../../../tests/fixtures/engines/podman-4.3-storage.json");
    std::fs::write(lists.join("containers.json"), recorded).unwrap();
    let runtimes = Runtimes::Listed(vec![RuntimeEndpoint::PodmanStorage(folder.path().to_owned())]);
    let describer = start(&runtimes, counters(), Box::new(|_| {}));
    let id = "8ed73d9d6c3efb6c3d1f2d64e70104688d279c95cae89891737855120099b15c";
    let container = of_id(id);
    describer.up(&container, None).await;
    let metadata = container.metadata.load_full().expect("it is there at once");
    assert_eq!([&metadata.container, &metadata.image], ["plain", "parachute.test/workload:1"]);
    assert!(metadata.pod.is_empty() && !metadata.sandbox);
}
