//! An alert for many containers: from the webhook's first byte until its last sample is published, beside bare spawns of the same
//! commands, as many at once. The agent is left alone for most of that time, and its own list of runs says when the last one ended.
//! How long it took from there to its samples, the log of another agent says, whose alerts are not those that are timed: logging each
//! run takes some of the processors' time as well.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use testbed::{Agent, Containerd};
use tokio::sync::mpsc;

use crate::floor::{self, Floor};
use crate::row::{Figure, Row, Target, Times, shown};
use crate::{Bench, herd};

const READY: Duration = Duration::from_secs(20);
const CONTAINERS: usize = 100;
/// The default of `limits.concurrent_runs`, for both sides.
const AT_ONCE: usize = 8;
/// Cheap ones that print the same on the host and in a container: with dearer ones the agent's part would be smaller.
const COMMANDS: [&[&str]; 3] = [
    &["/usr/bin/cat", "/proc/net/sockstat"],
    &["/usr/bin/cat", "/proc/loadavg"],
    &["/usr/bin/cat", "/proc/uptime"],
];
const RUNS: usize = CONTAINERS * COMMANDS.len();
/// Between two looks at whether the runs are over.
const LOOK: Duration = Duration::from_millis(50);
const DONE_WITHIN: Duration = Duration::from_mins(1);
/// What the list of runs and the log say their times to.
const MILLISECOND: Duration = Duration::from_millis(1);

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let bed = Containerd::start(&bench.path("alerts")).await?;
    let inits = herd::start(&bed, CONTAINERS).await?;
    let floors = Floor::direct(bench, AT_ONCE)?;
    let enter = |guarded| timed(|go| herd::enter(&floors, guarded, &inits, &COMMANDS, go));
    let mut rows = Vec::new();
    for isolation in ["joined", "observer"] {
        rows.push(row(bench, &bed.socket(), isolation, enter).await?);
    }
    Ok(rows)
}

async fn row(
    bench: &Bench,
    socket: &Path,
    isolation: &str,
    enter: impl Fn(bool) -> anyhow::Result<Duration>,
) -> anyhow::Result<Row> {
    let file = bench.path("alerts.yml");
    std::fs::write(&file, configuration(socket, isolation))?;
    let mut agent = Agent::start(&bench.parachute, &file, herd::show)?;
    taking(&mut agent).await?;
    let (mut ours, mut bare, mut least): (Times, Times, [Times; 2]) = Default::default();
    for round in 0..bench.rounds(50) {
        // Each of them is as often the one after an alert, and the one before it.
        let order = if round % 2 == 0 { [0, 1, 2] } else { [2, 1, 0] };
        for what in order {
            match what {
                0 => bare.0.push(timed(|go| herd::spawn(&COMMANDS, AT_ONCE, go))?),
                _ if isolation == "joined" => least[what - 1].0.push(enter(what == 2)?),
                _ => {}
            }
        }
        let quiet = ours.0.iter().min().map_or(Duration::ZERO, |least| *least * 7 / 8);
        let since = SystemTime::now();
        alert(&agent, round, quiet).await?;
        ours.0.push(
            last_end(&agent).await?.duration_since(since).context("a run ended before it was asked for")?,
        );
        let written = herd::sum(&agent, "parachute_capture_written_total", ("", "")).await?;
        ensure!(
            written >= ((round + 1) * RUNS) as f64,
            "{written} captures were written in {} alerts",
            round + 1
        );
    }
    agent.check()?;
    drop(agent);
    let later = published_later(bench, &file).await?;
    ours.0.iter_mut().for_each(|took| *took += later);
    let least = least.map(|least| least.ratio(&bare));
    let floor = if isolation == "joined" { floor::told(least) } else { String::new() };
    Ok(Row {
        what: format!(
            "an alert for {CONTAINERS} containers × {} probes, to the last sample ({isolation})",
            COMMANDS.len()
        ),
        measured: format!("{}, {} of it after the last run's end", ours.shown(), shown(later)),
        beside: format!("{RUNS} bare spawns, {AT_ONCE} at once: {}{floor}", bare.shown()),
        value: ours.ratio(&bare),
        figure: Figure::Ratio,
        target: Target::AtMost(1.5),
    })
}

/// As many of something as an alert has runs.
fn timed(
    work: impl FnOnce(&(dyn Fn(usize) -> bool + Sync)) -> anyhow::Result<usize>,
) -> anyhow::Result<Duration> {
    let since = Instant::now();
    tokio::task::block_in_place(|| work(&|number| number < RUNS))?;
    Ok(since.elapsed())
}

/// From the last run's end to its samples, the median of some alerts of an agent that logs each run after it has parsed its output,
/// and right before it publishes what came of it. To the millisecond, as the list of runs is.
async fn published_later(bench: &Bench, file: &Path) -> anyhow::Result<Duration> {
    let (tell, mut told) = mpsc::channel(RUNS);
    let listen = move |line: &str| match published(line) {
        // One that does not fit is missed below.
        Some(at) => drop(tell.try_send(at)),
        None => herd::show(line),
    };
    let flags = ["--web.allow-unauthenticated", "--log.level", "info,parachute::probes::work=debug"];
    let mut agent = Agent::start_with(&bench.parachute, file, &flags, listen)?;
    taking(&mut agent).await?;
    let mut later = Times::default();
    for round in 0..bench.rounds(5) {
        alert(&agent, round, Duration::ZERO).await?;
        let mut last = SystemTime::UNIX_EPOCH;
        for number in 0..RUNS {
            let next = tokio::time::timeout(DONE_WITHIN, told.recv()).await.ok().flatten();
            last = last.max(next.with_context(|| format!("{number} of {RUNS} runs are in the log"))?);
        }
        let end = last_end(&agent).await?;
        ensure!(
            last + MILLISECOND > end,
            "the last samples came {:?} before the end of the last run",
            end.duration_since(last)
        );
        later.0.push(last.duration_since(end).unwrap_or_default());
    }
    Ok(later.median())
}

