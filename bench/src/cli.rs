//! `parachute exec` and `parachute run` as a person or a script starts them, against the workflow that they grew from
//! (bench/seed.c): from before the spawn to after the wait. The seed asks `crictl` where it is on the path. Neither Debian nor
//! crates.io, PyPI or npm has it; where it is not, containerd's `ctr` stands in its place, which is the quicker of the two.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testbed::{Agent, Containerd, WORKLOAD_IMAGE};

use crate::row::{Figure, Row, Target, Times};
use crate::{Bench, ROOT, herd};

const READY: Duration = Duration::from_secs(20);
/// The seed takes tens of milliseconds: every fourth round is enough.
const SEED_EVERY: usize = 4;

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let seed = seed(bench)?;
    let bed = Containerd::start(&bench.path("cli")).await?;
    let pod =
        bed.pod("shop", "cart-0").container("cart", WORKLOAD_IMAGE, &["/workload", "sleep"]).start().await?;
    let socket = bed.socket();
    let configuration = bench.path("cli.yml");
    let text = format!(
        "runtimes: [{{cri: {}}}]\nprobes: {{ nothing: {{ command: [/usr/bin/true], parse: none }} }}\n",
        socket.display()
    );
    std::fs::write(&configuration, text)?;
    let mut agent = Agent::start(&bench.parachute, &configuration, herd::show)?;
    agent.ready(READY).await?;
    let cart = pod.container("cart").context("the pod has its container")?;

    let run_directory = agent.run_directory();
    let exec = command(
        &bench.parachute,
        &[
            "exec".as_ref(),
            "--run-directory".as_ref(),
            run_directory,
            "cart".as_ref(),
            "/usr/bin/true".as_ref(),
        ],
    );
    let run = command(
        &bench.parachute,
        &[
            "run".as_ref(),
            "--config.file".as_ref(),
            &configuration,
            "--run-directory".as_ref(),
            run_directory,
            "nothing".as_ref(),
            "--container".as_ref(),
            "cart".as_ref(),
            "-o".as_ref(),
            "raw".as_ref(),
        ],
    );
    let client = client();
    let old = command(&seed, &[client.as_ref(), &socket, cart.id.as_ref(), "/usr/bin/true".as_ref()]);
    let bare = command(Path::new("/usr/bin/true"), &[]);
    let [execs, runs, olds, bares] =
        tokio::task::block_in_place(|| time([exec, run, old, bare], bench.rounds(400)))?;
    agent.check()?;

    let beside = format!("bench/seed.c with `{client}`: {}", olds.shown());
    let row = |what: &str, times: &Times| Row {
        what: format!("{what}, against the seed's workflow"),
        measured: format!("{}; a bare spawn of the command: {}", times.shown(), bares.shown()),
        beside: beside.clone(),
        value: olds.ratio(times),
        figure: Figure::Ratio,
        target: Target::AtLeast(20.0),
    };
    Ok(vec![
        row("`parachute exec NAME /usr/bin/true`", &execs),
        row("`parachute run` of the same as an observer", &runs),
    ])
}

/// Whom the baseline asks.
fn client() -> &'static str {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join("crictl").is_file());
    if is_there { "crictl" } else { "ctr" }
}

/// The baseline, compiled.
fn seed(bench: &Bench) -> anyhow::Result<PathBuf> {
    let seed = bench.path("seed");
    let source = Path::new(ROOT).join("bench/seed.c");
    let compiled = Command::new("cc").args(["-O2", "-o"]).arg(&seed).arg(source).status()?;
    ensure!(compiled.success(), "cc cannot compile bench/seed.c");
    Ok(seed)
}

fn command(program: &Path, words: &[&Path]) -> Command {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Each in every round, one after the other; the third, which is slow, in some of them.
fn time(mut subjects: [Command; 4], rounds: usize) -> anyhow::Result<[Times; 4]> {
    let mut times: [Times; 4] = Default::default();
    for round in 0..rounds {
        for (place, (command, times)) in subjects.iter_mut().zip(&mut times).enumerate() {
            if place == 2 && !round.is_multiple_of(SEED_EVERY) {
                continue;
            }
            let since = Instant::now();
            let status = command.status()?;
            times.0.push(since.elapsed());
            ensure!(status.success(), "{command:?}: {status}");
        }
    }
    Ok(times)
}
