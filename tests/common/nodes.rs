//! Nodes in miniature: network namespaces on a bridge of the test's own, and a name server that knows them all by one name,
//! as a headless Service does.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Nobody else's, as far as anybody can know; no route leads from it anywhere.
const NET: [u8; 3] = [10, 213, 77];

/// Dropping it removes all.
pub(crate) struct Nodes {
    bridge: String,
    /// Where the namespaces are mounted. Not /run/netns: ip(8) would leave a mount of its own there.
    folder: PathBuf,
    count: u8,
}

impl Nodes {
    /// In a folder that is there.
    pub(crate) fn new(folder: &Path, count: u8) -> Self {
        let bridge = format!("pn{:x}", std::process::id());
        let nodes = Self { bridge, folder: folder.to_owned(), count };
        let bridge = &nodes.bridge;
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("addr add {}/24 dev {bridge}", Self::host()));
        ip(&format!("link set {bridge} up"));
        for node in 1..=count {
            let (file, link, address) = (nodes.file(node), nodes.link(node), Self::address(node));
            std::fs::write(&file, "").unwrap();
            let shown = file.display();
            run("unshare", &format!("--net={shown} true"));
            ip(&format!("link add {link} type veth peer name eth0 netns {shown}"));
            ip(&format!("link set {link} master {bridge} up"));
            for words in [&format!("addr add {address}/24 dev eth0"), "link set eth0 up", "link set lo up"] {
                run("nsenter", &format!("--net={shown} ip {words}"));
            }
        }
        nodes
    }

    /// The machine's own address on the bridge.
    pub(crate) fn host() -> Ipv4Addr {
        Ipv4Addr::new(NET[0], NET[1], NET[2], 1)
    }

    /// Nodes are counted from 1.
    pub(crate) fn address(node: u8) -> Ipv4Addr {
        Ipv4Addr::new(NET[0], NET[1], NET[2], 10 + node)
    }

    fn file(&self, node: u8) -> PathBuf {
        self.folder.join(format!("netns-{node}"))
    }

    fn link(&self, node: u8) -> String {
        format!("{}v{node}", self.bridge)
    }

    /// Takes the node's cable out, or puts it in again.
    pub(crate) fn connect(&self, node: u8, up: bool) {
        ip(&format!("link set {} {}", self.link(node), if up { "up" } else { "down" }));
    }

    /// A script that executes `program` on the node, with the name server of [`Names`].
    pub(crate) fn script(&self, node: u8, program: &str, resolv_conf: &Path) -> String {
        format!(
            "#!/bin/bash\nexec nsenter --net={} unshare --mount --propagation slave bash -c \
             'mount --bind {} /etc/resolv.conf && exec {program} \"$@\"' - \"$@\"\n",
            self.file(node).display(),
            resolv_conf.display()
        )
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let remove = |program: &str, words: &str| {
            if let Err(error) = Command::new(program).args(words.split(' ')).status() {
                eprintln!("{program} {words}: {error}");
            }
        };
        for node in 1..=self.count {
            remove("ip", &format!("link del {}", self.link(node)));
            remove("umount", &self.file(node).display().to_string());
        }
        remove("ip", &format!("link del {}", self.bridge));
    }
}

fn ip(words: &str) {
    run("ip", words);
}

fn run(program: &str, words: &str) {
    let done = Command::new(program).args(words.split(' ')).output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}; cargo xtask setup installs it"));
    assert!(done.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A name server on the bridge: every question for an A record is answered with all nodes, others with nothing.
pub(crate) struct Names {
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    pub(crate) fn start(nodes: u8) -> Self {
        let socket = UdpSocket::bind(SocketAddr::from((Nodes::host(), 53))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (asked, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stop) = (Arc::clone(&asked), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut question = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                match socket.recv_from(&mut question) {
                    Ok((length, from)) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        let _ = socket.send_to(&answer(&question[..length], nodes), from);
                    }
                    Err(error) => {
                        assert!(
                            [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
                            "{error}"
                        );
                    }
                }
            }
        });
        Self { asked, over, thread: Some(thread) }
    }

    /// Questions so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It has said what went wrong, if anything.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// RFC 1035, section 4: the question again, and the addresses under its name.
fn answer(message: &[u8], nodes: u8) -> Vec<u8> {
    let name = message[12..].iter().position(|byte| *byte == 0).expect("a name") + 13;
    let question = &message[12..name + 4];
    let is_a = question[question.len() - 4..] == [0, 1, 0, 1];
    let nodes = if is_a { nodes } else { 0 };
    let mut answer = message[..2].to_vec();
    answer.extend([0x85, 0x80, 0, 1, 0, nodes, 0, 0, 0, 0]);
    answer.extend(question);
    for node in 1..=nodes {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(Nodes::address(node).octets());
    }
    answer
}
