//! Every query of every panel, variable and annotation of the dashboards, on a real Prometheus that scrapes a real agent with
//! real pods in which things go wrong: each returns data. The rules are loaded beside them, and the runbooks' commands run.
//!
//! kube-state-metrics and the kubelet's cAdvisor are not in Debian: what they would say of these pods is served from
//! `fixtures/scrape`, in their form. What was found is written to `target/dashboards.json`, from which the pictures in
//! `docs/dashboards` are drawn (`npm run draw` in `dashboards/`).

mod board;
mod events;
mod pages;

use std::fs;
use std::time::Instant;

use serde_json::{Map, Value, json};
use testbed::{Agent, Prometheus, WORKLOAD_IMAGE};

use self::board::Board;
use self::events::{Answering, Exporter, Held};
use crate::common::{self, Rig, SOON};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// All that the library has, but for what changes its target or takes a processor; and two probes that fail.
const CONFIGURATION: &str = r#"
include: [conntrack, dns, interfaces, limits, memory, mtu, network, packets, peers, processes, socket_owners, stuck, tls]
probes:
  fails: { command: ['false'], parse: none }
  sleeps: { command: [sleep, "30"], timeout: 1s, parse: none }
triggers:
  steady:
    schedule: { every: 4s }
    probes:
      - sockets
      - connections
      - listeners
      - kernel_counters
      - peers
      - interfaces
      - conntrack
      - conntrack_entries
      - processes
      - commands
      - open_files
      - stuck
      - memory
      - socket_owners
      - dns
      - tls
      - path_mtu
    match: { namespace: shop }
  failing: { schedule: { every: 4s }, probes: [fails, sleeps], match: { pod: cart-0 } }
  by-hand: { http: {}, probes: [sockets, connections, process_tree] }
  noticed:
    alert: { labels: { alertname: "ParachutePod*" } }
    target: { namespace: "{{namespace}}", pod: "{{pod}}", container: "{{container}}" }
    cooldown: 0s
    probes: [connections, process_tree]
"#;

/// As a PodMonitor with `honorLabels: true` labels its targets, and a kubelet's.
fn scrape(agent: &Agent, cluster: &Exporter, cadvisor: &Exporter) -> String {
    let job = |name: &str, address: String, labels: Value| {
        json!({ "job_name": name, "honor_labels": true,
                "static_configs": [{ "targets": [address], "labels": labels }] })
    };
    let ours = json!({ "cluster": "test", "node": "node-1", "namespace": "monitoring", "pod": "parachute-x7k2p",
                       "container": "parachute" });
    json!({
        "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
        "rule_files": [format!("{ROOT}/dashboards/rules/*.yml")],
        "scrape_configs": [
            job("monitoring/parachute", agent.address().to_string(), ours),
            job("kube-state-metrics", cluster.address().to_string(), json!({ "cluster": "test" })),
            job("kubelet", cadvisor.address().to_string(), json!({ "cluster": "test", "node": "node-1" })),
        ],
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_returns_data() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let since = Instant::now();
    let cart = rig
        .bed
        .pod("shop", "cart-0")
        .container("cart", WORKLOAD_IMAGE, &["/workload", "listen", "3", "4"])
        .container("audit", WORKLOAD_IMAGE, &["/workload", "tree", "5"]);
    let cart = cart.start().await.unwrap();
    let pay = rig.bed.pod("shop", "pay-0").container("pay", WORKLOAD_IMAGE, &["/workload", "talk", "127.0.0.1", "9"]);
    let pay = pay.start().await.unwrap();
    common::knows(&agent, &[cart.clone(), pay.clone()]).await;
    let names = Answering::start(cart.containers[0].pid);
    let held = Held::start(&rig, &agent, &cart);
    let exporters =
        (Exporter::start("kube-state-metrics").await.unwrap(), Exporter::start("cadvisor").await.unwrap());
    let scrape = scrape(&agent, &exporters.0, &exporters.1);
    let prometheus = Prometheus::start(&rig.path("prometheus"), &scrape).await.unwrap();

    events::happen(&rig, &agent, &cart).await;
    let mut boards: Vec<Board> =
        ["agent", "container", "fleet", "network"].into_iter().map(Board::read).collect();
    let (mut drawn, mut asked) = (Map::new(), 0);
    for board in &mut boards {
        for choice in board.choices() {
            let found = common::eventually(
                &format!("all queries of {} return data of {choice:?}", board.name),
                SOON * 2,
                async || {
                    let (found, empty) = board.ask(&prometheus, choice, since.elapsed().as_secs()).await;
                    if empty.is_empty() { Ok(found) } else { Err(empty.join("\n")) }
                },
            )
            .await;
            asked += found.len();
            drawn.insert(board.name.to_owned(), Value::Object(found));
        }
    }
    println!("{asked} panels, variables and annotations were asked for");
    fs::write(format!("{ROOT}/target/dashboards.json"), Value::Object(drawn).to_string()).unwrap();

    rules_are_evaluated(&prometheus).await;
    pages::links_lead_somewhere(&agent, &prometheus).await;
    pages::runbooks_commands_run(&rig, &agent);
    drop((prometheus, exporters, held, names));
    rig.finish(agent);
}

/// None of them fails, and those that should see what goes wrong here do: their time to fire is not up yet.
async fn rules_are_evaluated(prometheus: &Prometheus) {
    let rules = prometheus.rules().await.unwrap();
    assert!(rules.len() > 50, "{} rules", rules.len());
    for rule in &rules {
        assert_eq!((&rule["health"], &rule["lastError"]), (&json!("ok"), &Value::Null), "{rule:#}");
    }
    let seen = prometheus.alerts().await.unwrap();
    let names: Vec<&str> = seen.iter().filter_map(|alert| alert["labels"]["alertname"].as_str()).collect();
    for name in ["ParachuteRunsFailing", "ParachuteContainersNotSeen", "ParachutePodDnsFailing", "ParachutePodCertificateExpiring"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    for recorded in rules.iter().filter(|rule| rule["type"] == "recording") {
        let name = recorded["name"].as_str().unwrap();
        assert!(!prometheus.query(name).await.unwrap().is_empty(), "{name} has no series");
    }
}
