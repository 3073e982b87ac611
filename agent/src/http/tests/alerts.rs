//! What the front door itself has to say of alerts; the rest is the room's.

use std::collections::BTreeMap;

use super::*;
use crate::config::{Config, Limits, Runtimes};
use crate::triggers::alerts::{Counters, RunEnd, Wiring};

/// A room without a trigger, whose node is known from the start.
pub(in crate::http) fn room(agent: &AgentMetrics) -> Alerts {
    let config = Config {
        targets: Arc::default(),
        probe_root: crate::config::ProbeRoot::default(),
        captures: crate::config::Captures::default(),
        store: None,
        peers: None,
        runtimes: Runtimes::Auto,
        limits: Limits { concurrent_runs: 1, queued_runs: 1, results_grace: Duration::ZERO },
        probes: BTreeMap::new(),
        triggers: BTreeMap::new(),
        included: Vec::new(),
        digest: [0; 32],
    };
    let counters = Counters {
        webhooks: agent.alert_webhooks.clone(),
        received: agent.alerts_received.clone(),
        dropped: agent.alerts_dropped.clone(),
        runs: agent.alert_runs.clone(),
        runs_dropped: agent.alert_runs_dropped.clone(),
        queued: agent.alert_runs_queued.clone(),
        passed: agent.alerts_forwarded.clone(),
        passing: agent.alerts_forward_queued.clone(),
        pass_seconds: agent.alert_forward_seconds.clone(),
        journal_failures: agent.alert_journal_failures.clone(),
        journals_set_aside: agent.alert_journals_set_aside.clone(),
    };
    Alerts::open(
        None,
        Wiring {
            config: Arc::new(arc_swap::ArcSwap::from_pointee(config)),
            live: Box::new(Arc::default),
            ready: Box::pin(async {}),
            run: Box::new(|_, _, _| Box::pin(async { RunEnd::ShuttingDown })),
            kept: Box::new(|_| false),
            pass_on: Box::new(|_| {
                Box::pin(async { std::ops::ControlFlow::Break(crate::model::Delivery::default()) })
            }),
            instance: crate::model::Instance::fresh("node-1"),
            counters,
        },
    )
}

const ALERT: &str = r#"{"version":"4","groupKey":"{}:{}","status":"firing","alerts":[
    {"status":"firing","labels":{"alertname":"A<b>"},"startsAt":"2026-11-26T03:04:05Z","fingerprint":"f"}]}"#;

async fn post(served: &Served, headers: &str, body: &str) -> Answer {
    served.ask("POST", "/api/v1/alerts", headers, body).await
}

#[tokio::test]
async fn each_body_and_header_has_its_answer() {
    let served = served(false, Ok(())).await;
    let json = "Content-Type: application/json\r\n";
    let large = format!("{ALERT}{}", " ".repeat(300 << 10));
    let larger = " ".repeat((4 << 20) + 1);
    for (headers, body, status, says) in [
        ("Content-Type: application/json; charset=utf-8\r\n", ALERT, 200, "no trigger with `alert`"),
        (json, &large, 200, "no trigger with `alert`"),
        (json, &larger, 413, "4194304"),
        (json, "{}", 400, "missing field `version`"),
        (json, "", 400, "EOF"),
        ("", ALERT, 415, "application/json"),
        ("Content-Type: text/plain\r\n", ALERT, 415, "application/json"),
        ("Content-Type: application/json\r\nOrigin: http://evil.example\r\n", ALERT, 403, "web pages"),
    ] {
        // The room learns of its node in a task of its own.
        let mut answer = post(&served, headers, body).await;
        while answer.status == 503 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            answer = post(&served, headers, body).await;
        }
        assert_eq!(answer.status, status, "{headers} {}", answer.text());
        let told = answer.json();
        let said = told["error"].as_str().or(told["reason"].as_str()).unwrap();
        assert!(said.contains(says), "{said}");
        assert!(!answer.head.contains("location"), "{}", answer.head);
    }
    for (path, status) in [("/api/v1/alerts/", 404), ("/api/v1/alerts?x=1", 200)] {
        assert_eq!(served.ask("POST", path, json, ALERT).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn what_came_of_alerts_can_be_read() {
    let served = served(false, Ok(())).await;
    while post(&served, "Content-Type: application/json\r\n", ALERT).await.status == 503 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let told = served.get("/api/v1/alerts?limit=5").await.json();
    assert_eq!((&told["queued"], &told["dropped"]["no_trigger"]), (&0.into(), &1.into()));
    let decision = &told["alerts"][0];
    assert_eq!((&decision["alertname"], &decision["result"]), (&"A<b>".into(), &"no_trigger".into()));
    for wrong in ["limit=0", "limit=x", "limit=-1", "limit=751", "foo=1"] {
        assert_eq!(served.get(&format!("/api/v1/alerts?{wrong}")).await.status, 400, "{wrong}");
    }
    let wrong = served.ask("PUT", "/api/v1/alerts", "", "").await;
    assert!(wrong.status == 405 && wrong.head.contains("allow: GET, HEAD, POST\r\n"), "{}", wrong.head);
    assert!(wrong.text().contains("GET, HEAD, POST"), "{}", wrong.text());
}

#[tokio::test]
async fn what_a_peer_has_passed_on_is_answered_in_short_and_with_who_answers() {
    let served = served(false, Ok(())).await;
    let own = served.fake.alerts.instance().as_str().to_owned();
    let json = "Content-Type: application/json\r\n";
    for (by, says) in
        [("", "no_trigger"), ("node-2/x", r#""results":["no_trigger"]"#), (&own, "this agent itself")]
    {
        let headers = format!("{json}Parachute-Forwarded-By: {by}\r\n");
        let mut answer = post(&served, &headers, ALERT).await;
        while answer.status == 503 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            answer = post(&served, &headers, ALERT).await;
        }
        assert_eq!(answer.status, 200, "{by}");
        assert!(answer.text().contains(says), "{by}: {}", answer.text());
        assert!(answer.head.contains(&format!("parachute-instance: {own}\r\n")), "{}", answer.head);
    }
    // What it has passed on itself is not read again.
    let told = served.get("/api/v1/alerts").await.json();
    assert!(told["alerts"][0]["who"].as_str().unwrap().ends_with("passed on by node-2"), "{told}");
    let answer = post(&served, json, ALERT).await;
    assert!(!answer.head.contains("parachute-instance"), "{}", answer.head);
}
