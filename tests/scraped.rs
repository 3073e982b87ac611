//! promtool finds nothing to say about `/metrics`, and a real Prometheus scrapes it and answers a query.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use testbed::{WORKLOAD_IMAGE, request};

use crate::common::{self, Rig, SOON};

/// The query, percent-encoded: `parachute_tcp_sockets{state="estab"}`.
const QUERY: &str = "/api/v1/query?query=parachute_tcp_sockets%7Bstate%3D%22estab%22%7D";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_the_example() {
    let example =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../parachute.example.yml")).unwrap();
    let rig = Rig::new().await;
    let agent = rig.agent(&example.replace("runtimes: auto\n", "\n")).await;
    let cart =
        rig.bed.pod("shop", "cart-0").container("cart", WORKLOAD_IMAGE, &["/workload", "listen", "1", "3"]);
    cart.start().await.unwrap();
    common::eventually("the sockets are counted", SOON, async || {
        let samples = agent.scrape().await.unwrap();
        let found = common::select(&samples, "parachute_tcp_sockets", &[("pod", "cart-0")]).count();
        if found > 0 { Ok(()) } else { Err("not yet".into()) }
    })
    .await;

    let metrics = agent.get("/metrics").await.unwrap().body;
    common::promtool(&metrics);

    let prometheus = Prometheus::start(&rig, agent.address());
    common::eventually("Prometheus answers with the truth", SOON, async || {
        let answer =
            request(prometheus.address, "GET", QUERY, "").await.map_err(|error| error.to_string())?;
        let body: serde_json::Value =
            serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
        let series = &body["data"]["result"][0];
        let right =
            series["metric"]["exported_pod"].as_str().or(series["metric"]["pod"].as_str()) == Some("cart-0");
        if right && series["value"][1] == "6" { Ok(()) } else { Err(answer.body) }
    })
    .await;
    drop(prometheus);
    rig.finish(agent);
}

struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    fn start(rig: &Rig, target: SocketAddr) -> Self {
        let configuration = rig.path("prometheus.yml");
        let scrape =
            format!("[{{job_name: p, scrape_interval: 1s, static_configs: [{{targets: ['{target}']}}]}}]");
        fs::write(&configuration, format!("scrape_configs: {scrape}\n")).unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let log = fs::File::create(rig.path("prometheus.log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!("--storage.tsdb.path={}", rig.path("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, address }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
