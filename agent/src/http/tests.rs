//! Every status, over real sockets.

pub(super) mod alerts;
pub(super) mod captures;
mod doors;
mod limits;
mod runs;
mod scrape;
mod slow;
mod tls;

use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::metrics::{AgentMetrics, Samples};
use crate::model::Outcome;
use crate::model::testing::{container, named, result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

const RUN: &str = r#"{"probe":"sockets","target":{"pod":"cart-0"}}"#;

/// Rooms that answer what a test puts in.
struct Fake {
    agent: AgentMetrics,
    not_ready: Mutex<Option<String>>,
    run: Mutex<Option<Result<RunResult, RunRefusal>>>,
    asked: AtomicUsize,
    padding: AtomicUsize, // bytes of a comment below the metrics
    reload: Result<(), String>,
    scrape: scrape::Scrape,
    alerts: Alerts,
    captures: captures::Room,
}

impl Fake {
    fn new(agent: AgentMetrics, reload: Result<(), String>) -> Self {
        Self {
            alerts: alerts::room(&agent),
            captures: captures::room(&agent),
            agent,
            not_ready: Mutex::default(),
            run: Mutex::default(),
            asked: AtomicUsize::default(),
            padding: AtomicUsize::default(),
            reload,
            scrape: scrape::Scrape::default(),
        }
    }
}

impl Backend for Fake {
    fn metrics(&self, _room: String) -> String {
        let samples = Samples::new(Duration::ZERO, self.agent.series_dropped.clone());
        let padding = "#".repeat(self.padding.load(Ordering::Relaxed));
        crate::metrics::render(&self.agent, &samples) + &padding
    }
    fn containers(&self) -> Vec<Arc<Container>> {
        vec![container("a", named("shop", "cart-0", "<b>cart</b>")), container("b", None)]
    }
    fn last_runs(&self, limit: usize) -> Vec<LastRun> {
        vec![scrape::last_run(); limit.min(2)]
    }
    fn history(&self) -> Vec<Arc<Record>> {
        self.scrape.history.lock().unwrap().clone()
    }
    fn quarantined(&self) -> Vec<Quarantined> {
        Vec::new()
    }
    fn targets(&self, module: Option<&str>) -> Option<Vec<Arc<Container>>> {
        module.is_none_or(|module| module == "sockets").then(|| self.containers())
    }
    fn probe(&self, ask: ProbeAsk) -> BoxFuture<'static, Result<ProbeAnswer, ProbeRefusal>> {
        self.scrape.probe(ask)
    }
    fn not_ready(&self) -> Option<String> {
        self.not_ready.lock().unwrap().clone()
    }
    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
        let answer = self.reload.clone();
        Box::pin(async move { answer })
    }
    fn table(&self, _: &str) -> Option<Table> {
        None
    }
    fn captures(&self) -> Captures {
        self.captures.captures.clone()
    }
    fn alerts(&self) -> &Alerts {
        &self.alerts
    }
    fn run(&self, ask: RunAsk) -> BoxFuture<'static, Result<RunResult, RunRefusal>> {
        assert_eq!((ask.probe.as_str(), ask.target.pod.as_deref()), ("sockets", Some("cart-0")));
        self.asked.fetch_add(1, Ordering::Relaxed);
        let answer = self.run.lock().unwrap().take();
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

