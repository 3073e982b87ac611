//! What a container sees of a run beside it, and what it can read of it.

use futures_util::future::join_all;
use testbed::Kind;

use super::{ALLOWED, Held, by_hand, hunted, stdout, tried};
use crate::common::{self, Rig};

/// Words that the hunter knows a test's command by.
const SHORT: &str = "command: [sleep, '0.031337']";
const LONG: &str = "command: [sleep, '1.31337'], timeout: 20s";

const ALONE: [Kind; 9] = [
    Kind::Default,
    Kind::Ptrace,
    Kind::Admin,
    Kind::Perfmon,
    Kind::Privileged,
    Kind::Nothing,
    Kind::HostNetwork,
    Kind::Cgroups,
    Kind::User,
];

/// 1: A container polls for new processes as fast as it can, while a hundred observers look into it, whichever way the
/// kernel offers. An observer is in a pid namespace of its own, and a process is visible in its own namespace and in those
/// above it alone (`pid_namespaces(7)`).
#[tokio::test(flavor = "multi_thread")]
async fn a01_an_observer_is_never_seen() {
    let rig = Rig::new().await;
    let held = Held::all(&rig, &ALONE, &["/attacker", "hunt", "/out", "harm"]).await;
    for (flags, way) in [(&[][..], "observer_pidns"), (&["--observer.mounted-procfs"], "observer_mount")] {
        let agent =
            rig.agent_with(&by_hand(&[("short", SHORT), ("ps", "command: [ps, -e]")], ""), flags).await;
        join_all(held.iter().map(async |one| {
            for _ in 0..50 {
                let answer = one.run(&agent, "short").await;
                assert_eq!(answer["outcome"], "ok", "{}: {answer}", one.kind);
                // A kernel without the newer way has the other one for both.
                assert!(answer["way"] == way || way == "observer_pidns", "{answer}");
            }
            // And what it sees is the container.
            let listed = one.run(&agent, "ps").await;
            assert!(stdout(&listed).contains("attacker"), "{}: {listed}", one.kind);
            assert!(!stdout(&listed).contains(" ps\n"), "{}: {listed}", one.kind);
        }))
        .await;
        drop(agent);
    }
    for one in &held {
        assert_eq!(hunted(one).await, [""; 0], "{}", one.kind);
    }
    tried("a01 seeing an observer beside the container's own procfs", &ALONE);
    tried("a01 seeing an observer beside one of the container's mounts", &ALONE);
    drop(held);
    rig.finish_alone();
}

/// 2, 6: Everything that /proc and the system calls offer is tried on a running command, as root and as nobody, and on its
/// program file after its end. The kernel asks for the same user and for a permitted set within the caller's
/// (`__ptrace_may_access` in kernel/ptrace.c, `cap_ptrace_access_check` in security/commoncap.c): a joined command has
/// all capabilities, an observer two that containers lack, which counts in the host's pid namespace, where it is seen. What
/// could get around that is not joined. Where a trigger joins it all the same, SYS_ADMIN and PERFMON open what describes a
/// process's memory (`perfmon_capable` in `may_access_mm`, kernel/fork.c), and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a02_a06_a_command_that_is_seen_cannot_be_read_or_overwritten() {
    let rig = Rig::new().await;
    let programs = ["/usr/bin/sleep", "/proc/self/exe", env!("CARGO_BIN_EXE_parachute")];
    let digests = || {
        let all = std::process::Command::new("sha256sum").args(programs).output().unwrap();
        String::from_utf8(all.stdout).unwrap()
    };
    let before = digests();
    let held = Held::all(&rig, &Kind::ALL, &["/attacker", "hunt", "/out", "read"]).await;
    let joined = format!("{LONG}, isolation: joined");
    let probes = [("observer", LONG), ("joined", joined.as_str())];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    for probe in ["observer", "joined"] {
        join_all(held.iter().map(async |one| {
            let wanted = if probe == "joined" && TAKES_OVER.contains(&one.kind) { "refused" } else { "ok" };
            let answer = one.run(&agent, probe).await;
            assert_eq!(answer["outcome"], wanted, "{} {probe}: {answer}", one.kind);
        }))
        .await;
    }
    let mut seen = 0;
    for one in &held {
        let lines = hunted(one).await;
        seen += lines.iter().filter(|line| line.contains("31337")).count();
        let hits: Vec<_> = lines.iter().filter(|line| line.contains("HIT")).collect();
        assert!(hits.is_empty(), "{}: {hits:#?}", one.kind);
    }
    assert!(seen >= held.len() - TAKES_OVER.len(), "the hunters have seen what was joined: {seen}");
    drop(agent);

    let agent = rig.agent(&by_hand(&probes, ALLOWED)).await;
    let reads = [Kind::Admin, Kind::Perfmon];
    let readers: Vec<_> = held.iter().filter(|one| reads.contains(&one.kind)).collect();
    for one in &readers {
        assert_eq!(one.run(&agent, "joined").await["outcome"], "ok");
        let lines = hunted(one).await;
        assert!(lines.iter().any(|line| line.contains("seen sleep")), "{}: {lines:#?}", one.kind);
        let hits = lines.iter().filter_map(|line| line.split("HIT ").nth(1)?.split(' ').next());
        let more: Vec<_> = hits.filter(|hit| !MEMORY_MAP.contains(hit)).collect();
        assert!(more.is_empty(), "{}: {more:?}", one.kind);
    }
    assert_eq!(digests(), before);
    for way in WAYS {
        tried(&format!("a02 {way} of an observer"), &Kind::ALL);
        let joined: Vec<_> = Kind::ALL.into_iter().filter(|kind| !TAKES_OVER.contains(kind)).collect();
        tried(&format!("a02 {way} of a joined command"), &joined);
    }
    tried("a02 more than the memory's map by SYS_ADMIN or PERFMON", &reads);
    tried("a06 overwriting a program", &Kind::ALL);
    drop(held);
    rig.finish(agent);
}

