//! What a run may use, and what a container may do to a run that joined it.

use std::fs;

use futures_util::future::join_all;
use testbed::{Agent, Kind};

use super::{ALLOWED, Held, by_hand, memory, stdout, tried};
use crate::common::{self, Rig, SOON};

/// 28: A container may lower a joined command's limits (`prlimit(2)`, same user), so that it prints less and ends well: they
/// are compared at its end, and such a result is not published. An observer's can be reached from the host's pid namespace
/// alone, by a process that has become nobody: that is said in docs/security.md.
#[tokio::test(flavor = "multi_thread")]
async fn a28_lowered_limits_are_noticed() {
    let rig = Rig::new().await;
    let probe = "command: [sleep, '1.31337'], timeout: 5s";
    let joined = format!("{probe}, isolation: joined");
    let agent = rig.agent(&by_hand(&[("observer", probe), ("joined", &joined)], ALLOWED)).await;
    let unseen: Vec<_> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::HostPid).collect();
    let mut tampered = 0.0;
    // One in the host's pid namespace reaches the commands of all others.
    for kinds in [&unseen[..], &[Kind::HostPid]] {
        let held = Held::all(&rig, kinds, &["/attacker", "hunt", "/out", "limit"]).await;
        tampered += join_all(held.iter().map(|one| limit(one, &agent))).await.iter().sum::<f64>();
        for one in held {
            one.remove().await;
        }
    }
    assert!(tampered > 0.0);
    let samples = agent.scrape().await.unwrap();
    let labels = [("probe", "joined"), ("reason", "tampered")];
    assert_eq!(common::sum(&samples, "parachute_probe_failures_total", &labels), tampered);
    tried("a28 limits of a joined command", &Kind::ALL);
    tried("a28 limits of an observer", &unseen);
    rig.finish(agent);
}

/// How many joined runs are found to have been tampered with.
async fn limit(held: &Held, agent: &Agent) -> f64 {
    // Who is quick hits the stub before there is a command; then nothing runs, for whatever step that is needs.
    let mut tampered = 0.0;
    for _ in 0..4 {
        let answer = held.run(agent, "joined").await;
        // A user namespace's root is nobody to the host, and may not.
        assert_eq!(answer["outcome"] == "ok", held.kind == Kind::User, "{}: {answer}", held.kind);
        tampered += f64::from(u8::from(answer["outcome"] == "tampered"));
    }
    if held.kind != Kind::HostPid {
        let answer = held.run(agent, "observer").await;
        assert_eq!(answer["outcome"], "ok", "{}: {answer}", held.kind);
    }
    tampered
}

/// 21: Endless output and a line of a gigabyte are cut at their cap, the command is killed, and the agent holds no more than some
/// copies of what it keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a21_endless_output_is_cut() {
    const CAP: usize = 1 << 20;
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let endless = ["[cat, /dev/zero]", "['yes']", "[head, -c, 1G, /dev/zero]"];
    let names = ["zeros", "lines", "line"];
    let mut probes = Vec::new();
    for (name, command) in names.iter().zip(endless) {
        for isolation in ["observer", "joined"] {
            let probe = format!("command: {command}, timeout: 20s, isolation: {isolation}");
            probes.push((format!("{name}-{isolation}"), probe));
        }
    }
    let probes: Vec<_> = probes.iter().map(|(name, probe)| (name.as_str(), probe.as_str())).collect();
    let agent = rig.agent(&by_hand(&probes, "")).await;
    for (probe, _) in probes {
        // proc_pid_clear_refs(5): the highest value so far is forgotten.
        fs::write(format!("/proc/{}/clear_refs", agent.pid()), "5").unwrap();
        let before = memory(&agent, "VmRSS:");
        let answer = held.run(&agent, probe).await;
        assert_eq!(answer["outcome"], "truncated", "{probe}");
        assert_eq!(stdout(&answer).len(), CAP, "{probe}");
        let grown = memory(&agent, "VmHWM:").saturating_sub(before) << 10;
        println!("{probe}: cut after {} s, {} KiB more at most", answer["duration_seconds"], grown >> 10);
        // What was captured, its text, and the answer with six characters for each byte that is none.
        assert!(grown < 24 * CAP as u64, "{probe}: {grown} bytes more");
        common::eventually("the command has gone", SOON, async || {
            let left: Vec<_> =
                common::run_cgroups().into_iter().filter(|group| common::is_populated(group)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
    for name in names {
        tried(&format!("a21 endless output: {name}"), &[Kind::Default]);
    }
    drop(held);
    rig.finish(agent);
}

/// A tool that takes memory, processes or processor time without end is stopped by its own cgroup, alone; the third time in a
/// row the probe is put in quarantine there, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_repeated_hits_bring_quarantine() {
    let rig = Rig::new().await;
    let held = Held::all(&rig, &[Kind::Default, Kind::Nothing], &["/workload", "sleep"]).await;
    // tail keeps what has no end of line, and a file in /tmp is memory as well.
    let memory = "limits: { memory: 16MiB }, command: [tail, /dev/zero], timeout: 20s";
    let file =
        "limits: { memory: 8MiB }, command: [dd, if=/dev/zero, of=/tmp/big, bs=1M, count=14], timeout: 20s";
    let forks = "limits: { pids: 10 }, shell: 'for n in $(seq 50); do sleep 2 & done; wait', timeout: 20s";
    let spins = "limits: { cpu: 0.1 }, shell: 'while :; do :; done', timeout: 2s";
    let joined = format!("{memory}, isolation: joined");
    let probes =
        [("memory", memory), ("file", file), ("forks", forks), ("spins", spins), ("joined", joined.as_str())];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    let outcome = async |probe: &str| {
        let answer = held[0].run(&agent, probe).await;
        (
            answer["outcome"].as_str().unwrap().to_owned(),
            answer["limit"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for (probe, limit) in
        [("memory", "memory"), ("file", "memory"), ("forks", "pids"), ("spins", "cpu"), ("joined", "memory")]
    {
        assert_eq!(outcome(probe).await, ("limit_reached".to_owned(), limit.to_owned()), "{probe}");
    }
    for _ in 0..2 {
        assert_eq!(outcome("memory").await.0, "limit_reached");
    }
    let body = serde_json::json!({ "probe": "memory", "target": { "id": held[0].container.id } });
    let refused = agent.post("/api/v1/run", &body.to_string()).await.unwrap();
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body.contains("parachute_probe_quarantined"), "{}", refused.body);
    let samples = agent.scrape().await.unwrap();
    assert_eq!(common::sum(&samples, "parachute_probe_quarantined", &[("probe", "memory")]), 1.0);
    assert_eq!(common::sum(&samples, "parachute_probe_quarantined", &[("probe", "forks")]), 0.0);
    assert_eq!(common::sum(&samples, "parachute_runs_refused_total", &[("reason", "quarantined")]), 1.0);
    assert_eq!(held[1].run(&agent, "memory").await["outcome"], "limit_reached", "elsewhere it still runs");
    common::eventually("nothing of the runs is left", SOON, async || {
        let left: Vec<_> =
            common::run_cgroups().into_iter().filter(|group| common::is_populated(group)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    drop(held);
    rig.finish(agent);
}
