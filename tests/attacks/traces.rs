//! What runs leave on the host, and what they keep from going.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::Kind;

use super::{ALLOWED, Held, MOMENT, by_hand, tried};
use crate::common::{self, Rig, SOON};

/// 11: With all mounts shared, as systemd has them, a hundred runs, some of which mount something themselves, change nothing in
/// the host's table: every run's mounts are slaves or private (`mount_namespaces(7)`), and its /proc is its own.
#[tokio::test(flavor = "multi_thread")]
async fn a11_mounts_of_runs_do_not_reach_the_host() {
    let rig = Rig::new().await;
    let held = Held::all(&rig, &Kind::ALL, &["/workload", "sleep"]).await;
    // A host of its own for the agent, in which everything is shared.
    let wrapper = rig.script("exec unshare --mount --propagation shared \"$AGENT\" \"$@\"\n");
    let probes = [
        ("observer", "command: [ps, -e]"),
        ("mounts", "command: [mount, -t, tmpfs, pt-leak, /mnt], isolation: joined"),
    ];
    let agent = rig.agent_by(&wrapper, &by_hand(&probes, ALLOWED)).await;
    let table = || fs::read_to_string(format!("/proc/{}/mountinfo", agent.pid())).unwrap();
    let processes = || fs::read_to_string(format!("/proc/{}/root/proc/{0}/comm", agent.pid())).unwrap();
    let before = (table(), common::mounts());
    assert!(before.0.contains("shared:"), "{}", before.0);
    for round in 0..5 {
        for one in &held {
            for probe in ["observer", "mounts"] {
                let answer = one.run(&agent, probe).await;
                assert_eq!(answer["outcome"], "ok", "{} {round}: {answer}", one.kind);
            }
            assert_eq!(processes(), "parachute\n", "the host's /proc is the host's");
        }
    }
    assert_eq!((table(), common::mounts()), before);
    tried("a11 a mount that a run makes", &Kind::ALL);
    drop(held);
    rig.finish(agent);
}

/// 12: While runs of a minute go on, the host unmounts a disk that their roots show and takes it away, and other containers and
/// their own go as fast as ever: a slave lets go of what its master unmounts (`mount_namespaces(7)`).
#[tokio::test(flavor = "multi_thread")]
async fn a12_long_runs_pin_nothing() {
    let rig = Rig::new().await;
    let disk = Disk::new(&rig);
    let folder = tempfile::Builder::new().prefix("pt-mount-").tempdir_in("/usr/local").unwrap();
    let point = folder.path().to_str().unwrap();
    let target = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let other = Held::start(&rig, Kind::Nothing, "nothing-0", &["/workload", "sleep"]).await;
    let probes = [
        ("observer", "command: [sleep, '60'], timeout: 90s"),
        ("joined", "command: [sleep, '60'], timeout: 90s, isolation: joined"),
        ("quick", "command: ['true']"),
    ];
    // A host of its own for the agent, in which everything is shared, as systemd has it.
    let wrapper = rig.script("exec unshare --mount --propagation shared \"$AGENT\" \"$@\"\n");
    let agent = rig.agent_by(&wrapper, &by_hand(&probes, "")).await;
    let pid = agent.pid().to_string();
    let on_the_host = |words: &[&str]| {
        Command::new("nsenter").args(["-t", &pid, "-m"]).args(words).status().unwrap().success()
    };
    assert!(on_the_host(&["mount", &disk.0, point]));
    // The launcher takes note of it within a second.
    tokio::time::sleep(MOMENT).await;
    target.run(&agent, "quick").await;
    other.run(&agent, "quick").await;
    let started = |held: &Held, probe: &str| {
        let body = serde_json::json!({ "probe": probe, "target": { "id": held.container.id } }).to_string();
        let address = agent.address();
        tokio::spawn(async move { testbed::request(address, "POST", "/api/v1/run", &body).await })
    };
    let runs = [started(&target, "observer"), started(&other, "joined")];
    common::eventually("both run", SOON, async || {
        let running = common::sum(&agent.scrape().await.unwrap(), "parachute_runs_running", &[]);
        if running == 2.0 { Ok(()) } else { Err(format!("{running}")) }
    })
    .await;
    let holders = || -> Vec<_> {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let holds = |table: String| table.contains(&disk.0);
        all.filter(|entry| fs::read_to_string(entry.path().join("mounts")).is_ok_and(holds))
            .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
            .filter(|name| name.trim() == "sleep")
            .collect()
    };
    // A run counts as running from before its command is executed.
    common::eventually("both runs are shown it", SOON, async || match holders().len() {
        2 => Ok(()),
        other => Err(format!("{other} are")),
    })
    .await;
    assert!(on_the_host(&["umount", point]), "the host's unmount is not held up");
    assert_eq!(holders(), [""; 0]);
    let since = Instant::now();
    disk.detach();
    common::eventually("the disk is free", SOON, async || {
        if disk.is_free() { Ok(()) } else { Err(format!("{} is in use", disk.0)) }
    })
    .await;
    let took = since.elapsed();
    println!("the disk was free after {took:?}");
    for held in [target, other] {
        let since = Instant::now();
        held.remove().await;
        let took = since.elapsed();
        // The runs would go on for a minute.
        assert!(took < SOON, "the pod was removed in {took:?}");
    }
    drop(folder);
    let [observer, joined] = runs;
    let joined = joined.await.unwrap().unwrap();
    assert!(joined.body.contains("target_gone"), "{}", joined.body);
    tried("a12 holding a disk", &[Kind::Default, Kind::Nothing]);
    // The observer would go on to its end.
    observer.abort();
    rig.finish(agent);
}