/// Kinds that can take over or read what is joined.
const TAKES_OVER: [Kind; 4] = [Kind::Ptrace, Kind::Admin, Kind::Perfmon, Kind::Privileged];
/// What the hunter tries.
const WAYS: [&str; 23] = [
    "root",
    "cwd",
    "exe",
    "fd",
    "environ",
    "auxv",
    "maps",
    "smaps",
    "pagemap",
    "map_files",
    "mapped-file",
    "syscall",
    "stack",
    "personality",
    "io",
    "namespaces",
    "mem",
    "ptrace",
    "process_vm_readv and writev",
    "kcmp",
    "get_robust_list",
    "pidfd_getfd",
    "setns",
];
/// What goes by `may_access_mm`.
const MEMORY_MAP: [&str; 6] = ["environ", "auxv", "maps", "smaps", "pagemap", "map_files"];

/// 4: A container with SYS_PTRACE can take over any process that it sees, one with SYS_ADMIN or PERFMON reads its environment
/// (`perfmon_capable` in `may_access_mm`): joining them is refused, counted, and done only if the trigger says so.
#[tokio::test(flavor = "multi_thread")]
async fn a04_what_could_take_a_command_over_is_not_joined() {
    let rig = Rig::new().await;
    let held = Held::all(&rig, &TAKES_OVER, &["/workload", "sleep"]).await;
    let probes = [("joined", "command: ['true'], isolation: joined")];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    for one in &held {
        let answer = one.run(&agent, "joined").await;
        assert_eq!(answer["outcome"], "refused", "{}: {answer}", one.kind);
        assert!(answer["reason"].as_str().unwrap().contains("allow_unsafe_joined"), "{answer}");
    }
    let samples = agent.scrape().await.unwrap();
    let refused = [("probe", "joined"), ("reason", "refused")];
    assert_eq!(common::sum(&samples, "parachute_probe_failures_total", &refused), 4.0);
    drop(agent);
    let agent = rig.agent(&by_hand(&probes, ALLOWED)).await;
    for one in &held {
        let answer = one.run(&agent, "joined").await;
        assert_eq!(answer["outcome"], "ok", "{}: {answer}", one.kind);
    }
    tried("a04 being joined by what it could take over", &TAKES_OVER);
    drop(held);
    rig.finish(agent);
}

/// 7: Whoever looks with SYS_PTRACE from a joined process's first moment on finds the stub's program and the tool's, and nothing
/// of the agent's or the launcher's: not their program (CVE-2019-5736), not their memory (CVE-2016-9962). A fork is a copy
/// of the whole of its parent, so its parent must be one that has nothing; a joined run is refused there by default.
#[tokio::test(flavor = "multi_thread")]
async fn a07_nothing_of_the_agents_is_in_the_stub() {
    const CANARIES: [&str; 3] = ["canary-asked-5f1c", "canary-configured-2f6a", "canary-environment-91e0"];
    const LARGEST: u64 = 8 << 10;
    let [asked, configured, environment] = CANARIES;
    let rig = Rig::new().await;
    let command: Vec<_> = ["/attacker", "scan", "/out"].into_iter().chain(CANARIES).collect();
    let held = Held::start(&rig, Kind::Ptrace, "scan-0", &command).await;
    let wrapper = rig.script(&format!("export SECRET={environment}\nexec \"$AGENT\" \"$@\"\n"));
    // What executes something else has its words no more; the stub has them as long as the run lasts.
    let other = format!("command: [sh, -c, exec sleep 0.2, {configured}], isolation: joined");
    let probes = [("joined", "command: [sleep, '0.2'], isolation: joined"), ("other", other.as_str())];
    let agent = rig.agent_by(&wrapper, &by_hand(&probes, ", allow_unsafe_joined: true")).await;
    for _ in 0..40 {
        // A request's text is in the agent's memory.
        let body = format!("{{\"probe\": \"{asked}\", \"target\": {{\"id\": \"{}\"}}}}", held.container.id);
        let answer = agent.post("/api/v1/run", &body).await.unwrap();
        assert!([400, 404].contains(&answer.status), "{}", answer.body);
        assert_eq!(held.run(&agent, "joined").await["outcome"], "ok");
    }
    let said = held.file("/out");
    let told = |what: &str| -> Vec<String> {
        said.lines().filter_map(|line| line.strip_prefix(what)).map(str::to_owned).collect()
    };
    let programs = told("exe ");
    let harmless = |path: &String| path.contains("/memfd:parachute-stub") || path.ends_with("/sleep");
    assert!(programs.iter().all(harmless), "{programs:?}");
    assert!(programs.len() > 1, "stub and tool are both seen: {said}");
    assert_eq!(told("HIT "), [""; 0]);
    let sizes = told("size ");
    // One that has just ended has none.
    let size = |line: &String| line.split(' ').next().unwrap().parse::<u64>().ok();
    assert!(sizes.iter().filter_map(size).all(|size| size < LARGEST), "{sizes:?}");
    println!("seen: {programs:?}, KiB: {sizes:?}");
    // The search finds what is there: the words of a run are in its own stub.
    assert_eq!(held.run(&agent, "other").await["outcome"], "ok");
    common::eventually("what is there is found", common::SOON, async || {
        held.run(&agent, "other").await;
        let hits = held.file("/out").matches(&format!("HIT {configured}")).count();
        if hits > 0 { Ok(()) } else { Err(held.file("/out")) }
    })
    .await;
    drop(held);
    rig.finish(agent);
}
