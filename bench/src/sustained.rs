//! How many runs in a second an agent comes to that always has some waiting, in many containers, beside as many bare spawns
//! at once of the same command. A schedule asks for as many as there are bare spawns in a second, which is more than can be done;
//! during the bare spawns there is no agent.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use testbed::{Agent, Containerd};

use crate::floor::{self, Floor};
use crate::row::{Figure, Row, Target};
use crate::{Bench, herd};

const READY: Duration = Duration::from_secs(20);
/// The default of `limits.concurrent_runs`, for both sides.
const AT_ONCE: usize = 8;
const COMMAND: &[&str] = &["/usr/bin/true"];
/// From the first run until it is certain that more wait.
const SETTLE: Duration = Duration::from_millis(500);

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let (containers, window, rounds) =
        if bench.quick { (50, Duration::from_secs(1), 3) } else { (200, Duration::from_secs(4), 5) };
    let bed = Containerd::start(&bench.path("sustained")).await?;
    let inits = herd::start(&bed, containers).await?;
    let floors = Floor::direct(bench, AT_ONCE)?;
    let mut rows = Vec::new();
    for isolation in ["joined", "observer"] {
        let file = bench.path("sustained.yml");
        let (mut ours, mut bare, mut least): (Vec<f64>, Vec<f64>, [Vec<f64>; 2]) = Default::default();
        for _ in 0..rounds {
            let (spawned, rate) = per_second(window, |go| herd::spawn(&[COMMAND], AT_ONCE, go))?;
            bare.push(rate);
            for (least, guarded) in least.iter_mut().zip([false, true]).filter(|_| isolation == "joined") {
                let enter = per_second(window, |go| herd::enter(&floors, guarded, &inits, &[COMMAND], go))?;
                least.push(enter.1);
            }
            // Each probe is asked for once a second in each container.
            let probes = spawned.div_ceil(containers * usize::try_from(window.as_secs())?);
            std::fs::write(&file, configuration(&bed.socket(), isolation, probes))?;
            ours.push(sustained(bench, &file, containers, window).await?);
        }
        let spread = |all: &[f64]| {
            let (least, most) =
                (all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(0.0, f64::max));
            format!("{least:.0} to {most:.0}")
        };
        let windows = [spread(&ours), spread(&bare)];
        let (ours, bare) = (median(ours), median(bare));
        let least = least.map(|least| median(least) / bare);
        let floor = if isolation == "joined" { floor::told(least) } else { String::new() };
        rows.push(Row {
            what: format!("sustained runs per second ({isolation})"),
            measured: format!(
                "{ours:.0} runs per second ({} in {rounds} windows) of `/usr/bin/true` in {containers} containers, {AT_ONCE} at once",
                windows[0]
            ),
            beside: format!(
                "{bare:.0} bare spawns per second ({}), {AT_ONCE} at once{floor}",
                windows[1]
            ),
            value: ours / bare,
            figure: Figure::Ratio,
            target: Target::AtLeast(0.7),
        });
    }
    Ok(rows)
}

/// How often it was done, and how often in a second.
fn per_second(
    window: Duration,
    work: impl FnOnce(&(dyn Fn(usize) -> bool + Sync)) -> anyhow::Result<usize>,
) -> anyhow::Result<(usize, f64)> {
    let since = Instant::now();
    let done = tokio::task::block_in_place(|| work(&|_| since.elapsed() < window))?;
    Ok((done, done as f64 / since.elapsed().as_secs_f64()))
}

/// Runs per second of an agent of its own, which takes what still waits with it.
async fn sustained(bench: &Bench, file: &Path, containers: usize, window: Duration) -> anyhow::Result<f64> {
    let mut agent = Agent::start(&bench.parachute, file, herd::show)?;
    agent.ready(READY).await?;
    herd::known(&agent, containers).await?;
    let runs = async || herd::sum(&agent, "parachute_probe_runs_total", ("trigger", "busy")).await;
    let deadline = Instant::now() + READY;
    while runs().await? == 0.0 {
        ensure!(Instant::now() < deadline, "nothing is run");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let (since, before) = (Instant::now(), runs().await?);
    tokio::time::sleep(window).await;
    let (took, after) = (since.elapsed(), runs().await?);
    let waiting = herd::sum(&agent, "parachute_runs_queued", ("", "")).await?;
    ensure!(waiting > 0.0, "the agent has nothing to do, so that this is not what it comes to");
    let failed = herd::sum(&agent, "parachute_probe_failures_total", ("", "")).await?;
    ensure!(failed == 0.0, "{failed} runs failed");
    Ok((after - before) / took.as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn configuration(socket: &Path, isolation: &str, probes: usize) -> String {
    let names: Vec<_> = (0..probes).map(|number| format!("true-{number}")).collect();
    let mut probes = String::new();
    for name in &names {
        let _ = writeln!(
            probes,
            "  {name}: {{ command: [/usr/bin/true], isolation: {isolation}, keep: never, parse: none }}"
        );
    }
    format!(
        "runtimes: [{{cri: {}}}]\nlimits: {{ concurrent_runs: {AT_ONCE}, queued_runs: 100000 }}\nprobes:\n{probes}\
         triggers:\n  busy: {{ schedule: {{ every: 1s }}, match: {{ container: \"main-*\" }}, probes: [{}] }}\n",
        socket.display(),
        names.join(", ")
    )
}
