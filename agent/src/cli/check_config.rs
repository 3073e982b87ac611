//! `parachute check-config FILE`.

use std::fmt::Write as _;
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
    let targets = config.targets.written().into_iter().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "  targets: {line}");
        all
    });
    super::print(&format!("{source}: ok, {probes}, {triggers}\n{targets}{}", included(&config)))?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each included file, and one for each of its probes that this host has no tool for.
fn included(config: &Config) -> String {
    let mut text = String::new();
    for Included { name, probes, replaced } in &config.included {
        let own = replaced.iter().map(|probe| format!("{probe} (in its place there is one of your own)"));
        let all: Vec<_> = probes.iter().map(ToString::to_string).chain(own).collect();
        let _ = writeln!(text, "  {name}: {}", all.join(", "));
        let missing = probes
            .iter()
            .filter_map(|probe| config.probes.get(probe)?.missing.as_ref().map(|why| (probe, why)));
        for (probe, why) in missing {
            let _ = writeln!(text, "    {probe} is refused on this host: {why}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_included_is_told_and_what_cannot_run() {
        let text = "include: [processes, dns]\nprobes: { commands: { command: [ps, -e], parse: none } }";
        let mut config = crate::config::from_str(text, Path::new("p.yml")).unwrap();
        let dns = config.probes.values_mut().find(|probe| probe.name.as_str() == "dns").unwrap();
        std::sync::Arc::make_mut(dns).missing = Some("no dig".into());
        assert_eq!(
            included(&config),
            "  processes: process_tree, processes, commands (in its place there is one of your own)\n  \
             dns: dns\n    dns is refused on this host: no dig\n"
        );
    }
}
