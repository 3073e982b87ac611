//! `cargo xtask bench`: sets up, builds the agent as it is shipped and the program that measures it, and runs that
//! (`bench/`).

use std::process::Command;

use anyhow::ensure;

use crate::{dist, progress, setup};

const BENCH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/bench");

pub(crate) fn run(words: &[String]) -> anyhow::Result<()> {
    setup::ensure("bench")?;
    dist::run()?;
    let build = ["build", "--locked", "--release", "--package", "bench"];
    progress::openly("building the bench", progress::cargo().args(build))?;
    // Cargo's own, in which each program's loader would look for its libraries first.
    let status = Command::new(BENCH).args(words).env_remove("LD_LIBRARY_PATH").status()?;
    ensure!(status.success(), "the bench ended with {status}");
    Ok(())
}
