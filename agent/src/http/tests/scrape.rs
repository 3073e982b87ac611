//! What scrapes ask for besides `/metrics`, over real sockets: `/probe`, `/api/v1/sd`, `/api/v1/runs`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::served;
use crate::config;
use crate::http::{ProbeAnswer, ProbeAsk, ProbeRefusal};
use crate::metrics::promtool::assert_clean;
use crate::metrics::samples::LastRun;
use crate::model::testing::{container, named, result};
use crate::model::{
    ContainerId, ContainerLabels, Family, MetricKind, Outcome, ProbeName, Rejected, Rejects, RunResult,
    Sample, TriggerName,
};
use crate::probes::Record;

/// The part of the fake rooms that is asked here.
#[derive(Default)]
pub(super) struct Scrape {
    pub(super) history: Mutex<Vec<Arc<Record>>>,
    answer: Mutex<Option<Result<ProbeAnswer, ProbeRefusal>>>,
    asked: Mutex<Vec<ProbeAsk>>,
}

impl Scrape {
    pub(super) fn probe(&self, ask: ProbeAsk) -> BoxFuture<'static, Result<ProbeAnswer, ProbeRefusal>> {
        self.asked.lock().unwrap().push(ask);
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

/// What the fake rooms say of the last runs.
pub(super) fn last_run() -> LastRun {
    LastRun {
        probe: ProbeName::new("sock&ets"),
        container: ContainerId::new("a"),
        labels: ContainerLabels { namespace: "shop".into(), pod: "cart-0".into(), container: "\"x\"".into() },
        started_at: std::time::UNIX_EPOCH,
        duration: Duration::from_millis(12),
        outcome: Outcome::Timeout,
        way: Some(crate::model::Way::ObserverPidns),
    }
}

const CONFIG: &str = "probes: { sockets: { command: [ss, -s], parse: { regex: [{ name: tcp_sockets, type: gauge, \
                      help: Sockets., pattern: 'x (?P<n>\\d+)', value: n }] } } }";

fn answered(run: Result<RunResult, String>) -> ProbeAnswer {
    let config = config::from_str(CONFIG, std::path::Path::new("c.yml")).unwrap();
    let (_, probe) = config.probes.into_iter().next().unwrap();
    ProbeAnswer {
        probe,
        container: container("a", named("shop", "cart-0", "cart")),
        trigger: TriggerName::new("by-hand"),
        timeout: Duration::from_secs(5),
        took: Duration::from_millis(250),
        run: run.map(Box::new),
    }
}

fn ran(outcome: Outcome) -> RunResult {
    let sample =
        |state: &str, value| Sample { suffix: "", labels: vec![("state".into(), state.into())], value };
    let samples = vec![sample("estab", 3.0), sample("\u{202e}", 1.0)];
    let family =
        Family { name: "tcp_sockets".into(), kind: MetricKind::Gauge, help: "Sockets.".into(), samples };
    let mut run = result("sockets", &container("a", named("shop", "cart-0", "cart")), outcome, vec![family]);
    run.output.stderr = b"warning \x1b]0;title\x07 <b>\xff\nsecond\n".to_vec();
    let piece = |line, text: &str, why: &str| Rejected { line, text: text.into(), why: why.into() };
    run.rejects = Rejects {
        bad: vec![piece(Some(7), "x \u{1b}[2Jnone", "tcp_sockets: no number")],
        unmatched: vec![piece(Some(9), "Total:\u{200b} 11", "no pattern matches")],
        unmatched_lines: 3,
    };
    run.parse_errors = 1;
    run
}

const ASK: &str = "/probe?module=sockets&target=shop/cart-0/cart";

#[tokio::test]
async fn a_scrape_gets_the_runs_metrics_alone() {
    let served = served(false, Ok(())).await;
    for (run, success, series) in [
        (Ok(ran(Outcome::Ok)), "1", true),
        (Ok(ran(Outcome::Timeout)), "0", false),
        (Err("the queue is full".to_owned()), "0", false),
    ] {
        *served.fake.scrape.answer.lock().unwrap() = Some(Ok(answered(run)));
        let answer = served.get(ASK).await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{}",
            answer.head
        );
        let text = answer.text();
        assert_clean(text);
        assert!(text.contains(&format!("\nprobe_success {success}\n")), "{text}");
        assert!(
            text.contains("\nprobe_duration_seconds 0.25\n") && text.contains("\nprobe_timeout_seconds 5\n")
        );
        assert_eq!(text.contains("tcp_sockets{state=\"estab\"} 3\n"), series, "{text}");
        assert!(!text.contains("parachute_") && !text.contains("process_"), "{text}");
    }
    let zipped = served.ask("GET", ASK, "Accept-Encoding: gzip\r\n", "").await;
    assert!(zipped.head.contains("content-encoding: gzip\r\n"), "{}", zipped.head);
    assert!(!served.get("/metrics").await.text().contains("probe_success"));
}

