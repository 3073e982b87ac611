//! The bed on the real thing: pods run, two beds do not meet, a restart keeps the pods, and nothing is left over.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::fs;

use testbed::{Containerd, Snapshot, WORKLOAD_IMAGE};

async fn bed(dir: &tempfile::TempDir) -> Containerd {
    Containerd::start(dir.path()).await.unwrap()
}

#[tokio::test]
async fn beds_run_side_by_side_and_leave_nothing() {
    let before = Snapshot::take();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (mut one, two) = tokio::join!(bed(&dirs[0]), bed(&dirs[1]));

    let listener = one
        .pod("shop", "cart-0")
        .label("app", "cart")
        .container("cart", WORKLOAD_IMAGE, &["/workload", "listen", "3", "2"])
        .container("side", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    let tree = two.pod("shop", "cart-0").container("cart", WORKLOAD_IMAGE, &["/workload", "tree", "5"]);
    let (listener, tree) = tokio::join!(listener.start(), tree.start());
    let (listener, tree) = (listener.unwrap(), tree.unwrap());

    assert!(listener.ip.starts_with("198."), "{}", listener.ip);
    assert_eq!(listener.containers.len(), 2);
    let cart = listener.container("cart").unwrap();
    assert_eq!(cart.id.len(), 64);
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", cart.pid)).unwrap();
    assert!(cgroup.contains(&format!("/kubepods/burstable/pod{}/{}", listener.uid, cart.id)), "{cgroup}");
    wait_until("the listener listens", || listening(cart.pid) == 3).await;
    wait_until("the tree has grown", || processes_like(tree.containers[0].pid) == 6).await;

    one.restart().await.unwrap();
    assert_eq!(listening(cart.pid), 3, "the pods outlive containerd");
    listener.kill("side").await.unwrap();
    listener.remove().await.unwrap();

    drop(two);
    drop(one);
    assert_eq!(before.leftovers(), [""; 0]);
    assert!(dirs.iter().all(|dir| !dir.path().exists()));
}

async fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "still waiting until {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// TCP sockets in state LISTEN (0A) in the network namespace of a process.
fn listening(pid: i32) -> usize {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    table.lines().filter(|line| line.split_whitespace().nth(3) == Some("0A")).count()
}

/// Processes in the same pid namespace as `pid`.
fn processes_like(pid: i32) -> usize {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = namespace(&pid.to_string());
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| namespace(&entry.file_name().to_string_lossy()) == ours).count()
}
