//! What the tests of Docker and Podman have in common: a rig, the questions that every kind of container is asked, and the
//! table in docs/runtimes.md that the answers are held to.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testbed::{Agent, Engine, HOST_IMAGE, PodContainer, Snapshot, SubordinateIds};

use super::{READY, SOON, eventually, exec};

/// `sockets` and `processes` of both kinds, one that has to be stopped, and one that may run where it could be taken over.
const CONFIGURATION: &str = r"
probes:
  joined-sockets: { command: [ss, -Htln], isolation: joined, parse: none }
  joined-namespaces: { command: [readlink, /proc/self/ns/net, /proc/self/ns/pid], isolation: joined, parse: none }
  joined-processes: { command: [ps, -e, -o, comm=], isolation: joined, parse: none }
  joined-links: { command: [ip, -o, link], isolation: joined, parse: none }
  observer-links: { command: [ip, -o, link], isolation: observer, parse: none }
  joined-stuck: { command: [sleep, '600'], isolation: joined, timeout: 1s, parse: none }
  joined-trusted: { command: [ps, -e, -o, comm=], isolation: joined, parse: none }
  observer-sockets: { command: [ss, -Htln], isolation: observer, parse: none }
  observer-network: { command: [readlink, /proc/self/ns/net], isolation: observer, parse: none }
  observer-processes: { command: [ps, -e, -o, comm=], isolation: observer, parse: none }
  observer-trusted: { command: [ps, -e, -o, comm=], isolation: observer, parse: none }
  listeners:
    command: [ss, -Htln]
    parse: { regex: [{ name: engine_listeners, type: gauge, help: Listening TCP sockets., pattern: '^LISTEN' }] }
triggers:
  by-hand:
    http: {}
    probes:
    - joined-sockets
    - joined-namespaces
    - joined-processes
    - joined-links
    - joined-stuck
    - observer-sockets
    - observer-network
    - observer-processes
    - observer-links
    - listeners
  trusted: { http: {}, allow_unsafe_joined: true, probes: [joined-trusted, observer-trusted] }
";

/// What a run comes to, in the words of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The container's own.
    Own,
    /// Those of the network namespace or the pid namespace that it shares.
    Shared,
    /// Refused with a reason that says what to do; observers run in a container that can do all that the host's root can.
    Refused,
}

impl Answer {
    fn word(self) -> &'static str {
        match self {
            Self::Own => "its own",
            Self::Shared => "what it shares",
            Self::Refused => "refused, or for observers alone",
        }
    }
}

/// A kind of container: how it is asked for, and what is answered of its sockets and its processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) sockets: Answer,
    pub(crate) processes: Answer,
}

const fn case(
    name: &'static str,
    options: &'static [&'static str],
    sockets: Answer,
    processes: Answer,
) -> Case {
    Case { name, options, sockets, processes }
}

/// The container `first` is there before the others.
pub(crate) const CASES: [Case; 8] = [
    case("--network none", &["--network=none"], Answer::Own, Answer::Own),
    case("--network bridge", &["--network=bridge"], Answer::Own, Answer::Own),
    case("--network host", &["--network=host"], Answer::Shared, Answer::Own),
    case("--network container:", &["--network=container:first"], Answer::Shared, Answer::Own),
    case("--pid host", &["--network=none", "--pid=host"], Answer::Own, Answer::Shared),
    case("--pid container:", &["--network=none", "--pid=container:first"], Answer::Own, Answer::Shared),
    case("--read-only", &["--network=none", "--read-only"], Answer::Own, Answer::Own),
    case("--privileged", &["--network=none", "--privileged"], Answer::Refused, Answer::Refused),
];

pub(crate) struct EngineRig<E> {
    pub(crate) engine: E,
    before: Snapshot,
    dir: tempfile::TempDir,
    ids: Vec<SubordinateIds>,
    /// As in `Rig`.
    _alone: File,
}

impl<E: Engine> EngineRig<E> {
    /// An engine, with ids for these users to map.
    pub(crate) async fn new(users: &[&str], start: impl FnOnce(File, &Path) -> anyhow::Result<E>) -> Self {
        let alone = tokio::task::spawn_blocking(testbed::alone).await.unwrap().unwrap();
        let before = Snapshot::take();
        // Nobody else is at the machine's files of them by now.
        let ids = users.iter().map(|user| SubordinateIds::lend(user).unwrap()).collect();
        let dir = tempfile::Builder::new().prefix("pt-").tempdir().unwrap();
        // The root of a user namespace must be able to reach its container's files.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let engine = start(alone.try_clone().unwrap(), &dir.path().join("bed")).unwrap();
        Self { engine, before, dir, ids, _alone: alone }
    }