/// A file system on a device of its own.
struct Disk(String);

impl Disk {
    fn new(rig: &Rig) -> Self {
        let file = rig.path("disk");
        fs::File::create(&file).unwrap().set_len(16 << 20).unwrap();
        assert!(Command::new("mkfs.ext4").arg("-q").arg(&file).status().unwrap().success());
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self(String::from_utf8(made.stdout).unwrap().trim().to_owned())
    }

    fn detach(&self) {
        assert!(Command::new("losetup").args(["--detach", &self.0]).status().unwrap().success());
    }

    /// One that somebody has mounted is detached only when that has ended.
    fn is_free(&self) -> bool {
        !fs::exists(format!("/sys/block/{}/loop/backing_file", self.0.trim_start_matches("/dev/"))).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.is_free() {
            self.detach();
        }
    }
}

/// 30: The unit in deploy/ takes capabilities away: with what it leaves, everything works. How open it is, .ci/run bounds.
#[tokio::test(flavor = "multi_thread")]
async fn a30_the_capabilities_of_the_unit_are_enough() {
    let rig = Rig::new().await;
    let unit =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/parachute.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let kept: Vec<_> = line.split(' ').map(|name| name.to_lowercase().replace("cap_", "+")).collect();
    // What this machine's root lacks itself cannot be kept.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let lacks_resource = u64::from_str_radix(own, 16).unwrap() & (1 << 24) == 0;
    let kept: Vec<_> = kept.into_iter().filter(|name| !(lacks_resource && name == "+sys_resource")).collect();
    let sets = format!("-all,{}", kept.join(","));
    let wrapper =
        rig.script(&format!("exec setpriv --bounding-set '{sets}' --no-new-privs \"$AGENT\" \"$@\"\n"));
    let held = Held::all(&rig, &[Kind::Default, Kind::User, Kind::Nothing], &["/workload", "sleep"]).await;
    let probes = [
        ("observer", "command: [ps, -e]"),
        ("joined", "command: [ps, -e], isolation: joined"),
        ("packets", "command: [ss, -tanp], capabilities: [SYS_PTRACE, DAC_READ_SEARCH, NET_ADMIN, NET_RAW]"),
    ];
    let agent = rig.agent_by(&wrapper, &by_hand(&probes, "")).await;
    for one in &held {
        for (probe, _) in probes {
            let answer = one.run(&agent, probe).await;
            assert_eq!(answer["outcome"], "ok", "{} {answer}", one.kind);
        }
    }
    drop(held);
    rig.finish(agent);
}

/// What the network reaches is the agent: it has two capabilities, can get no more, and may not execute anything.
#[tokio::test(flavor = "multi_thread")]
async fn the_agent_keeps_only_what_it_needs() {
    const BPF_AND_DAC_READ_SEARCH: &str = "0000008000000004";
    let rig = Rig::new().await;
    let agent = rig.agent(common::ONE_PROBE).await;
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().flatten();
    for task in tasks {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(field(set), BPF_AND_DAC_READ_SEARCH, "{set}");
        }
        // SECCOMP_MODE_FILTER (linux/seccomp.h).
        assert_eq!((field("NoNewPrivs:").as_str(), field("Seccomp:").as_str()), ("1", "2"));
    }
    rig.finish(agent);
}

/// 24: A socket in the abstract namespace can be reached by every container on the host's network, with the host's root as its
/// peer (CVE-2020-15257): there is none, and those with a path are root's.
#[tokio::test(flavor = "multi_thread")]
async fn a24_no_socket_is_abstract() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::HostNetwork, "host-network-0", &["/workload", "sleep"]).await;
    let agent = rig.agent(&by_hand(&[("list", "command: [sleep, '1']")], "")).await;
    let (answer, listed) = tokio::join!(held.run(&agent, "list"), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Command::new("ss").args(["-xlpH"]).output().unwrap()
    });
    assert_eq!(answer["outcome"], "ok");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let ours: Vec<_> = listed.lines().filter(|line| line.contains("parachute")).collect();
    assert!(ours.len() >= 2, "{listed}");
    assert!(ours.iter().all(|line| !line.contains(" @")), "{ours:?}");
    for name in ["agent.sock", "launcher.sock"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(agent.run_directory().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    tried("a24 an abstract socket", &[Kind::HostNetwork]);
    drop(held);
    rig.finish(agent);
}
