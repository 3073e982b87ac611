//! Captures to a real S3 server that checks signatures: s3s-fs, on loopback, its objects files below a temporary folder. The
//! room alone, as it needs no containers.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use parachute::config;
use parachute::metrics::AgentMetrics;
use parachute::model::RunId;
use parachute::upload::{self, Counters, Destination, Start, Uploads};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No test waits longer for anything; on an idle machine each ends within some seconds.
const LONGEST: Duration = Duration::from_mins(1);
const SECRET: &str = "the-right-secret";
/// Set for the copy of this program that one test starts and kills.
const CHILD: &str = "PARACHUTE_TEST_UPLOADS";

struct Server {
    child: Option<Child>,
    port: u16,
    root: tempfile::TempDir,
}

impl Server {
    /// With a bucket, and not running.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("bucket")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { child: None, port, root }
    }

    fn started() -> Self {
        let mut server = Self::new();
        server.start();
        server
    }

    fn start(&mut self) {
        let mut command = Command::new("s3s-fs");
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--access-key", "key", "--secret-key", SECRET]).arg(self.root.path());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("s3s-fs is not installed: cargo xtask setup"));
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < LONGEST, "s3s-fs does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn environment(&self, secret: &str) -> Vec<(OsString, OsString)> {
        [
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port).as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ]
        .map(|(key, value)| (key.into(), value.into()))
        .into()
    }

    fn object(&self, node: &str, id: &RunId, name: &str) -> PathBuf {
        self.root.path().join("bucket/some/where").join(node).join(id.as_str()).join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An agent's part of this.
struct Node {
    uploads: Uploads,
    task: JoinHandle<()>,
    counters: Counters,
    stop: CancellationToken,
}

impl Node {
    fn start(folder: &Path, name: &str, environment: Vec<(OsString, OsString)>) -> Self {
        let store = config::Store {
            kind: config::StoreKind::S3,
            bucket: "s3://bucket".into(),
            prefix: "some/where".into(),
        };
        let counters = parachute::app::upload_counters(&AgentMetrics::new().unwrap());
        let stop = CancellationToken::new();
        let (uploads, task) = upload::start(Start {
            folder: folder.to_owned(),
            destination: Destination::open(&store, name, environment).unwrap(),
            counters: counters.clone(),
            stop: stop.clone(),
        });
        Self { uploads, task, counters, stop }
    }

    async fn uploaded(&self, count: u64) {
        until("uploads", || self.counters.uploads.get() == count).await;
        assert_eq!(self.counters.pending.get(), 0);
    }

    async fn failed(&self, reason: &str) {
        until(reason, || self.counters.failures.with_label_values(&[reason]).get() > 0).await;
        assert_eq!(self.counters.uploads.get(), 0);
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("the grace").unwrap();
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONGEST, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A capture on disk whose stdout has so many bytes that do not repeat.
fn capture(folder: &Path, stdout: usize) -> RunId {
    let id = RunId::fresh();
    let place = folder.join(id.as_str());
    fs::create_dir(&place).unwrap();
    fs::write(place.join("record.json"), format!(r#"{{"id": "{id}"}}"#)).unwrap();
    if stdout > 0 {
        let mut bytes = vec![0; stdout];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        fs::write(place.join("stdout.zst"), bytes).unwrap();
    }
    id
}

fn assert_whole(server: &Server, node: &str, folder: &Path, id: &RunId) {
    for name in ["record.json", "stdout.zst", "stderr.zst"] {
        let here = fs::read(folder.join(id.as_str()).join(name)).ok();
        let there = fs::read(server.object(node, id, name)).ok();
        assert!(here == there, "{id}/{name} is not the same there");
    }
}

fn is_marked(folder: &Path, id: &RunId) -> bool {
    folder.join(id.as_str()).join("uploaded").exists()
}

#[tokio::test]
async fn captures_arrive_whole() {
    let server = Server::started();
    let folder = tempfile::tempdir().unwrap();
    let old = [0, 1, 1000, (5 << 20) + 1, 12 << 20].map(|size| capture(folder.path(), size));
    fs::write(folder.path().join(old[1].as_str()).join("stderr.zst"), "said").unwrap();
    let node = Node::start(folder.path(), "node-1", server.environment(SECRET));
    node.uploaded(5).await;
    let new = capture(folder.path(), 10);
    node.uploads.kept(&new);
    node.uploaded(6).await;
    for id in old.iter().chain([&new]) {
        assert_whole(&server, "node-1", folder.path(), id);
        assert!(is_marked(folder.path(), id));
    }
    assert!(node.counters.bytes.get() > 17 << 20);
    let unfinished = fs::read_dir(server.root.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".part-"));
    assert_eq!(unfinished.count(), 0);
    node.stop().await;

    // What is marked is not sent again.
    let again = Node::start(folder.path(), "node-1", server.environment(SECRET));
    let last = capture(folder.path(), 10);
    again.uploads.kept(&last);
    again.uploaded(1).await;
    again.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_counted_and_the_right_one_catches_up() {
    let server = Server::started();
    let folder = tempfile::tempdir().unwrap();
    let id = capture(folder.path(), 10);
    let node = Node::start(folder.path(), "node-1", server.environment("the-wrong-secret"));
    node.failed("refused").await;
    assert!(!server.object("node-1", &id, "record.json").exists() && !is_marked(folder.path(), &id));
    node.stop().await;
    let node = Node::start(folder.path(), "node-1", server.environment(SECRET));
    node.uploaded(1).await;
    assert_whole(&server, "node-1", folder.path(), &id);
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_is_down_is_tried_again_and_what_is_gone_by_then_is_counted() {
    let mut server = Server::new();
    let folder = tempfile::tempdir().unwrap();
    let (gone, stays) = (capture(folder.path(), 10), capture(folder.path(), 10));
    let node = Node::start(folder.path(), "node-1", server.environment(SECRET));
    let unreachable = node.counters.failures.with_label_values(&["unreachable"]);
    // Both: one that is still tried has its files open, and would be there whole when the server comes.
    until("both to fail", || unreachable.get() == 2).await;
    fs::remove_dir_all(folder.path().join(gone.as_str())).unwrap();
    server.start();
    // In whatever order: both may have been made within one millisecond.
    until("the one that has gone", || node.counters.missed.get() == 1).await;
    node.uploaded(1).await;
    assert_whole(&server, "node-1", folder.path(), &stays);

    // Down in the midst of it, and back.
    server.stop();
    let later = capture(folder.path(), 6 << 20);
    node.uploads.kept(&later);
    let before = unreachable.get();
    until("another failure", || unreachable.get() > before).await;
    server.start();
    node.uploaded(2).await;
    assert_whole(&server, "node-1", folder.path(), &later);
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_holds_up_nothing_else() {
    let server = Server::started();
    let folder = tempfile::tempdir().unwrap();
    let bad = capture(folder.path(), 0);
    let secret = folder.path().join("secret");
    fs::write(&secret, "not for a store").unwrap();
    std::os::unix::fs::symlink(&secret, folder.path().join(bad.as_str()).join("stdout.zst")).unwrap();
    let good = capture(folder.path(), 10);
    let node = Node::start(folder.path(), "node-1", server.environment(SECRET));
    node.uploaded(1).await;
    until("the bad one", || node.counters.failures.with_label_values(&["local"]).get() == 1).await;
    assert_whole(&server, "node-1", folder.path(), &good);
    assert!(!server.object("node-1", &bad, "stdout.zst").exists());
    node.stop().await;
}

#[tokio::test]
async fn nodes_do_not_collide() {
    let server = Server::started();
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let id = capture(folders[0].path(), 10);
    let other = capture(folders[1].path(), 20);
    // Two runs of one name.
    fs::rename(folders[1].path().join(other.as_str()), folders[1].path().join(id.as_str())).unwrap();
    let nodes = [("a", &folders[0]), ("a/b", &folders[1])]
        .map(|(name, folder)| Node::start(folder.path(), name, server.environment(SECRET)));
    for node in nodes {
        node.uploaded(1).await;
        node.stop().await;
    }
    assert_whole(&server, "a", folders[0].path(), &id);
    assert_whole(&server, "a%2Fb", folders[1].path(), &id);
}

#[tokio::test]
async fn an_agent_that_is_killed_in_the_midst_of_it_completes_it_later() {
    let server = Server::started();
    let folder = tempfile::tempdir().unwrap();
    let id = capture(folder.path(), 64 << 20);
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "uploads_for_another_test"]).envs(server.environment(SECRET));
        command.env(CHILD, folder.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut first = child();
    let has_part = || {
        let entries = fs::read_dir(server.root.path()).unwrap().flatten();
        entries.into_iter().any(|entry| entry.metadata().is_ok_and(|about| about.len() >= 1 << 20))
    };
    until("the first part", has_part).await;
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!is_marked(folder.path(), &id) && !server.object("node-1", &id, "record.json").exists());

    let mut second = child();
    until("the mark", || is_marked(folder.path(), &id)).await;
    let status = fs::read_to_string(format!("/proc/{}/status", second.id())).unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
    assert_whole(&server, "node-1", folder.path(), &id);
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 56 << 10, "64 MiB were sent with a peak of {kilobytes} kB in memory");
}

/// Does nothing but in the copy of this program that the test above starts, which kills it.
#[tokio::test]
async fn uploads_for_another_test() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let node = Node::start(Path::new(&folder), "node-1", std::env::vars_os().collect());
    node.task.await.unwrap();
}
