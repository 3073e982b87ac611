//! Every page, with what a hostile container may bring about and with what a usual day brings. For people to look at:
//! `PARACHUTE_TEST_PAGES=DIR cargo test -p parachute --lib http::page` writes the pages there.

mod alerts;
mod captures;
mod pages;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use super::*;
use crate::captures::Captures;
use crate::config::parse::Table;
use crate::http::{ProbeAnswer, ProbeAsk, ProbeRefusal, RunAsk, RunRefusal};
use crate::metrics::samples::LastRun;
use crate::model::testing::{container, named, result};
use crate::model::{Container, Limit, Metadata, Outcome, ProbeName, RunResult, Way};
use crate::probes::{Quarantined, Record};
use crate::triggers::alerts::Alerts;

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
    captures: Captures,
    table: Option<Table>,
    /// Where the captures are.
    _folder: tempfile::TempDir,
}

impl Backend for Stage {
    fn metrics(&self, _room: String) -> String {
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
    fn captures(&self) -> Captures {
        self.captures.clone()
    }
    fn table(&self, probe: &str) -> Option<Table> {
        self.table.clone().filter(|_| probe == "processes")
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

/// A node on which nothing runs and nothing has come.
fn empty() -> Stage {
    let agent = crate::metrics::AgentMetrics::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let counters = crate::http::tests::captures::counters(&agent);
    Stage {
        containers: Vec::new(),
        history: Vec::new(),
        last: Vec::new(),
        quarantined: Vec::new(),
        not_ready: None,
        alerts: crate::http::tests::alerts::room(&agent),
        captures: Captures::open(
            &folder.path().join("captures"),
            &crate::config::Captures::default(),
            counters,
        ),
        table: None,
        _folder: folder,
    }
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
    Stage { containers, history, last: latest, quarantined, ..empty() }
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
        ..empty()
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
    let body = text_of(response).await;
    (status, body, headers)
}

async fn text_of(response: Response) -> String {
    use http_body::Body as _;
    let mut body = std::pin::pin!(response.into_body());
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        bytes.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// Puts a page where people can look at it, if they want to.
fn write(name: &str, html: &str) {
    if let Some(folder) = std::env::var_os("PARACHUTE_TEST_PAGES") {
        std::fs::write(PathBuf::from(folder).join(format!("{name}.html")), html).unwrap();
    }
}

/// What nobody has written into a page must not be in it.
fn assert_harmless(html: &str) {
    let markup =
        ["<script", "<img", "<b>bold", "\u{202e}", "\u{200b}", "\0", "\r", "\u{1b}", "--><", "javascript:\""];
    for markup in markup {
        assert!(!html.contains(markup), "{markup:?} is in {html}");
    }
    for end in ["</title>", "</style>", "</main>", "</html>"] {
        assert_eq!(html.matches(end).count(), 1, "{end} in {html}");
    }
}
