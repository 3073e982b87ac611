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
            let (probes, triggers) = (config.probes.len(), config.triggers.len());
            println!("{source}: ok, {}, {}", counted(probes, "probe"), counted(triggers, "trigger"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_is_not_a_plural() {
        let counted = |count| super::counted(count, "probe");
        assert_eq!([counted(0), counted(1), counted(2)], ["0 probes", "1 probe", "2 probes"]);
    }
}
