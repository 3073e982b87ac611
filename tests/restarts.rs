//! Whoever starts first, whoever restarts: all containers are known in the end, and by name.

use testbed::{Pod, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const CONFIGURATION: &str = r"
probes:
  sockets: { command: [ss, -s], parse: none }
triggers:
  by-hand: { http: {}, probes: [sockets] }
";

async fn pod(rig: &Rig, name: &str) -> Pod {
    let pod = rig.bed.pod("shop", name).container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    pod.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_agent_or_runtime_restart() {
    let mut rig = Rig::new().await;
    let mut pods = vec![pod(&rig, "older-0").await, pod(&rig, "older-1").await];

    let mut agent = rig.agent(CONFIGURATION).await;
    common::knows(&agent, &pods).await;

    agent.kill().unwrap();
    pods.push(pod(&rig, "between-0").await);
    let agent = rig.agent(CONFIGURATION).await;
    common::knows(&agent, &pods).await;

    rig.bed.restart().await.unwrap();
    pods.push(pod(&rig, "after-0").await);
    common::knows(&agent, &pods).await;

    // While the runtime is away, what is cached still serves.
    rig.bed.stop_daemon();
    let body = r#"{"probe": "sockets", "target": {"pod": "older-0", "container": "main"}}"#;
    let answer = agent.post("/api/v1/run", body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    rig.bed.start_daemon().await.unwrap();

    // The end is noticed too, and its series go.
    let gone = pods.remove(0);
    let id = gone.containers[0].id.clone();
    gone.remove().await.unwrap();
    common::eventually("the removed container is forgotten", SOON, async || {
        let listed = common::containers(&agent).await;
        if listed.iter().all(|c| c["id"] != id.as_str()) { Ok(()) } else { Err("it is still listed".into()) }
    })
    .await;
    rig.finish(agent);
}
