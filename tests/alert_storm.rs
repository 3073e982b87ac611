//! A thousand webhooks in a second, half of them duplicates: each is answered, memory stays flat, and what is dropped is
//! counted and can be seen.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use testbed::{Agent, WORKLOAD_IMAGE};

use crate::common::alerting::{self, alert, payload};
use crate::common::{self, Rig};

const CONFIGURATION: &str = r#"
limits: { concurrent_runs: 4, queued_runs: 1000 }
probes:
  evidence: { command: [ss, -s], keep: never, parse: none }
triggers:
  any:
    alert: { labels: { alertname: "*" } }
    target: { namespace: "{{namespace}}", pod: "{{pod}}", container: "{{container}}" }
    cooldown: COOLDOWN
    probes: [evidence]
"#;

const WEBHOOKS: u64 = 1000;
const ALERTS: u64 = 10;
const ROUNDS: u64 = 2;
/// One minute is no speed, but a hang.
const NO_HANG: Duration = Duration::from_mins(1);
/// What a thousand answers at once may take, and not more each time.
const GROWTH: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_alerts_is_answered() {
    for cooldown in ["10m", "0s"] {
        storm(cooldown).await;
    }
}

async fn storm(cooldown: &str) {
    let rig = Rig::new().await;
    let agent = rig.agent(&CONFIGURATION.replace("COOLDOWN", cooldown)).await;
    let pods = join_all((0..4).map(|n| {
        let pod = rig.bed.pod("shop", &format!("cart-{n}"));
        pod.container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]).start()
    }))
    .await;
    common::knows(&agent, &pods.into_iter().map(Result::unwrap).collect::<Vec<_>>()).await;
    let mut memory = Vec::new();
    for round in 0..ROUNDS {
        let before = resident(&agent);
        let answers = send_all(&agent, round).await;
        let mut times: Vec<Duration> = answers.iter().map(|answer| answer.1).collect();
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        let count = |wanted: u16| answers.iter().filter(|answer| answer.0 == wanted).count();
        println!(
            "cooldown {cooldown}, round {round}: 202 {}, 200 {}, 503 {}; half in {:.0?}, 99 of 100 in {:.0?}, all in {:.0?}; \
             resident {} KiB, then {} KiB",
            count(202),
            count(200),
            count(503),
            at(50),
            at(99),
            at(100),
            before >> 10,
            resident(&agent) >> 10
        );
        assert_eq!(count(202) + count(200) + count(503), answers.len(), "{answers:?}");
        assert!(at(100) < NO_HANG, "{:?}", at(100));
        memory.push(resident(&agent));
        assert_eq!(agent.get("/-/healthy").await.unwrap().status, 200);
    }
    assert!(memory[1] < memory[0] + GROWTH, "resident after each round: {memory:?}");

    let samples = agent.scrape().await.unwrap();
    let dropped = common::sum(&samples, "parachute_alerts_dropped_total", &[]);
    let received = common::sum(&samples, "parachute_alerts_received_total", &[]);
    let queued = common::sum(&samples, "parachute_alert_runs_total", &[]);
    println!("cooldown {cooldown}: {received} alerts received, {queued} runs queued, {dropped} dropped");
    assert_eq!(received, (ROUNDS * WEBHOOKS * ALERTS) as f64);
    // Each alert leads to one container: it came to a run, or to a reason.
    assert!(dropped + queued >= received, "{received} received, {queued} queued, {dropped} dropped");
    let told = agent.get("/api/v1/alerts").await.unwrap().body;
    let page = agent.get("/alerts").await.unwrap().body;
    for word in ["duplicate", if cooldown == "0s" { "queue" } else { "cooldown" }] {
        assert!(told.contains(word), "{word} is not in {told}");
        assert!(page.contains(word), "{word} is not on the page");
    }
    rig.finish(agent);
}

/// All webhooks within a second, each on a connection of its own; status and time of each answer.
async fn send_all(agent: &Agent, round: u64) -> Vec<(u16, Duration)> {
    let second = Instant::now();
    join_all((0..WEBHOOKS).map(async |webhook| {
        // The second half is the first half once more.
        let group = webhook % (WEBHOOKS / 2);
        let first = (round * WEBHOOKS + group) * ALERTS;
        let alerts: Vec<_> =
            (0..ALERTS).map(|n| alert("Storm", &format!("cart-{}", n % 4), first + n)).collect();
        let payload = payload(&format!("{{}}:{{group=\"{group}\"}}"), &alerts);
        let at = second + Duration::from_micros(webhook * 1_000_000 / WEBHOOKS);
        tokio::time::sleep_until(at.into()).await;
        let asked = Instant::now();
        let answer = alerting::post(agent, &payload).await.unwrap();
        (answer.status, asked.elapsed())
    }))
    .await
}

/// Bytes of the agent's memory that are in use.
fn resident(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}
