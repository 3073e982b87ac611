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
pub(super) fn run(args: Args) -> ExitCode {
    check(&Source::File(args.file))
}

/// Also what `parachute agent --config.check` does.
pub(super) fn check(source: &Source) -> ExitCode {
    match source.load() {
        Ok(config) => {
            println!("{source}: ok, {} probes, {} triggers", config.probes.len(), config.triggers.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
