//! `parachute check-config FILE`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::Source;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    file: PathBuf,
}

/// Exit status 0 when all is right, 1 when it is not; every mistake on a line of its own.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    check(&Source::File(args.file))
}

/// Also what `parachute agent --config.check` does.
pub(super) fn check(source: &Source) -> anyhow::Result<ExitCode> {
    let config = match source.load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (probes, triggers) = (count(config.probes.len(), "probe"), count(config.triggers.len(), "trigger"));
    super::print(&format!("{source}: ok, {probes}, {triggers}\n"))?;
    Ok(ExitCode::SUCCESS)
}