    /// An agent that asks these runtimes, as the configuration has them.
    pub(crate) async fn agent(&self, runtimes: &str) -> Agent {
        let path = self.path("parachute.yml");
        fs::write(&path, format!("runtimes: {runtimes}\n{CONFIGURATION}")).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
        let mut agent = Agent::start(program, &path, |line| println!("agent: {line}")).unwrap();
        agent.ready(READY).await.unwrap();
        agent
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Three listeners and two clients of them, as everybody has here.
    pub(crate) fn listener(&self, name: &str, options: &[&str]) -> PodContainer {
        self.engine.run(name, options, &["/workload", "listen", "3", "2"]).unwrap()
    }

    /// A container with the host's programs in it.
    pub(crate) fn with_programs(&self, name: &str, options: &[&str], command: &[&str]) -> PodContainer {
        let options = [&["--volume", "/usr:/usr:ro", "--tmpfs", "/run", "--tmpfs", "/tmp"], options].concat();
        self.engine.run_image(name, &options, HOST_IMAGE, command).unwrap()
    }

    pub(crate) fn finish(self, agent: Agent) {
        let Self { engine, before, dir, ids, _alone } = self;
        drop(agent);
        drop(engine);
        drop(ids);
        drop(dir);
        assert_eq!(before.leftovers(), [""; 0]);
    }
}

/// Waits until the agent has given the container these three names; its row.
pub(crate) async fn named(agent: &Agent, id: &str, names: [&str; 3]) -> Value {
    eventually(&format!("{id} is called {names:?}"), SOON, async || {
        let listed = super::containers(agent).await;
        let row = listed.into_iter().find(|row| row["id"] == id).ok_or("it is not listed")?;
        let has = ["namespace", "pod", "container"].map(|label| row[label].as_str().unwrap().to_owned());
        if has == names { Ok(row) } else { Err(format!("{row}")) }
    })
    .await
}

/// Runs a probe in the container of this name, which has no pod.
pub(crate) async fn run(agent: &Agent, probe: &str, container: &str) -> Value {
    run_in(agent, probe, json!({ "container": container })).await
}

pub(crate) async fn run_in(agent: &Agent, probe: &str, target: Value) -> Value {
    let body = json!({ "probe": probe, "target": target }).to_string();
    let answer = agent.post("/api/v1/run", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{probe}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// What an answer's command printed, line by line, in order.
pub(crate) fn lines(answer: &Value) -> Vec<String> {
    assert_eq!(answer["outcome"], "ok", "{answer}");
    let mut lines: Vec<_> =
        answer["stdout"].as_str().unwrap().lines().map(|line| line.trim().to_owned()).collect();
    lines.sort_unstable();
    lines
}

pub(crate) fn namespace(pid: impl std::fmt::Display, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_string_lossy().into_owned()
}

/// Every case is started, listed, asked as both isolations have it and by `exec`, and stands so in the table of the docs.
pub(crate) async fn cases<E: Engine>(rig: &EngineRig<E>, agent: &Agent) {
    let first = rig.listener("first", &["--network=none"]);
    for (number, case) in CASES.into_iter().enumerate() {
        let name = format!("case{number}");
        let shares_network = case.sockets == Answer::Shared;
        // In a network that is not its own the ports may be taken.
        let command: &[&str] =
            if shares_network { &["/workload", "sleep"] } else { &["/workload", "listen", "3", "2"] };
        let container = rig.engine.run(&name, case.options, command).unwrap();
        let row = named(agent, &container.id, ["", "", &name]).await;
        assert_eq!(row["runtime"], rig.engine.name(), "{row}");
        assert!(row["image"].as_str().unwrap().ends_with("parachute.test/workload:1"), "{row}");
        assert_eq!(row["pid"], container.pid, "{}: {row}", case.name);
        if case.sockets == Answer::Refused {
            refused(agent, &name, container.pid).await;
        } else {
            answered(agent, case, &name, &container).await;
        }
        // Still there under its own name, whatever another has taken of it.
        named(agent, &first.id, ["", "", "first"]).await;
        in_table(case.name, case.sockets, case.processes);
        rig.engine.remove(&name).unwrap();
    }
    rig.engine.remove("first").unwrap();
}

/// A joined run, an observer and `exec` are each where they should be.
pub(crate) async fn ways(agent: &Agent, name: &str, container: &PodContainer) {
    let network = namespace(container.pid, "net");
    let mut namespaces = vec![network.clone(), namespace(container.pid, "pid")];
    namespaces.sort_unstable();
    assert_eq!(lines(&run(agent, "joined-namespaces", name).await), namespaces, "{name}");
    assert_eq!(lines(&run(agent, "observer-network", name).await), [network], "{name}");
    let output = exec(agent, &[name, "readlink", "/proc/self/ns/pid"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), namespace(container.pid, "pid"), "{name}: {output:?}");
}

async fn answered(agent: &Agent, case: Case, name: &str, container: &PodContainer) {
    ways(agent, name, container).await;
    if case.sockets == Answer::Own {
        for probe in ["joined-sockets", "observer-sockets"] {
            eventually(&format!("{probe} of {}", case.name), SOON, async || {
                let found = lines(&run(agent, probe, name).await).len();
                if found == 3 { Ok(()) } else { Err(format!("{found} listeners")) }
            })
            .await;
        }
    }
    for probe in ["joined-links", "observer-links"] {
        // The host's may change: those of the container before go when the kernel comes to it.
        eventually(&format!("{probe} of {}", case.name), SOON, async || {
            let mut found: Vec<_> =
                lines(&run(agent, probe, name).await).iter().map(|line| link(line)).collect();
            found.sort_unstable();
            let expected = links(container.pid);
            if found == expected { Ok(()) } else { Err(format!("{found:?} and not {expected:?}")) }
        })
        .await;
    }
    // A joined ps is a process of the container, an observer's is none.
    for (probe, own) in [("observer-processes", None), ("joined-processes", Some("ps".to_owned()))] {
        let processes = lines(&run(agent, probe, name).await);
        let workloads = if case.processes == Answer::Shared { 2 } else { 1 };
        let expected: Vec<_> =
            own.into_iter().chain(std::iter::repeat_n("workload".to_owned(), workloads)).collect();
        if case.name == "--pid host" {
            let own = fs::read_to_string("/proc/self/comm").unwrap();
            assert!(
                processes.iter().any(|name| name == own.trim()),
                "{probe} of {}: {processes:?}",
                case.name
            );
        } else {
            assert_eq!(processes, expected, "{probe} of {}", case.name);
        }
    }
}

/// The interfaces of a process's network namespace, as the kernel has them for it.
fn links(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    let mut names: Vec<_> =
        text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect();
    names.sort_unstable();
    names
}

/// The interface in a line of `ip -o link`, such as `2: eth0@if7: <BROADCAST,...`.
fn link(line: &str) -> String {
    let name = line.split(' ').nth(1).unwrap_or_default();
    name.split(['@', ':']).next().unwrap_or_default().to_owned()
}

/// A container whose root is not the host's, by these options or by its engine's own.
pub(crate) async fn mapped<E: Engine>(rig: &EngineRig<E>, agent: &Agent, options: &[&str]) {
    let container = rig.listener("mapped", &[&["--network=none"], options].concat());
    let map = fs::read_to_string(format!("/proc/{}/uid_map", container.pid)).unwrap();
    assert!(!map.split_whitespace().nth(1).unwrap().starts_with('0'), "{map}");
    is_answered(rig, agent, ["", "mapped"], &container).await;
    in_table("--userns", Answer::Own, Answer::Own);
    rig.engine.remove("mapped").unwrap();
}

/// A container that the list above cannot have, as its engine or its machine has to be told first.
pub(crate) async fn is_answered<E: Engine>(
    rig: &EngineRig<E>,
    agent: &Agent,
    [namespace, name]: [&str; 2],
    container: &PodContainer,
) {
    let row = named(agent, &container.id, [namespace, "", name]).await;
    assert_eq!(row["runtime"], rig.engine.name(), "{row}");
    answered(agent, case(CASES[0].name, &[], Answer::Own, Answer::Own), name, container).await;
}

/// A joined run is refused, and an observer too unless there is nothing that the container could gain by it. Both say why
/// and what to do, and do it if they are told to.
pub(crate) async fn refused(agent: &Agent, name: &str, pid: i32) {
    // Old engines do not know all capabilities that a newer kernel has.
    let is_root = bounding_set(pid.to_string()) == bounding_set("self");
    for (probe, outcome) in
        [("joined-sockets", "refused"), ("observer-sockets", if is_root { "ok" } else { "refused" })]
    {
        let answer = run(agent, probe, name).await;
        assert_eq!(answer["outcome"], outcome, "{answer}");
        assert!(outcome == "ok" || answer.to_string().contains("allow_unsafe_joined"), "{answer}");
    }
    let output = exec(agent, &[name, "true"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(125) && said.contains("--allow-unsafe-target"), "{output:?}");
    let init = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim().to_owned();
    for probe in ["joined-trusted", "observer-trusted"] {
        let found = lines(&run(agent, probe, name).await);
        assert!(
            found.contains(&init) && !found.contains(&"kthreadd".to_owned()),
            "{probe}: {found:?} of {init}"
        );
    }
    let output = exec(agent, &["--allow-unsafe-target", name, "true"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn bounding_set(pid: impl std::fmt::Display) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find(|line| line.starts_with("CapBnd:")).unwrap().to_owned()
}

/// docs/runtimes.md says the same of this kind of container.
pub(crate) fn in_table(name: &str, sockets: Answer, processes: Answer) {
    let page = include_str!("../../docs/runtimes.md");
    let row = format!("| `{name}` | {} | {} |", sockets.word(), processes.word());
    assert!(page.lines().any(|line| line.starts_with(&row)), "docs/runtimes.md has no row {row}");
}

/// `parachute ps`, asking this agent.
pub(crate) fn ps(agent: &Agent, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parachute"));
    command.arg("ps").args(words).env("PARACHUTE_RUN_DIRECTORY", agent.run_directory());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
