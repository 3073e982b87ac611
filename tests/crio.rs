//! CRI-O, as far as it can be had: it is not packaged, so what answers the agent here is a fake (`testbed::FakeCrio`) with
//! CRI-O's answers, bundles and cgroup paths. The containers are real, and runc's.

use std::path::Path;

use serde_json::{Value, json};
use testbed::{Agent, CgroupDriver, CrioContainer, FakeCrio, PodContainer};

use crate::common::alerting::captured;
use crate::common::{self, READY, Rig, SOON};

const PROBES: &str = r"
probes:
  seen: { command: [cat, /proc/1/comm], keep: always, parse: { regex: [{ name: crio_workloads, type: gauge, help: Inits., pattern: '^workload' }] } }
  beside: { command: [cat, /proc/1/comm], isolation: joined, parse: none }
triggers:
  by-hand: { http: {}, probes: [seen, beside] }
";

fn cart(pod: &str, infra: bool) -> CrioContainer<'_> {
    let command = &["/workload", "listen", "2", "0"];
    CrioContainer { namespace: "shop", pod, label: ("app", "cart"), name: "main", command, infra }
}

async fn run(agent: &Agent, probe: &str, pod: &str) -> Value {
    let body = json!({ "probe": probe, "target": { "namespace": "shop", "pod": pod, "container": "main" } });
    let answer = agent.post("/api/v1/run", &body.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// What the agent lists of this container, once its runtime has said everything.
async fn described(agent: &Agent, container: &PodContainer) -> Value {
    common::eventually("the container is described", SOON, async || {
        let listed = common::containers(agent).await;
        let found = listed.iter().find(|it| it["id"] == container.id && it["pod_labels"]["app"] == "cart");
        found.cloned().ok_or(format!("{listed:#?}"))
    })
    .await
}

async fn fake_crio(driver: CgroupDriver, infra: bool) {
    let rig = Rig::new().await;
    let mut crio = FakeCrio::start(&rig.path("crio"), driver).unwrap();
    let older = crio.run(&cart("cart-0", infra)).unwrap();
    let path = rig.path("crio.yml");
    std::fs::write(&path, format!("runtimes: [{{cri: {}}}]\n{PROBES}", crio.socket().display())).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_parachute"));
    let mut agent = Agent::start(program, &path, |line| println!("agent: {line}")).unwrap();
    agent.ready(READY).await.unwrap();
    let newer = crio.run(&cart("cart-1", infra)).unwrap();

    for (pod, container) in [("cart-0", &older), ("cart-1", &newer)] {
        let seen = described(&agent, container).await;
        let field = |name: &str| seen[name].as_str().unwrap().to_owned();
        assert_eq!(
            [field("namespace"), field("pod"), field("container"), field("runtime")],
            ["shop", pod, "main", "crio"]
        );
        // CRI-O's list has the image's id alone; its name is in the bundle.
        assert_eq!(field("image"), "registry.test/shop/cart:1");
        assert!(field("cgroup").contains(&format!("crio-{}", container.id)), "{seen}");
        assert_eq!((&seen["sandbox"], &seen["pid"]), (&json!(false), &json!(container.pid)));
        // The kubelet's own labels are no labels of the pod's.
        assert_eq!(seen["pod_labels"], json!({ "app": "cart" }), "{seen}");

        let observed = run(&agent, "seen", pod).await;
        assert_eq!(
            (&observed["outcome"], &observed["stdout"]),
            (&json!("ok"), &json!("workload\n")),
            "{observed}"
        );
        assert!(observed["way"].as_str().unwrap().starts_with("observer"), "{observed}");
        let joined = run(&agent, "beside", pod).await;
        assert_eq!((&joined["outcome"], &joined["stdout"]), (&json!("ok"), &json!("workload\n")), "{joined}");
        assert_eq!(joined["way"], "joined");
        let capture = captured(&agent, &format!("pod={pod}"), 1).await.remove(0);
        assert_eq!(
            (&capture["outcome"], &capture["stdout"]["bytes"]),
            (&json!("ok"), &json!(9)),
            "{capture}"
        );
        let exec = common::exec(&agent, &[&format!("shop/{pod}/main"), "ss", "-tlnH"]).output().unwrap();
        let listening = String::from_utf8(exec.stdout).unwrap();
        assert!(exec.status.success() && listening.lines().count() == 2, "{listening}");
    }
    let sandboxes = common::containers(&agent).await.iter().filter(|it| it["sandbox"] == true).count();
    assert_eq!(sandboxes, if infra { 2 } else { 0 });
    let samples = agent.scrape().await.unwrap();
    let failures = common::sum(&samples, "parachute_runtime_request_failures_total", &[("runtime", "crio")]);
    assert_eq!(failures, 0.0);
    let values = common::sum(&samples, "crio_workloads", &[("namespace", "shop"), ("container", "main")]);
    assert_eq!(values, 2.0);
    // Each container once, and its pod once; a run asks nothing.
    let calls = crio.calls();
    assert!(calls.len() <= 8, "{calls:?}");

    crio.kill(&newer.id).unwrap();
    common::eventually("its end is seen", SOON, async || {
        let listed = common::containers(&agent).await;
        if listed.iter().any(|it| it["id"] == newer.id) { Err("still listed".into()) } else { Ok(()) }
    })
    .await;
    drop(crio);
    rig.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fake_cri_o_with_systemds_cgroups_and_no_process_of_a_sandbox() {
    fake_crio(CgroupDriver::Systemd, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fake_cri_o_with_cgroupfs_and_a_process_of_each_sandbox() {
    fake_crio(CgroupDriver::Cgroupfs, true).await;
}
