//! The whole room, with containers and a pool of the tests' own.

mod passing;
mod payload;
mod restart;
mod room;
mod storm;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Alerts, Answer, Counters, RunEnd, Wiring};
use crate::config::{self, Config};
use crate::model::testing::{container, named};
use crate::model::{Container, Instance, Outcome, RunId, RunRequest};

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/alertmanager");
    std::fs::read(folder.join(name)).unwrap()
}

/// Labels as pairs.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// A body of a group with these alerts: status, fingerprint, labels.
fn webhook(group: &str, alerts: &[(&str, &str, Pairs<'_>)]) -> String {
    let alerts: Vec<String> = alerts
        .iter()
        .map(|(status, fingerprint, labels)| {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{}:{}", json!(name), json!(value))).collect();
            format!(
                r#"{{"status":"{status}","labels":{{{}}},"startsAt":"2026-11-26T03:04:05Z","endsAt":"0001-01-01T00:00:00Z","fingerprint":"{fingerprint}"}}"#,
                labels.join(",")
            )
        })
        .collect();
    format!(r#"{{"version":"4","groupKey":"{group}","alerts":[{}]}}"#, alerts.join(","))
}

/// A firing alert named `Slow` of this pod in namespace shop.
fn firing(fingerprint: &str, pod: &str) -> String {
    webhook("g", &[("firing", fingerprint, &[("alertname", "Slow"), ("namespace", "shop"), ("pod", pod)])])
}

/// A configuration with the probes `a` and `b` and these triggers.
fn configured(limits: &str, triggers: &str) -> Config {
    let text = format!(
        "limits: {{ {limits} }}\nprobes:\n  a: {{ command: [/bin/true], parse: none }}\n  b: {{ command: [/bin/true], parse: none }}\n\
         triggers:\n{triggers}"
    );
    config::from_str(&text, Path::new("test.yml")).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// One trigger that answers `Slow` in the alert's pod with probe `a`, and more keys.
fn slow(more: &str) -> Config {
    let target = "{ namespace: '{{namespace}}', pod: '{{pod}}', container: '{{container}}' }";
    configured(
        "queued_runs: 50",
        &format!(
            "  t: {{ alert: {{ labels: {{ alertname: Slow }} }}, target: {target}, probes: [a]{more} }}\n"
        ),
    )
}

fn counters() -> Counters {
    let many = |label| IntCounterVec::new(Opts::new("x", "x"), &[label]).unwrap();
    Counters {
        webhooks: many("code"),
        received: many("status"),
        dropped: many("reason"),
        runs: many("trigger"),
        runs_dropped: many("reason"),
        queued: IntGauge::new("x", "x").unwrap(),
        passed: many("outcome"),
        passing: IntGauge::new("x", "x").unwrap(),
        pass_seconds: Histogram::with_opts(HistogramOpts::new("x", "x")).unwrap(),
        journal_failures: IntCounter::new("x", "x").unwrap(),
        journals_set_aside: IntCounter::new("x", "x").unwrap(),
    }
}

/// What a room's runs do, and which there were.
struct Pool {
    /// Each run, as it began.
    begun: Mutex<Vec<RunRequest>>,
    /// Runs wait for this to be true, and then end well.
    go: watch::Sender<bool>,
    /// Results are published, and not kept yet.
    published: watch::Sender<bool>,
    kept: Mutex<HashSet<RunId>>,
    /// Then a run is not taken at all.
    refuses: std::sync::atomic::AtomicBool,
}

struct Room {
    /// It goes with the room.
    folder_of_its_own: Option<tempfile::TempDir>,
    alerts: Alerts,
    pool: Arc<Pool>,
    counters: Counters,
    mail: Arc<passing::Mail>,
}

/// Containers cart-0 to cart-2 of namespace shop, and till of bank.
fn live() -> Vec<Arc<Container>> {
    vec![
        container("1", named("shop", "cart-0", "cart")),
        container("2", named("shop", "cart-1", "cart")),
        container("3", named("shop", "cart-2", "cart")),
        container("4", named("bank", "till", "till")),
    ]
}

impl Room {
    /// With a folder of its own if none is named.
    fn open(config: Config, folder: Option<&Path>, live: Vec<Arc<Container>>, go: bool) -> Self {
        let own = folder.is_none().then(|| tempfile::tempdir().unwrap());
        let path = folder.or(own.as_ref().map(tempfile::TempDir::path));
        let mut room = Self::with(config, path, live, go, HashSet::new());
        room.folder_of_its_own = own;
        room
    }

    fn with(
        config: Config,
        folder: Option<&Path>,
        live: Vec<Arc<Container>>,
        go: bool,
        kept: HashSet<RunId>,
    ) -> Self {
        let pool = Arc::new(Pool {
            begun: Mutex::default(),
            go: watch::Sender::new(go),
            published: watch::Sender::new(false),
            kept: Mutex::new(kept),
            refuses: false.into(),
        });
        let (live, counters) = (Arc::new(live), counters());
        let (for_run, for_kept) = (Arc::clone(&pool), Arc::clone(&pool));
        let mail = Arc::new(passing::Mail::default());
        let for_pass = Arc::clone(&mail);
        let alerts = Alerts::open(
            folder,
            Wiring {
                config: Arc::new(ArcSwap::from_pointee(config)),
                live: Box::new(move || Arc::clone(&live)),
                ready: Box::pin(async {}),
                run: Box::new(move |request, cancel, turn| {
                    if for_run.refuses.load(std::sync::atomic::Ordering::Relaxed) {
                        return Box::pin(async { RunEnd::Refused("a probe is stuck there".to_owned()) });
                    }
                    for_run.begun.lock().unwrap().push(request);
                    let mut go = for_run.go.subscribe();
                    let mut published = for_run.published.subscribe();
                    Box::pin(async move {
                        let in_turn = async move {
                            let _ = published.wait_for(|published| *published).await;
                            drop(turn);
                            std::future::pending().await
                        };
                        tokio::select! {
                            _ = go.wait_for(|go| *go) => RunEnd::Done(Outcome::Ok),
                            () = cancel.cancelled() => RunEnd::Done(Outcome::Cancelled),
                            end = in_turn => end,
                        }
                    })
                }),
                kept: Box::new(move |id| for_kept.kept.lock().unwrap().contains(id)),
                pass_on: Box::new(move |parcel| for_pass.pass_on(parcel)),
                instance: Instance::fresh("node-1"),
                counters: counters.clone(),
            },
        );
        Self { alerts, pool, counters, mail, folder_of_its_own: None }
    }

    async fn post(&self, body: &str) -> Answer {
        eventually(|| self.alerts.0.queue().open).await;
        self.alerts.receive(body.to_owned().into(), "test").await
    }

    /// The answer's status, and the result of each of its alerts.
    async fn results(&self, body: &str) -> (u16, Vec<String>) {
        let answer = self.post(body).await;
        let result = |alert: &Value| alert["result"].as_str().unwrap_or_default().to_owned();
        (answer.status, answer.body["alerts"].as_array().into_iter().flatten().map(result).collect())
    }

    /// The runs that have begun, as `probe@pod`, once there are `count` and no more come.
    async fn begun(&self, count: usize) -> Vec<String> {
        eventually(|| self.pool.begun.lock().unwrap().len() >= count).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let begun = self.pool.begun.lock().unwrap();
        let mut names: Vec<_> =
            begun.iter().map(|run| format!("{}@{}", run.probe, run.container.labels().pod)).collect();
        names.sort();
        names
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.counters.dropped.with_label_values(&[reason]).get()
    }

    async fn close(self) {
        self.alerts.close(Duration::ZERO).await;
    }
}

/// Returns when it is so; a test that waits in vain fails.
async fn eventually(mut is_so: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("what was waited for has not come");
}
