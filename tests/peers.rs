//! Alertmanager knows one address, and the container is on another node: five agents in five network namespaces behind one
//! name, and one of them cut off.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::{Agent, Sample, WORKLOAD_IMAGE, exchange, samples};

use crate::common::alerting::payload;
use crate::common::nodes::{Names, Nodes};
use crate::common::{self, READY, Rig, SOON};

const NODES: u8 = 5;
const PORT: u16 = 10050;
/// The one that has the container, the one that shows a wrong token, and the one that is cut off.
const HAS_IT: u8 = 4;
const WRONG: u8 = 3;
const CUT_OFF: u8 = 5;

const TESTS: &str = "tests-0123456789abcdef";
const PEERS: &str = "peers-0123456789abcdef";

/// All see the same containers here; on each node but one the trigger's `match` leaves them all out.
fn configuration(rig: &Rig, node: u8) -> String {
    let token = rig.path(if node == WRONG { "wrong.token" } else { "peers.token" });
    format!(
        r#"
runtimes: [{{cri: {}}}]
peers: {{ service: "agents.test:{PORT}", scheme: http, token_file: {}, timeout: 1s, give_up_after: 3s }}
probes:
  evidence: {{ command: [ss, -s], keep: always, parse: none }}
triggers:
  any:
    alert: {{ labels: {{ alertname: "*" }} }}
    target: {{ namespace: "{{{{namespace}}}}", pod: "{{{{pod}}}}", container: "{{{{container}}}}" }}
    match: {{ namespace: "node-{node}" }}
    cooldown: 0s
    probes: [evidence]
"#,
        rig.bed.socket().display(),
        token.display()
    )
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    common::roots_alone(path);
}

struct Node {
    agent: Agent,
    address: SocketAddr,
}

