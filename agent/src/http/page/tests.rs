//! Every page, with what a hostile container may bring about and with what a usual day brings. For people to look at:
//! `PARACHUTE_TEST_PAGES=DIR cargo test -p parachute --lib http::page` writes the pages there.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use super::*;
use crate::http::{ProbeAnswer, ProbeAsk, ProbeRefusal, RunAsk, RunRefusal};
use crate::metrics::samples::LastRun;
use crate::model::testing::{container, named, result};
use crate::model::{Container, ContainerLabels, Limit, Metadata, Outcome, ProbeName, RunResult, Way};
use crate::probes::{Quarantined, Record};
use crate::triggers::alerts::{Alerts, DecidedRun, Decision, Status};

/// What every text of a hostile deployment says.
const HOSTILE: &str = "<script>alert(1)</script>\"'--></title></style><img src=x onerror=alert(1)>\u{202e}\u{200b}\0\u{1b}[2J&amp;";

/// Rooms with something in them.
struct Stage {
    containers: Vec<Arc<Container>>,
    history: Vec<Arc<Record>>,
    last: Vec<LastRun>,
    quarantined: Vec<Quarantined>,
    not_ready: Option<String>,
    alerts: Alerts,
}

impl Backend for Stage {
    fn metrics(&self) -> String {
        String::new()
    }
    fn containers(&self) -> Vec<Arc<Container>> {
        self.containers.clone()
    }
    fn last_runs(&self, limit: usize) -> Vec<LastRun> {
        self.last.iter().take(limit).cloned().collect()
    }
    fn history(&self) -> Vec<Arc<Record>> {
        self.history.clone()
    }
    fn quarantined(&self) -> Vec<Quarantined> {
        self.quarantined.clone()
    }
    fn targets(&self, _: Option<&str>) -> Option<Vec<Arc<Container>>> {
        None
    }
    fn not_ready(&self) -> Option<String> {
        self.not_ready.clone()
    }
    fn probe(&self, ask: ProbeAsk) -> BoxFuture<'static, Result<ProbeAnswer, ProbeRefusal>> {
        Box::pin(async move { Err(ProbeRefusal::UnknownModule(ask.module)) })
    }
    fn alerts(&self) -> &Alerts {
        &self.alerts
    }
    fn reload(&self) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
    fn run(&self, ask: RunAsk) -> BoxFuture<'static, Result<RunResult, RunRefusal>> {
        Box::pin(async move { Err(RunRefusal::UnknownProbe(ask.probe)) })
    }
}

fn room() -> Alerts {
    crate::http::tests::alerts::room(&crate::metrics::AgentMetrics::new().unwrap())
}

fn ago(seconds: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(seconds)
}

fn ran(probe: &str, place: &Arc<Container>, outcome: Outcome, seconds: u64, alert: Option<&str>) -> Record {
    let run = result(probe, place, outcome.clone(), Vec::new());
    let refused = matches!(outcome, Outcome::Refused { .. }).then_some(crate::probes::Refusal::QueueFull);
    Record {
        id: run.request.id,
        probe: run.request.probe,
        trigger: run.request.trigger,
        alert: alert.map(str::to_owned),
        container: place.id.clone(),
        labels: place.labels(),
        at: ago(seconds),
        duration: Duration::from_millis(seconds * 13 % 900 + 4),
        outcome,
        refused,
        way: Some(Way::ObserverPidns),
        captured: alert.is_some(),
        times: if seconds == 90 { 14 } else { 1 },
        since: ago(seconds + 600),
    }
}

fn last(run: &Record) -> LastRun {
    LastRun {
        probe: run.probe.clone(),
        container: run.container.clone(),
        labels: run.labels.clone(),
        started_at: run.at,
        duration: run.duration,
        outcome: run.outcome.clone(),
        way: run.way,
    }
}