#[tokio::test]
async fn mistakes_are_told_as_blackbox_exporter_tells_them() {
    let served = served(false, Ok(())).await;
    let refuse = |refusal| *served.fake.scrape.answer.lock().unwrap() = Some(Err(refusal));
    for (path, says) in [
        ("/probe", "Module parameter is missing\n"),
        ("/probe?target=x", "Module parameter is missing\n"),
        ("/probe?module=sockets", "Target parameter is missing\n"),
        ("/probe?module=sockets&target=", "Target parameter is missing\n"),
    ] {
        let answer = served.get(path).await;
        assert_eq!((answer.status, answer.text()), (400, says), "{path}");
    }
    for (refusal, says) in [
        (ProbeRefusal::UnknownModule("a\nb".into()), "Unknown module \"a\\nb\"\n"),
        (ProbeRefusal::NoContainer { target: "x".into(), live: 3 }, "none of the 3 containers"),
        (
            ProbeRefusal::Ambiguous {
                target: "x".into(),
                fits: vec!["a/b/x (1)".into(), "c/d/x (2)".into()],
            },
            "fits 2 containers, name one of: a/b/x (1), c/d/x (2)",
        ),
        (ProbeRefusal::NotByRequest { module: "m".into(), container: "a/b/x".into() }, "`http: {}`"),
    ] {
        refuse(refusal);
        for path in [ASK.to_owned(), format!("{ASK}&debug=true")] {
            let answer = served.get(&path).await;
            assert!(answer.status == 400 && answer.text().contains(says), "{}", answer.text());
        }
    }
    for method in ["HEAD", "POST", "PUT"] {
        let answer = served.ask(method, ASK, "", "").await;
        assert!(answer.status == 405 && answer.head.contains("allow: GET\r\n"), "{method} {}", answer.head);
    }
    let asked = served.fake.scrape.asked.lock().unwrap().len();
    for headers in [
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n",
        "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: navigate\r\n",
        "Origin: http://evil.example\r\n",
    ] {
        assert_eq!(served.ask("GET", ASK, headers, "").await.status, 403, "{headers}");
    }
    assert_eq!(served.fake.scrape.asked.lock().unwrap().len(), asked, "no run was asked for");
    let typed = "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n";
    assert_eq!(served.ask("GET", ASK, typed, "").await.status, 400);
}

