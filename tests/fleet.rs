//! Fifty pods at once: all are detected, named right, and the runtime is asked once for each and never for a run.

use futures_util::future::{join_all, try_join_all};
use testbed::{Pod, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const PODS: usize = 50;
const RUNS: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pods_are_all_known_and_asked_for_once() {
    let rig = Rig::new().await;
    let agent = rig.agent(common::ONE_PROBE).await;
    let requests = async |call: &str| {
        let samples = agent.scrape().await.unwrap();
        let all = common::select(&samples, "parachute_runtime_requests_total", &[]);
        all.filter(|s| call.is_empty() || s.label("call") == call).map(|s| s.value).sum::<f64>()
    };
    for call in ["ListPodSandbox", "ListContainers"] {
        assert_eq!(requests(call).await, 1.0, "one {call} at start");
    }
    let at_start = requests("").await;
    assert_eq!(at_start, 2.0, "these two and no other");

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

    common::knows(&agent, &pods).await;
    // The names stand on disk and are known at once; the labels come from the runtime, one container after the other.
    let listed = common::eventually("the labels are there", SOON, async || {
        let listed = common::containers(&agent).await;
        let bare = listed.iter().filter(|c| c["pod_labels"]["app"] != "cart").count();
        if bare == 0 { Ok(listed) } else { Err(format!("{bare} without")) }
    })
    .await;
    let expected: usize = pods.iter().map(|pod| pod.containers.len() + 1).sum();
    assert_eq!(listed.len(), expected, "these containers and no other");
    for pod in &pods {
        let of = |id: &str| listed.iter().find(|c| c["id"] == id).unwrap();
        let sandbox = of(&pod.sandbox.id);
        assert_eq!(sandbox["sandbox"], true, "{sandbox}");
        assert_eq!(sandbox["container"], "", "{sandbox}");
        assert_eq!(sandbox["namespace"], "shop", "{sandbox}");
        assert_eq!(sandbox["pod"], pod.name, "{sandbox}");
        assert_eq!(sandbox["pod_uid"], pod.uid, "{sandbox}");
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
            assert_eq!(seen["pid"], container.pid, "{seen}");
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
    assert_eq!(requests("").await, after_start, "a run asked the runtime");
    let samples = agent.scrape().await.unwrap();
    assert_eq!(common::sum(&samples, "parachute_probe_runs_total", &[("probe", "sockets")]), RUNS as f64);
    assert_eq!(common::sum(&samples, "parachute_probe_failures_total", &[]), 0.0);
    assert_eq!(common::sum(&samples, "parachute_runtime_request_failures_total", &[]), 0.0);
    rig.finish(agent);
}

async fn run_sockets(agent: &testbed::Agent, pod: &Pod) {
    let target = serde_json::json!({ "namespace": "shop", "pod": pod.name, "container": "cart" });
    let body = serde_json::json!({ "probe": "sockets", "target": target }).to_string();
    let answer = agent.post("/api/v1/run", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}