/// A node on a usual day at 3 a.m.
fn usual() -> Stage {
    let described = |id: &str, pod: &str, name: &str, image: &str| {
        let labels =
            [("app", name), ("app.kubernetes.io/part-of", "shop"), ("pod-template-hash", "6d4cf56db6")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let metadata = Metadata {
            image: format!("registry.example.com/shop/{image}"),
            pod_uid: "0b5e7c1e-5b0c-4c7e-9a53-6f1d1c9b2f4e".into(),
            labels,
            ..named("shop", pod, name)
        };
        container(id, metadata)
    };
    let containers = vec![
        described("4f1c9a02", "cart-0", "cart", "cart:1.14.2"),
        described("9a027b3e", "checkout-6d4cf56db6-x7k2p", "checkout", "checkout:2026-11-20-4f1c9a0"),
        described("77ac0de1", "checkout-6d4cf56db6-x7k2p", "istio-proxy", "istio/proxyv2:1.29.1"),
        described("be02aa41", "pay-0", "pay", "pay@sha256:0f3c2b7d"),
        container("c0ffee12", Metadata { sandbox: true, ..named("shop", "pay-0", "") }),
        container("d00dfeed", None),
    ];
    let entering = Outcome::EnterFailed {
        step: "setns_net".into(),
        errno: 1,
        message: "Operation not permitted".into(),
    };
    let queue = Outcome::Refused {
        reason: "the queue of runs is full; try again later or raise limits.queued_runs".into(),
    };
    let history: Vec<_> = [
        ran("sockets", &containers[0], Outcome::Ok, 12, None),
        ran("tcpdump-10s", &containers[1], Outcome::Ok, 40, Some("TcpRetransmitsHigh")),
        ran("sockets", &containers[1], Outcome::Nonzero { status: 2 }, 41, Some("TcpRetransmitsHigh")),
        ran("listeners", &containers[3], Outcome::Timeout, 90, None),
        ran("sockets", &containers[3], queue, 300, None),
        ran("processes", &containers[2], entering, 4_000, None),
        ran("heap", &containers[0], Outcome::LimitReached { limit: Limit::Memory }, 200_000, None),
    ]
    .into_iter()
    .map(Arc::new)
    .collect();
    let mut latest: Vec<LastRun> =
        history.iter().filter(|run| run.refused.is_none()).map(|run| last(run)).collect();
    latest.extend([3, 1].map(|place| last(&ran("interfaces", &containers[place], Outcome::Ok, 30, None))));
    let quarantined = vec![Quarantined {
        probe: ProbeName::new("heap"),
        container: containers[0].id.clone(),
        left: Duration::from_secs(227),
    }];
    Stage { containers, history, last: latest, quarantined, not_ready: None, alerts: room() }
}

/// A node on which every text is chosen by an attacker.
fn hostile() -> Stage {
    let labels = [(HOSTILE.to_owned(), HOSTILE.to_owned())].into();
    let metadata = Metadata {
        image: HOSTILE.into(),
        pod_uid: HOSTILE.into(),
        labels,
        ..named(HOSTILE, HOSTILE, HOSTILE)
    };
    let place = container("a", metadata);
    let outcome = Outcome::ParseFailed { message: HOSTILE.into() };
    let run = Arc::new(ran("p", &place, outcome, 5, Some(HOSTILE)));
    Stage {
        last: vec![last(&run)],
        quarantined: vec![Quarantined {
            probe: run.probe.clone(),
            container: run.container.clone(),
            left: Duration::MAX,
        }],
        history: vec![run],
        containers: vec![place],
        not_ready: Some(HOSTILE.into()),
        alerts: room(),
    }
}

/// The pages there are: path, and the name of a file for it.
fn paths(stage: &Stage) -> Vec<(String, &'static str)> {
    vec![
        ("/".into(), "overview"),
        ("/runs".into(), "runs"),
        ("/alerts".into(), "no-alerts"),
        (format!("/containers/{}", stage.containers[0].id), "container"),
    ]
}

async fn page(stage: Arc<Stage>, path: &str, query: &[(&str, &str)]) -> (u16, String, warp::http::HeaderMap) {
    let query = Query(query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
    let response = serve(path, &Method::GET, query, stage).await.unwrap_or_else(|| panic!("no page {path}"));
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = http_body_util(response).await;
    (status, body, headers)
}

async fn http_body_util(response: Response) -> String {
    use http_body::Body as _;
    let mut body = std::pin::pin!(response.into_body());
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        bytes.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn every_page_stands_and_lets_nothing_in() {
    for stage in [usual(), hostile()] {
        let stage = Arc::new(stage);
        for (path, name) in paths(&stage) {
            let (status, html, headers) = page(stage.clone(), &path, &[]).await;
            assert_eq!(status, 200, "{path}");
            let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(
                policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"),
                "{policy}"
            );
            assert!(html.contains("name=\"viewport\"") && !html.contains("<script"), "{html}");
            if let Some(folder) = std::env::var_os("PARACHUTE_TEST_PAGES") {
                let kind = if stage.not_ready.is_some() { "hostile" } else { "usual" };
                std::fs::write(PathBuf::from(folder).join(format!("{kind}-{name}.html")), &html).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn hostile_texts_are_text_on_every_page() {
    let stage = Arc::new(hostile());
    let mut all = paths(&stage);
    all.retain(|(path, _)| path != "/alerts");
    all.push(("/runs".into(), "filtered"));
    for (path, name) in all {
        let filter = [("pod", HOSTILE), ("alert", HOSTILE)];
        let (_, html, _) = page(stage.clone(), &path, if name == "filtered" { &filter } else { &[] }).await;
        let visible = "&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;--&gt;&lt;/title&gt;&lt;/style&gt;&lt;img src=x \
                       onerror=alert(1)&gt;⟨U+202E⟩⟨U+200B⟩⟨NUL⟩⟨ESC⟩[2J&amp;amp;";
        assert!(html.contains(visible), "{path}: {html}");
        for markup in ["<script", "<img", "onerror=alert(1)>", "\u{202e}", "\u{200b}", "\0", "\u{1b}", "--><"]
        {
            assert!(!html.contains(markup), "{path} has {markup:?}");
        }
        let ends = |end| html.matches(end).count();
        assert_eq!((ends("</title>"), ends("</style>"), ends("</html>")), (1, 1, 1), "{path}");
    }
}

#[tokio::test]
async fn the_worst_stands_first() {
    let (_, html, _) = page(Arc::new(usual()), "/", &[]).await;
    let places: Vec<_> =
        ["some probes fail", "Failing now", "In quarantine", "Last runs", "Containers <small>"]
            .iter()
            .map(|part| html.find(part).unwrap_or_else(|| panic!("{part} is not in {html}")))
            .collect();
    assert!(places.is_sorted(), "{places:?}");
    for part in [
        "shop/cart-0/cart",
        "exit status 2",
        "limits.memory",
        "14 times in a row",
        "alert TcpRetransmitsHigh",
    ] {
        assert!(html.contains(part), "{part}");
    }
    let (containers, history, last, quarantined) = (vec![], vec![], vec![], vec![]);
    let nothing = Stage { containers, history, last, quarantined, not_ready: None, alerts: room() };
    let (_, html, _) = page(Arc::new(nothing), "/", &[]).await;
    for part in ["no probe fails", "No probe has run yet.", "No container runs here."] {
        assert!(html.contains(part), "{part}");
    }
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_asked_is_told() {
    let stage = Arc::new(usual());
    let (status, html, _) = page(stage.clone(), "/containers/nope", &[]).await;
    assert!(status == 404 && html.contains("nothing is known"), "{html}");
    let (status, html, _) = page(stage.clone(), "/runs", &[("outcome", "<b>")]).await;
    assert!(status == 400 && html.contains("outcome must be one of"), "{html}");
    let (status, html, _) = page(stage.clone(), "/runs", &[("pod", "checkout"), ("outcome", "failed")]).await;
    assert!(
        status == 200 && html.contains("No run fits.") && html.contains("<option selected>failed"),
        "{html}"
    );
    for path in ["/nowhere", "/containers/", "/containers/a/b", "/runs/"] {
        let gone = serve(path, &Method::GET, Query::default(), stage.clone()).await;
        assert!(gone.is_none_or(|answer| answer.status() == StatusCode::NOT_FOUND), "{path}");
    }
    let post = serve("/runs", &Method::POST, Query::default(), stage).await.unwrap();
    assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
}

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
        run_count: runs.len(),
        runs,
    }
}

fn written(stage: &Stage, name: &str, decisions: &[Decision]) -> String {
    let mut body = Html::default();
    body.raw("<h1>Alerts</h1>\n");
    alerts::list(&mut body, decisions, stage);
    let html = frame("Alerts", Place::Alerts, &body).into_string();
    if let Some(folder) = std::env::var_os("PARACHUTE_TEST_PAGES") {
        std::fs::write(PathBuf::from(folder).join(format!("{name}.html")), &html).unwrap();
    }
    html
}

#[tokio::test]
async fn what_an_alert_ran_and_why_it_ran_nothing_is_told() {
    let stage = usual();
    let kept = &stage.history[1];
    let run = |id: &crate::model::RunId, probe: &str, state: &str| DecidedRun {
        id: id.clone(),
        probe: probe.into(),
        trigger: "retransmits".into(),
        container: kept.labels.clone(),
        state: state.into(),
    };
    let other = crate::model::RunId::fresh();
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
    assert!(
        html.contains(&format!("/captures/{}", kept.id)) && !html.contains(&format!("/captures/{other}")),
        "{html}"
    );
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
    for markup in ["<script", "<img", "\u{202e}", "\u{200b}", "\0", "\u{1b}", "--><"] {
        assert!(!html.contains(markup), "{markup:?}");
    }
}
