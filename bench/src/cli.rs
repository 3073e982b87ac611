//! `parachute exec` and `parachute run` as a person or a script starts them, against the workflow that they grew from
//! (bench/seed.c): from before the spawn to after the wait. The seed asks `crictl`, where it is on the path: neither Debian nor
//! crates.io, PyPI or npm has it. Beside that it asks containerd's `ctr`, which is the quicker of the two and always there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testbed::{Agent, Containerd, WORKLOAD_IMAGE};

use crate::row::{Figure, Row, Target, Times};
use crate::{Bench, herd};

const READY: Duration = Duration::from_secs(20);
/// The seed takes tens of milliseconds: every fourth round is enough.
const SEED_EVERY: usize = 4;
const OURS: [&str; 2] = ["`parachute exec NAME /usr/bin/true`", "`parachute run` of the same as an observer"];
/// Whom the seed asks, and what was wished for beside it: for each of ours.
const CLIENTS: [(&str, [Target; 2]); 2] = [
    ("crictl", [Target::AtLeast(20.0), Target::AtLeast(20.0)]),
    // As it was on 2026-11-28.
    ("ctr", [Target::Usually(7.0), Target::Usually(9.0)]),
];

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let seed = bench.compiled("seed", &[])?;
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
    let bare = command(Path::new("/usr/bin/true"), &[]);
    let clients = CLIENTS.map(|(client, _)| client).into_iter().filter(|client| is_on_path(client));
    let words = |client: &str| {
        [Path::new(client).to_owned(), socket.clone(), cart.id.as_str().into(), "/usr/bin/true".into()]
    };
    let olds = clients
        .map(|client| (client, command(&seed, &words(client).each_ref().map(PathBuf::as_path))))
        .collect();
    let Measured { ours, bare, olds } =
        tokio::task::block_in_place(|| time([exec, run], bare, olds, bench.rounds(400)))?;
    agent.check()?;

    let mut rows = Vec::new();
    for (client, targets) in CLIENTS {
        let old = olds.iter().find(|(name, _)| *name == client).map(|(_, times)| times);
        for ((what, times), target) in OURS.into_iter().zip(&ours).zip(targets) {
            let of = if client == "crictl" { String::new() } else { format!(" with `{client}`") };
            let what = format!("{what}, against the seed's workflow{of}");
            rows.push(match old {
                None => Row::not_here(&what, &format!("no `{client}` on the path"), target),
                Some(old) => Row {
                    what,
                    measured: format!("{}; a bare spawn of the command: {}", times.shown(), bare.shown()),
                    beside: format!("bench/seed.c with `{client}`: {}", old.shown()),
                    value: old.ratio(times),
                    figure: Figure::Ratio,
                    target,
                },
            });
        }
    }
    Ok(rows)
}

pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn command(program: &Path, words: &[&Path]) -> Command {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

struct Measured {
    ours: [Times; 2],
    bare: Times,
    /// By the client that the seed has asked.
    olds: Vec<(&'static str, Times)>,
}

/// Each in every round, one after the other; the old ones, which are slow, in some of them.
fn time(
    mut ours: [Command; 2],
    mut bare: Command,
    mut olds: Vec<(&'static str, Command)>,
    rounds: usize,
) -> anyhow::Result<Measured> {
    let once = |command: &mut Command, times: &mut Times| {
        let since = Instant::now();
        let status = command.status()?;
        times.0.push(since.elapsed());
        ensure!(status.success(), "{command:?}: {status}");
        anyhow::Ok(())
    };
    let mut all = Measured {
        ours: Default::default(),
        bare: Times::default(),
        olds: olds.iter().map(|(client, _)| (*client, Times::default())).collect(),
    };
    for round in 0..rounds {
        for (command, times) in ours.iter_mut().zip(&mut all.ours) {
            once(command, times)?;
        }
        once(&mut bare, &mut all.bare)?;
        if round.is_multiple_of(SEED_EVERY) {
            for ((_, command), (_, times)) in olds.iter_mut().zip(&mut all.olds) {
                once(command, times)?;
            }
        }
    }
    Ok(all)
}
