//! A command that has turned against its host: what it finds around itself, and what it may do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use futures_util::future::join_all;
use testbed::{Agent, Kind};

use super::{ALLOWED, Held, by_hand, stdout, tried};
use crate::common::{self, Rig};

/// A program of the host's in a folder that observers are shown, removed at the end.
pub(crate) struct Tool(tempfile::TempDir);

impl Tool {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pt-tool-").tempdir_in("/opt").unwrap();
        let path = folder.path().join("attacker");
        fs::write(&path, testbed::attacker()).unwrap();
        for (path, mode) in [(folder.path(), 0o755), (&path, 0o755)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self(folder)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("attacker")
    }
}

/// 5, 8, 9, 13 to 16: In containers of every kind, one after the other: what a command has, and what it can do with it.
#[tokio::test(flavor = "multi_thread")]
async fn a05_a08_a09_a13_a14_a15_a16_a_command_gets_at_nothing_of_the_hosts() {
    let rig = Rig::new().await;
    let held = Held::all(&rig, &Kind::ALL, &["/workload", "tree", "5"]).await;
    let tool = Tool::new();
    let wrapper = rig.script(
        "for n in $(seq 20 69); do eval \"exec $n</etc/passwd\"; done\nexport SECRET=canary-77\nexec \"$AGENT\" \"$@\"\n",
    );
    let socket = rig.bed.socket().display().to_string();
    let (write, hidden) = (format!("shell: \"{WRITE}\""), format!("shell: \"for p in {socket} {HIDDEN}\""));
    let calls = format!("command: [{}, calls]", tool.path().display());
    let kill = format!("command: [{}, kill], timeout: 30s", tool.path().display());
    let user = "command: [readlink, /proc/self/ns/user]";
    let fds = "command: [ls, /proc/self/fd]";
    let env = "command: [env]";
    let joined = [user, fds, env].map(|probe| format!("{probe}, isolation: joined"));
    let probes = [
        ("user", user),
        ("user-joined", &joined[0]),
        ("fds", fds),
        ("fds-joined", &joined[1]),
        ("env", env),
        ("env-joined", &joined[2]),
        ("write", &write),
        ("hidden", &hidden),
        ("calls", &calls),
        ("kill", &kill),
        ("leash", "command: [setpriv, --pdeathsig, clear, setpriv, --dump]"),
    ];
    let agent = rig.agent_by(&wrapper, &by_hand(&probes, ALLOWED)).await;
    let passed_on = fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    assert!(passed_on > 50, "the agent has them: {passed_on}");
    let mut bystander = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    join_all(held.iter().map(async |one| {
        a05_a_command_stays_in_the_hosts_user_namespace(one, &agent).await;
        a08_a09_no_descriptor_and_no_variable_gets_in(one, &agent).await;
        a13_a14_an_observer_finds_and_changes_nothing_of_the_hosts(one, &agent).await;
        a15_an_observer_may_not_make_dangerous_calls(one, &agent).await;
        a16_a_number_never_means_a_process_of_the_hosts(one, &agent).await;
        an_observer_cannot_leave_its_leash(one, &agent).await;
    }))
    .await;
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    for attack in [
        "a05 rights over a command by a user namespace",
        "a08 descriptors of the agent",
        "a09 variables of the agent",
        "a13 writing to what is the host's",
        "a14 finding what is the host's",
        "a15 dangerous calls",
        "a15 the 32-bit and the x32 entry",
        "a16 killing every number",
    ] {
        tried(attack, &Kind::ALL);
    }
    drop((held, tool));
    rig.finish(agent);
}

/// 5: A user namespace of its own would give the container's root all rights over the command (its creator's user owns
/// it, `user_namespaces(7)`): there is none, also where the container has one.
async fn a05_a_command_stays_in_the_hosts_user_namespace(held: &Held, agent: &Agent) {
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    for probe in ["user", "user-joined"] {
        let answer = held.run(agent, probe).await;
        assert_eq!(stdout(&answer).trim(), own.to_str().unwrap(), "{} {answer}", held.kind);
    }
}

/// The kernel kills an observer with its parent, and that one with its launcher (`PR_SET_PDEATHSIG` in prctl(2)); what would
/// take that back is answered as if it had been done.
async fn an_observer_cannot_leave_its_leash(held: &Held, agent: &Agent) {
    let answer = held.run(agent, "leash").await;
    assert!(stdout(&answer).contains("\nParent death signal: KILL\n"), "{} {answer}", held.kind);
}

