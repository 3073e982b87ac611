//! `cargo xtask simulate`: one node of many pods with the real agent, and what many such nodes would make. See
//! docs/scaling.md.

use std::path::Path;
use std::process::Command;

use anyhow::bail;
use testbed::{Fleet, Simulated, simulate};
use tokio::signal::unix::{SignalKind, signal};

use crate::{progress, setup};

const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/parachute");

pub(crate) fn run(asked: Simulated, nodes: usize) -> anyhow::Result<()> {
    setup::ensure("simulate")?;
    let build = ["build", "--locked", "--release", "--package", "parachute"];
    progress::openly("building the agent", progress::cargo().args(build))?;
    eprintln!("simulating a node of {} pods ...", asked.pods);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let node = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Whichever ends first, the other is dropped, and the simulation removes what it has made.
        tokio::select! {
            node = simulate(Path::new(AGENT), asked, None) => node,
            _ = tokio::signal::ctrl_c() => bail!("Ctrl-C before the end"),
            _ = terminate.recv() => bail!("SIGTERM before the end"),
        }
    })?;
    println!("{}\n", machine()?);
    println!("{}", Fleet { node: &node, asked, nodes }.table()?);
    Ok(())
}

/// Whose figures these are.
fn machine() -> anyhow::Result<String> {
    let said = |program: &str, words: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(program).args(words).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    Ok(format!(
        "{} × {}, Linux {}, commit {}, {}, a release build:",
        model.trim_start_matches(['\t', ' ', ':']),
        std::thread::available_parallelism()?,
        said("uname", &["-r"])?,
        said("git", &["describe", "--always", "--dirty"])?,
        said("date", &["-u", "+%F"])?
    ))
}
