//! Faults: an agent that is stopped, a container that is frozen or hangs, thousands of orphans, a storm of processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use testbed::{Agent, Kind, WORKLOAD_IMAGE};

use super::{Held, by_hand, stdout};
use crate::common::{self, Rig, SOON};

/// An agent that is stopped for a minute delays nobody's end: no process of the container waits for it to be reaped
/// (`zap_pid_ns_processes` in kernel/pid_namespace.c waits for all of them), and afterwards it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_holds_up_no_deletion() {
    const STOPPED: Duration = Duration::from_mins(1);
    let rig = Rig::new().await;
    let probes = [
        ("observer", "command: [sleep, '300'], timeout: 5m"),
        ("joined", "command: [sleep, '300'], timeout: 5m, isolation: joined"),
        ("quick", "command: ['true']"),
    ];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    let start = async |name: &str| {
        let held = Held::start(&rig, Kind::Default, name, &["/workload", "sleep"]).await;
        held.run(&agent, "quick").await;
        held
    };
    let baseline = {
        let held = start("baseline-0").await;
        let since = Instant::now();
        held.remove().await;
        since.elapsed()
    };
    let targets = [start("observer-0").await, start("joined-0").await];
    let runs: Vec<_> = ["observer", "joined"].iter().zip(&targets).map(|(p, t)| ask(&agent, p, t)).collect();
    running(&agent, 2.0).await;
    // The launcher, its keeper and its spawners as well: whoever could be waited for.
    let mut own: Vec<String> = Vec::new();
    common::eventually("agent, keeper, launcher, and a spawner for each run", SOON, async || {
        // One that has just been started has not its name yet.
        let all = common::family(agent.pid());
        own = all.into_iter().filter(|pid| is_own(*pid)).map(|pid| pid.to_string()).collect();
        if own.len() == 5 { Ok(()) } else { Err(format!("{own:?}")) }
    })
    .await;
    let stopped = Stopped::new(own);
    let since = Instant::now();
    for target in targets {
        let since = Instant::now();
        target.remove().await;
        let took = since.elapsed();
        let most = baseline + Duration::from_secs(1) * testbed::patience();
        assert!(took < most, "{took:?}, without the agent {baseline:?}");
    }
    tokio::time::sleep(STOPPED.saturating_sub(since.elapsed())).await;
    drop(stopped);
    let held = start("after-0").await;
    assert_eq!(held.run(&agent, "quick").await["outcome"], "ok");
    for run in runs {
        run.abort();
    }
    drop(held);
    rig.finish(agent);
}

/// Processes that go on when this goes, as it does if the test fails: stopped, they could not clear away what they have made.
struct Stopped(Vec<String>);

