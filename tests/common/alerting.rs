//! Alerts and what comes of them, for the tests in which somebody is alerted.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::{Agent, Answer, exchange};

use super::{SOON, eventually};

/// An `alertmanager.yml` that hands every alert to these agents, each in a group of its own and at once.
pub(crate) fn alertmanager(agents: &[SocketAddr]) -> String {
    let mut text = "route: { receiver: agents, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h }\n\
                    receivers:\n- name: agents\n  webhook_configs:\n"
        .to_owned();
    for agent in agents {
        writeln!(text, "  - url: http://{agent}/api/v1/alerts").unwrap();
    }
    text
}

/// Alertmanager's payload with these alerts of one group.
pub(crate) fn payload(group: &str, alerts: &[Value]) -> Value {
    json!({
        "version": "4", "groupKey": group, "truncatedAlerts": 0, "status": "firing", "receiver": "agents",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager.test",
        "alerts": alerts,
    })
}

/// One firing alert of a payload; `number` tells it from all others.
pub(crate) fn alert(name: &str, pod: &str, number: u64) -> Value {
    json!({
        "status": "firing",
        "labels": { "alertname": name, "severity": "critical", "namespace": "shop", "pod": pod, "container": "main" },
        "annotations": {}, "startsAt": "2026-11-26T09:02:58.425191094Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "", "fingerprint": format!("{number:016x}"),
    })
}

/// Posts a payload; fails only where no answer comes.
pub(crate) async fn post(agent: &Agent, payload: &Value) -> anyhow::Result<Answer> {
    agent.post("/api/v1/alerts", &payload.to_string()).await
}

/// The newest captures that match, as the agent lists them: in short.
pub(crate) async fn captures(agent: &Agent, query: &str) -> Vec<Value> {
    let answer = agent.get(&format!("/api/v1/captures?{query}")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    body["captures"].as_array().unwrap_or_else(|| panic!("no captures in {body}")).clone()
}

/// The whole record of one.
pub(crate) async fn record(agent: &Agent, capture: &Value) -> Value {
    let answer = agent.get(&format!("/api/v1/captures/{}", capture["id"].as_str().unwrap())).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// Waits until there are so many that match, and no more; the whole record of each.
pub(crate) async fn captured(agent: &Agent, query: &str, count: usize) -> Vec<Value> {
    let found = eventually(&format!("{count} captures are listed"), SOON, async || {
        let found = captures(agent, query).await;
        if found.len() == count { Ok(found) } else { Err(format!("{} are", found.len())) }
    })
    .await;
    let mut all = Vec::new();
    for capture in &found {
        all.push(record(agent, capture).await);
    }
    all
}

/// What a capture holds of standard output.
pub(crate) async fn stdout(agent: &Agent, capture: &Value) -> Vec<u8> {
    let path = format!("/api/v1/captures/{}/stdout", capture["id"].as_str().unwrap());
    let (status, head, body) = exchange(agent.address(), "GET", &path, &[], "").await.unwrap();
    assert_eq!(status, 200, "{head}");
    body
}

/// How long after the alert's own beginning the capture was whole.
pub(crate) fn age(capture: &Value) -> Duration {
    let time = |value: &Value| -> jiff::Timestamp { value.as_str().unwrap().parse().unwrap() };
    let began = time(&capture["started_at"]).duration_since(time(&capture["alert"]["starts_at"]));
    let age = began.as_secs_f64() + capture["duration_seconds"].as_f64().unwrap();
    // Clocks of one machine: what is less than nothing is a rounded millisecond.
    Duration::from_secs_f64(age.max(0.0))
}