#[tokio::test]
async fn the_scrapes_own_timeout_is_honoured() {
    let served = served(false, Ok(())).await;
    *served.fake.scrape.answer.lock().unwrap() = Some(Ok(answered(Ok(ran(Outcome::Ok)))));
    for (header, millis) in [
        (None, 120_000),
        (Some("10"), 9_500),
        (Some("1.000000"), 500),
        (Some("0.75"), 250),
        // No longer than the offset: half of it.
        (Some("0.5"), 250),
        (Some("0.1"), 50),
        (Some("0"), 120_000),
        (Some("1e6"), 3_599_500),
    ] {
        let header =
            header.map_or(String::new(), |it| format!("X-Prometheus-Scrape-Timeout-Seconds: {it}\r\n"));
        assert_eq!(served.ask("GET", ASK, &header, "").await.status, 200, "{header}");
        let ask = served.fake.scrape.asked.lock().unwrap().pop().unwrap();
        let patience = Duration::from_millis(250);
        let within = Duration::from_millis(millis);
        let expected =
            ProbeAsk { module: "sockets".into(), target: "shop/cart-0/cart".into(), within, patience };
        assert_eq!(ask, expected, "{header}");
    }
    for bad in ["ten", "1e300", "", "-1", "NaN", "inf", "10s", "1 2"] {
        let header = format!("X-Prometheus-Scrape-Timeout-Seconds: {bad}\r\n");
        let answer = served.ask("GET", ASK, &header, "").await;
        assert_eq!(answer.status, 400, "{bad:?}");
        assert!(
            answer.text().starts_with("Failed to parse timeout from Prometheus header: "),
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_debugging_scrape_sees_every_step_and_no_control_character() {
    let served = served(false, Ok(())).await;
    let page = async |run| {
        *served.fake.scrape.answer.lock().unwrap() = Some(Ok(answered(run)));
        let answer = served.get(&format!("{ASK}&debug=true")).await;
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-type: text/plain; charset=utf-8\r\n"), "{}", answer.head);
        let text = answer.text().to_owned();
        let hidden = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}');
        assert!(!text.contains(hidden), "{text:?}");
        text
    };
    let text = page(Ok(ran(Outcome::Ok))).await;
    for part in [
        "target              \"shop/cart-0/cart\"\n",
        "namespace \"shop\", pod \"cart-0\", container or id \"cart\"\n",
        "1 container: shop/cart-0/cart (aaaaaaaaaaaa)\n",
        "pid of its init     4711\n",
        "pid namespace       1\n",
        "network namespace   2\n",
        "by-hand lists it",
        "command             [\"ss\", \"-s\"]\n",
        "isolation           observer\n",
        "parser              regex, metrics: 1\n",
        "end                 exit status 0\n",
        "stdout              3 bytes\n",
        "  warning ⟨ESC⟩]0;title⟨BEL⟩ <b>⟨0xFF⟩\n  second\n",
        "not usable          1 lines or values\n  line 7: tcp_sockets: no number\n      x ⟨ESC⟩[2Jnone\n",
        "not matched         3 lines or rows\n  line 9: no pattern matches\n      Total:⟨U+200B⟩ 11\n  (2 more)\n",
        "tcp_sockets{state=\"estab\"} 3\n",
        "probe_success 1\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let failed = Outcome::EnterFailed { step: "setns_pid".into(), errno: 1, message: "not permitted".into() };
    let text = page(Ok(ran(failed))).await;
    assert!(text.contains("failed at           setns_pid, errno 1: not permitted\n"), "{text}");
    assert!(text.contains("probe_success 0\n") && !text.contains("tcp_sockets{"), "{text}");
    let text = page(Err("the queue\x1b is full".into())).await;
    assert!(text.contains("nothing was run     the queue⟨ESC⟩ is full\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn scrapes_have_places_of_their_own_and_the_next_one_is_told() {
    let served = Arc::new(served(false, Ok(())).await);
    let waiting: Vec<_> = (0..crate::http::probe::MAX_WAITING)
        .map(|_| {
            let served = served.clone();
            tokio::spawn(async move { served.get(ASK).await })
        })
        .collect();
    while served.fake.scrape.asked.lock().unwrap().len() < waiting.len() {
        tokio::task::yield_now().await;
    }
    let full = served.get(ASK).await;
    assert_eq!((full.status, full.head.contains("retry-after: 1\r\n")), (503, true), "{}", full.head);
    assert_eq!(served.get("/-/healthy").await.status, 200);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn targets_are_listed_for_prometheus() {
    let served = served(false, Ok(())).await;
    for path in ["/api/v1/sd", "/api/v1/sd?module=sockets", "/api/v1/sd?module="] {
        let answer = served.get(path).await;
        assert!(answer.head.contains("content-type: application/json\r\n"), "{}", answer.head);
        let list = answer.json();
        assert_eq!((answer.status, list.as_array().unwrap().len()), (200, 2), "{path}");
        assert_eq!(list[0]["targets"][0], "a".repeat(64));
        assert_eq!(list[0]["labels"]["__meta_parachute_container"], "<b>cart</b>");
    }
    for (path, says) in
        [("/api/v1/sd?module=nope", "Unknown module \"nope\""), ("/api/v1/sd?modul=x", "unknown parameter")]
    {
        let answer = served.get(path).await;
        assert!(answer.status == 400 && answer.error().contains(says), "{path}");
    }
}

#[tokio::test]
async fn the_history_is_filtered() {
    let served = served(false, Ok(())).await;
    let record = |probe: &str, outcome: Outcome, seconds| {
        let run =
            result(probe, &container("a", named("shop", "cart-0", "cart")), outcome.clone(), Vec::new());
        let at = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        Arc::new(Record {
            id: run.request.id.clone(),
            probe: run.request.probe.clone(),
            trigger: run.request.trigger.clone(),
            alert: (probe == "dump").then(|| "Slow".to_owned()),
            container: run.request.container.id.clone(),
            labels: run.request.container.labels(),
            at,
            duration: Duration::from_millis(20),
            outcome,
            refused: None,
            way: None,
            captured: probe == "dump",
            times: 1,
            since: at,
        })
    };
    let all = vec![
        record("dump", Outcome::Ok, 3),
        record("sockets", Outcome::Nonzero { status: 2 }, 2),
        record("sockets", Outcome::Ok, 1),
    ];
    *served.fake.scrape.history.lock().unwrap() = all;
    let first = served.get("/api/v1/runs?alert=Slow").await.json();
    assert_eq!((first["runs"].as_array().unwrap().len(), &first["more"]), (1, &0.into()));
    let run = &first["runs"][0];
    assert_eq!(
        (&run["probe"], &run["outcome"], &run["captured"]),
        (&"dump".into(), &"ok".into(), &true.into())
    );
    assert_eq!((&run["pod"], &run["started_at"]), (&"cart-0".into(), &"1970-01-01T00:00:03.000Z".into()));
    for (query, found, more) in [
        ("", 3, 0),
        ("?limit=1", 1, 2),
        ("?probe=sockets&outcome=ok", 1, 0),
        ("?outcome=failed", 1, 0),
        ("?outcome=nonzero&namespace=shop&pod=cart-0&container=cart&trigger=by-hand", 1, 0),
        ("?pod=cart", 0, 0),
        ("?pod=", 3, 0),
    ] {
        let json = served.get(&format!("/api/v1/runs{query}")).await.json();
        assert_eq!((json["runs"].as_array().unwrap().len(), &json["more"]), (found, &more.into()), "{query}");
    }
    for (query, says) in [
        ("?outcome=bad", "outcome must be one of failed, ok, nonzero"),
        ("?limit=0", "limit must be"),
        ("?pdo=x", "unknown parameter"),
    ] {
        let answer = served.get(&format!("/api/v1/runs{query}")).await;
        assert!(answer.status == 400 && answer.error().contains(says), "{query}");
    }
}

/// Prometheus' own reading of the list, relabelled by the README's configuration.
#[tokio::test]
async fn the_readmes_configuration_makes_targets_of_the_list() {
    let served = served(false, Ok(())).await;
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, after) = readme.split_once("<!-- scrape-config -->\n```yaml\n").unwrap();
    let (block, _) = after.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (token, file) = (folder.path().join("token"), folder.path().join("prometheus.yml"));
    let config = block
        .replace("/etc/prometheus/parachute.token", token.to_str().unwrap())
        .replace("127.0.0.1:10068", &served.address.to_string());
    std::fs::write(&token, "secret").unwrap();
    std::fs::write(&file, config).unwrap();
    let output = tokio::process::Command::new("promtool")
        .args(["check", "service-discovery", "--timeout=2s"])
        .arg(&file)
        .arg("parachute")
        .output()
        .await
        .expect("promtool is needed: apt-get install prometheus");
    let said = String::from_utf8_lossy(&output.stdout);
    let targets: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{output:?}"));
    let labels: Vec<_> = targets.as_array().unwrap().iter().map(|target| target["labels"].clone()).collect();
    let expected = |namespace: &str, pod: &str, container: &str, id: &str| {
        let mut labels = serde_json::json!({
            "__address__": served.address.to_string(), "__metrics_path__": "/probe", "__scheme__": "http",
            "__param_module": "sockets", "__param_target": id.repeat(64), "instance": served.address.to_string(),
            "container": container, "job": "parachute",
        });
        for (name, value) in [("namespace", namespace), ("pod", pod)] {
            // Prometheus has no empty labels.
            if !value.is_empty() {
                labels[name] = value.into();
            }
        }
        labels
    };
    for wanted in [expected("shop", "cart-0", "<b>cart</b>", "a"), expected("", "", &"b".repeat(12), "b")] {
        let fits = |labels: &&serde_json::Value| {
            wanted.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
        };
        assert!(labels.iter().any(|labels| fits(&labels)), "{wanted} is not in {said}");
    }
}
