//! Fifty pods at once: all are detected, named right, and the runtime is asked once for each and never for a run.

use futures_util::future::{join_all, try_join_all};
use testbed::{Pod, WORKLOAD_IMAGE};

use crate::common::{self, Rig};

const PODS: usize = 50;
const RUNS: usize = 1000;

const CONFIGURATION: &str = r"
probes:
  sockets: { command: [ss, -s], parse: { none: {} } }
triggers:
  by-hand: { http: {}, probes: [sockets] }
";

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pods_are_all_known_and_asked_for_once() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let requests = async |call: &str| {
        let samples = agent.scrape().await.unwrap();
        let all = common::select(&samples, "parachute_runtime_requests_total", &[]);
        all.filter(|s| call.is_empty() || s.label("call") == call).map(|s| s.value).sum::<f64>()
    };
    let at_start = requests("").await;
    assert!(at_start <= 2.0, "one list of sandboxes and one of containers, not {at_start} requests");

    let pods = try_join_all((0..PODS).map(|n| {
        let name = format!("cart-{n}");
        let pod = rig.bed.pod("shop", &name).label("app", "cart");
        let pod = pod.container("cart", WORKLOAD_IMAGE, &["/workload", "sleep"]);
        // Every fifth has a second container.
        let pod =
            if n % 5 == 0 { pod.container("side", WORKLOAD_IMAGE, &["/workload", "sleep"]) } else { pod };
        pod.start()
    }))
    .await
    .unwrap();

    let listed = common::knows(&agent, &pods).await;
    let expected: usize = pods.iter().map(|pod| pod.containers.len() + 1).sum();
    let ours = listed.iter().filter(|c| c["namespace"] == "shop").count();
    assert_eq!(ours, expected);
    for pod in &pods {
        let of = |id: &str| listed.iter().find(|c| c["id"] == id).unwrap();
        let sandbox = of(&pod.sandbox.id);
        assert_eq!(sandbox["sandbox"], true, "{sandbox}");
        for container in &pod.containers {
            let seen = of(&container.id);
            assert_eq!(seen["sandbox"], false, "{seen}");
            assert_eq!(seen["container"], container.name, "{seen}");
            assert_eq!(seen["namespace"], "shop", "{seen}");
            assert_eq!(seen["pod"], pod.name, "{seen}");
            assert_eq!(seen["pod_uid"], pod.uid, "{seen}");
            assert_eq!(seen["image"], WORKLOAD_IMAGE, "{seen}");
            assert_eq!(seen["pod_labels"]["app"], "cart", "{seen}");
            assert_eq!(seen["runtime"], "containerd", "{seen}");
        }
    }

    let after_start = requests("").await;
    assert!(
        after_start - at_start <= expected as f64,
        "{} calls for {expected} containers",
        after_start - at_start
    );
    for batch in (0..RUNS).collect::<Vec<_>>().chunks(8) {
        join_all(batch.iter().map(|run| run_sockets(&agent, &pods[run % PODS]))).await;
    }
    assert!((requests("").await - after_start).abs() < 0.5, "a run asked the runtime");
    rig.finish(agent);
}

async fn run_sockets(agent: &testbed::Agent, pod: &Pod) {
    let target = serde_json::json!({ "namespace": "shop", "pod": pod.name, "container": "cart" });
    let body = serde_json::json!({ "probe": "sockets", "target": target }).to_string();
    let answer = agent.post("/api/v1/run", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}
