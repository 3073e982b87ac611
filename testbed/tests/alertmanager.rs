//! The payloads in tests/fixtures/alertmanager are what real Alertmanagers send: both versions are run here, and what
//! they post must have the fixtures' fields. `PARACHUTE_RECORD=1` writes the fixtures anew.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use jiff::Timestamp;
use serde_json::{Value, json};
use testbed::{Alertmanager, AlertmanagerVersion, Recorded, Recorder};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/alertmanager");

/// Alertmanager's own intervals here are a second or less.
const SOON: Duration = Duration::from_secs(20);

/// One receiver for each case, chosen by the alert's name.
const CASES: [(&str, &str, &[u16]); 4] = [
    ("TcpRetransmitsHigh", "", &[]),
    ("PodCrashLooping", "", &[]),
    ("NodeIsFull", "max_alerts: 2", &[]),
    ("BusyReceiver", "", &[503, 503]),
];

#[tokio::test]
async fn the_fixtures_are_what_alertmanagers_send() {
    let (installed, newest) =
        tokio::join!(versions(AlertmanagerVersion::Installed), versions(AlertmanagerVersion::Newest));
    assert_ne!(installed, newest, "two versions are tested");
}

/// Runs one version through all cases; its version.
async fn versions(which: AlertmanagerVersion) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut recorders = Vec::new();
    for (_, _, statuses) in CASES {
        recorders.push(Recorder::start(statuses).await.unwrap());
    }
    let alertmanager = Alertmanager::start(which, folder.path(), &configuration(&recorders)).await.unwrap();
    let version = alertmanager.version().await.unwrap();
    let [one, several, truncated, retried] = recorders.as_slice() else { panic!("four cases") };

    let retransmits = alert("TcpRetransmitsHigh", "cart-0");
    alertmanager.alert(&json!([retransmits])).await.unwrap();
    let firing = one.wait_for(1, SOON).await.unwrap().remove(0);
    assert!(firing.head.contains("POST /api/v1/alerts HTTP/1.1"), "{}", firing.head);
    assert!(firing.head.contains("Authorization: Bearer secret"), "{}", firing.head);
    assert!(firing.head.contains("Content-Type: application/json"), "{}", firing.head);
    check(&version, "firing", &firing);
    alertmanager.alert(&json!([ended(retransmits)])).await.unwrap();
    check(&version, "resolved", &one.wait_for(2, SOON).await.unwrap()[1]);

    let three = ["cart-0", "cart-1", "pay-0"].map(|pod| alert("PodCrashLooping", pod));
    alertmanager.alert(&json!(three)).await.unwrap();
    check(&version, "several", &several.wait_for(1, SOON).await.unwrap()[0]);
    alertmanager.alert(&json!([ended(three[0].clone())])).await.unwrap();
    check(&version, "mixed", &several.wait_for(2, SOON).await.unwrap()[1]);

    let five: Vec<Value> = (0..5).map(|n| alert("NodeIsFull", &format!("cart-{n}"))).collect();
    alertmanager.alert(&json!(five)).await.unwrap();
    let body = truncated.wait_for(1, SOON).await.unwrap().remove(0);
    let payload: Value = serde_json::from_str(&body.body).unwrap();
    assert_eq!((payload["alerts"].as_array().unwrap().len(), &payload["truncatedAlerts"]), (2, &json!(3)));
    check(&version, "truncated", &body);

    alertmanager.alert(&json!([alert("BusyReceiver", "cart-0")])).await.unwrap();
    let attempts = retried.wait_for(3, SOON).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.answered).collect::<Vec<_>>(), [503, 503, 200]);
    assert!(attempts.iter().all(|attempt| attempt.body == attempts[0].body), "a retry is the same text");
    check(&version, "retried", &attempts[2]);
    version
}

fn alert(name: &str, pod: &str) -> Value {
    json!({
        "labels": {
            "alertname": name, "severity": "critical", "namespace": "shop", "pod": pod, "container": "cart",
            "instance": "10.0.0.7:10068", "job": "parachute",
        },
        "annotations": { "summary": format!("{name} in {pod}"), "description": "in a \"test\" <b>of</b>\nthe agent" },
        // An alert that is older than `group_wait` is sent at once, without the others of its group.
        "startsAt": Timestamp::now().to_string(),
        "generatorURL": "http://prometheus.test/graph?g0.expr=up&g0.tab=1",
    })
}

fn ended(mut alert: Value) -> Value {
    alert["endsAt"] = Timestamp::now().to_string().into();
    alert
}

fn configuration(recorders: &[Recorder]) -> String {
    let mut routes = String::new();
    let mut receivers = String::new();
    for ((name, more, _), recorder) in CASES.iter().zip(recorders) {
        routes.extend([format!("  - {{ matchers: ['alertname = {name}'], receiver: {name} }}\n")]);
        receivers.extend([format!(
            "- name: {name}\n  webhook_configs:\n  - url: http://{}/api/v1/alerts\n    {more}\n    \
             http_config: {{ authorization: {{ credentials: secret }} }}\n",
            recorder.address()
        )]);
    }
    let waits = "group_wait: 300ms, group_interval: 1s, repeat_interval: 1h";
    format!(
        "route:\n  receiver: BusyReceiver\n  group_by: [alertname]\n  {}\n  routes:\n{routes}receivers:\n{receivers}",
        waits.replace(", ", "\n  ")
    )
}

/// Compares a payload's fields with the fixture's, or makes the fixture.
fn check(version: &str, what: &str, recorded: &Recorded) {
    let path = Path::new(FIXTURES).join(format!("{version}-{what}.json"));
    if env::var_os("PARACHUTE_RECORD").is_some() {
        fs::write(&path, &recorded.body).unwrap();
    }
    let fixture = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}: a version that was never recorded? PARACHUTE_RECORD=1 does it", path.display())
    });
    let fields = |text: &str| {
        let mut found = BTreeSet::new();
        paths("", &serde_json::from_str(text).unwrap(), &mut found);
        found
    };
    assert_eq!(fields(&recorded.body), fields(&fixture), "{}", path.display());
}

/// Where every value stands, and of what kind it is; the items of a list stand at one place.
fn paths(at: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| paths(&format!("{at}.{name}"), value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| paths(&format!("{at}[]"), item, found)),
        Value::String(_) => drop(found.insert(format!("{at} text"))),
        Value::Number(_) => drop(found.insert(format!("{at} number"))),
        other => drop(found.insert(format!("{at} {other}"))),
    }
}
