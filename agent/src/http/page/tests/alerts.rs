//! What came of alerts, as a person sees it.

use super::*;
use crate::http::page::alerts::list;
use crate::model::{ContainerLabels, RunId};
use crate::triggers::alerts::{DecidedRun, Decision, Status};

fn decision(
    name: &str,
    result: &'static str,
    reasons: &[&str],
    runs: Vec<DecidedRun>,
    seconds: u64,
) -> Decision {
    let labels = [
        ("alertname", name),
        ("namespace", "shop"),
        ("pod", "checkout-6d4cf56db6-x7k2p"),
        ("severity", name),
    ];
    Decision {
        at: ago(seconds + 300),
        last_at: ago(seconds),
        deliveries: seconds % 3 + 1,
        who: "token:alertmanager".into(),
        receiver: name.into(),
        alertname: name.into(),
        status: if seconds == 77 { Status::Resolved } else { Status::Firing },
        fingerprint: name.into(),
        starts_at: name.into(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        result,
        reasons: reasons.iter().map(|text| (*text).to_owned()).collect(),
        passed_on: None,
        left_out: false,
        run_count: runs.len(),
        runs,
    }
}

fn written(stage: &Stage, name: &str, decisions: &[Decision]) -> String {
    let mut body = Html::default();
    body.raw("<h1>Alerts</h1>\n");
    list(&mut body, decisions, stage);
    let html = frame("Alerts", Place::Alerts, &body).into_string();
    write(name, &html);
    html
}

#[tokio::test]
async fn what_an_alert_ran_and_why_it_ran_nothing_is_told() {
    let stage = usual();
    let kept = &stage.history[1];
    let run = |id: &RunId, probe: &str, state: &str| DecidedRun {
        id: id.clone(),
        probe: probe.into(),
        trigger: "retransmits".into(),
        container: kept.labels.clone(),
        state: state.into(),
    };
    let other = RunId::fresh();
    let runs = vec![run(&kept.id, "tcpdump-10s", "ok"), run(&other, "sockets", "nonzero: exit status 2")];
    let html = written(
        &stage,
        "usual-alerts",
        &[
            decision("TcpRetransmitsHigh", "queued", &[], runs, 40),
            decision(
                "PodCrashLooping",
                "no_container",
                &["no container is namespace \"shop\", pod \"cart-9\"; 4 run here"],
                vec![],
                77,
            ),
            decision(
                "NodeDiskFull",
                "no_trigger",
                &["label alertname is \"NodeDiskFull\" and not \"TcpRetransmits*\""],
                vec![],
                4_000,
            ),
        ],
    );
    let passed_on = Decision {
        passed_on: Some("passed on to 2 of 3 peers; 10.0.0.5:1: <b>no</b> answer".into()),
        ..decision("Elsewhere", "passed_on", &[], vec![], 5)
    };
    let shown = written(&stage, "usual-alerts-passed-on", &[passed_on]);
    assert!(
        shown.contains("ran nothing here") && shown.contains("2 of 3 peers; 10.0.0.5:1: &lt;b&gt;no"),
        "{shown}"
    );
    for part in [
        "<b>TcpRetransmitsHigh</b>",
        "firing",
        "resolved",
        "2 runs",
        "ran nothing",
        "no container is namespace",
        "exit status 2",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // Of neither was anything kept.
    assert!(!html.contains("/captures/2"), "{html}");
    let many = (0..50).map(|_| run(&other, "p", "queued")).collect();
    assert!(
        written(&stage, "usual-alerts-many", &[decision("A", "queued", &[], many, 1)])
            .contains("40 more runs")
    );

    let stage = hostile();
    let labels =
        ContainerLabels { namespace: HOSTILE.into(), pod: HOSTILE.into(), container: HOSTILE.into() };
    let run = DecidedRun {
        id: other,
        probe: HOSTILE.into(),
        trigger: HOSTILE.into(),
        container: labels,
        state: HOSTILE.into(),
    };
    let html = written(&stage, "hostile-alerts", &[decision(HOSTILE, "queued", &[HOSTILE], vec![run], 1)]);
    assert_harmless(&html);
}
