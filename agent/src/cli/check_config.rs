//! `parachute check-config FILE`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{Config, Included, Source};

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
    super::print(&format!("{source}: ok, {probes}, {triggers}\n{}", included(&config)))?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each included file, and one for each of its probes that this host has no tool for.
fn included(config: &Config) -> String {
    let mut text = String::new();
    for Included { name, probes, replaced } in &config.included {
        let own = replaced.iter().map(|probe| format!("{probe} (in its place there is one of your own)"));
        let all: Vec<_> = probes.iter().map(ToString::to_string).chain(own).collect();
        text += &format!("  {name}: {}\n", all.join(", "));
        let missing = probes
            .iter()
            .filter_map(|probe| config.probes.get(probe)?.missing.as_ref().map(|why| (probe, why)));
        missing.for_each(|(probe, why)| text += &format!("    {probe} is refused on this host: {why}\n"));
    }
    text
}
