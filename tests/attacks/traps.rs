//! What lies in wait at a path that a tool is sent to.

use std::fs;

use futures_util::future::join_all;
use testbed::Kind;

use super::disk::Disk;
use super::{Held, by_hand, stdout, tried};
use crate::common::{self, Rig, SOON};

const SECRET: &str = "the host's secret";

/// What is planted, and how a run that is sent there ends.
const TRAPS: [(&str, &str); 5] = [
    ("absolute", "nonzero"),
    ("upwards", "nonzero"),
    ("circle", "nonzero"),
    ("pipe", "timeout"),
    ("sparse", "truncated"),
];
const DEVICES: [&str; 6] = ["block", "disk", "mem", "port", "kmsg", "loops"];

/// A file of the host's that root alone can read.
struct Secret(&'static str);

impl Secret {
    fn new(path: &'static str) -> Self {
        assert!(!fs::exists(path).unwrap());
        fs::write(path, SECRET).unwrap();
        Self(path)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// 17: Links, pipes, devices and endless files at a path that a tool is sent to: a link is followed below the tool's own root,
/// where nothing of the host's secrets is; a run ends at its deadline and its cap; a device that a container may make
/// (CAP_MKNOD is among the default capabilities) and must not open is no more to an observer, whose cgroup opens none but
/// null, zero, full, random and urandom (`cgroup-v1/devices`, `BPF_CGROUP_DEVICE`). The agent itself reads nothing through
/// `/proc/PID/root`.
#[tokio::test(flavor = "multi_thread")]
async fn a17_traps_at_a_path_give_no_byte_of_the_hosts() {
    let rig = Rig::new().await;
    let disk = Disk::new(&rig, SECRET);
    let held = Held::all(&rig, &Kind::ALL, &["/attacker", "plant", &disk.number()]).await;
    // Where a container's files are in its procfs: with the host's pid namespace PID 1 is the host's.
    let shared = held.iter().find(|one| one.kind == Kind::HostPid).unwrap().container.pid;
    let places = [("own", "1".to_owned()), ("shared", shared.to_string())];
    let place = |one: &Held| if one.kind == Kind::HostPid { "shared" } else { "own" };
    let names = TRAPS.iter().map(|(name, _)| *name).chain(DEVICES).chain(["swapped"]);
    let probes: Vec<_> = names
        .flat_map(|name| {
            places.each_ref().map(|(place, pid)| {
                let cat = format!("command: [cat, /proc/{pid}/root/{name}], timeout: 2s, max_output: 64KiB");
                (format!("{name}-{place}"), cat)
            })
        })
        .collect();
    let probes: Vec<_> = probes.iter().map(|(name, probe)| (name.as_str(), probe.as_str())).collect();
    let agent = rig.agent(&by_hand(&probes, "")).await;
    let _secret = Secret::new("/root/hostsecret");
    let planted = join_all(held.iter().map(async |one| {
        common::eventually("the traps are there", SOON, async || {
            let planted = one.file("/planted");
            if planted.ends_with("done\n") { Ok(planted) } else { Err(planted) }
        })
        .await
    }))
    .await;
    join_all(held.iter().zip(&planted).map(async |(one, planted)| {
        let run = async |name: &str| one.run(&agent, &format!("{name}-{}", place(one))).await;
        for (name, outcome) in TRAPS {
            let answer = run(name).await;
            assert_eq!(answer["outcome"], outcome, "{}: {answer}", one.kind);
            assert!(!stdout(&answer).contains(SECRET) && !stdout(&answer).contains("root:"), "{name}");
        }
        for name in DEVICES.into_iter().filter(|name| planted.lines().any(|line| line == *name)) {
            let answer = run(name).await;
            assert_eq!(
                (&answer["outcome"], stdout(&answer)),
                (&"nonzero".into(), ""),
                "{}: {answer}",
                one.kind
            );
        }
        for _ in 0..30 {
            assert!(!stdout(&run("swapped").await).contains(SECRET));
        }
    }))
    .await;
    for name in TRAPS.iter().map(|(name, _)| *name).chain(["swapped"]) {
        tried(&format!("a17 a trap: {name}"), &Kind::ALL);
    }
    for name in DEVICES {
        let made = held.iter().zip(&planted).filter(|(_, planted)| planted.lines().any(|line| line == name));
        let kinds: Vec<_> = made.map(|(one, _)| one.kind).collect();
        assert!(kinds.len() >= 6, "{name} could be made in {kinds:?} alone");
        tried(&format!("a17 a device: {name}"), &kinds);
    }
    drop((held, disk));
    rig.finish(agent);
}