struct Served {
    fake: Arc<Fake>,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn options(agent: &AgentMetrics, access: Access, enable_lifecycle: bool) -> Options {
    Options {
        enable_lifecycle,
        requests: agent.http_requests.clone(),
        access,
        connections: Connections {
            open: agent.http_connections.clone(),
            closed: agent.http_connections_closed.clone(),
        },
        timeout_offset: Duration::from_millis(500),
        web_config_good: agent.web_config_last_reload_successful.clone(),
    }
}

/// Where everybody may do everything.
async fn served(enable_lifecycle: bool, reload: Result<(), String>) -> Served {
    served_by(Access::new(None, None, true).unwrap(), enable_lifecycle, reload).await
}

async fn served_by(access: Access, enable_lifecycle: bool, reload: Result<(), String>) -> Served {
    let agent = AgentMetrics::new().unwrap();
    let options = options(&agent, access, enable_lifecycle);
    let fake = Arc::new(Fake::new(agent, reload));
    let bound = Bound::new(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let ListenAddress::Tcp(address) = bound.address().unwrap() else { panic!("TCP was asked for") };
    let stop = CancellationToken::new();
    let grace = Duration::from_millis(300);
    let task = tokio::spawn(serve(vec![bound], fake.clone(), options, stop.clone(), grace));
    Served { fake, address, stop, task }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
    fn json(&self) -> serde_json::Value {
        assert!(self.head.contains("content-type: application/json\r\n"), "{}", self.head);
        serde_json::from_slice(&self.body).unwrap()
    }
    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Served {
    /// Whether the server closes without a word, or with an alert of TLS.
    async fn silence(&self, request: &str) -> bool {
        !self.bytes(request).await.is_ok_and(|bytes| bytes.starts_with(b"HTTP/"))
    }

    async fn bytes(&self, request: &str) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    /// Sends bytes as they are and reads until the server closes.
    async fn raw(&self, request: &str) -> Answer {
        let bytes = self.bytes(request).await.unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        Answer { status: head[9..12].parse().unwrap(), head, body: bytes[end..].to_vec() }
    }

    fn closed(&self, reason: &str) -> u64 {
        self.fake.agent.http_connections_closed.with_label_values(&[reason]).get()
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    async fn run(&self, answer: Result<RunResult, RunRefusal>) -> Answer {
        *self.fake.run.lock().unwrap() = Some(answer);
        self.ask("POST", "/api/v1/run", "Content-Type: application/json; charset=utf-8\r\n", RUN).await
    }
}

#[tokio::test]
async fn metrics_are_served_plain_and_zipped() {
    let served = served(false, Ok(())).await;
    let plain = served.get("/metrics").await;
    assert_eq!(plain.status, 200);
    assert!(
        plain.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
        "{}",
        plain.head
    );
    assert!(plain.head.contains("x-content-type-options: nosniff\r\n"));
    crate::metrics::promtool::assert_clean(plain.text());
    for (accepted, zipped) in
        [("gzip", true), ("deflate, GZIP;q=0.5", true), ("gzip;q=0", false), ("br", false)]
    {
        let answer = served.ask("GET", "/metrics", &format!("Accept-Encoding: {accepted}\r\n"), "").await;
        assert_eq!(answer.head.contains("content-encoding: gzip\r\n"), zipped, "{accepted}");
        let mut text = String::new();
        if zipped {
            flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
        } else {
            text = answer.text().to_owned();
        }
        assert!(text.contains("parachute_http_requests_total{code=\"200\"}"), "{accepted}");
    }
    let head = served.ask("HEAD", "/metrics", "", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(served.fake.agent.http_requests.with_label_values(&["200"]).get(), 6);
}

#[tokio::test]
async fn health_readiness_and_unknown_paths() {
    let served = served(false, Ok(())).await;
    assert_eq!(served.get("/-/healthy").await.status, 200);
    assert_eq!(served.get("/-/ready").await.status, 200);
    *served.fake.not_ready.lock().unwrap() = Some("the first scan is not done".into());
    let answer = served.get("/-/ready").await;
    assert_eq!((answer.status, answer.text()), (503, "not ready: the first scan is not done\n"));
    assert_eq!(served.get("/-/healthy").await.status, 200, "a process that is not ready is still healthy");
    for path in [
        "/nowhere",
        "/metrics/x",
        "/../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/metrics/",
        "//",
        "/-/healthy/",
        "/-/ready/",
        "/-/reload/",
    ] {
        assert_eq!(served.get(path).await.status, 404, "{path}");
    }
    for path in ["/api/v2/run", "/api/v1/run/", "/api/v1/containers/"] {
        let api = served.get(path).await;
        assert_eq!((api.status, api.error().as_str()), (404, "there is nothing at this path"), "{path}");
    }
    assert_eq!(served.get("/metrics?x=1/").await.status, 200, "the slash of a query is not the path's");
}

#[tokio::test]
async fn wrong_methods_name_the_right_ones() {
    let served = served(true, Ok(())).await;
    for (path, allowed) in [
        ("/metrics", "GET, HEAD"),
        ("/-/healthy", "GET, HEAD"),
        ("/-/ready", "GET, HEAD"),
        ("/api/v1/containers", "GET, HEAD"),
        ("/", "GET, HEAD"),
        ("/-/reload", "POST"),
        ("/api/v1/run", "POST"),
    ] {
        let method = if allowed == "POST" { "GET" } else { "POST" };
        let answer = served.ask(method, path, "", "").await;
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.head.contains(&format!("allow: {allowed}\r\n")), "{path}: {}", answer.head);
    }
}

#[tokio::test]
async fn reload_needs_its_flag_and_says_what_is_wrong() {
    let off = served(false, Ok(())).await.ask("POST", "/-/reload", "", "").await;
    assert!(off.status == 403 && off.text().contains("--web.enable-lifecycle"), "{}", off.text());
    let on = served(true, Ok(())).await;
    assert_eq!(on.ask("POST", "/-/reload", "", "").await.status, 200);
    assert_eq!(on.ask("POST", "/-/reload", "Origin: http://x\r\n", "").await.status, 403);
    let bad = served(true, Err("line 3: no".into())).await.ask("POST", "/-/reload", "", "").await;
    assert_eq!((bad.status, bad.text()), (500, "line 3: no\n"));
}

#[tokio::test]
async fn containers_are_listed_as_they_are() {
    let served = served(false, Ok(())).await;
    let list = served.get("/api/v1/containers").await.json();
    assert_eq!(list["containers"][0]["container"], "<b>cart</b>");
    assert_eq!(
        (&list["containers"][1]["container"], &list["containers"][1]["described"]),
        (&"b".repeat(12).into(), &false.into())
    );
}

#[tokio::test]
async fn a_unix_socket_is_private_and_replaces_only_a_dead_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let address: ListenAddress = format!("unix:{}", path.display()).parse().unwrap();
    let bound = Bound::new(&address).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Bound::new(&address).await, Err(HttpError::InUse(_))));
    let agent = AgentMetrics::new().unwrap();
    // Who may ask here is the file system's to say.
    let options = options(&agent, Access::new(None, None, false).unwrap(), false);
    let fake = Fake::new(agent, Ok(()));
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(vec![bound], Arc::new(fake), options, stop.clone(), Duration::ZERO));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /api/v1/containers HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    stop.cancel();
    task.await.unwrap();
    assert!(!path.exists());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(Bound::new(&address).await.expect("a socket on which nobody listens is replaced"));
    std::fs::write(&path, "mine").unwrap();
    assert!(matches!(Bound::new(&address).await, Err(HttpError::NotASocket(_))));
}
