//! How many runs in a second an agent comes to that always has some waiting, in many containers, beside as many bare spawns
//! at once of the same command. A schedule asks for more than can be done; for the time of the bare spawns the agent is
//! given a configuration without one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use testbed::{Agent, Containerd};

use crate::row::{Figure, Row, Target};
use crate::{Bench, herd};

const READY: Duration = Duration::from_secs(20);
/// The default of `limits.concurrent_runs`, for both sides.
const AT_ONCE: usize = 8;
/// Probes of the same command: with 200 containers they ask for 4,000 runs in a second.
const PROBES: usize = 20;
/// From a reload until the queue is filled, or empty.
const SETTLE: Duration = Duration::from_millis(1500);

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let (containers, window, rounds) =
        if bench.quick { (50, Duration::from_secs(1), 2) } else { (200, Duration::from_secs(4), 5) };
    let bed = Containerd::start(&bench.path("sustained")).await?;
    herd::start(&bed, containers).await?;
    let mut rows = Vec::new();
    for isolation in ["joined", "observer"] {
        let file = bench.path("sustained.yml");
        let text = |busy: bool| configuration(&bed.socket(), isolation, busy, PROBES * 200 / containers);
        std::fs::write(&file, text(false))?;
        let mut agent = Agent::start(&bench.parachute, &file, herd::show)?;
        agent.ready(READY).await?;
        herd::known(&agent, containers).await?;
        let (mut ours, mut bare): (Vec<f64>, Vec<f64>) = Default::default();
        for _ in 0..rounds {
            std::fs::write(&file, text(true))?;
            agent.hang_up()?;
            tokio::time::sleep(SETTLE).await;
            let before = (Instant::now(), runs(&agent).await?);
            tokio::time::sleep(window).await;
            let after = (Instant::now(), runs(&agent).await?);
            ours.push((after.1 - before.1) / (after.0 - before.0).as_secs_f64());

            std::fs::write(&file, text(false))?;
            agent.hang_up()?;
            let deadline = Instant::now() + READY;
            while herd::sum(&agent, "parachute_runs_queued", ("", "")).await?
                + herd::sum(&agent, "parachute_runs_running", ("", "")).await?
                > 0.0
            {
                ensure!(Instant::now() < deadline, "the queue does not become empty");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let since = Instant::now();
            let spawned = tokio::task::block_in_place(|| {
                herd::spawn(&[&["/usr/bin/true"]], AT_ONCE, |_| since.elapsed() < window)
            })?;
            bare.push(spawned as f64 / since.elapsed().as_secs_f64());
        }
        let failed = herd::sum(&agent, "parachute_probe_failures_total", ("", "")).await?;
        ensure!(failed == 0.0, "{failed} runs failed");
        let (ours, bare) = (median(ours), median(bare));
        rows.push(Row {
            what: format!("sustained runs per second ({isolation}), {containers} containers"),
            measured: format!("{ours:.0} runs per second of `/usr/bin/true`, {AT_ONCE} at once"),
            beside: format!("{bare:.0} bare spawns per second, {AT_ONCE} at once"),
            value: ours / bare,
            figure: Figure::Ratio,
            target: Target::AtLeast(0.7),
        });
    }
    Ok(rows)
}

/// Finished runs.
async fn runs(agent: &Agent) -> anyhow::Result<f64> {
    herd::sum(agent, "parachute_probe_runs_total", ("trigger", "busy")).await
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn configuration(socket: &Path, isolation: &str, busy: bool, probes: usize) -> String {
    let names: Vec<_> = (0..probes).map(|number| format!("true-{number}")).collect();
    let probes: String = names
        .iter()
        .map(|name| {
            format!(
                "  {name}: {{ command: [/usr/bin/true], isolation: {isolation}, keep: never, parse: none }}\n"
            )
        })
        .collect();
    let schedule = if busy { "schedule: { every: 1s }" } else { "http: {}" };
    format!(
        "runtimes: [{{cri: {}}}]\nlimits: {{ concurrent_runs: {AT_ONCE}, queued_runs: 10000 }}\nprobes:\n{probes}\
         triggers:\n  busy: {{ {schedule}, match: {{ container: \"main-*\" }}, probes: [{}] }}\n",
        socket.display(),
        names.join(", ")
    )
}
