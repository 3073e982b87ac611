//! What goes wrong, so that there is something to see: name servers of which one is silent, a certificate that ends soon, a
//! zombie, a queue of connections, an alert, a launcher that is killed, containers that end.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use testbed::{Agent, Pod, WORKLOAD_IMAGE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::ROOT;
use crate::common::alerting::{self, alert, payload};
use crate::common::{self, Rig, SOON};

/// A name server on one address of the pod's loopback, while the pod is told of two: no name is known to it.
pub(super) struct Answering {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    pub(super) fn start(pid: i32) -> Self {
        let resolv = format!("/proc/{pid}/root/etc/resolv.conf");
        fs::write(resolv, "nameserver 127.0.0.1\nnameserver 127.0.0.2\n").unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            // A thread's network namespace is its own, and goes with it.
            setns(File::open(format!("/proc/{pid}/ns/net")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut packet = [0; 512];
            while !told.load(Ordering::Relaxed) {
                let Ok((length, asker)) = socket.recv_from(&mut packet) else { continue };
                if let Some(answer) = no_such_name(&packet[..length]) {
                    socket.send_to(&answer, asker).unwrap();
                }
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The question of a DNS packet with the header of an answer NXDOMAIN (RFC 1035, section 4.1).
fn no_such_name(query: &[u8]) -> Option<Vec<u8>> {
    let mut end = 12;
    while *query.get(end)? != 0 {
        end += usize::from(query[end]) + 1;
    }
    let mut answer = query.get(..end + 5)?.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x83]);
    // One question, and no other records.
    answer[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    Some(answer)
}

/// Serves a file of `fixtures/scrape`; `@N` in it is what has grown by N in 1000 s.
pub(super) struct Exporter {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Exporter {
    pub(super) async fn start(name: &str) -> anyhow::Result<Self> {
        let text = fs::read_to_string(format!("{ROOT}/tests/fixtures/scrape/{name}.prom"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let since = Instant::now();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let body = grown(&text, since.elapsed().as_secs_f64());
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
                let _ = stream.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
            }
        });
        Ok(Self { address, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn grown(text: &str, seconds: f64) -> String {
    let line = |line: &str| match line.rsplit_once(" @") {
        Some((series, per)) => format!("{series} {}\n", per.parse::<f64>().unwrap() * seconds / 1000.0),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// What stays as long as this does: a TLS server, a process with a zombie, connections that nobody accepts.
pub(super) struct Held {
    commands: Vec<Child>,
    _waiting: Vec<TcpStream>,
}

impl Held {
    pub(super) fn start(rig: &Rig, agent: &Agent, cart: &Pod) -> Self {
        let (key, certificate) = (rig.path("key.pem"), rig.path("certificate.pem"));
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj", "/CN=cart"]);
        let made = make.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
        let server = ["openssl", "s_server", "-accept", "9443", "-key", key, "-cert", certificate];
        // What takes the shell's place does not wait for the shell's child.
        let zombie = ["sh", "-c", "sleep 0.1 & exec sleep 600"];
        let within = |words: &[&str]| {
            let words: Vec<_> = ["shop/cart-0/cart"].iter().chain(words).copied().collect();
            common::exec(agent, &words).stdout(Stdio::null()).spawn().unwrap()
        };
        let commands = vec![within(&server), within(&zombie)];
        let _waiting = (0..2).map(|_| TcpStream::connect((cart.ip.as_str(), 8001)).unwrap()).collect();
        Self { commands, _waiting }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for command in &mut self.commands {
            let _ = kill(Pid::from_raw(i32::try_from(command.id()).unwrap()), Signal::SIGTERM);
            let _ = command.wait();
        }
    }
}

/// One thing after the other, for long enough that each rate has something to rise by.
pub(super) async fn happen(rig: &Rig, agent: &Agent, cart: &Pod) {
    let asked = json!({ "probe": "process_tree", "target": { "namespace": "shop", "pod": "cart-0", "container": "cart" } });
    agent.post("/api/v1/run", &asked.to_string()).await.unwrap();
    let mut noticed = alert("ParachutePodDnsFailing", "cart-0", 1);
    noticed["labels"]["container"] = json!("cart");
    let answer = alerting::post(agent, &payload("dns", &[noticed])).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.body);
    // Of another node: nothing runs.
    let elsewhere = payload("elsewhere", &[alert("ParachutePodDnsFailing", "cart-9", 2)]);
    assert_eq!(alerting::post(agent, &elsewhere).await.unwrap().status, 200);
    assert_eq!(agent.get("/no-such-page").await.unwrap().status, 404);
    alerting::captured(agent, "alert=ParachutePodDnsFailing", 2).await;

    let launcher = common::family(agent.pid()).into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "parachute-launc")
    });
    kill(Pid::from_raw(launcher.unwrap().try_into().unwrap()), Signal::SIGKILL).unwrap();
    // New ones start and end, until all that runs every 4 s has run a few times.
    for number in 0..6 {
        let pod = rig.bed.pod("shop", &format!("job-{number}"));
        let pod = pod.container("job", WORKLOAD_IMAGE, &["/workload", "execs", "20"]).start().await.unwrap();
        common::knows(agent, std::slice::from_ref(&pod)).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        pod.remove().await.unwrap();
    }
    common::eventually("the probes of names and of certificates have run", SOON, async || {
        let samples = agent.scrape().await.unwrap();
        let labels = [("pod", cart.name.as_str()), ("container", "cart")];
        let there = |name| common::select(&samples, name, &labels).count() > 0;
        let wanted = ["parachute_dns_answers", "parachute_tls_certificate_expiry_timestamp_seconds", "parachute_stuck_threads"];
        let missing: Vec<_> = wanted.into_iter().filter(|name| !there(name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    })
    .await;
}
