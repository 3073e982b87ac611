//! `cargo xtask demo`: a few real pods on a private containerd, the agent beside them, and what it makes of them.

mod narrate;
mod table;

use std::fs;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testbed::{Agent, Containerd, Pod, WORKLOAD_IMAGE};
use tokio::signal::unix::{SignalKind, signal};

use crate::{progress, setup};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../parachute.example.yml");
const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/parachute");

/// The line of the example that the demo replaces: its containerd is at none of the usual places.
const EXAMPLE_RUNTIMES: &str = "runtimes: auto";

/// How long the agent may take to attach its hook, and then to run each probe once in each container.
const READY_DEADLINE: Duration = Duration::from_secs(30);
const ROUND_DEADLINE: Duration = Duration::from_secs(90);

pub(crate) fn run(once: bool) -> anyhow::Result<()> {
    setup::ensure("demo")?;
    let build = ["build", "--locked", "--release", "--package", "parachute"];
    progress::openly(
        "building the agent (the first time takes some minutes)",
        progress::cargo().args(build),
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shown = runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let interrupted = tokio::select! {
            shown = show(once) => return shown,
            _ = tokio::signal::ctrl_c() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        };
        // Without --once that is the way to end; a script that waits for the round must not take it for one.
        ensure!(!once, "{interrupted} before the first complete round");
        Ok(())
    });
    eprintln!("\nthe agent, the pods and containerd are gone, and so are their files, mounts and network");
    shown
}

/// Dropping this future at any point removes everything: the agent first, then the pods, then the folder.
async fn show(once: bool) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("parachute-").tempdir()?;
    step(&format!("starting a private containerd in {}", dir.path().display()));
    let bed = Containerd::start(&dir.path().join("bed")).await?;

    step("starting two pods: one listens and talks to itself, one is a tree of processes");
    let cart =
        bed.pod("shop", "cart-0").container("cart", WORKLOAD_IMAGE, &["/workload", "listen", "3", "2"]);
    let jobs = bed.pod("shop", "jobs-0").container("jobs", WORKLOAD_IMAGE, &["/workload", "tree", "6"]);
    let mut pods = vec![cart.start().await?, jobs.start().await?];
    pods.iter().for_each(tell);

    step("starting the agent on parachute.example.yml: it finds what already runs");
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let show = move |line: &str| {
        if let Some(told) = narrate::tell(line, colours) {
            println!("{told}");
        }
    };
    let configuration = configuration(dir.path(), &bed.socket())?;
    // Runs that went well are logged at that level.
    let flags = ["--log.level", "debug"];
    let mut agent = Agent::start_with(Path::new(AGENT), &configuration, &flags, show)?;
    agent.ready(READY_DEADLINE).await?;

    step("starting a third pod: the agent hears of it from the kernel");
    let pay = bed
        .pod("shop", "pay-0")
        .container("pay", WORKLOAD_IMAGE, &["/workload", "listen", "1", "5"])
        .container("audit", WORKLOAD_IMAGE, &["/workload", "sleep"]);
    pods.push(pay.start().await?);
    tell(&pods[2]);

    let containers: Vec<table::Column> = pods.iter().flat_map(columns).collect();
    let samples = first_round(&mut agent, &containers).await?;
    println!("\n{}", table::render(&samples, &containers));
    println!("scrape it: curl http://{}/metrics", agent.address());
    let run_directory = agent.run_directory().display();
    println!("enter one: target/release/parachute exec --run-directory {run_directory} cart bash");
    if !once {
        println!("Ctrl-C ends the demo and removes all of it");
        agent.ended().await?;
    }
    Ok(())
}

/// The example's text with the private containerd for its runtimes.
fn configuration(dir: &Path, socket: &Path) -> anyhow::Result<PathBuf> {
    let example = fs::read_to_string(EXAMPLE).with_context(|| format!("reading {EXAMPLE}"))?;
    let ours = format!("runtimes: [{{cri: {}}}]", socket.display());
    ensure!(example.contains(EXAMPLE_RUNTIMES), "parachute.example.yml has no line `{EXAMPLE_RUNTIMES}`");
    let path = dir.join("parachute.yml");
    fs::write(&path, example.replacen(EXAMPLE_RUNTIMES, &ours, 1))?;
    Ok(path)
}

/// Waits until every probe that runs by itself at a container's start has run in each of the containers.
async fn first_round(
    agent: &mut Agent,
    containers: &[table::Column],
) -> anyhow::Result<Vec<testbed::Sample>> {
    let deadline = Instant::now() + ROUND_DEADLINE;
    loop {
        let samples = agent.scrape().await?;
        let probes: Vec<&str> = samples
            .iter()
            .filter(|s| s.name == "parachute_probe_runs_total" && s.label("trigger") == "at-start")
            .map(|s| s.label("probe"))
            .collect();
        let has_run = |probe: &str, column: &table::Column| {
            samples.iter().any(|s| {
                s.name == "parachute_probe_last_success"
                    && s.label("probe") == probe
                    && column.holds(s)
                    && s.value > 0.0
            })
        };
        let missing: Vec<String> = containers
            .iter()
            .flat_map(|column| probes.iter().map(move |probe| (probe, column)))
            .filter(|(probe, column)| !has_run(probe, column))
            .map(|(probe, column)| format!("{probe} in {column}"))
            .collect();
        if missing.is_empty() && !probes.is_empty() {
            return Ok(samples);
        }
        ensure!(Instant::now() < deadline, "not done after {ROUND_DEADLINE:?}: {}", missing.join(", "));
        agent.check()?;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

fn columns(pod: &Pod) -> impl Iterator<Item = table::Column> {
    pod.containers.iter().map(|container| table::Column {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        container: container.name.clone(),
    })
}

fn tell(pod: &Pod) {
    for container in &pod.containers {
        let (namespace, name, ip) = (&pod.namespace, &pod.name, &pod.ip);
        let path = format!("{namespace}/{name}/{}", container.name);
        println!("  made  {path:18}  {}  address {ip}", &container.id[..12]);
    }
}

fn step(what: &str) {
    println!("\n==> {what}");
}