impl Stopped {
    fn new(pids: Vec<String>) -> Self {
        let stopped = Self(pids);
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(name).args(&self.0).status();
        assert!(sent.unwrap().success() || std::thread::panicking());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

/// A command is in a cgroup of its own, which nobody has frozen: both ways work on a container that is, and end at their
/// deadline.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_container_can_be_looked_into() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "frozen-0", &["/workload", "tree", "3"]).await;
    let probes = [
        ("observer", "command: [ps, -e]"),
        ("joined", "command: [ps, -e], isolation: joined"),
        ("long", "command: [sleep, '600'], timeout: 500ms"),
        ("long-joined", "command: [sleep, '600'], timeout: 500ms, isolation: joined"),
    ];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    held.run(&agent, "observer").await;
    let (file, freeze, thaw) = freezer(held.container.pid);
    fs::write(&file, freeze).unwrap();
    for probe in ["observer", "joined"] {
        let answer = held.run(&agent, probe).await;
        assert_eq!(answer["outcome"], "ok", "{answer}");
        assert_eq!(stdout(&answer).matches("workload").count(), 4, "{answer}");
    }
    for probe in ["long", "long-joined"] {
        let answer = held.run(&agent, probe).await;
        assert_eq!(answer["outcome"], "timeout", "{answer}");
        assert!(answer["duration_seconds"].as_f64().unwrap() < 5.0, "it does not hang: {answer}");
    }
    fs::write(&file, thaw).unwrap();
    drop(held);
    rig.finish(agent);
}

/// A tool that reads a file of the container's own file system hangs where no signal reaches it, as long as the container
/// likes: its place is marked and the container left alone; others' runs are as quick as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_hangs_in_the_kernel_costs_the_others_nothing() {
    let rig = Rig::new().await;
    let hanging = Held::start(&rig, Kind::Privileged, "hang-0", &["/attacker", "hang"]).await;
    let other = Held::start(&rig, Kind::Default, "other-0", &["/workload", "sleep"]).await;
    let probes =
        [("hang", "command: [cat, /proc/1/root/hang/file], timeout: 1s"), ("quick", "command: ['true']")];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    let median = async || {
        let mut all = Vec::new();
        for _ in 0..60 {
            let answer = other.run(&agent, "quick").await;
            assert_eq!(answer["outcome"], "ok", "{answer}");
            all.push(answer["duration_seconds"].as_f64().unwrap());
        }
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let before = median().await;
    let answer = hanging.run(&agent, "hang").await;
    assert_eq!(answer["outcome"], "timeout", "{answer}");
    let stuck = async || common::sum(&agent.scrape().await.unwrap(), "parachute_probe_stuck", &[]);
    assert_eq!(stuck().await, 1.0);
    let body = json!({ "probe": "quick", "target": { "id": hanging.container.id } }).to_string();
    assert_eq!(
        agent.post("/api/v1/run", &body).await.unwrap().status,
        503,
        "one in each container is enough"
    );
    let after = median().await;
    println!("a run in another container takes {before} s before and {after} s while one hangs");
    assert!(after < before * 2.0 + 0.002, "{before} s before, {after} s now");
    // The file system goes with the container, and the command with it.
    hanging.remove().await;
    common::eventually("the place is free again", SOON * 2, async || {
        let stuck = stuck().await;
        if stuck == 0.0 { Ok(()) } else { Err(format!("{stuck}")) }
    })
    .await;
    drop(other);
    rig.finish(agent);
}

/// Thousands of commands that leave children behind, in one container: every one of them is collected, by the stub as a
/// subreaper (`prctl(2)`) or with the pid namespace of an observer, and nothing grows.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_orphaning_runs_leave_nothing() {
    const RUNS: usize = 10_000;
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let orphan = "command: [setsid, --fork, sleep, '600']";
    let joined = format!("{orphan}, isolation: joined");
    let probes = [("joined", joined.as_str()), ("observer", orphan)];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    held.run(&agent, "joined").await;
    let mut flat = None;
    for (batch, probe) in ["joined", "observer"].iter().cycle().take(20).enumerate() {
        join_all((0..4).map(async |_| {
            for _ in 0..RUNS / 20 / 4 {
                let answer = held.run(&agent, probe).await;
                assert_eq!(answer["outcome"], "ok", "{answer}");
            }
        }))
        .await;
        alone(&held).await;
        let groups = common::run_cgroups().len();
        let now = (common::open_files(&agent), groups, common::mounts().len());
        println!("batch {batch}: open files, cgroups, mounts: {now:?}");
        if batch == 1 {
            flat = Some(now);
        }
        if let Some((files, groups, mounts)) = flat {
            assert!(now.0 <= files + 4 && now.1 <= groups + 4 && now.2 == mounts, "{now:?}, were {flat:?}");
        }
    }
    drop(held);
    rig.finish(agent);
}

/// A container that starts processes as fast as the machine can, for a minute, hides no other container's start: execs in a
/// known cgroup end in the kernel's map.
#[tokio::test(flavor = "multi_thread")]
async fn a_minute_of_storm_hides_no_start() {
    const STORM: Duration = Duration::from_mins(1);
    let rig = Rig::new().await;
    let agent = rig.agent(common::ONE_PROBE).await;
    let storm = ["/workload", "execs", "60000"];
    let storms = join_all((0..4).map(async |n| {
        rig.bed
            .pod("attack", &format!("storm-{n}"))
            .container("main", WORKLOAD_IMAGE, &storm)
            .start()
            .await
            .unwrap()
    }))
    .await;
    common::knows(&agent, &storms).await;
    let before = (Footprint::of(&agent).memory, common::processor_seconds(&agent));
    let (since, mut slowest, mut seen) = (Instant::now(), Duration::ZERO, 0);
    while since.elapsed() < STORM {
        let name = format!("calm-{seen}");
        let calm = rig.bed.pod("attack", &name).container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
        let calm = calm.start().await.unwrap();
        let started = Instant::now();
        common::eventually("it is seen", SOON, async || {
            let known =
                common::containers(&agent).await.iter().any(|c| c["id"] == calm.containers[0].id.as_str());
            if known { Ok(()) } else { Err("not yet".into()) }
        })
        .await;
        slowest = slowest.max(started.elapsed());
        seen += 1;
        calm.remove().await.unwrap();
    }
    println!("{seen} containers started in the storm; the slowest was seen {slowest:?} after its start");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let samples = agent.scrape().await.unwrap();
    assert_eq!(common::sum(&samples, "parachute_exec_events_lost_total", &[]), 0.0);
    let (memory, spent) = (Footprint::of(&agent).memory, common::processor_seconds(&agent) - before.1);
    println!("the agent used {spent} s of a processor, and has {memory} KiB of memory, {} before", before.0);
    assert!(memory <= before.0 + (8 << 10), "{memory} KiB, {} before", before.0);
    drop(storms);
    rig.finish(agent);
}

