//! A node of many pods, and what it means for whoever scrapes, alerts and keeps: the real agent on a [`Crowd`], running
//! a command that prints what real tools have printed once (`tests/fixtures/output`). Behind `cargo xtask simulate`.

mod figures;
mod setup;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;

pub use self::figures::Fleet;
use crate::{Agent, Crowd, Sample, exchange};

/// How long everything that is waited for may take, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_mins(5);
const SCRAPES: u32 = 50;
/// Alerts that are none of the node's business.
const STRANGERS: u32 = 200;

/// What is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Pods on the node, each with one container.
    pub pods: usize,
    /// Probes that run in each, 1 to [`Asked::MOST_PROBES`].
    pub probes: usize,
    /// Pods that are replaced in an hour.
    pub churn: usize,
    /// Alerts in a day that each name one of the node's pods.
    pub alerts: usize,
    /// `limits.queued_runs` of the agent.
    pub queue: usize,
}

impl Asked {
    pub const MOST_PROBES: usize = setup::PROBES.len();
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub containers: usize,
    /// From the first start to the last container's last series.
    pub filled_in: Duration,
    /// Series of each metric that is of containers.
    pub families: BTreeMap<String, usize>,
    /// Those of one container.
    pub series_each: usize,
    /// All of the scrape, with the agent's own.
    pub series: usize,
    pub plain_bytes: usize,
    pub gzip_bytes: usize,
    /// Medians, from the connection to the last byte.
    pub plain_time: Duration,
    pub gzip_time: Duration,
    /// Processor time of the agent for one scrape with gzip, which is what Prometheus asks for.
    pub scrape_cpu: Duration,
    /// Of the agent's process, in bytes.
    pub resident: u64,
    pub alert: Alert,
    /// Processor time of the agent for one alert whose pod is on another node.
    pub stranger_cpu: Duration,
    pub captures: usize,
    pub capture_bytes: u64,
    pub replaced: Replaced,
}

/// One alert that matches all pods.
#[derive(Clone, Debug, Default)]
pub struct Alert {
    pub queued: usize,
    /// Why not all, and how often.
    pub dropped: BTreeMap<String, usize>,
    pub answered_in: Duration,
    pub drained_in: Duration,
}

/// What comes of pods that are replaced.
#[derive(Clone, Debug, Default)]
pub struct Replaced {
    pub pods: usize,
    /// Series that were not there before.
    pub new_series: usize,
    /// In the scrape when the new ones are there, and when the old ones have gone.
    pub most_series: usize,
    pub series_after: usize,
}

/// Runs the simulation with the agent `program`. Needs root. Dropping the future ends and removes everything.
pub async fn simulate(program: &Path, asked: Asked, lock: Option<std::fs::File>) -> anyhow::Result<Node> {
    ensure!(asked.pods > 0, "at least one pod");
    ensure!((1..=Asked::MOST_PROBES).contains(&asked.probes), "1 to {} probes", Asked::MOST_PROBES);
    let dir = tempfile::Builder::new().prefix("pt-simulation-").tempdir()?;
    let config = setup::write(dir.path(), asked)?;
    let mut crowd = Crowd::new(lock)?;
    // What it says is of interest if it does not even start.
    let said = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&said);
    let mut agent = Agent::start(program, &config, move |line| {
        let mut said = hear.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < 100 {
            said.push(line.to_owned());
        }
    })?;
    if let Err(error) = agent.ready(PATIENCE).await {
        let said = said.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        return Err(error.context(said));
    }

    let mut node = Node::default();
    let begun = Instant::now();
    crowd.grow(1)?;
    let first = settled(&agent, |samples| runs(samples) == asked.probes).await?;
    node.series_each = of_pods(&first).count();
    let mut full = first;
    while crowd.len() < asked.pods {
        // What starts at once must fit into the queue, or some would never have a first run.
        crowd.grow((asked.queue / asked.probes).clamp(1, asked.pods - crowd.len()))?;
        let wanted = crowd.len() * node.series_each;
        full = settled(&agent, |samples| of_pods(samples).count() == wanted).await?;
    }
    node.filled_in = begun.elapsed();
    node.containers = of_pods(&full).filter(|sample| sample.name == INFO).count();
    node.series = full.len();
    for sample in of_pods(&full) {
        *node.families.entry(sample.name.clone()).or_default() += 1;
    }
    scrapes(&agent, &mut node).await?;
    node.alert = alert(&agent).await?;
    node.stranger_cpu = strangers(&agent).await?;
    let after = agent.scrape().await?;
    node.captures = sum(&after, "parachute_captures");
    node.capture_bytes = sum(&after, "parachute_capture_bytes") as u64;
    node.replaced = replace(&agent, &mut crowd, asked, node.series_each).await?;
    Ok(node)
}

const INFO: &str = "parachute_container_info";

/// The series that carry a pod of the crowd. What it marks of captures comes with alerts only.
fn of_pods(samples: &[Sample]) -> impl Iterator<Item = &Sample> {
    samples.iter().filter(|sample| {
        sample.label("namespace") == "crowd" && sample.name != "parachute_capture_last_timestamp_seconds"
    })
}

