//! Death in the middle of a run, of the container or of the agent, leaves nothing over.

use futures_util::future::join_all;
use testbed::{Pod, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

/// The name under which the probe's command is found beside a container's own processes.
const COMMAND: &str = "sleep";

const CONFIGURATION: &str = r#"
limits: { concurrent_runs: 16, queued_runs: 1000 }
probes:
  hold: { command: [sleep, "600"], timeout: 10m, isolation: joined, parse: none }
triggers:
  when: { TRIGGER, probes: [hold] }
"#;

/// One run in each container.
const AT_START: &str = "container_start: { delay: 0s }";

/// Also in containers that are older than the agent.
const STEADY: &str = "schedule: { every: 1s }";

#[tokio::test(flavor = "multi_thread")]
async fn a_container_killed_in_mid_run_leaves_nothing() {
    // A machine on which a pod takes seconds to start does not get through more.
    let (batches, batch_size) = if testbed::patience() > 1 { (3, 3) } else { (10, 10) };

    let rig = Rig::new().await;
    let agent = rig.agent(&CONFIGURATION.replace("TRIGGER", AT_START)).await;
    let mut files = 0;
    for batch in 0..batches {
        let mounts = common::mounts();
        let pods = join_all((0..batch_size).map(|n| started(&rig, format!("victim-{batch}-{n}")))).await;
        for pod in &pods {
            wait_for_run(pod).await;
        }
        join_all(pods.into_iter().map(|pod| async {
            pod.kill("main").await.unwrap();
            assert_eq!(common::processes_beside(pod.containers[0].pid), [""; 0], "in the dead container");
            pod.remove().await.unwrap();
        }))
        .await;
        common::eventually("runs and containers are gone", SOON, async || {
            let listed = common::containers(&agent).await.len();
            let now = common::mounts();
            let more: Vec<&String> = now.iter().filter(|mount| !mounts.contains(mount)).collect();
            let running =
                common::run_cgroups().into_iter().filter(|cgroup| common::is_populated(cgroup)).count();
            if listed == 0 && more.is_empty() && running == 0 {
                Ok(())
            } else {
                Err(format!("{listed} containers, {running} runs, mounts {more:?}"))
            }
        })
        .await;
        let processes = common::processes_of(&agent);
        assert!(
            processes.len() == 4,
            "agent, keeper, launcher and spawner alone are left, not {processes:?}"
        );
        // Those of the runs close a moment after them. The first batch may open connections that stay.
        common::eventually("open files do not grow", SOON, async || {
            let now = common::open_files(&agent);
            if batch < 2 || now <= files { Ok(()) } else { Err(format!("{now}, were {files}")) }
        })
        .await;
        if batch == 1 {
            files = common::open_files(&agent);
        }
    }
    let ended = agent.scrape().await.unwrap();
    let gone = [("probe", "hold"), ("reason", "target_gone")];
    let failures = common::sum(&ended, "parachute_probe_failures_total", &gone);
    assert_eq!(failures, f64::from(batches * batch_size), "each run's target has gone, and that is counted");
    rig.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_in_mid_run_leaves_nothing() {
    let rig = Rig::new().await;
    let pod = started(&rig, "survivor-0".into()).await;
    let init = pod.containers[0].pid;
    let mounts = common::mounts();
    let configuration = CONFIGURATION.replace("TRIGGER", STEADY);
    for _ in 0..20 {
        let mut agent = rig.unready_agent(&configuration);
        wait_for_run(&pod).await;
        agent.kill().unwrap();
        common::eventually("the run is gone with the agent", SOON, async || {
            let beside = common::processes_beside(init);
            if beside == ["workload"] { Ok(()) } else { Err(format!("in the container: {beside:?}")) }
        })
        .await;
        assert_eq!(common::mounts(), mounts);
        // The launcher outlives its agent for the moment that it takes to clear up.
        common::eventually("the launcher has left no cgroup", SOON, async || {
            let left = common::run_cgroups();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }
    let agent = rig.agent(&configuration).await;
    rig.finish(agent);
}

async fn started(rig: &Rig, name: String) -> Pod {
    let pod = rig.bed.pod("shop", &name).container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    pod.start().await.unwrap()
}

async fn wait_for_run(pod: &Pod) {
    common::eventually("the probe runs in the container", SOON, async || {
        let beside = common::processes_beside(pod.containers[0].pid);
        if beside.iter().any(|name| name == COMMAND) { Ok(()) } else { Err(format!("there: {beside:?}")) }
    })
    .await;
}
