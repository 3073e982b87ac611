//! promtool finds nothing to say about `/metrics`, and a real Prometheus scrapes it and answers a query.

use std::fs;

use testbed::{Prometheus, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const QUERY: &str = r#"parachute_tcp_sockets{state="estab"}"#;

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

    let scrape = format!(
        "scrape_configs: [{{job_name: p, scrape_interval: 1s, static_configs: [{{targets: ['{}']}}]}}]\n",
        agent.address()
    );
    let prometheus = Prometheus::start(&rig.path("prometheus"), &scrape).await.unwrap();
    common::eventually("Prometheus answers with the truth", SOON, async || {
        let found = prometheus.query(QUERY).await.map_err(|error| error.to_string())?;
        let Some(series) = found.first() else { return Err("no series".into()) };
        let right =
            series["metric"]["exported_pod"].as_str().or(series["metric"]["pod"].as_str()) == Some("cart-0");
        if right && series["value"][1] == "6" { Ok(()) } else { Err(series.to_string()) }
    })
    .await;
    drop(prometheus);
    rig.finish(agent);
}
