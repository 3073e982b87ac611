//! A launcher that dies or hangs is replaced within two seconds, and nothing of its runs is lost or left.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use testbed::{Agent, Pod, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const CONFIGURATION: &str = r#"
probes:
  hold: { command: [sleep, "600"], timeout: 10m, isolation: joined, parse: none }
  watch: { command: [sleep, "600"], timeout: 10m, parse: none }
  quick: { command: [ss, -s], parse: none }
triggers:
  by-hand: { http: {}, probes: [hold, watch, quick] }
"#;

/// What the issue promises.
const REPLACED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_dies_or_hangs_is_replaced() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let pods = [started(&rig, "web-0").await, started(&rig, "web-1").await];
    common::knows(&agent, &pods).await;
    run(&agent, "quick", "web-0").await;
    let mut files = 0;
    for round in 0_u32..10 {
        let stop = round % 5 == 4;
        let (one, other, ()) =
            tokio::join!(run(&agent, "hold", "web-0"), run(&agent, "watch", "web-1"), async {
                common::eventually("both run", SOON, async || {
                    let populated = common::run_cgroups().iter().filter(|group| is_main(group)).count();
                    if populated >= 2 { Ok(()) } else { Err(format!("{populated}")) }
                })
                .await;
                // Without a process that makes its stubs a launcher is none. One that is stopped in a run costs that run alone.
                let name = if round % 2 == 1 && !stop { "parachute-spawn" } else { "parachute-launc" };
                signal(process(&agent, name), if stop { "STOP" } else { "KILL" });
                let since = Instant::now();
                let answer = run(&agent, "quick", "web-0").await;
                // One that was asked of the launcher that hangs fails with it; the next one must not.
                let answer = if stop { run(&agent, "quick", "web-0").await } else { answer };
                assert_eq!(answer["outcome"], "ok", "round {round}: {answer}");
                let took = since.elapsed();
                println!("round {round}: replaced and answered after {took:?}");
                assert!(took < REPLACED * testbed::patience(), "round {round}: {took:?}");
            });
        for answer in [one, other] {
            assert_eq!(
                (&answer["outcome"], &answer["step"]),
                (&json!("enter_failed"), &json!("launcher")),
                "{answer}"
            );
        }
        common::eventually("nothing of the runs is left", SOON, async || {
            let beside = common::processes_beside(pods[0].containers[0].pid);
            let running: Vec<_> =
                common::run_cgroups().into_iter().filter(|g| common::is_populated(g)).collect();
            if beside == ["workload"] && running.is_empty() {
                Ok(())
            } else {
                Err(format!("{beside:?} {running:?}"))
            }
        })
        .await;
        common::eventually("open files do not grow", SOON, async || {
            let now = common::open_files(&agent);
            if round < 2 || now <= files { Ok(()) } else { Err(format!("{now}, were {files}")) }
        })
        .await;
        if round == 1 {
            files = common::open_files(&agent);
        }
    }
    let samples = agent.scrape().await.unwrap();
    let restarts = |reason| common::sum(&samples, "parachute_launcher_restarts_total", &[("reason", reason)]);
    assert_eq!((restarts("died"), restarts("hung")), (8.0, 2.0));
    for probe in ["hold", "watch"] {
        let runs = common::sum(&samples, "parachute_probe_runs_total", &[("probe", probe)]);
        let failures = [("probe", probe), ("reason", "enter_failed")];
        assert_eq!((runs, common::sum(&samples, "parachute_probe_failures_total", &failures)), (10.0, 10.0));
    }
    // Who enters a container by hand finds the new launcher's template.
    let entered = common::exec(&agent, &["web-0/main", "true"]).status().unwrap();
    assert!(entered.success(), "{entered}");
    rig.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_is_stopped_while_nobody_asks_is_replaced() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let pod = started(&rig, "web-0").await;
    common::knows(&agent, &[pod]).await;
    let launcher = process(&agent, "parachute-launc");
    // One that goes on in time is left alone.
    signal(launcher, "STOP");
    tokio::time::sleep(REPLACED / 10).await;
    signal(launcher, "CONT");
    tokio::time::sleep(REPLACED).await;
    assert_eq!(process(&agent, "parachute-launc"), launcher);
    assert_eq!(run(&agent, "quick", "web-0").await["outcome"], "ok");

    signal(launcher, "STOP");
    common::eventually("there is another", REPLACED, async || {
        let samples = agent.scrape().await.unwrap();
        let hung = common::sum(&samples, "parachute_launcher_restarts_total", &[("reason", "hung")]);
        if (hung - 1.0).abs() < 0.5 { Ok(()) } else { Err(format!("{hung} restarts")) }
    })
    .await;
    assert_eq!(run(&agent, "quick", "web-0").await["outcome"], "ok");
    rig.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_keeps_the_next_launcher_out_until_it_is_right() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let pod = started(&rig, "web-0").await;
    common::knows(&agent, &[pod]).await;
    let path = rig.configuration(CONFIGURATION);
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, "probes: nonsense").unwrap();
    signal(process(&agent, "parachute-launc"), "KILL");
    let answer = run(&agent, "quick", "web-0").await;
    assert_eq!(answer["outcome"], "enter_failed", "{answer}");
    assert_eq!(agent.get("/metrics").await.unwrap().status, 200, "the agent stays");
    // Another one than before: the agent takes it over with the launcher.
    fs::write(&path, right.replace("600", "601")).unwrap();
    common::eventually("it runs again", SOON, async || {
        let answer = run(&agent, "quick", "web-0").await;
        if answer["outcome"] == "ok" { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    rig.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_keeper_the_agent_ends_and_leaves_nothing() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    signal(process(&agent, "parachute-keep"), "KILL");
    common::eventually("the agent has ended", SOON, async || {
        if agent.get("/metrics").await.is_err() { Ok(()) } else { Err("it still answers".into()) }
    })
    .await;
    rig.finish(agent);
}

async fn run(agent: &Agent, probe: &str, pod: &str) -> serde_json::Value {
    let body = json!({ "probe": probe, "target": { "namespace": "shop", "pod": pod, "container": "main" } });
    let answer = agent.post("/api/v1/run", &body.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

async fn started(rig: &Rig, name: &str) -> Pod {
    let pod = rig.bed.pod("shop", name).container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    pod.start().await.unwrap()
}

/// A populated cgroup of the hierarchy by which runs are killed: others only limit.
fn is_main(group: &std::path::Path) -> bool {
    let limits =
        ["memory", "pids", "cpu"].iter().any(|name| group.starts_with(format!("/sys/fs/cgroup/{name}")));
    !limits && common::is_populated(group)
}

fn process(agent: &Agent, name: &str) -> u32 {
    let named =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    common::family(agent.pid()).into_iter().find(named).expect(name)
}

fn signal(pid: u32, name: &str) {
    let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}