/// Asks for a run that nobody waits for.
fn ask(agent: &Agent, probe: &str, held: &Held) -> tokio::task::JoinHandle<()> {
    let body = json!({ "probe": probe, "target": { "id": held.container.id } }).to_string();
    let address = agent.address();
    tokio::spawn(async move { drop(testbed::request(address, "POST", "/api/v1/run", &body).await) })
}

async fn running(agent: &Agent, count: f64) {
    common::eventually("they run", SOON, async || {
        let running = common::sum(&agent.scrape().await.unwrap(), "parachute_runs_running", &[]);
        if running == count { Ok(()) } else { Err(format!("{running}")) }
    })
    .await;
}

fn is_own(pid: u32) -> bool {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    ["parachute", "parachute-keep", "parachute-launc", "parachute-spawn"].contains(&comm.trim())
}

/// The file that freezes a process's cgroup, and what to write there.
fn freezer(pid: i32) -> (PathBuf, &'static str, &'static str) {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = |wanted: &str| {
        table.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next() == Some(wanted)).then(|| fields.next().unwrap().trim_start_matches('/').to_owned())
        })
    };
    match path("freezer") {
        Some(path) => {
            (PathBuf::from("/sys/fs/cgroup/freezer").join(path).join("freezer.state"), "FROZEN", "THAWED")
        }
        None => (PathBuf::from("/sys/fs/cgroup").join(path("").unwrap()).join("cgroup.freeze"), "1", "0"),
    }
}

/// A hundred thousand runs, of both isolations, in four containers at once: descriptors, memory, mounts, cgroups and network
/// namespaces are as many at the end as they were after the first ten thousand. It is the shipped program, whose allocator is
/// another one than this build's.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_runs_leave_everything_flat() {
    const RUNS: usize = 100_000;
    const BATCHES: usize = 10;
    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/parachute");
    assert!(fs::exists(SHIPPED).unwrap(), "{SHIPPED}: cargo xtask dist makes it");
    let rig = Rig::new().await;
    let kinds = [Kind::Default, Kind::Nothing, Kind::HostNetwork, Kind::User];
    let held = Held::all(&rig, &kinds, &["/workload", "sleep"]).await;
    let probes = [
        ("observer", "command: ['true']"),
        ("joined", "command: ['true'], isolation: joined"),
        ("together", "command: [sleep, '2'], isolation: joined"),
    ];
    let agent = rig.agent_by(Path::new(SHIPPED), &by_hand(&probes, "")).await;
    // A joined run's slot is made when it is needed and kept: all of them are there before anything is counted.
    join_all(held.iter().map(async |one| assert_eq!(one.run(&agent, "together").await["outcome"], "ok")))
        .await;
    let mut first = None;
    for batch in 0..BATCHES {
        let since = Instant::now();
        join_all(held.iter().map(async |one| {
            for n in 0..RUNS / BATCHES / held.len() {
                let probe = if n % 4 == 0 { "joined" } else { "observer" };
                let answer = one.run(&agent, probe).await;
                assert_eq!(answer["outcome"], "ok", "{}: {answer}", one.kind);
            }
        }))
        .await;
        let now = Footprint::of(&agent);
        println!("batch {batch}, {:?}: {now:?}", since.elapsed());
        let first = *first.get_or_insert(now);
        assert!(now.memory > 0 && now.is_like(first), "{now:?}, were {first:?}");
    }
    for one in &held {
        alone(one).await;
    }
    drop(held);
    rig.finish(agent);
}

/// The last run's stub is gone a moment after its answer.
async fn alone(held: &Held) {
    common::eventually("nothing of the runs is in the container", SOON, async || {
        let beside = common::processes_beside(held.container.pid);
        if beside == ["workload"] { Ok(()) } else { Err(format!("{}: {beside:?}", held.kind)) }
    })
    .await;
}

/// What grows where something leaks.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    files: usize,
    /// KiB of the agent, the keeper and the launcher together.
    memory: u64,
    mounts: usize,
    cgroups: usize,
    network_namespaces: usize,
}

impl Footprint {
    fn of(agent: &Agent) -> Self {
        let memory = |pid: u32| {
            // Exact on every kernel, as VmRSS is not.
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0)
        };
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let namespaces = processes.filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok());
        Self {
            files: common::open_files(agent),
            memory: common::family(agent.pid()).into_iter().map(memory).sum(),
            mounts: common::mounts().len(),
            cgroups: common::run_cgroups().len(),
            network_namespaces: namespaces.collect::<std::collections::HashSet<_>>().len(),
        }
    }

    /// Connections that are kept for the next request may differ by a few, the allocator's memory by a little.
    fn is_like(&self, first: Self) -> bool {
        self.files <= first.files + 8
            && self.memory <= first.memory + 1024
            && self.mounts == first.mounts
            && self.cgroups <= first.cgroups
            && self.network_namespaces <= first.network_namespaces
    }
}
