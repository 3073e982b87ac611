//! `cargo xtask simulate`: one node of many pods with the real agent, and what many such nodes would make. See
//! docs/scaling.md.

use std::path::Path;

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
    println!("{}", Fleet { node: &node, asked, nodes }.table()?);
    Ok(())
}
