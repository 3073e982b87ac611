//! An alert fires; the evidence is already there: real Prometheus, real Alertmanager, real pods.

use std::fs;
use std::time::Duration;

use futures_util::future::try_join_all;
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
    common::eventually("the second firing is counted", SOON * 3, async || {
        let query = r#"parachute_alerts_dropped_total{reason="cooldown"}"#;
        let dropped = value(&prometheus, query).await;
        if dropped >= Some(1.0) { Ok(()) } else { Err(format!("{dropped:?}")) }
    })
    .await;
    let told = agent.get("/api/v1/alerts").await.unwrap().body;
    assert!(told.contains("cooldown"), "{told}");
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

/// A slow command, and room for two of them.
const NARROW: &str = r#"
limits: { concurrent_runs: 1, queued_runs: 2 }
probes:
  evidence: { command: [sleep, "0.5"], keep: always, parse: none }
triggers:
  any:
    alert: { labels: { alertname: "*" } }
    target: { namespace: "{{namespace}}", pod: "{{pod}}", container: "{{container}}" }
    cooldown: 0s
    probes: [evidence]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn both_alertmanagers_deliver_try_again_and_may_be_two() {
    let rig = Rig::new().await;
    let agent = rig.agent(NARROW).await;
    let names = ["cart-0", "cart-1", "cart-2", "cart-3", "cart-4"];
    let pods = try_join_all(names.map(|name| {
        rig.bed.pod("shop", name).container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]).start()
    }));
    let configuration = alerting::alertmanager(&[agent.address()]);
    let start = async |version, name: &str| {
        Alertmanager::start(version, &rig.path(name), &configuration).await.unwrap()
    };
    let (pods, old, other, new) = tokio::join!(
        pods,
        start(AlertmanagerVersion::Installed, "old"),
        start(AlertmanagerVersion::Installed, "other"),
        start(AlertmanagerVersion::Newest, "new"),
    );
    common::knows(&agent, &pods.unwrap()).await;
    let alert = |name: &str, pod: &str| {
        let labels = json!({ "alertname": name, "namespace": "shop", "pod": pod, "container": "main" });
        json!({ "labels": labels, "startsAt": "2026-11-26T09:00:00Z" })
    };
    let webhooks = async |code: &str| {
        let samples = agent.scrape().await.unwrap();
        common::sum(&samples, "parachute_alert_webhooks_total", &[("code", code)])
    };

    let mut refused = 0.0;
    for (name, alertmanager) in [("Old", &old), ("New", &new)] {
        // Each is a webhook of its own: they do not all find room at once.
        alertmanager.alert(&json!(names.map(|pod| alert(name, pod)))).await.unwrap();
        let all = captured(&agent, &format!("alert={name}"), names.len()).await;
        for pod in names {
            assert_eq!(all.iter().filter(|capture| capture["container"]["pod"] == pod).count(), 1, "{pod}");
        }
        let now = webhooks("503").await;
        let version = alertmanager.version().await.unwrap();
        println!("Alertmanager {version} was told {} times to try again", now - refused);
        assert!(now > refused, "{version} was never told to try again");
        refused = now;
    }

    // Two that do not hear of each other, as when their network is parted, deliver the same alert.
    let answered = webhooks("200").await + webhooks("202").await;
    let both = json!([alert("Both", "cart-0")]);
    let (one, two) = tokio::join!(old.alert(&both), other.alert(&both));
    one.and(two).unwrap();
    common::eventually("both are answered", SOON, async || {
        let now = webhooks("200").await + webhooks("202").await;
        if now == answered + 2.0 { Ok(()) } else { Err(format!("{now} after {answered}")) }
    })
    .await;
    captured(&agent, "alert=Both", 1).await;
    let samples = agent.scrape().await.unwrap();
    assert_eq!(common::sum(&samples, "parachute_alerts_dropped_total", &[("reason", "duplicate")]), 1.0);
    assert_eq!(common::sum(&samples, "parachute_probe_runs_total", &[("trigger", "any")]), 11.0);
    drop((old, other, new));
    rig.finish(agent);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_payload_has_its_answer() {
    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/alertmanager");

    let rig = Rig::new().await;
    let agent = rig.agent(&NARROW.replace("queued_runs: 2", "queued_runs: 100")).await;
    let pods = try_join_all(["cart-0", "cart-1", "pay-0"].map(|name| {
        rig.bed.pod("shop", name).container("cart", WORKLOAD_IMAGE, &["/workload", "sleep"]).start()
    }));
    common::knows(&agent, &pods.await.unwrap()).await;
    for (name, status) in [
        ("0.25.0-firing", 202),
        ("0.25.0-resolved", 200),
        ("0.25.0-several", 202),
        // One of its alerts is over, and the two others have come before.
        ("0.25.0-mixed", 200),
        ("0.25.0-truncated", 202),
        ("0.25.0-retried", 202),
        ("0.25.0-retried", 200),
        ("0.33.1-firing", 202),
        ("0.33.1-resolved", 200),
        ("0.33.1-several", 202),
        ("0.33.1-mixed", 200),
        ("0.33.1-truncated", 202),
        ("0.33.1-retried", 202),
        ("grafana", 202),
    ] {
        let body = fs::read_to_string(format!("{FIXTURES}/{name}.json")).unwrap();
        let answer = agent.post("/api/v1/alerts", &body).await.unwrap();
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
    }
    let deep = "[".repeat(100_000);
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("null", 400),
        ("[]", 400),
        ("{}", 400),
        (r#"{"version":"4","alerts":7}"#, 400),
        (r#"{"version":"4","alerts":[{"status":"firing","labels":{"alertname":1}}]}"#, 400),
        (deep.as_str(), 400),
        (large.as_str(), 413),
    ] {
        let answer = agent.post("/api/v1/alerts", body).await.unwrap();
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.status, status, "{shown}: {}", answer.body);
        assert!(!answer.body.trim().is_empty(), "{shown}: no reason");
    }
    assert_eq!(agent.get("/-/ready").await.unwrap().status, 200);
    rig.finish(agent);
}