/// 8, 9: What the agent has open and in its environment does not reach a command (CVE-2024-21626 is what happens
/// otherwise): `close_range(2)` closes all but the standard streams, and the environment is a fixed one.
async fn a08_a09_no_descriptor_and_no_variable_gets_in(held: &Held, agent: &Agent) {
    for probe in ["fds", "fds-joined"] {
        // 3 is ls's own.
        assert_eq!(stdout(&held.run(agent, probe).await), "0\n1\n2\n3\n", "{} {probe}", held.kind);
    }
    for probe in ["env", "env-joined"] {
        let answer = held.run(agent, probe).await;
        let mut names: Vec<_> = stdout(&answer).lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["COLUMNS", "HOME", "LC_ALL", "PARACHUTE_TARGET_PID", "PATH", "TERM"],
            "{} {probe}",
            held.kind
        );
    }
}

const WRITE: &str = "for p in / /usr /etc /var /sys /proc/sys/kernel /dev /usr/bin /opt; do touch $p/pt-probe 2>/dev/null && echo \
                     wrote $p; done; echo 1 > /proc/sys/kernel/sysrq; echo x > /dev/null && echo null; head -c 32M /dev/zero > \
                     /tmp/big; wc -c < /tmp/big; true";
/// A list of paths, continued.
const HIDDEN: &str = "/run/containerd/containerd.sock /var/run/docker.sock /root /home /etc/shadow /etc/ssh /etc/kubernetes \
                      /var/lib /srv /tmp/pt-* /boot /mnt /proc/1/root/etc/shadow; do [ -e $p ] && echo found $p; done; \
                      ls -A /run /tmp; true";

/// 13, 14: The root of an observer is made of what is named in a list, read-only (`mount(2)`, `MS_RDONLY`), and its /tmp is its
/// own and small. Nothing of the host's secrets is on the list. What a container has by the host's pid namespace, an observer
/// that looks into it has too: the files of the host's processes.
async fn a13_a14_an_observer_finds_and_changes_nothing_of_the_hosts(held: &Held, agent: &Agent) {
    let answer = held.run(agent, "write").await;
    assert_eq!(stdout(&answer), format!("null\n{}\n", 16 << 20), "{} {answer}", held.kind);
    let answer = held.run(agent, "hidden").await;
    // Not where the host's init lets nobody look at it.
    let of_the_host = if held.kind == Kind::HostPid { "found /proc/1/root/etc/shadow\n" } else { "" };
    let found = stdout(&answer).replacen(of_the_host, "", 1);
    assert_eq!(
        (found.as_str(), &answer["outcome"]),
        ("/run:\n\n/tmp:\n", &"ok".into()),
        "{} {answer}",
        held.kind
    );
}

/// 15: A filter (`seccomp(2)`) refuses the calls by which a process gets at others or at the kernel, and kills it when it calls
/// by the 32-bit or the x32 entry, whose numbers the filter does not know.
async fn a15_an_observer_may_not_make_dangerous_calls(held: &Held, agent: &Agent) {
    let answer = held.run(agent, "calls").await;
    let lines: Vec<_> = stdout(&answer).lines().collect();
    assert!(lines.len() > 8, "{} {answer}", held.kind);
    for line in &lines {
        // EPERM is 1, SIGSYS is 31.
        assert!(line.ends_with(" Err(1)") || line.ends_with(" killed by Some(31)"), "{}: {line}", held.kind);
    }
}

/// 16: A number that a tool is given means a process of its own pid namespace (`pid_namespaces(7)`): there it is alone.
async fn a16_a_number_never_means_a_process_of_the_hosts(held: &Held, agent: &Agent) {
    let workloads = || {
        let beside = common::processes_beside(held.container.pid);
        beside.iter().filter(|name| *name == "workload").count()
    };
    let before = workloads();
    assert!(before >= 6, "{}: {before}", held.kind);
    let answer = held.run(agent, "kill").await;
    assert_eq!(stdout(&answer), "hit 0\n", "{} {answer}", held.kind);
    assert_eq!(workloads(), before, "{}", held.kind);
}
