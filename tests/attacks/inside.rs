//! A command that has turned against its host: what it finds around itself, and what it may do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use testbed::Kind;

use super::{Held, by_hand, stdout};
use crate::common::Rig;

/// A program of the host's in a folder that observers are shown, removed at the end.
struct Tool(tempfile::TempDir);

impl Tool {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pt-tool-").tempdir_in("/opt").unwrap();
        let path = folder.path().join("attacker");
        fs::write(&path, testbed::attacker()).unwrap();
        for (path, mode) in [(folder.path(), 0o755), (&path, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("attacker")
    }
}

/// 8. 9. What the agent has open and in its environment does not reach a command (CVE-2024-21626 is what happens
/// otherwise): `close_range(2)` closes all but the standard streams, and the environment is a fixed one.
#[tokio::test(flavor = "multi_thread")]
async fn a08_a09_no_descriptor_and_no_variable_gets_in() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let wrapper = rig.script(
        "for n in $(seq 20 69); do eval \"exec $n</etc/passwd\"; done\nexport SECRET=canary-77\nexec \"$AGENT\" \"$@\"\n",
    );
    let probes = [
        ("fds", "command: [ls, /proc/self/fd]"),
        ("fds-joined", "command: [ls, /proc/self/fd], isolation: joined"),
        ("env", "command: [env]"),
        ("env-joined", "command: [env], isolation: joined"),
    ];
    let agent = rig.agent_by(&wrapper, &by_hand(&probes, "")).await;
    let passed_on = fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    assert!(passed_on > 50, "the agent has them: {passed_on}");
    for probe in ["fds", "fds-joined"] {
        // 3 is ls's own.
        assert_eq!(stdout(&held.run(&agent, probe).await), "0\n1\n2\n3\n", "{probe}");
    }
    for probe in ["env", "env-joined"] {
        let answer = held.run(&agent, probe).await;
        let mut names: Vec<_> = stdout(&answer).lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["COLUMNS", "HOME", "LC_ALL", "PATH", "TERM"], "{probe}");
    }
    drop(held);
    rig.finish(agent);
}

/// 13. 14. The root of an observer is made of what is named in a list, read-only (`mount(2)`, `MS_RDONLY`), and its /tmp is its
/// own and small. Nothing of the host's secrets is on the list.
#[tokio::test(flavor = "multi_thread")]
async fn a13_a14_an_observer_finds_and_changes_nothing_of_the_hosts() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let socket = rig.bed.socket().display().to_string();
    let write = "for p in / /usr /etc /var /sys /proc/sys/kernel /dev /usr/bin /opt; do touch $p/pt-probe 2>/dev/null && echo wrote $p; \
                 done; echo 1 > /proc/sys/kernel/sysrq; echo x > /dev/null && echo null; \
                 head -c 32M /dev/zero > /tmp/big; wc -c < /tmp/big; true";
    let hidden = format!(
        "for p in {socket} /run/containerd/containerd.sock /var/run/docker.sock /root /home /etc/shadow /etc/ssh /etc/kubernetes \
         /var/lib /srv /tmp/pt-* /boot /mnt /proc/1/root/etc/shadow; do [ -e $p ] && echo found $p; done; ls -A /run /tmp; true"
    );
    let write = format!("shell: \"{}\"", write.replace('"', "\\\""));
    let hidden = format!("shell: \"{hidden}\"");
    let agent = rig.agent(&by_hand(&[("write", &write), ("hidden", &hidden)], "")).await;
    let answer = held.run(&agent, "write").await;
    assert_eq!(stdout(&answer), format!("null\n{}\n", 16 << 20), "{answer}");
    let answer = held.run(&agent, "hidden").await;
    assert_eq!((stdout(&answer), &answer["outcome"]), ("/run:\n\n/tmp:\n", &"ok".into()), "{answer}");
    drop(held);
    rig.finish(agent);
}

/// 15. A filter (`seccomp(2)`) refuses the calls by which a process gets at others or at the kernel, and kills it when it calls
/// by the 32-bit or the x32 entry, whose numbers the filter does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a15_an_observer_may_not_make_dangerous_calls() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let tool = Tool::new();
    let calls = format!("command: [{}, calls]", tool.path().display());
    let agent = rig.agent(&by_hand(&[("calls", &calls)], "")).await;
    let answer = held.run(&agent, "calls").await;
    let lines: Vec<_> = stdout(&answer).lines().collect();
    assert!(lines.len() > 8, "{answer}");
    for line in &lines {
        // EPERM is 1, SIGSYS is 31.
        assert!(line.ends_with(" Err(1)") || line.ends_with(" killed by Some(31)"), "{line}");
    }
    drop((held, tool));
    rig.finish(agent);
}

/// 16. A number that a tool is given means a process of its own pid namespace (`pid_namespaces(7)`): there it is alone.
#[tokio::test(flavor = "multi_thread")]
async fn a16_a_number_never_means_a_process_of_the_hosts() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "tree", "5"]).await;
    let hosts = Held::start(&rig, Kind::HostPid, "host-pid-0", &["/workload", "sleep"]).await;
    let tool = Tool::new();
    let kill = format!("command: [{}, kill], timeout: 30s", tool.path().display());
    let agent = rig.agent(&by_hand(&[("kill", &kill)], "")).await;
    let mut bystander = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let beside = crate::common::processes_beside(held.container.pid).len();
    for one in [&held, &hosts] {
        let answer = one.run(&agent, "kill").await;
        assert_eq!(stdout(&answer), "hit 0\n", "{answer}");
    }
    assert!(bystander.try_wait().unwrap().is_none());
    assert_eq!(crate::common::processes_beside(held.container.pid).len(), beside);
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    drop((held, hosts, tool));
    rig.finish(agent);
}

/// 29. Who can change a tool can run anything with its rights: one that others than root can write to is not run, also
/// when that came after the configuration was read.
#[tokio::test(flavor = "multi_thread")]
async fn a29_a_tool_that_others_can_change_is_not_run() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let tool = Tool::new();
    let calls = format!("command: [{}, kill]", tool.path().display());
    let joined = format!("{calls}, isolation: joined");
    let agent = rig.agent(&by_hand(&[("calls", &calls), ("joined", &joined)], "")).await;
    fs::set_permissions(tool.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for probe in ["calls", "joined"] {
        let answer = held.run(&agent, probe).await;
        assert_eq!(answer["outcome"], "refused", "{probe}: {answer}");
        assert!(answer["reason"].as_str().unwrap().contains("others than root"), "{answer}");
    }
    drop((held, tool));
    rig.finish(agent);
}