impl Node {
    fn start(rig: &Rig, nodes: &Nodes, number: u8) -> Self {
        let address = SocketAddr::from((Nodes::address(number), PORT));
        let (script, config) =
            (rig.path(&format!("agent-{number}")), rig.path(&format!("parachute-{number}.yml")));
        let program = env!("CARGO_BIN_EXE_parachute");
        fs::write(&script, nodes.script(number, program, &rig.path("resolv.conf"))).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&config, configuration(rig, number)).unwrap();
        let (listen, web) = (address.to_string(), rig.path("web.yml"));
        let flags = ["--web.listen-address", &listen, "--web.config.file", web.to_str().unwrap()];
        let show = move |line: &str| println!("agent {number}: {line}");
        Self { agent: Agent::start_with(&script, &config, &flags, show).unwrap(), address }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
        let authorization = format!("Bearer {TESTS}");
        let headers = [("Authorization", authorization.as_str())];
        let (status, _, body) = exchange(self.address, method, path, &headers, body).await?;
        Ok((status, String::from_utf8(body)?))
    }

    async fn ready(&self) {
        common::eventually("an agent is ready", READY, async || {
            match self.ask("GET", "/-/ready", "").await {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    async fn post(&self, alert: &Value) -> (u16, Value) {
        let body = payload("{}:{}", std::slice::from_ref(alert)).to_string();
        let (status, answer) = self.ask("POST", "/api/v1/alerts", &body).await.unwrap();
        (status, serde_json::from_str(&answer).unwrap())
    }

    async fn scrape(&self) -> Vec<Sample> {
        samples(&self.ask("GET", "/metrics", "").await.unwrap().1).unwrap()
    }

    async fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        common::sum(&self.scrape().await, name, labels)
    }

    /// Alerts that were passed on and are done with, by what came of them.
    async fn forwarded(&self, outcome: &str, count: f64) {
        common::eventually(&format!("{count} alerts are {outcome}"), SOON, async || {
            let all = self.scrape().await;
            let is = common::sum(&all, "parachute_alerts_forwarded_total", &[("outcome", outcome)]);
            if is == count { Ok(()) } else { Err(format!("{is} are")) }
        })
        .await;
    }

    async fn captures(&self, alert: &str) -> usize {
        let (status, body) = self.ask("GET", &format!("/api/v1/captures?alert={alert}"), "").await.unwrap();
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["captures"].as_array().unwrap().len()
    }

    async fn captured(&self, alert: &str) {
        common::eventually(&format!("{alert} is captured"), SOON, async || {
            if self.captures(alert).await > 0 { Ok(()) } else { Err("nothing is".to_owned()) }
        })
        .await;
    }
}

fn alert(name: &str, pod: &str) -> Value {
    json!({
        "status": "firing",
        "labels": { "alertname": name, "namespace": format!("node-{HAS_IT}"), "pod": pod, "container": "main" },
        "annotations": {}, "startsAt": "2026-11-26T09:02:58.425191094Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "", "fingerprint": format!("of-{name}"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_reaches_the_node_of_its_container_wherever_it_is_delivered() {
    let rig = Rig::new().await;
    let nodes = Nodes::new(rig.path("").as_path(), NODES);
    let names = Names::start(NODES);
    fs::write(rig.path("resolv.conf"), format!("nameserver {}\n", Nodes::host())).unwrap();
    secret(&rig.path("peers.token"), PEERS);
    secret(&rig.path("tests.token"), TESTS);
    secret(&rig.path("wrong.token"), "wrong-0123456789abcdef");
    let web = "bearer_tokens:\n  tests: { roles: [read, view, trigger], file: tests.token }\n  peers: { roles: [trigger], file: peers.token }\n";
    secret(&rig.path("web.yml"), web);
    let pod = rig.bed.pod(&format!("node-{HAS_IT}"), "cart-0");
    pod.container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]).start().await.unwrap();

    let all: Vec<Node> = (1..=NODES).map(|number| Node::start(&rig, &nodes, number)).collect();
    for node in &all {
        node.ready().await;
    }
    let node = |number: u8| &all[usize::from(number) - 1];
    nodes.connect(CUT_OFF, false);

    // Delivered to one that does not have it: it is run where it is, once, and the one that is cut off delays nobody.
    let began = Instant::now();
    let (status, answer) = node(1).post(&alert("Once", "cart-0")).await;
    assert_eq!((status, &answer["passed_on"]), (202, &json!(1)), "{answer}");
    assert_eq!(answer["alerts"][0]["result"], "passed_on", "{answer}");
    node(HAS_IT).captured("Once").await;
    let took = began.elapsed();
    println!("captured on the other node {took:.1?} after the webhook");
    assert!(took < Duration::from_secs(3), "{took:?}");
    node(1).forwarded("taken", 1.0).await;
    // Three seconds, and a last request that had begun by then.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "the one that is cut off cost {took:?}");
    assert_eq!(node(1).sum("parachute_peers", &[]).await, 4.0);
    assert_eq!(node(1).sum("parachute_peer_failures_total", &[]).await, 1.0, "the one that is cut off");
    assert!(names.asked() >= 2, "the name was looked up");
    let told = node(1).ask("GET", "/api/v1/alerts", "").await.unwrap().1;
    assert!(told.contains("passed on to 3 of 4 peers, of which 1 have a container that it means"), "{told}");
    assert!(told.contains(&Nodes::address(CUT_OFF).to_string()), "{told}");

    // Alertmanager's retry goes to all once more, as one has not got it: another node may be meant as well.
    let asked = node(1).sum("parachute_peer_requests_total", &[]).await;
    assert_eq!(node(1).post(&alert("Once", "cart-0")).await.0, 202);
    node(1).forwarded("taken", 2.0).await;
    assert_eq!(node(HAS_IT).captures("Once").await, 1);

    // The halves of a pair deliver to two agents.
    let both = alert("Both", "cart-0");
    let ((one, _), (two, _)) = tokio::join!(node(1).post(&both), node(2).post(&both));
    assert_eq!((one, two), (202, 202));
    node(1).forwarded("taken", 3.0).await;
    node(2).forwarded("taken", 1.0).await;
    assert_eq!(node(HAS_IT).captures("Both").await, 1);
    assert_eq!(node(HAS_IT).sum("parachute_alerts_dropped_total", &[("reason", "duplicate")]).await, 2.0);
    assert!(node(1).sum("parachute_peer_requests_total", &[]).await > asked);

    // Nobody has it: each peer hears of it once, and nobody tells the others.
    let webhooks = async || {
        let mut counts = Vec::new();
        for number in 1..CUT_OFF {
            counts.push(node(number).sum("parachute_alert_webhooks_total", &[]).await);
        }
        counts
    };
    let before = webhooks().await;
    let (status, answer) = node(2).post(&alert("Nowhere", "gone-0")).await;
    assert_eq!(status, 202, "{answer}");
    node(2).forwarded("unknown", 1.0).await;
    let more: Vec<f64> = webhooks().await.iter().zip(before).map(|(now, before)| now - before).collect();
    assert_eq!(more, [1.0; 4], "itself by its sender, and each of the others by it");
    for number in [WRONG, HAS_IT] {
        assert_eq!(node(number).sum("parachute_alerts_forwarded_total", &[]).await, 0.0);
    }
    assert_eq!(node(HAS_IT).sum("parachute_alerts_dropped_total", &[("reason", "not_here")]).await, 1.0);

    // A token that nobody knows opens nothing.
    let before = webhooks().await;
    assert_eq!(node(WRONG).post(&alert("Wrong", "cart-0")).await.0, 202);
    node(WRONG).forwarded("failed", 1.0).await;
    let refused = node(WRONG).sum("parachute_peer_failures_total", &[("reason", "unauthorized")]).await;
    assert_eq!(refused, 4.0, "three others and itself");
    assert_eq!(node(HAS_IT).sum("parachute_http_requests_total", &[("code", "401")]).await, 1.0);
    let more: Vec<f64> = webhooks().await.iter().zip(before).map(|(now, before)| now - before).collect();
    assert_eq!(more, [0.0, 0.0, 1.0, 0.0], "its own sender's alone");
    assert_eq!(node(HAS_IT).captures("Wrong").await, 0);

    // That somebody passes it on gives him no rights.
    let headers = [("Parachute-Forwarded-By", "node-1/x")];
    let body = payload("{}:{}", &[alert("Stranger", "cart-0")]).to_string();
    let to = node(HAS_IT).address;
    assert_eq!(exchange(to, "POST", "/api/v1/alerts", &headers, &body).await.unwrap().0, 401);

    // The cable is in again, and the next delivery finds everybody.
    nodes.connect(CUT_OFF, true);
    assert_eq!(node(2).post(&alert("Nowhere", "gone-0")).await.0, 202);
    node(2).forwarded("nowhere", 1.0).await;
    assert_eq!(node(CUT_OFF).sum("parachute_alerts_received_total", &[]).await, 1.0);

    assert_eq!(node(HAS_IT).sum("parachute_probe_runs_total", &[]).await, 2.0, "Once and Both");
    for number in [1, 2, WRONG, CUT_OFF] {
        assert_eq!(node(number).sum("parachute_probe_runs_total", &[]).await, 0.0);
    }
    for node in all {
        drop(node.agent);
    }
    drop((names, nodes));
    rig.finish_alone();
}
