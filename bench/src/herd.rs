//! Many containers and bare spawns by several threads: what the sections on throughput share.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testbed::{Agent, Containerd, WORKLOAD_IMAGE};

use crate::floor::{Floor, How};
use crate::processes::pidfd;

/// A pod's containers share its network; each has a pid namespace of its own, so that runs in them go side by side.
const PER_POD: usize = 25;
/// Pods that are started at once: the machine has two processors.
const TOGETHER: usize = 2;
const KNOWN_WITHIN: Duration = Duration::from_mins(1);
/// As little as a probe's command has: by cargo's own `LD_LIBRARY_PATH` a loader takes a tenth longer.
const ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/sbin:/usr/bin"), ("LC_ALL", "C")];

/// What of an agent's log is worth to be seen here.
pub(crate) fn show(line: &str) {
    if !line.contains("level=info") {
        eprintln!("{line}");
    }
}

/// Starts so many containers named `main-N`, in pods `herd-N` of the namespace `shop`; gives back their pidfds.
pub(crate) async fn start(bed: &Containerd, count: usize) -> anyhow::Result<Vec<OwnedFd>> {
    let mut started = Vec::new();
    let pods: Vec<usize> = (0..count.div_ceil(PER_POD)).collect();
    for some in pods.chunks(TOGETHER) {
        let starting = some.iter().map(|pod| {
            let first = pod * PER_POD;
            (first..count.min(first + PER_POD))
                .fold(bed.pod("shop", &format!("herd-{pod}")), |pod, number| {
                    pod.container(&format!("main-{number}"), WORKLOAD_IMAGE, &["/workload", "sleep"])
                })
                .start()
        });
        for pod in futures_util::future::try_join_all(starting).await? {
            for container in &pod.containers {
                started.push(pidfd(container.pid)?);
            }
        }
    }
    Ok(started)
}

/// Waits until the agent knows the names of so many of them.
pub(crate) async fn known(agent: &Agent, count: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + KNOWN_WITHIN;
    loop {
        let samples = agent.scrape().await?;
        let named = samples
            .iter()
            .filter(|one| {
                one.name == "parachute_container_info" && one.label("container").starts_with("main-")
            })
            .count();
        if named == count {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the agent knows {named} of {count} containers");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The sum of a metric's samples with this label; of all of them without one, and then there must be some.
pub(crate) async fn sum(agent: &Agent, metric: &str, label: (&str, &str)) -> anyhow::Result<f64> {
    let samples = agent.scrape().await?;
    let is_there = !label.0.is_empty() || samples.iter().any(|one| one.name == metric);
    ensure!(is_there, "the agent has no metric {metric}");
    Ok(samples
        .iter()
        .filter(|one| one.name == metric && (label.0.is_empty() || one.label(label.0) == label.1))
        .map(|one| one.value)
        .sum())
}

/// Spawns the commands in turn from so many threads, reads what each prints and waits for it, as long as `go` says so;
/// gives back how many there were.
pub(crate) fn spawn(
    commands: &[&[&str]],
    threads: usize,
    go: impl Fn(usize) -> bool + Sync,
) -> anyhow::Result<usize> {
    at_once(&vec![(); threads], commands, go, |(), _, words| {
        let (program, words) = words.split_first().context("no program")?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).env_clear().envs(ENVIRONMENT);
        let output = command.output()?;
        ensure!(output.status.success(), "{program}: {}", output.status);
        Ok(())
    })
}

/// The same by [`Floor`]s, each on a thread, in the containers in turn, with what protects joined commands or without.
pub(crate) fn enter(
    floors: &[Floor],
    guarded: bool,
    containers: &[OwnedFd],
    commands: &[&[&str]],
    go: impl Fn(usize) -> bool + Sync,
) -> anyhow::Result<usize> {
    let how = How { alone: false, guarded };
    at_once(floors, commands, go, |floor, number, words| {
        let container = containers.get(number % containers.len()).context("no container")?;
        floor.run(container.as_fd(), words, how).map(drop)
    })
}

fn at_once<T: Sync>(
    threads: &[T],
    commands: &[&[&str]],
    go: impl Fn(usize) -> bool + Sync,
    once: impl Fn(&T, usize, &[&str]) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<usize> {
    let next = AtomicUsize::new(0);
    let work = |own: &T| -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if !go(number) {
                next.fetch_sub(1, Ordering::Relaxed);
                return Ok(());
            }
            once(own, number, commands.get(number % commands.len()).context("no command")?)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = threads.iter().map(|own| scope.spawn(|| work(own))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(_) => anyhow::bail!("a thread that spawns died"),
        })
    })?;
    Ok(next.into_inner())
}