fn runs(samples: &[Sample]) -> usize {
    sum(samples, "parachute_probe_last_success")
}

/// The values of a metric that counts, together.
fn sum(samples: &[Sample], name: &str) -> usize {
    samples.iter().filter(|sample| sample.name == name).map(|sample| whole(sample.value)).sum()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and sizes, none below zero"
)]
fn whole(value: f64) -> usize {
    value as usize
}

/// Scrapes until it is so.
async fn settled(agent: &Agent, is_so: impl Fn(&[Sample]) -> bool) -> anyhow::Result<Vec<Sample>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let samples = agent.scrape().await?;
        if is_so(&samples) {
            return Ok(samples);
        }
        ensure!(
            Instant::now() < deadline,
            "the node does not settle: {} series of pods, {} runs, {} of them failed, {} refused",
            of_pods(&samples).count(),
            sum(&samples, "parachute_probe_runs_total"),
            sum(&samples, "parachute_probe_failures_total"),
            sum(&samples, "parachute_runs_refused_total"),
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn scrapes(agent: &Agent, node: &mut Node) -> anyhow::Result<()> {
    for (coding, bytes, time) in [
        ("identity", &mut node.plain_bytes, &mut node.plain_time),
        ("gzip", &mut node.gzip_bytes, &mut node.gzip_time),
    ] {
        let used = setup::processor_time(agent.pid())?;
        let mut times = Vec::new();
        for _ in 0..SCRAPES {
            let begun = Instant::now();
            let coding = [("Accept-Encoding", coding)];
            let (status, head, body) = exchange(agent.address(), "GET", "/metrics", &coding, "").await?;
            times.push(begun.elapsed());
            ensure!(status == 200, "a scrape was answered with {head}");
            *bytes = body.len();
        }
        times.sort_unstable();
        *time = times[times.len() / 2];
        node.scrape_cpu = setup::processor_time(agent.pid())?.saturating_sub(used) / SCRAPES;
    }
    node.resident = setup::resident(agent.pid())?;
    Ok(())
}

/// One alert for all pods of a namespace, as Alertmanager sends it.
fn webhook(namespace: &str, fingerprint: u64) -> String {
    let alert = json!({
        "status": "firing", "labels": { "alertname": "Everything", "namespace": namespace }, "annotations": {},
        "startsAt": "2026-11-26T09:02:58.425Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
        "fingerprint": format!("{fingerprint:016x}"),
    });
    let webhook = json!({
        "version": "4", "groupKey": "everything", "truncatedAlerts": 0, "status": "firing", "receiver": "node",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "alerts": [alert],
    });
    webhook.to_string()
}

/// What each node pays where every agent gets every alert of a fleet.
async fn strangers(agent: &Agent) -> anyhow::Result<Duration> {
    let used = setup::processor_time(agent.pid())?;
    for number in 1..=STRANGERS {
        let answer = agent.post("/api/v1/alerts", &webhook("elsewhere", number.into())).await?;
        ensure!(answer.status == 200, "an alert of elsewhere: {} {}", answer.status, answer.body);
    }
    Ok(setup::processor_time(agent.pid())?.saturating_sub(used) / STRANGERS)
}

async fn alert(agent: &Agent) -> anyhow::Result<Alert> {
    let begun = Instant::now();
    let answer = agent.post("/api/v1/alerts", &webhook("crowd", 0)).await?;
    let answered_in = begun.elapsed();
    ensure!(answer.status == 202, "the alert was answered with {}: {}", answer.status, answer.body);
    let drained = settled(agent, |samples| sum(samples, "parachute_alert_runs_queued") == 0).await?;
    let drained_in = begun.elapsed();
    let mut dropped = BTreeMap::new();
    for sample in
        drained.iter().filter(|sample| sample.name == "parachute_alerts_dropped_total" && sample.value > 0.0)
    {
        dropped.insert(sample.label("reason").to_owned(), whole(sample.value));
    }
    Ok(Alert { queued: sum(&drained, "parachute_alert_runs_total"), dropped, answered_in, drained_in })
}

async fn replace(agent: &Agent, crowd: &mut Crowd, asked: Asked, each: usize) -> anyhow::Result<Replaced> {
    let pods = asked.churn.min(asked.pods);
    if pods == 0 {
        return Ok(Replaced::default());
    }
    let is_new = |sample: &&Sample| {
        let number = sample.label("pod").strip_prefix("pod-").and_then(|number| number.parse::<usize>().ok());
        number.is_some_and(|number| number >= asked.pods)
    };
    crowd.shrink(pods)?;
    crowd.grow(pods)?;
    let new = |samples: &[Sample]| of_pods(samples).filter(is_new).count();
    let full =
        settled(agent, |samples| new(samples) == pods * each).await.context("waiting for the new pods")?;
    let after = settled(agent, |samples| of_pods(samples).count() == asked.pods * each).await;
    let after = after.context("waiting for the old pods to go")?;
    let (most_series, series_after) = (of_pods(&full).count(), of_pods(&after).count());
    Ok(Replaced { pods, new_series: new(&after), most_series, series_after })
}