/// Waits until the agent knows all containers and takes alerts. It names the containers one by one and takes alerts from the last one
/// on, so that a webhook which comes between the two is put off; a sender would deliver it again, much later.
async fn taking(agent: &mut Agent) -> anyhow::Result<()> {
    agent.ready(READY).await?;
    herd::known(agent, CONTAINERS).await?;
    let none = webhook("none", &serde_json::json!([]));
    let deadline = Instant::now() + READY;
    loop {
        let answer = agent.post("/api/v1/alerts", &none).await?;
        match answer.status {
            200 => return Ok(()),
            503 if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            status => anyhow::bail!("a webhook without alerts is answered with {status}: {}", answer.body),
        }
    }
}

fn webhook(group: &str, alerts: &serde_json::Value) -> String {
    serde_json::json!({
        "version": "4", "groupKey": format!("{{}}:{{round=\"{group}\"}}"), "status": "firing", "receiver": "agents",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "truncatedAlerts": 0,
        "alerts": alerts,
    })
    .to_string()
}

/// When the samples of a run were published, if this line of the log is about one that ended well.
fn published(line: &str) -> Option<SystemTime> {
    let at = line.contains("message=\"run ok\"").then(|| line.split("ts=").nth(1)?.split(' ').next());
    humantime::parse_rfc3339(at??).ok()
}

/// One alert that names no pod, and so means all; returns when all its runs are over and their captures on the disk, so that nothing
/// is measured beside those. For the time `quiet` nobody looks.
async fn alert(agent: &Agent, round: usize, quiet: Duration) -> anyhow::Result<()> {
    let alerts = serde_json::json!([{
        "status": "firing", "labels": { "alertname": "Slow", "namespace": "shop" }, "annotations": {},
        "startsAt": "2026-11-26T09:02:58Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "",
        "fingerprint": format!("{round:016x}"),
    }]);
    let body = webhook(&round.to_string(), &alerts);
    let since = SystemTime::now();
    let answer = agent.post("/api/v1/alerts", &body).await?;
    ensure!(answer.status == 202, "the webhook is answered with {}: {}", answer.status, answer.body);
    tokio::time::sleep(quiet.saturating_sub(since.elapsed()?)).await;
    let deadline = Instant::now() + DONE_WITHIN;
    while herd::sum(agent, "parachute_alert_runs_queued", ("", "")).await? > 0.0 {
        ensure!(Instant::now() < deadline, "the alert's runs do not end");
        tokio::time::sleep(LOOK).await;
    }
    let fresh = since.duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64() - 0.001;
    let samples = agent.scrape().await?;
    let of_this =
        |name: &str, least: f64| samples.iter().filter(|one| one.name == name && one.value >= least).count();
    let begun = of_this("parachute_probe_last_run_timestamp_seconds", fresh);
    ensure!(begun == RUNS, "{begun} of {RUNS} results are of this alert");
    let well = of_this("parachute_probe_last_success", 1.0);
    ensure!(well == RUNS, "{well} of {RUNS} runs ended well");
    let values = of_this("bench_value", f64::MIN);
    ensure!(values == RUNS, "{values} of {RUNS} samples can be scraped");
    Ok(())
}

/// When the last of the newest runs ended, as the agent has it: to the millisecond.
async fn last_end(agent: &Agent) -> anyhow::Result<SystemTime> {
    let answer = agent.get(&format!("/api/v1/runs?limit={RUNS}")).await?;
    let body: serde_json::Value = serde_json::from_str(&answer.body)?;
    let ends = body["runs"].as_array().context("no list of runs")?.iter().map(|run| {
        let started = run["started_at"].as_str().context("no started_at")?;
        let took = run["duration_seconds"].as_f64().context("no duration_seconds")?;
        Ok(humantime::parse_rfc3339(started)? + Duration::from_secs_f64(took))
    });
    let ends: Vec<SystemTime> = ends.collect::<anyhow::Result<_>>()?;
    ends.into_iter().max().context("no runs")
}

fn configuration(socket: &Path, isolation: &str) -> String {
    let mut probes = String::new();
    for (number, command) in COMMANDS.iter().enumerate() {
        let _ = writeln!(
            probes,
            "  probe-{number}:\n    command: [{}]\n    isolation: {isolation}\n    parse: {{ regex: [{{ name: bench_value, type: \
             gauge, help: A number., pattern: '(?P<n>[0-9.]+)', value: n, const_labels: {{ probe: '{number}' }} }}] }}",
            command.join(", ")
        );
    }
    format!(
        "runtimes: [{{cri: {}}}]\nlimits: {{ concurrent_runs: {AT_ONCE}, queued_runs: 10000 }}\nprobes:\n{probes}\
         triggers:\n  alerted:\n    alert: {{ labels: {{ alertname: \"*\" }} }}\n    match: {{ container: \"main-*\" }}\n    \
         target: {{ namespace: \"{{{{namespace}}}}\" }}\n    \
         max_targets: 1000\n    cooldown: 0s\n    probes: [probe-0, probe-1, probe-2]\n",
        socket.display()
    )
}
