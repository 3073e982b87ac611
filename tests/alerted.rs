//! An alert fires; the evidence is already there: real Prometheus, real Alertmanager, real pods.

use std::fs;
use std::time::Duration;

use serde_json::json;
use testbed::{Alertmanager, AlertmanagerVersion, Prometheus, WORKLOAD_IMAGE};

use crate::common::alerting::{self, captured};
use crate::common::{self, Rig, SOON};

/// A metric of a probe's, and the evidence for an alert on it.
const CONFIGURATION: &str = r#"
probes:
  connections:
    command: [ss, -tanH]
    parse:
      table:
        columns: [state, receive_queue, send_queue, local, peer]
        metrics:
          - { name: parachute_tcp_connections, type: gauge, help: TCP sockets by state., aggregate: count, labels: { state: state } }
  evidence: { command: [ss, -tan], keep: always, parse: none }
triggers:
  steady: { schedule: { every: 1s }, probes: [connections] }
  surge:
    alert: { labels: { alertname: "TooMany*", severity: "critical|warning" } }
    target: { namespace: "{{namespace}}", pod: "{{pod}}", container: "{{container}}" }
    cooldown: 10m
    probes: [evidence]
"#;

const RULES: &str = r#"
groups:
- name: tests
  rules:
  - alert: TooManyConnections
    expr: parachute_tcp_connections{state="ESTAB"} >= 1000
    labels: { severity: critical }
    annotations: { summary: Too many connections. }
"#;

/// The issue's own figure.
const FRESH: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn the_evidence_is_there_when_the_alert_comes() {
    let rig = Rig::new().await;
    let agent = rig.agent(CONFIGURATION).await;
    let alertmanager = Alertmanager::start(
        AlertmanagerVersion::Installed,
        &rig.path("alertmanager"),
        &alerting::alertmanager(&[agent.address()]),
    )
    .await
    .unwrap();
    fs::write(rig.path("rules.yml"), RULES).unwrap();
    let configuration = json!({
        "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
        "rule_files": [rig.path("rules.yml")],
        "alerting": { "alertmanagers": [{ "static_configs": [{ "targets": [alertmanager.address()] }] }] },
        "scrape_configs": [{
            "job_name": "parachute", "honor_labels": true, "static_configs": [{ "targets": [agent.address()] }],
        }],
    });
    let prometheus = Prometheus::start(&rig.path("prometheus"), &configuration.to_string()).await.unwrap();
    let quiet =
        rig.bed.pod("shop", "quiet-0").container("main", WORKLOAD_IMAGE, &["/workload", "listen", "1", "3"]);
    let cart =
        rig.bed.pod("shop", "cart-0").container("cart", WORKLOAD_IMAGE, &["/workload", "surge", "500", "8"]);
    let (quiet, cart) = tokio::join!(quiet.start(), cart.start());
    let (_, cart) = (quiet.unwrap(), cart.unwrap());

    // Both ends of the connections are the pod's.
    let capture = captured(&agent, "alert=TooManyConnections", 1).await.remove(0);
    println!("the capture was whole {:.1?} after the alert had begun", alerting::age(&capture));
    assert!(alerting::age(&capture) < FRESH, "{capture}");
    assert_eq!(capture["container"]["pod"], "cart-0", "{capture}");
    assert_eq!(capture["container"]["id"], cart.containers[0].id, "{capture}");
    assert_eq!((&capture["trigger"], &capture["outcome"]), (&json!("surge"), &json!("ok")), "{capture}");
    let rows = String::from_utf8(alerting::stdout(&agent, &capture).await).unwrap();
    let connections = rows.lines().filter(|row| row.starts_with("ESTAB")).count();
    assert_eq!(connections, 1000, "{rows}");

    common::eventually("Prometheus shows the run", SOON, async || {
        let runs =
            value(&prometheus, r#"parachute_probe_runs_total{probe="evidence",trigger="surge"}"#).await;
        let mark =
            prometheus.query(r#"parachute_capture_last_timestamp_seconds{pod="cart-0"}"#).await.unwrap();
        let named = mark.iter().any(|series| series["metric"]["capture"] == capture["id"]);
        if runs == Some(1.0) && named { Ok(()) } else { Err(format!("{runs:?} runs, {mark:?}")) }
    })
    .await;

    // It ends and fires again, well within the cooldown.
    common::eventually("Prometheus has fired twice", SOON * 3, async || {
        let changes =
            "count_over_time(ALERTS{alertstate=\"firing\"}[10m:1s]) and changes(ALERTS_FOR_STATE[10m]) > 0";
        let fired = prometheus.query(changes).await.unwrap();
        if fired.is_empty() { Err("once".into()) } else { Ok(()) }
    })
    .await;
    common::eventually("the second firing is counted", SOON, async || {
        let skipped = value(&prometheus, r#"sum(parachute_alerts_skipped_total{reason="cooldown"})"#).await;
        if skipped >= Some(1.0) { Ok(()) } else { Err(format!("{skipped:?}")) }
    })
    .await;
    let runs = value(&prometheus, r#"parachute_probe_runs_total{probe="evidence"}"#).await;
    assert_eq!(runs, Some(1.0), "the second firing runs nothing");
    assert_eq!(alerting::captures(&agent, "").await.len(), 1);
    drop((prometheus, alertmanager));
    rig.finish(agent);
}

/// The only value of a query, if it has any.
async fn value(prometheus: &Prometheus, query: &str) -> Option<f64> {
    let series = prometheus.query(query).await.unwrap();
    series.first()?["value"][1].as_str()?.parse().ok()
}
