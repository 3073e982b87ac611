//! What the agent's processes hold in memory when nothing happens: the configuration that is built in, one pod, its first
//! runs over, a few scrapes behind it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testbed::{Agent, Containerd, WORKLOAD_IMAGE};

use crate::Bench;
use crate::processes::family;
use crate::row::{Figure, Row, Target};

const CONFIGURATION: &str = include_str!("../../parachute.example.yml");
/// Its probes that run when a container has started.
const AT_START: f64 = 3.0;
const PATIENCE: Duration = Duration::from_secs(20);
/// After the last run and scrape, until what they held has been given back.
const SETTLE: Duration = Duration::from_secs(2);

/// As the kernel names them: a name has 15 characters at most.
const PROCESSES: [(&str, &str); 4] = [
    ("parachute", "agent"),
    ("parachute-launc", "launcher"),
    ("parachute-keep", "keeper"),
    ("parachute-spawn", "spawner"),
];

/// Bytes of one process (proc_pid_smaps(5)).
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    resident: u64,
    /// A page that several processes share counts a fraction in each.
    proportional: u64,
    /// Not a file's: the process's own.
    anonymous: u64,
}

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let bed = Containerd::start(&bench.path("resident")).await?;
    let pod =
        bed.pod("default", "idle").container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]).start().await?;
    let configuration = bench.path("resident.yml");
    let runtimes = format!("runtimes: [{{cri: {}}}]", bed.socket().display());
    std::fs::write(&configuration, CONFIGURATION.replace("runtimes: auto", &runtimes))?;

    let mut lives = Vec::new();
    for _ in 0..bench.rounds(10) {
        lives.push(idle(&bench.parachute, &configuration).await?);
    }
    pod.remove().await?;
    let of = |process: &str| lives.iter().map(|life| life[process]).collect::<Vec<_>>();
    let row = |what: &str, held: Vec<Held>, beside: String, limit| {
        let value = median(&held, |held| held.resident);
        Row {
            what: format!("resident memory, idle: {what}"),
            measured: format!("{value:.2} MB (most {:.2} MB)", most(&held)),
            beside,
            value,
            figure: Figure::Size("MB"),
            target: Target::AtMost(limit),
        }
    };
    let shares = |held: &[Held]| {
        format!(
            "its share of shared pages only: {:.2} MB; without files' pages: {:.2} MB",
            median(held, |held| held.proportional),
            median(held, |held| held.anonymous),
        )
    };
    let all = lives.iter().map(|life| life.values().copied().fold(Held::default(), plus)).collect::<Vec<_>>();
    let each = PROCESSES
        .map(|(_, process)| format!("{process} {:.2}", median(&of(process), |held| held.resident)))
        .join(", ");
    Ok(vec![
        row("agent", of("agent"), shares(&of("agent")), 15.0),
        row("launcher", of("launcher"), shares(&of("launcher")), 3.0),
        row("all four processes", all.clone(), format!("{each}; {}", shares(&all)), 18.0),
    ])
}

/// One life of an agent: what each of its processes holds once it has nothing to do.
async fn idle(program: &Path, configuration: &Path) -> anyhow::Result<BTreeMap<&'static str, Held>> {
    let mut agent = Agent::start(program, configuration, |_| {})?;
    agent.ready(PATIENCE).await?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let samples = agent.scrape().await?;
        let sum = |name: &str| samples.iter().filter(|s| s.name == name).map(|s| s.value).sum::<f64>();
        let waiting = sum("parachute_runs_running") + sum("parachute_runs_queued");
        if sum("parachute_probe_runs_total") >= AT_START && waiting == 0.0 {
            break;
        }
        ensure!(Instant::now() < deadline, "no probe has run within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let mut held = BTreeMap::new();
    for pid in family(agent.pid()) {
        let proc = Path::new("/proc").join(pid.to_string());
        let name = std::fs::read_to_string(proc.join("comm"))?;
        if let Some((_, process)) = PROCESSES.iter().find(|(kernels, _)| *kernels == name.trim_end()) {
            held.insert(*process, read(&proc)?);
        }
    }
    ensure!(held.len() == PROCESSES.len(), "not all processes were found: {:?}", held.keys());
    Ok(held)
}

fn read(proc: &Path) -> anyhow::Result<Held> {
    let text = std::fs::read_to_string(proc.join("smaps_rollup"))?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kibibytes.map(|kibibytes| kibibytes * 1024).with_context(|| format!("{name} in {}", proc.display()))
    };
    Ok(Held { resident: bytes("Rss")?, proportional: bytes("Pss")?, anonymous: bytes("Anonymous")? })
}

fn plus(one: Held, other: Held) -> Held {
    Held {
        resident: one.resident + other.resident,
        proportional: one.proportional + other.proportional,
        anonymous: one.anonymous + other.anonymous,
    }
}

/// In megabytes.
fn median(held: &[Held], of: impl Fn(&Held) -> u64) -> f64 {
    let mut values: Vec<_> = held.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2] as f64 / 1e6
}

fn most(held: &[Held]) -> f64 {
    held.iter().map(|held| held.resident).max().unwrap_or_default() as f64 / 1e6
}
