//! How often an idle agent wakes: every switch to any thread of its four processes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testbed::{Agent, Containerd, WORKLOAD_IMAGE};

use crate::Bench;
use crate::processes::{family, switches};
use crate::row::{Figure, Row, Target};

/// It could run something and keeps what ran, but nobody asks, and nothing is due.
const CONFIGURATION: &str = "
probes:
  sockets: { command: [ss, -s], parse: none, keep: always }
triggers:
  by-hand: { http: {}, probes: [sockets] }
";
/// Threads of tokio's that wait for work leave after ten seconds without any: that is the end of the start, and not idle.
const SETTLING: Duration = Duration::from_secs(11);

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let bed = Containerd::start(&bench.path("idle")).await?;
    let configuration = bench.path("idle.yml");
    std::fs::write(&configuration, format!("runtimes: [cri: {}]\n{CONFIGURATION}", bed.socket().display()))?;
    let _pod =
        bed.pod("bench", "idle").container("main", WORKLOAD_IMAGE, &["/workload", "sleep"]).start().await?;
    let mut agent = Agent::start(&bench.parachute, &configuration, |_| {})?;
    agent.ready(Duration::from_secs(30)).await?;
    tokio::time::sleep(SETTLING).await;
    let window = Duration::from_secs(if bench.quick { 5 } else { 30 });
    let pids = family(agent.pid());
    let before = switches(&pids);
    let since = Instant::now();
    tokio::time::sleep(window).await;
    let seconds = since.elapsed().as_secs_f64();
    let woken: Vec<(String, u64)> = switches(&pids)
        .into_iter()
        .map(|(thread, now)| {
            let then = before.iter().find(|(other, _)| *other == thread).map_or(0, |(_, then)| *then);
            (thread, now - then)
        })
        .collect();
    let calls =
        calls(&pids, window / 5).unwrap_or_else(|error| format!("strace does not run here: {error:#}"));
    let all: u64 = woken.iter().map(|(_, times)| times).sum();
    let which: Vec<_> =
        woken.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}: {n}")).collect();
    #[allow(clippy::cast_precision_loss, reason = "a count of seconds")]
    let value = all as f64 / seconds;
    Ok(vec![Row {
        what: "wake-ups of an idle agent with a pod, all its processes".to_owned(),
        measured: format!("{all} in {seconds:.0} s, of {} threads; {}", woken.len(), which.join(", ")),
        beside: calls,
        value,
        figure: Figure::Size("per second"),
        target: Target::AtMost(1.0),
    }])
}

/// The system calls that the processes have returned from or begun in so long. Being looked at wakes them once.
fn calls(pids: &[u32], window: Duration) -> anyhow::Result<String> {
    let log = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("timeout");
    strace.arg(format!("{}", window.as_secs_f64())).args(["strace", "-f", "-o"]).arg(log.path());
    for pid in pids {
        strace.args(["-p", &pid.to_string()]);
    }
    let ended = strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("starting timeout")?;
    let log = std::fs::read_to_string(log.path())?;
    // As timeout(1) has it for who was still at work; each thread is in a call when strace comes, which is a line.
    ensure!(ended.code() == Some(124) && !log.is_empty(), "it ended with {ended}, {} bytes", log.len());
    let waiting = |line: &&str| !line.ends_with("<unfinished ...>") && !line.ends_with("<detached ...>");
    // What a thread was in when strace came is begun anew, and is not by itself a sign of life.
    let calls = log.lines().filter(|line| line.contains("resumed>) = ") || waiting(line)).count();
    let begun = log.lines().count();
    Ok(format!("strace -f sees {calls} calls end in {:.0} s, {begun} lines in all", window.as_secs_f64()))
}
