//! What a run may use, and what a container may do to a run that joined it.

use testbed::Kind;

use super::{Held, by_hand, stdout};
use crate::common::{self, Rig, SOON};

/// 10. A container may send signals to a joined command and raise its limits up to the hard ones. The hard limit of a core
/// dump is 0 (`core(5)`): nothing of it comes onto the host's disk.
#[tokio::test(flavor = "multi_thread")]
async fn a10_a_killed_command_leaves_no_core() {
    let rig = Rig::new().await;
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let folder = rig.path("cores");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::write("/proc/sys/kernel/core_pattern", format!("{}/%e-%p", folder.display())).unwrap();
    let held = Held::start(&rig, Kind::Default, "default-0", &["/attacker", "hunt", "/out", "harm"]).await;
    let joined = "command: [sleep, '1.31337'], timeout: 5s, isolation: joined";
    let agent = rig.agent(&by_hand(&[("joined", joined)], "")).await;
    let mut killed = 0;
    for _ in 0..30 {
        let answer = held.run(&agent, "joined").await;
        killed += usize::from(answer["outcome"] != "ok");
    }
    let said = held.file("/out");
    let cores: Vec<_> =
        std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
    std::fs::write("/proc/sys/kernel/core_pattern", pattern).unwrap();
    assert!(killed > 0 && said.contains("HARM abort"), "the attack works: {killed}, {said}");
    assert!(cores.is_empty(), "{cores:?}");
    drop(held);
    rig.finish(agent);
}

/// 28. A container may lower a joined command's limits (`prlimit(2)`, same user), so that it prints less and ends well: they
/// are compared at its end, and such a result is not published. An observer's cannot be reached.
#[tokio::test(flavor = "multi_thread")]
async fn a28_lowered_limits_are_noticed() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/attacker", "hunt", "/out", "limit"]).await;
    let probe = "command: [sleep, '1.31337'], timeout: 5s";
    let joined = format!("{probe}, isolation: joined");
    let agent = rig.agent(&by_hand(&[("observer", probe), ("joined", &joined)], "")).await;
    // Who is quick hits the stub before there is a command; then nothing runs, for whatever step that is needs.
    let mut tampered = 0.0;
    for _ in 0..10 {
        let answer = held.run(&agent, "joined").await;
        assert_ne!(answer["outcome"], "ok", "{answer}");
        tampered += f64::from(u8::from(answer["outcome"] == "tampered"));
    }
    assert!(tampered > 0.0);
    assert_eq!(held.run(&agent, "observer").await["outcome"], "ok");
    let samples = agent.scrape().await.unwrap();
    let labels = [("probe", "joined"), ("reason", "tampered")];
    assert_eq!(common::sum(&samples, "parachute_probe_failures_total", &labels), tampered);
    assert_eq!(common::sum(&samples, "parachute_probe_last_success", &[("probe", "joined")]), 0.0);
    drop(held);
    rig.finish(agent);
}

/// 21. Endless output is cut at its cap, and the command is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a21_endless_output_is_cut() {
    let rig = Rig::new().await;
    let held = Held::start(&rig, Kind::Default, "default-0", &["/workload", "sleep"]).await;
    let probes = [
        ("zeros", "command: [cat, /dev/zero], timeout: 20s"),
        ("lines", "command: ['yes'], timeout: 20s"),
        ("joined", "command: [cat, /dev/zero], timeout: 20s, isolation: joined"),
    ];
    let agent = rig.agent(&by_hand(&probes, "")).await;
    for (probe, _) in probes {
        let answer = held.run(&agent, probe).await;
        assert_eq!(answer["outcome"], "truncated", "{probe}");
        assert_eq!(stdout(&answer).len(), 1 << 20, "{probe}");
        println!("{probe}: cut after {} s", answer["duration_seconds"]);
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
