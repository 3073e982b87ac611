//! An agent that is killed over and over under a load of alerts keeps its word: what it has answered with 2xx is captured,
//! once, and whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use testbed::{WORKLOAD_IMAGE, request};

use crate::common::alerting::{self, alert, captures, payload};
use crate::common::{self, Rig, SOON};

const CONFIGURATION: &str = r#"
limits: { concurrent_runs: 8, queued_runs: 10000 }
probes:
  evidence: { command: [ss, -tan], keep: always, parse: none }
triggers:
  any:
    alert: { labels: { alertname: "*" } }
    target: { namespace: "{{namespace}}", pod: "{{pod}}", container: "{{container}}" }
    cooldown: 0s
    probes: [evidence]
"#;

const KILLS: usize = 200;
/// Senders, each with one webhook under way at a time.
const SENDERS: u64 = 3;
/// How long an agent lives after it is ready, at most.
const LIFE: Duration = Duration::from_millis(150);
/// Between a sender's webhooks, so that the runs can keep up.
const PAUSE: Duration = Duration::from_millis(30);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_captured_once_and_whole() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut random = Random(std::env::var("PARACHUTE_SEED").map_or(seed, |seed| seed.parse().unwrap()));
    println!("PARACHUTE_SEED={}", random.0);
    let rig = Rig::new().await;
    let pods = ["cart-0", "cart-1", "cart-2"];
    for name in pods {
        let pod =
            rig.bed.pod("shop", name).container("main", WORKLOAD_IMAGE, &["/workload", "listen", "1", "5"]);
        pod.start().await.unwrap();
    }
    let storage = rig.path("storage");
    let flags = ["--storage.path", storage.to_str().unwrap()];

    let load = Arc::new(Load::default());
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| tokio::spawn(send(Arc::clone(&load), sender, pods[usize::try_from(sender).unwrap()])))
        .collect();
    let began = Instant::now();
    let mut unready = 0;
    for _ in 0..KILLS {
        let mut agent = rig.unready_agent_with(CONFIGURATION, &flags);
        *load.address.lock().unwrap() = Some(agent.address());
        // Any instant from its first on.
        let life = LIFE.mul_f64(random.part());
        if random.part() < 0.1 {
            unready += 1;
        } else {
            agent.ready(common::READY).await.unwrap();
        }
        tokio::time::sleep(life).await;
        agent.kill().unwrap();
    }
    load.over.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    let accepted = std::mem::take(&mut *load.accepted.lock().unwrap());
    let sent = load.sent.load(Ordering::Relaxed);
    println!(
        "{KILLS} kills in {:.1?}, {unready} before the agent was ready; of {sent} webhooks {} were accepted",
        began.elapsed(),
        accepted.len()
    );
    assert!(accepted.len() > KILLS, "too few alerts to show anything");

    let agent = rig.agent_with(CONFIGURATION, &flags).await;
    // What is left over begins to run when the agent knows its containers again.
    common::eventually("all that was accepted has run", SOON * 9, async || {
        let queued = common::sum(&agent.scrape().await.unwrap(), "parachute_alert_runs_queued", &[]);
        let kept = pages(&agent).await.len();
        if queued == 0.0 && kept >= accepted.len() {
            Ok(())
        } else {
            Err(format!("{queued} wait, {kept} are kept"))
        }
    })
    .await;
    let mut all = Vec::new();
    for capture in pages(&agent).await {
        all.push(alerting::record(&agent, &capture).await);
    }
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for capture in &all {
        *found.entry(capture["alert"]["fingerprint"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let lost: Vec<_> = accepted.iter().filter(|fingerprint| !found.contains_key(*fingerprint)).collect();
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
    println!(
        "{} captures; {} of alerts without an answer",
        all.len(),
        all.len() - (accepted.len() - lost.len())
    );
    assert!(lost.is_empty(), "{} accepted and lost: {lost:?}", lost.len());
    assert!(twice.is_empty(), "captured twice: {twice:?}");

    for capture in &all {
        let bytes = alerting::stdout(&agent, capture).await;
        assert_eq!(capture["stdout"]["sha256"], format!("{:x}", Sha256::digest(&bytes)), "{capture}");
        assert_eq!(capture["outcome"], "ok", "{capture}");
    }
    let samples = agent.scrape().await.unwrap();
    for metric in ["parachute_capture_set_aside_total", "parachute_alert_journals_set_aside_total"] {
        assert_eq!(common::sum(&samples, metric, &[]), 0.0, "{metric}");
    }
    rig.finish(agent);
}

#[derive(Default)]
struct Load {
    address: Mutex<Option<SocketAddr>>,
    over: AtomicBool,
    sent: AtomicU64,
    /// Fingerprints of what was answered with 2xx.
    accepted: Mutex<Vec<String>>,
}

/// Sends one alert after the other, none of them twice, whoever is there.
async fn send(load: Arc<Load>, sender: u64, pod: &'static str) {
    for number in 0.. {
        if load.over.load(Ordering::Relaxed) {
            return;
        }
        let address = *load.address.lock().unwrap();
        let Some(address) = address else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let alert = alert("Load", pod, sender << 32 | number);
        let body =
            payload(&format!("{{}}:{{sender=\"{sender}\"}}"), std::slice::from_ref(&alert)).to_string();
        let answer = request(address, "POST", "/api/v1/alerts", &body).await;
        if let Ok(answer) = answer {
            load.sent.fetch_add(1, Ordering::Relaxed);
            // 503 while the agent does not know its containers yet.
            assert!(matches!(answer.status, 202 | 503), "{}: {}", answer.status, answer.body);
            if answer.status == 202 {
                load.accepted.lock().unwrap().push(alert["fingerprint"].as_str().unwrap().to_owned());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Every capture, page by page.
async fn pages(agent: &testbed::Agent) -> Vec<serde_json::Value> {
    let mut all: Vec<serde_json::Value> = Vec::new();
    loop {
        let before =
            all.last().map_or(String::new(), |last| format!("&before={}", last["id"].as_str().unwrap()));
        let page = captures(agent, &format!("limit=1000{before}")).await;
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Marsaglia's xorshift: a few bits that differ from run to run, and are the same for one seed.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn part(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % 10_000) as f64 / 10_000.0
    }
}
